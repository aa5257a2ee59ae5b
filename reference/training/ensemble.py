"""Training of many seeds at once as one batched model; on a GPU, a step is one CUDA graph.

The loss of one member is that of `reference.training.model` with its parameters. `vmap` computes the losses of all
members, so that each linear layer is one batched matrix product. A step is one function of tensors with fixed
addresses: forward pass, backward pass and AdamW. A GPU runs it compiled and captured, without synchronisation between
evaluations. A CPU runs the same function in eager mode, which is how it is tested.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from reference.training import kernels
from reference.training.model import Transformer
from reference.training.randomness import hashed_masks
from reference.training.train_config import TrainConfig
from reference.training.trainer import State, autocast, device_for, matmul_precision, scores

_CHUNK = 256  # steps whose random numbers are on the device at a time

Tensors = dict[str, Tensor]  # by parameter name, each (S, ...) with a leading dimension of seeds


class Ensemble:
    """Training loop of several seeds of one configuration.

    Parameters
    ----------
    config : TrainConfig
        The configuration.
    seeds : sequence of int
        One member for each seed. The batches are those of `reference.training.Trainer`. The dropout masks come from
        other bits, so that the curve of a member is another draw from the same distribution. Apart from rounding, it
        does not depend on the other members.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    compiled : bool, optional
        Compile the step. None: only on a GPU.

    Attributes
    ----------
    step : int
        Number of updates.
    finite : Tensor
        `(S,)` bool: whether all losses of a member have been finite.
    """

    def __init__(
        self, config: TrainConfig, seeds: Sequence[int], *, device: str = "cpu", compiled: bool | None = None
    ) -> None:
        self.config, self.device, self.step = config, device_for(config, device), 0
        self.seeds: Sequence[int] = list(seeds)
        self._on_gpu = self.device.type == "cuda"
        tasks = [config.task.make(seed) for seed in self.seeds]
        n_tokens, n_classes = tasks[0].n_tokens, tasks[0].n_classes
        members = [Transformer(config.model, n_tokens, n_classes, seed=seed) for seed in self.seeds]
        self.model = members[0].to(self.device)  # only its structure is used, not its parameters
        # The gradient of a linear layer has the shape (in, out), so its weights are stored in this shape.
        self._transposed = {f"{name}.weight" for name, m in self.model.named_modules() if isinstance(m, nn.Linear)}
        named = [dict(member.named_parameters()) for member in members]
        self._parameters: Tensors = {
            name: self._stack_parameter(name, [each[name] for each in named]) for name in named[0]
        }
        self._first, self._second = ({k: torch.zeros_like(v) for k, v in self._parameters.items()} for _ in range(2))
        self._data = {
            "train": self._stack([task.train_data for task in tasks]),
            "test": self._stack([task.test_data for task in tasks]),
        }
        self._draws = [
            config.draws(seed, len(task.train), self.model.n_masks)
            for seed, task in zip(self.seeds, tasks, strict=True)
        ]
        self.finite = torch.ones(len(self.seeds), dtype=torch.bool, device=self.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=self.device)  # index into the upcoming draws
        self._upcoming = {
            name: torch.zeros((_CHUNK, *drawn.shape[1:]), dtype=drawn.dtype, device=self.device)
            for name, drawn in self._draw(1).items()
        }
        self._ahead: tuple[tuple[int, int], dict[str, Tensor]] = (
            (-1, 0),
            {},
        )  # step and number of the draws that were made early
        self._function = self._compiled() if (self._on_gpu if compiled is None else compiled) else self._one_step
        self._make_step: Callable[[], None] | None = None
        self._make_scores: Callable[[], None] | None = None

    def _stack_parameter(self, name: str, members: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack([member.detach().to(self.device) for member in members])
        return stacked.mT.contiguous() if name in self._transposed else stacked

    def _stack(self, data: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in data]).to(self.device), torch.stack([y for _, y in data]).to(self.device)

    def _compiled(self) -> Callable[..., None]:
        """Return the compiled step; on a GPU, with our matrix products where they are faster (measured on an H100)."""
        single, precision = len(self.seeds) == 1, self.config.precision
        options: dict[str, Any] = {}
        if self._on_gpu and kernels.available() and (precision == "float32" or (precision == "tf32" and single)):
            name = "tf32x3" if precision == "float32" else "tf32"
            options["post_grad_custom_pre_pass"] = kernels.Products(name)
        if self._on_gpu and single:
            options["combo_kernels"] = True  # the number of kernels limits the speed of one seed
        # fullgraph: code that cannot be compiled raises, instead of a slow fallback
        return torch.compile(self._one_step, dynamic=False, fullgraph=True, options=options or None)

    # --- one member --------------------------------------------------------------------------------------------------

    def _logits(self, parameters: Tensors, x: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        parameters = {name: value.mT if name in self._transposed else value for name, value in parameters.items()}
        return functional_call(self.model, parameters, (x, masks))

    def _loss(self, parameters: Tensors, x: Tensor, y: Tensor, rows: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss (nats) and accuracy on a batch, with dropout."""
        rate, shapes = self.config.model.dropout, self.model.mask_shapes(len(rows))
        masks = hashed_masks(keys, shapes, rate) if rate else None
        with autocast(self.config, self.device):
            logits = self._logits(parameters, x[rows], masks)
        found = scores(logits.float(), y[rows])
        return found["loss"], found["accuracy"]

    # --- steps -------------------------------------------------------------------------------------------------------

    def _draw(self, n: int) -> dict[str, Tensor]:
        """Return the draws of the next `n` steps: rows `(n, S, B)`, keys `(n, S, masks, 2)`, rates `(n, 3)`."""
        return {
            "rows": torch.stack([draws.rows(self.step, n) for draws in self._draws], 1),
            "keys": torch.stack([draws.keys(self.step, n) for draws in self._draws], 1),
            "rates": torch.tensor([self._rates(step) for step in range(self.step, self.step + n)]),
        }

    def _rates(self, step: int) -> tuple[float, float, float]:
        lr, first, second = self.config.rates(step)
        return 1 - lr * self.config.weight_decay, lr / first, math.sqrt(second)

    def _one_step(
        self,
        parameters: Tensors,
        first: Tensors,
        second: Tensors,
        data: tuple[Tensor, Tensor],
        upcoming: dict[str, Tensor],
        position: Tensor,
        finite: Tensor,
    ) -> None:
        """Make a step of AdamW with the draws at `position`; changes its arguments in place."""
        rows, keys, rates = (upcoming[name].index_select(0, position)[0] for name in ("rows", "keys", "rates"))
        gradients, (losses, _) = vmap(grad_and_value(self._loss, has_aux=True))(parameters, *data, rows, keys)
        beta1, beta2 = self.config.betas
        decay, rate, root = rates.unbind()
        grads = list(gradients.values())  # lists of tensors, so that the compiler makes few kernels
        if self.config.clip_norm is not None:
            clip(grads, self.config.clip_norm)
        means, squares, values = ([part[name] for name in gradients] for part in (first, second, parameters))
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        scales = torch._foreach_add(torch._foreach_div(torch._foreach_sqrt(squares), root), self.config.eps)
        torch._foreach_mul_(values, decay)
        torch._foreach_sub_(values, torch._foreach_mul(torch._foreach_div(means, scales), rate))
        finite.logical_and_(losses.isfinite())
        position.add_(1)

    def _step(self) -> None:
        self._function(
            self._parameters,
            self._first,
            self._second,
            self._data["train"],
            self._upcoming,
            self._position,
            self.finite,
        )

    @torch.no_grad()
    def advance(self, n: int) -> None:
        """Make `n` updates. On a GPU they are queued, and the call returns early."""
        for start in range(0, n, _CHUNK):
            count = min(_CHUNK, n - start)
            self._put(self._ahead[1] if self._ahead[0] == (self.step, count) else self._draw(count))
            if self._make_step is None:
                changed = [*self._parameters.values(), *self._first.values(), *self._second.values()]
                self._make_step = self._captured(self._step, [*changed, self._position, self.finite])
            for _ in range(count):
                self._make_step()
            self.step += count
            following = min(_CHUNK, n - start - count or n)  # drawn while the GPU works through its queue
            self._ahead = (self.step, following), self._draw(following)

    def _put(self, drawn: dict[str, Tensor]) -> None:
        for name, values in drawn.items():
            values = values.pin_memory() if self._on_gpu else values  # otherwise the CPU waits for the copy
            self._upcoming[name][: len(values)].copy_(values, non_blocking=True)
        self._position.zero_()

    def _captured(self, function: Callable[[], None], changed: Sequence[Tensor]) -> Callable[[], None]:
        """Return `function`; on a GPU, as a CUDA graph. The tensors in `changed` are restored after the warm-up."""
        if not self._on_gpu:
            return function
        saved = [(tensor, tensor.clone()) for tensor in changed]
        with matmul_precision(self.config, self.device), torch.cuda.device(self.device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    function()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                function()
        for tensor, value in saved:
            tensor.copy_(value)
        return graph.replay

    # --- evaluation --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Return the current curves of each seed (see `reference.training.Evaluation`)."""
        self._put(self._draw(1))
        if self._make_scores is None:
            self._make_scores = self._captured(self._score, [])
        self._make_scores()
        values = torch.stack(list(self._found.values()), 1).tolist()  # one transfer, (S, curves)
        return [dict(zip(self._found, member, strict=True)) for member in values]

    def _score(self) -> None:
        rows, keys = self._upcoming["rows"][0], self._upcoming["keys"][0]
        batch = vmap(self._loss)(self._parameters, *self._data["train"], rows, keys)
        found = dict(zip(("train_batch_loss", "train_batch_accuracy"), batch, strict=True))
        for split, data in self._data.items():
            of_split = vmap(lambda parameters, x, y: scores(self._logits(parameters, x), y))(self._parameters, *data)
            found |= {f"{split}_{name}": value for name, value in of_split.items()}
        self._found: dict[str, Tensor] = found  # a graph writes to the same tensors each time

    # --- states ------------------------------------------------------------------------------------------------------

    def states(self) -> list[State]:
        """Return a copy of the state of each seed."""
        parts = [self._as_in_model(values) for values in (self._parameters, self._first, self._second)]
        return [
            State(self.step, *({name: value[i].clone() for name, value in part.items()} for part in parts))
            for i in range(len(self.seeds))
        ]

    def _as_in_model(self, values: Mapping[str, Tensor]) -> Tensors:
        """Return tensors on the CPU in the shapes of the model."""
        return {name: (v.mT.contiguous() if name in self._transposed else v).cpu() for name, v in values.items()}

    @torch.no_grad()
    def load(self, states: Sequence[State]) -> None:
        """Continue from these states, one for each seed, all of the same step."""
        steps = {state.step for state in states}
        if len(steps) != 1 or len(states) != len(self.seeds):
            raise ValueError(
                f"Expected {len(self.seeds)} states of one step, got {len(states)} of the steps {sorted(steps)}; first "
                "train the seeds that are behind in an ensemble of their own."
            )
        (self.step,) = steps
        for tensors, part in ((self._parameters, "parameters"), (self._first, "first"), (self._second, "second")):
            for name, value in tensors.items():
                value.copy_(self._stack_parameter(name, [getattr(state, part)[name] for state in states]))
        self.finite.fill_(True)


def clip(grads: Sequence[Tensor], greatest: float) -> None:
    """Scale the gradients `(S, ...)` of each member to at most this norm, in place, as `clip_grad_norm_` of torch."""
    norms = torch.stack([grad.reshape(len(grad), -1).norm(dim=1) for grad in grads]).norm(dim=0)  # (S,)
    factors = (greatest / (norms + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factors.view(-1, *[1] * (grad.ndim - 1)))
