"""The configuration of a training run."""

import math
from dataclasses import dataclass, field

from reference.training.model import ModelConfig
from reference.training.randomness import Draws
from reference.training.tasks import TaskConfig

PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Task, model, optimiser and evaluation steps of a run. With a seed, it determines the run.

    The defaults are those of arXiv:2504.12700.

    Attributes
    ----------
    task : TaskConfig
        The task; the model learns its training split by cross-entropy.
    model : ModelConfig
        The transformer.
    steps : int
        Optimiser steps.
    lr, betas, eps, weight_decay : float
        Parameters of AdamW. The decay acts on all parameters, also on biases, norms and embeddings.
    warmup : int
        Steps over which the learning rate rises linearly from 0, the rate of the first step.
    batch_size : int
        Training pairs in a step.
    clip_norm : float, optional
        Greatest norm of the gradient of all parameters. A longer gradient is scaled to this norm before the update, as
        by `torch.nn.utils.clip_grad_norm_`. None: the gradient is not changed.
    replacement : bool
        Draw the pairs with replacement. False: shuffle all pairs in every epoch.
    precision : {"float32", "tf32", "bfloat16"}
        Precision of matrix products: float32; TF32, which only GPUs have; or bfloat16 by autocast. Parameters,
        optimiser and evaluation are float32 (evaluation uses TF32 if training does).
    every : int
        Evaluate at the multiples of this number of steps, at `per_decade` log-spaced steps, and at the end.
    per_decade : int
        Log-spaced evaluations in each factor of ten; 0 for none.

    Raises
    ------
    ValueError
        If a value is outside its range.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    steps: int = 100_000
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 10
    batch_size: int = 512
    clip_norm: float | None = None
    replacement: bool = True
    precision: str = "float32"
    every: int = 200
    per_decade: int = 12

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("warmup", 0), ("batch_size", 1), ("every", 1), ("per_decade", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected {name} of at least {least}, got {getattr(self, name)}; give a larger number."
                )
        for name in ("lr", "eps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:  # refuses nan too
                raise ValueError(
                    f"Expected a finite {name} of at least 0, got {getattr(self, name)}; give such a number."
                )
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(
                f"Expected a finite clip_norm above 0, or None, got {self.clip_norm}; give a number such as 0.25."
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Expected betas from 0 to below 1, got {self.betas}; give values such as (0.9, 0.98).")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"Expected a precision among {', '.join(PRECISIONS)}, got {self.precision!r}; choose one of them."
            )

    def draws(self, seed: int, n_rows: int, n_masks: int) -> Draws:
        """Return the random batches and masks of a run with ``n_rows`` training pairs."""
        return Draws(seed, n_rows=n_rows, batch_size=self.batch_size, n_masks=n_masks, replacement=self.replacement)

    def rates(self, step: int) -> tuple[float, float, float]:
        """Return the learning rate and both bias corrections of AdamW for the update after ``step`` updates."""
        warm = min(1.0, step / self.warmup) if self.warmup else 1.0
        return self.lr * warm, 1 - self.betas[0] ** (step + 1), 1 - self.betas[1] ** (step + 1)

    def evaluations(self) -> list[int]:
        """Return the steps of the evaluations, from 0 to `steps`."""
        log = {0}
        if self.per_decade and self.steps:
            n = math.ceil(math.log10(self.steps) * self.per_decade) + 1
            log |= {round(10 ** (i / self.per_decade)) for i in range(n)}
        return sorted(step for step in {*log, *range(0, self.steps, self.every), self.steps} if step <= self.steps)
