"""Heights of the peaks of a curve, and the roughness that they must exceed. No model of the noise is needed.

The prominence of a peak is the persistence of its component in the superlevel sets of the curve.
"""

import numpy as np
from scipy.signal import find_peaks, peak_prominences

from probe.stats.noise import NORMAL_MAD
from probe.stats.validation import as_vectors, check_count

_WINDOW = 12  # third differences in a running median
_LEAST_ROUGHNESS = 6  # observations


def prominences(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all peaks inside a curve and their prominences, the most prominent peak first.

    The prominence of a peak is its height above the higher of its two valleys. A valley is the lowest value between the
    peak and the next higher value, or the end of the record.

    Parameters
    ----------
    values : array of shape (n,)
        One curve, finite.

    Returns
    -------
    peaks : integer array of shape (m,)
        Indices; the middle of a flat top.
    heights : array of shape (m,)
        Prominences in units of the curve, descending.

    See Also
    --------
    roughness : The scale with which a prominence is compared.

    References
    ----------
    Edelsbrunner, Letscher and Zomorodian (2002), "Topological persistence and simplification".

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import prominences
    >>> peaks, heights = prominences(np.array([2.0, 0, 3, 2, 5, 1, 2]))
    >>> print(peaks, heights)
    [4 2] [4. 1.]
    """
    (values,) = as_vectors(values=values)
    peaks = find_peaks(values)[0]
    if not len(peaks):
        return peaks, np.zeros(0)
    heights = peak_prominences(values, peaks)[0]
    order = np.argsort(-heights, kind="stable")
    return peaks[order], heights[order]


def third_differences(x: np.ndarray, values: np.ndarray, lag: int = 1) -> np.ndarray:
    """Return what a parabola through four observations, ``lag`` apart, does not explain.

    Parameters
    ----------
    x, values : array of shape (n,)
        Increasing x, not necessarily evenly spaced.
    lag : int
        Distance of the four observations.

    Returns
    -------
    array of shape (n - 3 lag,)
        Absolute values, in units of the standard deviation of white noise.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import third_differences
    >>> x = np.arange(6.0)
    >>> print(third_differences(x, x**2).round(6))
    [0. 0. 0.]
    """
    x, values = as_vectors(x=x, values=values)
    check_count("lag", lag, 1)
    n = max(len(x) - 3 * lag, 0)
    (a, b, c, d), v = ([part[k * lag : k * lag + n] for k in range(4)] for part in (x, values))
    ab, ac, ad, bc, bd, cd = b - a, c - a, d - a, c - b, d - b, d - c
    weight = [1 / (ab * ac * ad), -1 / (ab * bc * bd), 1 / (ac * bc * cd), -1 / (ad * bd * cd)]  # of the cubic term
    total = sum(w * part for w, part in zip(weight, v, strict=True))
    return np.asarray(np.abs(total) / np.sqrt(sum(w * w for w in weight)))


def roughness(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Estimate the standard deviation of what is independent from one observation to the next, along the curve.

    The estimate is the running median of 12 third differences (:func:`third_differences`), divided by .6745. A smooth
    curve adds little to third differences, so that a hump of a few observations does not count as noise.

    Parameters
    ----------
    x, values : array of shape (n,)
        Increasing x, not necessarily evenly spaced.

    Returns
    -------
    array of shape (n,)
        In units of the curve. With fewer than 6 observations, the range of the curve.

    See Also
    --------
    local_sd : The same from second differences of evenly spaced observations.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import roughness
    >>> x = np.arange(400.0)
    >>> print(f"{np.median(roughness(x, 0.1 * np.random.default_rng(0).standard_normal(400))):.1f}")
    0.1
    """
    x, values = as_vectors(x=x, values=values)
    n = len(values)
    if n < _LEAST_ROUGHNESS:
        return np.full(n, np.ptp(values) if n else 0.0)
    third = third_differences(x, values)
    window = min(_WINDOW, len(third))
    local = np.median(np.lib.stride_tricks.sliding_window_view(third, window), axis=1) / NORMAL_MAD
    return local[np.clip(np.arange(n) - window // 2 - 1, 0, len(local) - 1)]
