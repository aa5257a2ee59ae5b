"""Noise of a curve around an unknown trend: its standard deviation and its correlation.

There are four estimators, because no single one suits every curve:

=============================================  =====================  ====================  ==========================
estimator                                      trend                  estimates             reason
=============================================  =====================  ====================  ==========================
:func:`noise_model`                            smooth                 local sd, lag-one     the most precise; requires
                                                                      correlation           a curve without spikes
:func:`local_sd`                               smooth, with spikes    local sd              a running median ignores
                                               or few observations                          spikes and steep parts
:func:`difference_noise`                       straight pieces, with  one sd, one lag-one   accepts irregular ``x``,
                                               jumps                  correlation           ignores jumps
``probe.phases.markers.bends``                 straight pieces that   one sd, one lag-one   the misfit of the pieces
(residuals of the fit)                         were fitted            correlation           counts as noise, on purpose
=============================================  =====================  ====================  ==========================

Sources: Patterson and Thompson (1971) for the likelihood of noise from contrasts that cancel a trend (REML), Varin,
Reid and Firth (2011) for its sum over overlapping windows (composite likelihood).
"""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import lfilter

from probe.stats.validation import as_curves, as_vectors, check_count, check_number

# Relative rounding error of a curve that was stored as float32 (24 bits of mantissa).
FLOAT32_RESOLUTION = 2.0**-24
# Median absolute value of a standard normal variable: the 75 % quantile of the normal distribution.
NORMAL_MAD = 0.6745
# Lag-one correlations that noise_model compares. 1 is a random walk, which has no stationary variance.
PHI_GRID = np.append(np.arange(0, 20) / 20, 1.0)
# Largest correlation with a stationary variance on this grid. Above it, the variance at this correlation is reported.
MAX_STATIONARY_PHI = 0.95
# Largest correlation that difference_noise compares: eight lags do not separate a higher one from a trend.
_MAX_DIFFERENCE_PHI = 0.9


class Noise(NamedTuple):
    """Noise of several curves.

    Attributes
    ----------
    sd : array of shape (curves, n)
        Local standard deviation, in the units of the curve.
    phi : array of shape (curves,)
        Lag-one correlation, 0 to 1.
    """

    sd: np.ndarray
    phi: np.ndarray

    @property
    def stationary_phi(self) -> np.ndarray:
        """Return the correlation that ``sd`` was computed with, at most 0.95."""
        return np.minimum(self.phi, MAX_STATIONARY_PHI)

    def white(self) -> "Noise":
        """Return the innovations as white noise: the part of each observation that the last one does not predict."""
        return Noise(self.sd * np.sqrt(1 - self.stationary_phi**2)[:, None], np.zeros_like(self.phi))


def resolution_floor(values: np.ndarray) -> float:
    """Return the least standard deviation that can be distinguished from the rounding of a float32 curve."""
    return float(max(FLOAT32_RESOLUTION * np.abs(values).max(), np.finfo(float).tiny ** 0.25))


def noise_model(values: np.ndarray) -> Noise:
    """Estimate AR(1) noise of slowly changing size around an unknown smooth trend.

    Each window of a quarter of the record (16 to 32 observations; half of a short record) is reduced to contrasts
    that cancel a cubic trend. Their covariance is that of AR(1) noise, projected. Each window has its own variance;
    the correlation maximises the sum of the profile log-likelihoods over a grid from 0 to 1.

    Parameters
    ----------
    values : array of shape (curves, n), n >= 4
        Curves without spikes (see :func:`spikes`). The observations count as evenly spaced.

    Returns
    -------
    Noise
        ``sd`` in the units of the curve, at least the rounding error of float32. For ``phi`` above 0.95, ``sd`` is
        the value at 0.95. ``phi`` is one of 0, 0.05, ..., 1.

    See Also
    --------
    local_sd : Standard deviation alone, for curves with spikes.
    difference_noise : One standard deviation and one correlation, for curves with jumps.

    Notes
    -----
    Contrasts replace residuals, because a fit removes part of correlated noise, and residuals are then less
    correlated than the noise. The standard deviations of the windows pass a running median of five and a smoother,
    so that a steep descent in one or two windows has no effect. A log-linear trend of the noise is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import noise_model, simulate_ar1
    >>> trend = np.sin(np.linspace(0, 3, 200))
    >>> noise = noise_model(trend + 0.1 * simulate_ar1(np.random.default_rng(0), (1, 200), phi=0.0))
    >>> print(f"{np.median(noise.sd):.1f}")
    0.1
    >>> print(noise.phi[0] < 0.3)
    True
    """
    values = as_curves(values)
    n = values.shape[1]
    length = min(max(n // 4, 16), max(n // 2, 10), 32, n)
    starts = np.unique(np.append(np.arange(0, n - length + 1, max(1, length // 4)), n - length))
    whiten, log_determinant, of_white = _contrasts(length)
    free = whiten.shape[1] // len(PHI_GRID)
    white = sliding_window_view(values, length, axis=1)[:, starts] @ whiten
    squares = (white.reshape(*white.shape[:2], len(PHI_GRID), free) ** 2).sum(axis=-1)  # (curves, windows, phi)
    least = np.array([resolution_floor(curve) for curve in values])
    squares += least[:, None, None] ** 2 * of_white  # rounding is white
    likelihood = -len(starts) * log_determinant - free * np.log(squares).sum(axis=1)
    best = likelihood.argmax(axis=1)
    chosen = np.take_along_axis(squares, best[:, None, None], axis=2)[:, :, 0]
    phi = PHI_GRID[best]
    log_sd = _smooth(starts + (length - 1) / 2, np.log(chosen / free) / 2, n)
    return Noise(np.exp(log_sd - np.log(1 - np.minimum(phi, MAX_STATIONARY_PHI) ** 2)[:, None] / 2), phi)


def _smooth(at: np.ndarray, log_sd: np.ndarray, n: int) -> np.ndarray:
    """Smooth and interpolate from windows around ``at`` to 0..n-1, with and without a linear trend; return the larger.

    The line passes through the medians of the outer thirds. It is needed because noise that decreases with a loss
    over decades changes within a window. It is not used alone, because a steep end of the curve can tilt it.
    """
    third = max(1, len(at) // 3)
    first, last = (np.median(log_sd[:, part], axis=1) for part in (slice(None, third), slice(-third, None)))
    gap = at[-third:].mean() - at[:third].mean()
    slope = ((last - first) / gap if gap else 0 * first)[:, None]
    both = np.stack([log_sd, log_sd - slope * at])  # (2, curves, windows)
    both = gaussian_filter1d(median_filter(both, size=(1, 1, 5), mode="mirror"), 3, axis=2, mode="nearest")
    return np.maximum(_between(at, both[0], n), _between(at, both[1], n) + slope * np.arange(n))


def _between(at: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Interpolate rows, given at the positions ``at``, to 0..n-1; constant beyond the ends."""
    if len(at) == 1:
        return np.repeat(values, n, axis=1)
    x = np.clip(np.arange(n), at[0], at[-1])
    k = np.clip(np.searchsorted(at, x) - 1, 0, len(at) - 2)
    share = (x - at[k]) / (at[k + 1] - at[k])
    return values[:, k] * (1 - share) + values[:, k + 1] * share


@lru_cache(maxsize=64)
def _contrasts(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return whitened contrasts (length, phi x free) that cancel a cubic, for innovations of variance 1.

    Also the log-determinants (phi,) and the sum of squares of the contrasts of white noise (phi,).
    """
    degree = min(3, length - 3)
    lag = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    trend = np.vander(np.linspace(-1, 1, length), degree + 1)
    free = np.linalg.svd(trend)[0][:, degree + 1 :]  # (length, free), orthogonal to the trend
    whiten, log_determinant = [], []
    for phi in PHI_GRID:
        covariance = -lag / 2 if phi == 1 else phi**lag / (1 - phi**2)  # at 1 up to a constant, which cancels
        root = np.linalg.cholesky(free.T @ covariance @ free)
        whiten.append(np.linalg.solve(root, free.T).T)
        log_determinant.append(2 * np.log(np.diag(root)).sum())
    of_white = np.array([(block**2).sum() for block in whiten])
    return np.concatenate(whiten, axis=1), np.array(log_determinant), of_white


def local_sd(
    values: ArrayLike, *, window: int, lag: int = 1, ends: Literal["mirror", "repeat"] = "mirror"
) -> np.ndarray:
    """Estimate the local standard deviation of white noise from a running median of absolute second differences.

    ``sd_i = median |v[j - lag] - 2 v[j] + v[j + lag]| / (0.6745 sqrt(6))`` over the ``window`` observations around i.

    Parameters
    ----------
    values : array of shape (n,), n > 2 lag
        One curve. The observations count as evenly spaced.
    window : int
        Observations in the running median.
    lag : int
        Distance of the observations in a difference. Correlated noise is underestimated at lag 1.
    ends : "mirror" or "repeat"
        Continuation beyond the ends. "mirror" reflects the curve, so that an outlier at an end does not set its own
        scale. "repeat" repeats the outermost second difference, so that a steep part beyond the end has no weight.

    Returns
    -------
    array of shape (n,)
        In the units of the curve, at least the rounding error of float32.

    See Also
    --------
    noise_model : More precise, with the correlation, for curves without spikes.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import local_sd
    >>> curve = 0.1 * np.random.default_rng(0).standard_normal(400)
    >>> curve[200] = 50  # a spike
    >>> print(f"{local_sd(curve, window=101)[200]:.1f}")
    0.1
    """
    (values,) = as_vectors(values=values)
    check_count("window", window, 1)
    check_count("lag", lag, 1)
    if len(values) <= 2 * lag:
        raise ValueError(
            f"Expected more than {2 * lag} observations for lag {lag}, got {len(values)}; pass a longer curve"
        )
    padded = np.pad(values, lag, mode="reflect") if ends == "mirror" else values
    second = np.abs(padded[2 * lag :] - 2 * padded[lag:-lag] + padded[: -2 * lag]) / NORMAL_MAD / 6**0.5
    sd = median_filter(second, size=window, mode="reflect" if ends == "mirror" else "nearest")
    return np.maximum(sd if ends == "mirror" else np.pad(sd, lag, mode="edge"), resolution_floor(values))


def difference_noise(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Estimate one standard deviation and one lag-one correlation of AR(1) noise around straight pieces.

    The deviation of an observation from the line through the observations m before and m after it has the variance
    ``sd^2 (1 + a^2 + b^2 - 2 phi^m + 2 a b phi^(2m))``, where a + b = 1 are the weights of the two. The estimate is
    the least-squares fit of this model to medians of squared deviations at the lags 1 to 8 (4 on short records), over
    a grid of phi from 0 to 0.9. A few jumps or bends hardly change the medians.

    Parameters
    ----------
    x, y : array of shape (n,), n >= 3
        Increasing x, not necessarily evenly spaced; both finite.

    Returns
    -------
    sd : float
        In the units of y.
    phi : float
        One of 0, 0.05, ..., 0.9.

    See Also
    --------
    noise_model : For smooth trends: the size of the noise may change along the curve.

    References
    ----------
    In the manner of Hall and Van Keilegom (2003), with medians instead of means.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import difference_noise
    >>> x = np.linspace(0, 1, 400)
    >>> noise = 0.1 * np.random.default_rng(0).standard_normal(400)
    >>> sd, phi = difference_noise(x, 5 * (x > 0.5) + noise)
    >>> print(f"{sd:.1f} {phi:.1f}")
    0.1 0.0
    """
    x, y = as_vectors(x=x, y=y)
    if len(x) < 3 or not (np.diff(x) > 0).all():
        raise ValueError(f"Expected at least 3 observations with increasing x, got {len(x)}; sort them by x")
    lags = np.arange(1, min(8, max(4, len(x) // 20), (len(x) - 1) // 2) + 1)  # long lags contain more breaks
    weight = [(x[m:-m] - x[: -2 * m]) / (x[2 * m :] - x[: -2 * m]) for m in lags]
    above = [y[m:-m] - (1 - b) * y[: -2 * m] - b * y[2 * m :] for m, b in zip(lags, weight, strict=True)]
    white = [1 + b**2 + (1 - b) ** 2 for b in weight]
    spread = np.array([np.median(d**2 / w) for d, w in zip(above, white, strict=True)]) / NORMAL_MAD**2
    phi = np.arange(0, _MAX_DIFFERENCE_PHI + 0.01, 0.05)[:, None]
    both = np.array([np.mean(b * (1 - b)) for b in weight])
    model = 1 + (2 * both * phi ** (2 * lags) - 2 * phi**lags) / (2 - 2 * both)  # (phi, lags)
    relative = 1 / np.maximum(spread, 1e-12 * spread.max() or 1.0)  # the error of a spread is proportional to it
    variance = ((model * relative) @ (spread * relative)) / ((model * relative) ** 2).sum(axis=1)
    misfit = (((variance[:, None] * model - spread) * relative) ** 2).sum(axis=1)
    best = int(np.argmin(misfit))
    return float(np.sqrt(variance[best])), float(phi[best, 0])


def variance_inflation(phi: float) -> float:
    """Return the variance of a mean of AR(1) noise, relative to white noise of the same size, for many observations.

    Parameters
    ----------
    phi : float
        Lag-one correlation, below 1.

    Returns
    -------
    float
        ``(1 + phi) / (1 - phi)``.

    Examples
    --------
    >>> from probe.stats import variance_inflation
    >>> variance_inflation(0.5)
    3.0
    """
    check_number("phi", phi, -1, 1, "a correlation below 1")
    return (1 + phi) / (1 - phi)


def simulate_ar1(generator: np.random.Generator, shape: tuple[int, int], phi: float) -> np.ndarray:
    """Simulate curves of AR(1) noise.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of random numbers.
    shape : (curves, n)
        Number of curves and of observations.
    phi : float
        Lag-one correlation, 0 to 1.

    Returns
    -------
    array of shape (curves, n)
        Stationary with standard deviation 1. At ``phi = 1``, a random walk with increments of standard deviation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import simulate_ar1
    >>> curves = simulate_ar1(np.random.default_rng(0), (100, 200), phi=0.5)
    >>> print(f"{curves.std():.1f} {np.corrcoef(curves[:, 1:].ravel(), curves[:, :-1].ravel())[0, 1]:.1f}")
    1.0 0.5
    """
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"Expected a numpy.random.Generator, got {type(generator).__name__}; pass default_rng(0)")
    if not np.array_equal(phi, 1):
        check_number("phi", phi, -1, 1, "a correlation from 0 to 1")
    if np.shape(shape) != (2,):
        raise ValueError(f"Expected shape (curves, n), got {shape!r}; pass two integers")
    noise = generator.standard_normal(shape)
    if phi < 1:
        noise[:, 1:] *= np.sqrt(1 - phi**2)  # the first observation has the stationary variance
    return lfilter([1.0], [1.0, -phi], noise, axis=1)
