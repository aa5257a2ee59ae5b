"""Loss, right answers and number of answers of each row: outputs against targets.

Integer targets: cross-entropy (nats) of the outputs taken as logits over the last axis, and accuracy; with one output
per row and targets 0 and 1, the binary forms. Outputs (n, T, K) with targets (n, T) count every position whose target
is not -100; with targets (n,) the last position. Floating-point targets: mean squared error, no accuracy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.forward.layers import IGNORED


def score_rows(outputs: Tensor, targets: Tensor | None) -> Tensor:
    """Sum of losses, number of right answers and number of answers for each row.

    Parameters
    ----------
    outputs : Tensor of shape (n, K), (n, T, K), (n,) or like ``targets``
    targets : Tensor of shape (n,) or (n, T), integers or floating point

    Returns
    -------
    Tensor of shape (n, 3). The second column is NaN for a regression. Shape (n, 0) without targets.
    """
    n = len(outputs)
    if targets is None:
        return torch.empty(n, 0)
    outputs = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    if targets.is_floating_point():
        return _regression(outputs, targets)
    targets = targets.long()
    if targets.ndim == 1 and outputs.ndim == 3:
        outputs = outputs[:, -1]
    if outputs.shape in (targets.shape, (*targets.shape, 1)):
        logits = outputs.reshape(n, -1)
        flat = targets.reshape(n, -1)
        if not ((flat == 0) | (flat == 1)).all():
            raise ValueError(
                f"outputs of shape {tuple(outputs.shape)} give one logit for each target, so targets must be 0 or 1, "
                f"got {flat.min().item()} to {flat.max().item()}; for a regression give targets.float()"
            )
        loss = F.binary_cross_entropy_with_logits(logits, flat.to(logits.dtype), reduction="none")
        right = (logits > 0) == flat
        return torch.stack([loss.sum(1), right.sum(1).to(loss.dtype), torch.full_like(loss[:, 0], flat.shape[1])], 1)
    if (n, *outputs.shape[2:]) == targets.shape and targets.ndim > 1:  # (n, K, ...), as torch's cross-entropy takes it
        if outputs.shape[:-1] == targets.shape:
            raise ValueError(
                f"outputs of shape {tuple(outputs.shape)} can be read as (n, T, K) or (n, K, T); "
                "say which with PerformanceProbe(score=...)"
            )
        outputs = outputs.movedim(1, -1)
    if outputs.shape[:-1] != targets.shape:
        raise ValueError(
            f"outputs of shape {tuple(outputs.shape)} and integer targets of shape {tuple(targets.shape)} do not fit; "
            "expected (n, K) with (n,), (n, T, K) or (n, K, T) with (n, T); else give PerformanceProbe(score=...)"
        )
    counted = targets != IGNORED
    loss = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none", ignore_index=IGNORED)
    columns = loss.view(targets.shape), outputs.argmax(-1) == targets, counted
    return torch.stack([column if column.ndim == 1 else column.reshape(n, -1).sum(1) for column in columns], 1)


def _regression(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.numel() != targets.numel():
        raise ValueError(
            f"outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)} do not fit; "
            "floating-point targets need one output for each number. Class labels must be integers: targets.long()"
        )
    error = (outputs.reshape(len(outputs), -1) - targets.reshape(len(outputs), -1).to(outputs.dtype)) ** 2
    one = torch.ones_like(error[:, 0])
    return torch.stack([error.mean(1), torch.full_like(one, torch.nan), one], 1)
