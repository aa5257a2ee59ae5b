"""Medians of censored markers: a run whose marker lies outside its record contributes a bound.

Time is compared on ``x = log10(step + 1)``; steps are optimiser updates or any other axis from 0 on.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats.validation import as_numbers, as_vectors, check_bounds, check_level

_LATE = ("right_censored", "absent", "not_reached")  # later than the record, or never


@dataclass(frozen=True)
class MedianStep:
    """Median of a marker over runs, with bounds and a confidence interval.

    Attributes
    ----------
    status : str
        "found", "left_censored", "right_censored", "undecided" or "undefined".
    step : float
        The median, in steps; NaN unless ``status`` is "found".
    low, high : float
        Bounds of the median of these runs, for all possible censored values.
    lower, upper : float
        Confidence interval of the median over further runs.
    coverage : float
        Least coverage of [lower, upper].
    n_runs, n_found : int
        Number of runs, and of runs with a found marker.
    reason : str
        Number of runs by status, and why there is no median or no interval.
    """

    status: str
    step: float
    low: float
    high: float
    lower: float
    upper: float
    coverage: float
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
    """Estimate the median step of a marker over runs, with an interval from order statistics.

    The marker of each run lies between two bounds, see :func:`log_bounds`. The medians of the lower and of the upper
    bounds are the bounds of the median. If all censored runs end after the median, it is the Kaplan-Meier median. An
    marker that is absent or not reached counts as later than the record, also if it will never come: the median is the
    step by which half of *all* runs had the marker.

    The interval extends from the j-th smallest lower bound to the j-th largest upper bound, where j is the largest
    number with ``1 - 2 P(Binomial(n, 1/2) < j) >= level``. This is the inverted sign test, which assumes no
    distribution (David and Nagaraja, Order Statistics, section 7.1). The bounds of a found marker are its own
    ``lower`` and ``upper``.

    Parameters
    ----------
    step, lower, upper, status : array of shape (run,)
        Fields of the :class:`probe.Marker` of each run.
    first_step, last_step : float or array of shape (run,)
        Ends of the record of each run.
    level : float
        Least coverage of the interval, in (0, 1).

    Returns
    -------
    MedianStep
        ``status`` is "right_censored" if the median may be later than the end of a record, "left_censored" if it may
        be earlier than the beginning of a record, "undecided" if it depends on runs without any bound, "undefined"
        without runs. With too few runs for the level (fewer than 5 for 0.9) the interval is (0, inf), its coverage is
        1, and ``reason`` states it.

    Raises
    ------
    ValueError
        If a status is unknown, shapes do not broadcast, a found marker has no step, or ``level`` is outside (0, 1).

    See Also
    --------
    median_interval : The same for values with bounds on any scale.

    Examples
    --------
    >>> from probe.stats import median_step
    >>> step = [100, 300, 500, 700, 900, float("nan")]
    >>> status = ["found"] * 5 + ["right_censored"]
    >>> found = median_step(step, step, step, status, first_step=1, last_step=1000)
    >>> print(f"{found.step:.0f} [{found.lower:.0f}, {found.upper:.0f}], coverage {found.coverage:.2f}")
    592 [100, inf], coverage 0.97
    """
    check_level(level)
    status = np.asarray(status)
    if status.ndim != 1:
        raise ValueError(f"Expected status of shape (run,), got shape {status.shape}; pass one status for each run")
    point = log_bounds(step, step, step, status, first_step, last_step)
    if not len(status):
        return MedianStep("undefined", *6 * (np.nan,), 0, 0, "no runs")
    low, high = median_bounds(*point)
    least, most, coverage = order_interval(*log_bounds(step, lower, upper, status, first_step, last_step), level)
    kind = "found" if low == high else _open_kind(status)
    runs = "1 run is" if len(status) == 1 else f"{len(status)} runs are"
    few = f"{runs} too few for an interval at level {level:g}" if np.isinf(least) else ""
    tally = ", ".join(f"{n} {name}" for name, n in zip(*np.unique(status, return_counts=True), strict=True))
    low, high, least, most = (10 ** np.array([low, high, max(least, 0.0), most]) - 1).tolist()
    why = "" if kind == "found" else _why_open(low, high)
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
        reason="; ".join(filter(None, [tally, why, few])),
    )


def _why_open(low: float, high: float) -> str:
    """Describe what is known about a median that depends on runs without a step."""
    bounds = [f"after {low:,.0f}"] if low > 0 else []
    bounds += [f"not after {high:,.0f}"] if np.isfinite(high) else []
    known = f"; it is {' and '.join(bounds)}" if bounds else ""
    return f"the median depends on runs without a step{known}"


def _open_kind(status: np.ndarray) -> str:
    """Return the status of a median that depends on censored values: the side that is censored, if only one is."""
    late, early = np.isin(status, _LATE).any(), (status == "left_censored").any()
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
    """Return the bounds between which each marker lies, on ``x = log10(step + 1)``.

    ====================================  ====================================================
    status                                bounds
    ====================================  ====================================================
    found                                 its ``lower`` and ``upper``; ``step`` where these are NaN
    left_censored                         0 and the first step
    right_censored, absent, not_reached   the last step and infinity
    undefined, undecided                  0 and infinity
    ====================================  ====================================================

    Parameters
    ----------
    step, lower, upper, status : array of shape (run,)
        Fields of the :class:`probe.Marker` of each run.
    first_step, last_step : float or array of shape (run,)
        Ends of the record of each run.

    Returns
    -------
    low, high : array of the shape of ``status``

    Raises
    ------
    ValueError
        If a status is unknown, shapes do not broadcast, or a found marker has no step.

    Examples
    --------
    >>> from probe.stats import log_bounds
    >>> low, high = log_bounds([99, 0], [9, 0], [999, 0], ["found", "right_censored"], 0, 9999)
    >>> print(low, high)
    [1. 4.] [ 3. inf]
    """
    status = np.asarray(status)
    known = ("found", "absent", "left_censored", "right_censored", "not_reached", "undefined", "undecided")
    if not np.isin(status, known).all():
        unknown = sorted({*map(str, status.ravel().tolist())} - {*known})
        raise ValueError(f"Expected statuses among {known}, got {unknown}; pass the status of a Marker")
    found = status == "found"
    numbers = {"step": step, "lower": lower, "upper": upper, "first_step": first_step, "last_step": last_step}
    t, a, b, first, last = (_of_shape(name, array, status.shape) for name, array in numbers.items())
    if not (t[found] >= 0).all():
        raise ValueError(
            f"Expected a step >= 0 for every found marker, got {t[found]}; pass NaN only for other statuses"
        )
    late = np.isin(status, _LATE)
    low = np.where(found, np.where(np.isnan(a), t, a), np.where(late, last, 0.0))
    high = np.where(found, np.where(np.isnan(b), t, b), np.where(status == "left_censored", first, np.inf))
    return np.log10(low + 1), np.log10(high + 1)


def _of_shape(name: str, values: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Return one number for each status, from an array or a number."""
    found = as_numbers(name, values)
    try:
        return np.broadcast_to(found, shape)
    except ValueError:
        raise ValueError(
            f"Expected {name} of shape {shape}, one number for each status, got {found.shape}; pass one per run"
        ) from None


def order_interval(low: ArrayLike, high: ArrayLike, level: float) -> tuple[float, float, float]:
    """Return the confidence interval of the median of values that lie between bounds, and its coverage.

    The interval is that of :func:`median_step`.

    Parameters
    ----------
    low, high : array of shape (n,)
        Bounds of each value; they may be infinite.
    level : float
        Least coverage, in (0, 1).

    Returns
    -------
    lower, upper, coverage : float
        (-inf, inf, 1) if n is too small for the level.

    Examples
    --------
    >>> from probe.stats import order_interval
    >>> values = [1, 2, 3, 4, 5, 6, 7, 8]
    >>> lower, upper, coverage = order_interval(values, values, level=0.9)
    >>> print(lower, upper, round(coverage, 2))
    2.0 7.0 0.93
    """
    low, high = as_vectors(low=low, high=high)
    check_level(level)
    check_bounds(low, high)
    low, high = np.sort(low), np.sort(high)
    below = stats.binom.cdf(np.arange((len(low) + 1) // 2), len(low), 0.5)  # P(fewer than j = 1, 2, .. below)
    j = int((below <= (1 - level) / 2 + 1e-12).sum())
    if j == 0:
        return -np.inf, np.inf, 1.0
    return float(low[j - 1]), float(high[-j]), float(1 - 2 * below[j - 1])


def median_bounds(low: ArrayLike, high: ArrayLike) -> tuple[float, float]:
    """Return the bounds of the median of values with the bounds ``low`` and ``high`` (n,), which may be infinite."""
    middle = [np.sort(bound)[[(np.size(bound) - 1) // 2, np.size(bound) // 2]] for bound in (low, high)]
    return float(middle[0].mean()), float(middle[1].mean())
