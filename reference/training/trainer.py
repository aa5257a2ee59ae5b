"""Training, by evaluation steps: one seed here, many at once in `reference.training.ensemble`.

What is drawn by chance is a function of seed and step (`reference.training.randomness`), so that a run can stop anywhere and go on
from a `State` as if it had never stopped, to the bit on the same machine with the same number of threads.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW

from reference.training.model import Config, Transformer
from reference.training.randomness import Draws, masks
from reference.training.tasks import TaskConfig

PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What is trained, how, and where it is evaluated. With a seed, it decides a run. The defaults are the paper's.

    Attributes
    ----------
    task : TaskConfig
        What is learnt; its training split by cross-entropy.
    model : Config
        Which transformer learns it.
    steps : int
        Optimiser steps.
    lr, betas, eps, weight_decay : float
        Of AdamW; the decay acts on all parameters, biases, norms and embeddings included.
    warmup : int
        Steps over which the learning rate rises linearly from 0, which is what the first step has.
    batch_size : int
        Training pairs in a step.
    replacement : bool
        Draw them with replacement, or shuffle all pairs for every epoch.
    precision : {"float32", "tf32", "bfloat16"}
        Of matrix products: float32; on a GPU, its TF32 units; or bfloat16 throughout by autocast. Parameters,
        optimiser and evaluation are float32 in any case (evaluation uses TF32 where training does).
    every : int
        Evaluate at the multiples of this many steps, at `per_decade` log-spaced steps, and at the end.
    per_decade : int
        Log-spaced evaluations in each factor of ten, where those of `every` are sparser; 0 for none.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    model: Config = field(default_factory=Config)
    steps: int = 100_000
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 10
    batch_size: int = 512
    replacement: bool = True
    precision: str = "float32"
    every: int = 200
    per_decade: int = 12

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("warmup", 0), ("batch_size", 1), ("every", 1), ("per_decade", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected {name} of at least {least}, came {getattr(self, name)}. Give a larger number."
                )
        for name in ("lr", "eps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:  # also refuses nan
                raise ValueError(f"Expected a finite {name} of at least 0, came {getattr(self, name)}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Expected betas from 0 to below 1, came {self.betas}. Give some as (0.9, 0.98).")
        if self.precision not in PRECISIONS:
            raise ValueError(f"Expected a precision among {', '.join(PRECISIONS)}, came {self.precision!r}.")

    def draws(self, seed: int, n_rows: int, n_masks: int) -> Draws:
        """Batches and masks of a run with so many training pairs."""
        sizes = {"n_rows": n_rows, "batch_size": self.batch_size, "n_masks": n_masks}
        return Draws(seed, **sizes, replacement=self.replacement)

    def rates(self, step: int) -> tuple[float, float, float]:
        """Of the update that leads on from `step`: the rate itself, and both bias corrections of AdamW."""
        warm = min(1.0, step / self.warmup) if self.warmup else 1.0
        return self.lr * warm, 1 - self.betas[0] ** (step + 1), 1 - self.betas[1] ** (step + 1)

    def evaluations(self) -> list[int]:
        """Steps at which curves are taken, from 0 to `steps`."""
        log = {0}
        if self.per_decade and self.steps:
            n = math.ceil(math.log10(self.steps) * self.per_decade) + 1
            log |= {round(10 ** (i / self.per_decade)) for i in range(n)}
        return sorted(step for step in {*log, *range(0, self.steps, self.every), self.steps} if step <= self.steps)


@dataclass(frozen=True)
class State:
    """All that training needs to go on: about three times the model's size.

    Attributes
    ----------
    step : int
        Updates made.
    parameters, first, second : dict
        Parameters and AdamW's moments by name, float32 on the CPU, each as the model has it.
    """

    step: int
    parameters: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]


class Evaluation(NamedTuple):
    """What training yields.

    `curves` holds losses (nats) and accuracies: `train_loss`, `train_accuracy`, `test_loss` and `test_accuracy` on
    whole splits without dropout, `train_batch_loss` and `train_batch_accuracy` on the batch that the next step
    learns from, dropout on, as the paper has them.
    """

    step: int
    curves: dict[str, float]


class Engine(Protocol):
    """What trains one seed, or many at once."""

    seeds: Sequence[int]
    step: int
    finite: Tensor  # (S,) bool: whose losses have all been finite

    def advance(self, n: int) -> None:
        """Make `n` updates."""

    def evaluate(self) -> list[dict[str, float]]:
        """Curves of each seed, now."""

    def states(self) -> list[State]:
        """Of each seed, copied."""

    def load(self, states: Sequence[State]) -> None:
        """Go on from these, one for each seed, all of the same step."""


def evaluations(engine: Engine, config: TrainConfig) -> Iterator[list[Evaluation]]:
    """Train, and yield at each evaluation step from where the engine stands."""
    for step in config.evaluations():
        if step >= engine.step:
            engine.advance(step - engine.step)
            yield [Evaluation(step, curves) for curves in engine.evaluate()]


class Trainer:
    """One seed by an ordinary eager loop, for any observer: `model` and `optimizer` are plain torch objects.

    Parameters
    ----------
    config : TrainConfig
        What to train.
    seed : int
        Decides split, initial parameters, batches and dropout. The global random state is left alone.
    device : str
        Where.
    compiled : bool
        Compile model and loss (once; a minute or so). The distribution of curves is the same, the bits are not.

    Attributes
    ----------
    task, model, optimizer
        What is learnt, and by what.
    step : int
        Updates made.
    """

    def __init__(self, config: TrainConfig, seed: int = 0, *, device: str = "cpu", compiled: bool = False) -> None:
        self.config, self.device, self.step = config, device_for(config, device), 0
        self.seeds: Sequence[int] = [seed]
        self.finite = torch.ones(1, dtype=torch.bool)  # else `advance` raises
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
            If a batch loss is not finite; the model is left as it was before that step.
        """
        with products(self.config, self.device):
            for _ in range(n):
                self._advance()

    def _advance(self) -> None:
        loss = self._loss(*self._batch())
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"Expected a finite loss, came {value} at step {self.step + 1} (model as after step {self.step}). "
                "Lower lr, lengthen warmup, or look for parameters that are not finite already."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = self.config.rates(self.step)[0]
        self.optimizer.step()
        self.step += 1

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
        """Curves now (see `Evaluation`)."""
        x, y, drawn = self._batch()
        with products(self.config, self.device):
            with autocast(self.config, self.device):
                logits = {"train_batch": (self.model(x, drawn).float(), y)}
            logits |= {split: (self.model(x), y) for split, (x, y) in self._data.items()}
        return [{f"{name}_{k}": v.item() for name, pair in logits.items() for k, v in scores(*pair).items()}]

    def states(self) -> list[State]:
        """Copied, a list of one."""
        named, moments = dict(self.model.named_parameters()), self.optimizer.state
        zero = {"exp_avg": torch.zeros(()), "exp_avg_sq": torch.zeros(())}

        def copy(key: str) -> dict[str, Tensor]:
            return {name: moments.get(p, zero)[key].detach().expand(p.shape).cpu().clone() for name, p in named.items()}

        values = {name: p.detach().cpu().clone() for name, p in named.items()}
        return [State(self.step, values, copy("exp_avg"), copy("exp_avg_sq"))]

    @torch.no_grad()
    def load(self, states: Sequence[State]) -> None:
        """Go on from a list of one state."""
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
    """Train one seed, from `state` if given, and yield at each of `config.evaluations()` from there on.

    To look at the model in between, or to keep a state, make a `Trainer` and go through `evaluations` of it.
    """
    trainer = Trainer(config, seed, device=device, compiled=compiled)
    if state is not None:
        trainer.load([state])
    for (evaluation,) in evaluations(trainer, config):
        yield evaluation


def scores(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Cross-entropy (nats) and accuracy of logits `(B, n_classes)`."""
    return {"loss": functional.cross_entropy(logits, y), "accuracy": (logits.argmax(-1) == y).float().mean()}


def autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """The forward pass in bfloat16, where the configuration says so."""
    if config.precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return nullcontext()


def device_for(config: TrainConfig, device: str) -> torch.device:
    """The device, if it has the precision that the configuration asks for."""
    found = torch.device(device)
    if config.precision == "tf32" and found.type != "cuda":
        raise ValueError(f"Expected a GPU for precision tf32, came {device}. Ask for float32, or train on a GPU.")
    return found


@contextmanager
def products(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Matrix products of a GPU in TF32, or not, as the configuration says."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
