"""Crossings of a threshold, as a pure function on arrays."""

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.markers.marker import Marker, Status, check_curve, check_sustained, too_few

GRID_INTERVAL = "grid: last observation before the run, first observation of the run"


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
        the run starts at the first observation, "right_censored" if there is no run of this length, "undefined" with
        fewer than ``n_sustained`` values.

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
        return Marker(Status.RIGHT_CENSORED, rule, reason=not_sustained(s, above, n_sustained))
    if start == 0:
        return Marker(Status.LEFT_CENSORED, rule, reason=f"the condition holds at the first observation, at {s[0]:g}")
    return Marker(Status.FOUND, rule, float(s[start]), float(s[start - 1]), float(s[start]), GRID_INTERVAL)


def first_run(holds: np.ndarray, n_sustained: int) -> int | None:
    """Return the index at which the first run of ``n_sustained`` true values starts."""
    if len(holds) < n_sustained:
        return None
    runs = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(holds, n_sustained).all(axis=1))
    return int(runs[0]) if len(runs) else None


def not_sustained(steps: np.ndarray, holds: np.ndarray, n_sustained: int) -> str:
    """Return the reason why there is no run of ``n_sustained`` true values; the last values may be true."""
    reason = f"not sustained up to the last observation, at {steps[-1]:g}"
    n_last = int(np.argmin(holds[::-1]))  # no run is long enough, so that argmin finds a false value
    return f"{reason}; the condition holds at the last {n_last}, {n_sustained} are needed" if n_last else reason
