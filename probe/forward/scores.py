"""Loss, number of correct predictions and number of predictions for each row of outputs and targets.

- Integer targets: cross-entropy (nats) of the outputs as logits over the last axis, and accuracy.
- Targets 0 and 1 with one output for each target: the binary forms of both.
- Outputs (n, T, K) with targets (n, T): every position whose target is not -100 counts.
- Outputs (n, T, K) with targets (n,): only the last position counts, or the last one that a mask keeps.
- Floating-point and complex targets: mean squared error (of the absolute value) and no accuracy.
"""

from itertools import accumulate
from operator import mul

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.forward.layers import IGNORED
from probe.forward.outputs import last_kept
from probe.reads import has_queue, holds


def score_rows(outputs: Tensor, targets: Tensor | None, mask: Tensor | None = None) -> Tensor:
    """Return the summed loss, the number of correct predictions and the number of predictions of each row.

    Integer targets give the cross-entropy in nats. Outputs are logits over the last axis. With one output for each
    target and targets 0 and 1, the binary cross-entropy is used. For a sequence, every position counts whose target is
    not -100, or only the last position if each row has one target. Floating-point targets give the mean squared error.

    Parameters
    ----------
    outputs : Tensor of shape (n, K), (n, T, K), (n, K, T), (n,) or the shape of ``targets``
    targets : Tensor of shape (n,) or (n, T), or None
        Integers, floating-point or complex numbers.
    mask : bool Tensor of shape (n, T), optional
        The positions that hold a token. It matters for outputs (n, T, K) with targets (n,).

    Returns
    -------
    Tensor of shape (n, 3)
        The second column is NaN for floating-point targets. The shape is (n, 0) without targets.

    Raises
    ------
    ValueError
        If the shapes do not match or are ambiguous, binary targets have other values than 0 and 1, or integers are no
        classes of the outputs.

    See Also
    --------
    probe.PerformanceProbe : Record loss and accuracy of each split.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import score_rows
    >>> logits = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log()
    >>> [[round(value, 3) for value in row] for row in score_rows(logits, torch.tensor([0, 1])).tolist()]
    [[0.693, 1.0, 1.0], [2.303, 0.0, 1.0]]
    """
    n = len(outputs)
    if targets is None:
        return torch.empty(n, 0)
    outputs = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    if targets.is_floating_point() or targets.is_complex():
        return _regression(outputs, targets)
    targets = targets.long()
    if targets.ndim == 1 and outputs.ndim == 3:
        outputs = outputs[:, -1] if mask is None or mask.shape != outputs.shape[:2] else last_kept(outputs, mask)
    if outputs.shape in (targets.shape, (*targets.shape, 1)):
        return _binary(outputs, targets)
    return _classes(outputs, targets)


def _binary(outputs: Tensor, targets: Tensor) -> Tensor:
    n = len(outputs)
    logits = outputs.reshape(n, -1)
    flat = targets.reshape(n, -1)
    if not holds(((flat == 0) | (flat == 1)).all()):
        raise ValueError(
            f"Expected targets 0 or 1 for outputs of shape {tuple(outputs.shape)} (one logit for each target), got "
            f"targets from {flat.min().item()} to {flat.max().item()}; for a regression pass targets.float()"
        )
    loss = F.binary_cross_entropy_with_logits(logits, flat.to(logits.dtype), reduction="none")
    correct = (logits > 0) == flat
    return torch.stack([loss.sum(1), correct.sum(1).to(loss.dtype), torch.full_like(loss[:, 0], flat.shape[1])], 1)


def _classes(outputs: Tensor, targets: Tensor) -> Tensor:
    n = len(outputs)
    if (n, *outputs.shape[2:]) == targets.shape and targets.ndim > 1:  # (n, K, ...), as in torch's cross-entropy
        if outputs.shape[:-1] == targets.shape:
            raise ValueError(
                f"Expected outputs (n, T, K) or (n, K, T), got the ambiguous shape {tuple(outputs.shape)}; "
                "pass PerformanceProbe(score=...)"
            )
        outputs = outputs.movedim(1, -1)
    if outputs.shape[:-1] != targets.shape:
        raise ValueError(
            "Expected outputs (n, K) with targets (n,), or (n, T, K) or (n, K, T) with (n, T), got outputs of shape "
            f"{tuple(outputs.shape)} and integer targets of shape {tuple(targets.shape)}; change the targets, or pass "
            "PerformanceProbe(score=...)"
        )
    counted = targets != IGNORED
    wrong = counted & ((targets < 0) | (targets >= outputs.shape[-1]))
    if holds(wrong.any()):
        raise ValueError(
            f"Expected classes from 0 to {outputs.shape[-1] - 1} for outputs of shape {tuple(outputs.shape)}, or "
            f"{IGNORED} where there is no target, got the target {targets[wrong][0].item()}; change the targets, or "
            "pass PerformanceProbe(score=...)"
        )
    if has_queue(targets.device):  # a GPU would abort before the condition is read
        targets = targets.masked_fill(wrong, IGNORED)
    loss = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none", ignore_index=IGNORED)
    columns = loss.view(targets.shape), outputs.argmax(-1) == targets, counted
    return torch.stack([column if column.ndim == 1 else column.reshape(n, -1).sum(1) for column in columns], 1)


def _regression(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.numel() != targets.numel() or not _one_flattens_the_other(outputs.shape[1:], targets.shape[1:]):
        raise ValueError(
            f"Expected one output for each floating-point target, in the same order, got outputs of shape "
            f"{tuple(outputs.shape)} and targets of shape {tuple(targets.shape)}; change the targets, or pass class "
            "labels as integers: targets.long()"
        )
    dtype = torch.promote_types(outputs.dtype, targets.dtype) if targets.is_complex() else outputs.dtype
    error = (outputs.reshape(len(outputs), -1) - targets.reshape(len(outputs), -1).to(dtype)).abs() ** 2
    one = torch.ones_like(error[:, 0])
    return torch.stack([error.mean(1), torch.full_like(one, torch.nan), one], 1)


def _one_flattens_the_other(one: torch.Size, other: torch.Size) -> bool:
    """Return whether two shapes of equal size have the same numbers at the same places, up to flattened axes."""
    ends, others = (set(accumulate(shape, mul, initial=1)) for shape in (one, other))
    return ends <= others or others <= ends
