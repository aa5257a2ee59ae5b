"""Loss barrier on the straight line between the ends of two windows, with batch norm re-estimated."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from probe.forward.data import Batch
from probe.forward.scores import score_rows
from probe.forward.sites import Trace
from probe.forward.windows import Window, parts, seed_all, trained_parameters
from probe.measures.chaos.twins import outputs_of

Losses = Callable[[nn.Module], Tensor]


def losses_on_line(window: Window, first: Tensor, last: Tensor, n_points: int, losses: Losses) -> Tensor:
    """Return the losses (n_points + 2, splits) on the line from parameters (P,) to others, the ends included.

    The running statistics of batch norm are means over the batches of the window, in training mode without updates.
    """
    model, optimizer = window.training.copy(window.model)
    optimizer.step = _no_step  # type: ignore[method-assign, assignment]
    parameters = trained_parameters(model, optimizer)
    found = []
    for weight in torch.linspace(0, 1, n_points + 2, dtype=torch.float64).tolist():
        point = (1 - weight) * first.cpu().double() + weight * last.cpu().double()
        with torch.no_grad():
            for parameter, part in zip(parameters, parts(point, parameters), strict=True):
                parameter.copy_(part)
        _estimate_batch_norm(window, model, optimizer)
        found.append(losses(model))
    return torch.stack(found)


def _no_step(closure: Any = None) -> None:
    if closure is not None:
        closure()


def _estimate_batch_norm(window: Window, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.training
    ]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # mean over all batches
    for k, batch in enumerate(window.batches if norms else []):
        seed_all(window.seed + k)
        window.training.update(model, optimizer, batch)


def loss_reader(data: Sequence[tuple[Batch, Tensor]], trace: Trace, batch_size: int) -> Losses:
    """Return a function that measures the mean loss on rows of each split (splits,), NaN without targets."""

    def losses(model: nn.Module) -> Tensor:
        found = [_loss(outputs_of(model, batch, rows, trace, batch_size), batch, rows) for batch, rows in data]
        return torch.tensor(found, dtype=torch.float64)

    return losses


def _loss(outputs: Tensor, batch: Batch, rows: Tensor) -> float:
    scores = score_rows(outputs, batch.targets_of(rows, outputs.device), batch.mask_of(rows, outputs.device))
    if not scores.shape[1]:
        return math.nan
    total, _, count = scores.double().sum(0).tolist()
    return total / count
