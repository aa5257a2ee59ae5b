"""Extent of a movement from squared distances: whether it is above jitter, and whether it is bounded.

The squared distance between two observations of a random walk is proportional to the squared path between them, the
sum of the squared steps. A bounded movement does not have this property. Jitter, noise that is new at each observation,
adds a constant to all squared distances. Only a second measurement on a disjoint probe batch can distinguish it from
movement.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from probe.stats.noise import variance_inflation

LEAST = 7  # observations
_LATE, _LEAST_LATE = 3, 6  # the last part of a record is at least its last third
# An observation lies outside, if its log distance exceeds the largest one inside by so many standard deviations; two
# neighbours lie outside from the second number on.
_OUTSIDE, _BOTH_OUTSIDE = 6.0, 3.5
_LEAST_SD = 0.02  # of log squared distances
_TINY = 1e-200  # squared distance that replaces zero in logarithms
# Score of the correlation of two measurements, and share of movement in the squared distances.
_SHARED_Z, _LEAST_MOVEMENT = 1.645, 0.5
# Limits that keep each null at 5 % (docs/benchmarks/cone_truth.py): squared extent over that of a random walk of the
# same steps, and growth of the squared distance over the last third of the window.
PATH_RATIO = 0.5
_GROWTH_OF_RISE, _GROWTH_OF_MOVEMENT, _GROWTH_SD = 0.35, 0.02, 2.0


class Extent(NamedTuple):
    """How the squared distances of one part of the record depend on the squared path between two observations."""

    movement: float = np.nan
    z: float = np.nan
    path_ratio: float = np.nan
    growth: float = np.nan
    limit: float = np.nan  # of the growth of a cone, with its error
    error: float = np.nan

    @property
    def moves(self) -> bool:
        """Whether both measurements show the movement, and jitter is less than half of the squared distances."""
        return self.z > _SHARED_Z and self.movement > _LEAST_MOVEMENT

    def bounded(self, strictly: bool) -> bool:
        """Return whether the extent is bounded; ``strictly`` does not excuse a growth by its error."""
        return self.path_ratio < PATH_RATIO and self.growth <= self.limit - strictly * self.error


def last_outside(d: np.ndarray) -> tuple[int, int]:
    """Return the index of the last observation outside the last part of the record, or -1, and the doubtful ones.

    The last part grows backwards. It takes in an observation whose mean squared distance from the part is not above
    the squared distances between its two ends. Its first observations are doubtful while they exceed these distances
    by more than one standard deviation; their number is returned.
    """
    n = len(d)
    start = n - max(n // _LATE, _LEAST_LATE)
    while True:
        m = n - start
        within = d[start:, start:]
        wide = max(within[np.triu_indices(m, m // 2)].mean(), _TINY)
        pairs = np.maximum(within[np.triu_indices(m, 1)], 1e-12 * wide)
        sd = max(float(np.log(pairs).std()) / 2, _LEAST_SD)
        before = np.log(np.maximum(d[max(start - 2, 0) : start, start:].mean(1), _TINY) / wide) / sd
        if start == 0 or before[-1] > _OUTSIDE or (len(before) == 2 and before.min() > _BOTH_OUTSIDE):
            inside = within.sum(1) / (m - 1) <= wide * np.exp(sd)
            return start - 1, int(np.argmax(inside))
        start -= 1


def extent_of(d: np.ndarray, first: np.ndarray, second: np.ndarray) -> Extent:
    """Measure movement, squared extent over squared path, and growth with the window, of squared distances (m, m)."""
    m, pairs = len(d), np.triu_indices(len(d), 1)
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
    limit = max(_GROWTH_OF_RISE * (middle - near), _GROWTH_OF_MOVEMENT * movement) + error
    return Extent(movement, z, ratio, far - middle, limit, error)


def _shared(first: np.ndarray, second: np.ndarray, *, m: int) -> tuple[float, float]:
    """Return the share of movement and the standard score of the correlation of two measurements of m points.

    The squared distances of jitter alone are independent on disjoint probe batches. The correlation after double
    centring is the squared share of the movement, if the movement has the same spread in each direction as the jitter.
    """
    centred = []
    for values in (first, second):
        d = np.zeros((m, m))
        d[np.triu_indices(m, 1)] = values
        d += d.T
        sums = d.sum(0) / (m - 2)
        centred.append((d - sums - sums[:, None] + d.sum() / (m - 1) / (m - 2))[np.triu_indices(m, 1)])
    size = np.sqrt((centred[0] @ centred[0]) * (centred[1] @ centred[1]))
    correlation = float(centred[0] @ centred[1] / size) if size > 0 else 0.0
    return float(np.sqrt(max(correlation, 0.0))), float(correlation * np.sqrt(m * (m - 3) / 2 - 1))


def mean_far(d: np.ndarray, level: float) -> tuple[float, float, float]:
    """Return the mean squared distance from the first observation, and its interval, from the far observations."""
    far = d[max(2 * len(d) // 5, 1) :]
    n, centred = len(far), far - far.mean()
    squares = float(centred @ centred)
    phi = float(centred[1:] @ centred[:-1]) / squares + 3 / n if squares > 0 else 0.0  # corrected for the mean
    inflation = min(max(variance_inflation(min(max(phi, 0.0), 0.9)), 1.0), n / 2)
    half = stats.t.ppf((1 + level) / 2, max(n / inflation - 1, 1)) * np.sqrt(squares / (n - 1) / n * inflation)
    mean = float(far.mean())
    return max(mean - half, 0.0), mean, mean + half
