"""Train one small network, and log its losses and accuracies."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tasks

Schedule = Callable[[float], float]  # the factor of the learning rate at a share of the training


def constant(share: float) -> float:
    return 1.0


def drops(*shares: float, factor: float = 0.1) -> Schedule:
    return lambda share: factor ** sum(share >= at for at in shares)


def warmup_cosine(share: float) -> float:
    return share / 0.1 if share < 0.1 else (1 + math.cos(math.pi * (share - 0.1) / 0.9)) / 2


def triangles(count: int) -> Schedule:
    return lambda share: 0.05 + 0.95 * (1 - abs(2 * (share * count % 1) - 1))


def cosine_restarts(count: int) -> Schedule:
    return lambda share: (1 + math.cos(math.pi * (share * count % 1))) / 2


def exponential(factor: float) -> Schedule:
    """The learning rate grows by ``factor`` over the training."""
    return lambda share: factor**share


@dataclass
class Run:
    """A network, its data and its training. Inputs and targets come from `tasks`."""

    model: nn.Module
    data: tasks.Split
    loss: str = "cross_entropy"  # or "mse", "bce", "hinge"
    n_steps: int = 2000
    every: int = 2  # steps from one row to the next
    batch: int | None = None  # all rows
    optimiser: str = "adamw"  # or "adam", "sgd"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: Schedule = constant
    log_batch: bool = False  # the training loss is that of the batch, in training mode
    test_batch: int | None = None  # the test loss is that of a few random test examples
    fresh: Callable[[int], tasks.Data] | None = None  # new training data for each step
    accuracy: bool = True
    percent: bool = False


def loss_of(kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
    if kind == "cross_entropy":
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())
    if kind == "hinge":
        return (1 - outputs * (2 * targets - 1)).clamp_min(0).mean()
    return F.binary_cross_entropy_with_logits(outputs, targets) if kind == "bce" else F.mse_loss(outputs, targets)


def accuracy_of(kind: str, outputs: Tensor, targets: Tensor) -> float:
    if kind in ("bce", "hinge"):
        return ((outputs > 0) == (targets > 0.5)).float().mean().item()
    answers = targets.argmax(-1) if kind == "mse" else targets
    return (outputs.argmax(-1) == answers).float().mean().item()


@torch.no_grad()
def evaluate(run: Run, data: tasks.Data, *, training: bool = False) -> tuple[float, float]:
    """Return loss and accuracy, NaN where there is none."""
    run.model.train(training)
    outputs = run.model(data[0])
    has_accuracy = run.accuracy and not (run.loss == "mse" and data[1].shape[-1] == 1)
    accuracy = accuracy_of(run.loss, outputs, data[1]) if has_accuracy else math.nan
    return loss_of(run.loss, outputs, data[1]).item(), accuracy * (100 if run.percent else 1)


def optimiser_of(run: Run) -> torch.optim.Optimizer:
    if run.optimiser == "sgd":
        return torch.optim.SGD(run.model.parameters(), run.lr, momentum=run.momentum, weight_decay=run.weight_decay)
    kind = torch.optim.AdamW if run.optimiser == "adamw" else torch.optim.Adam
    return kind(run.model.parameters(), run.lr, weight_decay=run.weight_decay)


def batches(run: Run, seed: int) -> Callable[[int], tasks.Data]:
    """Return the data of a step: all rows, or a part of an epoch in random order."""
    (inputs, targets), generator = run.data[0], torch.Generator().manual_seed(seed)
    if run.fresh or run.batch is None:
        return run.fresh or (lambda step: run.data[0])
    queue: list[Tensor] = []

    def following(step: int) -> tasks.Data:
        if not queue:
            queue.extend(torch.randperm(len(inputs), generator=generator).split(run.batch)[::-1])
        rows = queue.pop()
        return inputs[rows], targets[rows]

    return following


def train(run: Run, seed: int) -> np.ndarray:
    """Return the rows step, train_loss, test_loss, train_accuracy, test_accuracy; row 0 is before the first update."""
    batch_of, optimiser, rows = batches(run, seed), optimiser_of(run), []
    generator = torch.Generator().manual_seed(seed + 1)
    for step in range(run.n_steps + 1):
        batch = batch_of(step)
        if step % run.every == 0:
            test = run.data[1]
            if run.test_batch:
                drawn = torch.randint(len(test[0]), (run.test_batch,), generator=generator)
                test = test[0][drawn], test[1][drawn]
            measured = evaluate(run, batch if run.log_batch else run.data[0], training=run.log_batch)
            rows.append([step, *np.transpose([measured, evaluate(run, test)]).ravel()])
        run.model.train()
        for group in optimiser.param_groups:
            group["lr"] = run.lr * run.schedule(step / run.n_steps)
        optimiser.zero_grad()
        loss_of(run.loss, run.model(batch[0]), batch[1]).backward()
        optimiser.step()
    return np.array(rows)
