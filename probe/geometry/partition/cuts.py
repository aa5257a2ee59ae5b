"""Convex polygons of a plane, cut by the zeros of functions that are affine in each of them, all at once.

Polygons are one ragged array of numbers of vertices. Every quantity that is affine in each polygon is stored by its
values at the vertices. A new vertex lies on an edge, so its values are exact interpolations of those at the two ends.
Polygons that share an edge share the new vertex.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[Any]

PLACE = -1  # key of the coordinates among the values at vertices


class LimitReached(Exception):  # noqa: N818 - control flow: the partition is returned, incomplete
    """Raised when a cut would make more polygons or bytes than allowed."""


class Buffer:
    """Array that grows at its end."""

    def __init__(self, content: Numbers) -> None:
        self._data, self._size = content, len(content)

    def __len__(self) -> int:
        return self._size

    @property
    def content(self) -> Numbers:
        """The numbers, without those reserved for growth."""
        return self._data[: self._size]

    def reserve(self, n_more: int) -> None:
        """Make room for that many more numbers. Room that is never used costs no time."""
        if self._size + n_more > len(self._data):
            grown = np.empty((self._size + n_more, *self._data.shape[1:]), self._data.dtype)
            grown[: self._size] = self.content
            self._data = grown

    def extend(self, n_more: int) -> Numbers:
        """Add numbers at the end, and return them for writing."""
        if self._size + n_more > len(self._data):
            self.reserve(max(n_more, self._size // 2))
        self._size += n_more
        return self._data[self._size - n_more : self._size]

    def append(self, new: Numbers) -> None:
        """Write numbers behind the last."""
        self.extend(len(new))[:] = new

    def replace(self, content: Numbers) -> None:
        """Write other numbers in place of all."""
        self._data, self._size = content, len(content)


class Polygons:
    """Convex polygons, counterclockwise, with values at their vertices.

    Attributes
    ----------
    values : dict of Buffer
        Values at the vertices, (V, n) each. :data:`PLACE` is the key of the coordinates.
    loops, start, count : Buffer
        The vertices of polygon i are ``loops[start[i] : start[i] + count[i]]``.
    parent : Buffer
        Number of the polygon of the last :meth:`settle` that contains each polygon.
    """

    def __init__(self, window: Floats, max_polygons: int, max_bytes: int) -> None:
        self.values: dict[int, Buffer] = {PLACE: Buffer(window)}
        self.loops = Buffer(np.arange(len(window)))
        self.start, self.count, self.parent = (
            Buffer(np.array([0])),
            Buffer(np.array([len(window)])),
            Buffer(np.zeros(1, int)),
        )
        self.max_polygons, self.max_bytes = max_polygons, max_bytes

    def __len__(self) -> int:
        return len(self.start)

    @property
    def n_vertices(self) -> int:
        """Number of vertices."""
        return len(self.values[PLACE])

    def corners(self, polygons: Integers) -> tuple[Integers, Integers]:
        """Return the vertices of polygons as one array, and where each polygon starts in it."""
        count = self.count.content[polygons]
        start = np.cumsum(count) - count
        steps = np.repeat(self.start.content[polygons] - start, count)
        return self.loops.content[steps + np.arange(len(steps))], start

    def reserve(self, n_vertices: int) -> None:
        """Make room for more vertices, as far as the limits allow."""
        for value in self.values.values():
            value.reserve(min(n_vertices, self.max_bytes // max(1, value.content[:1].nbytes)))

    def cut(self, polygons: Integers, field: Callable[[Integers], Floats], width: float) -> tuple[Integers, Integers]:
        """Cut polygons where a field is zero. The field takes numbers of vertices.

        Values up to ``width`` count as zero. The part above zero keeps the number of the polygon, the part below zero
        is appended. Returns the polygons that now lie above zero, and those that were cut.
        """
        vertices, start = self.corners(polygons)
        many = len(vertices) > self.n_vertices  # then each vertex occurs several times
        heights = field(np.arange(self.n_vertices))[vertices] if many else field(vertices)
        signs = (heights > width).astype(np.int8) - (heights < -width)
        has_above = np.maximum.reduceat(signs, start) > 0
        crossed = has_above & (np.minimum.reduceat(signs, start) < 0)
        found = polygons[crossed]
        if len(found):
            self._check(len(found))
            inside = np.repeat(crossed, self.count.content[polygons])
            self._split(found, vertices[inside], heights[inside], signs[inside])
        return polygons[has_above], found

    def _split(self, polygons: Integers, vertices: Integers, heights: Floats, signs: NDArray[np.int8]) -> None:
        """Split polygons with vertices of both signs along their zeros."""
        count = self.count.content[polygons]
        start = np.cumsum(count) - count
        after = following(start, count)
        crossing = signs * signs[after] < 0
        slots = np.full((len(vertices), 2), -1)  # each vertex, then the new vertex on the edge that it starts
        slots[:, 0] = vertices
        slots[crossing, 1] = self._add(vertices, after, heights, crossing)
        sides = np.zeros(slots.shape, np.int8)
        sides[:, 0] = signs
        is_corner = slots.ravel() >= 0
        ring, side = slots.ravel()[is_corner], sides.ravel()[is_corner]
        count = np.add.reduceat(is_corner, 2 * start, dtype=np.int64)
        start = np.cumsum(count) - count
        self._replace(polygons, ring, start, *halves(side, start, count))

    def _add(self, vertices: Integers, after: Integers, heights: Floats, crossing: Bools) -> Integers:
        """Append the vertices at which edges cross zero, one for each edge, and return their numbers."""
        low, high = vertices[crossing], vertices[after[crossing]]
        size = self.n_vertices
        keys = np.minimum(low, high) * size + np.maximum(low, high)
        _, first, edge = np.unique(keys, return_index=True, return_inverse=True)
        low, high = low[first], high[first]
        at_low, at_high = heights[crossing][first], heights[after[crossing]][first]
        part = at_low / (at_low - at_high)
        for value in self.values.values():
            at_low, added = value.content[low], value.extend(len(low))
            np.take(value.content, high, axis=0, out=added, mode="clip")
            added -= at_low
            added *= part[:, None]
            added += at_low
        return size + edge

    def _replace(self, polygons: Integers, ring: Integers, start: Integers, above: Bools, below: Bools) -> None:
        """Replace polygons by their parts above and below zero."""
        self.start.append(self.start.content[polygons])
        self.count.append(self.count.content[polygons])
        self.parent.append(self.parent.content[polygons])
        self.write(polygons, ring[above], np.add.reduceat(above, start, dtype=np.int64))
        added = np.arange(len(self) - len(polygons), len(self))
        self.write(added, ring[below], np.add.reduceat(below, start, dtype=np.int64))

    def write(self, polygons: Integers, ring: Integers, count: Integers) -> None:
        """Give polygons other corners: the next ``count[i]`` of ``ring`` for the i-th."""
        self.start.content[polygons] = len(self.loops) + np.cumsum(count) - count
        self.count.content[polygons] = count
        self.loops.append(ring)

    def _check(self, n_new: int) -> None:
        """Raise LimitReached if that many more polygons, and as many vertices, are too many."""
        if len(self) + n_new > self.max_polygons:
            raise LimitReached
        self.check_bytes(1 + n_new / self.n_vertices)

    def check_bytes(self, growth: float = 1.0) -> None:
        """Raise LimitReached if the values at vertices need too many bytes, after some growth."""
        if growth * sum(value.content.nbytes for value in self.values.values()) > self.max_bytes:
            raise LimitReached

    def remove(self, polygons: Integers) -> None:
        """Remove polygons. Those behind them get smaller numbers."""
        for table in (self.start, self.count, self.parent):
            table.replace(np.delete(table.content, polygons))

    def settle(self) -> Integers:
        """Sort polygons by parent, drop unused vertices, make each its own parent, and return the old parents."""
        order = np.argsort(self.parent.content, kind="stable")
        loops, start = self.corners(order)
        parent = self.parent.content[order]
        is_used = np.zeros(self.n_vertices, bool)
        is_used[loops] = True
        if not is_used.all():  # unions of polygons leave vertices inside
            self.values = {key: Buffer(value.content[is_used]) for key, value in self.values.items()}
            loops = (np.cumsum(is_used) - 1)[loops]
        self.loops, self.start, self.count = Buffer(loops), Buffer(start), Buffer(self.count.content[order])
        self.parent = Buffer(np.arange(len(order)))
        return parent


def following(start: Integers, count: Integers) -> Integers:
    """Return the place of the next corner of the same polygon for each corner of a ragged array."""
    after = np.arange(1, count.sum() + 1)
    after[start + count - 1] = start
    return after


def halves(side: NDArray[np.int8], start: Integers, count: Integers) -> tuple[Bools, Bools]:
    """Return which corners belong to the part above zero, and which to the part below.

    Both parts have exactly two zeros in common, those next to a corner above zero. Other zeros belong to one part.
    """
    after = following(start, count)
    is_above = side > 0
    next_above, last_above = is_above[after], np.empty(len(side), bool)
    last_above[after] = is_above
    above = is_above | (side == 0) & (next_above | last_above)
    return above, ~is_above & ~(next_above & last_above)
