"""Top of a curve that rises and then falls: the mode of a unimodal fit. Pure functions on arrays.

The fits are in :mod:`probe.stats.curves.isotonic`, the noise in :mod:`probe.stats.noise`.
"""

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.markers.cells import Cells
from probe.phases.markers.humps import SHORTEST, observation_noise
from probe.phases.markers.marker import Marker, Status, check_curve, check_share, too_few
from probe.stats.curves.isotonic import Splits, unimodal_splits
from probe.stats.noise import Noise, noise_model

_LEAST = 4  # observations
_RULE = "posterior mean of the unimodal mode"
_SAME = 1e-9  # log10 steps: a mode this close to an observation coincides with it
_WIDER = 1.1  # times the noise of a cell: chosen for the coverage of the interval (docs/phases_truth.md)
_WIDE_CELLS = 0.55  # the same for cells longer than a hump may be short: their length is most of the interval already
_LAGS = 12  # at most, of the correlation of the noise
_MOST_ROWS = 2000  # observations from which the noise of a hump is taken; more are averaged
_CLEAR_CELL = 0.5  # weight of one cell from which the top is interpolated inside it


def unimodal_mode(steps: ArrayLike, values: ArrayLike, *, level: float = 0.9) -> Marker:
    """Estimate the top of a curve that rises and then falls: the posterior mean of the mode of a unimodal fit.

    ``w_k ~ exp(-(RSS_k - min RSS) / 2)`` and ``x = sum_k w_k x(mode_k)`` with ``x = log10(step + 1)``. The prior is
    flat over the observations. A squared residual is divided by ``s^2 (1 - phi^2) (1 + phi)``: the variance of the
    innovation, times (1 + phi). The local standard deviation s and the correlation phi are those of
    :func:`probe.stats.noise_model`. This unit was chosen on simulated humps for the coverage of the interval at phi
    from 0 to .8 (docs/phases_truth.md).

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve.
    level : float
        Coverage of the interval, in (0, 1). The interval is never narrower than the neighbouring observations.

    Returns
    -------
    Marker
        "found", or "undefined" with fewer than 4 values. The function does not test whether there is a peak;
        :func:`second_descent` does.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for ``level`` outside (0, 1).

    See Also
    --------
    top_inside : The same, or None if the top may lie outside the record.
    second_descent : Tests whether there is a rise and a fall at all.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import unimodal_mode
    >>> steps = np.logspace(0, 4, 41) - 1
    >>> values = -np.abs(np.log10(steps + 1) - 2) + 0.01 * np.random.default_rng(0).standard_normal(41)
    >>> marker = unimodal_mode(steps, values)
    >>> marker.lower <= 99 <= marker.upper
    True
    """
    check_share("level", level)
    s, v = check_curve(steps, values)
    if len(v) < _LEAST:
        return too_few(v, _RULE, _LEAST)
    noise = noise_model(v[None])
    splits = unimodal_splits(v, 1 / residual_unit(noise) ** 2)
    step, lower, upper = posterior_mode(s, splits, level)
    return Marker(
        Status.FOUND, _RULE, step, lower, upper, interval_kind(level), noise=typical_sd(noise),
        correlation=float(noise.phi[0]),
    )  # fmt: skip


def top_inside(steps: ArrayLike, values: ArrayLike) -> Marker | None:
    """Return :func:`unimodal_mode` if its interval lies inside the record, else None.

    The result is None if the curve still rises at the end, or only falls.

    Parameters
    ----------
    steps, values : array of shape (n,)
        As in :func:`unimodal_mode`.

    Returns
    -------
    Marker or None
        With a 90 % interval.

    Raises
    ------
    ValueError
        As :func:`unimodal_mode`.

    See Also
    --------
    peak_agreement : Compares the tops of several estimates of one variable.

    Examples
    --------
    >>> from probe.phases import top_inside
    >>> print(top_inside([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]))
    None
    """
    marker = unimodal_mode(steps, values)
    measured = np.asarray(steps, dtype=float)[np.isfinite(np.asarray(values, dtype=float))]
    inside = marker.status == Status.FOUND and measured[0] < marker.lower and marker.upper < measured[-1]
    return marker if inside else None


def interval_kind(level: float) -> str:
    """Describe the interval of :func:`posterior_mode`."""
    return f"{100 * level:g} % credible, at least the neighbouring observations"


def typical_sd(noise: Noise) -> float:
    """Return the median standard deviation of one curve."""
    return float(np.median(noise.sd[0]))


def residual_unit(noise: Noise) -> np.ndarray:
    """Return the unit (n,) of the residuals of one curve."""
    return np.asarray(noise.white().sd[0] * (1 + float(noise.phi[0])) ** 0.5)


def hump_top(cells: Cells, part: slice, x: np.ndarray, values: np.ndarray, level: float) -> tuple[float, float, float]:
    """Return the top of a hump and its interval, in log time.

    The weight of a cell is ``exp(-(RSS - min RSS) / 2)`` of the best fit that rises up to the cell and falls after it,
    in units of the noise of a cell, times a bound on how far the cell lies below the highest one.

    Parameters
    ----------
    cells : Cells
        The curve in cells.
    part : slice
        Cells of the hump.
    x, values : array of shape (n,)
        Log time and values of all observations.
    level : float
        Coverage of the interval.
    """
    edges, medians = cells.edges[part.start : part.stop + 1], cells.values[part]
    rows = slice(cells.first[part.start], cells.stop[part.stop - 1])
    size = float(np.median(cells.stop[part] - cells.first[part]))
    factor = _WIDE_CELLS if np.ptp(edges) > SHORTEST * len(medians) else _WIDER
    noise = max(factor * _noise_of_mean(x[rows], values[rows], size), _SAME * float(np.ptp(medians)))
    rss, mode, _ = unimodal_splits(medians / noise)
    misfit = np.full(len(medians), np.inf)
    np.minimum.at(misfit, mode, rss)
    below = np.maximum((medians.max() - medians) / noise - 1.5, 0)
    weight = np.exp(-(misfit - misfit.min()) / 2 - below**2 / 4) * np.diff(edges)
    mass = np.concatenate([[0], np.cumsum(weight / weight.sum())])
    tail = (1 - level) / 2
    lower, top, upper = np.interp([tail, 0.5, 1 - tail], mass + _SAME * np.arange(len(mass)), edges)
    best = int(np.argmax(weight))
    if weight[best] > _CLEAR_CELL * weight.sum() and edges[best + 1] - edges[best] < SHORTEST:
        top = _vertex(cells.x[part], medians, best, edges)
    half = (edges[best + 1] - edges[best]) / 2
    return float(top), float(min(lower, top - half)), float(max(upper, top + half))


def _vertex(x: np.ndarray, values: np.ndarray, at: int, edges: np.ndarray) -> float:
    """Return the vertex of the parabola through a cell and its neighbours, inside the cell."""
    if not 0 < at < len(x) - 1:
        return float(x[at])
    (a, b, c), (u, v, w) = x[at - 1 : at + 2], values[at - 1 : at + 2]
    left, right = (v - u) * (c - b), (w - v) * (b - a)  # slopes times the length of the other side
    if not left > right:
        return float(b)
    vertex = (a + b) / 2 + (c - a) / 2 * left / (left - right)
    return float(np.clip(vertex, edges[at], edges[at + 1]))


def _noise_of_mean(x: np.ndarray, values: np.ndarray, size: float) -> float:
    """Estimate the standard deviation of a mean of ``size`` observations, whose noise may be correlated."""
    group = -(-len(x) // _MOST_ROWS)
    if group > 1:
        n = len(x) // group * group
        x, values = (part[:n].reshape(-1, group).mean(axis=1) for part in (x, values))
    n, degree = len(x), 5 if len(x) > 12 else 4 if len(x) > 7 else 2
    if n <= 5:
        return 0.0
    at = (x - x.mean()) / max(np.ptp(x), _SAME)
    powers = at[:, None] ** np.arange(degree + 1)
    rest = values - powers @ np.linalg.lstsq(powers, values, rcond=None)[0]
    lags = min(_LAGS, n // 5)
    covariance = np.array([rest[: n - k] @ rest[k:] for k in range(lags + 1)]) / max(1, n - degree - 1)
    long_run = covariance[0] + 2 * float((1 - np.arange(1, lags + 1) / (lags + 1)) @ covariance[1:])
    return float(np.sqrt(max(covariance[0], long_run, observation_noise(values) ** 2) * group / max(size, group)))


def posterior_mode(s: np.ndarray, splits: Splits, level: float) -> tuple[float, float, float]:
    """Return the step of the mode and its interval."""
    rss, mode, _ = splits
    weight = np.bincount(mode, np.exp(-(rss - rss.min()) / 2), len(s))
    weight = weight / weight.sum()
    x = np.log10(s + 1)
    peak, mass, tail = float(weight @ x), np.cumsum(weight), (1 - level) / 2
    before = max(int(np.searchsorted(x, peak - _SAME)) - 1, 0)
    after = min(int(np.searchsorted(x, peak + _SAME)), len(x) - 1)
    lower = min(int(np.searchsorted(mass, tail)), before)
    upper = max(min(int(np.searchsorted(mass, 1 - tail)), len(x) - 1), after)
    return 10**peak - 1, float(s[lower]), float(s[upper])
