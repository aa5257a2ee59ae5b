"""The decision boundary of a piecewise-linear network in a slice: where its two largest outputs are equal.

Within a region the outputs are affine, so the boundary consists of line segments, exact up to rounding. A network with
one output decides at 0.
"""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.geometry.partition.cuts import following
from probe.geometry.partition.partition import Partition

Numbers = NDArray[Any]

_BLOCK = 1 << 14  # points whose distances stay in the cache


def decision_segments(partition: Partition) -> Numbers:
    """Return the decision boundary in the slice, as segments.

    Parameters
    ----------
    partition : Partition
        Of a network whose output is a vector.

    Returns
    -------
    float64 array of shape (segments, 2, 2)
        Coordinates of both ends. Segments on the border of a region belong to both regions, and then occur twice.

    Raises
    ------
    ValueError
        If the partition is not complete.

    See Also
    --------
    distance_to_segments : Distances of points to them.

    Examples
    --------
    The two outputs are x and -x, so the boundary is the vertical axis.

    >>> import torch
    >>> from probe.geometry import decision_segments, input_plane, partition_slice, perceptron, square
    >>> network = perceptron([([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0])])
    >>> decision_segments(partition_slice(network, input_plane(square(1.0)))).tolist()
    [[[0.0, -1.0], [0.0, 1.0]]]
    """
    if not partition.complete:
        raise ValueError(
            "Expected a complete partition, got one that a limit stopped, so the outputs are not affine in its "
            "regions; pass larger limits or a smaller window to partition_slice"
        )
    outputs = np.asarray(partition.outputs)
    outputs = np.column_stack([outputs, np.zeros(len(outputs))]) if outputs.shape[1] == 1 else outputs
    region, corners = _mixed_loops(partition, outputs)
    if not len(corners):
        return np.empty((0, 2, 2))
    starts = np.flatnonzero(np.diff(region, prepend=-1))
    values, places = outputs[corners], np.asarray(partition.vertices)[corners]
    can_win = np.maximum.reduceat(values, starts) >= np.minimum.reduceat(values, starts).max(1, keepdims=True)
    counts = np.diff(np.append(starts, len(corners)))
    after = following(starts, counts)
    found = [np.empty((0, 2, 2))]
    for one, two in combinations(range(values.shape[1]), 2):
        both = np.repeat(can_win[:, one] & can_win[:, two], counts)
        if both.any():
            found.append(_ties(values, places, after, both, one, two))
    return np.concatenate(found)


def distance_to_segments(points: Numbers, segments: Numbers) -> Numbers:
    """Return the distance of each point to the nearest of some segments.

    Parameters
    ----------
    points : array of shape (n, 2)
    segments : array of shape (m, 2, 2)

    Returns
    -------
    float64 array of shape (n,)
        NaN if there is no segment.

    See Also
    --------
    decision_segments : The segments of a decision boundary.

    Examples
    --------
    >>> from probe.geometry import distance_to_segments
    >>> distance_to_segments([[0.0, 2.0], [4.0, 4.0]], [[[0.0, 0.0], [1.0, 0.0]]]).tolist()
    [2.0, 5.0]
    """
    points, segments = np.asarray(points, float).reshape(-1, 2), np.asarray(segments, float).reshape(-1, 2, 2)
    found = np.full(len(points), np.inf if len(segments) else np.nan)
    for first in range(0, len(points), _BLOCK):
        block = slice(first, first + _BLOCK)
        x, y = np.ascontiguousarray(points[block].T)
        for start, end in segments:
            (x0, y0), (dx, dy) = start, end - start
            away_x, away_y = x - x0, y - y0
            share = ((away_x * dx + away_y * dy) / max(dx * dx + dy * dy, 1e-300)).clip(0, 1)
            square = (away_x - share * dx) ** 2 + (away_y - share * dy) ** 2
            np.minimum(found[block], square, out=found[block])
    return np.sqrt(found)


def _mixed_loops(partition: Partition, outputs: Numbers) -> tuple[Numbers, Numbers]:
    """Return region and vertex of the corners of the regions in which more than one output is the largest."""
    starts, loops, counts = partition.starts, partition.loops, partition.counts
    winner = outputs.argmax(1)[loops]
    mixed = np.minimum.reduceat(winner, starts) < np.maximum.reduceat(winner, starts)
    chosen = np.repeat(mixed, counts)
    return np.repeat(np.arange(len(starts)), counts)[chosen], loops[chosen]


def _ties(values: Numbers, places: Numbers, after: Numbers, both: Numbers, one: int, two: int) -> Numbers:
    """Return where two outputs are equal and no other one is larger, in the regions of ``both``."""
    lead = values[:, one] - values[:, two]
    changes = np.flatnonzero(both & ((lead >= 0) != (lead[after] >= 0)))
    share = (lead[changes] / (lead[changes] - lead[after[changes]]))[:, None]
    ends = places[changes] * (1 - share) + places[after[changes]] * share  # two of each convex region, in turn
    at = values[changes] * (1 - share) + values[after[changes]] * share
    ends, at = ends.reshape(-1, 2, 2), at.reshape(-1, 2, at.shape[1])
    ahead = np.delete(at[:, :, [one]] - at, [one, two], axis=2)  # (segments, 2, the other outputs)
    first, last = ahead[:, 0], ahead[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        root = first / (first - last)
    low = np.where((first < 0) & (last >= 0), root, 0).max(1, initial=0)
    high = np.where((first >= 0) & (last < 0), root, 1).min(1, initial=1)
    keep = (high > low) & ~((first < 0) & (last < 0)).any(1)
    cut = np.stack([low, high], 1)[keep, :, None]
    return ends[keep, :1] * (1 - cut) + ends[keep, 1:] * cut
