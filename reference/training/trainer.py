"""Training of one seed, and what it shares with `reference.training.ensemble`, which trains many seeds at once.

All random numbers are functions of seed and step (`reference.training.randomness`). A run can therefore stop at any
step and continue from a `State` bit by bit, on the same machine with the same number of threads.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from reference.training.model import Transformer
from reference.training.randomness import masks
from reference.training.train_config import TrainConfig


@dataclass(frozen=True)
class State:
    """The state from which training continues; about three times the size of the model.

    Attributes
    ----------
    step : int
        Number of updates.
    parameters, first, second : dict
        Parameters and both moments of AdamW by parameter name, float32 on the CPU, in the shapes of the model.
    """

    step: int
    parameters: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]


class Evaluation(NamedTuple):
    """Step and curves of one evaluation.

    `curves` maps names to losses (nats) and accuracies. `train_loss`, `train_accuracy`, `test_loss` and
    `test_accuracy` are measured on whole splits without dropout. `train_batch_loss` and `train_batch_accuracy` are
    measured on the batch of the next step with dropout, as in the paper.
    """

    step: int
    curves: dict[str, float]


class Engine(Protocol):
    """Interface of `Trainer`, which trains one seed, and of `Ensemble`, which trains many."""

    seeds: Sequence[int]
    step: int
    finite: Tensor  # (S,) bool: whether all losses of a seed have been finite

    def advance(self, n: int) -> None:
        """Make `n` updates."""

    def evaluate(self) -> list[dict[str, float]]:
        """Return the current curves of each seed."""

    def states(self) -> list[State]:
        """Return a copy of the state of each seed."""

    def load(self, states: Sequence[State]) -> None:
        """Continue from these states, one for each seed, all of the same step."""


def evaluations(engine: Engine, config: TrainConfig) -> Iterator[list[Evaluation]]:
    """Train, and yield the evaluations of all seeds at each evaluation step from the current step on."""
    for step in config.evaluations():
        if step >= engine.step:
            engine.advance(step - engine.step)
            yield [Evaluation(step, curves) for curves in engine.evaluate()]


class Trainer:
    """Training loop of one seed in eager mode. Probes can attach to `model` and `optimizer`, which are torch objects.

    Parameters
    ----------
    config : TrainConfig
        The configuration.
    seed : int
        Determines split, initial parameters, batches and dropout. The global random state is not changed.
    device : str
        Such as ``"cpu"`` or ``"cuda"``.
    compiled : bool
        Compile model and loss, which takes about a minute. The curves then have the same distribution, but differ in
        their bits.

    Attributes
    ----------
    task : Task
        The task with its split.
    model : Transformer
        The model.
    optimizer : torch.optim.AdamW
        The optimiser.
    step : int
        Number of updates.
    loss : float
        Loss (nats) of the batch of the last update; NaN before the first update.
    """

    def __init__(self, config: TrainConfig, seed: int = 0, *, device: str = "cpu", compiled: bool = False) -> None:
        self.config, self.device, self.step = config, device_for(config, device), 0
        self.seeds: Sequence[int] = [seed]
        self.loss = math.nan
        self.finite = torch.ones(1, dtype=torch.bool)  # `advance` raises otherwise
        self.task = config.task.make(seed)
        self.model = Transformer(config.model, self.task.n_tokens, self.task.n_classes, seed=seed).to(self.device)
        self.optimizer = AdamW(
            self.model.parameters(),
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,  # one kernel for all parameters
        )
        self._data = {
            "train": tuple(t.to(self.device) for t in self.task.train_data),
            "test": tuple(t.to(self.device) for t in self.task.test_data),
        }
        self._draws = config.draws(seed, len(self.task.train), self.model.n_masks)
        self._loss = torch.compile(self._batch_loss, dynamic=False) if compiled else self._batch_loss

    def advance(self, n: int) -> None:
        """Make `n` updates.

        Raises
        ------
        FloatingPointError
            If a batch loss is not finite. The model keeps its state before that step.
        """
        with matmul_precision(self.config, self.device):
            for _ in range(n):
                self._advance()

    def _advance(self) -> None:
        loss = self._loss(*self._batch())
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"Expected a finite loss, got {value} at step {self.step + 1}; lower lr, lengthen warmup, or look for "
                f"parameters that are not finite. The model has its state after step {self.step}."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.param_groups[0]["lr"] = self.config.rates(self.step)[0]
        self.optimizer.step()
        self.step += 1
        self.loss = value

    def _batch(self) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        rows, keys = self._draws.rows(self.step)[0].to(self.device), self._draws.keys(self.step)[0]
        rate, (x, y) = self.config.model.dropout, self._data["train"]
        drawn = masks(keys, self.model.mask_shapes(len(rows)), rate) if rate else None
        return x[rows], y[rows], drawn and [mask.to(self.device) for mask in drawn]

    def _batch_loss(self, x: Tensor, y: Tensor, drawn: list[Tensor] | None) -> Tensor:
        with autocast(self.config, self.device):
            logits = self.model(x, drawn)
        return functional.cross_entropy(logits.float(), y)

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Return the current curves (see `Evaluation`), as a list of one."""
        x, y, drawn = self._batch()
        with matmul_precision(self.config, self.device):
            with autocast(self.config, self.device):
                logits = {"train_batch": (self.model(x, drawn).float(), y)}
            logits |= {split: (self.model(x), y) for split, (x, y) in self._data.items()}
        return [{f"{name}_{k}": v.item() for name, pair in logits.items() for k, v in scores(*pair).items()}]

    def states(self) -> list[State]:
        """Return a copy of the state, as a list of one."""
        named, moments = dict(self.model.named_parameters()), self.optimizer.state
        zero = {"exp_avg": torch.zeros(()), "exp_avg_sq": torch.zeros(())}

        def copy(key: str) -> dict[str, Tensor]:
            return {name: moments.get(p, zero)[key].detach().expand(p.shape).cpu().clone() for name, p in named.items()}

        values = {name: p.detach().cpu().clone() for name, p in named.items()}
        return [State(self.step, values, copy("exp_avg"), copy("exp_avg_sq"))]

    @torch.no_grad()
    def load(self, states: Sequence[State]) -> None:
        """Continue from a list of one state."""
        (state,) = states
        self.model.load_state_dict(state.parameters)  # checks names and shapes
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step), device=self.device),
                "exp_avg": state.first[name].to(self.device, copy=True),
                "exp_avg_sq": state.second[name].to(self.device, copy=True),
            }
        self.step = state.step


def train(
    config: TrainConfig, seed: int = 0, *, device: str = "cpu", compiled: bool = False, state: State | None = None
) -> Iterator[Evaluation]:
    """Train one seed, and yield at each step of `config.evaluations()`; with a `state`, from its step on.

    To observe the model between evaluations, or to save a state, use a `Trainer` and `evaluations`.
    """
    trainer = Trainer(config, seed, device=device, compiled=compiled)
    if state is not None:
        trainer.load([state])
    for (evaluation,) in evaluations(trainer, config):
        yield evaluation


def scores(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return cross-entropy (nats) and accuracy of logits `(B, n_classes)`."""
    return {"loss": functional.cross_entropy(logits, y), "accuracy": (logits.argmax(-1) == y).float().mean()}


def autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context manager for forward passes in the precision of the configuration."""
    if config.precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return nullcontext()


def device_for(config: TrainConfig, device: str) -> torch.device:
    """Return the device; raise ValueError if it lacks the precision of the configuration."""
    torch_device = torch.device(device)
    if config.precision == "tf32" and torch_device.type != "cuda":
        raise ValueError(f"Expected a GPU for precision tf32, got {device}; use float32, or train on a GPU.")
    return torch_device


@contextmanager
def matmul_precision(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Set the precision of matrix products on a GPU to that of the configuration, and restore it afterwards."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
