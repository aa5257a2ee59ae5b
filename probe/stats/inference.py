"""What a set of runs says: rank correlations, areas under the curve, means and medians, with their intervals.

Runs are the unit: every interval is over runs, none over the steps of one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq

from probe.stats.censored import median_bounds, order_interval

PER_DECADE = 24  # observations that a dense log is averaged to: twice as many as are recorded by default
LEAST_RUNS = 3  # for an interval: with 2 the t-law has one degree of freedom
_LEAST_PAIRS = 4  # observations for a rank correlation
_EXACT = 100  # runs up to which the permutation law is counted out


class Estimate(NamedTuple):
    """A number with its interval over runs; NaN where there are too few."""

    value: float
    lower: float
    upper: float
    n: int

    @property
    def differs(self) -> np.int8:
        """Flag: whether the interval leaves 0 out; -1 without an interval."""
        return self._flag(self.lower > 0 or self.upper < 0)

    @property
    def positive(self) -> np.int8:
        """Flag: whether the interval lies above 0; -1 without an interval."""
        return self._flag(self.lower > 0)

    def _flag(self, holds: bool) -> np.int8:
        return np.int8(-1 if np.isnan(self.lower) or np.isnan(self.upper) else holds)


class Separation(NamedTuple):
    """Area under the curve, its interval, and the exact two-sided permutation p-value."""

    auc: float
    lower: float
    upper: float
    p_value: float
    n_runs: int
    n_controls: int


def tau_b(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b, -1 to 1; NaN with fewer than 4 pairs, or if one of the two is constant."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(a) < _LEAST_PAIRS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(stats.kendalltau(a, b).statistic)


def thinned(steps: ArrayLike, values: ArrayLike, per_decade: int = PER_DECADE) -> tuple[np.ndarray, np.ndarray]:
    """Averages of observations closer than ``1 / per_decade`` on ``log10(step + 1)``, at the last step of each."""
    s, v = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    _, place = np.unique(np.floor(np.log10(s + 1) * per_decade), return_inverse=True)
    last = np.flatnonzero(np.diff(place, append=-1))
    return s[last], np.bincount(place, weights=v) / np.bincount(place)


def change_correlation(steps: ArrayLike, a: ArrayLike, b: ArrayLike, *, per_decade: int = PER_DECADE) -> float:
    """Kendall's tau-b of the changes of two curves from one observation to the next.

    Two curves that both fall are correlated in their levels, whatever they have to do with each other; their changes
    are not. Observations that are closer than ``1 / per_decade`` on ``log10(step + 1)`` are averaged first, since the
    change between neighbours in a dense log is nothing but noise.

    Parameters
    ----------
    steps, a, b : array of shape (n,)
        Common steps; the curves in any unit.

    Returns
    -------
    float
        -1 to 1; NaN with fewer than 4 changes, or if one of the curves changes by the same amount everywhere.
    """
    means = [thinned(steps, curve, per_decade)[1] for curve in (a, b)]
    return tau_b(np.diff(means[0]), np.diff(means[1]))


def mean_interval(values: ArrayLike, level: float) -> Estimate:
    """Mean over runs with its t interval; NaN values are left out, and ``n`` says how many were not."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    n = len(known)
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    mean = float(known.mean())
    if n < LEAST_RUNS:
        return Estimate(mean, np.nan, np.nan, n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * known.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


def median_interval(low: ArrayLike, high: ArrayLike, level: float) -> Estimate:
    """Median over runs of values known to lie between bounds, with the interval of order statistics.

    The value is NaN if it hangs on a value that is only known by a bound; the interval is infinite on that side. It is
    NaN where there are too few runs for the level (below 6 for .95). See :func:`probe.stats.median_step`.
    """
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    if len(low) == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    least, most = median_bounds(low, high)
    lower, upper, coverage = order_interval(low, high, level)
    if coverage == 1.0:
        lower = upper = np.nan
    return Estimate(least if least == most else np.nan, lower, upper, len(low))


def separation(runs: ArrayLike, controls: ArrayLike, *, level: float = 0.95) -> Separation:
    """Whether a number tells runs from controls: the area under the curve, ``P(run > control) + P(tie) / 2``.

    Above .5 the number is larger in the runs, below .5 it is smaller. The p-value is two-sided and exact, ties
    included: the share of all ways to call as many of the values "runs" whose area is as far from .5. With more than
    100 values it is the normal approximation. The interval is Newcombe's (2006, method 5: variances after Hanley and
    McNeil 1982, at the bound instead of the estimate), which does not shrink to a point where the area is 1.

    Parameters
    ----------
    runs, controls : array of shape (n,)
        Values that are not finite are left out.

    Returns
    -------
    Separation
        NaN without runs or without controls.
    """
    a, b = (np.asarray(values, dtype=float) for values in (runs, controls))
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    m, n = len(a), len(b)
    if not m or not n:
        return Separation(*4 * (np.nan,), m, n)
    ranks = stats.rankdata(np.concatenate([a, b]))
    auc = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    if m + n > _EXACT:
        p = float(stats.mannwhitneyu(a, b, method="asymptotic").pvalue)
    else:
        p = _permutation_p(np.rint(2 * ranks).astype(int), m)
    return Separation(auc, *_newcombe(auc, m, n, level), p, m, n)


def _permutation_p(ranks: np.ndarray, m: int) -> float:
    """Share of the subsets of m (doubled, whole) ranks with a sum as far from its mean as that of the first m."""
    total = int(ranks.sum())
    ways = np.zeros((m + 1, total + 1))  # subsets by size and sum
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] = ways[1:, rank:] + ways[:-1, :-rank]
    far = np.abs(np.arange(total + 1) - total * m / len(ranks))
    seen = abs(ranks[:m].sum() - total * m / len(ranks))
    return float(ways[m, far >= seen - 1e-9].sum() / ways[m].sum())


def _newcombe(auc: float, m: int, n: int, level: float) -> tuple[float, float]:
    z, half = stats.norm.ppf((1 + level) / 2), (m + n) / 2

    def lower(area: float) -> float:
        def excess(theta: float) -> float:
            spread = 2 * half - 1 - (3 * half - 3) / ((2 - theta) * (1 + theta))
            return float(area - theta - z * np.sqrt(theta * (1 - theta) * spread / (m * n)))

        # At an area of 1 the estimate itself is a root, with no spread: the other one is meant.
        return float(brentq(excess, 0.0, min(area, 1 - 1e-9))) if area > 0 else 0.0

    return lower(auc), 1 - lower(1 - auc)


def leave_one_out(clock: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Absolute errors (run,) of a prediction of each run from the others: its clock plus their mean distance.

    Both on ``log10(step + 1)``, so that the prediction is a constant multiple of the clock. A clock of zeros predicts
    the mean of the others.
    """
    distance = np.asarray(truth, dtype=float) - np.asarray(clock, dtype=float)
    others = (distance.sum() - distance) / (len(distance) - 1)
    return np.asarray(np.abs(distance - others))
