"""Labels for the rows that are measured, from the targets of a split."""

import torch
from torch import Tensor

from probe.errors import warn_user
from probe.information.bins import quantile_bins
from probe.layer_probe import row_targets


def targets_or_warning(targets: Tensor | None, n: int, *, by_position: bool) -> Tensor | None:
    """Return one target for each of ``n`` rows, see :func:`probe.layer_probe.row_targets`.

    Warns of integer targets that do not fit the rows, and returns None.
    """
    found = row_targets(targets, n, by_position=by_position)
    if targets is not None and found is None and not targets.is_floating_point():
        warn_user(
            f"Expected one label for each of {n} rows, got {targets.numel()}; the information about the labels is not "
            'measured. If each position has a label, measure positions: MutualInfoProbe(reduce="tokens")'
        )
    return found


def class_labels(targets: Tensor | None, bins: int | None) -> Tensor | None:
    """Return integer targets unchanged, and real ones in ``bins`` classes of equal size; None if ``bins`` is None."""
    if targets is None or not targets.is_floating_point():
        return targets
    if bins is None:
        return None
    if not torch.isfinite(targets).all():
        raise ValueError(
            "Expected finite targets for target_bins, got NaN or infinite values; remove these rows, or pass "
            "target_bins=None"
        )
    return quantile_bins(targets[:, None], bins)[:, 0]
