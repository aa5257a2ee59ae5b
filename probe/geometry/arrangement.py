"""What one site adds to a partition: its boundaries, the regions that they cut, and how lines and points count."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probe.geometry.cuts import Bools, Floats, Integers, Polygons, following
from probe.geometry.networks import Bend

_ROUNDING = 1e-13  # units below this part of the largest unit of a site are zero up to rounding errors
_BLOCK = 256  # units whose signs are looked at together
ZERO, OFF, ON, CROSSING = range(4)  # states of a unit over the window


def _empty() -> Integers:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Arrangement:
    """What one site adds to a partition.

    A *boundary* is the zero set of a unit minus a breakpoint. It has the number unit * k + breakpoint, for k
    breakpoints. A *parent* is a region before the site, a *chord* the part of a boundary that cuts one parent, and a
    *point* a place inside a parent where different chords meet.

    Attributes
    ----------
    site : str
    n_before, n_regions : int
        Regions before and after the site. ``n_regions == n_before + segments + crossings``.
    states : int8 array of shape (units,)
        0: zero everywhere in the window. 1: on the lowest piece everywhere. 2: on one other piece everywhere.
        3: a boundary of the unit meets the window.
    segments, crossings : int
        Number of different chords, and the sum over points of the number of chords through the point, less 1. Counted
        on the edges of the final regions.
    merged : int
        Boundaries that meet the window but cut no region, since they lie on boundaries of earlier units or sites.
    parents : int64 array of shape (n_regions,)
        Region before the site that contains each region. Ascending.
    chord_parent, chord_boundary, chord_class : int64 arrays of shape (C,)
        One entry for each parent and boundary that cuts it. Chords of a parent that coincide have one class.
    point_parent : int64 array of shape (P,)
    point_start : int64 array of shape (P + 1,)
    point_boundaries : int64 array
        The boundaries through point i are ``point_boundaries[point_start[i] : point_start[i + 1]]``.
    """

    site: str
    n_before: int
    n_regions: int
    states: NDArray[np.int8]
    segments: int
    crossings: int
    merged: int
    parents: Integers = field(repr=False)
    chord_parent: Integers = field(default_factory=_empty, repr=False)
    chord_boundary: Integers = field(default_factory=_empty, repr=False)
    chord_class: Integers = field(default_factory=_empty, repr=False)
    point_parent: Integers = field(default_factory=_empty, repr=False)
    point_start: Integers = field(default_factory=lambda: np.zeros(1, np.int64), repr=False)
    point_boundaries: Integers = field(default_factory=_empty, repr=False)

    @property
    def units(self) -> int:
        """Number of units of the site."""
        return len(self.states)

    @property
    def crossing(self) -> int:
        """Number of units of which a boundary meets the window."""
        return int((self.states == CROSSING).sum())

    @property
    def always_on(self) -> int:
        """Number of units that are on one piece other than the lowest in the whole window."""
        return int((self.states == ON).sum())

    @property
    def always_off(self) -> int:
        """Number of units that are on the lowest piece in the whole window, or zero."""
        return int((self.states <= OFF).sum())

    @property
    def zero(self) -> int:
        """Number of units that are zero in the whole window."""
        return int((self.states == ZERO).sum())


@dataclass(frozen=True)
class Boundaries:
    """The boundaries of a site that bend its units, as fields that are zero on them.

    Attributes
    ----------
    numbers, units : int64 arrays of shape (B,)
        Numbers of the boundaries, see :class:`Arrangement`, and of their units.
    levels, widths : arrays of shape (B,)
        Breakpoints, and the distance from them that counts as zero.
    states : int8 array of shape (units,)
    """

    numbers: Integers
    units: Integers
    levels: Floats
    widths: Floats
    states: NDArray[np.int8]

    def blocks(self) -> Iterator[slice]:
        """Yield slices of boundaries whose signs fit into memory together."""
        for first in range(0, len(self.numbers), _BLOCK):
            yield slice(first, first + _BLOCK)


def boundaries(operation: Bend, values: Floats, snap: float) -> Boundaries:
    """Return the boundaries of a bend, from the values (V, units) of its input at all vertices."""
    low, high = values.min(0), values.max(0)
    scale = np.maximum(-low, high)
    is_zero = scale <= _ROUNDING * scale.max(initial=0)
    slopes = operation.slopes.numpy()
    bends = np.broadcast_to(slopes[1:] != slopes[:-1], (len(slopes) - 1, len(low))).T  # (units, k)
    units, place = np.nonzero(bends & ~is_zero[:, None])
    levels = np.broadcast_to(operation.breakpoints.numpy(), bends.T.shape).T[units, place]
    widths = snap * scale[units]
    above, below = high[units] > levels + widths, low[units] < levels - widths
    states = np.where(bends.any(1), OFF, ON).astype(np.int8)
    states[units[above]] = ON
    states[units[above & below]] = CROSSING
    states[is_zero] = ZERO
    keep = above & below
    return Boundaries((units * bends.shape[1] + place)[keep], units[keep], levels[keep], widths[keep], states)


def bend_site(polygons: Polygons, operation: Bend, snap: float, incidence: bool) -> Arrangement:
    """Cut polygons along the boundaries of a bend."""
    place, n_before = operation.inputs[0], len(polygons)
    found = boundaries(operation, polygons.values[place].content, snap)
    cut = np.zeros(len(found.numbers), bool)
    n_cut = []
    for number, parents in crossings(polygons, place, found):
        unit, level, width = found.units[number], found.levels[number], found.widths[number]
        inside = np.zeros(n_before, bool)
        inside[parents] = True
        pieces = np.flatnonzero(inside[polygons.parent.content])
        size = polygons.n_vertices
        values = polygons.values[place]
        _, pieces = polygons.cut(pieces, lambda vertices: values.content[vertices, unit] - level, width)  # noqa: B023
        values.content[size:, unit] = level
        cut[number] = len(pieces) > 0
        n_cut.append(len(pieces))
    parents = polygons.settle()
    segments, points = count_lines(polygons, parents)
    return Arrangement(
        operation.site, n_before, len(polygons), found.states, segments, points, int((~cut).sum()), parents
    )


def crossings(polygons: Polygons, place: int, found: Boundaries) -> Iterator[tuple[int, Integers]]:
    """Yield each boundary that cuts polygons, and the polygons that it cuts before any other cut is made."""
    values, loops, start = polygons.values[place].content, polygons.loops.content, polygons.start.content
    pairs = []
    for block in found.blocks():
        heights = values[:, found.units[block]] - found.levels[block]
        both: NDArray[np.uint8] = np.full(1, 255, np.uint8)
        for signs in (heights > found.widths[block], heights < -found.widths[block]):
            both = both & np.bitwise_or.reduceat(np.packbits(signs, axis=1)[loops], start, axis=0)
        cut, polygon = np.nonzero(np.unpackbits(both, axis=1, count=heights.shape[1]).T)
        pairs.append((cut + block.start, polygon))
    for cut, polygon in pairs:
        edges = np.flatnonzero(np.diff(cut)) + 1
        for part, which in zip(np.split(cut, edges), np.split(polygon, edges), strict=True):
            if len(part):
                yield int(part[0]), which


def count_lines(polygons: Polygons, parents: Integers) -> tuple[int, int]:
    """Return the number of lines that cut the parents, and the sum over points of the lines through it, less 1.

    At a point where an odd number of edges meet, one line ends.
    """
    low, high, inner = edges_of(polygons, parents)
    degree = np.bincount(low[inner], minlength=polygons.n_vertices)
    degree += np.bincount(high[inner], minlength=polygons.n_vertices)
    outer = np.zeros(polygons.n_vertices, bool)
    outer[low[~inner]] = outer[high[~inner]] = True
    at_points = degree[~outer & (degree > 0)]
    ends = degree[outer].sum() + (at_points % 2).sum()
    return int(ends) // 2, int((at_points // 2 - 1).sum())


def edges_of(polygons: Polygons, parents: Integers) -> tuple[Integers, Integers, Bools]:
    """Return the ends (low, high) of the edges of polygons with siblings, and whether they divide siblings."""
    has_sibling = np.bincount(parents)[parents] > 1
    chosen = np.flatnonzero(has_sibling)
    corners, start = polygons.corners(chosen)
    count = polygons.count.content[chosen]
    others = corners[following(start, count)] if len(corners) else corners
    low, high, owner = np.minimum(corners, others), np.maximum(corners, others), np.repeat(parents[chosen], count)
    order = np.argsort(low * polygons.n_vertices + high, kind="stable")
    low, high, owner = low[order], high[order], owner[order]
    same = (low[1:] == low[:-1]) & (high[1:] == high[:-1]) & (owner[1:] == owner[:-1])
    first, second = np.r_[same, False][: len(low)], np.r_[False, same][: len(low)]
    return low[~second], high[~second], first[~second]
