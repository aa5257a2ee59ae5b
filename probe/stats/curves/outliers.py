"""Spikes of a curve: narrow peaks far above the noise around them."""

import numpy as np
from scipy.ndimage import grey_opening

from probe.stats.noise import local_sd
from probe.stats.validation import as_vectors, check_count

_MIN_SD = 6  # a spike exceeds its surroundings by more standard deviations; no observation of white noise does
_MIN_FLANK_RATIO = 2  # and by more than this multiple of what an opening of double the width removes besides
_WINDOW = (15, 201)  # least and most observations of the running median of the noise


def spikes(values: np.ndarray, *, width: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Mark spikes: observations that stand out, up or down, for at most ``width`` in a row.

    A spike exceeds the grey opening of the curve (the curve without peaks of at most that width) by more than 6
    standard deviations of the noise around it (:func:`local_sd`). It also exceeds the opening by more than twice the
    difference of the opening to one of double the width, because the flanks of a wide hump continue to fall.

    Parameters
    ----------
    values : array of shape (n,)
        One curve, finite.
    width : int
        The widest spike, in observations. A true peak this narrow cannot be distinguished from a spike.

    Returns
    -------
    inside : boolean array of shape (n,)
        Spikes. Outliers at the start belong to the initial descent and are not marked.
    tail : boolean array of shape (n,)
        Outliers at the end of the record. There a spike and the start of a rise cannot be distinguished.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import spikes
    >>> curve = np.exp(-np.arange(60) / 20)
    >>> curve[[30, 59]] = 5
    >>> inside, tail = spikes(curve)
    >>> print(np.flatnonzero(inside), np.flatnonzero(tail))
    [30] [59]
    """
    (values,) = as_vectors(values=values)
    check_count("width", width, 0)
    n = len(values)
    if n < 2 * (width + 1) or not width:
        return np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    outside = _stand_out(values, width)
    if outside.any():  # a second pass, because spikes raise the estimate of the noise
        rest = np.flatnonzero(~outside)
        outside[rest] = _stand_out(values[rest], width)
    quiet = np.flatnonzero(~outside)
    inside, tail = outside.copy(), outside.copy()
    inside[: quiet[0]] = inside[quiet[-1] + 1 :] = False
    tail[: quiet[-1]] = False
    return inside, tail


def _stand_out(values: np.ndarray, width: int) -> np.ndarray:
    sd = local_sd(values, window=int(np.clip(len(values) // 2, *_WINDOW)))
    return _narrow(values, sd, width) | _narrow(-values, sd, width)


def _narrow(values: np.ndarray, sd: np.ndarray, width: int) -> np.ndarray:
    below = grey_opening(values, size=width + 1, mode="constant", cval=-np.inf)
    high = values - below > _MIN_SD * sd
    if not high.any():  # most curves
        return high
    far = grey_opening(values, size=2 * (width + 1), mode="constant", cval=-np.inf)
    return high & (values - below > _MIN_FLANK_RATIO * (below - far))
