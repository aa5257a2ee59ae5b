"""The numbers of one slice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from probe.geometry.partition.arrangement import Arrangement
from probe.geometry.partition.partition import Partition
from probe.geometry.regions.borders import BoundaryGraph, first_of_groups
from probe.geometry.regions.decision import decision_segments, distance_to_segments
from probe.geometry.regions.mechanisms import MECHANISMS, graph_changes

Numbers = Mapping[str, Any]

_ALIKE = ("_alike_share", "_alike_distance", "_unlike_distance")


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


@dataclass(frozen=True)
class Borders:
    """The borders of a partition, with their lengths and their distances to the decision boundary.

    ``undivided`` is 1 if there is no decision boundary, and -1 if the output is no vector.
    """

    graph: BoundaryGraph
    lengths: NDArray[np.float64]
    distances: NDArray[np.float64]
    undivided: int

    @classmethod
    def of(cls, partition: Partition, graph: BoundaryGraph, *, is_vector: bool) -> Self:
        """Return those of a partition. A network decides only if its output is a vector."""
        ends = np.asarray(partition.vertices)[graph.edges]
        segments = decision_segments(partition) if is_vector else np.empty((0, 2, 2))
        distances = distance_to_segments(ends.mean(1), segments)
        lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        return cls(graph, lengths, distances, int(not len(segments)) if is_vector else -1)

    def shares(self, chosen: NDArray[np.bool_]) -> tuple[float, float, float]:
        """Return the share of length of the chosen borders, and the mean distances of these and of the others."""
        near, far = (_mean(self.distances[part], self.lengths[part]) for part in (chosen, ~chosen))
        return _mean(chosen, self.lengths), near, far

    def numbers(self) -> Numbers:
        """Return how many boundaries lie on a border."""
        count = np.bincount(self.graph.border_of, minlength=len(self.lengths))
        names = ("_composite", "_composite_distance", "_ordinary_distance")
        hamming = count.mean() if len(count) else np.nan
        shares = dict(zip(names, self.shares(count >= 2), strict=True))
        return {"_hamming": hamming, "_undivided": self.undivided, **shares}

    def alike(self) -> Numbers:
        """Return what merges up to each tolerance of the graph."""
        graph = self.graph
        found: dict[str, list[Any]] = {name: [] for name in ("_alike", "_effective", *_ALIKE)}
        for row, names in enumerate(graph.alike):
            repeated = graph.drawn & (names != np.arange(len(names)))
            found["_alike"].append(np.bincount(graph.site_of[repeated], minlength=len(graph.sites)))
            groups = graph.groups(row)
            single = first_of_groups(groups, graph.drawn, np.arange(len(groups)))
            found["_effective"].append(1 + np.cumsum(graph.added(single)))
            several = np.isin(groups, groups[repeated])
            on = np.zeros(len(self.lengths), bool)
            on[graph.border_of[several[graph.boundary_of]]] = True
            for name, number in zip(_ALIKE, self.shares(on), strict=True):
                found[name].append(number)
        return {name: np.array(values, float).T for name, values in found.items()}


def missing_numbers(n_sites: int, n_tolerances: int) -> Numbers:
    """Return the numbers of a stopped partition in place of those of its borders."""
    names = ("_hamming", "_composite", "_composite_distance", "_ordinary_distance")
    by_tolerance = np.full((n_sites, n_tolerances), np.nan)
    shares = dict.fromkeys(_ALIKE, by_tolerance[0] if n_sites else np.full(n_tolerances, np.nan))
    return {
        "_alike": by_tolerance,
        "_effective": by_tolerance,
        "_undivided": -1,
        **shares,
        **dict.fromkeys(names, np.nan),
    }


def change_numbers(before: BoundaryGraph | None, after: BoundaryGraph | None, shape: tuple[int, int]) -> Numbers:
    """Return what changed the number of regions since the last observation, of (sites, tolerances).

    There is nothing to compare with if a graph is None.
    """
    if before is None or after is None:
        missing = np.full((*shape, len(MECHANISMS)), np.nan)
        return {"_change": np.full((shape[0], len(MECHANISMS)), np.nan), "_effective_change": missing}
    exact = _change_table(before, after, None)
    rows = [
        exact if _is_exact(before, row) and _is_exact(after, row) else _change_table(before, after, row)
        for row in range(shape[1])
    ]
    return {"_change": exact, "_effective_change": np.stack([exact, *rows], 1)[:, 1:]}


def _is_exact(graph: BoundaryGraph, row: int) -> bool:
    """Return whether no more boundaries are alike at a tolerance than coincide."""
    return np.array_equal(graph.groups(row), graph.groups())


def _change_table(before: BoundaryGraph, after: BoundaryGraph, row: int | None) -> NDArray[np.float64]:
    parts = graph_changes(before, after, row).parts
    return np.stack([parts[name] for name in MECHANISMS], 1)


def _mean(values: NDArray[Any], weights: NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() > 0 else np.nan
