"""Agreement of two paired variables: orthogonal regression and Lin's concordance correlation."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEAST_RUNS = 3


class Line(NamedTuple):
    """Orthogonal line on log10(step + 1): slope, its interval, intercept; beside it the slope of least squares."""

    slope: float
    lower: float
    upper: float
    intercept: float
    slope_ols: float


class Concordance(NamedTuple):
    """Lin's concordance correlation with its interval."""

    value: float
    lower: float
    upper: float


def orthogonal_line(x: ArrayLike, y: ArrayLike, *, level: float = 0.9) -> Line:
    """Line of least orthogonal distance, and the slope of least squares of y on x.

    The angle has the interval ``theta +- arcsin(q) / 2``, ``q = 2 t sqrt((Sxx Syy - Sxy^2) / (n - 2)) / sqrt((Sxx -
    Syy)^2 + 4 Sxy^2)`` (Creasy 1956), exact for normal errors of one size on both axes: along and across the true
    line there is no correlation, and t tests that.

    Parameters
    ----------
    x, y : array of shape (n,)
    level : float

    Returns
    -------
    Line
        A bound is infinite where the interval reaches the vertical; all are NaN with n < 3 or without any spread.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(x)
    if n < LEAST_RUNS or np.ptp(x) == 0:
        return Line(*5 * (np.nan,))
    (sxx, sxy), (_, syy) = np.cov(x, y, ddof=0) * n  # sums
    size = np.hypot(sxx - syy, 2 * sxy)
    angle = np.arctan2(2 * sxy, sxx - syy) / 2
    slope = float(np.tan(angle))
    t = stats.t.ppf((1 + level) / 2, n - 2)
    sine = 2 * t * np.sqrt(max(sxx * syy - sxy**2, 0.0) / (n - 2))  # below 0 by rounding only
    half = np.arcsin(sine / size) / 2 if sine < size else np.pi
    lower = float(np.tan(angle - half)) if angle - half > -np.pi / 2 else -np.inf
    upper = float(np.tan(angle + half)) if angle + half < np.pi / 2 else np.inf
    return Line(slope, lower, upper, float(y.mean() - slope * x.mean()), float(sxy / sxx))


def concordance(x: ArrayLike, y: ArrayLike, *, level: float = 0.9) -> Concordance:
    """Lin's concordance correlation ``2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2)`` with an interval.

    The interval is normal on Fisher's z, with the variance of Lin (1989) as corrected in Lin (2000); moments are
    divided by n.

    Parameters
    ----------
    x, y : array of shape (n,)
    level : float

    Returns
    -------
    Concordance
        NaN with n < 3, or if x or y has no spread.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
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
    # Lin divides by r what here is c / r = C_b, which is finite at r = 0.
    variance = (1 - r**2) * bias**2 / room + 2 * bias * c**2 * (1 - c) * shift2 / room**2
    variance -= bias**2 * c**2 * shift2**2 / (2 * room**2)
    half = stats.norm.ppf((1 + level) / 2) * np.sqrt(max(variance, 0.0) / (n - 2))
    return Concordance(c, float(np.tanh(np.arctanh(c) - half)), float(np.tanh(np.arctanh(c) + half)))
