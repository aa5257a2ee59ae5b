"""Where a measure leaves the value that it had when fitting ended: its own onset, as a marker."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter

from probe.phases.markers.crossings import sustained_crossing
from probe.phases.markers.marker import Marker, check_curve, too_few
from probe.stats.inference import thinned
from probe.stats.noise import MAD, resolution_floor

_LEAST = 6  # observations from the end of fitting on
_LAGS = (1, 3)  # of second differences
_LOCAL = 15  # second differences that a running median goes over


def departure(steps: ArrayLike, values: ArrayLike, start: float, *, k: float = 3.0, m: int = 3) -> tuple[Marker, int]:
    """First step after ``start`` from which a curve lies beyond its noise band, on one side, ``m`` times in a row.

    The band is around the last value up to ``start``: ``k`` standard deviations of the difference of two observations,
    there and here, of noise of slowly changing size. A dense log is averaged first
    (:func:`probe.stats.thinned`). The noise is what a running median of absolute second differences says,
    at lags of 1 and 3, whichever is larger: neighbours alone would not see noise that is correlated. What comes before
    ``start`` does not count: there curves are steep, and noisier.

    Measured on noise without a trend, 24 or 60 observations after ``start``, 400 curves each: under 1 % depart if it is
    white, up to 4 % at a correlation of .5 between neighbours, 13 % at .8, 48 % at .95. In one run slow noise and a
    trend cannot be told apart: controls show how often the rule goes wrong. The price: a trend counts once it has gone
    4 standard deviations, and is dated so much too late.

    A curve that was on its way before ``start``, as the norm of the weights often is, departs at once: no fault of the
    rule, and what its lead is worth is what ``error`` of :class:`probe.ProgressScorecard` tells.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve; missing values are left out.
    start : float
        End of fitting.
    k : float
        Half width of the band, in standard deviations.
    m : int
        Observations in a row.

    Returns
    -------
    marker, direction
        As :func:`probe.phases.sustained_crossing`: "found", "right_censored" if the curve stays, "undefined"
        with fewer than 6 values from ``start`` on or none
        up to it. The direction is 1 (up), -1 (down) or 0.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also if ``k`` is not positive or ``m < 1``.
    """
    if not k > 0:
        raise ValueError(f"expected k > 0 standard deviations, got {k}")
    s, v = thinned(*check_curve(steps, values))
    first = int(np.searchsorted(s, start, side="right")) - 1
    rule = f"{m} observations in a row beyond {k:g} sd of the value at the end of fitting"
    if first < 0:
        return Marker("undefined", rule, reason=f"no observation up to the end of fitting, at {start:g}"), 0
    s, later = s[first:], v[first:]
    if len(later) < _LEAST:
        return too_few(later, rule, _LEAST), 0
    sd = _noise(later)
    away = (later - later[0]) / np.hypot(sd, sd[0])
    found = [(sustained_crossing(s, side * away, k, m=m), side) for side in (1, -1)]
    marker, side = min(found, key=lambda one: one[0].step if one[0].status == "found" else np.inf)
    return replace(marker, rule=rule, noise=float(np.median(sd))), side if marker.status == "found" else 0


def _noise(values: np.ndarray) -> np.ndarray:
    """Standard deviation (n,) beside a smooth curve, never below the rounding of float32."""
    return np.max(
        [resolution_floor(values) + 0 * values, *(_rough(values, lag) for lag in _LAGS if 2 * lag < len(values))],
        axis=0,
    )


def _rough(values: np.ndarray, lag: int) -> np.ndarray:
    bends = np.abs(values[2 * lag :] - 2 * values[lag:-lag] + values[: -2 * lag]) / MAD / 6**0.5
    return np.pad(median_filter(bends, size=min(_LOCAL, len(bends)), mode="nearest"), lag, mode="edge")
