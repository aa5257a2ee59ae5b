"""Least-squares fits of increasing and of unimodal curves.

Sources: Frisén (1986) for unimodal regression, Stout (2008) for all modes by prefix pooling.
"""

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.validation import as_vectors

Splits = tuple[np.ndarray, np.ndarray, np.ndarray]  # rss, mode, top, as unimodal_splits returns them


def prefix_isotonic(values: ArrayLike, weights: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fit an increasing curve to ``values[:k]`` for every ``k = 1..n`` by least squares.

    The work is O(n) operations (pooling of adjacent violators).

    Parameters
    ----------
    values, weights : array of shape (n,)
        Weights of the squared residuals, positive; all 1 by default.

    Returns
    -------
    rss, last : array of shape (n,)
        Weighted residual sum of squares of each prefix, and its last fitted value.

    See Also
    --------
    unimodal_splits : Fits that increase and then decrease.

    Examples
    --------
    >>> from probe.stats import prefix_isotonic
    >>> rss, last = prefix_isotonic([1, 3, 2, 5])
    >>> print(rss, last)
    [0.  0.  0.5 0.5] [1.  3.  2.5 5. ]
    """
    values, weights = _weighted(values, weights)
    rss, last = np.empty(len(values)), np.empty(len(values))
    blocks: list[tuple[float, float, float, float]] = []  # weight, mean, squares inside, squares up to here
    for j, (mean, size) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        inside = 0.0
        while blocks and blocks[-1][1] >= mean:
            n, other, squares, _ = blocks.pop()
            gap = mean - other
            inside += squares + gap * gap * size * n / (size + n)
            mean = other + gap * size / (size + n)
            size += n
        total = inside + (blocks[-1][3] if blocks else 0.0)
        blocks.append((size, mean, inside, total))
        rss[j], last[j] = total, mean
    return rss, last


def unimodal_splits(values: ArrayLike, weights: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit a curve that increases up to k and decreases after k, for every split k.

    ``RSS_k = RSS_increasing(1..k) + RSS_decreasing(k+1..n)``. The work is O(n) operations.

    Parameters
    ----------
    values, weights : array of shape (n,)
        Curve and weights of the squared residuals, positive; all 1 by default.

    Returns
    -------
    rss : array of shape (n,)
        Residual sum of squares of each split.
    mode : integer array of shape (n,)
        Index of the maximum of the fit. It is k or k + 1 (1-based), whichever fitted value is larger. With k alone,
        an exact peak would tie with the split before it, and the mode would be half a grid cell early.
    top : array of shape (n,)
        Fitted value at the mode.

    Examples
    --------
    >>> from probe.stats import unimodal_splits
    >>> rss, mode, top = unimodal_splits([0, 2, 4, 3, 1])
    >>> print(rss.argmin(), mode[rss.argmin()], top[rss.argmin()])
    1 2 4.0
    """
    values, weights = _weighted(values, weights)
    rise, left = prefix_isotonic(values, weights)
    fall, right = prefix_isotonic(values[::-1], weights[::-1])
    right = np.append(right[-2::-1], -np.inf)
    rss = rise + np.append(fall[-2::-1], 0.0)
    return rss, np.arange(len(values)) + (right > left), np.maximum(left, right)


def _weighted(values: ArrayLike, weights: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Return finite values and positive weights, (n,) each."""
    (found,) = as_vectors(values=values)
    found, factors = as_vectors(values=found, weights=np.ones(len(found)) if weights is None else weights)
    if not (np.isfinite(found).all() and (factors > 0).all() and np.isfinite(factors).all()):
        raise ValueError("Expected finite values and positive, finite weights, got other ones; drop these observations")
    return found, factors
