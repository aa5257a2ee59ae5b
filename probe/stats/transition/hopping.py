"""Rates of hops between two states, from trajectories of units."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats.inference import Estimate
from probe.stats.validation import as_numbers, as_vectors, check_level, check_number


class Dwells(NamedTuple):
    """Stays of units in a state.

    Attributes
    ----------
    unit : int array of shape (k,)
    state : int8 array of shape (k,)
        0 is the low state, 1 the high state.
    time : array of shape (k,)
        Observed length, in the unit of ``interval``.
    censored : bool array of shape (k,)
        The record ends before the unit leaves the state. The stay is at least ``time`` long.
    entered : bool array of shape (k,)
        The unit enters the state within the record.
    """

    unit: np.ndarray
    state: np.ndarray
    time: np.ndarray
    censored: np.ndarray
    entered: np.ndarray

    def __repr__(self) -> str:
        """Return the numbers of stays."""
        low, ended = int((self.state == 0).sum()), int((~self.censored).sum())
        return f"Dwells({len(self.unit)} stays: {low} low, {len(self.unit) - low} high; {ended} ended)"


class HoppingRates(NamedTuple):
    """Result of :func:`hopping_rates`.

    Attributes
    ----------
    status : str
        "found"; "no hops", where a rate has an upper bound only; "undecided" if hops are too fast for the interval;
        "undefined" if no unit reaches a threshold.
    up, down : Estimate
        Hops per time from the low state to the high state, and back. NaN if no unit is in that state; ``n`` is the
        number of units that were.
    n_up, n_down : int
        Number of hops.
    time_low, time_high : float
        Total time in each state, in the unit of ``interval``.
    dwells : Dwells
        All stays, for a survival curve.
    """

    status: str
    up: Estimate
    down: Estimate
    n_up: int
    n_down: int
    time_low: float
    time_high: float
    dwells: Dwells


def hopping_rates(
    trajectories: ArrayLike, low: float, high: float, *, interval: float = 1.0, level: float = 0.9
) -> HoppingRates:
    """Estimate the rates at which units hop between a low and a high state.

    A unit enters the low state when it falls to ``low``, and the high state when it rises to ``high``. Between the
    thresholds it keeps its state, so movement around one threshold is no hop. The thresholds should be the two peaks of
    the distribution.

    Parameters
    ----------
    trajectories : array of shape (units, n)
        Order parameter of each unit at equal intervals of time.
    low, high : float
        Thresholds, ``low < high``.
    interval : float
        Time between observations, positive.
    level : float
        Coverage of the intervals, in (0, 1).

    Returns
    -------
    HoppingRates

    Raises
    ------
    ValueError
        If the trajectories are not finite or shorter than two observations, or the thresholds are not in order.

    See Also
    --------
    barrier_scaling : The barrier that the units cross.

    Notes
    -----
    The rate is the number of hops over the total time in the state, the maximum likelihood estimate for censored
    exponential stays. A correction for two hops within one interval takes the logarithm of the transition matrix. The
    interval is that of a Poisson count (Garwood 1936). It is wider by the dispersion of the counts over units, if this
    exceeds that of Poisson counts. If stays are not exponential, the rate is the mean number of hops per time.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import hopping_rates
    >>> random = np.random.default_rng(0)
    >>> hops = random.random((50, 400)) < 0.02  # rate 0.02 per interval
    >>> found = hopping_rates(np.where(hops.cumsum(1) % 2, 1.0, -1.0), -0.5, 0.5)
    >>> found.status, round(found.up.value, 3), bool(found.up.lower < 0.02 < found.up.upper)
    ('found', 0.019, True)
    """
    check_level(level)
    check_number("interval", interval, 0, np.inf, "the time between observations")
    x = as_numbers("trajectories", trajectories)
    if x.ndim != 2 or len(x) == 0 or x.shape[1] < 2 or not np.isfinite(x).all():
        raise ValueError(
            f"Expected finite trajectories of shape (units, n) with n >= 2, got {x.shape}; pass x[None] of one unit"
        )
    (ends,) = as_vectors(thresholds=[low, high])
    if not ends[0] < ends[1]:
        raise ValueError(f"Expected low < high, got {low} and {high}; pass the thresholds of both states")
    states = _states(x, low, high)
    leaves = [(states[:, :-1] == s) & (states[:, 1:] == 1 - s) for s in (0, 1)]
    counts = np.array([leave.sum(1) for leave in leaves])  # (2, units)
    at_risk = np.array([(states[:, :-1] == s).sum(1) for s in (0, 1)])
    shares = counts.sum(1) / np.maximum(at_risk.sum(1), 1)
    factor = float(-np.log1p(-shares.sum()) / shares.sum()) if 0 < shares.sum() < 1 else 1.0
    up, down = (_rate(counts[s], at_risk[s] * interval, factor, level) for s in (0, 1))
    n_up, n_down = counts.sum(1).tolist()
    status = "undecided" if shares.sum() >= 1 else "found" if min(n_up, n_down) else "no hops"
    if not at_risk.any():
        status = "undefined"
    time_low, time_high = (at_risk.sum(1) * interval).tolist()
    return HoppingRates(status, up, down, n_up, n_down, time_low, time_high, _dwells(states, interval))


def _states(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return states (units, n): 0 low, 1 high, -1 before the first threshold is reached."""
    passed = np.where(x <= low, 0, np.where(x >= high, 1, -1)).astype(np.int8)
    last = np.maximum.accumulate(np.where(passed >= 0, np.arange(x.shape[1]), -1), axis=1)
    return np.where(last >= 0, np.take_along_axis(passed, np.maximum(last, 0), axis=1), np.int8(-1))


def _rate(counts: np.ndarray, times: np.ndarray, factor: float, level: float) -> Estimate:
    """Return the rate of counts (units,) in these times, with the interval of a Poisson count."""
    used = times > 0
    n_units, n, total = int(used.sum()), counts.sum(), times.sum()
    if n_units == 0:
        return Estimate(*3 * (np.nan,), 0)
    dispersion = 1.0
    if n and n_units > 1:
        expected = n / total * times[used]
        dispersion = max(1.0, float(((counts[used] - expected) ** 2 / expected).sum() / (n_units - 1)))
    tail, effective, scale = (1 - level) / 2, n / dispersion, factor * dispersion / total
    lower = stats.chi2.ppf(tail, 2 * effective) / 2 * scale if n else 0.0
    upper = stats.chi2.isf(tail, 2 * effective + 2) / 2 * scale
    return Estimate(float(n / total * factor), float(lower), float(upper), n_units)


def _dwells(states: np.ndarray, interval: float) -> Dwells:
    """Return all stays. The time is counted from the first observation in the state."""
    n = states.shape[1]
    changes = np.column_stack([states[:, 0] >= 0, states[:, 1:] != states[:, :-1]])
    unit, start = np.nonzero(changes)
    same = np.append(unit[1:] == unit[:-1], False)
    end = np.where(same, np.append(start[1:], n), n - 1)
    state = states[unit, start]
    return Dwells(unit, state, (end - start) * interval, ~same, start > 0)
