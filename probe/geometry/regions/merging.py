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

from probe.geometry.networks import Bend, Maximum
from probe.geometry.partition.partition import Partition

Numbers = NDArray[Any]
Bools = NDArray[np.bool_]

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
        Largest distance d, as defined at the top of :mod:`probe.geometry.regions.merging`.

    Returns
    -------
    {site: float64 array of shape (tolerances,)}
        Number of boundaries in the window minus that of groups. Boundaries within the tolerance are in one group, so a
        chain of near ones is one group. NaN for a maximum, which has more than two sides.

    Raises
    ------
    ValueError
        If the partition is not complete.

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
    if not partition.complete:
        raise ValueError(
            "Expected a complete partition, got one that a limit stopped, in which boundaries are missing; pass larger "
            "limits or a smaller window to partition_slice"
        )
    weights, patterns = partition.areas / partition.areas.sum(), partition.patterns()
    found = {}
    for step in partition.network.operations:
        if isinstance(step, Maximum):
            found[step.site] = np.full(len(tolerances), np.nan)
        elif isinstance(step, Bend):
            sides = sides_of(patterns[step.site], len(step.breakpoints))
            groups = alike_groups(sides, weights, tolerances)
            crossing = np.flatnonzero(is_crossing(sides))
            found[step.site] = np.array([len(crossing) - len(np.unique(row[crossing])) for row in groups], float)
    return found


def sides_of(pieces: Numbers, breakpoints: int) -> Bools:
    """Return the side of each boundary, unit * breakpoints + breakpoint, on which each region lies, (R, boundaries)."""
    return (pieces[:, :, None] > np.arange(breakpoints)).reshape(len(pieces), -1)


def is_crossing(sides: Bools) -> Bools:
    """Return which boundaries meet the window."""
    return np.asarray(sides.any(0) & ~sides.all(0))


def alike_groups(sides: Bools, weights: NDArray[np.float64], tolerances: Sequence[float]) -> NDArray[np.int64]:
    """Return the first boundary of the group of each boundary, (tolerances, boundaries).

    Parameters
    ----------
    sides : bool array of shape (R, boundaries)
    weights : array of shape (R,)
        Areas of the regions, as shares of the window.
    tolerances : sequence of float
    """
    crossing = np.flatnonzero(is_crossing(sides))
    apart = _distances(sides[:, crossing], weights)
    found = np.tile(np.arange(sides.shape[1]), (len(tolerances), 1))
    for row, tolerance in zip(found, tolerances, strict=True):
        labels = connected_components(apart <= tolerance, directed=False)[1] if len(crossing) else crossing
        first = np.unique(labels, return_index=True)[1]
        row[crossing] = crossing[first[labels]]
    return found


def _distances(sides: Bools, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance d of every two boundaries in the window."""
    both = np.zeros((sides.shape[1],) * 2)
    for rows in np.array_split(np.arange(len(sides)), len(sides) // _BLOCK + 1):
        on = sides[rows].astype(np.float64)
        both += on.T @ (on * weights[rows, None])
    area = np.diagonal(both)
    differ = (area[:, None] + area - 2 * both).clip(0)
    smaller = np.minimum(area, 1 - area)
    return np.minimum(differ, (1 - differ).clip(0)) / np.maximum(smaller[:, None] + smaller, 1e-300)
