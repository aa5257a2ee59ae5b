"""Where a curve comes to rest, or has made its fall: pure functions on arrays.

As in :mod:`probe.phases.markers.marker`: steps are optimiser updates, time is compared on the axis
``x = log10(step + 1)``, a missing value (NaN) is skipped, and no function looks at another marker.

Where a curve ends is the median of its last tenth, and it must not move over its last fifth by more than its noise
explains; a curve that a random walk with such increments would draw as well comes to rest nowhere.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter
from scipy.special import ndtri

from probe.phases.markers.marker import Marker, check_curve, check_share, too_few
from probe.stats.noise import inflation, noise_model, resolution_floor

_LEAST_RESTING = 20  # observations: the last tenth has two, the last fifth four


def fixed_point(steps: ArrayLike, values: ArrayLike, *, k: float = 3.0) -> Marker:
    """First step from which a curve or trajectory stays within the noise of where it ends.

    Its end is the median of the last tenth of the observations. It stays there while the running median of five
    is within ``k`` standard deviations of the noise, in every coordinate; the running median, since of a few
    hundred single observations some leave any such band.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps.
    values : array of shape (n,) or (n, d)
        A curve, or a trajectory such as (information_x, information_y); the coordinates may have any units. A
        row with a missing value is left out.
    k : float
        Half width of the band, in standard deviations of the noise in the second half of the record.

    Returns
    -------
    Marker
        Interval: between the last exit from a band that is wider by 1.64 standard errors of a running median, and
        the first entry after that into one narrower by as much.
        "right_censored" if a coordinate still moves over the last fifth of the record, by more than one standard
        deviation and more than 2.6 standard errors of its straight line, "left_censored" if it was there from
        the start, "undecided" if a random walk with such increments would go as far, "undefined"
        with fewer than 20 observations.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve` in each coordinate; also if ``k`` is not positive.
    """
    if not k > 0:
        raise ValueError(f"expected k > 0 standard deviations, got {k}")
    s, rows = _check_rows(steps, values)
    rule = f"stays within {k:g} sd of its last tenth"
    if len(s) < _LEAST_RESTING:
        return too_few(s, rule, _LEAST_RESTING)
    rests = [_rest(s, column) for column in rows.T]
    if all(rest.walks for rest in rests):
        return Marker("undecided", rule, reason="a random walk moves as far, and comes to rest nowhere")
    moving = [i for i, rest in enumerate(rests) if abs(rest.drift) > max(rest.drift_error, rest.sd)]
    if moving:
        i = moving[0]
        which = f" in coordinate {i}" if len(rests) > 1 else ""
        reason = f"still moves{which}: by {rests[i].drift:.3g} over the last fifth, noise {rests[i].sd:.3g}"
        return Marker("right_censored", rule, reason=reason)
    away = [np.abs(median_filter(c, 5) - r.level) / r.sd for c, r in zip(rows.T, rests, strict=True)]
    return _resting(s, np.max(away, axis=0), k, ndtri(0.95) * max(rest.median_error for rest in rests), rule)


def _resting(s: np.ndarray, distance: np.ndarray, k: float, error: float, rule: str) -> Marker:
    """Last exit from the band; lower: from one wider by ``error``, upper: after that first inside a narrower one."""
    last = max(1, len(s) // 10)  # which is where the curve ends: not looked at
    exits = [np.flatnonzero(distance[:-last] > band) for band in (k, k + error)]
    if not len(exits[1]):
        return Marker("left_censored", rule, reason=f"there already at the first observation, at {s[0]:g}")
    first, lower = int(exits[0][-1]) + 1, int(exits[1][-1])
    inside = lower + np.flatnonzero(distance[lower:] <= max(k - error, 0))
    upper = max(first, int(inside[0]) if len(inside) else len(s) - 1)
    interval = "90 %: last exit from a wider band, first entry into a narrower one"
    return Marker("found", rule, float(s[first]), float(s[lower]), float(s[upper]), interval)


class _Rest(NamedTuple):
    level: float  # median of the last tenth
    sd: float  # of the noise
    median_error: float  # of a running median of five less the level, in sd
    drift: float  # of a straight line over the last fifth of the observations
    drift_error: float  # 2.6 standard errors: 1 %, two-sided
    walks: bool  # a random walk with such increments goes as far


def _rest(s: np.ndarray, v: np.ndarray) -> _Rest:
    """Where a curve ends and whether it still moves; the size of the noise is that of the second half."""
    n, last = len(v), max(2, len(v) // 10)
    noise = noise_model(v[None])
    sd, phi = float(np.median(noise.sd[0, n // 2 :])), float(noise.stationary_phi[0])
    level = float(np.median(v[-last:]))
    x, y = np.log10(s[-(n // 5) :] + 1), v[-(n // 5) :]
    dx = x - x.mean()
    drift = float(dx @ y / (dx @ dx) * np.ptp(x))
    error = ndtri(0.995) * sd * np.sqrt(inflation(phi) / (dx @ dx)) * np.ptp(x)
    # The variance of a median of m is pi / 2m that of one observation, more if they are correlated, not more than it.
    medians = sum(min(np.pi / 2 / m * inflation(phi), 1) for m in (5, last))
    # Of random walks of n increments 5 % go farther than 2.24 sqrt(n) of them (reflection principle).
    travel, reach = float(np.abs(v - level).max()), 2.24 * np.sqrt(n * (1 - phi**2)) * sd
    walks = phi >= 0.95 - 1.5 / np.sqrt(n) and resolution_floor(v) < travel < reach  # phi is known no better
    return _Rest(level, sd, float(np.sqrt(medians)), drift, float(error), walks)


def fitting_end(steps: ArrayLike, loss: ArrayLike, *, share: float = 0.99, m: int = 3, scale: str = "log") -> Marker:
    """End of fitting where there is no accuracy (regression): the train loss has made its fall.

    Start: the first observation. Floor: the median of the last tenth. The end is the first of ``m`` observations
    in a row that are above the floor by at most ``1 - share`` of the fall, or by one standard deviation of the
    noise if that is more: a floor is known no better.

    Falls are measured in log units (``scale="log"``): a loss of 1 with a floor of 0.001 is there at 0.00107, not
    at 0.011. A loss without a floor, such as a power law or an exponential, falls by as much in every decade, or
    ever more: it has no end in log units at any budget, and is "right_censored". ``scale="linear"`` asks for the
    step at which 99 % of the loss is gone, whatever it does then: that is the rule that compares with a train
    accuracy of .99 (the share of variance explained), and a power law has such a step.

    Parameters
    ----------
    steps, loss : array of shape (n,)
        Optimiser steps and the train loss.
    share : float
        Of the total fall, in (0, 1).
    m : int
        Observations in a row.
    scale : "log" or "linear"

    Returns
    -------
    Marker
        The interval lies between the last observation before the run and its first one: where the rule holds, not
        how far noise may have moved it; ``fall_noise`` is the fall in sd of the noise. "right_censored" if over
        the last fifth of the observations the loss still falls by more than ``1 - share`` of its fall, and by
        more than 2.6 standard errors; "absent" if it does not end lower than it began by three standard
        deviations; "undefined" if it rises at the end as much, or with fewer than 20 values; "undecided" if a
        random walk with such increments would fall as far.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for parameters out of range and, with
        ``scale="log"``, for losses that are not positive.
    """
    check_share("share", share)
    if m < 1 or scale not in ("log", "linear"):
        raise ValueError(f"expected m >= 1 and scale 'log' or 'linear', got m={m} and scale={scale!r}")
    s, v = check_curve(steps, loss)
    rule = f"{share:.4g} of the fall of the loss ({scale} scale) at {m} observations in a row"
    if len(v) < _LEAST_RESTING:
        return too_few(v, rule, _LEAST_RESTING)
    if scale == "log" and (v <= 0).any():
        raise ValueError(f"expected positive losses, got {v.min():g} at step {s[np.argmin(v)]:g}; pass scale='linear'")
    return _fallen(s, np.log(v) if scale == "log" else v, share, m, rule)


def _fallen(s: np.ndarray, v: np.ndarray, share: float, m: int, rule: str) -> Marker:
    rest = _rest(s, v)
    fall = v[0] - rest.level
    if fall <= 3 * rest.sd:
        return Marker("absent", rule, reason="the loss does not fall by three standard deviations of its noise")
    if rest.walks:
        return Marker("undecided", rule, reason="a random walk falls as far, and has no floor")
    if abs(rest.drift) > max(rest.drift_error, (1 - share) * fall):
        part = f"{abs(rest.drift) / fall:.2%} of its fall over the last fifth of the observations"
        if rest.drift > 0:
            return Marker("undefined", rule, reason=f"the loss rises by {part}: no floor")
        return Marker("right_censored", rule, reason=f"the loss still makes {part}: no floor is seen")
    below = v <= rest.level + max((1 - share) * fall, rest.sd)
    runs = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(below, m).all(axis=1))
    if not len(runs):
        return Marker("right_censored", rule, reason=f"not sustained up to the last observation, at {s[-1]:g}")
    first = int(runs[0])  # not 0: the first observation is more than the tolerance above the floor
    interval = "grid: last observation before, first of the run"
    return Marker(
        "found", rule, float(s[first]), float(s[first - 1]), float(s[first]), interval, fall_noise=float(fall / rest.sd)
    )


def _check_rows(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (n,) and values (n, d) of the rows that are complete."""
    s, rows = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"expected values of shape (n,) or (n, d), got {np.shape(values)}; pass one trajectory")
    for column in rows.T:
        check_curve(s, column)
    complete = ~np.isnan(rows).any(axis=1)
    return s[complete], rows[complete]
