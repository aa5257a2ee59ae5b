"""The numbers of one slice."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probe.geometry.arrangement import Arrangement
from probe.geometry.borders import BoundaryGraph
from probe.geometry.decision import decision_segments, distance_to_segments
from probe.geometry.mechanisms import MECHANISMS, RegionChanges
from probe.geometry.merging import merged_in
from probe.geometry.partition import Partition

Numbers = Mapping[str, Any]


def counts(partition: Partition) -> Numbers:
    """Return the counts of a partition, by site. Sites that a stopped partition has not reached are NaN."""
    reached = {site.site: site for site in partition.arrangements}

    def by_site(count: Callable[[Arrangement], int]) -> list[float]:
        return [count(reached[name]) if name in reached else np.nan for name in partition.network.sites]

    return {
        "": by_site(lambda site: site.n_regions),
        "_total": partition.n_regions,
        "_area": partition.slice.area,
        "_lines": by_site(lambda site: site.crossing),
        "_segments": by_site(lambda site: site.segments),
        "_points": by_site(lambda site: site.crossings),
        "_merged": by_site(lambda site: site.merged),
        "_on": by_site(lambda site: site.always_on),
        "_off": by_site(lambda site: site.always_off),
        "_incomplete": not partition.complete,
    }


def alike_numbers(partition: Partition, patterns: Mapping[str, NDArray[Any]], tolerances: Sequence[float]) -> Numbers:
    """Return how many boundaries of each site merge up to a tolerance."""
    return {"_alike": list(merged_in(partition, patterns, tolerances).values())}


def missing_numbers(n_sites: int, n_tolerances: int) -> Numbers:
    """Return the numbers of a stopped partition in place of :func:`alike_numbers` and :func:`border_numbers`."""
    names = ("_hamming", "_composite", "_composite_distance", "_ordinary_distance")
    return {"_alike": np.full((n_sites, n_tolerances), np.nan), "_undivided": -1, **dict.fromkeys(names, np.nan)}


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


def change_numbers(changes: RegionChanges | None, n_sites: int, first: bool) -> Numbers:
    """Return what changed the number of regions. None: there is nothing to compare with, or it cannot be compared."""
    if changes is None:
        return {"_change": np.full((n_sites, len(MECHANISMS)), np.nan), "_unattributed": -1 if first else 1}
    return {"_change": np.stack([changes.parts[name] for name in MECHANISMS], 1), "_unattributed": 0}


def _mean(values: NDArray[Any], weights: NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() > 0 else np.nan
