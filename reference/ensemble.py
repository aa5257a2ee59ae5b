"""Many seeds trained at once as one batched model; on a GPU, whole steps as one CUDA graph.

The loss of one member is that of `reference.model` on that member's parameters; `vmap` makes it the losses of all,
so that each linear layer is one batched matrix product.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional

from reference.draws import Draws, hashed_masks
from reference.model import Transformer
from reference.train import TrainConfig


class Ensemble:
    """Runs of one configuration, a seed each, step by step together."""

    def __init__(
        self, config: TrainConfig, seeds: Sequence[int], *, device: str = "cpu", compiled: bool | None = None
    ) -> None:
        self.config, self.seeds, self.device = config, list(seeds), torch.device(device)
        self.compiled = self.device.type == "cuda" if compiled is None else compiled
        tasks = [config.task.make(seed) for seed in seeds]
        models = [Transformer(config.model, t.n_tokens, t.n_classes, seed=s) for t, s in zip(tasks, seeds, strict=True)]
        self.model = models[0].to(self.device)  # its structure is used, its parameters are not
        self.step = 0
        self.parameters = {
            name: torch.stack([m.get_parameter(name).detach().to(self.device) for m in models]).requires_grad_()
            for name, _ in self.model.named_parameters()
        }
        self.train_data = self._stack([t.train_data for t in tasks])
        self.test_data = self._stack([t.test_data for t in tasks])
        self.n_masks = len(list(self.model.mask_shapes(1))) if config.model.dropout else 0
        self.draws = [
            Draws(s, n_rows=len(t.train), batch_size=config.batch_size, n_masks=self.n_masks)
            for s, t in zip(seeds, tasks, strict=True)
        ]
        self.lr = torch.zeros((), device=self.device)
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=self.lr if self.device.type == "cuda" else config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self._losses = self._maybe_compiled(vmap(self._loss))
        self._scores = self._maybe_compiled(vmap(self._score))
        self._upcoming: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        self.batch_losses = torch.zeros(len(self.seeds), device=self.device)
        self.finite = torch.ones(len(self.seeds), dtype=torch.bool, device=self.device)

    def _stack(self, data: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in data]).to(self.device), torch.stack([y for _, y in data]).to(self.device)

    def _maybe_compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, dynamic=False) if self.compiled else function

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)
        return nullcontext()

    def _loss(
        self, parameters: dict[str, Tensor], x: Tensor, y: Tensor, rows: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss (nats) and share of right answers of one member on a batch, dropout on."""
        rate, shapes = self.config.model.dropout, self.model.mask_shapes(len(rows))
        masks = hashed_masks(keys, shapes, rate) if rate else None
        with self._autocast():
            logits = functional_call(self.model, parameters, (x[rows], masks))
        logits = logits.float()
        return functional.cross_entropy(logits, y[rows]), (logits.argmax(-1) == y[rows]).float().mean()

    def _score(self, parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The same on given data, dropout off, in float32."""
        logits = functional_call(self.model, parameters, (x,))
        return functional.cross_entropy(logits, y), (logits.argmax(-1) == y).float().mean()

    # --- steps -------------------------------------------------------------------------------------------------

    def _draw(self, n: int) -> dict[str, Tensor]:
        """What the next `n` steps need: rows `(n, S, B)`, keys `(n, S, masks, 2)`, lr `(n,)`."""
        rows = torch.stack([d.rows(self.step, n) for d in self.draws], 1)
        keys = torch.stack([d.keys(self.step, n) for d in self.draws], 1)
        lr = torch.tensor([self.config.lr_at(step) for step in range(self.step, self.step + n)])
        return {"rows": rows, "keys": keys, "lr": lr}

    def _one_step(self) -> None:
        """A step on what lies at `position` of the upcoming draws."""
        at = self._position
        rows = self._upcoming["rows"].index_select(0, at)[0]
        keys = self._upcoming["keys"].index_select(0, at)[0]
        self.lr.copy_(self._upcoming["lr"].index_select(0, at)[0])
        losses, _ = self._losses(self.parameters, *self.train_data, rows, keys)
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.batch_losses.copy_(losses.detach())
        self.finite &= losses.isfinite()
        at += 1

    def advance(self, n: int) -> None:
        """Make `n` steps; on a GPU they are only queued."""
        drawn = self._draw(n)
        if self.device.type != "cuda":
            self._upcoming, self._position = drawn, torch.zeros(1, dtype=torch.int64)
            for i in range(n):
                self.optimizer.param_groups[0]["lr"] = float(drawn["lr"][i])
                self._one_step()
        else:
            for first in range(0, n, CHUNK):
                part = {k: v[first : first + CHUNK] for k, v in drawn.items()}
                if not self._upcoming:
                    self._upcoming = {
                        k: torch.zeros((CHUNK, *v.shape[1:]), dtype=v.dtype, device=self.device)
                        for k, v in drawn.items()
                    }
                    self._position = torch.zeros(1, dtype=torch.int64, device=self.device)
                for k, v in part.items():
                    self._upcoming[k][: len(v)].copy_(v.pin_memory(), non_blocking=True)
                self._position.zero_()
                if self._graph is None:
                    self._capture()
                assert self._graph is not None
                for _ in range(len(part["lr"])):
                    self._graph.replay()
        self.step += n

    def _capture(self) -> None:
        """Record a step as a CUDA graph; what the warm-up changes is put back."""
        before = self._tensors()
        saved = [t.detach().clone() for t in before]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._one_step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._one_step()
        with torch.no_grad():
            for tensor, value in zip(before, saved, strict=True):
                tensor.copy_(value)
            for state in self.optimizer.state.values():
                if len(saved) == len(self.parameters) + 2:  # no moments before the first step
                    for value in state.values():
                        value.zero_()
            self._position.zero_()
        self.finite.fill_(True)

    def _tensors(self) -> list[Tensor]:
        moments = [v for state in self.optimizer.state.values() for v in state.values()]
        return [*self.parameters.values(), *moments, self.finite, self.batch_losses]

    # --- evaluation --------------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, Tensor]:
        """Curves now, each `(S,)` on the CPU."""
        drawn = {k: v.to(self.device) for k, v in self._draw(1).items()}
        with torch.no_grad():
            train_loss, train_accuracy = self._scores(self.parameters, *self.train_data)
            test_loss, test_accuracy = self._scores(self.parameters, *self.test_data)
            loss, accuracy = self._losses(self.parameters, *self.train_data, drawn["rows"][0], drawn["keys"][0])
        curves = {
            "train_loss": train_loss, "test_loss": test_loss,
            "train_accuracy": train_accuracy, "test_accuracy": test_accuracy,
            "train_batch_loss": loss, "train_batch_accuracy": accuracy,
        }
        packed = torch.stack([v.float() for v in curves.values()]).cpu()
        return dict(zip(curves, packed, strict=True))


CHUNK = 256
