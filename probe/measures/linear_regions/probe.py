"""Exact linear regions of two-dimensional slices over training, and what changes their number (arXiv:2504.12700, 4.4).

A slice is a square window in the plane through three inputs of a split, or through three random points. The network is
copied to the CPU in float64, and partitioned exactly, see :mod:`probe.geometry.partition.partition`. The change of the
number of regions since the last observation is attributed to mechanisms, see :mod:`probe.geometry.regions.mechanisms`.

A slice is a sample of the input space. Between its three points lies no data where inputs are discrete: tokens, whose
slices lie at the stem, or one-hot vectors. Segments between random pairs of inputs count regions without a plane.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from probe.attach.contract import Measured
from probe.base import Probe, Snapshot
from probe.forward.passes import Tap
from probe.forward.piecewise.refusals import NotPiecewiseLinearError
from probe.forward.snapshot import generator
from probe.geometry.networks import PiecewiseLinear
from probe.geometry.partition.partition import limited_partition
from probe.geometry.partition.slices import Slice
from probe.geometry.regions.borders import BoundaryGraph, graph_of
from probe.geometry.regions.mechanisms import MECHANISMS
from probe.geometry.regions.merging import TOLERANCES
from probe.geometry.segments.segments import SegmentRegions, segment_regions
from probe.information.arguments import check_count
from probe.measures.linear_regions.earlier import Earlier, kept_graphs
from probe.measures.linear_regions.limits import SegmentLimits, warn_of_segments, warn_of_slices
from probe.measures.linear_regions.numbers import Borders, change_numbers, counts, missing_numbers
from probe.measures.linear_regions.places import RANDOM, selected, slices_through, stem_points, with_box
from probe.measures.linear_regions.variables import NAME, segment_variables, slice_variables


class LinearRegionsProbe(Probe):
    """Measure the linear regions of fixed slices, by layer, and attribute their changes to mechanisms.

    Parameters
    ----------
    splits : str or sequence of str, optional
        Splits whose inputs define slices, and ``"random"`` for points that are uniform in the box around the inputs of
        all splits. Default: all of them.
    n_slices : int
        Number of slices of each split. With 0, only segments are measured.
    stem : str, optional
        Site of the slices. Default: the input if it is floating-point, else the first layer with floating-point output
        (the embedding of a token model). A slice at a layer moves with its three inputs.
    margin, half_side : float
        Half side of the window: ``1 + margin`` times the largest distance of the three points from their mean, or
        ``half_side`` in units of the stem. The default margin is 0: the window is smaller than that of
        :func:`probe.geometry.slice_through`, whose default is 0.5.
    n_segments : int
        Number of segments between random pairs of inputs of a split, at most half its inputs, and fewer if ``max_rows``
        demands it. With 0, none is measured.
    snap : float
        Width of zero in a partition, see :func:`probe.geometry.partition_slice`.
    snaps : sequence of float
        Further widths at which the regions of each slice are counted, in ``linear_regions_by_snap``. Each takes as
        long as the partition itself; the two of the default take a fifth to a third of an observation. ``()``: none.
    tolerances : sequence of float
        Tolerances of ``linear_regions_alike``, see :func:`probe.geometry.merged_boundaries`.
    max_regions : int
        Number of regions of a slice at which its partition stops.
    max_bytes : int
        The partition of a slice stops before the values at its vertices need more, see
        :func:`probe.geometry.partition_slice`. A segment stops at as many knots. Wide layers reach this limit early:
        one of 25,000 units at 2,700 vertices.
    max_rows : int or None
        Number of rows of the network, in float64 on the CPU, that the segments of all splits may take: one for each
        knot. Networks at initialisation have about a quarter as many knots as units, which gives the number of
        segments; a segment stops at four times as many. Default: as many as 2 ** 36 floating-point operations pay for.
    random_state : int
        Seed of the choice of inputs, pairs and random points.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, slice), and those marked † by ``layer`` (site of the activation function or maximum) too:

        - ``linear_regions`` †: regions after this layer. ``linear_regions_total``: all. ``linear_regions_mean`` and
          ``_se``: mean over slices of a split, with its standard error. ``linear_regions_by_snap``: the total at other
          snapping widths (dimension ``snap``).
        - ``linear_regions_lines`` †: units that bend within the window. ``_on``, ``_off`` †: units that do not.
        - ``linear_regions_segments``, ``_points`` †: pieces of boundaries and crossings within the regions before the
          layer. The regions after it are those before plus both.
        - ``linear_regions_merged`` †: boundaries that lie on others.
        - By tolerance (dimension ``within``), since trained units merge only approximately: ``linear_regions_alike`` †,
          the number of boundaries of the layer that are alike to another one
          (:func:`probe.geometry.merged_boundaries`);
          ``linear_regions_effective`` †, the number of regions after this layer with one boundary of each such group;
          ``linear_regions_alike_share``, the share of the length of borders on such boundaries;
          ``linear_regions_alike_distance``, ``linear_regions_unlike_distance``, as the distances below.
        - ``linear_regions_change`` †: change of the number of regions that the layer adds since the last observation,
          by ``mechanism``, see :class:`probe.geometry.RegionChanges`. They add up to the change,
          except for regions smaller than the snapping width, which can have the circuit of a neighbour.
          ``linear_regions_effective_change`` †: the same by ``within``. Its groups are those of two observations,
          so its sum can differ from the change of ``linear_regions_effective`` by a few regions.
          ``linear_regions_skipped``: number of failed observations in between.
        - ``linear_regions_composite``: share of the length of borders on which two or more boundaries lie.
          ``linear_regions_hamming``: mean number of boundaries on a border.
        - ``linear_regions_composite_distance``, ``linear_regions_ordinary_distance``: mean distance of such borders
          and of the others to the decision boundary, in units of the stem, weighted by length.
        - ``linear_regions_area``: area of the window.

        By (step, split): ``linear_regions_knots``, the mean number of knots on a segment between two inputs, with the
        90 % interval ``_lower``, ``_upper``; ``linear_regions_knots_added`` † what each layer adds;
        ``linear_regions_density``, knots per unit of length.

        Flags: ``linear_regions_incomplete`` (stopped at a limit: counts are lower bounds),
        ``linear_regions_unattributed`` (-1 at the first observation; 1 if one of both partitions is incomplete or was
        not kept), ``linear_regions_undivided`` (no decision boundary in the window; -1 if the output is no vector),
        ``linear_regions_knots_incomplete`` (a segment stopped: lower bounds too). The attribute ``stem`` names the site
        of the slices, and ``n_segments`` is the number of segments.

    Raises
    ------
    ValueError
        At ``attach``, if the model is not piecewise linear, as with GELU or LayerNorm. The message names the function
        and its module. Use :class:`probe.LocalComplexityProbe` instead.

    See Also
    --------
    probe.LocalComplexityProbe : Counts boundaries near points, for any network.
    probe.geometry.partition_slice : The partition of one slice.

    Notes
    -----
    Distances to the decision boundary are those of the middle of each border. A network with one output decides at 0.
    The cost is CPU time, in proportion to the number of regions. One observation of a perceptron 64-200-200-10 on
    digits takes 2.4 CPU s at initialisation (35,000 regions in three slices), and 1 CPU s after some training (8,000).
    Convolutional networks have thousands of units, so most slices of images stop at a limit: pass ``n_slices=0``, or a
    small ``half_side``. One observation of LeNet-5 takes 35 CPU s by default, and 15 CPU s without slices.
    The borders of the last observation are kept for the attribution, about 52 bytes for each region. If those of all
    slices exceed 32 MiB, none are kept.

    Examples
    --------
    The axes divide each window around the origin into four regions.

    >>> import torch
    >>> from probe import LinearRegionsProbe
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    >>> _ = model[0].weight.data.copy_(torch.eye(2)), model[0].bias.data.zero_()
    >>> x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, -2.0]])
    >>> series = LinearRegionsProbe(splits=["all"], n_segments=0).fit(model, (x, None)).series_
    >>> series["linear_regions_total"].item()
    4.0
    """

    def __init__(
        self,
        *,
        splits: Sequence[str] | None = None,
        n_slices: int = 1,
        stem: str | None = None,
        margin: float = 0.0,
        half_side: float | None = None,
        n_segments: int = 64,
        snap: float = 1e-9,
        snaps: Sequence[float] = (1e-7, 1e-11),
        tolerances: Sequence[float] = TOLERANCES,
        max_regions: int = 100_000,
        max_bytes: int = 2**29,
        max_rows: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.splits = splits
        self.n_slices = n_slices
        self.stem = stem
        self.margin = margin
        self.half_side = half_side
        self.n_segments = n_segments
        self.snap = snap
        self.snaps = snaps
        self.tolerances = tolerances
        self.max_regions = max_regions
        self.max_bytes = max_bytes
        self.max_rows = max_rows
        self.random_state = random_state

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Raise ValueError if the model is not piecewise linear, and take nothing from the shared pass."""
        try:
            snapshot.network(stem=self.stem)
        except NotPiecewiseLinearError as error:
            raise NotPiecewiseLinearError(
                f"{error}, {type(self).__name__}. LocalComplexityProbe counts boundaries near points of any network"
            ) from error
        return ()

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Partition all slices, and count along all segments."""
        if RANDOM in snapshot.splits:
            raise ValueError(f"Expected no split {RANDOM!r}, got {', '.join(snapshot.splits)}; rename the split")
        for name, least in (("n_slices", 0), ("n_segments", 0), ("max_rows", 1)):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name, least, 2**62)
        if not (self.n_slices or self.n_segments):
            raise ValueError(
                f"Expected slices or segments, got n_slices={self.n_slices} and n_segments={self.n_segments}; raise one"
            )
        if not self.margin > -1 or (self.half_side is not None and not 0 < self.half_side < math.inf):
            raise ValueError(
                f"Expected margin > -1 and a positive half_side, got {self.margin} and {self.half_side}; correct them"
            )
        network, stem = snapshot.network(stem=self.stem), snapshot.stem(self.stem)
        points = with_box(stem_points(snapshot, stem, self.random_state), self.random_state)
        points = {split: points[split] for split in selected(self.splits, list(points))}
        attrs = {"stem": stem, "snap": self.snap, "max_regions": self.max_regions}
        found: dict[str, Measured] = {}
        if self.n_slices:
            slices = {
                split: slices_through(values, self.n_slices, self.margin, self.half_side, split)
                for split, values in points.items()
            }
            found |= self._slices(snapshot, network, slices, attrs)
        if self.n_segments:
            limits = SegmentLimits.of(network, self.n_segments, len(points), self.max_rows, self.max_bytes)
            segments = {split: self._segments(network, values, limits) for split, values in points.items()}
            if not len(snapshot.history(f"{NAME}_knots_incomplete")):
                warn_of_segments(list(segments.values()), self.n_segments, limits)
            found |= segment_variables(segments, network.sites, attrs)
        return found

    def _slices(
        self,
        snapshot: Snapshot,
        network: PiecewiseLinear,
        slices: Mapping[str, Sequence[Slice]],
        attrs: Mapping[str, Any],
    ) -> dict[str, Measured]:
        """Return the variables of all slices."""
        flat = [each for group in slices.values() for each in group]
        earlier = Earlier.of(snapshot, len(flat), network.sites)
        pairs = [self._slice(network, *pair, first=earlier.first) for pair in zip(flat, earlier.graphs, strict=True)]
        numbers, graphs = zip(*pairs, strict=True)
        if earlier.first and any(each["_incomplete"] for each in numbers):
            warn_of_slices(self.max_regions, self.max_bytes)
        coords: dict[str, Sequence[Any]] = {
            "split": list(slices),
            "slice": list(range(self.n_slices)),
            "layer": network.sites,
            "snap": list(self.snaps),
            "within": list(self.tolerances),  # `sel(tolerance=)` has another meaning in xarray
            "mechanism": list(MECHANISMS),
        }
        skipped = Measured(earlier.skipped, long_name="failed observations since the one that is compared with")
        return {**slice_variables(numbers, coords, attrs), f"{NAME}_skipped": skipped, **kept_graphs(graphs)}

    def _slice(
        self, network: PiecewiseLinear, place: Slice, before: BoundaryGraph | None, *, first: bool
    ) -> tuple[Mapping[str, Any], BoundaryGraph | None]:
        """Return the numbers of one slice, and its borders for the next observation."""
        limits = self.max_regions, self.max_bytes
        partition = limited_partition(network, place, self.snap, *limits)
        snaps = self.snaps if partition.complete else ()
        others = [limited_partition(network, place, snap, *limits) for snap in snaps]
        by_snap = [each.n_regions if each.complete else np.nan for each in others] or [np.nan] * len(self.snaps)
        found = {**counts(partition), "_by_snap": by_snap}
        shape = len(network.sites), len(self.tolerances)
        if not partition.complete:
            found |= {**missing_numbers(*shape), **change_numbers(before, None, shape)}
            return {**found, "_unattributed": -1 if first else 1}, None
        graph = graph_of(partition, partition.patterns(), self.tolerances)
        borders = Borders.of(partition, graph, is_vector=network(place.origin[None]).ndim == 2)
        found |= {**borders.alike(), **borders.numbers(), **change_numbers(before, graph, shape)}
        return {**found, "_unattributed": -1 if first else int(before is None)}, graph

    def _segments(self, network: PiecewiseLinear, points: torch.Tensor, limits: SegmentLimits) -> SegmentRegions:
        n, random = min(limits.n_segments, len(points) // 2), generator(self.random_state)
        return segment_regions(
            network, points, n_segments=n, generator=random, snap=self.snap, max_knots=limits.max_knots
        )
