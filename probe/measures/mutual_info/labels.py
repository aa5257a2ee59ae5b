"""Labels for the rows that are measured, from the targets of a split."""

import warnings

import torch
from torch import Tensor

from probe.information.bins import quantile_bins


def row_targets(targets: Tensor | None, n: int, *, by_position: bool) -> Tensor | None:
    """One target for each of ``n`` rows; None, with a warning, if that cannot be.

    Parameters
    ----------
    targets
        One for each row in all; or, where positions are rows (``by_position``), one for each input, which all of its
        positions have.
    """
    if targets is None:
        return None
    flat = targets.flatten()
    if by_position and len(flat) and n % len(flat) == 0:
        return flat.repeat_interleave(n // len(flat))
    if len(flat) == n:
        return flat
    if not targets.is_floating_point():
        warnings.warn(
            f"no information about the labels: there are {len(flat)} of them for {n} rows; with a label for each "
            'position, measure positions: MutualInfoProbe(reduce="tokens")',
            RuntimeWarning,
            stacklevel=2,
        )
    return None


def class_labels(targets: Tensor | None, bins: int | None) -> Tensor | None:
    """Integers as they are; real numbers in ``bins`` equally full classes, or None if that is not asked for."""
    if targets is None or not targets.is_floating_point():
        return targets
    if bins is None:
        return None
    if not torch.isfinite(targets).all():
        raise ValueError("targets hold NaN or infinite values; they cannot be cut into target_bins classes")
    return quantile_bins(targets[:, None], bins)[:, 0]
