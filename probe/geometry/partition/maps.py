"""The pattern of each region, and the affine map that the network is there."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.geometry.networks import Affine, Bend, Maximum, Operation, PiecewiseLinear
from probe.geometry.partition.cuts import Floats, Integers
from probe.geometry.partition.slices import Slice

Patterns: TypeAlias = dict[str, NDArray[np.signedinteger[Any]]]  # int8 for bends, int16 for maxima


def in_coordinates(network: PiecewiseLinear, slice: Slice) -> PiecewiseLinear:
    """Return a network as a function of coordinates of a slice. First layers with many inputs then cost little."""
    points = max((each.output for each in network.operations), default=0) + 1
    operations: list[Operation] = []
    for each in network.operations:
        if isinstance(each, Affine) and each.inputs == (0,):
            operations.append(Affine((0,), each.output, _of_coordinates(each.function, slice)))
        else:
            operations.append(replace(each, inputs=tuple(place or points for place in each.inputs)))
    output = network.output or points
    if output == points or any(points in each.inputs for each in operations):
        operations.insert(0, Affine((0,), points, slice.points))
    return PiecewiseLinear(tuple(operations), (2,), output)


def _of_coordinates(function: Callable[[Tensor], Tensor], slice: Slice) -> Callable[[Tensor], Tensor]:
    origin, axes = function(slice.origin[None]), function(slice.axes) - function(torch.zeros_like(slice.axes[:1]))
    return lambda coordinates: origin + torch.tensordot(coordinates, axes, 1)


def patterns(
    network: PiecewiseLinear, widths: Mapping[str, Floats], vertices: Tensor, loops: Integers, starts: Integers
) -> Patterns:
    """Return the piece of each unit in each region, (R, units) by site.

    ``network`` is a function of coordinates. The corners of region i are ``vertices[loops[starts[i]]]`` and following.
    ``widths`` has those of the units by site; later sites are left out.
    """
    values = {0: vertices}
    found: Patterns = {}
    for operation, unused in network.steps():
        read = [values[place] for place in operation.inputs]
        if not isinstance(operation, Affine) and operation.site not in widths:
            break
        if isinstance(operation, Bend):
            found[operation.site] = _pieces(operation, read[0], widths[operation.site], loops, starts)
        elif isinstance(operation, Maximum):
            found[operation.site] = _winners(operation, read, widths[operation.site], loops, starts)
        values[operation.output] = operation.function(*read)
        for place in unused:
            del values[place]
    return found


def _pieces(operation: Bend, rows: Tensor, widths: Floats, loops: Integers, starts: Integers) -> NDArray[np.int8]:
    """Number of breakpoints below each unit in each region: the corner farthest from a breakpoint decides."""
    low, high = _extremes(rows.flatten(1).numpy(), loops, starts)
    found = np.zeros(high.shape, np.int8)
    for level in operation.breakpoints.numpy():
        found += (high - level > widths) & (high - level > level - low)
    return found


def _winners(
    operation: Maximum, rows: list[Tensor], widths: Floats, loops: Integers, starts: Integers
) -> NDArray[np.int16]:
    """Number of the first candidate that is the largest at all corners of a region."""
    candidates = operation.candidates(*rows)
    gaps = (candidates.amax(2, keepdim=True) - candidates).numpy()
    farthest = _extremes(gaps, loops, starts)[1]  # (R, units, k)
    wins = farthest <= np.maximum(widths[:, None], farthest.min(2, keepdims=True))
    return wins.argmax(2).astype(np.int16)


def _extremes(numbers: Floats, loops: Integers, starts: Integers) -> tuple[Floats, Floats]:
    """Smallest and largest numbers (V, ...) at the corners of each region: 5 to 15 times as fast as ``reduceat``."""
    counts = np.diff(np.append(starts, len(loops)))
    order = np.argsort(-counts, kind="stable")
    first, counts = starts[order], counts[order]
    high = numbers[loops[first]]
    low = high.copy()
    for corner in range(1, counts[0]):
        more = np.count_nonzero(counts > corner)
        here = numbers[loops[first[:more] + corner]]
        np.maximum(high[:more], here, out=high[:more])
        np.minimum(low[:more], here, out=low[:more])
    back = np.argsort(order)
    return low[back], high[back]


def affine_maps(network: PiecewiseLinear, pieces: Patterns, n_regions: int) -> tuple[Floats, Floats]:
    """Return matrices (R, n_out, 2) and offsets (R, n_out) of a network of coordinates, from its pieces by site.

    The origin and both axes pass through the same pieces.
    """
    values = {0: torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).repeat(n_regions, 1)}
    for operation, unused in network.steps():
        read = [values[place] for place in operation.inputs]
        if isinstance(operation, Affine):
            made = _affine(operation, read)
        else:
            piece = torch.from_numpy(pieces[operation.site]).long()
            made = _bend(operation, read[0], piece) if isinstance(operation, Bend) else _winner(operation, read, piece)
        values[operation.output] = made
        for place in unused:
            del values[place]
    outputs = values[network.output].reshape(n_regions, 3, -1).numpy()
    return outputs[:, 1:].transpose(0, 2, 1), outputs[:, 0]


def _affine(operation: Affine, rows: list[Tensor]) -> Tensor:
    """Apply the map to origins, and its linear part to axes."""
    made = operation.function(*rows)
    constant = operation.function(*(torch.zeros_like(part[:1]) for part in rows))
    axes = torch.arange(len(made)) % 3 > 0
    made[axes] -= constant
    return made


def _bend(operation: Bend, rows: Tensor, piece: Tensor) -> Tensor:
    """Apply the affine function of a piece (R, units), which has a breakpoint at one of its ends."""
    flat = rows.reshape(len(piece), 3, -1)
    levels = operation.breakpoints.expand(-1, flat.shape[2])
    heights = operation.function(levels.reshape(-1, *rows.shape[1:])).flatten(1)
    end = (piece - 1).clamp(min=0)
    slope = operation.slopes.expand(-1, flat.shape[2]).gather(0, piece)
    made = slope[:, None] * flat
    made[:, 0] = heights.gather(0, end) + slope * (flat[:, 0] - levels.gather(0, end))
    return made.reshape(rows.shape)


def _winner(operation: Maximum, rows: list[Tensor], winner: Tensor) -> Tensor:
    """Select the candidate that wins, for winners (R, units)."""
    candidates = operation.candidates(*rows)
    chosen = candidates.gather(2, winner.repeat_interleave(3, 0)[..., None])
    return chosen.reshape(len(candidates), *operation.function(*(part[:1] for part in rows)).shape[1:])
