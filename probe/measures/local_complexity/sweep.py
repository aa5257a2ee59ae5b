"""Send the neighbourhoods of many points through a model, and compute the first affine map only once per point."""

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from probe.forward.call_graph import affine_prefix
from probe.forward.calls import called_module
from probe.forward.isolation import isolated
from probe.forward.layers import INPUT
from probe.forward.outputs import reduce_output
from probe.forward.sites import TRACE_ROWS
from probe.forward.snapshot import Snapshot
from probe.reads import moved

# Bytes of a block of rows at its widest site. Small blocks stay in the cache of a CPU (on a 784-200-200-200-10 network,
# blocks of 4 MiB take 1.2 times as long, blocks of 1 MiB 1.03 times). Other devices are faster with large blocks.
_BLOCK = {"cpu": 3 << 19}
_BLOCK_ELSEWHERE = 256 << 20


@dataclass
class Sweep:
    """Values of sites at the vertices around points.

    Attributes
    ----------
    found : {site: Tensor of shape (n, ...)}
        A site is missing if it does not fire, or has other rows than the vertices in some forward pass.
    units : {site: number of units of a point}
        NaN if the number differs between points.
    without_rows : sites with other rows than the vertices
    """

    found: dict[str, Tensor] = field(default_factory=dict)
    units: dict[str, float] = field(default_factory=dict)
    without_rows: set[str] = field(default_factory=set)


def at_vertices(
    snapshot: Snapshot,
    split: str,
    stem: str,
    sites: Sequence[str],
    points: tuple[Tensor, Tensor],
    frame: Tensor,
    radius: float | Tensor,
    function: Callable[[Tensor], Tensor],
    *,
    centre: bool = False,
) -> Sweep:
    """Evaluate a function of the sites at the vertices of the cross-polytope around each point.

    If the first module after the stem is affine and all later modules are a chain (see
    :meth:`probe.base.Snapshot.outputs_from`), W(x +- r v) + b = (Wx + b) +- r Wv: the points and the directions go
    through it once, not every vertex.

    Parameters
    ----------
    points
        Rows of the split (n,), and values at the stem (n, ...), of these or other rows.
    frame : Tensor of shape (P, D), float64
    radius
        In the units of the stem.
    function
        ``(V, points, ...) -> (points, ...)``. The V vertices are x + r v_1, ..., x + r v_P, x - r v_1, ..., x - r v_P,
        after the point itself if ``centre``.

    Returns
    -------
    Sweep
    """
    site, base, directions = _start(snapshot, split, stem, sites, points[1], frame)
    offsets = radius * torch.cat([directions[:0] if not centre else 0 * directions[:1], directions, -directions])
    offsets = offsets[:, None]  # (V, 1, ...)
    count = len(offsets)
    size = _BLOCK.get(base.device.type, _BLOCK_ELSEWHERE) * 4 // base.element_size()
    block = max(1, snapshot.rows_within(size, site, _last(snapshot, sites)) // count)
    # the first vertex of all points of a block, then the second, and so on: reductions over vertices run along memory
    n = len(base)
    whole = points[0][: n - n % block].unflatten(0, (-1, block))  # (blocks, block)
    rows = torch.cat([whole.repeat(1, count).flatten(), points[0][n - n % block :].repeat(count)])  # (n V,)
    now: list[Any] = []  # the vertices sent on, their version, the points that they belong to, the number of vertices
    result = Sweep()

    def put(positions: range) -> Tensor:
        which = slice(positions.start // count, positions.stop // count)
        vertices = (base[which] + offsets).flatten(0, 1)
        version = None if vertices.is_inference() else vertices._version
        # a weak reference: later layers reuse the memory of the vertices, which is still in the cache
        now[:] = weakref.ref(vertices), version, which, len(vertices)
        return vertices

    @cache
    def at_the_start() -> Tensor:
        # rounding preserves the order: the smallest and the largest offset determine the signs
        ends = torch.stack([offsets.amin(0), offsets.amax(0)])
        return torch.cat([function(some + ends) for some in base.split(block * count // 2)])

    def reduce(site: str, z: Tensor) -> Tensor | None:
        vertices, version, which, length = now
        if z.shape[:1] != (length,):
            result.without_rows.add(site)
            return None
        units = z.numel() // length
        result.units[site] = units if result.units.get(site, units) == units else math.nan
        untouched = z is vertices() and not z.is_inference() and z._version == version
        if untouched and not centre:
            return at_the_start()[which]
        return function(z.reshape(count, -1, *z.shape[1:]))

    reductions = {later: partial(reduce, later) for later in sites}
    result.found = snapshot.outputs_from(
        split, site, put, sites, rows=rows, reduce=reductions, group=count, batch_size=block * count
    )
    return result


def _start(
    snapshot: Snapshot, split: str, stem: str, sites: Sequence[str], values: Tensor, frame: Tensor
) -> tuple[str, Tensor, Tensor]:
    """Return the site where the pass starts, and the points and the directions at this site."""
    directions = moved(frame.to(values.dtype), values.device).view(-1, *values.shape[1:])
    names = affine_prefix(snapshot.trace.links, snapshot.trace.entries, snapshot.modules, stem)
    if not names or not snapshot.has_suffix(split, names[-1], sites):
        return stem, values, directions
    modules = [module for name in names if (module := called_module(name, snapshot.modules)) is not None]
    dtype = next(modules[-1].parameters()).dtype

    def affine(x: Tensor) -> Tensor:
        x = x.to(dtype)
        for module in modules:
            x = module(x)
        return x.to(values.dtype)

    with isolated(snapshot.model):
        return names[-1], affine(values), affine(directions) - affine(0 * directions[:1])


def _last(snapshot: Snapshot, sites: Sequence[str]) -> str:
    """Return the site where the pass stops."""
    visited = {site: place for place, site in enumerate(snapshot.trace.order)}
    return max(sites, key=lambda site: visited.get(site, len(visited)))


def stem_dimension(snapshot: Snapshot, stem: str) -> int:
    """Return how many numbers a point has at the stem, in the first split if splits differ."""
    return math.prod(snapshot.trace.shapes[stem][1:])


def stem_values(snapshot: Snapshot, split: str, stem: str, rows: Tensor) -> Tensor:
    """Return the points: these rows at the stem (n, ...). Do not write to them."""
    data, device = snapshot.data[split], snapshot.device
    if stem == INPUT and isinstance(data.inputs, Tensor):  # the inputs need no forward pass
        whole = torch.equal(rows, torch.arange(len(data)))
        return reduce_output(moved(data.inputs, device) if whole else data.take(rows, device)[0], "none")
    values = snapshot.outputs(split, [stem], reduce="none", rows=rows)
    if stem not in values:
        raise ValueError(
            f"Expected one row for each of {len(rows)} inputs, got {stem!r} of shape {snapshot.trace.shapes[stem]} for "
            f"{TRACE_ROWS} inputs; name another layer: LocalComplexityProbe(stem=...)"
        )
    return values[stem]


def uniform_in_box(points: Sequence[Tensor], n: int, generator: torch.Generator) -> Tensor:
    """Return random points (n, ...), uniform in the smallest box that contains all the given ones (n_i, ...)."""
    if len({values.shape[1:] for values in points}) > 1:
        shapes = [tuple(values.shape[1:]) for values in points]
        raise ValueError(f"Expected splits of one shape for random points, got {shapes}; pass n_random=0")
    low = torch.stack([values.amin(0) for values in points]).amin(0)
    high = torch.stack([values.amax(0) for values in points]).amax(0)
    share = torch.rand(n, *low.shape, generator=generator, dtype=torch.float64)
    return low + (high - low) * moved(share.to(low.dtype), low.device)
