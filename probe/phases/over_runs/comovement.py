"""Test whether two markers move together over runs: distance, line, concordance, order.

Sweep the learning rate, the share of the data, the width or the seed. If one marker causes the other, or both have one
cause, they move together. A censored run is a bound (:mod:`probe.phases.over_runs.alignment`) and counts where a bound
suffices.
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

_ALL_ORDERS = 6  # runs up to which all permutations are used: 720


class Distance(NamedTuple):
    """Distance ``log10((t_y + 1) / (t_x + 1))`` over runs (dex) with its 90 % interval and the method."""

    value: float
    lower: float
    upper: float
    method: str


class Tau(NamedTuple):
    """Kendall's tau over the ``n_pairs`` pairs of runs with a known order, and its one-sided permutation p-value."""

    value: float
    p_value: float
    n_pairs: int


@dataclass(frozen=True)
class CoMovement:
    """Result of :func:`co_movement`; a number is NaN if it needs more runs.

    Attributes
    ----------
    x, y : str
        Names of the markers.
    n_runs : int
        Number of runs.
    n_both : int
        Runs in which both markers are found; line and concordance use these runs.
    n_bounded : int
        Runs in which a marker is censored, so that the distance has a bound on one side.
    n_unknown : int
        Runs in which the distance has no bound.
    verdict : str
        "aligned", "misaligned", "undecided" or "undefined", on the distance over runs.
    reason : str
        Remarks on the runs that line and concordance do not use.
    distance : Distance
    line : Line
    concordance : Concordance
    tau : Tau
    """

    x: str
    y: str
    n_runs: int
    n_both: int
    n_bounded: int
    n_unknown: int
    verdict: str
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
    """Test over runs whether marker y comes when marker x comes.

    All quantities are on ``log10(step + 1)``. The verdict is that of :func:`probe.phases.align`, over runs. If all
    distances are known, it uses the t interval of their mean. Otherwise it uses the order-statistic interval of the
    median, in which a censored run is a bound and an unknown run has no bound.

    The line is orthogonal (Deming, equal errors on both axes), because the slope of least squares is too small if x
    has errors. The concordance is Lin's: 1 only if y = x in every run. Line and concordance leave out runs in which a
    marker is not found, which favours small distances; ``reason`` states how many. Kendall's tau includes every pair
    of runs with a known order in x and y.

    Parameters
    ----------
    markers : xarray.Dataset
        As for :func:`align`. Runs that differ in more than the seed (learning rate, data, width) are more informative.
    x, y : str
        Names of two markers.
    first_step, last_step : float or array of shape (run,)
        Ends of the records. The p-value of tau assumes records of one length; otherwise censoring moves both markers
        together.
    delta : float
        As for :func:`align`.
    level : float
        Coverage of the intervals of line and concordance.
    n_null : int
        Number of random permutations for the p-value of tau; up to 6 runs all permutations are used.
    random_state : int or None
        Seed of the permutations.

    Returns
    -------
    CoMovement
        Verdict "undefined" with fewer than 3 runs.

    Raises
    ------
    ValueError
        As :func:`align`; also for an unknown marker or x = y.

    See Also
    --------
    align : Distances in each run.
    probe.stats.orthogonal_line, probe.stats.concordance : The estimators.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe.phases import co_movement
    >>> fit_end = np.array([100.0, 300, 1000, 3000, 10000])
    >>> step = (("run", "marker"), np.column_stack([fit_end, 2 * fit_end]))
    >>> status = (("run", "marker"), np.full((5, 2), "found"))
    >>> variables = {"step": step, "lower": step, "upper": step, "status": status}
    >>> markers = xr.Dataset(variables, {"run": np.arange(5), "marker": ["fit_end", "end"]})
    >>> moved = co_movement(markers, "fit_end", "end", first_step=0, last_step=1e5)
    >>> print(f"{moved.distance.value:.2f} {moved.line.slope:.2f} {moved.tau.value:.0f}")
    0.30 1.00 1
    """
    names = markers["marker"].values.tolist()
    if x == y or not {x, y} <= set(names):
        raise ValueError(f"Expected two different markers among {names}, got {x!r} and {y!r}; pass two of these names.")
    if not (0 < delta < np.inf and 0 < level < 1):
        raise ValueError(
            f"Expected delta > 0 and 0 < level < 1, got delta={delta} and level={level}; 0.25 and 0.9 are usual."
        )
    times = marker_times(markers.sel(marker=[x, y]), first_step, last_step)
    low, high = times.low, times.high
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
    n, censored = len(both), int((~both & ~unknown).sum())
    parts = [f"the verdict needs {LEAST_RUNS} runs, got {n}"] if n < LEAST_RUNS else []
    if not both.all():
        parts.append(
            f"line and concordance use {both.sum()} of {n} runs: {censored} are censored, {unknown.sum()} unknown"
        )
    return "; ".join(parts)


def _over_runs(least: np.ndarray, most: np.ndarray, delta: float) -> tuple[str, Distance]:
    """Return verdict and distance; ``least`` and ``most`` (run,) are bounds of the distance of each run."""
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
    """Return Kendall's tau over the pairs of runs with a known order, its permutation p-value, and their number.

    ``low`` and ``high`` are (2, run). The permutations exchange whole runs of y, with their bounds.
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
