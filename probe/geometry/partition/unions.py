"""Unions of neighbouring polygons."""

import numpy as np

from probe.geometry.partition.cuts import Bools, Integers, Polygons, following


def unite(polygons: Polygons, members: Integers, origin: Integers, label: Integers, size: int) -> None:
    """Unite the members of one origin and one label, whose union is convex.

    Vertices from number ``size`` on disappear unless different unions of one origin meet there.
    """
    keys, group = np.unique(origin * (label.max(initial=0) + 1) + label, return_inverse=True)
    if len(keys) == len(members):
        return
    ring, count, is_loop = outlines(polygons, members, group)
    if not is_loop.all():  # within the snapping width, a union may have a hole: its members stay
        label = np.where(is_loop[group], label, label.max() + 1 + np.arange(len(label)))
        return unite(polygons, members, origin, label, size)
    owner = np.repeat(np.arange(len(keys)), count)
    first = np.full(len(keys), len(polygons))
    np.minimum.at(first, group, members)
    from_origin = np.empty(len(keys), np.int64)
    from_origin[group] = origin
    stays = (ring < size) | np.isin(ring, shared(ring, from_origin[owner]))
    polygons.write(first, ring[stays], np.bincount(owner[stays], minlength=len(keys)))
    polygons.remove(np.setdiff1d(members, first))


def shared(ring: Integers, origin: Integers) -> Integers:
    """Return the vertices that belong to several unions of one origin."""
    order = np.lexsort((ring, origin))
    ring, origin = ring[order], origin[order]
    return ring[1:][(ring[1:] == ring[:-1]) & (origin[1:] == origin[:-1])]


def outlines(polygons: Polygons, members: Integers, group: Integers) -> tuple[Integers, Integers, Bools]:
    """Return the outlines of groups of polygons as one array, their lengths, and whether each is one loop."""
    corners, start = polygons.corners(members)
    count = polygons.count.content[members]
    ends = np.stack([corners, corners[following(start, count)]])
    owner = np.repeat(group, count)
    ends, owner = outer_edges(ends, owner)
    keys = owner * polygons.n_vertices + ends[0]
    order = np.argsort(keys)
    ends, owner = ends[:, order], owner[order]
    after = np.searchsorted(keys[order], owner * polygons.n_vertices + ends[1])
    length = np.bincount(owner)
    first = np.cumsum(length) - length
    place, here = np.empty(len(owner), np.int64), first.copy()
    for step in range(length.max()):
        runs = length > step
        place[first[runs] + step] = here[runs]
        here[runs] = after[here[runs]]
    visits = np.bincount(place, minlength=len(owner))
    return ends[0, place], length, np.maximum.reduceat(visits, first) == 1


def outer_edges(ends: Integers, owner: Integers) -> tuple[Integers, Integers]:
    """Return the directed edges (2, E) that do not occur in both directions in one group, and their groups."""
    low, high = np.sort(ends, axis=0)
    order = np.lexsort((high, low, owner))
    low, high, owner = low[order], high[order], owner[order]
    is_same = (low[1:] == low[:-1]) & (high[1:] == high[:-1]) & (owner[1:] == owner[:-1])
    is_outer = ~(np.append(is_same, False) | np.append(False, is_same))
    return ends[:, order[is_outer]], owner[is_outer]
