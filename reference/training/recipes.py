"""Recipes of trainings that can be repeated from any step: model, optimiser, update, and batches by step.

`reference.experiments.chaos_cone` trains copies of a model from many steps on, with the same batches. So a batch is a
function of seed and step, and it holds the learning rate of its update.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from reference.training.model import Transformer
from reference.training.train_config import TrainConfig

Batch = tuple[Tensor, Tensor, float]  # inputs, answers, learning rate
Data = tuple[Tensor, Tensor]


class Recipe(Protocol):
    """Interface of a recipe. With a seed, it determines a run."""

    @property
    def steps(self) -> int:
        """Number of updates."""

    def data(self, seed: int) -> dict[str, Data]:
        """Return inputs and answers of the splits ``train`` and ``test``."""

    def model(self, seed: int) -> nn.Module:
        """Return the model with its initial parameters."""

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of a model."""

    def batches(self, seed: int) -> Callable[[int, int], list[Batch]]:
        """Return a function of step and number n. It returns the batches of the n updates after the step."""

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
        """Make one update, and return the loss (nats)."""

    def rate(self, step: int) -> float:
        """Return the learning rate of the update after ``step`` updates."""


def update(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, *, clip_norm: float | None = None
) -> Tensor:
    """Make one update on the cross-entropy of a batch, with the learning rate of the batch, and return the loss."""
    x, y, rate = batch
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    if clip_norm is not None:
        clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    return loss


@dataclass(frozen=True)
class TransformerRecipe:
    """Recipe of a `Transformer` without dropout, from a `TrainConfig`.

    The biases of keys and values are fixed. The gradient of a key bias is rounding only, since attention does not
    depend on it. AdamW divides by its size and would move it by a learning rate in a random direction.

    Raises
    ------
    ValueError
        If the model has dropout.
    """

    config: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.config.model.dropout:
            raise ValueError(
                f"Expected a model without dropout, got the rate {self.config.model.dropout}; set dropout=0."
            )

    @property
    def steps(self) -> int:
        """Number of updates."""
        return self.config.steps

    def data(self, seed: int) -> dict[str, Data]:
        """Return tokens (n, 4) and answers (n,) of the splits ``train`` and ``test``."""
        task = self.config.task.make(seed)
        return {"train": task.train_data, "test": task.test_data}

    def model(self, seed: int) -> Transformer:
        """Return the transformer with its initial parameters."""
        task = self.config.task.make(seed)
        model = Transformer(self.config.model, task.n_tokens, task.n_classes, seed=seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.endswith("attention.kv.bias"))
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the AdamW of the trained parameters of a model."""
        config, trained = self.config, [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            trained, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, fused=True
        )

    def batches(self, seed: int) -> Callable[[int, int], list[Batch]]:
        """Return a function of step and number n. It returns the batches of the n updates after the step."""
        x, y = self.data(seed)["train"]
        draws = self.config.draws(seed, len(y), 0)

        def batch(step: int) -> Batch:
            rows = draws.rows(step)[0]
            return x[rows], y[rows], self.rate(step)

        return lambda step, n: [batch(k) for k in range(step, step + n)]

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
        """Make one update, and return the loss (nats)."""
        return update(model, optimizer, batch, clip_norm=self.config.clip_norm)

    def rate(self, step: int) -> float:
        """Return the learning rate of the update after ``step`` updates."""
        return self.config.rates(step)[0]
