"""Rules that turn activations into bins, (n, d) real -> (n, d) integers, for :mod:`probe.information.binned`.

The bin is the resolution at which a layer is read, so it is part of the quantity. A fixed width or range follows the
scale of the activations; quantiles, and equal bins between the extremes of each unit, do not.
"""

import torch
from torch import Tensor

from probe.information.discrete import finite, rows

EARLY_EDGES = 30  # of the early information-plane code, equally spaced on [-1, 1]


def width_bins(z: Tensor, width: float) -> Tensor:
    """Bins [k width, (k+1) width) for every integer k, the same in all units.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    width
        In units of the activations.
    """
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    bins = (rows(z) / width).floor()
    if bins.abs().max() >= 2**62:
        raise ValueError(f"width {width} is too fine for activations of up to {z.abs().max().item():.3g}")
    return bins.long()


def equal_bins(z: Tensor, count: int, *, low: float | None = None, high: float | None = None) -> Tensor:
    """``count`` bins of equal width between the least and the greatest value of each unit, or on [low, high).

    Parameters
    ----------
    z : Tensor of shape (n, d)
    count
        Number of bins of a unit.
    low, high
        A range for all units. Nothing is clipped into it: what lies below is bin -1, what lies above is bin ``count``.

    Notes
    -----
    A unit that is constant is in bin 0 throughout.
    """
    z, edge = _counted(z, count), [low, high]
    if edge == [None, None]:
        span = z.amax(0) - z.amin(0)
        return ((z - z.amin(0)) / torch.where(span > 0, span, 1) * count).long().clamp_(max=count - 1)  # the maximum
    if low is None or high is None or not low < high:
        raise ValueError(f"a range needs low < high, got low={low}, high={high}")
    return ((z - low) * (count / (high - low))).floor().clamp_(-1, count).long()


def quantile_bins(z: Tensor, count: int) -> Tensor:
    """``count`` equally full bins in each unit, as far as ties allow: equal values are never parted.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    count
        Number of bins of a unit, at most n.
    """
    z = _counted(z, count)
    starts = torch.arange(1, count, device=z.device) * len(z) // count
    edges = z.sort(dim=0).values[starts]  # (count - 1, d), first value of each bin
    return torch.searchsorted(edges.T.contiguous(), z.T.contiguous(), right=True).T


def early_code_bins(z: Tensor) -> Tensor:
    """Bins of the early information-plane code (Shwartz-Ziv and Tishby 2017, arXiv:1703.00810, public code IDNNs).

    30 equally spaced edges on [-1, 1], in float32, make 29 bins of width 2/29. **Everything outside is one bin**:
    below -1 and from 1 upwards are not told apart. Made for tanh; on other activations it measures how many lie
    outside.

    Parameters
    ----------
    z : Tensor of any shape

    Returns
    -------
    int64 Tensor of the same shape
        0, ..., 28 inside, 29 outside.
    """
    edges = torch.linspace(-1, 1, EARLY_EDGES, dtype=torch.float64).float().double().to(z.device)
    return (torch.bucketize(finite(z), edges, right=True) - 1) % EARLY_EDGES  # -1, below, is the last bin too


def _counted(z: Tensor, count: int) -> Tensor:
    if count < 1:
        raise ValueError(f"count must be at least 1 bin, got {count}")
    return rows(z)
