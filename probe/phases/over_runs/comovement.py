"""Whether two markers move together over runs: distance, line, concordance, order.

Sweep the learning rate, the share of the data, the width, the seed: if one marker causes the other, or both have one
cause, they move together. A censored run is a bound, see :mod:`probe.phases.over_runs.alignment`, and stays in where it can.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from probe.phases.over_runs.alignment import judge, marker_times
from probe.stats.censored import median_bounds, order_interval
from probe.stats.paired import LEAST_RUNS, Concordance, Line, concordance, orthogonal_line

_ALL_ORDERS = 6  # runs up to which all 720 permutations are tried


class Distance(NamedTuple):
    """``log10((t_y + 1) / (t_x + 1))`` over runs (dex) with its 90 % interval and what it is."""

    value: float
    lower: float
    upper: float
    method: str


class Tau(NamedTuple):
    """Kendall's tau over the ``n_pairs`` pairs of runs with a known order; one-sided permutation p-value."""

    value: float
    p_value: float
    n_pairs: int


@dataclass(frozen=True)
class CoMovement:
    """How marker y moves with marker x over runs; numbers that need more runs than there are, are NaN."""

    x: str
    y: str
    n_runs: int
    n_both: int  # both found: what line and concordance rest on
    n_bounded: int  # one is censored, so that the distance is bounded on one side
    n_unknown: int  # nothing bounds the distance
    verdict: str  # aligned, misaligned, undecided or undefined: the distance over runs
    reason: str
    distance: Distance
    line: Line
    concordance: Concordance
    tau: Tau


def co_movement(
    markers: xr.Dataset,
    x: str,
    y: str,
    *,
    first_step: ArrayLike,
    last_step: ArrayLike,
    delta: float = 0.25,
    level: float = 0.9,
    n_null: int = 2000,
    random_state: int | None = 0,
) -> CoMovement:
    """Ask over runs whether marker y comes when marker x comes.

    Everything is on ``log10(step + 1)``. The verdict is that of :func:`probe.phases.align`, over runs: from
    the t interval of the mean distance if all are known; else from the order-statistic interval of the median, in
    which a censored run is a bound and an unknown one tells nothing. The line is orthogonal (Deming, equal errors on
    both axes), as least squares is too flat when x has errors; its slope stands beside it. The concordance is Lin's:
    1 only if y = x in every run. Line and concordance leave out runs in which one of the two is not found, which
    favours small distances; ``reason`` says so. Kendall's tau keeps every pair of runs with a known order in x and y.

    Parameters
    ----------
    markers : xarray.Dataset
        As for ``align``; runs that differ in more than the seed (learning rate, data, width) tell more.
    x, y : str
        Names of two markers.
    first_step, last_step : float or array of shape (run,)
        Ends of the records. The p-value of tau takes records of one length: else censoring moves both together.
    delta : float
        As for ``align``.
    level : float
        Of the intervals of line and concordance.
    n_null : int
        Random permutations for the p-value of tau; up to 6 runs all are tried.
    random_state : int or None
        Seed of the permutations.

    Returns
    -------
    CoMovement
        Verdict "undefined" with fewer than 3 runs.

    Raises
    ------
    ValueError
        As ``align``; also for an unknown marker or x = y.
    """
    names = markers["marker"].values.tolist()
    if x == y or not {x, y} <= set(names):
        raise ValueError(f"expected two different markers among {names}, got {x!r} and {y!r}")
    if not (0 < delta < np.inf and 0 < level < 1):
        raise ValueError(f"expected delta > 0 and level between 0 and 1, got delta={delta} and level={level}")
    _, low, high, _, _ = marker_times(markers.sel(marker=[x, y]), first_step, last_step)
    least, most = low[:, 1] - high[:, 0], high[:, 1] - low[:, 0]
    both, unknown = least == most, np.isinf(least) & np.isinf(most)
    u, v = low[both].T
    verdict, distance = _over_runs(least, most, delta)
    return CoMovement(
        x=x,
        y=y,
        n_runs=len(both),
        n_both=int(both.sum()),
        n_bounded=int((~both & ~unknown).sum()),
        n_unknown=int(unknown.sum()),
        verdict=verdict,
        reason=_reason(both, unknown),
        distance=distance,
        line=orthogonal_line(u, v, level=level),
        concordance=concordance(u, v, level=level),
        tau=_censored_tau(low.T, high.T, n_null, random_state),
    )


def _reason(both: np.ndarray, unknown: np.ndarray) -> str:
    n, rest = len(both), ~both & ~unknown
    few = [f"{n} runs, {LEAST_RUNS} are needed"] if n < LEAST_RUNS else []
    left = f"line and concordance rest on {both.sum()} of {n} runs: {rest.sum()} censored, {unknown.sum()} unknown"
    return "; ".join(few + ([] if both.all() else [left]))


def _over_runs(least: np.ndarray, most: np.ndarray, delta: float) -> tuple[str, Distance]:
    """Verdict and distance; ``least`` and ``most`` (run,) bound the distance of each run."""
    n = len(least)
    if n < LEAST_RUNS:
        return "undefined", Distance(np.nan, np.nan, np.nan, "")
    if (least == most).all():
        low = high = float(least.mean())
        error = least.std(ddof=1) / np.sqrt(n)
        intervals = [(low - q * error, low + q * error) for q in stats.t.ppf([0.95, 0.975], n - 1)]
        method = "mean, t interval"
    else:
        low, high = median_bounds(least, most)
        intervals = [order_interval(least, most, level)[:2] for level in (0.9, 0.95)]
        method = "median, order statistics, censored runs as bounds"
    verdict = str(judge(intervals, low, high, delta))
    lower, upper = intervals[0]
    return verdict, Distance(low if low == high else np.nan, float(lower), float(upper), method)


def _censored_tau(low: np.ndarray, high: np.ndarray, n_null: int, seed: int | None) -> Tau:
    """Kendall's tau over the pairs of runs with a known order, its permutation p-value, and their number.

    ``low`` and ``high`` are (2, run). Whole runs of y are permuted, with their bounds.
    """
    later = low[:, :, None] > high[:, None, :]
    sign_x, sign_y = later.astype(float) - later.transpose(0, 2, 1)  # (run, run)
    n_pairs = int(np.abs(sign_x * sign_y).sum()) // 2
    if n_pairs == 0:
        return Tau(np.nan, np.nan, 0)
    n = len(sign_x)
    total = np.sum(sign_x * sign_y)
    if n <= _ALL_ORDERS:
        orders = np.array(list(permutations(range(n))))
    else:
        generator = np.random.default_rng(seed)
        orders = np.array([np.arange(n), *(generator.permutation(n) for _ in range(n_null))])
    at_least = [np.sum(sign_x * sign_y[np.ix_(order, order)]) >= total for order in orders]
    return Tau(float(total / (2 * n_pairs)), float(np.mean(at_least)), n_pairs)
