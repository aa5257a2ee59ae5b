"""Test of whether a sample has a gap between two peaks, for a density of unknown form.

Three neighbouring intervals A, B, C end at order statistics. For a density with one peak, the mean density in B is at
least the smaller of those in A and C. The score of (B, C) is N KL(observed share of C, share of its length), the
logarithm of a binomial probability, and the same for (A, B). A triple scores the smaller of the two, and a sample the
largest score of all triples. The p-value is the largest share of samples that score as much, over five densities with
one peak: uniform, half-normal, |t| with 2 degrees of freedom, a step, and 1 / x. The idea is that of Duembgen and
Walther (2008), "Multiscale inference about a density", with triples in place of pairs.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

_DRAWS = 200  # samples of each shape of the null distribution: the least p-value is 1 / 201
_FIRST_DRAWS = 2000
_BLOCK = 1 << 14  # numbers of samples at a time
_SHAPES: tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], ...] = (  # uniform is the first
    lambda generator, size: generator.random(size),
    lambda generator, size: generator.standard_normal(size),
    lambda generator, size: generator.standard_t(2, size),
    lambda generator, size: generator.random(size) * np.where(generator.random(size) < 0.5, 1, 0.05),
    lambda generator, size: 1000 ** generator.random(size),
)


class Gap(NamedTuple):
    """Result of :func:`find_gap`: p-values, and the ends of the intervals of the best triple."""

    p_gap: float  # of one peak
    p_rise: float  # of a density that does not rise from the first value
    left: tuple[float, float]
    middle: tuple[float, float]
    right: tuple[float, float]


def find_gap(values: np.ndarray) -> Gap:
    """Search a sorted sample, (n,), n >= 8, for a gap between two peaks. The first value can be a known end."""
    x = spread_ties(values)
    scores = _scores(x[None])
    best = tuple(int(k) for k in np.unravel_index(scores[0].argmax(), scores.shape[1:]))
    null = null_scores(_grid(len(x)))
    p_gap = max(_p_value(float(scores.max()), one) for one in null)
    p_rise = _p_value(float(_first_scores(x[None])[0]), null_first_scores(_grid(len(x))))
    j, size = best[0], int(_sizes(len(x))[best[1]])
    a, c = _widest(x, j, size)
    return Gap(p_gap, p_rise, (x[a], x[j]), (x[j], x[j + size]), (x[j + size], x[c]))


def spread_ties(values: np.ndarray) -> np.ndarray:
    """Return a sorted sample whose equal values are spread evenly between the midpoints to their neighbours.

    Rounded numbers have no gap between equal values, which would score as a peak.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == len(values) or len(distinct) < 2:
        return np.sort(values)
    edges = np.concatenate([distinct[:1], (distinct[1:] + distinct[:-1]) / 2, distinct[-1:]])
    rank = np.arange(len(values)) - np.repeat(counts.cumsum() - counts, counts)
    share = (rank + 0.5) / np.repeat(counts, counts)
    low, high = np.repeat(edges[:-1], counts), np.repeat(edges[1:], counts)
    spread = np.where(np.repeat(counts, counts) > 1, low + share * (high - low), np.repeat(distinct, counts))
    return np.asarray(np.maximum.accumulate(spread))


@lru_cache(maxsize=32)
def null_scores(n: int) -> np.ndarray:
    """Return the scores of samples of ``n`` values without a gap, (shapes, draws)."""
    generator, found = np.random.default_rng(0), []
    for shape in _SHAPES:
        draws = np.sort(np.abs(shape(generator, (_DRAWS, n))), 1)
        scores = [_scores(part) for part in np.array_split(draws, -(-_DRAWS * n // _BLOCK))]
        found.append(np.concatenate([triples.max((1, 2)) for triples in scores]))
    return np.array(found)


@lru_cache(maxsize=32)
def null_first_scores(n: int) -> np.ndarray:
    """Return the scores of the first pair of uniform samples of ``n`` values, (draws,)."""
    return _first_scores(np.sort(np.random.default_rng(0).random((_FIRST_DRAWS, n)), 1))


def _first_scores(x: np.ndarray) -> np.ndarray:
    """Return the largest score of pairs (B, C) of which B starts at the first value, for samples (k, n)."""
    n, found = x.shape[1], [np.zeros(len(x))]
    for m in _sizes(n):
        for size in _sizes(n)[1:]:
            if n - m - size > 0:
                score = _score(size, m, x[:, m + size] - x[:, m], x[:, m] - x[:, 0])
                found.append(score - np.log(_grid(n) / (m + size)))
    return np.max(found, axis=0)


def _grid(n: int) -> int:
    """Return ``n`` or somewhat more, so that layers of similar size share a null distribution."""
    return n if n < 64 else int(64 * 1.25 ** np.ceil(np.log(n / 64) / np.log(1.25) - 1e-9))


def _sizes(n: int) -> np.ndarray:
    """Return the numbers of spacings of an interval: powers of two up to half the sample."""
    return 2 ** np.arange(int(np.log2(n // 2)) + 1)


def _scores(x: np.ndarray) -> np.ndarray:
    """Return the scores of triples, (k, n, sizes), by start and size of B, for samples (k, n)."""
    n = x.shape[1]
    sizes = _sizes(n)
    left, right = np.zeros((2, *x.shape, len(sizes)))
    for i, m in enumerate(sizes):
        gap = x[:, m:] - x[:, :-m]
        for size in sizes[1:]:
            stop = n - m - size
            if stop < 1:
                continue
            after, before = x[:, m + size :] - x[:, m : n - size], x[:, size : n - m] - x[:, :stop]
            several = np.log(_grid(n) / (m + size))  # such pairs are so many, side by side
            for found, at, length, beside in (
                (right, slice(stop), after, gap[:, :stop]),
                (left, slice(size, n - m), before, gap[:, size:]),
            ):
                score = _score(size, m, length, beside) - several
                found[:, at, i] = np.maximum(found[:, at, i], score)
    return np.asarray(np.minimum(left, right))


def _score(dense: int, sparse: int, length: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Return N KL of the share of spacings against the share of length, 0 unless ``length`` is denser."""
    n, total = dense + sparse - 1, length + gap  # order statistics at the ends leave n values between them
    share = dense / n
    expected = np.clip(np.divide(length, total, out=np.ones_like(total), where=total > 0), 1e-12, 1 - 1e-12)
    kl = share * np.log(share / expected) + (0 if sparse == 1 else (1 - share) * np.log((1 - share) / (1 - expected)))
    return np.asarray(np.where(expected < share, n * kl, 0))


def _widest(x: np.ndarray, j: int, m: int) -> tuple[int, int]:
    """Return the far ends of the best intervals beside B = (j, j + m)."""
    sizes, n, gap = _sizes(len(x))[1:], len(x), x[j + m] - x[j]
    before = [(_score(s, m, x[j] - x[j - s], gap).item(), j - s) for s in sizes if j - s >= 0]
    after = [(_score(s, m, x[j + m + s] - x[j + m], gap).item(), j + m + s) for s in sizes if j + m + s < n]
    return max(before, default=(0, j))[1], max(after, default=(0, j + m))[1]


def _p_value(score: float, null: np.ndarray) -> float:
    return float((1 + (null >= score).sum()) / (1 + len(null)))
