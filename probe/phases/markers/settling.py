"""Where a curve settles: a fixed point, or the end of a fall. Pure functions on arrays.

As in :mod:`probe.phases.markers.marker`, steps are optimiser updates, times are compared on the axis
``x = log10(step + 1)``, missing values (NaN) are skipped, and no rule uses the result of another rule.

The final level of a curve is the median of its last tenth. A curve has settled only if it moves over its last fifth
by no more than its noise explains. If a random walk with the same increments would move as far, the result is
"undecided".
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter
from scipy.special import ndtri

from probe.phases.markers.crossings import GRID_INTERVAL, first_run, not_sustained
from probe.phases.markers.marker import Marker, Status, check_curve, check_share, check_sustained, too_few
from probe.stats.noise import noise_model, resolution_floor, variance_inflation

_LEAST_SETTLED = 20  # observations: the last tenth has two, the last fifth four
_BAND_INTERVAL = "90 %: last exit from a wider band, first entry into a narrower one"


def fixed_point(steps: ArrayLike, values: ArrayLike, *, n_sd: float = 3.0) -> Marker:
    """Find the first step from which a curve or trajectory stays within the noise of its final level.

    The final level is the median of the last tenth of the observations. The curve stays there while the running
    median of five observations lies within ``n_sd`` standard deviations of the noise, in every coordinate. The rule
    uses running medians, because some of a few hundred single observations leave any such band.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps.
    values : array of shape (n,) or (n, d)
        A curve, or a trajectory such as (information_x, information_y). The coordinates may have any units. A row
        with a missing value is skipped.
    n_sd : float
        Half width of the band, in standard deviations of the noise in the second half of the record.

    Returns
    -------
    Marker
        The interval reaches from the last exit from a wider band to the first entry after that into a narrower one.
        The bands are wider and narrower by 1.64 standard errors of a running median.
        "right_censored" if a coordinate still moves over the last fifth of the record, by more than one standard
        deviation and more than 2.6 standard errors of its straight line. "left_censored" if the curve is there from
        the start. "undecided" if a random walk with such increments would move as far. "undefined" with fewer than
        20 observations.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve` in each coordinate; also if ``n_sd`` is not positive.

    See Also
    --------
    fitting_end : The end of a fall, for a train loss.
    piecewise_linear_onset : The first bend of a curve.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import fixed_point
    >>> steps = np.arange(100)
    >>> accuracy = np.minimum(steps / 30, 1) + 0.01 * np.random.default_rng(0).standard_normal(100)
    >>> marker = fixed_point(steps, accuracy)
    >>> 25 <= marker.lower <= marker.step <= marker.upper <= 35
    True
    """
    if not n_sd > 0:
        raise ValueError(f"Expected n_sd > 0 standard deviations, got {n_sd}; 3 is usual.")
    s, rows = _check_rows(steps, values)
    rule = f"stays within {n_sd:g} sd of its last tenth"
    if len(s) < _LEAST_SETTLED:
        return too_few(s, rule, _LEAST_SETTLED)
    tails = [_tail(s, column) for column in rows.T]
    if all(tail.walks for tail in tails):
        return Marker(Status.UNDECIDED, rule, reason="a random walk moves as far, and has no fixed point")
    moving = [i for i, tail in enumerate(tails) if abs(tail.drift) > max(tail.drift_error, tail.sd)]
    if moving:
        i = moving[0]
        which = f" in coordinate {i}" if len(tails) > 1 else ""
        reason = f"the curve still moves{which}: by {tails[i].drift:.3g} over the last fifth, noise {tails[i].sd:.3g}"
        return Marker(Status.RIGHT_CENSORED, rule, reason=reason)
    distances = [np.abs(median_filter(c, 5) - t.final) / t.sd for c, t in zip(rows.T, tails, strict=True)]
    return _settled(s, np.max(distances, axis=0), n_sd, ndtri(0.95) * max(tail.median_error for tail in tails), rule)


def _settled(s: np.ndarray, distance: np.ndarray, n_sd: float, error: float, rule: str) -> Marker:
    """Return the last exit from the band; the interval comes from a band wider, and one narrower, by ``error``."""
    last = max(1, len(s) // 10)  # the final level comes from these observations: they are not tested
    exits = [np.flatnonzero(distance[:-last] > band) for band in (n_sd, n_sd + error)]
    if not len(exits[1]):
        reason = f"the curve is there at the first observation, at {s[0]:g}"
        return Marker(Status.LEFT_CENSORED, rule, reason=reason)
    first, lower = int(exits[0][-1]) + 1, int(exits[1][-1])
    inside = lower + np.flatnonzero(distance[lower:] <= max(n_sd - error, 0))
    upper = max(first, int(inside[0]) if len(inside) else len(s) - 1)
    return Marker(Status.FOUND, rule, float(s[first]), float(s[lower]), float(s[upper]), _BAND_INTERVAL)


class _Tail(NamedTuple):
    """The end of a curve: its final level, its noise, and whether it still moves."""

    final: float  # median of the last tenth
    sd: float  # of the noise in the second half
    median_error: float  # of a running median of five minus the final level, in sd
    drift: float  # of a straight line over the last fifth of the observations
    drift_error: float  # 2.6 standard errors: 1 %, two-sided
    walks: bool  # a random walk with such increments moves as far


def _tail(s: np.ndarray, v: np.ndarray) -> _Tail:
    n, last = len(v), max(2, len(v) // 10)
    noise = noise_model(v[None])
    sd, phi = float(np.median(noise.sd[0, n // 2 :])), float(noise.stationary_phi[0])
    final = float(np.median(v[-last:]))
    x, y = np.log10(s[-(n // 5) :] + 1), v[-(n // 5) :]
    dx = x - x.mean()
    drift = float(dx @ y / (dx @ dx) * np.ptp(x))
    error = ndtri(0.995) * sd * np.sqrt(variance_inflation(phi) / (dx @ dx)) * np.ptp(x)
    # The variance of a median of m is pi / 2m times that of one observation. Correlation increases it, up to once.
    medians = sum(min(np.pi / 2 / m * variance_inflation(phi), 1) for m in (5, last))
    # Of random walks of n increments 5 % move more than 2.24 sqrt(n) increments (reflection principle).
    travel, reach = float(np.abs(v - final).max()), 2.24 * np.sqrt(n * (1 - phi**2)) * sd
    # phi has a standard error of about 1 / sqrt(n), so that 0.95 - 1.5 / sqrt(n) cannot be distinguished from 0.95
    walks = phi >= 0.95 - 1.5 / np.sqrt(n) and resolution_floor(v) < travel < reach
    return _Tail(final, sd, float(np.sqrt(medians)), drift, float(error), walks)


def fitting_end(
    steps: ArrayLike, loss: ArrayLike, *, share: float = 0.99, n_sustained: int = 3, scale: str = "log"
) -> Marker:
    """Find the end of fitting where there is no accuracy (regression): the end of the fall of the train loss.

    The fall reaches from the first observation to the floor, the median of the last tenth. The end is the first of
    ``n_sustained`` observations in a row that lie above the floor by at most ``1 - share`` of the fall. One standard
    deviation of the noise replaces this tolerance if it is larger, because a floor is known no better.

    With ``scale="log"`` falls are measured in log units. A loss of 1 with a floor of 0.001 then ends at 0.00107, not
    at 0.011. A loss without a floor, such as a power law or an exponential, falls by as much in every decade, or
    more. Such a loss has no end in log units at any budget and is "right_censored". With ``scale="linear"`` the rule
    finds the step at which 99 % of the loss is gone, whatever the loss does afterwards. The linear rule is comparable
    with a train accuracy of .99 (the share of variance explained), and a power law has such a step.

    Parameters
    ----------
    steps, loss : array of shape (n,)
        Optimiser steps and the train loss.
    share : float
        Share of the total fall, in (0, 1).
    n_sustained : int
        Observations in a row.
    scale : "log" or "linear"
        Scale on which the fall is measured.

    Returns
    -------
    Marker
        The interval lies between the last observation before the run and its first observation. The interval is the
        grid of the record and does not include the effect of noise. ``fall_noise`` is the fall in sd of the noise.
        "right_censored" if the loss still falls over the last fifth of the observations, by more than ``1 - share``
        of its fall and by more than 2.6 standard errors. "absent" if the loss does not end at least three standard
        deviations below its start. "undefined" if the loss rises at the end by as much, or with fewer than 20
        values. "undecided" if a random walk with such increments would fall as far.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for parameters out of range and, with ``scale="log"``, for losses
        that are not positive.

    See Also
    --------
    sustained_crossing : The end of fitting on a train accuracy.
    fixed_point : The step from which any curve stays at its final level.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import fitting_end
    >>> steps = np.arange(100)
    >>> marker = fitting_end(steps, np.exp(-np.minimum(steps / 10, 5)))
    >>> marker.step, marker.lower, marker.upper
    (50.0, 49.0, 50.0)
    """
    check_share("share", share)
    check_sustained(n_sustained)
    if scale not in ("log", "linear"):
        raise ValueError(f"Expected scale 'log' or 'linear', got {scale!r}; pass one of the two.")
    s, v = check_curve(steps, loss)
    rule = f"{share:.4g} of the fall of the loss ({scale} scale) at {n_sustained} observations in a row"
    if len(v) < _LEAST_SETTLED:
        return too_few(v, rule, _LEAST_SETTLED)
    if scale == "log" and (v <= 0).any():
        raise ValueError(f"Expected positive losses, got {v.min():g} at step {s[np.argmin(v)]:g}; pass scale='linear'.")
    return _fall_end(s, np.log(v) if scale == "log" else v, share, n_sustained, rule, scale)


def _fall_end(s: np.ndarray, v: np.ndarray, share: float, n_sustained: int, rule: str, scale: str) -> Marker:
    tail = _tail(s, v)
    fall = v[0] - tail.final
    if fall <= 3 * tail.sd:
        change = f"falls by {fall:.2g}" if fall > 0 else f"does not fall (it ends {-fall:.2g} above its start)"
        noise = f"three standard deviations of its noise are {3 * tail.sd:.2g}"
        reason = f"the loss {change} on the {scale} scale, where {noise}"
        return Marker(Status.ABSENT, rule, reason=reason)
    if tail.walks:
        return Marker(Status.UNDECIDED, rule, reason="a random walk falls as far, and has no floor")
    if abs(tail.drift) > max(tail.drift_error, (1 - share) * fall):
        return _no_floor(tail, fall, rule)
    below = v <= tail.final + max((1 - share) * fall, tail.sd)
    start = first_run(below, n_sustained)  # not 0: the first observation exceeds the floor by more than the tolerance
    if start is None:
        return Marker(Status.RIGHT_CENSORED, rule, reason=not_sustained(s, below, n_sustained))
    step, before = float(s[start]), float(s[start - 1])
    return Marker(Status.FOUND, rule, step, before, step, GRID_INTERVAL, fall_noise=float(fall / tail.sd))


def _no_floor(tail: _Tail, fall: float, rule: str) -> Marker:
    """Return the marker of a loss that still moves at the end of the record."""
    part = f"by {100 * abs(tail.drift) / fall:.2g} % of its fall over the last fifth of the observations"
    if tail.drift > 0:
        return Marker(Status.UNDEFINED, rule, reason=f"the loss rises {part}, so that its fall has no end")
    return Marker(Status.RIGHT_CENSORED, rule, reason=f"the loss still falls, {part}: no floor is visible")


def _check_rows(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (n,) and values (n, d) of the rows that are complete."""
    s, rows = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"Expected values of shape (n,) or (n, d), got {np.shape(values)}; pass one trajectory.")
    for column in rows.T:
        check_curve(s, column)
    complete = ~np.isnan(rows).any(axis=1)
    return s[complete], rows[complete]
