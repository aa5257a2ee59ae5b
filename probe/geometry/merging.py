"""How many boundaries of a slice coincide, exactly and up to a tolerance.

Trained units merge only approximately. A boundary divides the window into two sides, and the distance of two boundaries
is an area: that between them, over the sum of the areas of their smaller sides,

    d(i, j) = min(A(i differs from j), A(i equals j)) / (min(A_i, A - A_i) + min(A_j, A - A_j)).

The second term of the first minimum makes a unit and its negative one boundary. d is 0 for boundaries that coincide
over the whole window, and at most 1. The share does not depend on the size of the window or of the sides, so boundaries
that cut off small corners are not alike because they are short. It has the same definition for all layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from probe.geometry.networks import Maximum
from probe.geometry.partition import Partition

TOLERANCES = (1e-9, 1e-3, 1e-2, 5e-2)
_BLOCK = 4096  # regions whose patterns become float64 at a time


def merged_boundaries(
    partition: Partition, tolerances: Sequence[float] = TOLERANCES
) -> Mapping[str, NDArray[np.float64]]:
    """Return how many boundaries of each site coincide with another one, up to a tolerance.

    Parameters
    ----------
    partition : Partition
    tolerances : sequence of float
        Largest distance d, as defined at the top of :mod:`probe.geometry.merging`.

    Returns
    -------
    {site: float64 array of shape (tolerances,)}
        Number of boundaries in the window minus that of groups. Boundaries within the tolerance are in one group, so a
        chain of near ones is one group. NaN for a maximum, which has more than two sides.

    See Also
    --------
    region_changes : What merging does to the number of regions.

    Examples
    --------
    Two vertical lines, 0.02 apart, halve the square of side 2. The area between them is 1 % of that of the sides.

    >>> from probe.geometry import input_plane, merged_boundaries, partition_slice, perceptron, square
    >>> network = perceptron([([[1.0, 0.0], [1.0, 0.0]], [0.01, -0.01])], last=True)
    >>> merged_boundaries(partition_slice(network, input_plane(square(1.0))), [0.005, 0.02])["0"].tolist()
    [0.0, 1.0]
    """
    return merged_in(partition, partition.patterns(), tolerances)


def merged_in(
    partition: Partition, patterns: Mapping[str, NDArray[Any]], tolerances: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Return the same for a partition whose patterns are known."""
    weights = partition.areas / partition.areas.sum()
    maxima = {step.site for step in partition.network.operations if isinstance(step, Maximum)}
    found = {}
    for site, pieces in patterns.items():
        if site in maxima:
            found[site] = np.full(len(tolerances), np.nan)
        else:
            apart = _distances(pieces, weights)
            found[site] = np.array([_repeats(apart <= tolerance) for tolerance in tolerances], float)
    return found


def _distances(pieces: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance d of every two boundaries in the window."""
    above = [pieces > breakpoint for breakpoint in range(int(pieces.max(initial=0)))]
    sides = np.concatenate([part[:, part.any(0) & ~part.all(0)] for part in above] or [pieces[:, :0]], 1)
    both = np.zeros((sides.shape[1],) * 2)
    for rows in np.array_split(np.arange(len(sides)), len(sides) // _BLOCK + 1):
        on = sides[rows].astype(np.float64)
        both += on.T @ (on * weights[rows, None])
    area = np.diagonal(both)
    differ = (area[:, None] + area - 2 * both).clip(0)
    smaller = np.minimum(area, 1 - area)
    return np.minimum(differ, (1 - differ).clip(0)) / np.maximum(smaller[:, None] + smaller, 1e-300)


def _repeats(near: NDArray[np.bool_]) -> int:
    return len(near) - int(connected_components(near, directed=False, return_labels=False)) if len(near) else 0
