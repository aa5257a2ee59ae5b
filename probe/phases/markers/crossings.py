"""Crossings of a level, as a pure function on arrays."""

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.markers.marker import Marker, check_curve, too_few


def sustained_crossing(steps: ArrayLike, values: ArrayLike, level: float, *, m: int = 3, name: str = "value") -> Marker:
    """First step from which ``m`` observations in a row are at or above ``level``.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve; ``level`` is in the units of the curve.
    m : int
        One lucky evaluation is no crossing: a dip inside the run of ``m`` starts the count anew.
    name : str
        What the curve is called in ``rule``.

    Returns
    -------
    Marker
        The interval lies between the last observation before the run and its first one. "left_censored" if
        the run starts at the first observation, "right_censored" if none of length ``m`` was seen,
        "undefined" with fewer than ``m`` values.

    Raises
    ------
    ValueError
        As :func:`check_curve`; also for ``m < 1`` or a level that is not finite.
    """
    if m < 1 or not np.isfinite(level):
        raise ValueError(f"expected m >= 1 and a finite level, got m={m} and level={level}")
    s, v = check_curve(steps, values)
    rule = f"{name} >= {level:.4g} at {m} observations in a row"
    if len(v) < m:
        return too_few(v, rule, m)
    above = v >= level
    runs = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(above, m).all(axis=1))
    if len(runs) == 0:
        held = int(np.argmin(above[::-1]))  # above[-m:] is not all true, so that argmin finds a false one
        tail = f"; the last {held} hold, the record ends before {m}" if held else ""
        return Marker("right_censored", rule, reason=f"not sustained up to the last observation, at {s[-1]:g}{tail}")
    if runs[0] == 0:
        return Marker("left_censored", rule, reason=f"holds already at the first observation, at {s[0]:g}")
    k = runs[0]
    interval = "grid: last observation before, first of the run"
    return Marker("found", rule, float(s[k]), float(s[k - 1]), float(s[k]), interval)
