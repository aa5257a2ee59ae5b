"""Least squares over shapes: rising, rise then fall, fall then rise then fall. Pure functions on arrays.

Sources: Frisén (1986) for unimodal regression, Stout (2008) for all modes by prefix pooling.
"""

import numpy as np
from numpy.typing import ArrayLike


def prefix_isotonic(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Fit an increasing curve to ``values[:k]`` for every ``k = 1..n``: least squares by pooling, O(n).

    Returns
    -------
    rss, last : array of shape (n,)
        Residual sum of squares of each prefix and the last fitted value.
    """
    values = np.asarray(values, dtype=float)
    rss, last = np.empty(len(values)), np.empty(len(values))
    blocks: list[tuple[float, float, float, float]] = []  # size, mean, squares inside, squares up to here
    for j, value in enumerate(values.tolist()):
        size, mean, inside = 1.0, value, 0.0
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


def unimodal_splits(values: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rise-then-fall fits, one for each split: ``RSS_k = RSS_incr(1..k) + RSS_decr(k+1..n)``, O(n).

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
    rise, left = prefix_isotonic(values)
    fall, right = prefix_isotonic(values[::-1])
    right = np.append(right[-2::-1], -np.inf)
    rss = rise + np.append(fall[-2::-1], 0.0)
    return rss, np.arange(len(values)) + (right > left), np.maximum(left, right)


def shape_rss(values: np.ndarray, directions: tuple[int, ...], n_levels: int) -> np.ndarray:
    """Least squares of curves made of monotone pieces, for every prefix, by dynamic programming over levels.

    Parameters
    ----------
    values : array of shape (curves, n)
    directions : tuple of int
        1 rises, -1 falls; the breaks are free and a piece may be empty.
    n_levels : int
        Fitted values are quantiles of the values: dense where the curve lingers, where a mean must be met.

    Returns
    -------
    array of shape (pieces, n, curves)
        Residual sum of squares of the first pieces only, up to each observation.
    """
    levels = np.quantile(values, np.linspace(0, 1, n_levels), axis=1)  # (levels, curves)
    cost = np.full((len(directions), *levels.shape), np.inf)
    least = np.empty((len(directions), values.shape[1], values.shape[0]))
    for t, value in enumerate(values.T):
        entry = cost.min(axis=1)
        for p, sign in enumerate(directions):
            stay = np.minimum.accumulate(cost[p, ::sign], axis=0)[::sign]
            cost[p] = np.minimum(stay, entry[p - 1]) if p else (stay if t else 0.0)
        cost += (value - levels) ** 2
        least[:, t] = np.minimum.accumulate(cost.min(axis=1), axis=0)
    return least


def valley(values: np.ndarray) -> int:
    """Index of the valley in the best fall-rise-fall fit; 0 if the curve rises from the start."""
    n_levels = min(2 * len(values), 512)  # more buys nothing: the split below is exact
    down = shape_rss(values[None], (-1,), n_levels)[0, :, 0]
    up_down = shape_rss(values[None, ::-1], (1, -1), n_levels)[1, ::-1, 0]
    start = int(np.argmin(down + np.append(up_down[1:], 0.0)))
    rss, mode, _ = unimodal_splits(values[start:])
    peak = start + int(mode[np.argmin(rss)])
    rss, mode, _ = unimodal_splits(-values[: peak + 1])
    return int(mode[np.argmin(rss)])
