"""Slopes of curves whose noise is white, a random walk, or a sum of both.

Weights in training accumulate the noise of their gradients, so errors of neighbouring observations are correlated.
An interval that assumes white noise is then too narrow, and one that assumes a random walk is too wide if the noise is
white. A short record cannot decide between them. :func:`slope_interval` therefore compares noise models, and its
interval is valid for each model that the record does not contradict.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from probe.stats.validation import as_numbers, as_vectors, check_level

_WALK = 0.1, 1.0, np.inf  # variances of one step of the walk over that of white noise
_ROUNDING = 1e-13  # of the values, relative to the largest
_LEAST = 4  # observations: two parameters, the noise, and one to compare models
_PLAUSIBLE = 0.1  # likelihood of a noise model relative to the best one


class Slopes(NamedTuple):
    """Slopes of several curves, in units of y per unit of x.

    Attributes
    ----------
    slope : array of shape (curves,)
        Mean of the estimates by the plausible noise models, weighted by their likelihoods.
    low, high : array of shape (curves,)
        Bounds of the interval.
    n_observations : int array of shape (curves,)
        Number of observations that are not NaN.
    """

    slope: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n_observations: np.ndarray


def slope_interval(x: ArrayLike, y: ArrayLike, *, level: float = 0.9, logarithms: bool = False) -> Slopes:
    """Estimate the slope of each curve with an interval that holds for white noise and for random walks.

    Parameters
    ----------
    x : array of shape (n,)
        Increasing positions, for example the logarithm of the step.
    y : array of shape (n, curves)
        Values; NaN is a missing observation. At least four are needed, else the slope of this curve is NaN.
    level : float
        Coverage of the interval.
    logarithms : bool
        Whether y are natural logarithms, of values whose noise may have a constant size.

    Returns
    -------
    Slopes

    Raises
    ------
    ValueError
        If ``x`` does not increase or is not finite, the shapes differ, or ``level`` is no coverage.

    See Also
    --------
    growth_exponents : The same for recorded modes, in windows of steps.

    Notes
    -----
    The curve is a line plus noise. The noise is white, or a random walk, or a sum of both with a ratio of 0.1 or 1
    between the variance of one step of the walk and that of the white noise. The variance of a step is proportional to
    the difference of x, or to that of exp(x), or constant. Each of these ten models has a generalised least squares
    estimate, a t interval with n - 2 degrees of freedom, and a restricted likelihood, maximal over the size of the
    noise (Harville 1974, Biometrika 61). The interval is the hull of those of all models with at least a tenth of the
    largest likelihood. It is wide for short records of white noise, since these could be a random walk.

    Noise of constant size in a value has the size 1 / value in its logarithm. ``logarithms=True`` adds the interval
    for noise of this size, along the fitted line, to the hull.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import slope_interval
    >>> x, rng = np.linspace(0, 2, 60), np.random.default_rng(0)
    >>> noise = 0.05 * rng.normal(size=(60, 1))
    >>> white, walk = (slope_interval(x, 0.5 * x[:, None] + e) for e in (noise, noise.cumsum(0)))
    >>> [round(float(found.high[0] - found.low[0]), 1) for found in (white, walk)]
    [0.3, 0.6]
    """
    check_level(level)
    (positions,), values = as_vectors(x=x), as_numbers("y", y)
    if values.ndim != 2 or len(values) != len(positions):
        raise ValueError(
            f"Expected y of shape ({len(positions)}, curves) for x of {len(positions)} positions, got {values.shape}; "
            "pass y[:, None] of one curve"
        )
    if not np.isfinite(positions).all() or (np.diff(positions) <= 0).any():
        raise ValueError("Expected x that increases and is finite, got other values; sort them, and drop repeats")
    present = np.isfinite(values)
    found = np.full((3, values.shape[1]), np.nan)
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    for i, pattern in enumerate(patterns.T):
        curves = (which.ravel() == i).nonzero()[0]
        if pattern.sum() >= _LEAST:
            found[:, curves] = _complete(positions[pattern], values[np.ix_(pattern, curves)], level, logarithms)
    slope, low, high = found
    return Slopes(slope, low, high, present.sum(0))


def _complete(x: np.ndarray, y: np.ndarray, level: float, logarithms: bool) -> np.ndarray:
    """Return estimate and bounds of the slope (3, curves) of complete curves (n, curves)."""
    n, design = len(x), np.stack([np.ones(len(x)), x - x.mean()], 1)
    trend = np.exp(design[:, 1:] * np.linalg.lstsq(design, y, rcond=None)[0][1])
    found = []
    for sizes in [np.ones_like(y), trend][: 1 + logarithms]:
        slopes, errors, evidence = np.stack([_fit(design, y, whitener, sizes) for whitener in _whiteners(x)], 1)
        weights = np.exp(evidence - evidence.max(0))
        weights[weights < _PLAUSIBLE] = 0
        half = np.where(weights > 0, errors * stdtrit(n - 2, (1 + level) / 2), np.nan)
        mean = (weights * slopes).sum(0) / weights.sum(0)
        found.append((mean, np.nanmin(slopes - half, 0), np.nanmax(slopes + half, 0)))
    means, low, high = zip(*found, strict=True)
    return np.stack([np.mean(means, 0), np.min(low, 0), np.max(high, 0)])


def _fit(design: np.ndarray, y: np.ndarray, whitener: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return slope, standard error and log-likelihood (3, curves).

    The covariance of the noise is (whitener' whitener)^-1, divided by the squares of the sizes (n, curves). These
    have a geometric mean of 1, so they do not change the determinant.
    """
    n = len(y)
    ones, ramp, values = (whitener @ (sizes * column) for column in (design[:, :1], design[:, 1:], y))
    size = np.linalg.norm(ones, axis=0)
    ones = ones / size
    ramp = ramp - (ones * ramp).sum(0) * ones
    spread = np.linalg.norm(ramp, axis=0)
    values = values - (ones * values).sum(0) * ones
    slope = (ramp * values).sum(0) / spread**2
    floor = n * (_ROUNDING * np.maximum(np.abs(y).max(0), 1)) ** 2
    squares = np.maximum(np.square(values - slope * ramp).sum(0), floor)
    evidence = np.log(np.diag(whitener)).sum() - np.log(size * spread) - (n - 2) / 2 * np.log(squares)
    return np.stack([slope, np.sqrt(squares / (n - 2)) / spread, evidence])


def _whiteners(x: np.ndarray) -> list[np.ndarray]:
    """Return the inverse Cholesky factor of each noise model. A constant is added to a walk, which the line absorbs."""
    white, found = np.eye(len(x)), [np.eye(len(x))]
    for clock in (x, np.exp(x - x[-1]), np.arange(len(x))):
        time = (clock - clock[0]) * (len(x) - 1) / (clock[-1] - clock[0])
        walk = np.minimum.outer(time, time) + 1
        found += [walk if np.isinf(ratio) else (white + ratio * walk) / (1 + ratio) for ratio in _WALK]
    return [np.linalg.inv(np.linalg.cholesky(noise)) for noise in found]
