"""The exact partition of a two-dimensional slice into the linear regions of a network.

The operations of the network are executed once, on all vertices of the partition together. A site cuts the polygons,
and all values that a later operation reads are extended to the new vertices by interpolation. Inside a region each of
these values is affine, so interpolation is exact.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from probe.errors import warn_user
from probe.geometry.networks import PiecewiseLinear
from probe.geometry.partition.arrangement import Arrangement
from probe.geometry.partition.cuts import Floats, Integers, LimitReached, following
from probe.geometry.partition.maps import Patterns, affine_maps, in_coordinates, patterns
from probe.geometry.partition.run import Run, check_arguments
from probe.geometry.partition.slices import Slice

WIDTHS = (1e-7, 1e-9, 1e-11)
_CHUNK = 1024  # regions or vertices whose values are in memory together


@dataclass(frozen=True)
class Partition:
    """The linear regions of a network in a slice.

    Attributes
    ----------
    network, slice : PiecewiseLinear, Slice
    snap : float
        Part of the largest absolute value of a unit in the window that counts as zero.
    complete : bool
        False if a limit stopped the partition. All counts are lower bounds then.
    vertices : float64 array of shape (V, 2)
        In coordinates of the slice.
    loops, starts : int64 arrays of shapes (E,) and (R,)
        The vertices of region i, counterclockwise, start at ``loops[starts[i]]``.
    arrangements : tuple of Arrangement
        One for each site, in the order of execution.
    known_outputs : float64 array of shape (V, n_out), or None
        Outputs of the network at the vertices. None if the partition is not complete, see ``outputs``.
    """

    network: PiecewiseLinear
    slice: Slice
    snap: float
    complete: bool
    vertices: Floats
    loops: Integers
    starts: Integers
    arrangements: tuple[Arrangement, ...]
    known_outputs: Floats | None

    @cached_property
    def outputs(self) -> Floats:
        """Outputs of the network at the vertices, shape (V, n_out). An incomplete partition computes them on use."""
        if self.known_outputs is not None:
            return self.known_outputs
        parts = np.array_split(self.vertices, 1 + len(self.vertices) // _CHUNK)
        return np.concatenate([self.network(self.slice.points(part)).flatten(1).numpy() for part in parts])

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.starts)

    def __repr__(self) -> str:
        sites = ", ".join(f"after {site.site} {site.n_regions}" for site in self.arrangements)
        facts = [f"{self.n_regions} regions", sites, "complete" if self.complete else "stopped at a limit"]
        return f"Partition({'; '.join(filter(None, facts))})"

    @cached_property
    def counts(self) -> Integers:
        """Number of corners of each region, shape (R,)."""
        return np.diff(np.append(self.starts, len(self.loops)))

    @cached_property
    def areas(self) -> Floats:
        """Area of each region in squared units of the input, shape (R,)."""
        first = np.repeat(self.vertices[self.loops[self.starts]], self.counts, axis=0)
        here = self.vertices[self.loops] - first
        there = here[following(self.starts, self.counts)]
        return np.add.reduceat(here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0], self.starts) / 2

    @cached_property
    def centroids(self) -> Floats:
        """Mean of the corners of each region, shape (R, 2). It lies inside the region."""
        return np.add.reduceat(self.vertices[self.loops], self.starts) / self.counts[:, None]

    def polygon(self, region: int) -> Floats:
        """Return the corners (k, 2) of a region, counterclockwise."""
        first = self.starts[region]
        return self.vertices[self.loops[first : first + self.counts[region]]]

    def neighbours(self) -> tuple[Integers, Integers]:
        """Return the pairs (P, 2) of regions that share an edge, and the ends (P, 2) of that edge, as vertices.

        A corner of another region can divide the border of two regions into several edges.
        """
        ends = np.sort([self.loops, self.loops[following(self.starts, self.counts)]], axis=0)
        order = np.lexsort(ends[::-1])
        ends, owner = ends[:, order], np.repeat(np.arange(self.n_regions), self.counts)[order]
        same = np.flatnonzero((ends[:, 1:] == ends[:, :-1]).all(0))
        return np.stack([owner[same], owner[same + 1]], 1), ends[:, same].T

    def patterns(self) -> Patterns:
        """Return the piece of each unit in each region, (R, units) by site.

        Pieces are numbered from 0, the piece below the first breakpoint. A unit that is at a breakpoint in the whole
        region, up to the snapping width, has the lower piece. For maxima it is the number of the winner, the lowest
        one of winners that are equal in the whole region. Sites behind a limit that was reached are missing.
        """
        parts = [found for _, found in self._patterns()]
        return {site: np.concatenate([part[site] for part in parts]) for site in parts[0]}

    def affine_maps(self) -> tuple[Floats, Floats]:
        """Return the affine map of each region: matrices (R, n_out, 2) and offsets (R, n_out).

        In region i, f(slice.points(c)) = matrix[i] @ c + offset[i].

        Raises
        ------
        ValueError
            If the partition is not complete.
        """
        if not self.complete:
            raise ValueError(
                "Expected a complete partition, got one that a limit stopped, so the network is not affine in its "
                "regions; pass larger limits or a smaller window to partition_slice"
            )
        network = in_coordinates(self.network, self.slice)
        found = [affine_maps(network, pieces, n) for n, pieces in self._patterns()]
        matrix, offset = (np.concatenate(part) for part in zip(*found, strict=True))
        return matrix, offset

    def _patterns(self) -> Iterator[tuple[int, Patterns]]:
        """Yield the patterns of some regions at a time, and the number of the regions."""
        network = in_coordinates(self.network, self.slice)
        widths = {site.site: site.widths for site in self.arrangements}
        bounds = np.append(self.starts, len(self.loops))
        for first in range(0, self.n_regions, _CHUNK):
            starts = bounds[first : first + _CHUNK + 1]
            vertices, loops = np.unique(self.loops[starts[0] : starts[-1]], return_inverse=True)
            corners = torch.from_numpy(self.vertices[vertices])
            yield len(starts) - 1, patterns(network, widths, corners, loops, starts[:-1] - starts[0])


def partition_slice(
    network: PiecewiseLinear,
    slice: Slice,
    *,
    snap: float = 1e-9,
    max_regions: int = 1_000_000,
    max_bytes: int = 2**31,
) -> Partition:
    """Return the exact partition of a slice into the linear regions of a network.

    Parameters
    ----------
    network : PiecewiseLinear
    slice : Slice
        Of the input space of the network.
    snap : float
        A value of a unit counts as zero up to this part of the largest absolute value of the unit in the window, or up
        to its rounding errors. These are larger in windows that are tiny compared with their distance from the origin.
    max_regions : int
        The partition stops before it has more regions. The parts that a maximum unites later count, too.
    max_bytes : int
        The partition stops before the values at its vertices need more: vertices x numbers x 8 bytes. Numbers are the
        units of the widest site and all others that a later operation reads. The peak is two to three times as large.

    Returns
    -------
    Partition
        If a limit was reached, ``complete`` is False, and a :class:`probe.errors.ProbeWarning` is issued.

    Raises
    ------
    ValueError
        If the slice is not one of the inputs of the network, if a parameter of the network or a limit is not a finite
        number, or if ``snap`` is not between 0 and 0.01.

    See Also
    --------
    slice_through, input_plane : Slices.
    counts_by_width : The number of regions for several values of ``snap``.

    Examples
    --------
    >>> from probe.geometry import input_plane, partition_slice, perceptron, square
    >>> network = perceptron([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [-1.0])], last=True)
    >>> found = partition_slice(network, input_plane(square(1.0)))
    >>> [site.n_regions for site in found.arrangements]
    [4, 5]
    """
    found = limited_partition(network, slice, snap, max_regions, max_bytes)
    if not found.complete:
        warn_user(
            f"Expected at most {max_regions:,} regions and {max_bytes:,} bytes, stopped at {found.n_regions:,} "
            "regions; all counts are lower bounds. Pass a smaller window (half_side=), or larger limits"
        )
    return found


def limited_partition(
    network: PiecewiseLinear, slice: Slice, snap: float, max_regions: int, max_bytes: int
) -> Partition:
    """Return the partition of a slice, without a warning if it is not complete."""
    check_arguments(network, slice, snap, max_regions, max_bytes)
    run = Run(slice.window.numpy(), max_regions, max_bytes)
    outputs = None
    try:
        run.execute(network, slice.points(slice.window), snap)
        outputs = run.outputs(network)
    except LimitReached:
        run.stop()
    loops, starts, sites = run.polygons.loops.content, run.polygons.start.content, tuple(run.arrangements)
    return Partition(network, slice, snap, outputs is not None, run.vertices, loops, starts, sites, outputs)


def counts_by_width(
    network: PiecewiseLinear, slice: Slice, *, widths: Iterable[float] = WIDTHS, max_regions: int = 1_000_000
) -> dict[float, int]:
    """Return the number of regions for several values of ``snap``.

    Parameters
    ----------
    network, slice, max_regions
        As in :func:`partition_slice`.
    widths : iterable of float
        Values of ``snap``.

    Returns
    -------
    dict of float to int

    See Also
    --------
    partition_slice : The partition for one value.

    Examples
    --------
    Two units that agree up to 1e-8 are one boundary at 1e-7, and two at 1e-9.

    >>> from probe.geometry import counts_by_width, input_plane, perceptron, square
    >>> network = perceptron([([[1.0, 0.0], [1.0, 0.0]], [0.0, 1e-8])], last=True)
    >>> counts_by_width(network, input_plane(square(1.0)))
    {1e-07: 2, 1e-09: 3, 1e-11: 3}
    """
    return {width: partition_slice(network, slice, snap=width, max_regions=max_regions).n_regions for width in widths}
