"""Number of independent values in a sample that contains copies of values, with noise or without.

Two neighbouring stretches of j spacings have lengths a and b. For independent values of any smooth density,
a / (a + b) has a Beta(j, j) distribution, at each place and every scale. Copies make it wider. If each value has k
copies, a stretch of j spacings holds about j / k independent ones, and the distribution is about Beta(j / k, j / k).
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta

_LAGS = 2, 4, 8  # of the test; small ones show copies at small distances
_LONG, _LONGER, _MANY = 16, 32, 400  # lags of the estimate, and the number of values from which the second is taken
_TEST, _MEDIAN = 0.7, 0.5  # quantiles of |a - b| / (a + b): a few gaps do not matter
_N_SD = 3.5  # of the quantile in samples without copies
_DRAWS, _SIZE = 500, 256
_MOST = 1e4  # copies


def copies_per_value(values: np.ndarray, gap: tuple[float, float] | None = None) -> float:
    """Return how many copies each independent value of a sample (n,) has on average, 1 if no lag shows copies.

    Stretches that contain the ``gap`` are left out, since the spacings differ at a gap between two peaks.
    """
    x = dithered(values)
    for j in _LAGS:
        shares = _outside(x, j, gap)
        limit = _N_SD * _deviation(j) * np.sqrt(_SIZE / max(len(shares), 1))
        if len(shares) >= 2 * j and np.quantile(shares, _TEST) > _beta_quantile(_TEST, j) + limit:
            long = _LONGER if len(x) >= _MANY else _LONG
            return max(1.0, _copies(_outside(x, long, gap), long))
    return 1.0


def thinned_copies(values: np.ndarray, copies: float) -> np.ndarray:
    """Return one of ``copies`` values each, in order of size."""
    places = ((np.arange(max(int(len(values) / copies), 1)) + 0.5) * copies).astype(int)
    return np.asarray(values[np.argsort(np.abs(values), kind="stable")][places.clip(max=len(values) - 1)])


def dithered(values: np.ndarray) -> np.ndarray:
    """Return the sorted sample. Equal values are spread over the smallest distance between different ones.

    This undoes rounding to a grid. Exact copies of random values stay close to each other.
    """
    distinct = np.unique(values)
    if len(distinct) == len(values) or len(distinct) < 2:
        return np.sort(values)
    return np.sort(values + np.diff(distinct).min() * (np.random.default_rng(0).random(len(values)) - 0.5))


def _outside(x: np.ndarray, j: int, gap: tuple[float, float] | None) -> np.ndarray:
    """Return |a - b| / (a + b) of the stretches of a sorted sample that do not contain the gap."""
    shares = _shares(x, j)
    if gap is None or not len(shares):
        return shares
    return np.asarray(shares[(x[: -2 * j] >= gap[1]) | (x[2 * j :] <= gap[0])])


def _shares(x: np.ndarray, j: int) -> np.ndarray:
    """Return |a - b| / (a + b) at all places of sorted samples (..., n)."""
    stretches = x[..., j:] - x[..., :-j]
    a, b = stretches[..., :-j], stretches[..., j:]
    return np.asarray(np.divide(np.abs(a - b), a + b, out=np.zeros_like(a), where=a + b > 0))


def _copies(shares: np.ndarray, j: int) -> float:
    """Return the number of copies k for which Beta(j / k, j / k) has the median of the shares."""
    median = float(np.median(shares)) if len(shares) else 1.0
    ends = 0.0, np.log(_MOST)
    if median <= _beta_quantile(_MEDIAN, j) or median >= _beta_quantile(_MEDIAN, j / _MOST):
        return 1.0 if median < 0.5 else _MOST
    return float(np.exp(brentq(lambda log: _beta_quantile(_MEDIAN, j / np.exp(log)) - median, *ends)))


def _beta_quantile(share: float, a: float) -> float:
    """Return the quantile of |2 p - 1|, for p of Beta(a, a)."""
    return float(2 * beta.ppf((1 + share) / 2, a, a) - 1)


@lru_cache(maxsize=8)
def _deviation(j: int) -> float:
    """Return the standard deviation of the tested quantile in samples of independent values."""
    draws = np.sort(np.random.default_rng(0).random((_DRAWS, _SIZE + 2 * j)), 1)
    return float(np.quantile(_shares(draws, j), _TEST, axis=1).std())
