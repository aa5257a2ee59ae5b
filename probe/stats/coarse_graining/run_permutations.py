"""Permutation test of two groups of whole runs, by their distances.

The statistic is the energy distance of the groups: twice the mean distance between the groups, minus the mean distances
within them (Szekely and Rizzo 2013, Journal of Statistical Planning and Inference 143). It is 0 in expectation if both
groups have one law, and positive otherwise. Runs are exchanged as wholes, so steps of one run may depend on each other.
"""

from functools import lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

_BLOCK = 1 << 22  # numbers in memory


class RunPermutations(NamedTuple):
    """Result of a permutation test.

    Attributes
    ----------
    p_value : float
        Share of the assignments of runs to groups whose statistic is at least the observed one.
    least_p_value : float
        The least p-value that these numbers of runs can reach: 2 over the number of assignments for groups of equal
        size, whose exchange changes nothing, else 1 over it.
    n_assignments : int
        Number of assignments, the observed one included.
    exact : bool
        Whether these are all assignments.
    """

    p_value: float
    least_p_value: float
    n_assignments: int
    exact: bool


def permutation_test(distances: np.ndarray, m: int, *, max_assignments: int, random_state: int) -> RunPermutations:
    """Test whether the first m runs have another law than the others, from distances (runs, runs)."""
    total = len(distances)
    if m == 0 or m == total:
        return RunPermutations(1.0, 1.0, 1, True)
    exact = comb(total, m) <= max_assignments
    chosen = _all(total, m) if exact else _random(total, m, max_assignments, random_state)
    statistics = _statistics(distances, chosen)
    reached = int((statistics >= statistics[0] - 1e-12 * np.abs(statistics).max()).sum())
    least = (2 if 2 * m == total else 1) / comb(total, m) if exact else 1 / len(chosen)
    return RunPermutations(reached / len(chosen), least, len(chosen), exact)


@lru_cache(maxsize=8)
def _all(total: int, m: int) -> np.ndarray:
    """Return all assignments (assignments, runs) of m runs to the first group, beginning with the observed one."""
    places = np.array(list(combinations(range(total), m)))
    found = np.zeros((len(places), total), dtype=bool)
    np.put_along_axis(found, places, True, axis=1)
    found.flags.writeable = False  # the array is cached
    return found


def _random(total: int, m: int, count: int, random_state: int) -> np.ndarray:
    """Return the observed assignment and random ones."""
    keys = np.random.default_rng(random_state).random((count, total))
    keys[0] = np.arange(total)
    return np.asarray(keys.argsort(axis=1).argsort(axis=1) < m)


def _statistics(distances: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the energy distances of assignments."""
    found = []
    for part in np.array_split(chosen, -(-chosen.size // _BLOCK)):
        first, second = part.astype(float), (~part).astype(float)
        m, n = first.sum(1), second.sum(1)
        between = ((first @ distances) * second).sum(1) / (m * n)
        within = ((first @ distances) * first).sum(1) / m**2 + ((second @ distances) * second).sum(1) / n**2
        found.append(2 * between - within)
    return np.concatenate(found)
