"""Where a curve bends or leaves its plateau: pure functions on arrays.

As in :mod:`probe.phases.markers.marker`, steps are optimiser updates, times are compared on the axis
``x = log10(step + 1)``, missing values (NaN) are skipped, and no rule uses the result of another rule.

The bends are knots of continuous piecewise linear fits (:mod:`probe.stats.segmented`). A bend counts if it reduces the
residual sum of squares by more than ``2 log(n) s^2 (1 + phi) / (1 - phi)``. This penalty is BIC: the position and the
change of slope are two parameters. The interval contains the knots whose residual sum of squares exceeds the best one
by at most ``F(1, n_e) s^2 (1 + phi) / (1 - phi)`` (profile likelihood), n_e being the effective number of independent
observations. ``s`` and ``phi`` come from the residuals, so that a curve that does not consist of straight pieces counts
as noisy, and its interval is wide.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtri

from probe.phases.markers.marker import Marker, Status, check_curve, check_share, too_few
from probe.stats.noise import noise_model, resolution_floor, variance_inflation
from probe.stats.segmented import SegmentedFit, segmented_fit

# Largest number of knots that are tried: 0.04 dex apart on a log-spaced record of five decades, 0.08 on others.
_MAX_KNOTS = 120
# Noise with so large a correlation, or with so few effective observations, may be a random walk.
_UNIT_ROOT, _LEAST_INDEPENDENT = 0.9, 16
# Ratio of residual sums of squares that pieces reach on a random walk, at any length (600 walks each of 40, 100 and 300
# observations). 2.5 % of the walks exceed the ratio for one knot, and 2.5 % that for two knots, each against none. 5 %
# exceed the ratio for a fall after a lasting plateau, and 5 % that for such a plateau against a constant.
_WALK_ONE, _WALK_TWO, _WALK_FALL, _WALK_RISE = 6.5, 10.0, 9.0, 15.0
# Parameters of the fits. A knot that was searched for uses more degrees of freedom than a given one (Friedman 1991
# charges 2 to 4): a position counts as two.
_ONE_KNOT, _TWO_KNOTS = 5, 8
_RANDOM_WALK = "the noise may be a random walk, and random walks often have this shape"
_LEAST_BENT = 16  # observations: twice the parameters of the larger fit
_PROFILE = "profile likelihood of the knot"


class _Noise(NamedTuple):
    sd: float
    variance: float  # of sums, per observation: sd^2 (1 + phi) / (1 - phi)
    n_free: float  # effective observations minus parameters
    may_walk: bool  # cannot be distinguished from a random walk


def _residual_noise(residuals: np.ndarray, n_parameters: int, least: float) -> _Noise:
    """Estimate the noise from the residuals of a fit; the standard deviation is at least ``least``.

    ``phi`` is the lag-one correlation plus one standard error, because a correlation that is too low finds bends in
    noise. It is corrected for the fitted parameters, each of which makes residuals less correlated (Kendall 1954).
    The residuals of a smooth curve are as correlated as those of a random walk. They are recognised by their
    increments, which are correlated, or by their noise, which is not.
    """
    n, p = len(residuals), n_parameters / 2
    squares = max(float(residuals @ residuals), n * least**2)
    phi = (n * float(residuals[1:] @ residuals[:-1]) / squares + p + 1) / (n - p - 3)
    phi = min(max(phi, 0.0), 0.95)  # a negative phi would only narrow intervals; 0.95 is beyond the unit-root rule
    phi = min(phi + np.sqrt((1 - phi**2) / n), 0.95)
    variance, n_effective = squares / (n - n_parameters), n / variance_inflation(phi)
    may_walk = (phi >= _UNIT_ROOT or n_effective < _LEAST_INDEPENDENT) and not _smooth(residuals)
    return _Noise(np.sqrt(variance), variance * variance_inflation(phi), max(n_effective - n_parameters, 2), may_walk)


def _smooth(residuals: np.ndarray) -> bool:
    """Return whether residuals are those of a smooth curve: correlated increments, or noise of low correlation."""
    increments = np.diff(residuals)
    correlated = increments[1:] @ increments[:-1] > 0.5 * (increments @ increments)
    return bool(correlated or noise_model(residuals[None]).phi[0] < 0.3)


def _hinge_residuals(x: np.ndarray, y: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return the residuals (n,) of the least squares fit with these knots."""
    design = np.column_stack([np.ones_like(x), x, np.maximum(x[:, None] - x[knots], 0)])
    return y - design @ np.linalg.lstsq(design, y, rcond=None)[0]


def _found(s: np.ndarray, rule: str, knots: np.ndarray, rss: np.ndarray, noise: _Noise, level: float) -> Marker:
    """Return the best knot and the interval of its profile, wider by one knot, because the truth may lie between."""
    around = np.concatenate([[knots[0] - 1], knots, [knots[-1] + 1]])
    likely = 1 + np.flatnonzero(rss - rss.min() <= fdtri(1, noise.n_free, level) * noise.variance)
    lower, upper = s[around[likely[0] - 1]], s[around[likely[-1] + 1]]
    interval = f"{level:.0%} {_PROFILE}"
    return Marker(Status.FOUND, rule, float(s[knots[np.argmin(rss)]]), float(lower), float(upper), interval)


def piecewise_linear_onset(steps: ArrayLike, values: ArrayLike, *, level: float = 0.9) -> Marker:
    """Find the first bend of a curve that was flat or straight: the first knot of a continuous piecewise linear fit.

    The fit has two or three pieces, whichever BIC prefers (three for a curve that also settles). Pieces are straight
    against ``x = log10(step + 1)``. A knot is one of the observations.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Marker
        "absent" if no knot reduces the residual sum of squares by more than the penalty (see the module). "undecided"
        if one does, but the noise cannot be distinguished from a random walk. "undefined" with fewer than 16 values.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for ``level`` outside (0, 1).

    See Also
    --------
    plateau_end : The second bend, where a plateau ends.
    probe.stats.piecewise_linear : Pieces of any number, also with jumps.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import piecewise_linear_onset
    >>> steps = np.logspace(0, 4, 41) - 1
    >>> values = np.maximum(np.log10(steps + 1) - 2, 0) + 0.01 * np.random.default_rng(0).standard_normal(41)
    >>> marker = piecewise_linear_onset(steps, values)
    >>> marker.lower <= 99 <= marker.upper
    True
    """
    check_share("level", level)
    s, v = check_curve(steps, values)
    rule = "first knot of a continuous piecewise linear fit over log10(step + 1)"
    if len(v) < _LEAST_BENT:
        return too_few(v, rule, _LEAST_BENT)
    x = np.log10(s + 1)
    fits = segmented_fit(x, v, max_knots=_MAX_KNOTS)
    best = fits.pairs[:, np.argmin(fits.rss2)]
    noise = _residual_noise(_hinge_residuals(x, v, fits.knots[best]), _TWO_KNOTS, resolution_floor(v))
    cost = _cost(len(v), noise)
    one, two = fits.rss1.min() + cost, fits.rss2.min() + 2 * cost
    if fits.rss0 <= min(one, two):
        return Marker(Status.ABSENT, rule, reason="no bend improves on one straight line")
    if noise.may_walk and fits.rss0 < min(_WALK_ONE * fits.rss1.min(), _WALK_TWO * fits.rss2.min()):
        return Marker(Status.UNDECIDED, rule, reason=_RANDOM_WALK)
    if two < one:
        return _found(s, rule, fits.knots, _profile(fits, fits.rss2, 0), noise, level)
    noise = _residual_noise(_hinge_residuals(x, v, fits.knots[[np.argmin(fits.rss1)]]), _ONE_KNOT, resolution_floor(v))
    return _found(s, rule, fits.knots, fits.rss1, noise, level)


def _profile(fits: SegmentedFit, rss2: np.ndarray, which: int) -> np.ndarray:
    """Return the least residual sum of squares for each position of the first (0) or second (1) of two knots."""
    least = np.full(len(fits.knots), np.inf)
    np.minimum.at(least, fits.pairs[which], rss2)
    return least


def plateau_end(steps: ArrayLike, values: ArrayLike, *, direction: int = 1, level: float = 0.9) -> Marker:
    """Find where a plateau after a rise ends in a fall: the second knot of a continuous fit of three straight pieces.

    The first piece must rise, the last must fall, and the middle must be at most half as steep as the last. Pieces
    are straight against ``x = log10(step + 1)``; knots are observations. The marker differs from the mode of the
    curve, which may lie anywhere on a plateau. The rise may be zero, so that a plateau from the first observation on
    counts.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve. The record should end with the fall. If the curve settles after that, pass only
        the steps before.
    direction : 1 or -1
        -1 for the mirror image: fall, plateau, rise.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Marker
        ``fall`` and ``fall_noise`` are those of the fit. "right_censored" if the curve rises to a plateau that lasts
        until the end of the record. "absent" if the curve neither does that nor falls, or if three pieces of other
        slopes fit better. "undecided" if the noise cannot be distinguished from a random walk. "undefined" with fewer
        than 16 values. The fall counts if it reduces the residual sum of squares by more than the penalty (see the
        module), compared with the best rise to a plateau that lasts.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for parameters out of range.

    See Also
    --------
    unimodal_mode : The top of a curve without a plateau.
    piecewise_linear_onset : The first bend of a curve.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import plateau_end
    >>> steps = np.logspace(0, 4, 41) - 1
    >>> values = np.interp(np.log10(steps + 1), [0, 1, 3, 4], [0, 1, 1, 0])
    >>> values += 0.01 * np.random.default_rng(0).standard_normal(41)
    >>> marker = plateau_end(steps, values)
    >>> marker.lower <= 999 <= marker.upper
    True
    """
    check_share("level", level)
    if direction not in (1, -1):
        raise ValueError(
            f"Expected direction 1 or -1, got {direction}; pass 1 for rise, plateau, fall, or -1 for the mirror image."
        )
    s, v = check_curve(steps, values)
    up, down = ("rise", "fall") if direction == 1 else ("fall", "rise")
    rule = f"second knot of {up}, plateau, {down} in a continuous piecewise linear fit over log10(step + 1)"
    if len(v) < _LEAST_BENT:
        return too_few(v, rule, _LEAST_BENT)
    x, y = np.log10(s + 1), direction * v
    fits = segmented_fit(x, y, max_knots=_MAX_KNOTS)
    shaped = np.where(_is_plateau(fits.slopes), fits.rss2, np.inf)
    free = int(np.argmin(fits.rss2))
    residuals = _hinge_residuals(x, y, fits.knots[fits.pairs[:, free]])
    noise = _residual_noise(residuals, _TWO_KNOTS, resolution_floor(v))
    cost, lasting = _cost(len(v), noise), _lasting_plateau(x, y)
    if lasting.rss - shaped.min() <= cost:
        if lasting.constant - lasting.rss <= cost or lasting.long_rss - fits.rss2[free] > cost:
            return Marker(Status.ABSENT, rule, reason=f"no {down} after a {up} or a plateau")
        return _censored(rule, s[-1], noise.may_walk and lasting.constant < _WALK_RISE * lasting.rss)
    if shaped.min() - fits.rss2[free] > cost:
        slopes = ", ".join(f"{direction * slope:.3g}" for slope in fits.slopes[:, free])
        return Marker(Status.ABSENT, rule, reason=f"three pieces with the slopes {slopes} per decade fit better")
    if noise.may_walk and lasting.rss < _WALK_FALL * shaped.min():
        return Marker(Status.UNDECIDED, rule, reason=_RANDOM_WALK)
    marker = _found(s, rule, fits.knots, _profile(fits, shaped, 1), noise, level)
    share, drop = _fall(x, y, fits.knots[fits.pairs[:, np.argmin(shaped)]])
    return replace(marker, fall=share, fall_noise=drop / noise.sd)


def _censored(rule: str, last_step: float, may_walk: bool) -> Marker:
    """Return the marker of a rise to a plateau that lasts until the end of the record."""
    if may_walk:
        return Marker(Status.UNDECIDED, rule, reason=_RANDOM_WALK)
    reason = f"the plateau lasts until the last observation, at {last_step:g}"
    return Marker(Status.RIGHT_CENSORED, rule, reason=reason)


def _fall(x: np.ndarray, y: np.ndarray, knots: np.ndarray) -> tuple[float, float]:
    """Return the fall of the fit after its second knot: relative to the rise before, and in units of the curve."""
    fit = y - _hinge_residuals(x, y, knots)
    drop, rise = float(fit[knots[1]] - fit[-1]), float(fit[knots[1]] - fit[0])
    return (drop / rise if rise > 0 else np.nan), drop


def _is_plateau(slopes: np.ndarray) -> np.ndarray:
    """Return whether the slopes (3, ...) are those of a rise, a plateau and a fall."""
    return (slopes[0] > 0) & (slopes[2] < 0) & (np.abs(slopes[1]) <= -slopes[2] / 2)


class _Lasting(NamedTuple):
    """Residual sums of squares of fits without a fall."""

    rss: float  # a rise (with one bend) to a plateau until the end
    long_rss: float  # the same, with a plateau of at least a fifth of the record
    constant: float


def _lasting_plateau(x: np.ndarray, y: np.ndarray) -> _Lasting:
    reverse = segmented_fit(-x[::-1], y[::-1], max_knots=_MAX_KNOTS, flat_start=True)
    rises = (reverse.slopes[1:] <= 0).all(axis=0)  # in reverse, the rise is a fall
    long = rises & (x[-1] - x[len(x) - 1 - reverse.knots[reverse.pairs[0]]] >= np.ptp(x) / 5)
    any_length, fifth = (float(reverse.rss2[chosen].min(initial=np.inf)) for chosen in (rises, long))
    return _Lasting(min(reverse.rss0, any_length), fifth, reverse.rss0)


def _cost(n: int, noise: _Noise) -> float:
    """Return the penalty of one knot."""
    return 2 * float(np.log(n)) * noise.variance
