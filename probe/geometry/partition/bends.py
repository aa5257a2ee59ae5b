"""Functions that bend at breakpoints: their boundaries, and the polygons that these cut."""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from probe.geometry.networks import Bend
from probe.geometry.partition.arrangement import CROSSING, OFF, ON, ROUNDING, ZERO, Arrangement, count_lines
from probe.geometry.partition.cuts import Buffer, Floats, Integers, Polygons

_BLOCK = 256  # boundaries whose signs are in memory together
_PIECES = 16  # average number of pieces of a parent, from which the pieces become parents themselves
_ROWS = 1024  # vertices at a time, so that their values stay in the cache of the processor


class Boundaries(NamedTuple):
    """The boundaries of a site that meet the window.

    Attributes
    ----------
    units : int64 array of shape (B,)
    levels, widths : float64 arrays of shape (B,)
        Breakpoints, and the distance from them that counts as zero.
    """

    units: Integers
    levels: Floats
    widths: Floats

    def behind(self, number: int) -> "Boundaries":
        """Return the boundaries from this number on."""
        return Boundaries(self.units[number:], self.levels[number:], self.widths[number:])


def boundaries(
    operation: Bend, values: Floats, snap: float, errors: Floats
) -> tuple[Boundaries, NDArray[np.int8], Floats]:
    """Return the boundaries that meet the window, and states and widths of units.

    ``values`` (V, units) are those of the input at all vertices, and ``errors`` (units,) their rounding errors.
    """
    low, high = values.min(0), values.max(0)
    scale = np.maximum(-low, high)
    rounding = np.maximum(ROUNDING * scale.max(initial=0), errors)
    width = np.where(scale <= rounding, rounding, np.maximum(snap * scale, errors))
    slopes = operation.slopes.numpy()
    bends = np.broadcast_to(slopes[1:] != slopes[:-1], (len(slopes) - 1, len(low))).T  # (units, k)
    levels = np.broadcast_to(operation.breakpoints.numpy(), bends.T.shape).T
    is_above = bends & (high[:, None] > levels + width[:, None])
    crosses = is_above & (low[:, None] < levels - width[:, None])
    states = np.select([crosses.any(1), scale <= rounding, is_above.any(1) | ~bends.any(1)], [CROSSING, ZERO, ON], OFF)
    units = np.nonzero(crosses)[0]
    found = Boundaries(units, levels[crosses], width[units])
    return found, states.astype(np.int8), width


def bend_site(polygons: Polygons, operation: Bend, snap: float, errors: Floats) -> Arrangement:
    """Cut polygons along the boundaries of a bend."""
    key, n_before = operation.inputs[0], len(polygons)
    found, states, widths = boundaries(operation, polygons.values[key].content, snap, errors)
    parents, merged, rest = np.arange(n_before), len(found.units), found
    while len(rest.units):
        boundary, parent = chords(polygons, key, rest)
        per_parent = np.bincount(parent)
        polygons.reserve(2 * len(parent) + int((per_parent * (per_parent - 1) // 2).sum()))
        n_done, n_cutting = cut_chords(polygons, key, rest, boundary, parent)
        parents, merged = parents[polygons.settle()], merged - n_cutting
        rest = rest.behind(n_done)
    counts = count_lines(polygons, parents)
    return Arrangement(operation.site, n_before, len(polygons), states, widths, *counts, merged, parents)


def cut_chords(
    polygons: Polygons, key: int, found: Boundaries, boundary: Integers, parent: Integers
) -> tuple[int, int]:
    """Cut the pieces of parents along boundaries, one boundary at a time. Return how many are done, and have cut.

    It stops after there are many more pieces than parents. A boundary then crosses few of the pieces of its parents.
    """
    values, n_parents, n_cutting = polygons.values[key], len(polygons), 0
    numbers, begin = np.unique(boundary, return_index=True)
    for number, first, last in zip(numbers, begin, np.append(begin, len(boundary))[1:], strict=True):
        inside = np.zeros(n_parents, bool)
        inside[parent[first:last]] = True
        pieces, size = np.flatnonzero(inside[polygons.parent.content]), polygons.n_vertices
        unit, level = found.units[number], found.levels[number]
        _, cut = polygons.cut(pieces, partial(height, values, unit, level), found.widths[number])
        values.content[size:, unit] = level
        n_cutting += len(cut) > 0
        if len(polygons) > _PIECES * n_parents:
            return int(number) + 1, n_cutting
    return len(found.units), n_cutting


def height(values: Buffer, unit: int, level: float, vertices: Integers) -> Floats:
    """Return the values of a unit at vertices, from a level."""
    return values.content[vertices, unit] - level


def chords(polygons: Polygons, key: int, found: Boundaries) -> tuple[Integers, Integers]:
    """Return the pairs of a boundary and a polygon that it cuts, as two arrays in the order of boundaries."""
    loops, start = polygons.loops.content, polygons.start.content
    pairs = [np.empty((2, 0), np.int64)]
    for first in range(0, len(found.units), _BLOCK):
        block = slice(first, first + _BLOCK)
        units, levels, widths = found.units[block], found.levels[block], found.widths[block]
        above, below = signs(polygons.values[key].content, units, levels - widths, levels + widths)
        both: NDArray[np.uint8] = np.bitwise_or.reduceat(above[loops], start)
        both &= np.bitwise_or.reduceat(below[loops], start)
        boundary, polygon = np.nonzero(np.unpackbits(both, axis=1, count=len(units)).T)
        pairs.append(np.stack([boundary + first, polygon]))
    boundary, polygon = np.concatenate(pairs, axis=1)
    return boundary, polygon


def signs(values: Floats, units: Integers, low: Floats, high: Floats) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return which units are above ``high``, and which below ``low``, at each vertex, as bits (V, bytes)."""
    above = np.empty((len(values), -(-len(units) // 8)), np.uint8)
    below = np.empty_like(above)
    for first in range(0, len(values), _ROWS):
        rows = slice(first, first + _ROWS)
        part = values[rows, units]
        above[rows], below[rows] = np.packbits(part > high, axis=1), np.packbits(part < low, axis=1)
    return above, below
