"""Least squares over shapes: rising, rise then fall. Pure functions on arrays.

Sources: Frisén (1986) for unimodal regression, Stout (2008) for all modes by prefix pooling.
"""

import numpy as np
from numpy.typing import ArrayLike

Splits = tuple[np.ndarray, np.ndarray, np.ndarray]  # rss, mode, top, as unimodal_splits returns them


def prefix_isotonic(values: ArrayLike, weights: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fit an increasing curve to ``values[:k]`` for every ``k = 1..n``: least squares by pooling, O(n).

    Parameters
    ----------
    values, weights : array of shape (n,)
        Weights of the squared residuals, positive; None: all 1.

    Returns
    -------
    rss, last : array of shape (n,)
        (Weighted) residual sum of squares of each prefix and the last fitted value.
    """
    values = np.asarray(values, dtype=float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
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
    """Rise-then-fall fits, one for each split: ``RSS_k = RSS_incr(1..k) + RSS_decr(k+1..n)``, O(n).

    Parameters
    ----------
    values, weights : array of shape (n,)
        As for :func:`prefix_isotonic`.

    Returns
    -------
    rss : array of shape (n,)
        The residual sum of squares of each split.
    mode : integer array of shape (n,)
        Index of the top of that fit. It is k or k + 1 (1-based), whichever is fitted higher: with k alone an
        exact peak would tie with the split before it and the mode come out half a grid cell early.
    top : array of shape (n,)
        Fitted value there.
    """
    values = np.asarray(values, dtype=float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    rise, left = prefix_isotonic(values, weights)
    fall, right = prefix_isotonic(values[::-1], weights[::-1])
    right = np.append(right[-2::-1], -np.inf)
    rss = rise + np.append(fall[-2::-1], 0.0)
    return rss, np.arange(len(values)) + (right > left), np.maximum(left, right)


def unimodal_minimum(values: np.ndarray) -> int:
    """Index of the lowest point of the best fall-then-rise fit."""
    rss, mode, _ = unimodal_splits(-values)
    return int(mode[np.argmin(rss)])
