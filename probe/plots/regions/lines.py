"""Lines of a partition: the borders of its regions by site, the decision boundary, and regions cut by it."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def borders(partition: Any, patterns: Mapping[str, np.ndarray]) -> Any:
    """Return the BoundaryGraph of a partition with these patterns."""
    from probe.geometry.regions.borders import graph_of  # imports torch, as a partition did before

    return graph_of(partition, patterns)


def switches(graph: Any) -> np.ndarray:
    """Return how many boundaries of each site lie on each border (P, sites) of a BoundaryGraph."""
    n_sites = len(graph.sites)
    place = graph.border_of.astype(np.int64) * n_sites + graph.site_of[graph.boundary_of]
    return np.bincount(place, minlength=len(graph.pairs) * n_sites).reshape(len(graph.pairs), n_sites)


def decision_lines(partition: Any) -> np.ndarray:
    """Return the segments (S, 2, 2) of the decision boundary, in coordinates of the slice."""
    from probe.geometry.regions.decision import decision_segments

    return decision_segments(partition)


def next_corners(loops: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the place (E,) of the next corner of the same polygon."""
    following = np.arange(1, len(loops) + 1)
    following[starts + np.diff(starts, append=len(loops)) - 1] = starts
    return following


def region_of(partition: Any, point: np.ndarray) -> int:
    """Return the region that contains a point (2,) of the slice."""
    loops, starts = np.asarray(partition.loops), np.asarray(partition.starts)
    corners = np.asarray(partition.vertices)[loops] - point
    following = corners[next_corners(loops, starts)]
    left = corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]  # positive: the point is to the left
    return int(np.minimum.reduceat(left, starts).argmax())


def class_parts(partition: Any, positions: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """Return the class of each region (R,), and polygons with their classes of the regions with several classes.

    The class of a region with several classes is -1.
    """
    outputs = two_outputs(np.asarray(partition.outputs))
    parts, classes = list[np.ndarray](), list[int]()
    largest = outputs.argmax(1)[partition.loops]
    low, high = (of.reduceat(largest, partition.starts) for of in (np.minimum, np.maximum))
    stops = np.append(partition.starts[1:], len(partition.loops))
    for region in np.flatnonzero(low != high).tolist():
        corners = partition.loops[partition.starts[region] : stops[region]]
        for one in range(outputs.shape[1]):
            shape = np.concatenate([positions[corners], outputs[corners]], 1)
            for other in range(outputs.shape[1]):
                shape = _clipped(shape, shape[:, 2 + one] - shape[:, 2 + other])
            if len(shape) > 2:
                parts.append(shape[:, :2])
                classes.append(one)
    return np.where(low == high, low, -1), parts, classes


def two_outputs(outputs: np.ndarray) -> np.ndarray:
    """Return outputs (V, n_out) whose largest is the class: zero beside a single output."""
    return np.concatenate([np.zeros_like(outputs), outputs], axis=1) if outputs.shape[1] == 1 else outputs


def _clipped(corners: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the part of a convex polygon (k, m) where the values (k,) at its corners are not negative."""
    kept = []
    for a, b, u, v in zip(corners, np.roll(corners, -1, 0), values, np.roll(values, -1), strict=True):
        kept += [a] * bool(u >= 0)
        if u * v < 0:
            kept.append(a + u / (u - v) * (b - a))
    return np.array(kept) if kept else corners[:0]
