"""Maxima of several numbers: the cells in which one of them is the largest.

In a region all candidates are affine, so each cell is convex. One candidate after the other is compared with the
maximum of those before it. The line where both are equal cuts the region, and the parts of one winner are then united.
"""

from functools import partial

import numpy as np
from torch import Tensor

from probe.geometry.arrangement import CROSSING, ON, ROUNDING, ZERO, Arrangement, count_lines
from probe.geometry.cuts import Bools, Buffer, Floats, Integers, LimitReached, Polygons
from probe.geometry.networks import Maximum
from probe.geometry.unions import unite

_CANDIDATES = -2  # key of the candidates among the values at vertices
_NUMBERS = 1 << 24  # candidates at vertices that are compared together


def maximum_site(polygons: Polygons, operation: Maximum, inputs: list[Tensor], snap: float) -> Arrangement:
    """Cut polygons into the cells of the winners. Candidates that are equal in a whole polygon count as one."""
    candidates, widths, is_zero = finite_candidates(operation, inputs, snap)
    n_before, units = len(polygons), len(widths)
    polygons.values[_CANDIDATES] = Buffer(candidates.reshape(len(candidates), -1))
    unit, parent, is_crossing = undecided(polygons, candidates, widths)
    has_cut = np.zeros(units, bool)
    numbers, begin = np.unique(unit, return_index=True)
    for number, first, last in zip(numbers, begin, np.append(begin, len(unit))[1:], strict=True):
        inside, size = np.zeros(n_before, bool), len(polygons)
        inside[parent[first:last]] = True
        pieces = np.flatnonzero(inside[polygons.parent.content])
        cut_envelope(polygons, pieces, number, candidates.shape[2], widths[number])
        has_cut[number] = len(polygons) > size
    del polygons.values[_CANDIDATES]
    states = np.select([is_crossing, is_zero], [CROSSING, ZERO], ON).astype(np.int8)
    parents = polygons.settle()
    merged = int((is_crossing & ~has_cut).sum())
    counts = count_lines(polygons, parents)
    return Arrangement(operation.site, n_before, len(polygons), states, widths, *counts, merged, parents)


def finite_candidates(operation: Maximum, inputs: list[Tensor], snap: float) -> tuple[Floats, Floats, Bools]:
    """Return candidates (V, units, k), finite ones in place of -inf, widths of units, and which units are zero."""
    candidates = operation.candidates(*inputs).numpy()
    is_finite = np.isfinite(candidates)
    scale = np.abs(candidates, where=is_finite, out=np.zeros_like(candidates)).max((0, 2))
    is_zero = scale <= ROUNDING * scale.max(initial=0)
    widths = np.where(is_zero, ROUNDING * scale.max(initial=0), snap * scale)
    return np.where(is_finite, candidates, -1 - 2 * scale[:, None]), widths, is_zero


def undecided(polygons: Polygons, candidates: Floats, widths: Floats) -> tuple[Integers, Integers, Bools]:
    """Return the pairs of a unit and a polygon in which no candidate wins everywhere, and whose winner changes."""
    loops, start = polygons.loops.content, polygons.start.content
    pairs, is_crossing = [np.empty((2, 0), np.int64)], np.zeros(len(widths), bool)
    step = max(1, _NUMBERS // max(1, candidates[:, 0].size))
    for first in range(0, len(widths), step):
        block = slice(first, first + step)
        values = candidates[:, block]
        wins = np.packbits(values.max(2, keepdims=True) - values <= widths[block, None], axis=2)
        is_crossing[block] = ~np.bitwise_and.reduce(wins, axis=0).any(1)
        always = np.bitwise_and.reduceat(wins[loops][:, is_crossing[block]], start, axis=0).any(2)
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
