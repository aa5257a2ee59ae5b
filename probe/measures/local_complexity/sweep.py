"""Sending the neighbourhoods of many points through a model, with the first affine map computed only once."""

import math
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from probe.forward.call_graph import affine_prefix
from probe.forward.isolation import isolated
from probe.forward.layers import INPUT, Layers
from probe.forward.outputs import reduce_output
from probe.forward.sites import TRACE_ROWS
from probe.forward.snapshot import Snapshot

# Bytes of a block of rows at its widest site. Small ones stay in the cache of a CPU (blocks of 4 MiB take 1.2 times as
# long on a 784-200-200-200-10 network, blocks of 1 MiB 1.03 times); other devices want long ones.
_BLOCK = {"cpu": 3 << 19}
_BLOCK_ELSEWHERE = 256 << 20


def swept(
    snapshot: Snapshot,
    split: str,
    stem: str,
    sites: Sequence[str],
    points: tuple[Tensor, Tensor],
    frame: Tensor,
    radius: float,
    function: Callable[[Tensor], Tensor],
    *,
    centre: bool = False,
) -> dict[str, Tensor]:
    """What a function makes of the sites at the vertices of the cross-polytope around each point.

    Where the first module after the stem is affine and all that follows is a chain (see
    :meth:`probe.base.Snapshot.outputs_from`), W(x +- r v) + b = (Wx + b) +- r Wv: the points and the directions go
    through it once, not every vertex.

    Parameters
    ----------
    points
        Rows of the split (n,), and values at the stem (n, ...), of these rows or any others.
    frame : Tensor of shape (P, D), float64
    radius
        In the units of the stem.
    function
        (V, points, ...) -> (points, ...); the V vertices are x + r v_1, ..., x + r v_P, x - r v_1, ..., x - r v_P,
        after the point itself if ``centre``.

    Returns
    -------
    {site: Tensor of shape (n, ...)}; a site that does not fire is missing.
    """
    site, base, directions = _start(snapshot, split, stem, sites, points[1], frame)
    offsets = radius * torch.cat([directions[:0] if not centre else 0 * directions[:1], directions, -directions])
    offsets = offsets[:, None]  # (V, 1, ...)
    count = len(offsets)
    block = max(1, _rows_at_once(snapshot, site, base) // count)
    # one vertex of all points of a block after the other: reductions over vertices then run along memory
    n = len(base)
    whole = points[0][: n - n % block].unflatten(0, (-1, block))  # (blocks, block)
    rows = torch.cat([whole.repeat(1, count).flatten(), points[0][n - n % block :].repeat(count)])  # (n V,)
    now: list[Any] = []  # what goes on from the start, its version, which points these are

    def put(positions: range) -> Tensor:
        which = slice(positions.start // count, positions.stop // count)
        vertices = (base[which] + offsets).flatten(0, 1)
        version = None if vertices.is_inference() else vertices._version
        # a weak reference, so that the memory of the vertices is there for what comes of them: it is still in the cache
        now[:] = weakref.ref(vertices), version, which
        return vertices

    @cache
    def at_the_start() -> Tensor:  # rounding keeps the order: the least and the largest offsets are enough for signs
        ends = torch.stack([offsets.amin(0), offsets.amax(0)])
        return torch.cat([function(some + ends) for some in base.split(block * count // 2)])

    def reduce(z: Tensor) -> Tensor:
        vertices, version, which = now
        untouched = z is vertices() and not z.is_inference() and z._version == version
        if untouched and not centre:
            return at_the_start()[which]
        return function(z.reshape(count, -1, *z.shape[1:]))

    return snapshot.outputs_from(
        split, site, put, sites, rows=rows, reduce=reduce, group=count, batch_size=block * count
    )


def _start(
    snapshot: Snapshot, split: str, stem: str, sites: Sequence[str], values: Tensor, frame: Tensor
) -> tuple[str, Tensor, Tensor]:
    """Where the pass starts, and what the points and the directions are there."""
    directions = frame.to(values).view(-1, *values.shape[1:])
    names = affine_prefix(snapshot.trace.links, snapshot.trace.entries, snapshot.modules, stem)
    if not names or not snapshot.has_suffix(split, names[-1], sites):
        return stem, values, directions
    modules = snapshot.modules
    dtype = next(modules[names[-1]].parameters()).dtype

    def affine(x: Tensor) -> Tensor:
        x = x.to(dtype)
        for name in names:
            x = modules[name](x)
        return x.to(values.dtype)

    with isolated(snapshot.model):
        return names[-1], affine(values), affine(directions) - affine(0 * directions[:1])


def _rows_at_once(snapshot: Snapshot, start: str, values: Tensor) -> int:
    trace = snapshot.trace
    after = trace.order[trace.order.index(start) :]
    widest = max(math.prod(trace.shapes[site]) for site in after if trace.is_floating(site)) // TRACE_ROWS
    return max(1, _BLOCK.get(values.device.type, _BLOCK_ELSEWHERE) // max(1, widest * values.element_size()))


def dimension_of(snapshot: Snapshot, stem: str) -> int:
    """How many numbers a point has at the stem; in the first split, if splits differ."""
    return math.prod(snapshot.trace.shapes[stem][1:])


def sites_after(snapshot: Snapshot, stem: str, layers: Layers) -> list[str]:
    """What is counted: activation functions inside the named layers, else their outputs; of none named, all of them."""
    shapes, order = snapshot.trace.shapes, snapshot.trace.order
    after = order[order.index(stem) :]
    sites = _named(snapshot, layers) or [site for site in snapshot.trace.activations if site in after]
    if not sites and snapshot.trace.activations:
        raise ValueError(
            f"every activation function comes before the stem {stem!r} ({', '.join(snapshot.trace.activations)}): name "
            "an earlier one that holds floating-point numbers, LocalComplexityProbe(stem=...), or leave this probe out"
        )
    if not sites:
        raise ValueError(
            f"no activation function was seen after {stem!r} (fused layers such as nn.LSTM show none): name layers "
            "whose outputs are pre-activations, LocalComplexityProbe(layers=...), or leave this probe out"
        )
    for site in sites:
        if site in order and site not in after:
            raise ValueError(f"{site!r} comes before the stem {stem!r}: it does not see the neighbourhood")
        if site in order and shapes[site][:1] != shapes[stem][:1]:
            raise ValueError(
                f"{site!r} has shape {shapes[site]} for {shapes[stem][0]} inputs, expected one row for each; "
                "choose others with LocalComplexityProbe(layers=...)"
            )
    return sites


def _named(snapshot: Snapshot, layers: Layers) -> list[str]:
    sites: list[str] = []
    for layer in () if layers is None else snapshot.select(layers):
        inside = [site for site in snapshot.trace.activations if f"{site.split(':')[0]}.".startswith(f"{layer}.")]
        sites += inside or [layer]
    return list(dict.fromkeys(sites))


def units_of(snapshot: Snapshot, split: str, sites: Sequence[str]) -> list[float]:
    """How many units each site has for an input of this split; NaN for one that does not fire."""
    units = snapshot.trace.units
    if any((split, site) not in units for site in sites):
        found = snapshot.outputs(split, sites, reduce="none", rows=torch.arange(TRACE_ROWS))
        units.update({(split, site): output[0].numel() for site, output in found.items()})
    return [units.get((split, site), math.nan) for site in sites]


def values_at(snapshot: Snapshot, split: str, stem: str, rows: Tensor) -> Tensor:
    """The points: these rows at the stem (n, ...), not to be written to."""
    data, device = snapshot.data[split], snapshot.device
    if stem == INPUT and isinstance(data.inputs, Tensor):  # no pass is needed to see these
        whole = torch.equal(rows, torch.arange(len(data)))
        return reduce_output(data.inputs.to(device) if whole else data.take(rows, device)[0], "none")
    values = snapshot.outputs(split, [stem], reduce="none", rows=rows)[stem]
    if len(values) != len(rows):
        raise ValueError(
            f"{stem!r} has shape {tuple(values.shape)} for {len(rows)} inputs, expected one row for each; "
            "name another layer: LocalComplexityProbe(stem=...)"
        )
    return values


def uniform_in_box(points: Sequence[Tensor], n: int, generator: torch.Generator) -> Tensor:
    """Random points (n, ...), uniform in the smallest box that holds all the given ones (n_i, ...)."""
    if len({values.shape[1:] for values in points}) > 1:
        raise ValueError(f"random points need splits of one shape, got {[tuple(v.shape[1:]) for v in points]}")
    low = torch.stack([values.amin(0) for values in points]).amin(0)
    high = torch.stack([values.amax(0) for values in points]).amax(0)
    share = torch.rand(n, *low.shape, generator=generator, dtype=torch.float64)
    return low + (high - low) * share.to(low)
