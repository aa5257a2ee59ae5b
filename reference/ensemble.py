"""Many seeds trained at once as one batched model; on a GPU, whole steps as one CUDA graph.

The loss of one member is that of `reference.model` on that member's parameters; `vmap` makes it the losses of all,
so that each linear layer is one batched matrix product.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from reference.draws import Draws, hashed_masks
from reference.model import Transformer
from reference.train import State, TrainConfig, autocast, by_seed, scores

_CHUNK = 256  # steps whose draws lie on the device at a time


class Ensemble:
    """Runs of one configuration, a seed each, step by step together."""

    def __init__(
        self, config: TrainConfig, seeds: Sequence[int], *, device: str = "cpu", compiled: bool | None = None, mode=None
    ) -> None:
        self.config, self.seeds, self.device = config, list(seeds), torch.device(device)
        self.step = 0
        tasks = [config.task.make(seed) for seed in seeds]
        models = [Transformer(config.model, t.n_tokens, t.n_classes, seed=s) for t, s in zip(tasks, seeds, strict=True)]
        self.model = models[0].to(self.device)  # its structure is used, its parameters are not
        states = [dict(model.named_parameters()) for model in models]
        # A linear layer's gradient comes out as (in, out), so that is how its weights are kept.
        self.turned = {name for name in states[0] if name.endswith(".weight") and self._is_linear(name)}
        self.parameters = {name: self._kept(name, [state[name] for state in states]) for name in states[0]}
        self.moments = [{k: torch.zeros_like(v) for k, v in self.parameters.items()} for _ in range(2)]
        self.train_data = self._stack([t.train_data for t in tasks])
        self.test_data = self._stack([t.test_data for t in tasks])
        self.draws = [
            Draws(s, n_rows=len(t.train), batch_size=config.batch_size, n_masks=self.model.n_masks)
            for s, t in zip(seeds, tasks, strict=True)
        ]
        self.batch_losses = torch.zeros(len(self.seeds), device=self.device)
        self.finite = torch.ones(len(self.seeds), dtype=torch.bool, device=self.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.upcoming = {k: torch.zeros((_CHUNK, *v.shape[1:]), dtype=v.dtype, device=self.device) for k, v in self._draw(1).items()}
        compiled = self.device.type == "cuda" if compiled is None else compiled
        self._step = torch.compile(self._one_step, dynamic=False, mode=mode) if compiled else self._one_step
        self._graph: torch.cuda.CUDAGraph | None = None

    def _is_linear(self, name: str) -> bool:
        return isinstance(self.model.get_submodule(name.rpartition(".")[0]), torch.nn.Linear)

    def _kept(self, name: str, members: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack([m.detach().to(self.device) for m in members])
        return stacked.mT.contiguous() if name in self.turned else stacked

    def _stack(self, data: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in data]).to(self.device), torch.stack([y for _, y in data]).to(self.device)

    def _logits(self, parameters: dict[str, Tensor], x: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        parameters = {name: value.mT if name in self.turned else value for name, value in parameters.items()}
        return functional_call(self.model, parameters, (x, masks))

    def _loss(
        self, parameters: dict[str, Tensor], x: Tensor, y: Tensor, rows: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss (nats) and share of right answers of one member on a batch, dropout on."""
        rate, shapes = self.config.model.dropout, self.model.mask_shapes(len(rows))
        masks = hashed_masks(keys, shapes, rate) if rate else None
        with autocast(self.config, self.device):
            logits = self._logits(parameters, x[rows], masks)
        found = scores(logits.float(), y[rows])
        return found["loss"], found["accuracy"]

    # --- steps -------------------------------------------------------------------------------------------------

    def _draw(self, n: int) -> dict[str, Tensor]:
        """What the next `n` steps need: rows `(n, S, B)`, keys `(n, S, masks, 2)`, rates `(n, 3)`."""
        return {
            "rows": torch.stack([d.rows(self.step, n) for d in self.draws], 1),
            "keys": torch.stack([d.keys(self.step, n) for d in self.draws], 1),
            "rates": torch.tensor([self._rates(step) for step in range(self.step, self.step + n)]),
        }

    def _rates(self, step: int) -> tuple[float, float, float]:
        lr, first, second = self.config.rates(step)
        return 1 - lr * self.config.weight_decay, lr / first, math.sqrt(second)

    def _one_step(
        self, parameters, first, second, data, upcoming, position, finite, batch_losses
    ) -> None:
        """A step on what lies at `position` of the upcoming draws: AdamW, as torch.optim has it."""
        rows, keys, rates = (upcoming[k].index_select(0, position)[0] for k in ("rows", "keys", "rates"))
        gradients, (losses, _) = vmap(grad_and_value(self._loss, has_aux=True))(parameters, *data, rows, keys)
        beta1, beta2 = self.config.betas
        keep, rate, root = rates.unbind()
        for name, gradient in gradients.items():
            mean = first[name].lerp(gradient, 1 - beta1)
            square = second[name] * beta2 + gradient * gradient * (1 - beta2)
            value = parameters[name] * keep - rate * mean / (square.sqrt() / root + self.config.eps)
            first[name].copy_(mean)
            second[name].copy_(square)
            parameters[name].copy_(value)
        batch_losses.copy_(losses)
        finite.logical_and_(losses.isfinite())
        position.add_(1)

    def _make_step(self) -> None:
        self._step(
            self.parameters, *self.moments, self.train_data, self.upcoming, self.position, self.finite,
            self.batch_losses,
        )

    @torch.no_grad()
    def advance(self, n: int) -> None:
        """Make `n` steps; on a GPU they are only queued."""
        for first in range(0, n, _CHUNK):
            count = min(_CHUNK, n - first)
            for name, drawn in self._draw(count).items():
                drawn = drawn.pin_memory() if self.device.type == "cuda" else drawn
                self.upcoming[name][:count].copy_(drawn, non_blocking=True)
            self.position.zero_()
            if self.device.type == "cuda" and self._graph is None:
                self._capture()
            for _ in range(count):
                self._make_step() if self._graph is None else self._graph.replay()
            self.step += count

    def _capture(self) -> None:
        """Record a step as a CUDA graph; what the warm-up changes is put back."""
        tensors = [*self.parameters.values(), *(v for m in self.moments for v in m.values())]
        tensors += [self.position, self.finite, self.batch_losses]
        saved = [tensor.clone() for tensor in tensors]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._make_step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._make_step()
        for tensor, value in zip(tensors, saved, strict=True):
            tensor.copy_(value)

    # --- evaluation --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Curves of each seed now (see `reference.train.Evaluation`)."""
        drawn = {k: v[0].to(self.device) for k, v in self._draw(1).items()}
        batch = vmap(self._loss)(self.parameters, *self.train_data, drawn["rows"], drawn["keys"])
        found = dict(zip(("train_batch_loss", "train_batch_accuracy"), batch, strict=True))
        for split, data in {"train": self.train_data, "test": self.test_data}.items():
            of_split = vmap(lambda parameters, x, y: scores(self._logits(parameters, x), y))(self.parameters, *data)
            found |= {f"{split}_{name}": value for name, value in of_split.items()}
        packed = torch.stack(list(found.values())).cpu()  # one transfer
        return by_seed(dict(zip(found, packed, strict=True)))

    def states(self) -> list[State]:
        """Of each seed, copied."""
        kept = [self._given(values) for values in (self.parameters, *self.moments)]
        return [
            State(self.step, *({name: value[i].clone() for name, value in values.items()} for values in kept))
            for i in range(len(self.seeds))
        ]

    def _given(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """On the CPU, and as the model has them."""
        return {name: (v.mT if name in self.turned else v).cpu().contiguous() for name, v in values.items()}

    @torch.no_grad()
    def load(self, states: Sequence[State]) -> None:
        """Go on from these, one for each seed, all of the same step."""
        (self.step,) = {state.step for state in states}
        for kept, part in zip((self.parameters, *self.moments), ("parameters", "first", "second"), strict=True):
            for name, value in kept.items():
                value.copy_(self._kept(name, [getattr(state, part)[name] for state in states]))
