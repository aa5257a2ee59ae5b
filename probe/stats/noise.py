"""Noise around an unknown smooth trend: how large, how correlated, and what is no noise but a spike.

Sources: Patterson and Thompson (1971) for the likelihood of noise from contrasts that a trend leaves alone (REML),
Varin, Reid and Firth (2011) for its sum over overlapping windows (composite likelihood).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter1d, grey_opening, median_filter
from scipy.signal import lfilter

# Rounding of curves stored in float32: noise below it cannot be told from none.
RESOLUTION = 2.0**-24
# Median absolute value of a standard normal variable.
MAD = 0.6745
# Correlations that are tried. At 1, a random walk, there is no stationary variance.
PHI = np.append(np.arange(0, 20) / 20, 1.0)
# Up to here the variance is that of a stationary process; beyond, that of this correlation.
STATIONARY = 0.95


class Noise(NamedTuple):
    """Noise of curves: local standard deviation ``sd`` (curves, n), lag-one correlation ``phi`` (curves,)."""

    sd: np.ndarray
    phi: np.ndarray

    @property
    def stationary_phi(self) -> np.ndarray:
        """The correlation that ``sd`` was computed with, at most 0.95."""
        return np.minimum(self.phi, STATIONARY)

    def white(self) -> "Noise":
        """Only the share that is new in each observation: what the noise were without its correlation."""
        return Noise(self.sd * np.sqrt(1 - self.stationary_phi**2)[:, None], np.zeros_like(self.phi))


def resolution_floor(values: np.ndarray) -> float:
    """The least standard deviation that a stored curve can tell from none."""
    return float(max(RESOLUTION * np.abs(values).max(), np.finfo(float).tiny ** 0.25))


def noise_model(values: np.ndarray) -> Noise:
    """Estimate AR(1) noise of slowly changing size around an unknown smooth trend.

    In windows of a quarter of the record (16 to 32 observations; half of a short one) a cubic takes the trend away,
    and the contrasts that are left have the covariance of AR(1) noise, projected. Each window has its own variance;
    the correlation maximises the sum of their profile log-likelihoods, over a grid from 0 to 1. Contrasts instead of
    residuals: a fit takes correlated noise along, so that residuals look less correlated than the noise is. The
    standard deviations of the windows, beside a log-linear trend, pass a running median of five, so that a sharp
    descent in one or two of them does not count, and a smoother.

    Parameters
    ----------
    values : array of shape (curves, n), n >= 4
        Without spikes. Observations count as evenly spaced.

    Returns
    -------
    Noise
        ``sd`` in the units of the curve, never below the rounding of float32; for ``phi`` above .95 it is the one
        at .95. ``phi`` is one of 0, .05 ... 1.
    """
    n = values.shape[1]
    length = min(max(n // 4, 16), max(n // 2, 10), 32, n)
    starts = np.unique(np.append(np.arange(0, n - length + 1, max(1, length // 4)), n - length))
    whiten, log_determinant, of_white = _contrasts(length)
    free = whiten.shape[1] // len(PHI)
    white = sliding_window_view(values, length, axis=1)[:, starts] @ whiten
    squares = (white.reshape(*white.shape[:2], len(PHI), free) ** 2).sum(axis=-1)  # (curves, windows, phi)
    least = np.array([resolution_floor(curve) for curve in values])
    squares += least[:, None, None] ** 2 * of_white  # rounding is white
    likelihood = -len(starts) * log_determinant - free * np.log(squares).sum(axis=1)
    best = likelihood.argmax(axis=1)
    chosen = np.take_along_axis(squares, best[:, None, None], axis=2)[:, :, 0]
    phi = PHI[best]
    log_sd = _smooth(starts + (length - 1) / 2, np.log(chosen / free) / 2, n)
    return Noise(np.exp(log_sd - np.log(1 - np.minimum(phi, STATIONARY) ** 2)[:, None] / 2), phi)


def _smooth(at: np.ndarray, log_sd: np.ndarray, n: int) -> np.ndarray:
    """From windows around ``at`` to 0..n-1, as it is and beside a line, whichever is larger.

    The line, through the medians of the outer thirds, is there because noise that follows a loss down over decades
    changes by much within a window; it is not trusted alone, because a steep end of the curve can tilt it.
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
    """Whitened contrasts (length, phi x free) that cancel a cubic, for innovations of variance 1.

    Also log-determinants (phi,), and what the squares of the contrasts of white noise add up to (phi,).
    """
    degree = min(3, length - 3)
    lag = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    trend = np.vander(np.linspace(-1, 1, length), degree + 1)
    free = np.linalg.svd(trend)[0][:, degree + 1 :]  # (length, free), orthogonal to the trend
    whiten, log_determinant = [], []
    for phi in PHI:
        covariance = -lag / 2 if phi == 1 else phi**lag / (1 - phi**2)  # at 1 up to a constant, which cancels
        root = np.linalg.cholesky(free.T @ covariance @ free)
        whiten.append(np.linalg.solve(root, free.T).T)
        log_determinant.append(2 * np.log(np.diag(root)).sum())
    of_white = np.array([(block**2).sum() for block in whiten])
    return np.concatenate(whiten, axis=1), np.array(log_determinant), of_white


def inflation(phi: float) -> float:
    """Variance of a mean of AR(1) noise over that of white noise of the same size, for many observations."""
    return (1 + phi) / (1 - phi)


def ar1(generator: np.random.Generator, shape: tuple[int, int], phi: float) -> np.ndarray:
    """Simulate AR(1) curves of shape (curves, n): stationary with standard deviation 1; at phi = 1 a random walk."""
    noise = generator.standard_normal(shape)
    if phi < 1:
        noise[:, 1:] *= np.sqrt(1 - phi**2)  # the first is drawn from the stationary law
    return lfilter([1.0], [1.0, -phi], noise, axis=1)


def spikes(values: np.ndarray, *, width: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Observations that stand out, up or down, for at most ``width`` in a row, as loss spikes do.

    A spike exceeds the grey opening of the curve (what is left of it below every peak that narrow) by more than 6
    standard deviations of the noise around it, and by more than twice what an opening of double the width takes
    away besides: the flanks of a hump go on falling, those of a spike do not. The standard deviation is the
    running median of absolute second differences, that of white noise.

    Parameters
    ----------
    values : array of shape (n,)
    width
        The widest spike, in observations. A true peak that narrow cannot be told from a spike.

    Returns
    -------
    inside, tail : boolean arrays of shape (n,)
        Spikes, and last observations that stand out likewise: a spike or the start of a rise, who knows. What
        stands out at the start belongs to the initial descent and is in neither.
    """
    n = len(values)
    if n < 2 * (width + 1) or not width:
        return np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    out = _stand_out(values, width)
    if out.any():  # once more: spikes raise the noise that they are measured against
        rest = np.flatnonzero(~out)
        out[rest] = _stand_out(values[rest], width)
    quiet = np.flatnonzero(~out)
    inside, tail = out.copy(), out.copy()
    inside[: quiet[0]] = inside[quiet[-1] + 1 :] = False
    tail[: quiet[-1]] = False
    return inside, tail


def _stand_out(values: np.ndarray, width: int) -> np.ndarray:
    bend = np.abs(np.diff(values, 2, prepend=values[1], append=values[-2])) / MAD / 6**0.5
    sd = np.maximum(median_filter(bend, size=int(np.clip(len(values) // 2, 15, 201))), resolution_floor(values))
    return _narrow(values, sd, width) | _narrow(-values, sd, width)


def _narrow(values: np.ndarray, sd: np.ndarray, width: int) -> np.ndarray:
    below, far = (grey_opening(values, size=k * (width + 1), mode="constant", cval=-np.inf) for k in (1, 2))
    return values - below > np.maximum(6 * sd, 2 * (below - far))
