"""Maxima of several numbers: the cells in which one of them is the largest.

In a region all candidates are affine, so each cell is convex. One candidate after the other is compared with the
maximum of those before it. The line where both are equal cuts the region, and the parts of one winner are then united.
"""

from functools import partial, reduce

import numpy as np

from probe.geometry.partition.arrangement import CROSSING, ON, ROUNDING, ZERO, Arrangement, count_lines
from probe.geometry.partition.cuts import Bools, Buffer, Floats, Integers, LimitReached, Polygons
from probe.geometry.partition.unions import unite

_CANDIDATES = -2  # key of the candidates among the values at vertices
_NUMBERS = 1 << 24  # candidates at vertices that are compared together


def maximum_site(
    polygons: Polygons, site: str, candidates: Floats, snap: float, errors: Floats
) -> tuple[Arrangement, Floats]:
    """Cut polygons into the cells of the winners, and return the maxima (V, units) at all vertices.

    Candidates (V, units, k) that are equal in a whole polygon count as one. They are changed in place.
    ``errors`` (units,) are their rounding errors.
    """
    (n_vertices, units, size), n_before = candidates.shape, len(polygons)
    polygons.values[_CANDIDATES] = Buffer(candidates.reshape(n_vertices, -1))
    polygons.check_bytes()
    widths, is_zero = make_finite(candidates, snap, errors)
    unit, parent, is_crossing = undecided(polygons, candidates, widths)
    polygons.reserve(4 * len(unit))
    has_cut = np.zeros(units, bool)
    numbers, begin = np.unique(unit, return_index=True)
    for number, first, last in zip(numbers, begin, np.append(begin, len(unit))[1:], strict=True):
        inside, n_regions = np.zeros(n_before, bool), len(polygons)
        inside[parent[first:last]] = True
        cut_envelope(polygons, np.flatnonzero(inside[polygons.parent.content]), number, size, widths[number])
        has_cut[number] = len(polygons) > n_regions
    states = np.select([is_crossing, is_zero], [CROSSING, ZERO], ON).astype(np.int8)
    parents, merged = polygons.settle(), int((is_crossing & ~has_cut).sum())
    candidates = polygons.values.pop(_CANDIDATES).content.reshape(-1, units, size)
    found = n_before, len(polygons), states, widths, *count_lines(polygons, parents), merged, parents
    return Arrangement(site, *found), largest(candidates)


def largest(candidates: Floats) -> Floats:
    """Return the maxima over the last dimension, which is short."""
    return reduce(np.maximum, np.moveaxis(candidates, 2, 0))


def make_finite(candidates: Floats, snap: float, errors: Floats) -> tuple[Floats, Bools]:
    """Replace -inf by numbers that never win, in place. Return the widths of units, and which are zero."""
    scale = np.zeros(candidates.shape[1])
    for rows in np.array_split(candidates, 1 + candidates.size // _NUMBERS):
        sizes = np.abs(rows)
        scale = np.maximum(scale, sizes.max((0, 2), initial=0, where=sizes < np.inf))
    rounding = np.maximum(ROUNDING * scale.max(initial=0), errors)
    places = np.argwhere(candidates[0] == -np.inf)  # outside of the data, in all rows
    candidates[:, places[:, 0], places[:, 1]] = -1 - 2 * scale[places[:, 0]]
    return np.where(scale <= rounding, rounding, np.maximum(snap * scale, errors)), scale <= rounding


def undecided(polygons: Polygons, candidates: Floats, widths: Floats) -> tuple[Integers, Integers, Bools]:
    """Return the pairs of a unit and a polygon in which no candidate wins everywhere, and whose winner changes."""
    loops, start = polygons.loops.content, polygons.start.content
    pairs, is_crossing = [np.empty((2, 0), np.int64)], np.zeros(len(widths), bool)
    step = max(1, _NUMBERS // max(1, candidates[:, 0].size))
    for first in range(0, len(widths), step):
        block = slice(first, first + step)
        values = candidates[:, block]
        least = largest(values) - widths[block]
        wins = np.packbits(values >= least[..., None], axis=2)
        is_crossing[block] = ~np.bitwise_and.reduce(wins, axis=0).any(1)
        always = np.bitwise_and.reduceat(wins[:, is_crossing[block]][loops], start, axis=0).any(2)
        unit, polygon = np.nonzero(~always.T)
        pairs.append(np.stack([np.flatnonzero(is_crossing[block])[unit] + first, polygon]))
    unit, polygon = np.concatenate(pairs, axis=1)
    return unit, polygon, is_crossing


def cut_envelope(polygons: Polygons, pieces: Integers, unit: int, n_candidates: int, width: float) -> None:
    """Cut pieces into the cells of the winners of a unit."""
    size, winner, origin = polygons.n_vertices, np.zeros(len(polygons), np.int64), np.arange(len(polygons))
    members = pieces
    try:
        for candidate in range(1, n_candidates):
            field = partial(lead, polygons.values[_CANDIDATES], unit * n_candidates, candidate)
            above, cut = polygons.cut(members, field, width)
            members = np.append(members, np.arange(len(winner), len(polygons)))
            winner, origin = np.append(winner, winner[cut]), np.append(origin, origin[cut])
            winner[above] = candidate
    except LimitReached:
        unite(polygons, members, origin[members], np.zeros(len(members), np.int64), size)  # unfinished: no lower bound
        raise
    unite(polygons, members, origin[members], winner[members], size)


def lead(values: Buffer, first: int, candidate: int, vertices: Integers) -> Floats:
    """Return a candidate of a unit at vertices, minus the largest candidate before it."""
    rows = values.content[vertices, first : first + candidate + 1]
    return rows[:, -1] - rows[:, :-1].max(1)
