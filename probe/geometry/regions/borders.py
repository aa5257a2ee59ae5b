"""The borders between the regions of a partition, and the boundaries that lie on them.

A *boundary* is the set where one unit passes one breakpoint. Several boundaries on one border form a composite border.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from probe.geometry.networks import Bend, Maximum
from probe.geometry.partition.partition import Partition
from probe.geometry.regions.merging import alike_groups, sides_of

Numbers = NDArray[Any]
Boundary = tuple[str, int, int]  # site, unit, breakpoint

_BLOCK = 1 << 22  # pairs of a border and a unit that are compared at a time


@dataclass(frozen=True)
class BoundaryGraph:
    """The borders between the regions of a partition, and the boundaries that lie on them.

    Attributes
    ----------
    sites : tuple of str
        In the order of execution.
    widths, breakpoints : tuple of int
        Number of units of each site, and of breakpoints of a unit. A maximum counts as one breakpoint: all its borders
        together are one boundary.
    n_regions : int
    pairs, edges : int32 arrays of shape (borders, 2)
        The regions on both sides of each border, and the vertices at its ends.
    border_of, boundary_of : int32 arrays
        One entry for each boundary on each border. The boundary of a unit is numbered through all sites,
        ``unit * breakpoints + breakpoint`` after those of the earlier sites.
    inside : bool array of shape (vertices,)
        Whether a vertex lies inside the window.
    alike : int32 array of shape (tolerances, boundaries)
        First boundary of the group of each boundary, with groups as in :func:`merged_boundaries`.

    See Also
    --------
    boundary_graph : The graph of a partition.
    region_changes : The comparison of two graphs.
    """

    sites: tuple[str, ...]
    widths: tuple[int, ...]
    breakpoints: tuple[int, ...]
    n_regions: int
    pairs: Numbers
    edges: Numbers
    border_of: Numbers
    boundary_of: Numbers
    inside: Numbers
    alike: Numbers

    def __repr__(self) -> str:
        return f"BoundaryGraph({self.n_regions} regions, {len(self.pairs)} borders, sites {', '.join(self.sites)})"

    @property
    def sizes(self) -> Numbers:
        """Return the number of boundaries of each site."""
        return np.multiply(self.widths, self.breakpoints).astype(np.int64)

    @property
    def site_of(self) -> Numbers:
        """Return the number of the site of each boundary."""
        return np.repeat(np.arange(len(self.sites)), self.sizes)

    @property
    def drawn(self) -> Numbers:
        """Return which boundaries meet the window."""
        found = np.zeros(int(self.sizes.sum()), bool)
        found[self.boundary_of] = True
        return found

    def added(self, kept: Numbers) -> Numbers:
        """Return how many regions each site adds if only the kept boundaries are drawn. The window itself is no part.

        Parameters
        ----------
        kept : bool array of shape (boundaries,)
        """
        first = self._first_site(kept)
        counts = [1, *(self._components(self.pairs[first > site]) for site in range(len(self.sites)))]
        return np.diff(counts)

    def meetings(self, kept: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Return the pairs of kept boundaries that meet at points inside the window.

        Returns
        -------
        keys : int64 array
            ``first * boundaries + second``, in ascending order.
        regions : float64 array
            Number of regions that these points add to the site of the second boundary of the pair.
        points : int64 array
            Number of the points.
        """
        site_of, total, first = self.site_of, len(kept), self._first_site(kept)
        chosen = kept[self.boundary_of]
        at = self.edges[self.border_of[chosen]].astype(np.int64)
        keys = np.unique((at * total + self.boundary_of[chosen, None]).ravel())
        vertex, boundary = keys // total, keys % total
        found, before = [(np.empty(0, np.int64), np.empty(0))], np.zeros(len(self.inside), np.int64)
        for site in range(len(self.sites)):
            degree = np.bincount(self.edges[first <= site].ravel(), minlength=len(self.inside))
            adds = (degree - before) / 2 - ((before == 0) & (degree > 0))
            adds[~self.inside] = 0
            use = (adds[vertex] != 0) & (site_of[boundary] <= site)
            one, two = _pairs_within(vertex[use])
            where, small, large = vertex[use][one], boundary[use][one], boundary[use][two]
            new = site_of[large] == site
            where = where[new]
            share = adds[where] / np.bincount(where, minlength=len(adds))[where]
            found.append((small[new] * total + large[new], share))
            before = degree
        pairs, inverse, points = np.unique(
            np.concatenate([keys for keys, _ in found]), return_inverse=True, return_counts=True
        )
        shares = np.concatenate([share for _, share in found])
        return pairs, np.bincount(inverse, shares, minlength=len(pairs)), points

    def groups(self, tolerance: int | None = None) -> Numbers:
        """Return the number of the group of each boundary, of those that coincide or are alike at this tolerance.

        Parameters
        ----------
        tolerance : int, optional
            Row of :attr:`alike`. Default: only boundaries that coincide.
        """
        first: dict[bytes, int] = {}
        links = [(first.setdefault(trace, number), number) for number, trace in self.traces().items()]
        if tolerance is not None:
            links += zip(self.alike[tolerance].tolist(), range(self.alike.shape[1]), strict=True)
        return linked(links, int(self.sizes.sum()))

    def traces(self) -> dict[int, bytes]:
        """Return for each boundary in the window the borders on which it lies. Equal traces coincide everywhere."""
        order = np.lexsort((self.border_of, self.boundary_of))
        names, starts = np.unique(self.boundary_of[order], return_index=True)
        parts = np.split(self.border_of[order], starts)[1:]  # the part before the first start is empty
        return {int(name): part.tobytes() for name, part in zip(names, parts, strict=True)}

    @property
    def names(self) -> list[Boundary]:
        """Return site, unit and breakpoint of each boundary."""
        shapes = zip(self.sites, self.widths, self.breakpoints, strict=True)
        return [(site, unit, place) for site, width, k in shapes for unit in range(width) for place in range(k)]

    def pack(self) -> Numbers:
        """Return all numbers as one int32 array, for :meth:`unpack`. The names of the sites are not among them."""
        header = [self.n_regions, len(self.pairs), len(self.border_of), len(self.inside), len(self.sites)]
        parts = (self.pairs, self.edges, self.border_of, self.boundary_of, self.inside, self.alike)
        numbers = [np.asarray([*header, *self.widths, *self.breakpoints]), *(np.ravel(part) for part in parts)]
        return np.concatenate(numbers).astype(np.int32)

    @classmethod
    def unpack(cls, packed: Numbers, sites: Sequence[str]) -> Self:
        """Return the graph that :meth:`pack` has written."""
        n_regions, borders, entries, vertices, n_sites = (int(number) for number in packed[:5])
        cuts = np.cumsum([5, n_sites, n_sites, 2 * borders, 2 * borders, entries, entries, vertices])
        _, widths, breakpoints, pairs, edges, border_of, boundary_of, inside, alike = np.split(packed, cuts)
        return cls(
            tuple(sites),
            tuple(widths.tolist()),
            tuple(breakpoints.tolist()),
            n_regions,
            pairs.reshape(-1, 2),
            edges.reshape(-1, 2),
            border_of,
            boundary_of,
            inside.astype(bool),
            alike.reshape(-1, int(np.dot(widths, breakpoints))),
        )

    def _first_site(self, kept: Numbers) -> Numbers:
        """Return for each border the first site with a kept boundary on it; the number of sites if there is none."""
        first = np.full(len(self.pairs), len(self.sites))
        chosen = kept[self.boundary_of]
        np.minimum.at(first, self.border_of[chosen], self.site_of[self.boundary_of[chosen]])
        return first

    def _components(self, opened: Numbers) -> int:
        ones = np.ones(len(opened), bool)
        graph = coo_array((ones, (opened[:, 0], opened[:, 1])), shape=(self.n_regions, self.n_regions))
        return int(connected_components(graph, directed=False, return_labels=False))


def boundary_graph(partition: Partition, *, tolerances: Sequence[float] = ()) -> BoundaryGraph:
    """Return the borders between the regions of a partition, and the boundaries that lie on them.

    Parameters
    ----------
    partition : Partition
    tolerances : sequence of float
        Tolerances of the groups of :attr:`BoundaryGraph.alike`.

    Returns
    -------
    BoundaryGraph

    See Also
    --------
    region_changes : What changes between two partitions.

    Examples
    --------
    The two axes cut the square into four regions, with one boundary on each of four borders.

    >>> import torch
    >>> from probe.geometry import boundary_graph, input_plane, partition_slice, perceptron, square
    >>> network = perceptron([(torch.eye(2), torch.zeros(2))], last=True)
    >>> graph = boundary_graph(partition_slice(network, input_plane(square(1.0))))
    >>> graph.n_regions, sorted(graph.boundary_of.tolist())
    (4, [0, 0, 1, 1])
    """
    return graph_of(partition, partition.patterns(), tolerances)


def graph_of(partition: Partition, patterns: Mapping[str, Numbers], tolerances: Sequence[float] = ()) -> BoundaryGraph:
    """Return the graph of a partition whose patterns are known."""
    pairs, edges = (np.asarray(part) for part in partition.neighbours())
    operations = {op.site: op for op in partition.network.operations if isinstance(op, (Bend, Maximum))}
    sites = tuple(patterns)
    breakpoints = [len(op.breakpoints) if isinstance(op := operations[site], Bend) else 1 for site in sites]
    maxima = [isinstance(operations[site], Maximum) for site in sites]
    found, start = [(np.empty(0, np.int64), np.empty(0, np.int64))], 0
    alike, weights = [np.empty((len(tolerances), 0), np.int64)], partition.areas / partition.areas.sum()
    for site, k, maximum in zip(sites, breakpoints, maxima, strict=True):
        borders, boundaries = _changes(patterns[site], pairs, k, maximum)
        found.append((borders, start + boundaries))
        alike.append(start + _alike(patterns[site], k, weights, tolerances, maximum=maximum))
        start += patterns[site].shape[1] * k
    around = np.bincount(partition.loops, minlength=len(partition.vertices))
    inside = around == np.bincount(edges.ravel(), minlength=len(partition.vertices))
    return BoundaryGraph(
        sites,
        tuple(patterns[site].shape[1] for site in sites),
        tuple(breakpoints),
        partition.n_regions,
        pairs.astype(np.int32),
        edges.astype(np.int32),
        np.concatenate([borders for borders, _ in found]).astype(np.int32),
        np.concatenate([boundaries for _, boundaries in found]).astype(np.int32),
        inside,
        np.concatenate(alike, 1).astype(np.int32),
    )


def linked(links: Sequence[tuple[int, int]], total: int) -> Numbers:
    """Return the number of the group of each of some things, of which pairs are linked."""
    one, two = np.array(links, np.int32).reshape(-1, 2).T  # scipy < 1.12 finds no groups with int64
    graph = coo_array((np.ones(len(one), bool), (one, two)), shape=(total, total))
    return np.asarray(connected_components(graph, directed=False)[1])


def first_of_groups(groups: Numbers, mask: Numbers, order: Numbers) -> Numbers:
    """Return the boundaries of the mask that come first in the order among those of their group."""
    members = order[mask[order]]
    found = np.zeros_like(mask)
    found[members[np.unique(groups[members], return_index=True)[1]]] = True
    return found


def _alike(pieces: Numbers, k: int, weights: Numbers, tolerances: Sequence[float], *, maximum: bool) -> Numbers:
    """Return the first boundary of each group of a site. Maxima have more than two sides, and are alike to none."""
    if maximum or not len(tolerances):
        return np.tile(np.arange(pieces.shape[1] * k), (len(tolerances), 1))
    return alike_groups(sides_of(pieces, k), weights, tolerances)


def _changes(patterns: Numbers, pairs: Numbers, k: int, maximum: bool) -> tuple[Numbers, Numbers]:
    """Return borders and boundaries (unit * k + breakpoint) where the pieces of both sides differ."""
    step = max(1, _BLOCK // max(1, patterns.shape[1]))
    found = []
    for start in range(0, len(pairs), step):
        one, two = (patterns[side] for side in pairs[start : start + step].T)
        for breakpoint in range(k):
            differ = one != two if maximum or k == 1 else (one > breakpoint) != (two > breakpoint)
            border, unit = np.nonzero(differ)
            found.append((start + border, unit * k + breakpoint))
    empty = np.empty(0, np.int64)
    return tuple(np.concatenate([empty, *(part[i] for part in found)]) for i in (0, 1))  # type: ignore[return-value]


def _pairs_within(group: Numbers) -> tuple[Numbers, Numbers]:
    """Return the places of all pairs of equal numbers in an ascending array, the first before the second."""
    ends = np.searchsorted(group, group, side="right")
    counts = ends - np.arange(len(group)) - 1
    one = np.repeat(np.arange(len(group)), counts)
    return one, one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
