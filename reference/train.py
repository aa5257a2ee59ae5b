"""An ordinary training loop that hands control back after each step, so that any observer can look on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from reference.tasks import Task


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train.

    Attributes
    ----------
    steps : int
        Optimiser steps.
    lr, betas, eps, weight_decay : float
        Of AdamW; the decay acts on all parameters, biases, norms and embeddings included.
    warmup : int
        Steps over which the learning rate rises linearly: `lr / warmup` in the first, `lr` in the last.
    batch_size : int
        Training pairs in a step, drawn with replacement.
    seed : int
        Decides the batches.
    """

    steps: int = 2000
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 1.0
    warmup: int = 10
    batch_size: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("warmup", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected {name} of at least {least}, came {getattr(self, name)}. Give a larger number."
                )


def make_optimizer(model: nn.Module, config: TrainConfig) -> tuple[AdamW, LambdaLR]:
    """AdamW over all parameters of `model` (already on its device), and the warm-up of its learning rate."""
    optimizer = AdamW(
        model.parameters(),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,  # one kernel for all parameters
    )
    warmup = max(config.warmup, 1)
    return optimizer, LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / warmup))


def batches(task: Task, config: TrainConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches `(B, 4)`, `(B,)` without end, the same for the same seed."""
    x, y = task.train_data
    generator = torch.Generator().manual_seed(config.seed)
    while True:
        rows = torch.randint(len(x), (config.batch_size,), generator=generator, device="cpu")  # (B,)
        yield x[rows], y[rows]


def train(
    model: nn.Module, task: Task, optimizer: AdamW, scheduler: LambdaLR, config: TrainConfig
) -> Iterator[tuple[int, float]]:
    """Train `model` in place, and come up for air after each step.

    Parameters
    ----------
    model : nn.Module
        Maps tokens `(B, 4)` to logits `(B, n_classes)`; trained where it is, on the CPU or a GPU.
    task : Task
        Its training split is learnt by cross-entropy.
    optimizer, scheduler : AdamW, LambdaLR
        From `make_optimizer`.
    config : TrainConfig
        Steps, batch size and seed. The global random state is left alone, unless the model has dropout.

    Yields
    ------
    step : int
        Optimiser steps done, from 1.
    batch_loss : float
        Cross-entropy (nats) of this step's batch, before the update.

    Raises
    ------
    FloatingPointError
        If a batch loss is not finite; the model is left as it was before that step.
    """
    device = next(model.parameters()).device
    for step, (x, y) in zip(range(1, config.steps + 1), batches(task, config), strict=False):
        model.train()  # each time: whoever looks on between steps may have left it in eval mode
        loss = functional.cross_entropy(model(x.to(device)), y.to(device))
        batch_loss = loss.item()
        if not math.isfinite(batch_loss):
            raise FloatingPointError(
                f"Expected a finite loss, came {batch_loss} at step {step} (model as after step {step - 1}). "
                "Lower lr, lengthen warmup, or look for parameters that are not finite already."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield step, batch_loss
