"""Inference over runs: rank correlations, areas under the ROC curve, means and medians, with intervals.

The run is the unit of all intervals; no interval is over the steps of a run.
"""

from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq

from probe.stats.censored import median_bounds, order_interval
from probe.stats.validation import as_vectors, check_bounds, check_count, check_level

PER_DECADE = 24  # observations per decade after averaging: twice as many as the default schedule records
LEAST_RUNS = 3  # for an interval: with 2 runs the t distribution has one degree of freedom
_LEAST_PAIRS = 4  # for a rank correlation: with 3, the least p-value is 1/3
_EXACT = 100  # most runs for the exact permutation distribution: 0.1 s at 100


class Estimate(NamedTuple):
    """A number with its confidence interval over independent units, such as runs or segments.

    Attributes
    ----------
    value : float
    lower, upper : float
        NaN if there are too few units.
    n : int
        Number of units.
    """

    value: float
    lower: float
    upper: float
    n: int

    @property
    def differs(self) -> np.int8:
        """Return the flag 1 if the interval excludes 0, 0 if not, -1 without an interval."""
        return self._flag(self.lower > 0 or self.upper < 0)

    @property
    def positive(self) -> np.int8:
        """Return the flag 1 if the interval lies above 0, 0 if not, -1 without an interval."""
        return self._flag(self.lower > 0)

    def _flag(self, holds: bool) -> np.int8:
        return np.int8(-1 if np.isnan(self.lower) or np.isnan(self.upper) else holds)


class Separation(NamedTuple):
    """Area under the ROC curve (AUC) of runs against controls.

    Attributes
    ----------
    auc : float
        0 to 1; 0.5 is no separation.
    lower, upper : float
        Confidence interval.
    p_value : float
        Two-sided, of a permutation test.
    n_runs, n_controls : int
    """

    auc: float
    lower: float
    upper: float
    p_value: float
    n_runs: int
    n_controls: int


def tau_b(x: ArrayLike, y: ArrayLike) -> float:
    """Estimate Kendall's rank correlation tau-b.

    Parameters
    ----------
    x, y : array of shape (n,)

    Returns
    -------
    float
        -1 to 1; NaN with n < 4, or if x or y is constant.

    Examples
    --------
    >>> from probe.stats import tau_b
    >>> print(round(tau_b([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]), 2))
    0.8
    """
    a, b = as_vectors(x=x, y=y)
    if len(a) < _LEAST_PAIRS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(stats.kendalltau(a, b).statistic)


def thinned(steps: ArrayLike, values: ArrayLike, per_decade: int = PER_DECADE) -> tuple[np.ndarray, np.ndarray]:
    """Average observations that are closer than ``1 / per_decade`` on ``log10(step + 1)``.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Increasing steps, at least 0.
    per_decade : int
        Most observations per decade.

    Returns
    -------
    steps, values : array of shape (m,)
        Last step and mean of each interval that has an observation.

    Examples
    --------
    >>> from probe.stats import thinned
    >>> steps, values = thinned([0, 1, 98, 99, 100], [5, 4, 3, 2, 1], per_decade=10)
    >>> print(steps, values)
    [  0.   1.  98. 100.] [5.  4.  3.  1.5]
    """
    s, v = as_vectors(steps=steps, values=values)
    check_count("per_decade", per_decade, 1)
    if not ((s >= 0).all() and np.isfinite(s).all() and (np.diff(s) >= 0).all()):
        raise ValueError(
            "Expected finite, increasing steps of at least 0, got other ones; sort the observations by step"
        )
    _, place = np.unique(np.floor(np.log10(s + 1) * per_decade), return_inverse=True)
    last = np.flatnonzero(np.diff(place, append=-1))
    return s[last], np.bincount(place, weights=v) / np.bincount(place)


def change_correlation(steps: ArrayLike, a: ArrayLike, b: ArrayLike, *, per_decade: int = PER_DECADE) -> float:
    """Estimate Kendall's tau-b of the changes of two curves from one observation to the next.

    The levels of two decreasing curves are correlated even if the curves are unrelated; their changes are not. The
    curves are averaged by :func:`thinned` first, because changes between neighbours in a dense log are mostly noise.

    Parameters
    ----------
    steps, a, b : array of shape (n,)
        Common steps; the curves have any units.
    per_decade : int
        Most observations per decade.

    Returns
    -------
    float
        -1 to 1; NaN with fewer than 4 changes, or if all changes of a curve are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import change_correlation
    >>> steps, wave = 10.0 ** np.arange(6), np.array([0, 1, 0, 1, 0, 1])
    >>> print(change_correlation(steps, wave, -wave))
    -1.0
    """
    means = [thinned(steps, curve, per_decade)[1] for curve in (a, b)]
    return tau_b(np.diff(means[0]), np.diff(means[1]))


def mean_interval(values: ArrayLike, level: float) -> Estimate:
    """Estimate the mean over runs, with its t interval.

    Parameters
    ----------
    values : array of shape (n,)
        NaN and infinite values are dropped.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Estimate
        ``n`` is the number of finite values; the interval is NaN with fewer than 3 of them.

    Examples
    --------
    >>> from probe.stats import mean_interval
    >>> found = mean_interval([1, 2, 4], level=0.9)
    >>> print(f"{found.value:.2f} [{found.lower:.2f}, {found.upper:.2f}]")
    2.33 [-0.24, 4.91]
    """
    (known,) = as_vectors(values=values)
    check_level(level)
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
    """Estimate the median over runs of values that lie between bounds, with an interval from order statistics.

    Parameters
    ----------
    low, high : array of shape (n,)
        Bounds of each value: equal for an observed value, infinite on the open side of a censored one.
    level : float
        Least coverage of the interval, in (0, 1).

    Returns
    -------
    Estimate
        The value is NaN if it falls on a censored value, and the interval is infinite on that side. The interval is
        NaN with too few runs for the level (fewer than 6 for 0.95).

    See Also
    --------
    median_step : The same for markers, with a status.

    Examples
    --------
    >>> from probe.stats import median_interval
    >>> low = [1, 2, 3, 4, 5, 6, 7, 8]
    >>> high = [1, 2, 3, 4, 5, 6, 7, float("inf")]
    >>> print(*median_interval(low, high, level=0.9))
    4.5 2.0 7.0 8
    """
    low, high = as_vectors(low=low, high=high)
    check_level(level)
    check_bounds(low, high)
    if len(low) == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    least, most = median_bounds(low, high)
    lower, upper, coverage = order_interval(low, high, level)
    if coverage == 1.0:
        lower = upper = np.nan
    return Estimate(least if least == most else np.nan, lower, upper, len(low))


def separation(runs: ArrayLike, controls: ArrayLike, *, level: float = 0.95) -> Separation:
    """Estimate the area under the ROC curve of runs against controls: ``P(run > control) + P(tie) / 2``.

    Above 0.5 the values of the runs are larger, below 0.5 they are smaller. The p-value is two-sided and exact, with
    ties: the share of all assignments of the labels whose area is at least as far from 0.5. With more than 100 values
    it is the normal approximation. The interval is that of Newcombe (2006, method 5: variances of Hanley and McNeil
    1982, at the bound instead of the estimate), whose width is not 0 at an area of 1.

    Parameters
    ----------
    runs, controls : array of shape (n,)
        NaN and infinite values are dropped.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Separation
        All numbers are NaN without runs or without controls.

    Examples
    --------
    >>> from probe.stats import separation
    >>> found = separation([3, 4, 5, 6], [1, 2])
    >>> print(found.auc, round(found.p_value, 3))  # 2 of the 15 assignments are as extreme
    1.0 0.133
    """
    (a,), (b,) = as_vectors(runs=runs), as_vectors(controls=controls)
    check_level(level)
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


def least_p_value(m: int, n: int) -> float:
    """Return the least two-sided p-value that a permutation test of ``m`` against ``n`` units can reach.

    Of the C(m + n, m) assignments of the labels, the two extreme ones are the least likely result. Compare it with the
    size of a test before the test: 2 against 2 units reach 1/3, 3 against 3 reach 0.1, and 4 against 4 reach 0.029. If
    it is larger than the size, no data can reject the hypothesis, and the comparison is undecided.

    Parameters
    ----------
    m, n : int
        Numbers of units in both groups.

    Returns
    -------
    float
        1 if a group is empty.

    See Also
    --------
    separation : The test itself.

    Examples
    --------
    >>> from probe.stats import least_p_value
    >>> print([round(least_p_value(n, n), 3) for n in (1, 2, 3, 4)])
    [1.0, 0.333, 0.1, 0.029]
    """
    check_count("m", m, 0)
    check_count("n", n, 0)
    return min(1.0, 2 / comb(m + n, m)) if m and n else 1.0


def _permutation_p(ranks: np.ndarray, m: int) -> float:
    """Return the share of the subsets of m ranks (doubled) whose sum is as far from the mean as that of the first m."""
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

        # At an area of 1 the estimate itself is a root, with no spread; the other root is the bound.
        return float(brentq(excess, 0.0, min(area, 1 - 1e-9))) if area > 0 else 0.0

    return lower(auc), 1 - lower(1 - auc)


def leave_one_out(clock: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Return the error of a prediction of each run from the other runs: its clock plus their mean distance.

    Parameters
    ----------
    clock, truth : array of shape (run,)
        Predictor and predicted event, both on ``log10(step + 1)``: the prediction is a constant multiple of the
        clock. A clock of zeros predicts the mean of the other runs.

    Returns
    -------
    array of shape (run,)
        Absolute errors, in decades; NaN with one run.

    Examples
    --------
    >>> from probe.stats import leave_one_out
    >>> print(leave_one_out([2.0, 2.5, 3.0], [3.0, 3.5, 4.3]).round(2))
    [0.15 0.15 0.3 ]
    """
    predictor, event = as_vectors(clock=clock, truth=truth)
    if len(event) < 2:
        return np.full(len(event), np.nan)
    distance = event - predictor
    others = (distance.sum() - distance) / (len(distance) - 1)
    return np.asarray(np.abs(distance - others))
