"""Where a phase ends: crossings, peaks and a test for the second descent, as pure functions on arrays.

Steps are optimiser updates; time is compared on the axis ``x = log10(step + 1)``. A missing value (NaN) is
skipped. No function looks at the result of another marker, so that an agreement of markers means something.

The fits are in :mod:`probe.phases.shapes`, the noise in :mod:`probe.phases.noise`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.noise import MAD, ar1, ar1_noise, floor, upward_spikes
from probe.phases.shapes import prefix_isotonic, shape_rss, unimodal_splits, valley


@dataclass(frozen=True)
class Marker:
    """One end of a phase: where, how sure, by which rule.

    ``step``, ``lower`` and ``upper`` are in optimiser steps and NaN unless ``status`` is "found". ``fall`` is
    the fall after a peak relative to the rise before it, ``fall_noise`` the same fall in standard deviations
    of the noise, ``n_spikes`` the number of observations that were set aside as spikes.
    """

    status: str  # found, absent, left_censored, right_censored or undefined
    rule: str
    step: float = np.nan
    lower: float = np.nan
    upper: float = np.nan
    interval: str = ""
    p_value: float = np.nan
    fall: float = np.nan
    fall_noise: float = np.nan
    n_spikes: int = 0
    reason: str = ""


def check_curve(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values, both float64 of shape (n,), without missing values.

    Raises
    ------
    ValueError
        If the two are not 1-D and of one length, a step is not finite, negative or not above the one before,
        or a value is infinite.
    """
    s, v = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if s.ndim != 1 or s.shape != v.shape:
        raise ValueError(f"expected steps and values of one shape (n,), got {s.shape} and {v.shape}; pass one curve")
    if not np.isfinite(s).all() or (s < 0).any() or (np.diff(s) <= 0).any():
        raise ValueError(
            "expected finite, strictly increasing steps from 0 on, got unsorted, repeated, negative or "
            "non-finite ones; sort by step and keep one row a step"
        )
    if np.isinf(v).any():
        raise ValueError(
            f"expected finite values or NaN, got {np.isinf(v).sum()} infinite ones, first at step "
            f"{s[np.isinf(v)][0]:g}; set diverged values to NaN if they are to be skipped"
        )
    valid = ~np.isnan(v)
    return s[valid], v[valid]


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
        return Marker("undefined", rule, reason=f"{len(v)} valid observations, {m} are needed")
    above = v >= level
    runs = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(above, m).all(axis=1))
    if len(runs) == 0:
        held = int(np.argmin(above[::-1]))  # above[-m:] is not all true, so that argmin finds a false one
        tail = f"; the last {held} hold, the record ends before {m}" if held else ""
        return Marker("right_censored", rule, reason=f"not sustained up to the last step {s[-1]:g}{tail}")
    if runs[0] == 0:
        return Marker("left_censored", rule, reason=f"holds already at the first observation, step {s[0]:g}")
    k = runs[0]
    interval = "grid: last observation before, first of the run"
    return Marker("found", rule, float(s[k]), float(s[k - 1]), float(s[k]), interval)


def unimodal_mode(steps: ArrayLike, values: ArrayLike, *, credible: float = 0.9) -> Marker:
    """Top of a rise-then-fall curve: posterior mean of the mode of a unimodal fit.

    ``w_k ~ exp(-(RSS_k - min RSS) / (2 s^2))`` and ``x = sum_k w_k x(mode_k)`` with ``x = log10(step + 1)``;
    ``s`` from the median absolute first difference / (0.6745 sqrt 2), at least the rounding of float32. A
    flat prior over the observations, and white noise, are assumed: under autocorrelation the interval is too
    short.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve.
    credible : float
        Mass of the interval, in (0, 1). The interval is never narrower than the neighbouring observations.

    Returns
    -------
    Marker
        "found", or "undefined" with fewer than 4 values. There may be
        no peak at all: :func:`second_descent` tests that.

    Raises
    ------
    ValueError
        As :func:`check_curve`; also for a mass outside (0, 1).
    """
    if not 0 < credible < 1:
        raise ValueError(f"expected credible between 0 and 1, got {credible}; 0.9 is usual")
    s, v = check_curve(steps, values)
    rule = "posterior mean of the unimodal mode"
    if len(v) < 4:
        return Marker("undefined", rule, reason=f"{len(v)} valid observations, 4 are needed")
    rss, mode, _ = unimodal_splits(v)
    noise = max(float(np.median(np.abs(np.diff(v)))) / (MAD * 2**0.5), floor(v))
    weight = np.bincount(mode, np.exp(-(rss - rss.min()) / (2 * noise**2)), len(v))
    weight = weight / weight.sum()
    x = np.log10(s + 1)
    peak, mass, tail = float(weight @ x), np.cumsum(weight), (1 - credible) / 2
    before = max(int(np.searchsorted(x, peak - 1e-12)) - 1, 0)  # 1e-12: a peak on the grid has two neighbours
    after = min(int(np.searchsorted(x, peak + 1e-12)), len(x) - 1)
    lower = min(int(np.searchsorted(mass, tail)), before)
    upper = max(min(int(np.searchsorted(mass, 1 - tail)), len(x) - 1), after)
    text = f"{100 * credible:g} % credible, at least the neighbouring observations"
    return Marker("found", rule, 10**peak - 1, float(s[lower]), float(s[upper]), text)


def second_descent(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    spike_width: int = 0,
    alpha: float = 0.05,
    n_null: int = 200,
    random_state: int | None = 0,
) -> Marker:
    """Test whether the curve rises and falls again after its initial descent, and find the top.

    The fits are least squares over shapes: fall (D), fall-rise (DU), fall-rise-fall (DUD), each with free and
    possibly empty pieces, over the whole record. The statistic is ``T = (RSS_DU - RSS_DUD) / s^2``. The null
    law is that of ``(RSS_D - RSS_DUD) / s^2`` on a constant with AR(1) noise of the same length: a constant
    lets pooling gain most, and D against DUD gains at least as much as any curve without a second descent (a
    plateau, then a fall) allows. ``s`` and phi come from :func:`ar1_noise`, on the record and anew on each
    simulation; ``p = (1 + #{T_null >= T}) / (1 + n_null)``. The top is :func:`unimodal_mode` from the valley
    of the DUD fit on.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve.
    spike_width : int
        Set aside upward spikes of at most this many observations first, see
        :func:`probe.phases.noise.upward_spikes`; they are counted in ``n_spikes``. 0: none.
    alpha : float
        Level of the test.
    n_null : int
        Number of simulations; the least p-value is 1 / (1 + n_null).
    random_state : int or None
        Seed of the simulations.

    Returns
    -------
    Marker
        "found" if p <= alpha; "right_censored" if the curve has risen and still rises over the last tenth of
        the record; "undefined" with fewer than 8 values; else "absent". ``fall`` is (top - mean of the last
        tenth) / (top - valley).

    Raises
    ------
    ValueError
        As :func:`check_curve`; also for ``alpha`` below the least p-value.

    Notes
    -----
    Losses go in as they are: cross-entropy is a logarithm already, and on a further one the wiggles of a loss near
    zero are larger than the hump that is looked for.

    Limits: noise is taken as AR(1), symmetric and of one size over the record. A spike that is not set aside, and
    is high, passes for a short rise and fall.

    Size at alpha = .05, of 60 curves with a constant trend: about .10 to .15 at a correlation of .8 to .9 and
    60 to 100 observations (phi comes out too low on short records), .02 or less at .5 and below.
    """
    if not 1 / (1 + n_null) <= alpha < 1:
        raise ValueError(f"expected 1 / (1 + n_null) <= alpha < 1, got alpha={alpha}, n_null={n_null}; raise n_null")
    s, v = check_curve(steps, values)
    rule = f"rise and fall after the initial descent, p <= {alpha:g}; unimodal mode"
    if len(v) < 8:
        return Marker("undefined", rule, reason=f"{len(v)} valid observations, 8 are needed")
    spikes = upward_spikes(v, _noise(v)[0], width=spike_width) if spike_width else np.zeros(len(v), dtype=bool)
    s, v, n_spikes = s[~spikes], v[~spikes], int(spikes.sum())
    start = valley(v)
    sd, phi = _noise(v)
    p_rise, p_fall = _p_values(v, start, sd, phi, n_null, random_state)
    if p_fall > alpha:
        return replace(_no_descent(s, v, rule, p_rise <= alpha, p_fall, sd, phi), n_spikes=n_spikes)
    peak = unimodal_mode(s[start:], v[start:])
    share, fall = _fall(v[start:])
    return Marker(
        "found", rule, peak.step, peak.lower, peak.upper, peak.interval, p_fall, share, fall / sd,
        n_spikes=n_spikes, reason=f"valley at step {s[start]:g}",
    )  # fmt: skip


def _noise(values: np.ndarray) -> tuple[float, float]:
    sd, phi = (float(a[0]) for a in ar1_noise(values[None]))
    return max(sd, floor(values)), phi


def _p_values(v: np.ndarray, start: int, sd: float, phi: float, n_null: int, seed: int | None) -> tuple[float, float]:
    """p-values of the rise (D against DU) and of the fall after it (DU against DUD)."""
    d = prefix_isotonic(-v)[0][-1]
    du = unimodal_splits(-v)[0].min()
    before = prefix_isotonic(-v[:start])[0][-1] if start else 0.0
    dud = min(du, before + unimodal_splits(v[start:])[0].min())
    null = ar1(np.random.default_rng(seed), (n_null, len(v)), phi)
    least = shape_rss(null, (-1, 1, -1), 64)[:, -1]  # 64 levels: RSS within 0.1 sd^2 of the exact one at n = 120
    gain = (least[0] - least[2]) / ar1_noise(null)[0] ** 2
    rise, fall = ((1 + np.sum(gain >= t / sd**2)) / (1 + n_null) for t in (d - du, du - dud))
    return float(rise), float(fall)


def _no_descent(s: np.ndarray, v: np.ndarray, rule: str, rises: bool, p: float, sd: float, phi: float) -> Marker:
    m = max(2, len(v) // 10)
    error = sd * np.sqrt(2 / m * (1 + phi) / (1 - phi))
    if rises and v[-m:].mean() - v[-2 * m : -m].mean() > 3 * error:
        return Marker("right_censored", rule, p_value=p, reason=f"still rising at the last step {s[-1]:g}")
    return Marker(
        "absent",
        rule,
        p_value=p,
        reason="it rises, but does not fall after that" if rises else "it does not rise before it falls",
    )


def _fall(values: np.ndarray) -> tuple[float, float]:
    """Fall from the top to the last tenth, relative to the rise and as it is."""
    rss, mode, top = unimodal_splits(values)
    k = int(np.argmin(rss))
    valley = (np.cumsum(values[: mode[k] + 1]) / np.arange(1, mode[k] + 2)).min()  # first value of the rising fit
    fall = float(top[k] - values[-max(1, len(values) // 10) :].mean())
    return (float(fall / (top[k] - valley)) if top[k] > valley else np.nan), fall
