"""Continuous straight pieces with one knot or two ("broken stick"), fitted for all places of the knots at once."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from probe.stats.validation import as_vectors, check_count

# Most candidates for the knots, see _candidates: the memory for pairs of knots is 8 MB per array.
MAX_KNOTS = 1000
# A hinge counts as collinear with the line if its orthogonal part has less than this share of its sum of squares. Sums
# of float64 are exact to some 1e-13, so that larger shares are no rounding.
_COLLINEAR = 1e-9


@dataclass(frozen=True, eq=False)
class SegmentedFit:
    """Least-squares fits of continuous pieces with one knot or two, for all places of the knots.

    Attributes
    ----------
    knots : integer array of shape (k,)
        Indices of the observations that are candidates for a knot.
    pairs : integer array of shape (2, p)
        First and second of two knots, as positions in ``knots``.
    rss0 : float
        Residual sum of squares without a knot.
    rss1 : array of shape (k,)
        Residual sum of squares with one knot.
    rss2 : array of shape (p,)
        Residual sum of squares with two knots; infinite where rounding cannot distinguish them.
    slopes : array of shape (3, p)
        Slopes of the three pieces, in units of y per unit of x.
    """

    knots: np.ndarray
    pairs: np.ndarray
    rss0: float
    rss1: np.ndarray
    rss2: np.ndarray
    slopes: np.ndarray


def segmented_fit(
    x: np.ndarray, y: np.ndarray, *, min_size: int = 3, max_knots: int = MAX_KNOTS, flat_start: bool = False
) -> SegmentedFit:
    """Fit ``a + s x + b (x - x_i)_+ + c (x - x_k)_+`` for all pairs of knots i < k by least squares.

    The hinges are made orthogonal to the line first. Sums over the observations right of a knot are differences of
    prefix sums, so that the work is O(n + knots^2) operations.

    Parameters
    ----------
    x, y : array of shape (n,)
        Increasing x; both finite.
    min_size : int
        Fewest observations of a piece.
    max_knots : int
        Most candidates for the knots.
    flat_start : bool
        Fix the slope s of the first piece at 0.

    Returns
    -------
    SegmentedFit

    See Also
    --------
    piecewise_linear : Choice of the number of pieces.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import segmented_fit
    >>> x = np.arange(20.0)
    >>> fit = segmented_fit(x, np.maximum(x - 8, 0))
    >>> int(fit.knots[fit.rss1.argmin()])
    8
    """
    x, y = as_vectors(x=x, y=y)
    check_count("min_size", min_size, 1)
    check_count("max_knots", max_knots, 2)
    if len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError(f"Expected at least 2 observations with increasing x, got {len(x)}; sort them by x")
    width = np.ptp(x)
    u = (x - x.mean()) / width
    knots = _candidates(u, min_size, max_knots)
    at, norm = u[knots], float(np.sqrt(u @ u))
    slope = 0.0 if flat_start else float(u @ y) / norm**2
    r = y - y.mean() - slope * u
    a0, a1, a2, b0, b1 = (_from(knots, w) for w in (np.ones_like(u), u, u * u, r, u * r))
    mean, tilt = (a1 - at * a0) / np.sqrt(len(u)), (a2 - at * a1) / norm * (not flat_start)
    raw, along = a2 - 2 * at * a1 + at**2 * a0, b1 - at * b0
    own = raw - mean**2 - tilt**2
    real = own > _COLLINEAR * raw  # a hinge that is only rounding decreases no sum of squares
    rss0 = float(r @ r)
    rss1 = rss0 - np.divide(along**2, own, out=np.zeros_like(own), where=real)
    i, k = pairs = _pairs(len(knots), max(min_size - 1, 1))
    # Both hinges act right of the later knot k.
    both = a2[k] - (at[i] + at[k]) * a1[k] + at[i] * at[k] * a0[k] - mean[i] * mean[k] - tilt[i] * tilt[k]
    det = own[i] * own[k] - both**2
    solvable = real[i] & real[k] & (det > _COLLINEAR * own[i] * own[k])
    det = np.where(solvable, det, np.inf)
    bend1, bend2 = (along[i] * own[k] - both * along[k]) / det, (own[i] * along[k] - both * along[i]) / det
    rss2 = np.where(solvable, rss0 - bend1 * along[i] - bend2 * along[k], np.inf)
    first = slope - (bend1 * tilt[i] + bend2 * tilt[k]) / norm
    slopes = np.stack([first, first + bend1, first + bend1 + bend2]) / width
    return SegmentedFit(knots, pairs, rss0, rss1, rss2, slopes)


@lru_cache(maxsize=8)
def _pairs(n_knots: int, apart: int) -> np.ndarray:
    pairs = np.array(np.triu_indices(n_knots, apart))
    pairs.setflags(write=False)  # shared by all callers
    return pairs


def _candidates(u: np.ndarray, min_size: int, max_knots: int) -> np.ndarray:
    """Return the candidates for the knots: all inner observations, or ``max_knots`` of them.

    A subset is spread evenly over the sum of two scales: distance in x, and number of observations.
    """
    inner = np.arange(min_size - 1, len(u) - min_size + 1)
    if len(inner) <= max_knots:
        return inner
    place = u[inner] - u[inner[0]]
    place = place / place[-1] + np.linspace(0, 1, len(inner))
    return inner[np.unique(np.searchsorted(place, np.linspace(0, 2, max_knots)))]


def _from(knots: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sum of the weights from each knot to the end."""
    return np.cumsum(weights[::-1])[::-1][knots]
