"""Attribution of a change of the number of linear regions to the mechanisms of arXiv:2504.12700, section 4.4.

A *boundary* is the set where one unit passes one breakpoint. The regions of a slice are what its boundaries cut out.
Each border between two regions carries the boundaries that lie on it. For a set S of boundaries, R(S) is the number of
regions if only S is drawn: the number of connected components after every border without a boundary of S is opened.
Two observations A and B are compared along this path:

    all boundaries of A  ->  without those that B lacks  ->  one of each group that coincides
        ->  the same boundaries in B  ->  all of each group  ->  all boundaries of B

The first two steps are losses by *disappearance* and *merging*, the last two are gains by *splitting* and
*appearance*. A crossing of a boundary that leaves with one that merges counts half for each. This is the Shapley value
of the two steps, so their order does not matter. Of a group that coincides over the whole window in A or in B, the path
keeps the unit whose meetings with other boundaries change least.

The middle step moves the same, distinct boundaries. *Alignment* is the loss of points where two of them meet, and
*crossing* the gain. The rest is *folding*: a change of the number of pieces of the bent boundaries of later layers. It
is 0 for the first layer, whose boundaries are straight. A point where m boundaries meet adds m - 1 regions, divided
equally among its pairs, so three lines that become concurrent lose one region by alignment.

All parts are counted for each site, as what the drawing of the sites up to it has more than that of the sites before
it. Their sum is the change of the number of regions. A region smaller than the snapping width that has the circuit of a
neighbour is missing in the sum. Boundaries of different layers can meet and merge too.
Boundaries that coincide in a part of the window only do not count as merged. Trained units merge only approximately:
with a tolerance, boundaries that are nearly the same count as one (:mod:`probe.geometry.regions.merging`).

Units are identified by their index, since training does not permute them. Match the units first to compare two networks
whose hidden units are permuted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from probe.geometry.partition.partition import Partition
from probe.geometry.regions.borders import Boundary, BoundaryGraph, Numbers, boundary_graph, first_of_groups, linked

MECHANISMS = ("disappearance", "appearance", "merging", "splitting", "alignment", "crossing", "folding")

_DIGITS = 9  # of the shares of a point, which are fractions


@dataclass(frozen=True)
class RegionChanges:
    """What changed the number of regions of a slice, by site.

    Attributes
    ----------
    sites : tuple of str
        In the order of execution.
    before, after : int64 arrays of shape (sites,)
        Number of regions that each site adds. With the window itself, 1, the sum is the number of regions.
    parts : {mechanism: float64 array of shape (sites,)}
        Change of the number of regions by each of :data:`MECHANISMS`. Their sum is ``after - before``. Summed over
        sites, disappearance, merging and alignment are at most 0, appearance, splitting and crossing at least 0, and
        folding has either sign. At one site, the first four can have the other sign if boundaries of different sites
        coincide.
    boundaries : {mechanism: tuple of (site, unit, breakpoint)}
        The boundaries that left the window, entered it, came to coincide with another one, or ceased to. Of a group
        that coincides, the one that stays is not among them.
    pairs : {mechanism: tuple of two (site, unit, breakpoint)}
        The pairs that lost or gained a point where they meet.

    See Also
    --------
    region_changes : Compares two partitions.
    """

    sites: tuple[str, ...]
    before: Numbers
    after: Numbers
    parts: Mapping[str, Numbers]
    boundaries: Mapping[str, tuple[Boundary, ...]]
    pairs: Mapping[str, tuple[tuple[Boundary, Boundary], ...]]

    @property
    def change(self) -> int:
        """Return the change of the number of regions."""
        return int((self.after - self.before).sum())

    def total(self, mechanism: str) -> float:
        """Return the part of a mechanism, over all sites."""
        return float(self.parts[mechanism].sum())

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {self.total(name):+g}" for name in self.parts)
        return f"RegionChanges(change {self.change:+d}: {parts})"


def region_changes(before: Partition, after: Partition, *, tolerance: float = 0.0) -> RegionChanges:
    """Attribute the change of the number of regions between two partitions of one slice to mechanisms.

    Parameters
    ----------
    before, after : Partition
        Partitions of the same slice by networks of one architecture.
    tolerance : float
        Boundaries at most this far apart, as in :func:`merged_boundaries`, count as one boundary. The numbers of
        regions are then those of the drawing of one boundary of each group.

    Returns
    -------
    RegionChanges

    Raises
    ------
    ValueError
        If the sites or their widths differ, if two partitions have different slices, or if one is not complete.

    See Also
    --------
    partition_slice : Makes a partition.
    probe.LinearRegionsProbe : Measures the changes over training.

    Notes
    -----
    The definition is at the top of :mod:`probe.geometry.regions.mechanisms`. It needs no matching of regions.

    Examples
    --------
    The vertical line leaves the square, and takes two of four regions with it.

    >>> import torch
    >>> from probe.geometry import input_plane, partition_slice, perceptron, region_changes, square
    >>> def partition(bias):
    ...     return partition_slice(perceptron([(torch.eye(2), bias)], last=True), input_plane(square(1.0)))
    >>> changes = region_changes(partition([0.0, 0.0]), partition([-3.0, 0.0]))
    >>> changes.change, changes.total("disappearance"), changes.boundaries["disappearance"]
    (-2, -2.0, (('0', 0, 0),))
    """
    _check_same(before, after)
    row, tolerances = (0, [tolerance]) if tolerance > 0 else (None, [])
    one, two = (boundary_graph(side, tolerances=tolerances) for side in (before, after))
    return graph_changes(one, two, row)


def graph_changes(one: BoundaryGraph, two: BoundaryGraph, tolerance: int | None = None) -> RegionChanges:
    """Return the changes between two graphs. The tolerance is a row of their groups, None for those that coincide."""
    _check_alike(one, two)
    common = one.drawn & two.drawn
    groups = one.groups(tolerance), two.groups(tolerance)
    joined = _joined(common, *groups)
    order = _order(joined, one, two, common)
    chosen, chosen_after = (
        first_of_groups(group, graph.drawn, order) for group, graph in zip(groups, (one, two), strict=True)
    )
    distinct = first_of_groups(joined, common, order)
    losses, start = _losses(one, chosen, common, distinct)
    gains, end = _losses(two, chosen_after, common, distinct)
    (lost, gained), pairs = _crossings(one, two, distinct)
    found = (-losses[0], gains[0], -losses[1], gains[1], -lost, gained, end - start - (gained - lost))
    parts = {name: part.round(_DIGITS) + 0.0 for name, part in zip(MECHANISMS, found, strict=True)}
    named = {
        "disappearance": one.drawn & ~two.drawn,
        "appearance": two.drawn & ~one.drawn,
        "merging": common & chosen & ~chosen_after,
        "splitting": common & chosen_after & ~chosen,
    }
    names = one.names
    boundaries = {key: tuple(names[number] for number in np.flatnonzero(mask)) for key, mask in named.items()}
    return RegionChanges(one.sites, one.added(chosen), two.added(chosen_after), parts, boundaries, pairs)


def _check_same(before: Partition, after: Partition) -> None:
    """Raise ValueError if two partitions are not complete partitions of one slice."""
    if not (before.complete and after.complete):
        raise ValueError(
            "Expected complete partitions, got one that stopped at max_regions; raise max_regions, or take a smaller "
            "window"
        )
    one, two = ([side.slice.origin, side.slice.axes, side.slice.window] for side in (before, after))
    if not all(x.shape == y.shape and np.allclose(x, y) for x, y in zip(one, two, strict=True)):
        raise ValueError("Expected two partitions of one slice, got different slices; pass the same Slice to both")


def _check_alike(one: BoundaryGraph, two: BoundaryGraph) -> None:
    """Raise ValueError if the boundaries of two graphs are not the same ones."""
    shapes = [list(zip(graph.sites, graph.widths, graph.breakpoints, strict=True)) for graph in (one, two)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Expected two networks of one architecture, got the sites (name, units, breakpoints) {shapes[0]} and "
            f"{shapes[1]}; compare two observations of one model"
        )


def _losses(
    graph: BoundaryGraph, chosen: Numbers, common: Numbers, distinct: Numbers
) -> tuple[tuple[Numbers, Numbers], Numbers]:
    """Return the regions lost with what is not common, and with copies of common ones; and the regions that stay."""
    sets = (chosen, chosen & common, chosen & ~(common & ~distinct), distinct)
    whole, without_own, without_copies, least = (graph.added(kept) for kept in sets)
    own = (whole - without_own + without_copies - least) / 2
    return (own, whole - least - own), least


def _joined(common: Numbers, *groups: Numbers) -> Numbers:
    """Return the number of the group of each boundary, of the common ones that are in one group in either graph."""
    members = np.flatnonzero(common)
    links: list[tuple[int, int]] = []
    for group in groups:
        _, first, number = np.unique(group[members], return_index=True, return_inverse=True)
        links += zip(members[first[number]].tolist(), members.tolist(), strict=True)
    return linked(links, len(common))


def _order(groups: Numbers, one: BoundaryGraph, two: BoundaryGraph, common: Numbers) -> Numbers:
    """Return all boundaries, those that represent a group first: common, of an early site, with few changes.

    Changes are those of meetings with boundaries of other groups.
    """
    total = len(common)
    changes = np.zeros(total, np.int64)
    (keys_one, _, points_one), (keys_two, _, points_two) = one.meetings(common), two.meetings(common)
    keys = np.union1d(keys_one, keys_two)
    differ = np.zeros(len(keys), np.int64)
    differ[np.searchsorted(keys, keys_one)] += points_one
    differ[np.searchsorted(keys, keys_two)] -= points_two
    small, large = keys // total, keys % total
    outside = groups[small] != groups[large]
    for side in (small, large):
        np.add.at(changes, side[outside], np.abs(differ[outside]))
    return np.lexsort((np.arange(total), changes, one.site_of, ~common))


def _crossings(
    one: BoundaryGraph, two: BoundaryGraph, distinct: Numbers
) -> tuple[tuple[Numbers, Numbers], dict[str, tuple[tuple[Boundary, Boundary], ...]]]:
    """Return the regions lost and gained by pairs, by site of the second boundary, and the pairs by mechanism."""
    total, names = len(distinct), one.names
    (keys_one, regions_one, _), (keys_two, regions_two, _) = one.meetings(distinct), two.meetings(distinct)
    keys = np.union1d(keys_one, keys_two)
    differ = np.zeros(len(keys))
    differ[np.searchsorted(keys, keys_one)] -= regions_one
    differ[np.searchsorted(keys, keys_two)] += regions_two
    differ[np.abs(differ) < 10.0**-_DIGITS] = 0
    site = one.site_of[keys % total]
    lost, gained = (np.bincount(site, np.maximum(sign * differ, 0), minlength=len(one.sites)) for sign in (-1, 1))
    pairs = {
        mechanism: tuple((names[key // total], names[key % total]) for key in keys[mask].tolist())
        for mechanism, mask in (("alignment", differ < 0), ("crossing", differ > 0))
    }
    return (lost, gained), pairs
