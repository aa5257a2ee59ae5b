"""Crossings of a threshold, as a pure function on arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter

from probe.phases.markers.marker import Marker, Status, check_curve, check_sustained, too_few

GRID_INTERVAL = "grid: last observation before the run, first observation of the run"
_LATE = 0.5  # decades at the end of the record in which a curve must be level
_LEAST_LATE = 6  # observations there
_N_SE = 3.0  # standard errors of a change
_LEAST_CHANGE = 0.03  # of the way from the start to the threshold
_LEAST_FALL = 0.05  # of the same way: below, a curve wanders at the level of its start


def sustained_crossing(
    steps: ArrayLike, values: ArrayLike, threshold: float, *, n_sustained: int = 3, name: str = "value"
) -> Marker:
    """Find the first step from which ``n_sustained`` observations in a row are at or above ``threshold``.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve.
    threshold : float
        In units of the curve.
    n_sustained : int
        Length of the run of observations. A lower value inside a run starts the count anew, so that a single lucky
        evaluation is not a crossing.
    name : str
        Name of the curve in ``rule``.

    Returns
    -------
    Marker
        The interval lies between the last observation before the run and its first observation. "left_censored" if
        the run starts at the first observation, "undefined" with fewer than ``n_sustained`` values. If there is no run
        of this length: "not_reached" if the curve has fallen from its best value, or has risen and then been level for
        the last half decade of the record (6 observations or more); else "right_censored". A curve that has never
        risen is "right_censored", because it may still rise.

    Raises
    ------
    ValueError
        As :func:`check_curve`; also for ``n_sustained < 1`` or a threshold that is not finite.

    See Also
    --------
    fitting_end : The end of fitting on a loss, which has no natural threshold.

    Examples
    --------
    >>> from probe.phases import sustained_crossing
    >>> accuracy = [0.2, 0.99, 0.6, 0.99, 1.0, 1.0]
    >>> marker = sustained_crossing([0, 10, 20, 30, 40, 50], accuracy, 0.99)
    >>> marker.step, marker.lower, marker.upper
    (30.0, 20.0, 30.0)
    """
    check_sustained(n_sustained)
    if not np.isfinite(threshold):
        raise ValueError(f"Expected a finite threshold, got {threshold}; pass it in units of the curve.")
    s, v = check_curve(steps, values)
    rule = f"{name} >= {threshold:.4g} at {n_sustained} observations in a row"
    if len(v) < n_sustained:
        return too_few(v, rule, n_sustained)
    above = v >= threshold
    start = first_run(above, n_sustained)
    if start is None:
        return _without_run(s, v, above, threshold, n_sustained, rule)
    if start == 0:
        return Marker(Status.LEFT_CENSORED, rule, reason=f"the condition holds at the first observation, at {s[0]:g}")
    return Marker(Status.FOUND, rule, float(s[start]), float(s[start - 1]), float(s[start]), GRID_INTERVAL)


class _Outlook(NamedTuple):
    """The end of a curve that has not reached its threshold."""

    final: float  # median of the last tenth, at least three observations
    best: float
    best_step: float
    rises: bool
    fell: bool  # from its best value
    level: bool  # after a rise


def _without_run(
    s: np.ndarray, v: np.ndarray, above: np.ndarray, threshold: float, n_sustained: int, rule: str
) -> Marker:
    """Return the marker of a curve that does not reach its threshold: not reached, or not yet."""
    end = None if above[-1] else _outlook(s, v, threshold)
    if end is None:
        below = f"the curve ends at {v[-1]:.3g}, below {threshold:.4g}, at the last observation, at {s[-1]:g}"
        reason = not_sustained(s, above, n_sustained) if above[-1] else below
        return Marker(Status.RIGHT_CENSORED, rule, reason=f"{reason}; train for longer")
    if end.rises:
        reason = f"the curve ends at {end.final:.3g}, below {threshold:.4g}, and still rises; train for longer"
        return Marker(Status.RIGHT_CENSORED, rule, reason=reason)
    if end.fell:
        reason = f"the curve falls from its best value, {end.best:.3g} at {end.best_step:g}, to {end.final:.3g}"
        return Marker(
            Status.NOT_REACHED, rule, reason=f"{reason}; longer training alone will not reach {threshold:.4g}"
        )
    if end.level:
        reason = f"the curve has settled at {end.final:.3g}; lower the threshold of {threshold:.4g} if this is enough"
        return Marker(Status.NOT_REACHED, rule, reason=reason)
    reason = f"the curve ends at {end.final:.3g}, below {threshold:.4g}, and may still rise; train for longer"
    return Marker(Status.RIGHT_CENSORED, rule, reason=reason)


def _outlook(s: np.ndarray, v: np.ndarray, threshold: float) -> _Outlook | None:
    """Describe the last half decade of a curve; None if it has too few observations there."""
    x = np.log10(s + 1)
    late = int(np.searchsorted(x, x[-1] - _LATE))
    half = int(np.searchsorted(x, x[-1] - _LATE / 2))
    if late == 0 or len(v) - late < _LEAST_LATE or min(half - late, len(v) - half) < 3:
        return None
    smooth = median_filter(v, 5, mode="nearest")
    sd = 1.4826 * float(np.median(np.abs(v[late:] - smooth[late:])))
    start, final = float(np.median(v[:3])), float(np.median(v[-max(3, len(v) // 10) :]))
    gain = float(np.median(v[half:]) - np.median(v[late:half]))
    error = sd * np.sqrt(np.pi / 2 * (1 / (half - late) + 1 / (len(v) - half)))  # of the difference of two medians
    least = max(_N_SE * sd, _LEAST_CHANGE * (threshold - start))
    rises = gain > max(_N_SE * error, _LEAST_CHANGE * (threshold - final))
    best = int(smooth.argmax())
    fell, risen = smooth[best] - final > max(least, _LEAST_FALL * (threshold - start)), final - start > least
    level = risen and abs(gain) <= max(_N_SE * error, _LEAST_CHANGE * (threshold - start))
    return _Outlook(final, float(smooth[best]), float(s[best]), rises, bool(fell), bool(level))


def first_run(holds: np.ndarray, n_sustained: int) -> int | None:
    """Return the index at which the first run of ``n_sustained`` true values starts."""
    if len(holds) < n_sustained:
        return None
    runs = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(holds, n_sustained).all(axis=1))
    return int(runs[0]) if len(runs) else None


def not_sustained(steps: np.ndarray, holds: np.ndarray, n_sustained: int) -> str:
    """Return the reason why there is no run of ``n_sustained`` true values; the last values may be true."""
    n_last = int(np.argmin(holds[::-1]))  # no run is long enough, so that argmin finds a false value
    if n_last:
        last = "observation" if n_last == 1 else f"{n_last} observations"
        return f"the condition holds at the last {last} only, and {n_sustained} in a row are needed"
    return f"the condition is not sustained up to the last observation, at {steps[-1]:g}"
