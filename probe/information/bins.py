"""Rules that convert activations (n, d) to integer bins (n, d) for :mod:`probe.information.binned`.

The width of a bin is the resolution of the measurement, so it is part of the quantity. Bins of a fixed width or range
depend on the scale of the activations. Quantile bins, and equal bins between the extremes of each unit, do not.
"""

import torch
from torch import Tensor

from probe.information.arguments import check_count, check_positive
from probe.information.validation import as_finite, as_rows

EARLY_EDGES = 30  # of the early information-plane code, equally spaced on [-1, 1]


def width_bins(activations: Tensor, width: float) -> Tensor:
    """Bins [k width, (k+1) width) for each integer k, the same for all units.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    width : float
        Width of a bin, in units of the activations.

    Returns
    -------
    int64 Tensor of shape (n, d)
        The number k of the bin.

    Raises
    ------
    ValueError
        If ``width`` is not positive, or if a bin number reaches 2^62.

    See Also
    --------
    equal_bins : A fixed number of bins between the extremes of each unit.
    quantile_bins : Bins that hold equally many rows.

    Examples
    --------
    >>> import torch
    >>> from probe.information import width_bins
    >>> width_bins(torch.tensor([[-1.0], [0.0], [0.49], [1.0]]), width=0.5).flatten().tolist()
    [-2, 0, 0, 2]
    """
    check_positive(width, "width", "a width in units of the activations")
    bins = (as_rows(activations) / width).floor()
    if bins.abs().max() >= 2**62:
        raise ValueError(
            f"Expected bin numbers below 2^62, got width {width} for activations of up to "
            f"{activations.abs().max().item():.3g}; pass a larger width"
        )
    return bins.long()


def equal_bins(activations: Tensor, n_bins: int, *, low: float | None = None, high: float | None = None) -> Tensor:
    """Bins of equal width between the minimum and the maximum of each unit, or on [low, high).

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    n_bins : int
        Number of bins of each unit.
    low, high : float, optional
        One range for all units, in units of the activations. Values below it are in bin -1, values from ``high``
        upwards are in bin ``n_bins``.

    Returns
    -------
    int64 Tensor of shape (n, d)
        0, ..., n_bins - 1 within the range. A constant unit is in bin 0.

    Raises
    ------
    ValueError
        If ``n_bins`` is less than 1, if only one of ``low`` and ``high`` is given, or if ``low >= high``.

    See Also
    --------
    width_bins : Bins of a given width.
    quantile_bins : Bins that hold equally many rows.

    Examples
    --------
    >>> import torch
    >>> from probe.information import equal_bins
    >>> activations = torch.tensor([[-1.0], [0.0], [0.49], [1.0]])
    >>> equal_bins(activations, 4).flatten().tolist()
    [0, 2, 2, 3]
    >>> equal_bins(activations, 2, low=0, high=1).flatten().tolist()
    [-1, 0, 0, 2]
    """
    rows = _rows_to_bin(activations, n_bins)
    if low is None and high is None:
        span = rows.amax(0) - rows.amin(0)
        scaled = (rows - rows.amin(0)) / torch.where(span > 0, span, 1) * n_bins
        return scaled.long().clamp_(max=n_bins - 1)  # the maximum belongs to the last bin
    if low is None or high is None or not low < high:
        raise ValueError(f"Expected low < high, got low={low}, high={high}; pass both, or neither")
    return ((rows - low) * (n_bins / (high - low))).floor().clamp_(-1, n_bins).long()


def quantile_bins(activations: Tensor, n_bins: int) -> Tensor:
    """Bins of each unit that hold equally many rows, as far as ties allow.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    n_bins : int
        Number of bins of each unit, at most n.

    Returns
    -------
    int64 Tensor of shape (n, d)
        0, ..., n_bins - 1. Equal values are always in the same bin.

    Raises
    ------
    ValueError
        If ``n_bins`` is less than 1.

    See Also
    --------
    equal_bins : Bins of equal width.

    Examples
    --------
    >>> import torch
    >>> from probe.information import quantile_bins
    >>> quantile_bins(torch.tensor([[1.0], [2.0], [30.0], [400.0]]), 2).flatten().tolist()
    [0, 0, 1, 1]
    """
    rows = _rows_to_bin(activations, n_bins)
    starts = torch.arange(1, n_bins, device=rows.device) * len(rows) // n_bins
    edges = rows.sort(dim=0).values[starts]  # (n_bins - 1, d), first value of each bin
    return torch.searchsorted(edges.T.contiguous(), rows.T.contiguous(), right=True).T


def early_code_bins(values: Tensor) -> Tensor:
    """Bins of the early information-plane code (Shwartz-Ziv and Tishby 2017, arXiv:1703.00810, public code IDNNs).

    30 equally spaced float32 edges on [-1, 1] make 29 bins of width 2/29. **All values outside share one bin**: values
    below -1 and values from 1 upwards are not distinguished. The code was made for tanh. With other activation
    functions the bins mainly measure how many values lie outside [-1, 1).

    Parameters
    ----------
    values : Tensor of any shape

    Returns
    -------
    int64 Tensor of the same shape
        0, ..., 28 inside [-1, 1), 29 outside.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.

    See Also
    --------
    weight_histogram_entropy : Entropy of these bins for weights.

    Examples
    --------
    >>> import torch
    >>> from probe.information import early_code_bins
    >>> early_code_bins(torch.tensor([-1.0, 0.0, 0.99, 1.0, -7.0])).tolist()
    [0, 14, 28, 29, 29]
    """
    finite = as_finite(values)
    edges = torch.linspace(-1, 1, EARLY_EDGES, dtype=torch.float64).float().double().to(values.device)
    return (torch.bucketize(finite, edges, right=True) - 1) % EARLY_EDGES  # -1 (below) becomes the last bin


def _rows_to_bin(activations: Tensor, n_bins: int) -> Tensor:
    check_count(n_bins, "n_bins", 1, 2**31)
    return as_rows(activations)
