"""Noise around an unknown smooth trend: how large, how correlated, and what is no noise but a spike.

Source: Hall and Van Keilegom (2003) for differences that estimate autocorrelated noise without the trend.
"""

import numpy as np
from scipy.ndimage import grey_opening

# Rounding of curves stored in float32: noise below it cannot be told from none.
RESOLUTION = 2.0**-24
# Median absolute value of a standard normal variable.
MAD = 0.6745


def floor(values: np.ndarray) -> float:
    """The least standard deviation that a stored curve can tell from none."""
    return float(max(RESOLUTION * np.abs(values).max(), np.finfo(float).tiny ** 0.25))


def ar1_noise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate standard deviation and lag-one correlation of AR(1) noise around an unknown smooth trend.

    Second differences at the lags m = 1..8 (fewer on short curves) cancel any local slope. Their robust
    variance is ``W_m = 6 g (1 - 4/3 phi^m + phi^(2m)/3) + c m^4``, where c takes the curvature of the trend;
    ``g, c >= 0`` by relative least squares for each phi of a grid up to 0.9, the best phi wins.

    Parameters
    ----------
    values : array of shape (curves, n), n >= 8

    Returns
    -------
    sd, phi : array of shape (curves,)
        ``sd`` is never below the estimate from lag 1, so that a curve whose wiggles all pass for curvature
        does not count as free of noise.
    """
    lags = np.arange(1, min(8, (values.shape[1] - 1) // 3) + 1)
    spread = np.array([_second_difference(values, m) for m in lags])  # (lags, curves)
    unit = np.where(spread.max(axis=0) > 0, spread.max(axis=0), 1.0)
    spread = spread / unit
    weight = 1 / np.maximum(spread, 1e-6) ** 2  # 1e-6: an exact zero must not outweigh all other lags
    bend = (lags**4.0)[:, None] / lags[-1] ** 4
    best, g, phi = np.full((3, values.shape[0]), np.inf)
    for trial in np.arange(0, 0.91, 0.05):
        error, variance = _fit_spread(
            spread, weight, (1 - 4 / 3 * trial**lags + trial ** (2 * lags) / 3)[:, None], bend
        )
        better = error < best * (1 - 1e-9)
        best, g = np.where(better, error, best), np.where(better, variance, g)
        phi = np.where(better, trial, phi)
    return np.sqrt(np.maximum(g, spread[0]) * unit), np.where(np.isfinite(phi), phi, 0.0)


def _second_difference(values: np.ndarray, m: int) -> np.ndarray:
    bend = values[:, 2 * m :] - 2 * values[:, m:-m] + values[:, : -2 * m]
    return (np.median(np.abs(bend), axis=1) / MAD) ** 2 / 6


def _fit_spread(y: np.ndarray, w: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted non-negative least squares ``y ~ g a + c b`` for each column; return error and g."""
    aa, ab, bb, ay, by = ((w * term).sum(axis=0) for term in (a * a, a * b, b * b, a * y, b * y))
    determinant = np.maximum(aa * bb - ab * ab, np.finfo(float).tiny)
    g, c = (ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant
    g, c = np.where(c < 0, ay / aa, g), np.where(g < 0, by / bb, c)
    g, c = np.maximum(g, 0), np.maximum(c, 0)
    return (w * (y - g * a - c * b) ** 2).sum(axis=0), g


def ar1(generator: np.random.Generator, shape: tuple[int, int], phi: float) -> np.ndarray:
    """Simulate stationary AR(1) curves of shape (curves, n) with standard deviation 1."""
    noise = generator.standard_normal(shape)
    noise[:, 1:] *= np.sqrt(1 - phi**2)  # the first is drawn from the stationary law
    for t in range(1, shape[1]):
        noise[:, t] += phi * noise[:, t - 1]
    return noise


def upward_spikes(values: np.ndarray, sd: float, *, width: int = 3) -> np.ndarray:
    """Observations that stand out upwards for at most ``width`` in a row, as loss spikes do.

    A spike exceeds the grey opening of the curve (what is left of it below every peak that narrow) by more than
    6 sd of the noise and 10 % of the range of the curve: white noise stays below 6 sd, the top of a smooth hump
    that is sampled by more than a few observations below 10 %.

    Parameters
    ----------
    values : array of shape (n,)
    sd
        Of the noise.
    width
        The widest spike, in observations. A true peak that narrow cannot be told from a spike.

    Returns
    -------
    boolean array of shape (n,)
    """
    if len(values) <= width:
        return np.zeros(len(values), dtype=bool)
    stands_out = values - grey_opening(values, size=width + 1, mode="nearest")
    spikes = stands_out > max(6 * sd, 0.1 * np.ptp(values))
    inside = np.flatnonzero(~spikes)  # what stands out at an end of the record may be the start of a rise
    spikes[: inside[0]] = spikes[inside[-1] + 1 :] = False
    return spikes
