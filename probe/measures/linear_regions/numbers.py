"""The numbers of one slice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.geometry.borders import BoundaryGraph
from probe.geometry.decision import decision_segments, distance_to_segments
from probe.geometry.mechanisms import MECHANISMS, RegionChanges
from probe.geometry.merging import merged_in
from probe.geometry.partition import Partition

Numbers = Mapping[str, Any]


def region_numbers(partition: Partition, patterns: Mapping[str, NDArray[Any]], tolerances: Sequence[float]) -> Numbers:
    """Return the counts of a partition, by site."""
    sites = partition.arrangements
    alike = merged_in(partition, patterns, tolerances)
    return {
        "": [site.n_regions for site in sites],
        "_total": partition.n_regions,
        "_area": partition.slice.area,
        "_lines": [site.crossing for site in sites],
        "_segments": [site.segments for site in sites],
        "_points": [site.crossings for site in sites],
        "_merged": [site.merged for site in sites],
        "_alike": [alike[site.site] for site in sites],
        "_on": [site.always_on for site in sites],
        "_off": [site.always_off for site in sites],
        "_incomplete": not partition.complete,
    }


def border_numbers(partition: Partition, graph: BoundaryGraph, *, is_vector: bool) -> Numbers:
    """Return what lies on the borders of regions, and how far away the decision boundary is.

    There is a decision boundary only if the output is a vector.
    """
    ends = np.asarray(partition.vertices)[graph.edges]
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    count = np.bincount(graph.border_of, minlength=len(lengths))
    composite = count >= 2
    segments = decision_segments(partition) if is_vector else np.empty((0, 2, 2))
    distance = distance_to_segments(ends.mean(1), segments)
    return {
        "_hamming": count.mean() if len(count) else np.nan,
        "_composite": _mean(composite, lengths),
        "_composite_distance": _mean(distance[composite], lengths[composite]),
        "_ordinary_distance": _mean(distance[~composite], lengths[~composite]),
        "_undivided": int(not len(segments)) if is_vector else -1,
    }


def change_numbers(changes: RegionChanges | None, n_sites: int, *, first: bool) -> Numbers:
    """Return what changed the number of regions. None: there is nothing to compare with, or it cannot be compared."""
    if changes is None:
        return {"_change": np.full((n_sites, len(MECHANISMS)), np.nan), "_unattributed": -1 if first else 1}
    return {"_change": np.stack([changes.parts[name] for name in MECHANISMS], 1), "_unattributed": 0}


def _mean(values: NDArray[Any], weights: NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() > 0 else np.nan
