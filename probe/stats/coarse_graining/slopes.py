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


def slope_interval(x: ArrayLike, y: ArrayLike, *, level: float = 0.9) -> Slopes:
    """Estimate the slope of each curve with an interval that holds for white noise and for random walks.

    Parameters
    ----------
    x : array of shape (n,)
        Increasing positions, for example the logarithm of the step.
    y : array of shape (n, curves)
        Values; NaN is a missing observation. At least four are needed, else the slope of this curve is NaN.
    level : float
        Coverage of the interval.

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
    the difference of x, or to that of exp(x). Each of these seven models has a generalised least squares estimate, a t
    interval with n - 2 degrees of freedom, and a restricted likelihood, maximal over the size of the noise (Harville
    1974, Biometrika 61). The interval is the hull of those of all models with at least a tenth of the largest
    likelihood. It is wide for short records of white noise, since these could be a random walk.

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
            found[:, curves] = _complete(positions[pattern], values[np.ix_(pattern, curves)], level)
    slope, low, high = found
    return Slopes(slope, low, high, present.sum(0))


def _complete(x: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """Return estimate and bounds of the slope (3, curves) of complete curves (n, curves)."""
    n, curves = y.shape
    noises = _covariances(x)
    slopes, errors, evidence = (np.empty((len(noises), curves)) for _ in range(3))
    floor = n * (_ROUNDING * np.maximum(np.abs(y).max(0), 1)) ** 2
    design = np.stack([np.ones(n), x - x.mean()], 1)
    for i, noise in enumerate(noises):
        root = np.linalg.cholesky(noise)
        a, b = np.linalg.solve(root, design), np.linalg.solve(root, y)
        q, r = np.linalg.qr(a)
        line = np.linalg.solve(r, q.T @ b)
        squares = np.maximum(np.square(b - a @ line).sum(0), floor)
        slopes[i], errors[i] = line[1], np.sqrt(squares / (n - 2)) / abs(r[1, 1])
        evidence[i] = -np.log(np.diag(root)).sum() - np.log(np.abs(np.diag(r))).sum() - (n - 2) / 2 * np.log(squares)
    weights = np.exp(evidence - evidence.max(0))
    weights[weights < _PLAUSIBLE] = 0
    half = np.where(weights > 0, errors * stdtrit(n - 2, (1 + level) / 2), np.nan)
    mean = (weights * slopes).sum(0) / weights.sum(0)
    return np.stack([mean, np.nanmin(slopes - half, 0), np.nanmax(slopes + half, 0)])


def _covariances(x: np.ndarray) -> list[np.ndarray]:
    """Return the covariance of each noise model. A constant is added to that of a walk, which the line absorbs."""
    white, found = np.eye(len(x)), [np.eye(len(x))]
    for clock in (x, np.exp(x - x[-1])):
        time = (clock - clock[0]) * (len(x) - 1) / (clock[-1] - clock[0])
        walk = np.minimum.outer(time, time) + 1
        found += [walk if np.isinf(ratio) else (white + ratio * walk) / (1 + ratio) for ratio in _WALK]
    return found
