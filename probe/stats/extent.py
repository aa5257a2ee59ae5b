"""Extent of a movement from squared distances: whether it is above jitter, and whether it is bounded.

The squared distance between two observations of a random walk is proportional to the squared path between them, the
sum of the squared steps. A bounded movement does not have this property. Jitter, noise that is new at each observation,
adds a constant to all squared distances. Only a second measurement on a disjoint probe batch can distinguish it from
movement.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats

from probe.stats.noise import variance_inflation

LEAST = 7  # observations
_LATE, _LEAST_LATE = 3, 6  # the last part of a record is at least its last third
# An observation lies outside, if the log of its squared distance exceeds the largest one inside by so many standard
# deviations; two neighbours lie outside from the second number on. Both are limited to the third number, a difference,
# or to the fourth one, in standard deviations.
_OUTSIDE, _BOTH_OUTSIDE, _FAR, _FAR_SD = 6.0, 3.5, 0.7, 3.0
_LEAST_SD = 0.02  # of log squared distances
_TINY = 1e-200  # squared distance that replaces zero in logarithms
# Score of the correlation of two measurements, and share of movement in the squared distances.
_SHARED_Z, _LEAST_MOVEMENT = 1.645, 0.5
# Limits that keep each null at 5 % (docs/benchmarks/cone_truth.py): squared extent over that of a random walk of the
# same steps, which varies more in few directions, and growth of the squared distance over the last third of the window.
_PATH_RATIO, _PATH_OF_ONE, _PATH_OF_TEN = 0.5, 0.2, 0.3
_GROWTH_OF_RISE, _GROWTH_OF_MOVEMENT, _GROWTH_SD = 0.35, 0.06, 2.0
# A later start of a cone: the least number and share of observations from there on, how many starts from this one on
# are bounded one after the other, and the share of all later ones.
_LEAST_LATER, _LATER_SHARE, _IN_A_ROW, _BOUNDED_SHARE = 10, 0.4, 4, 0.8


class Extent(NamedTuple):
    """How the squared distances of one part of the record depend on the squared path between two observations."""

    movement: float = np.nan
    z: float = np.nan
    path_ratio: float = np.nan
    growth: float = np.nan
    limit: float = np.nan  # of the growth of a cone, with its error
    error: float = np.nan
    path_limit: float = np.nan

    @property
    def moves(self) -> bool:
        """Whether both measurements show the movement, and jitter is less than half of the squared distances."""
        return self.z > _SHARED_Z and self.movement > _LEAST_MOVEMENT

    @property
    def winds(self) -> bool:
        """Whether the extent is small in comparison with the path."""
        return self.path_ratio < self.path_limit

    def bounded(self, errors: float = 1.0) -> bool:
        """Return whether a movement is bounded, if so many times its error excuses a growth."""
        return self.moves and self.winds and self.growth <= self.limit + (errors - 1) * self.error


def last_outside(d: np.ndarray) -> tuple[int, int]:
    """Return the index of the last observation outside the last part of the record, or -1, and the doubtful ones.

    The last part grows backwards. It takes in an observation whose mean squared distance from the part is not above
    the squared distances between its two ends. Its first observations are doubtful while they exceed these distances
    by more than one standard deviation; their number is returned.
    """
    n, logs = len(d), np.log(np.maximum(d, _TINY))
    by_lag, rows, first, second = np.zeros(n), np.zeros(n), 0.0, 0.0  # sums over the pairs of the part
    for start in range(n - 1, -1, -1):
        m, row, log = n - start, d[start, start + 1 :], logs[start, start + 1 :]
        by_lag[1:m] += row
        rows[start] = row.sum()
        rows[start + 1 :] += row
        first, second = first + log.sum(), second + log @ log
        if m < max(n // _LATE, _LEAST_LATE):
            continue
        pairs, ends = m * (m - 1) / 2, (m - m // 2) * (m - m // 2 + 1) / 2
        wide = max(by_lag[m // 2 : m].sum() / ends, _TINY)
        sd = max(np.sqrt(max(second / pairs - (first / pairs) ** 2, 0)) / 2, _LEAST_SD)
        before = np.log(np.maximum(d[max(start - 2, 0) : start, start:].mean(1), _TINY) / wide)
        one, both = (min(number * sd, max(_FAR, _FAR_SD * sd)) for number in (_OUTSIDE, _BOTH_OUTSIDE))
        if start == 0 or before[-1] > one or (len(before) == 2 and before.min() > both):
            break
    return start - 1, int(np.argmax(rows[start:] / (m - 1) <= wide * np.exp(sd)))


def extent_of(first: np.ndarray, second: np.ndarray) -> Extent:
    """Measure movement, squared extent over squared path, and growth with the window.

    Both measurements hold squared distances (m, m), which add up along a random walk.
    """
    d, m, pairs = (first + second) / 2, len(first), _pairs(len(first), 1)
    path = np.concatenate([[0], np.cumsum(np.diag(d, 1))])
    mean = d[pairs].mean()
    if m < LEAST:
        return Extent()
    if path[-1] == 0:  # nothing moves, and nothing is noisy
        return Extent(0.0, 0.0, np.nan, 0.0, 0.0, 0.0)
    lag = (path[pairs[1]] - path[pairs[0]]) / path[-1]
    thirds = [d[pairs][part] for part in (lag < 1 / 3, (lag >= 1 / 3) & (lag < 2 / 3), lag >= 2 / 3)]
    near, middle, far = (float(part.mean()) / mean if len(part) else 1.0 for part in thirds)
    trend = np.linalg.qr(np.column_stack([np.ones_like(lag), lag, lag**2]))[0]
    rest = d[pairs] - trend @ (trend.T @ d[pairs])
    movement, z = _shared(*[v[pairs] - trend @ (trend.T @ v[pairs]) for v in (first, second)], m=m)
    steps, lags = path[-1] / (m - 1) / mean, lag.mean() * (m - 1)
    moved = steps - 1 + movement  # mean squared step without jitter
    ratio = movement / (lags * moved) if moved > 0 else np.inf
    error = _GROWTH_SD * float(rest.std()) / mean / np.sqrt(m)
    limit = _GROWTH_OF_RISE * max(middle - near, 0) + _GROWTH_OF_MOVEMENT * movement + error
    path_limit = min(_PATH_RATIO, _PATH_OF_ONE + _PATH_OF_TEN * np.log10(_directions(d)))
    return Extent(movement, z, ratio, far - middle, limit, error, path_limit)


@lru_cache(maxsize=256)
def _pairs(m: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of all pairs of m observations at this lag or more."""
    return np.triu_indices(m, lag)


def _directions(d: np.ndarray) -> float:
    """Return the effective number of directions of the steps, from the cosines of steps that are no neighbours."""
    products = (d[:-1, 1:] + d[1:, :-1] - d[:-1, :-1] - d[1:, 1:]) / 2
    sizes = np.maximum(np.diag(d, 1), _TINY)
    squares = products**2 / sizes / sizes[:, None]
    return float(1 / np.clip(squares[_pairs(len(squares), 2)].mean(), 1e-9, 1))


def first_bounded(first: np.ndarray, second: np.ndarray, start: int) -> tuple[int, int, int, Extent]:
    """Return the first start from which the movement is bounded, its bounds, and the extent from there on.

    The start is ``start``, or a later one if movement slows down there. It is -1 if there is none; the extent is then
    that from ``start`` on. The bounds are the first starts with one error more and one less.
    """
    n = len(first)
    found = _extent_from(first, second, start)
    if found.bounded(errors=start > 0):
        return start, start, start, found
    last = n - max(_LEAST_LATER, int(np.ceil(_LATER_SHARE * n)))
    later = [_extent_from(first, second, k) for k in range(start + 1, n - max(LEAST + 1, n // _LATE) + 1)]
    bounded = np.array([extent.bounded() for extent in later])
    for i in range(last - start):
        if bounded[i : i + _IN_A_ROW].all() and bounded[i:].mean() >= _BOUNDED_SHARE:
            lower = next(k for k in range(i + 1) if later[k].bounded(2.0))
            upper = next((k for k in range(i, len(later)) if later[k].bounded(0.0)), len(later) - 1)
            return start + 1 + i, start + 1 + lower, start + 1 + upper, later[i]
    return -1, -1, -1, found


def _extent_from(first: np.ndarray, second: np.ndarray, start: int) -> Extent:
    """Return the extent from an observation on. It does not count itself, since it may still approach the centre."""
    part = slice(start + 1 if start else 0, None)
    return extent_of(first[part, part], second[part, part])


def _shared(first: np.ndarray, second: np.ndarray, *, m: int) -> tuple[float, float]:
    """Return the share of movement and the standard score of the correlation of two measurements of m points.

    The squared distances of jitter alone are independent on disjoint probe batches. The correlation after double
    centring is the squared share of the movement, if the movement has the same spread in each direction as the jitter.
    """
    centred = []
    for values in (first, second):
        d = np.zeros((m, m))
        d[_pairs(m, 1)] = values
        d += d.T
        sums = d.sum(0) / (m - 2)
        centred.append((d - sums - sums[:, None] + d.sum() / (m - 1) / (m - 2))[_pairs(m, 1)])
    size = np.sqrt((centred[0] @ centred[0]) * (centred[1] @ centred[1]))
    correlation = float(centred[0] @ centred[1] / size) if size > 0 else 0.0
    return float(np.sqrt(max(correlation, 0.0))), float(correlation * np.sqrt(m * (m - 3) / 2 - 1))


def mean_far(d: np.ndarray, level: float) -> tuple[float, float, float]:
    """Return the mean squared distance from the first observation, and its interval, from the far observations.

    The interval is NaN with fewer than 3 of them.
    """
    far = d[max(2 * len(d) // 5, 1) :]
    n, mean, centred = len(far), float(far.mean()), far - far.mean()
    if n < 3:
        return np.nan, mean, np.nan
    squares = float(centred @ centred)
    phi = float(centred[1:] @ centred[:-1]) / squares + 4 / n if squares > 0 else 0.0  # corrected for its bias
    inflation = min(max(variance_inflation(min(max(phi, 0.0), 0.9)), 1.0), n / 2)
    half = stats.t.ppf((1 + level) / 2, max(n / inflation - 1, 1)) * np.sqrt(squares / (n - 1) / n * inflation)
    return max(mean - half, 0.0), mean, mean + half
