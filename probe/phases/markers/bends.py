"""Where a curve bends or leaves its plateau: pure functions on arrays.

As in :mod:`probe.phases.markers.marker`: steps are optimiser updates, time is compared on the axis
``x = log10(step + 1)``, a missing value (NaN) is skipped, and no function looks at another marker.

The bends are knots of continuous straight pieces (:mod:`probe.stats.changepoints`). A bend counts if it saves more
of the residual sum of squares than ``2 log(n) s^2 (1 + phi) / (1 - phi)`` (BIC; place and change of slope are two
parameters), its interval holds the knots that cost less than ``F(1, n_e) s^2 (1 + phi) / (1 - phi)`` more than the
best one (profile likelihood; n_e independent observations are worth the n correlated ones). ``s`` and ``phi`` are
those of the residuals, so that a curve that is not made of straight pieces counts as noisy and its interval is wide.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtri

from probe.phases.markers.marker import Marker, check_curve, check_share, too_few
from probe.stats.noise import inflation, noise_model, resolution_floor
from probe.stats.segmented import SegmentedFit, segmented_fit

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
        As :func:`probe.phases.check_curve`; also for ``credible`` outside (0, 1).
    """
    check_share("credible", credible)
    s, v = check_curve(steps, values)
    rule = "first knot of straight pieces that meet, over log10(step + 1)"
    if len(v) < _LEAST_BENT:
        return too_few(v, rule, _LEAST_BENT)
    x = np.log10(s + 1)
    sticks = segmented_fit(x, v, max_knots=_KNOTS)
    best = sticks.pairs[:, np.argmin(sticks.rss2)]
    noise = _residual_noise(_hinge_residuals(x, v, sticks.knots[best]), _TWO_KNOTS, resolution_floor(v))
    cost = _cost(len(v), noise)
    one, two = sticks.rss1.min() + cost, sticks.rss2.min() + 2 * cost
    if sticks.rss0 <= min(one, two):
        return Marker("absent", rule, reason="no bend improves on one straight line")
    if noise.wanders and sticks.rss0 < min(_WALK_ONE * sticks.rss1.min(), _WALK_TWO * sticks.rss2.min()):
        return Marker("undecided", rule, reason=_BY_CHANCE)
    if two < one:
        return _found(s, rule, sticks.knots, _profile(sticks, sticks.rss2, 0), noise, credible)
    noise = _residual_noise(
        _hinge_residuals(x, v, sticks.knots[[np.argmin(sticks.rss1)]]), _ONE_KNOT, resolution_floor(v)
    )
    return _found(s, rule, sticks.knots, sticks.rss1, noise, credible)


def _profile(sticks: SegmentedFit, rss2: np.ndarray, which: int) -> np.ndarray:
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
        As :func:`probe.phases.check_curve`; also for parameters out of range.
    """
    check_share("credible", credible)
    if direction not in (1, -1):
        raise ValueError(f"expected direction 1 (rise, plateau, fall) or -1 (its mirror image), got {direction}")
    s, v = check_curve(steps, values)
    up, down = ("rise", "fall") if direction == 1 else ("fall", "rise")
    rule = f"second knot of {up}, plateau, {down}: straight pieces that meet, over log10(step + 1)"
    if len(v) < _LEAST_BENT:
        return too_few(v, rule, _LEAST_BENT)
    x, y = np.log10(s + 1), direction * v
    sticks = segmented_fit(x, y, max_knots=_KNOTS)
    shaped = np.where(_is_plateau(sticks.slopes), sticks.rss2, np.inf)
    free = np.argmin(sticks.rss2)
    noise = _residual_noise(
        _hinge_residuals(x, y, sticks.knots[sticks.pairs[:, free]]), _TWO_KNOTS, resolution_floor(v)
    )
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
    back = segmented_fit(-x[::-1], y[::-1], max_knots=_KNOTS, flat_start=True)
    rises = (back.slopes[1:] <= 0).all(axis=0)  # seen from the end
    long = rises & (x[-1] - x[len(x) - 1 - back.knots[back.pairs[0]]] >= np.ptp(x) / 5)
    any_length, fifth = (float(back.rss2[chosen].min(initial=np.inf)) for chosen in (rises, long))
    return min(back.rss0, any_length), fifth, back.rss0


def _cost(n: int, noise: _Noise) -> float:
    return 2 * float(np.log(n)) * noise.variance
