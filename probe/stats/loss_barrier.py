"""Barriers of a loss on a line between two networks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.validation import as_numbers


class LossBarriers(NamedTuple):
    """Two definitions of a barrier, at least 0, in units of the loss. Arrays of the shape of the losses at one point.

    Attributes
    ----------
    line
        Largest rise above the straight line between the losses at both ends (Frankle et al. 2020; arXiv:2505.13900,
        equation 5).
    ends
        Largest rise above the larger loss of both ends. It is not above ``line``.
    """

    line: np.ndarray
    ends: np.ndarray


def loss_barriers(losses: ArrayLike) -> LossBarriers:
    """Return the barriers of losses at evenly spaced points of a line between two networks.

    Parameters
    ----------
    losses : array of shape (n, ...)
        Losses at n points, the first and the last one at the ends of the line. Further axes are other losses, such as
        those of several splits. NaN is a missing loss, and its barriers are NaN.

    Returns
    -------
    LossBarriers

    Raises
    ------
    ValueError
        With fewer than two points.

    See Also
    --------
    probe.ChaosProbe : Measures the losses between an unperturbed and a perturbed training.

    Notes
    -----
    Losses between two networks with batch norm need statistics that are estimated again at each point. ``ChaosProbe``
    estimates them.

    Examples
    --------
    >>> from probe.stats import loss_barriers
    >>> found = loss_barriers([1.0, 3.5, 2.0, 2.5, 3.0])  # 1.5 and 3 at the second point, on the line and at the end
    >>> print(found.line, found.ends)
    2.0 0.5
    """
    values = as_numbers("losses", losses)
    if values.ndim < 1 or len(values) < 2:
        raise ValueError(
            f"Expected losses at 2 or more points, got shape {values.shape}; include both ends of the line"
        )
    weights = np.linspace(0, 1, len(values)).reshape(-1, *[1] * (values.ndim - 1))
    with np.errstate(invalid="ignore"):  # infinite losses
        line = (values - (1 - weights) * values[0] - weights * values[-1]).max(0)
        ends = values.max(0) - np.maximum(values[0], values[-1])
    return LossBarriers(np.maximum(line, 0), np.maximum(ends, 0))
