"""The diagonal matrix P by which adaptive optimizers divide their updates.

An optimizer with the update lr P^-1 m is unstable where the largest eigenvalue of P^-1 H is above a threshold: 2 / lr
for RMSprop, (2 + 2 beta1) / (1 - beta1) / lr for Adam (Cohen et al. 2022, arXiv:2207.14484, sections 2 and 3).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.windows import Window, trained_parameters


def roots(window: Window) -> Tensor | None:
    """Return the square roots of P at the start of a window (P,) in float64.

    They are 1 for SGD, and infinite for parameters that have had no update, which leaves them out. None: of an unknown
    class, or before the first update.
    """
    optimizer = window.training.optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    diagonals = []
    for p in trained_parameters(window.model, optimizer):
        if isinstance(optimizer, torch.optim.SGD):
            diagonals.append(torch.ones(p.numel(), dtype=torch.float64))
        else:
            found = _diagonal(optimizer, p, groups[id(p)])
            found = torch.full_like(p.detach(), math.inf) if found is None else found
            diagonals.append(found.cpu().double().flatten())
    result = torch.cat(diagonals).sqrt()
    return None if bool(result.isinf().all()) else result


def _diagonal(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor | None:
    state: dict[str, Any] = optimizer.state.get(parameter, {})
    step = float(state.get("step", 0))
    if step == 0:
        return None
    if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        beta1, beta2 = group["betas"]
        second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        return (1 - beta1**step) * ((second / (1 - beta2**step)).sqrt() + group["eps"])
    if isinstance(optimizer, torch.optim.RMSprop):
        second = state["square_avg"] - (state["grad_avg"] ** 2 if group["centered"] else 0)
        return second.sqrt() + group["eps"]
    return None
