"""Match the modes of one time with those of a later time by the overlap of their subspaces.

The overlap of two modes u v' and a b' is (u.a) (v.b), the inner product of these matrices. Modes are assigned one to
one so that the sum of squared overlaps is largest. Their order of size has no effect, so modes can cross.

Where values nearly agree, a small change of the matrix rotates singular vectors within the subspace of these modes by
large angles (Wedin 1972, BIT 12). Single modes have no identity there, but the subspace has. A mode whose overlap with
every single mode is below ``SINGLE`` is matched to a subspace: the present modes whose values differ from that of its
partner by less than twice the change of one of them. The change of a mode u v' is that of u' W v. The mode continues as
the direction of this subspace that is closest to its earlier self (orthogonal Procrustes problem, one rotation for both
sides). So a mode keeps its identity if an observation falls on a crossing.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

SINGLE = 0.9  # least overlap with a single mode for which no subspace is searched
CLEAR = 0.7  # least overlap of a mode with its continuation. By chance it is at most .5, in a subspace too
_REACH = 2.0  # changes of a mode
_ROUNDING = 1e-9  # of equal values, relative to the largest


class Match(NamedTuple):
    """How earlier modes continue.

    Attributes
    ----------
    rotation : array of shape (earlier, present)
        Each earlier mode as a combination of present modes: a unit vector. One entry, +1 or -1, of a single mode.
    partner : int array of shape (earlier,)
        The present mode that is assigned to it.
    overlap : array of shape (earlier,)
        Overlap of the earlier mode with its continuation.
    degenerate : bool array of shape (earlier,)
        Whether it continues in a subspace of several present modes.
    """

    rotation: np.ndarray
    partner: np.ndarray
    overlap: np.ndarray
    degenerate: np.ndarray


def match(left: np.ndarray, right: np.ndarray, before: np.ndarray, values: np.ndarray, same: np.ndarray) -> Match:
    """Match earlier modes with present ones.

    Parameters
    ----------
    left, right : array of shape (earlier, present)
        Overlaps of left and right vectors.
    before, values : array
        Values of the earlier modes, and of the present ones.
    same : bool array of shape (earlier, present)
        Whether the modes are in the same block of the matrix.
    """
    product = left * right
    rows, partner = linear_sum_assignment(-np.square(product.clip(0)))
    clear = product[rows, partner] >= SINGLE
    change = np.abs((product * values).sum(1) - before)
    others = np.zeros(len(values))
    others[partner] = change
    reach = _REACH * np.maximum(change[:, None], others) + _ROUNDING * values[0]
    near = np.abs(values - values[partner][:, None]) <= reach
    near &= same & ~clear[:, None]
    near[:, partner[clear]] = False
    near[rows, partner] = True
    rotation, degenerate = np.zeros_like(product), np.zeros(len(rows), bool)
    rotation[rows, partner] = np.where(left[rows, partner] < 0, -1.0, 1.0)
    for earlier, present in _subspaces(near):
        rotation[earlier] = 0
        u, _, v = np.linalg.svd((left + right)[np.ix_(earlier, present)], full_matrices=False)
        rotation[np.ix_(earlier, present)] = u @ v
        degenerate[earlier] = True
    overlap = (left * rotation).sum(1) * (right * rotation).sum(1)
    return Match(rotation, partner, overlap, degenerate)


def _subspaces(near: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the connected sets of earlier and present modes with several present ones."""
    if (near.sum(1) == 1).all():
        return []
    n, (rows, columns) = len(near), (at.astype(np.int32) for at in near.nonzero())  # old SciPy needs int32
    size = sum(near.shape)
    graph = csr_array((np.ones(len(rows)), (rows, n + columns)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    counts = np.bincount(labels[n:], minlength=labels.max() + 1)
    return [
        ((labels[:n] == label).nonzero()[0], (labels[n:] == label).nonzero()[0])
        for label in np.unique(labels[:n])
        if counts[label] > 1
    ]
