"""Exact breakpoints of a piecewise-linear network along line segments.

A network is affine between neighbouring breakpoints of a segment. Each operation that is not affine is followed through
all segments at once: where a unit changes, the interval is cut, and all values that later operations read are
interpolated, which is exact there. A segment has one region more than it has breakpoints (*knots*).

This counts regions in any dimension, without a plane through the data, for any network that
:func:`probe.forward.piecewise_linear` can write as a list of operations.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from probe.geometry.networks import Affine, Bend, Maximum, PiecewiseLinear, check_network
from probe.geometry.segments.blocks import Block
from probe.geometry.segments.cuts import Cuts, bend_cuts, maximum_cuts
from probe.stats.inference import Estimate, mean_interval

_MOST_NUMBERS = 1 << 25  # in the widest value at the knots of several segments: 256 MiB


@dataclass(frozen=True)
class LineBreakpoints:
    """Breakpoints of a network along segments.

    The knots are sorted by segment and position. A change of a unit is an *event*. Several events can share a knot, as
    those of units that are copies of each other.

    Attributes
    ----------
    segment : int array of shape (knots,)
        Number of the segment of each knot.
    position : float array of shape (knots,)
        From 0 at the start to 1 at the end of the segment, both excluded.
    site : int array of shape (knots,)
        Number of the first site that changes at the knot, as in ``sites``.
    event_knot, event_site, event_unit, event_breakpoint : int arrays of shape (events,)
        Knot, site and unit of each event, and the number of the breakpoint of the unit (0 for a maximum).
    starts : int array of shape (segments + 1,)
        Knots ``starts[i]`` to ``starts[i + 1]`` belong to segment i.
    outputs : Tensor of shape (knots, ...)
        Outputs of the network at the knots. NaN on segments that are not complete.
    complete : bool array of shape (segments,)
        False where ``max_knots`` stopped the search. The number of knots is then a lower bound.
    sites : list of str
        Names of the operations, in the order of execution.
    """

    segment: np.ndarray
    position: np.ndarray
    site: np.ndarray
    event_knot: np.ndarray
    event_site: np.ndarray
    event_unit: np.ndarray
    event_breakpoint: np.ndarray
    starts: np.ndarray
    outputs: Tensor
    complete: np.ndarray
    sites: list[str]

    @property
    def n_knots(self) -> np.ndarray:
        """Number of knots of each segment, (segments,)."""
        return np.diff(self.starts)

    @property
    def n_regions(self) -> np.ndarray:
        """Number of affine pieces of each segment, (segments,)."""
        return self.n_knots + 1

    @property
    def multiplicity(self) -> np.ndarray:
        """Number of events at each knot, (knots,). It is 1 unless units change at the same place."""
        return np.bincount(self.event_knot, minlength=len(self.position))

    def by_site(self) -> np.ndarray:
        """Return the number of knots that each site adds to each segment, (segments, sites)."""
        found = np.zeros((len(self.complete), len(self.sites)), dtype=int)
        np.add.at(found, (self.segment, self.site), 1)
        return found

    def events_by_site(self) -> np.ndarray:
        """Return the number of units of each site that change on each segment, with repetitions, (segments, sites)."""
        found = np.zeros((len(self.complete), len(self.sites)), dtype=int)
        np.add.at(found, (self.segment[self.event_knot], self.event_site), 1)
        return found

    def __repr__(self) -> str:
        stopped = f", {np.count_nonzero(~self.complete)} stopped" if not self.complete.all() else ""
        return f"LineBreakpoints({len(self.complete)} segments, {len(self.position)} knots{stopped})"


def line_breakpoints(
    network: PiecewiseLinear, starts: Tensor, ends: Tensor, *, snap: float = 1e-9, max_knots: int = 100_000
) -> LineBreakpoints:
    """Return the exact breakpoints of a network along line segments.

    Parameters
    ----------
    network : PiecewiseLinear
        Of :func:`probe.forward.piecewise_linear` or :func:`perceptron`.
    starts, ends : Tensors of shape (segments, ...)
        Ends of the segments.
    snap : float
        Width of zero, as a share of the largest distance of a unit from its breakpoint on the segment (of a very long
        list of knots, on a part of it). Units change at one knot if each is zero, up to this width, at the place of
        the other.
    max_knots : int
        Number of knots of a segment above which later operations do not cut it. It is not ``complete`` then.

    Returns
    -------
    LineBreakpoints

    Raises
    ------
    ValueError
        If the shapes do not fit, or a number is not finite.

    See Also
    --------
    segment_regions : The mean number of knots between random pairs of points.

    Notes
    -----
    Segments are followed in blocks, a segment with many knots in parts. The memory is that of the knots and events, and
    of one value of the network at the knots that one operation makes on one segment, at most ``max_knots``.

    Examples
    --------
    abs(abs(x) - 1) bends at -1, 0 and 1.

    >>> import torch
    >>> from probe.geometry import line_breakpoints, perceptron
    >>> first, second = ([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0], [-1.0, -1.0]], [-1.0, 1.0])
    >>> hat = perceptron([first, second, ([[1.0, 1.0]], [0.0])])
    >>> found = line_breakpoints(hat, torch.tensor([[-2.0]]), torch.tensor([[2.0]]))
    >>> found.position.tolist(), found.n_regions.tolist(), found.by_site().tolist()
    ([0.25, 0.5, 0.75], [4], [[1, 2]])

    Two units change at each of these knots.

    >>> found.multiplicity.tolist()
    [2, 2, 2]
    """
    pairs = _checked(network, starts, ends)
    walk = _Walk(network, snap, max_knots, np.zeros(len(pairs), dtype=int))
    steps = list(network.steps())
    stack = [(0, Block.of(pairs))] if len(pairs) else []
    while stack:
        place, block = stack.pop()
        if place == len(steps):
            walk.finish(block)
            continue
        parts = list(block.parts(walk.width))
        if len(parts) > 1:
            stack += [(place, part) for part in parts]
            continue
        operation, unused = steps[place]
        if not isinstance(operation, Affine):
            cuts = walk.cuts(operation, block)
            if len(block.segments) > 1 and (len(block.position) + len(cuts.first)) * walk.width > _MOST_NUMBERS:
                stack += [(place, half) for half in block.halves()]
                continue
            block = walk.stop_long(walk.cut(operation, block, cuts))
            if not len(block.segments):
                continue
        block.values[operation.output] = operation.function(*(block.values[read] for read in operation.inputs))
        block.values = {read: value for read, value in block.values.items() if read not in unused}
        stack.append((place + 1, block))
    return walk.result(len(pairs))


@dataclass(frozen=True)
class SegmentRegions:
    """Numbers of knots on random segments between points.

    Attributes
    ----------
    knots : Estimate
        Mean number of knots of a segment, with its interval. A segment with k knots crosses k + 1 regions.
    density : Estimate
        Knots per unit of length of the input: the sum of all knots over the sum of all lengths.
    by_site : dict of str to Estimate
        Mean number of knots that each site adds. Their sum is that of ``knots``.
    counts, lengths : arrays of shape (segments,)
        Knots and lengths.
    complete : bool
        False if a segment was stopped, see :func:`line_breakpoints`: the means are then lower bounds.
    """

    knots: Estimate
    density: Estimate
    by_site: dict[str, Estimate]
    counts: np.ndarray
    lengths: np.ndarray
    complete: bool

    def __repr__(self) -> str:
        mean, low, high = self.knots[:3]
        stopped = "" if self.complete else "; some stopped, so the mean is a lower bound"
        return f"SegmentRegions({self.knots.n} segments; {mean:.1f} ({low:.1f} to {high:.1f}) knots on each{stopped})"


def segment_regions(
    network: PiecewiseLinear,
    points: Tensor,
    *,
    n_segments: int | None = None,
    generator: torch.Generator | None = None,
    level: float = 0.9,
    snap: float = 1e-9,
    max_knots: int = 100_000,
) -> SegmentRegions:
    """Estimate the mean number of knots on the segment between two random points.

    The pairs are disjoint: no two segments share a point. If the points are an independent sample, so are the segments,
    and the t intervals hold for the population of points. Segments that share points would be dependent.

    Parameters
    ----------
    network : PiecewiseLinear
        Of :func:`probe.forward.piecewise_linear` or :func:`perceptron`.
    points : Tensor of shape (n, ...)
        Points of the data, n >= 2.
    n_segments : int, optional
        Number of segments, at most n // 2, which is the default.
    generator : torch.Generator, optional
        Source of the pairs, on the CPU.
    level : float
        Coverage of the intervals. They are NaN with fewer than 3 segments. An interval of width 0 (all segments alike)
        excludes no rare segment: one with a share above 3 / n_segments is missed with a probability below 5 %.
    snap, max_knots
        See :func:`line_breakpoints`.

    Returns
    -------
    SegmentRegions

    Raises
    ------
    ValueError
        If there are too few points, their shape is not that of an input, or a number is not finite.
    TypeError
        If the network is a model: make the network with :func:`probe.forward.piecewise_linear`.

    See Also
    --------
    line_breakpoints : Knots of given segments.

    Examples
    --------
    Half of the random pairs of these points lie on both sides of the only boundary.

    >>> import torch
    >>> from probe.geometry import perceptron, segment_regions
    >>> unit = perceptron([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    >>> points = torch.rand(400, 1, generator=torch.Generator().manual_seed(0)) - 0.5
    >>> found = segment_regions(unit, points, generator=torch.Generator().manual_seed(1))
    >>> bool(found.knots.lower < 0.5 < found.knots.upper), found.knots.n
    (True, 200)
    """
    most = len(points) // 2
    count = most if n_segments is None else n_segments
    if not 1 <= count <= most:
        raise ValueError(
            f"Expected n_segments from 1 to half the number of points, got n_segments={n_segments} and {len(points)} "
            "points; pass fewer segments, or more points"
        )
    chosen = torch.randperm(len(points), generator=generator)[: 2 * count].to(points.device)
    first, second = points[chosen[:count]], points[chosen[count:]]
    found = line_breakpoints(network, first, second, snap=snap, max_knots=max_knots)
    lengths = (second.double() - first.double()).detach().flatten(1).norm(dim=1).cpu().numpy()
    knots = found.n_knots.astype(float)
    sites = {name: mean_interval(each, level) for name, each in zip(found.sites, found.by_site().T, strict=True)}
    density = _ratio(knots, lengths, level)
    return SegmentRegions(
        mean_interval(knots, level), density, sites, found.n_knots, lengths, bool(found.complete.all())
    )


def _ratio(knots: np.ndarray, lengths: np.ndarray, level: float) -> Estimate:
    """Return the ratio of the means with the t interval of its first-order error (Cochran 1977, equation 6.13)."""
    if not lengths.sum() > 0:
        return Estimate(np.nan, np.nan, np.nan, len(knots))
    ratio = float(knots.sum() / lengths.sum())
    errors = mean_interval((knots - ratio * lengths) / lengths.mean(), level)
    return Estimate(ratio, ratio + errors.lower, ratio + errors.upper, errors.n)


@dataclass
class _Walk:
    """What was found so far."""

    network: PiecewiseLinear
    snap: float
    max_knots: int
    counts: np.ndarray  # (segments,): knots so far
    n_keys: int = 0
    events: list[tuple[np.ndarray, ...]] = field(default_factory=list)  # key, site, unit, breakpoint
    done: list[tuple[Block, bool]] = field(default_factory=list)  # and whether they are complete

    def __post_init__(self) -> None:
        self.sites = self.network.sites
        self.numbers = {id(step): number for number, step in enumerate(_bent(self.network))}
        self.width, self.output_shape = _width(self.network)

    def cuts(self, operation: Bend | Maximum, block: Block) -> Cuts:
        """Return where the units of one operation change."""
        inputs = [block.values[read] for read in operation.inputs]
        if isinstance(operation, Bend):
            return bend_cuts(operation, inputs[0], block.first, self.snap)
        return maximum_cuts(operation, inputs, block.first, self.snap)

    def cut(self, operation: Bend | Maximum, block: Block, cuts: Cuts) -> Block:
        """Return the block with the knots of one operation, and note its events. Without values if it is too long."""
        number = self.numbers[id(operation)]
        rows, units, pieces = cuts.touched
        self._note(block.key[rows], number, units, pieces)
        self._note(self.n_keys + cuts.knot, number, cuts.unit, cuts.piece)
        left = cuts.interval[cuts.first]
        owned = left[block.own[left + 1]]
        np.add.at(self.counts, np.repeat(block.segments, np.diff(block.first))[owned], 1)
        if (self.counts[block.segments] > self.max_knots).all():
            block.values = {}
        block = block.inserted(left, cuts.share[cuts.first], number, self.n_keys)
        self.n_keys += len(left)
        if isinstance(operation, Bend) and block.values:
            _set_exactly(block.values[operation.inputs[0]], operation, cuts, left)
        return block

    def _note(self, keys: np.ndarray, site: int, units: np.ndarray, pieces: np.ndarray) -> None:
        self.events.append((keys, np.full(len(keys), site), units, pieces))

    def stop_long(self, block: Block) -> Block:
        """Finish the segments with too many knots, and return the others."""
        long = self.counts[block.segments] > self.max_knots
        if not long.any():
            return block
        self.done.append((block.selected(long), False))
        return block.selected(~long)

    def finish(self, block: Block) -> None:
        self.done.append((block, True))

    def result(self, count: int) -> LineBreakpoints:
        """Return all knots in the order of segments."""
        empty = Block.of(torch.empty(0, 2))
        blocks = [block for block, _ in self.done] or [empty]
        inner = [block.own & (block.key >= 0) for block in blocks]
        segment, position, site, key = (
            np.concatenate([part[rows] for part, rows in zip(parts, inner, strict=True)])
            for parts in (
                [np.repeat(block.segments, np.diff(block.first)) for block in blocks],
                *([getattr(block, name) for block in blocks] for name in ("position", "site", "key")),
            )
        )
        outputs = [self._outputs(block, rows, whole) for (block, whole), rows in zip(self.done, inner, strict=False)]
        order = np.lexsort((position, segment))
        place = np.full(self.n_keys, -1)
        place[key[order]] = np.arange(len(order))
        complete = np.ones(count, dtype=bool)
        for block, whole in self.done:
            complete[block.segments] &= whole
        events = [np.concatenate(parts) for parts in zip(*self.events, strict=True)] or [np.empty(0, dtype=int)] * 4
        events = [part[place[events[0]] >= 0] for part in events]  # without those of other blocks
        sorted_events = np.lexsort((events[2], events[1], place[events[0]]))
        knot, at, unit, piece = (part[sorted_events] for part in (place[events[0]], *events[1:]))
        starts = np.r_[0, np.cumsum(np.bincount(segment, minlength=count))]
        return LineBreakpoints(
            segment[order],
            position[order],
            site[order],
            knot,
            at,
            unit,
            piece,
            starts,
            torch.cat([*outputs, torch.empty(0, *self.output_shape, dtype=torch.float64)])[torch.from_numpy(order)],
            complete,
            self.sites,
        )

    def _outputs(self, block: Block, rows: np.ndarray, whole: bool) -> Tensor:
        if not whole:
            return torch.full((int(np.count_nonzero(rows)), *self.output_shape), torch.nan, dtype=torch.float64)
        return block.values[self.network.output][torch.from_numpy(rows)]


def _set_exactly(value: Tensor, operation: Bend, cuts: Cuts, left: np.ndarray) -> None:
    """Set the units that change at new knots to their breakpoint, so that rounding leaves them on no side of it."""
    rows = (left + 1 + np.arange(len(left)))[cuts.knot]
    units = value.shape[1:].numel()
    breakpoints = np.broadcast_to(operation.breakpoints.numpy(), (len(operation.breakpoints), units))
    numbers = breakpoints[cuts.piece, cuts.unit]
    value.view(len(value), -1)[torch.from_numpy(rows), torch.from_numpy(cuts.unit)] = torch.from_numpy(numbers)


def _bent(network: PiecewiseLinear) -> list[Bend | Maximum]:
    return [operation for operation in network.operations if not isinstance(operation, Affine)]


def _width(network: PiecewiseLinear) -> tuple[int, tuple[int, ...]]:
    """Return the count of numbers of a row in the widest operation, and the shape of an output."""
    values = {0: torch.zeros(1, *network.shape, dtype=torch.float64)}
    width = values[0].numel()
    for operation, unused in network.steps():
        inputs = [values[read] for read in operation.inputs]
        values[operation.output] = operation.function(*inputs)
        width = max(width, values[operation.output].numel())
        if isinstance(operation, Maximum):
            width = max(width, operation.candidates(*inputs).numel())
        values = {read: value for read, value in values.items() if read not in unused}
    return width, tuple(values[network.output].shape[1:])


def _checked(network: PiecewiseLinear, starts: Tensor, ends: Tensor) -> Tensor:
    """Return the ends as a tensor (segments, 2, *shape)."""
    check_network(network)
    one, two = (torch.as_tensor(part).detach().to("cpu", torch.float64) for part in (starts, ends))
    if one.shape != two.shape or one.shape[1:] != network.shape:
        raise ValueError(
            f"Expected starts and ends of shape (segments, {', '.join(map(str, network.shape))}), got "
            f"{tuple(one.shape)} and {tuple(two.shape)}; pass one input of the network for each end"
        )
    if not (torch.isfinite(one).all() and torch.isfinite(two).all()):
        raise ValueError("Expected finite ends of segments, got NaN or infinite numbers; leave these segments out")
    return torch.stack([one, two], 1)
