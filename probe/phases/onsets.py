"""Where a curve bends, leaves its plateau, comes to rest, or has made its fall: pure functions on arrays.

As in :mod:`probe.phases.markers`: steps are optimiser updates, time is compared on the axis
``x = log10(step + 1)``, a missing value (NaN) is skipped, and no function looks at another marker.

The bends are knots of continuous straight pieces (:mod:`probe.phases.segmentation`). A bend counts if it saves more
of the residual sum of squares than ``2 log(n) s^2 (1 + phi) / (1 - phi)`` (BIC; place and change of slope are two
parameters), its interval holds the knots that cost less than ``F(1, n_e) s^2 (1 + phi) / (1 - phi)`` more than the
best one (profile likelihood; n_e independent observations are worth the n correlated ones). ``s`` and ``phi`` are
those of the residuals, so that a curve that is not made of straight pieces counts as noisy and its interval is wide.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter
from scipy.special import fdtri, ndtri

from probe.phases.markers import Marker, check_curve, too_few
from probe.phases.noise import floor, inflation, noise_model
from probe.phases.segmentation import BrokenSticks, broken_sticks

# Knots are tried at so many places at most: 0.04 dex apart on a log-spaced record of five decades, 0.08 on others.
_KNOTS = 120
# With noise so correlated, or worth so few independent observations, a random walk may be all there is.
_UNIT_ROOT, _LEAST_INDEPENDENT = 0.9, 16
# What pieces gain on a random walk, as ratio of residual sums of squares, at any length (600 walks each of 40, 100,
# 300): one knot on none and two on none, exceeded by 2.5 % each; the fall on a plateau that lasts, and that plateau on
# a constant, by 5 %.
_WALK_ONE, _WALK_TWO, _WALK_FALL, _WALK_RISE = 6.5, 10.0, 9.0, 15.0
# Parameters of the fits. A knot that was searched for takes up more freedom than one that was given (Friedman 1991
# charges 2 to 4): a place counts as two.
_ONE_KNOT, _TWO_KNOTS = 5, 8
_BY_CHANCE = "the noise may be a random walk, which often looks so"
_LEAST_BENT = 16  # observations: twice the parameters of the larger fit
_LEAST_RESTING = 20  # observations: the last tenth has two, the last fifth four
_PROFILE = "profile likelihood of the knot"


class _Noise(NamedTuple):
    sd: float
    variance: float  # of sums, for each observation: sd^2 (1 + phi) / (1 - phi)
    n_free: float  # independent observations, less the parameters
    wanders: bool  # like a random walk


def _residual_noise(residuals: np.ndarray, n_parameters: int, least: float) -> _Noise:
    """Noise from the residuals of a fit, at least ``least``.

    ``phi`` is the lag-one correlation, corrected for the parameters that were fitted (each bends the residuals
    towards negative correlation, Kendall 1954), plus one standard error: what is too low finds bends in noise.
    The residuals of a smooth curve are as correlated as those of a random walk, but either their increments are
    alike, or the noise on them is not so correlated.
    """
    n, p = len(residuals), n_parameters / 2
    squares = max(float(residuals @ residuals), n * least**2)
    phi = (n * float(residuals[1:] @ residuals[:-1]) / squares + p + 1) / (n - p - 3)
    phi = min(max(phi, 0.0), 0.95)  # negative correlation would only sharpen; 0.95 is beyond the unit-root rule
    phi = min(phi + np.sqrt((1 - phi**2) / n), 0.95)
    variance, worth = squares / (n - n_parameters), n / inflation(phi)
    wanders = (phi >= _UNIT_ROOT or worth < _LEAST_INDEPENDENT) and not _smooth(residuals)
    return _Noise(np.sqrt(variance), variance * inflation(phi), max(worth - n_parameters, 2), wanders)


def _smooth(residuals: np.ndarray) -> bool:
    moves = np.diff(residuals)
    return bool(moves[1:] @ moves[:-1] > 0.5 * (moves @ moves) or noise_model(residuals[None]).phi[0] < 0.3)


def _hinge_residuals(x: np.ndarray, y: np.ndarray, knots: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones_like(x), x, np.maximum(x[:, None] - x[knots], 0)])
    return y - design @ np.linalg.lstsq(design, y, rcond=None)[0]


def _found(s: np.ndarray, rule: str, knots: np.ndarray, rss: np.ndarray, noise: _Noise, credible: float) -> Marker:
    """The best knot and the interval of its profile, one knot wider: the truth may lie between."""
    around = np.concatenate([[knots[0] - 1], knots, [knots[-1] + 1]])
    likely = 1 + np.flatnonzero(rss - rss.min() <= fdtri(1, noise.n_free, credible) * noise.variance)
    lower, upper = s[around[likely[0] - 1]], s[around[likely[-1] + 1]]
    interval = f"{credible:.0%} {_PROFILE}"
    return Marker("found", rule, float(s[knots[np.argmin(rss)]]), float(lower), float(upper), interval)


def piecewise_linear_onset(steps: ArrayLike, values: ArrayLike, *, credible: float = 0.9) -> Marker:
    """Where a curve that was flat or straight begins to go another way: first knot of straight pieces that meet.

    Two or three pieces, whatever BIC prefers (three for a curve that also comes to rest), straight against
    ``x = log10(step + 1)``; a knot is one of the observations.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve.
    credible : float
        Level of the interval, in (0, 1).

    Returns
    -------
    Marker
        "absent" if no knot saves enough of the residual sum of squares (see the module), "undecided" if one does,
        but the noise wanders like a random walk, "undefined" with fewer than 16 values.

    Raises
    ------
    ValueError
        As :func:`probe.phases.markers.check_curve`; also for ``credible`` outside (0, 1).
    """
    _check_share("credible", credible)
    s, v = check_curve(steps, values)
    rule = "first knot of straight pieces that meet, over log10(step + 1)"
    if len(v) < _LEAST_BENT:
        return too_few(v, rule, _LEAST_BENT)
    x = np.log10(s + 1)
    sticks = broken_sticks(x, v, max_knots=_KNOTS)
    best = sticks.pairs[:, np.argmin(sticks.rss2)]
    noise = _residual_noise(_hinge_residuals(x, v, sticks.knots[best]), _TWO_KNOTS, floor(v))
    cost = _cost(len(v), noise)
    one, two = sticks.rss1.min() + cost, sticks.rss2.min() + 2 * cost
    if sticks.rss0 <= min(one, two):
        return Marker("absent", rule, reason="no bend improves on one straight line")
    if noise.wanders and sticks.rss0 < min(_WALK_ONE * sticks.rss1.min(), _WALK_TWO * sticks.rss2.min()):
        return Marker("undecided", rule, reason=_BY_CHANCE)
    if two < one:
        return _found(s, rule, sticks.knots, _profile(sticks, sticks.rss2, 0), noise, credible)
    noise = _residual_noise(_hinge_residuals(x, v, sticks.knots[[np.argmin(sticks.rss1)]]), _ONE_KNOT, floor(v))
    return _found(s, rule, sticks.knots, sticks.rss1, noise, credible)


def _profile(sticks: BrokenSticks, rss2: np.ndarray, which: int) -> np.ndarray:
    """Least residual sum of squares for each place of the first (0) or second (1) knot of two."""
    least = np.full(len(sticks.knots), np.inf)
    np.minimum.at(least, sticks.pairs[which], rss2)
    return least


def plateau_end(steps: ArrayLike, values: ArrayLike, *, direction: int = 1, credible: float = 0.9) -> Marker:
    """Where a plateau after a rise gives way to a fall: the second knot of three straight pieces that meet.

    The first piece must rise, the last fall, and the middle be at most half as steep as the last. Straight
    against ``x = log10(step + 1)``; knots are observations. Not the mode of the curve: on a plateau that is
    anywhere. The rise may be nil: a plateau from the first observation on is one.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve. The record should end with the fall: where the curve levels off again,
        give the steps before.
    direction : 1 or -1
        -1 for the mirror image: fall, plateau, rise.
    credible : float
        Level of the interval, in (0, 1).

    Returns
    -------
    Marker
        ``fall`` and ``fall_noise`` are of the fit. "right_censored" if the curve rises to a plateau that lasts
        until the end of the record; "absent" if it neither does that nor falls, or if three pieces of other
        slopes fit better; "undecided" if the noise wanders like a random walk; "undefined" with fewer than 16
        values. The fall counts if it saves enough beside the best rise to a plateau that lasts (see the module).

    Raises
    ------
    ValueError
        As :func:`probe.phases.markers.check_curve`; also for parameters out of range.
    """
    _check_share("credible", credible)
    if direction not in (1, -1):
        raise ValueError(f"expected direction 1 (rise, plateau, fall) or -1 (its mirror image), got {direction}")
    s, v = check_curve(steps, values)
    up, down = ("rise", "fall") if direction == 1 else ("fall", "rise")
    rule = f"second knot of {up}, plateau, {down}: straight pieces that meet, over log10(step + 1)"
    if len(v) < _LEAST_BENT:
        return too_few(v, rule, _LEAST_BENT)
    x, y = np.log10(s + 1), direction * v
    sticks = broken_sticks(x, y, max_knots=_KNOTS)
    shaped = np.where(_is_plateau(sticks.slopes), sticks.rss2, np.inf)
    free = np.argmin(sticks.rss2)
    noise = _residual_noise(_hinge_residuals(x, y, sticks.knots[sticks.pairs[:, free]]), _TWO_KNOTS, floor(v))
    cost = _cost(len(v), noise)
    rises, long, constant = _lasting_plateau(x, y)
    if rises - shaped.min() <= cost:
        if constant - rises <= cost or long - sticks.rss2[free] > cost:
            return Marker("absent", rule, reason=f"no {down} after a {up} or a plateau")
        if noise.wanders and constant < _WALK_RISE * rises:
            return Marker("undecided", rule, reason=_BY_CHANCE)
        return Marker("right_censored", rule, reason=f"the plateau lasts up to the last observation, at {s[-1]:g}")
    if shaped.min() - sticks.rss2[free] > cost:
        seen = ", ".join(f"{direction * slope:.3g}" for slope in sticks.slopes[:, free])
        return Marker("absent", rule, reason=f"three pieces with the slopes {seen} per decade fit better")
    if noise.wanders and rises < _WALK_FALL * shaped.min():
        return Marker("undecided", rule, reason=_BY_CHANCE)
    marker = _found(s, rule, sticks.knots, _profile(sticks, shaped, 1), noise, credible)
    share, drop = _fall(x, y, sticks.knots[sticks.pairs[:, np.argmin(shaped)]])
    return replace(marker, fall=share, fall_noise=drop / noise.sd)


def _fall(x: np.ndarray, y: np.ndarray, knots: np.ndarray) -> tuple[float, float]:
    """Fall of the fit after its second knot, relative to its rise before and as it is."""
    fit = y - _hinge_residuals(x, y, knots)
    drop, rise = float(fit[knots[1]] - fit[-1]), float(fit[knots[1]] - fit[0])
    return (drop / rise if rise > 0 else np.nan), drop


def _is_plateau(slopes: np.ndarray) -> np.ndarray:
    return (slopes[0] > 0) & (slopes[2] < 0) & (np.abs(slopes[1]) <= -slopes[2] / 2)


def _lasting_plateau(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Residual sums of squares of a rise (bent once) to a plateau until the end, and of a constant.

    The first is with a plateau of any length, the second with one of at least a fifth of the record.
    """
    back = broken_sticks(-x[::-1], y[::-1], max_knots=_KNOTS, flat_start=True)
    rises = (back.slopes[1:] <= 0).all(axis=0)  # seen from the end
    long = rises & (x[-1] - x[len(x) - 1 - back.knots[back.pairs[0]]] >= np.ptp(x) / 5)
    any_length, fifth = (float(back.rss2[chosen].min(initial=np.inf)) for chosen in (rises, long))
    return min(back.rss0, any_length), fifth, back.rss0


def _cost(n: int, noise: _Noise) -> float:
    return 2 * float(np.log(n)) * noise.variance


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
        As :func:`probe.phases.markers.check_curve` in each coordinate; also if ``k`` is not positive.
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
    walks = phi >= 0.95 - 1.5 / np.sqrt(n) and floor(v) < travel < reach  # phi is known no better
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
        As :func:`probe.phases.markers.check_curve`; also for parameters out of range and, with
        ``scale="log"``, for losses that are not positive.
    """
    _check_share("share", share)
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


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"expected 0 < {name} < 1, got {value}")


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
