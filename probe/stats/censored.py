"""Markers that a record shows only as a bound: censored runs kept in, as intervals.

Time is compared on ``x = log10(step + 1)``; steps are optimiser updates or any other axis from 0 on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class MedianStep:
    """Median of a marker over runs; ``step`` is NaN unless ``status`` is "found"."""

    status: str  # found, left_censored, right_censored, undecided or undefined
    step: float
    low: float  # the median lies between low and high, whatever the censored values are
    high: float
    lower: float  # interval of the median over further runs
    upper: float
    coverage: float  # of [lower, upper], at least
    n_runs: int
    n_found: int
    reason: str


def median_step(
    step: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    status: ArrayLike,
    *,
    first_step: ArrayLike,
    last_step: ArrayLike,
    level: float = 0.9,
) -> MedianStep:
    """Median step of a marker over runs, censored ones kept, with an interval from order statistics.

    Each run says that its marker lies between two bounds, see :func:`log_bounds`; the median of the lower and of the
    upper bounds bound the median. Where all censored runs ended after the median this is the Kaplan-Meier median.
    An absent marker counts as later than the record: the median is the step by which half of *all* runs had it.

    The interval goes from the j-th smallest lower bound to the j-th largest upper bound, j the largest with
    ``1 - 2 P(Binomial(n, 1/2) < j) >= level``: the sign test turned round, free of any law (David and Nagaraja,
    Order Statistics, section 7.1). For a found marker its own ``lower`` and ``upper`` are the bounds.

    Parameters
    ----------
    step, lower, upper, status : array of shape (run,)
        Markers as :class:`probe.Marker` has them.
    first_step, last_step : float or array of shape (run,)
        Ends of the record of each run.
    level : float
        Least coverage of the interval.

    Returns
    -------
    MedianStep
        "right_censored" if the median is later than some record's end and "left_censored" if it is before a
        record's beginning, "undecided" if runs without any bound decide, "undefined" without runs. With too few runs
        for the level (below 5 for .9) the interval is (0, inf), its coverage 1, and the reason says so.

    Raises
    ------
    ValueError
        As :func:`log_bounds`; also for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"expected level between 0 and 1, got {level}; 0.9 is usual")
    status = np.asarray(status)
    point = log_bounds(step, step, step, status, first_step, last_step)
    if not len(status):
        return MedianStep("undefined", *6 * (np.nan,), 0, 0, "no runs")
    low, high = median_bounds(*point)
    least, most, coverage = order_interval(*log_bounds(step, lower, upper, status, first_step, last_step), level)
    kind = "found" if low == high else _open_kind(status)
    few = f"{len(status)} runs are too few for an interval at level {level:g}" if np.isinf(least) else ""
    tally = ", ".join(f"{n} {name}" for name, n in zip(*np.unique(status, return_counts=True), strict=True))
    low, high, least, most = (10 ** np.array([low, high, max(least, 0.0), most]) - 1).tolist()
    return MedianStep(
        status=kind,
        step=low if kind == "found" else np.nan,
        low=low,
        high=high,
        lower=least,
        upper=most,
        coverage=coverage,
        n_runs=len(status),
        n_found=int((status == "found").sum()),
        reason="; ".join(filter(None, [tally, few])),
    )


def _open_kind(status: np.ndarray) -> str:
    """Why the median is not one number: the censored side, if only one side is."""
    late, early = np.isin(status, ("right_censored", "absent")).any(), (status == "left_censored").any()
    unknown = np.isin(status, ("undefined", "undecided")).any()
    return "undecided" if unknown or (late and early) else "right_censored" if late else "left_censored"


def log_bounds(
    step: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    status: ArrayLike,
    first_step: ArrayLike,
    last_step: ArrayLike,
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds between which each marker lies on ``x = log10(step + 1)``, both of the shape of ``status``.

    Found: its ``lower`` and ``upper`` (where NaN its ``step``); left-censored: 0 to the first step; right-censored or
    absent: the last step to infinity; undefined or undecided: 0 to infinity.

    Raises
    ------
    ValueError
        For an unknown status, shapes that do not broadcast, or a found marker without a step.
    """
    status = np.asarray(status)
    known = ("found", "absent", "left_censored", "right_censored", "undefined", "undecided")
    if not np.isin(status, known).all():
        raise ValueError(f"expected statuses among {known}, got {sorted(set(status.ravel().tolist()) - set(known))}")
    found = status == "found"
    t, a, b, first, last = (
        np.broadcast_to(np.asarray(array, dtype=float), status.shape)
        for array in (step, lower, upper, first_step, last_step)
    )
    if not (t[found] >= 0).all():
        raise ValueError(f"expected a step >= 0 for every found marker, got {t[found]}; NaN is for the other statuses")
    late = np.isin(status, ("right_censored", "absent"))
    low = np.where(found, np.where(np.isnan(a), t, a), np.where(late, last, 0.0))
    high = np.where(found, np.where(np.isnan(b), t, b), np.where(status == "left_censored", first, np.inf))
    return np.log10(low + 1), np.log10(high + 1)


def order_interval(low: ArrayLike, high: ArrayLike, level: float) -> tuple[float, float, float]:
    """Interval of the median of values that lie between bounds, and its coverage; see :func:`median_step`.

    Parameters
    ----------
    low, high : array of shape (n,)
    level : float

    Returns
    -------
    lower, upper, coverage : float
        (-inf, inf, 1) if n is too small for the level.
    """
    low, high = np.sort(low), np.sort(high)
    below = stats.binom.cdf(np.arange((len(low) + 1) // 2), len(low), 0.5)  # P(fewer than j = 1, 2, .. below)
    j = int((below <= (1 - level) / 2 + 1e-12).sum())
    if j == 0:
        return -np.inf, np.inf, 1.0
    return float(low[j - 1]), float(high[-j]), float(1 - 2 * below[j - 1])


def median_bounds(low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    """Bounds (n,) of the values to bounds of their median; infinite ones may be among them."""
    middle = [np.sort(bound)[[(np.size(bound) - 1) // 2, np.size(bound) // 2]] for bound in (low, high)]
    return float(middle[0].mean()), float(middle[1].mean())
