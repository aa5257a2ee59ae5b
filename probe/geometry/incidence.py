"""Which boundaries of a site cut which regions, which of them coincide there, and at which points they meet."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from probe.geometry.cuts import Bools, Floats, Integers, Polygons

_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
_PAIRS = 1 << 22  # pairs of a vertex and a chord that are compared at a time


class Boundaries(NamedTuple):
    """The boundaries of a site that bend its units, as fields that are zero on them.

    Attributes
    ----------
    numbers, units : int64 arrays of shape (B,)
        Numbers of the boundaries that meet the window, see :class:`Arrangement`, and of their units.
    levels, widths : arrays of shape (B,)
        Breakpoints, and the distance from them that counts as zero.
    """

    numbers: Integers
    units: Integers
    levels: Floats
    widths: Floats


class Chords(NamedTuple):
    """Parts of boundaries that cut one parent each, sorted by parent.

    Attributes
    ----------
    parent, boundary : int64 arrays of shape (C,)
        Region before the site, and place among the :class:`Boundaries`.
    has_cut : bool array of shape (C,)
        Whether the chord has cut its parent. Another chord coincides there with earlier ones.
    """

    parent: Integers
    boundary: Integers
    has_cut: Bools


class Incidence(NamedTuple):
    """The incidence of chords and points. See :class:`probe.geometry.Arrangement`."""

    chord_parent: Integers = np.empty(0, np.int64)
    chord_boundary: Integers = np.empty(0, np.int64)
    chord_class: Integers = np.empty(0, np.int64)
    point_parent: Integers = np.empty(0, np.int64)
    point_start: Integers = np.zeros(1, np.int64)
    point_boundaries: Integers = np.empty(0, np.int64)


def incidence(
    found: Boundaries, chords: Chords, polygons: Polygons, key: int, parents: Integers, points: Integers
) -> Incidence:
    """Return the incidence of a site after its cuts.

    ``key`` is that of the values of the site, ``parents`` has the parent of each polygon, and ``points`` are the
    vertices inside parents.
    """
    parent, vertex = _corners(polygons, parents)
    place, chord = _zeros(found, chords, parent, vertex, polygons.values[key].content)
    line = _classes(chords, place, chord)
    is_point = np.isin(vertex, points)
    used = is_point[place] & chords.has_cut[chord]
    order = np.argsort(line, kind="stable")  # the members of each class
    first, last = (np.searchsorted(line[order], chord[used], side) for side in _SIDES)
    through, member = _expand(place[used], first, last)
    count = np.bincount((np.cumsum(is_point) - 1)[through], minlength=is_point.sum())
    numbers = found.numbers[chords.boundary]
    start = np.append(0, np.cumsum(count))
    return Incidence(chords.parent, numbers, line, parent[is_point], start, numbers[order[member]])


def _corners(polygons: Polygons, parents: Integers) -> tuple[Integers, Integers]:
    """Return the different pairs of a parent and a vertex of its polygons, as two arrays."""
    owner = np.repeat(parents, polygons.count.content)
    keys = np.unique(owner * polygons.n_vertices + polygons.loops.content)
    return keys // polygons.n_vertices, keys % polygons.n_vertices


def _zeros(
    found: Boundaries, chords: Chords, parent: Integers, vertex: Integers, values: Floats
) -> tuple[Integers, Integers]:
    """Return the pairs of a place in ``vertex`` and a chord of that parent that is zero there, in order of places."""
    first, last = (np.searchsorted(chords.parent, parent, side) for side in _SIDES)
    pairs = [np.empty((2, 0), np.int64)]
    for part in _blocks(last - first):
        place, chord = _expand(np.arange(len(vertex))[part], first[part], last[part])
        line = chords.boundary[chord]
        height = values[vertex[place], found.units[line]] - found.levels[line]
        pairs.append(np.stack([place, chord])[:, np.abs(height) <= found.widths[line]])
    place, chord = np.concatenate(pairs, axis=1)
    return place, chord


def _classes(chords: Chords, place: Integers, chord: Integers) -> Integers:
    """Return the chord that stands for each chord: itself if it has cut, else that with most common zeros.

    ``place`` and ``chord`` are the pairs of :func:`_zeros`.
    """
    result = np.arange(len(chords.parent))
    has_cut = chords.has_cut[chord]
    first, last = (np.searchsorted(place[has_cut], place[~has_cut], side) for side in _SIDES)
    copy, other = _expand(chord[~has_cut], first, last)
    pairs, common = np.unique(copy * len(result) + chord[has_cut][other], return_counts=True)
    pairs = pairs[np.argsort(common, kind="stable")]  # of several assignments the last remains
    result[pairs // len(result)] = pairs % len(result)
    return result


def _expand(items: Integers, first: Integers, last: Integers) -> tuple[Integers, Integers]:
    """Return each item with each number from ``first`` up to ``last``, as two arrays."""
    count = last - first
    start = np.cumsum(count) - count
    return np.repeat(items, count), np.repeat(first - start, count) + np.arange(count.sum())


def _blocks(counts: Integers) -> Iterator[slice]:
    """Yield slices of an array whose counts have a limited sum."""
    total, first = np.cumsum(counts), 0
    while first < len(counts):
        last = int(np.searchsorted(total, total[first] - counts[first] + _PAIRS, "right"))
        yield slice(first, max(first + 1, last))
        first = max(first + 1, last)
