"""Agreement of paired values: orthogonal regression and Lin's concordance correlation."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats.validation import as_vectors, check_level

LEAST_RUNS = 3


class Line(NamedTuple):
    """Line of least orthogonal distance.

    Attributes
    ----------
    slope : float
    lower, upper : float
        Confidence interval of the slope; a bound is infinite where the interval reaches the vertical.
    intercept : float
    slope_ols : float
        Slope of ordinary least squares of y on x.
    """

    slope: float
    lower: float
    upper: float
    intercept: float
    slope_ols: float


class Concordance(NamedTuple):
    """Lin's concordance correlation with its confidence interval.

    Attributes
    ----------
    value : float
        -1 to 1.
    lower, upper : float
    """

    value: float
    lower: float
    upper: float


def orthogonal_line(x: ArrayLike, y: ArrayLike, *, level: float = 0.9) -> Line:
    """Fit the line of least orthogonal distance (orthogonal regression).

    The angle theta has the interval ``theta +- arcsin(q) / 2`` with ``q = 2 t sqrt((Sxx Syy - Sxy^2) / (n - 2)) /
    sqrt((Sxx - Syy)^2 + 4 Sxy^2)`` (Creasy 1956). It is exact for normal errors of equal size on both axes, because
    the coordinates along and across the true line are uncorrelated, and t tests this correlation.

    Parameters
    ----------
    x, y : array of shape (n,)
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Line
        All fields are NaN with n < 3, or if x has no spread.

    Examples
    --------
    >>> from probe.stats import orthogonal_line
    >>> line = orthogonal_line([1, 2, 3, 4], [3, 5, 7, 9])
    >>> print(f"{line.slope:.1f} {line.intercept:.1f}")
    2.0 1.0
    """
    x, y = as_vectors(x=x, y=y)
    check_level(level)
    n = len(x)
    if n < LEAST_RUNS or np.ptp(x) == 0:
        return Line(*5 * (np.nan,))
    (sxx, sxy), (_, syy) = np.cov(x, y, ddof=0) * n  # sums
    size = np.hypot(sxx - syy, 2 * sxy)
    angle = np.arctan2(2 * sxy, sxx - syy) / 2
    slope = float(np.tan(angle))
    t = stats.t.ppf((1 + level) / 2, n - 2)
    sine = 2 * t * np.sqrt(max(sxx * syy - sxy**2, 0.0) / (n - 2))  # negative by rounding only
    half = np.arcsin(sine / size) / 2 if sine < size else np.pi
    lower = float(np.tan(angle - half)) if angle - half > -np.pi / 2 else -np.inf
    upper = float(np.tan(angle + half)) if angle + half < np.pi / 2 else np.inf
    return Line(slope, lower, upper, float(y.mean() - slope * x.mean()), float(sxy / sxx))


def concordance(x: ArrayLike, y: ArrayLike, *, level: float = 0.9) -> Concordance:
    """Estimate Lin's concordance correlation: agreement of paired values, in location and scale too.

    ``2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2)``, with moments divided by n. The interval is normal on Fisher's
    z, with the variance of Lin (1989) as corrected in Lin (2000).

    Parameters
    ----------
    x, y : array of shape (n,)
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Concordance
        All fields are NaN with n < 3, or if x or y has no spread.

    Examples
    --------
    >>> from probe.stats import concordance
    >>> print(round(concordance([1, 2, 3, 4], [2, 3, 4, 5]).value, 2))  # correlation 1, but shifted
    0.71
    """
    x, y = as_vectors(x=x, y=y)
    check_level(level)
    n = len(x)
    if n < LEAST_RUNS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Concordance(*3 * (np.nan,))
    (sxx, sxy), (_, syy) = np.cov(x, y, ddof=0)
    shift2 = (x.mean() - y.mean()) ** 2 / np.sqrt(sxx * syy)  # u^2 of Lin
    bias = 2 * np.sqrt(sxx * syy) / (sxx + syy + (x.mean() - y.mean()) ** 2)  # C_b
    r = sxy / np.sqrt(sxx * syy)
    c = float(r * bias)
    if 1 - c**2 < 1e-12:  # y = x, or y = -x around one mean
        return Concordance(c, c, c)
    room = 1 - c**2
    # Lin's formula divides by r; here c / r is replaced by C_b, which is finite at r = 0.
    variance = (1 - r**2) * bias**2 / room + 2 * bias * c**2 * (1 - c) * shift2 / room**2
    variance -= bias**2 * c**2 * shift2**2 / (2 * room**2)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(max(variance, 0.0) / (n - 2))
    return Concordance(c, float(np.tanh(np.arctanh(c) - half)), float(np.tanh(np.arctanh(c) + half)))
