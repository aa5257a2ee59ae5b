"""What one site adds to a partition: its boundaries, the regions that they cut, and how lines and points count."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probe.geometry.partition.cuts import Bools, Floats, Integers, Polygons, following

ROUNDING = 1e-13  # units below this part of the largest unit of a site are zero up to rounding errors
ZERO, OFF, ON, CROSSING = range(4)  # states of a unit over the window


@dataclass(frozen=True)
class Arrangement:
    """What one site adds to a partition.

    A *boundary* is the set where a unit is at a breakpoint. A *parent* is a region before the site, a *chord* the part
    of a boundary that cuts one parent, and a *point* a place inside a parent where different chords meet.

    Attributes
    ----------
    site : str
    n_before, n_regions : int
        Regions before and after the site. ``n_regions == n_before + segments + crossings``.
    states : int8 array of shape (units,)
        0: zero everywhere in the window. 1: on the lowest piece everywhere. 2: on one other piece everywhere.
        3: a boundary of the unit meets the window.
    widths : float64 array of shape (units,)
        Distance from a breakpoint, or between candidates, that counts as zero.
    segments, crossings : int
        Number of different chords, and the sum over points of the number of chords through the point, less 1. Counted
        on the edges of the final regions.
    merged : int
        Boundaries that meet the window but cut no region, since they lie on boundaries of earlier units or sites.
    parents : int64 array of shape (n_regions,)
        Region before the site that contains each region. Ascending.
    """

    site: str
    n_before: int
    n_regions: int
    states: NDArray[np.int8] = field(repr=False)
    widths: Floats = field(repr=False)
    segments: int
    crossings: int
    merged: int
    parents: Integers = field(repr=False)

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


def count_lines(polygons: Polygons, parents: Integers) -> tuple[int, int]:
    """Return the number of lines that divide parents into polygons, and the sum over points of (lines - 1).

    At a point where an odd number of edges meet, one line ends.
    """
    ends, is_inner = edges_of(polygons, parents)
    degree = np.bincount(ends[:, is_inner].ravel(), minlength=polygons.n_vertices)
    is_outer = np.zeros(len(degree), bool)
    is_outer[ends[:, ~is_inner]] = True
    at_points = degree[~is_outer & (degree > 0)]
    n_ends = degree[is_outer].sum() + (at_points % 2).sum()
    return int(n_ends) // 2, int((at_points // 2 - 1).sum())


def edges_of(polygons: Polygons, parents: Integers) -> tuple[Integers, Bools]:
    """Return the ends (2, E) of the edges of polygons with siblings, and whether they divide siblings."""
    chosen = np.flatnonzero(np.bincount(parents)[parents] > 1)
    corners, start = polygons.corners(chosen)
    count = polygons.count.content[chosen]
    pairs = np.sort([corners, corners[following(start, count)]], axis=0)
    owner = np.repeat(parents[chosen], count)
    order = np.argsort(pairs[0] * polygons.n_vertices + pairs[1], kind="stable")
    pairs, owner = pairs[:, order], owner[order]
    is_same = (pairs[:, 1:] == pairs[:, :-1]).all(0) & (owner[1:] == owner[:-1])
    is_first, is_second = np.zeros((2, len(owner)), bool)
    is_first[:-1], is_second[1:] = is_same, is_same
    return pairs[:, ~is_second], is_first[~is_second]
