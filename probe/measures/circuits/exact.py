"""The affine map of a piecewise-linear network at given inputs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from probe.geometry.networks import Affine, Bend, Maximum, PiecewiseLinear

_MAX_BYTES = 2**31  # of the matrices of all inputs
_AGREEMENT = 1e-9  # of derivatives with differences, relative to the largest number


class Followed(NamedTuple):
    """What a pass through the pattern of n inputs found."""

    patterns: dict[str, Tensor]  # (n, units) each
    on_boundary: Tensor  # (n,)
    outputs: Tensor  # (n (1 + k), n_out): of the inputs, then of the inputs moved by k tangents each


class AffineMap(NamedTuple):
    """Patterns and affine maps of n inputs."""

    patterns: dict[str, Tensor]  # (n, units) each
    on_boundary: Tensor  # (n,)
    outputs: Tensor  # (n, n_out)
    matrix: Tensor | None  # (n, n_out, *shape)
    offset: Tensor | None  # (n, n_out)


@dataclass(frozen=True)
class _Width:
    """Width of zero, as a share of the largest number of a site at an input."""

    snap: float

    def is_zero(self, d: Tensor) -> Tensor:
        """Return which distances (n, units) from a breakpoint are zero."""
        return d.abs() <= self.snap * d.abs().amax(1, keepdim=True)

    def moves(self, change: Tensor) -> Tensor:
        """Return which changes (n, units) along a tangent are not zero."""
        return change.abs() > self.snap * change.abs().amax(1, keepdim=True)


def affine_map(network: PiecewiseLinear, rows: Tensor, snap: float, with_matrix: bool = True) -> AffineMap:
    """Return patterns and the affine map at rows (n, *shape), in float64.

    Derivatives come from one backward pass for each output. If they do not agree with differences along a random
    tangent (an operation of the model has no derivative, as ``detach``), differences along all axes replace them.
    """
    rows = rows.detach().to("cpu", torch.float64)
    tangent = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tangent *= rows.abs().amax().clamp(min=1) if rows.numel() else 1
    with torch.enable_grad():
        leaf = rows.clone().requires_grad_()
        found = follow(network, leaf if with_matrix else rows, tangent[None], snap)
        outputs, moved = found.outputs.detach().split(len(rows))
        if not outputs.isfinite().all():
            raise ValueError("Expected finite outputs, got NaN or infinity; check the parameters and the inputs")
        if not with_matrix:
            return AffineMap(found.patterns, found.on_boundary, outputs, None, None)
        _check_bytes(outputs, rows)
        matrix = derivatives(found.outputs[: len(rows)], leaf)
    change = moved - outputs
    flat = matrix.flatten(2)  # (n, n_out, inputs)
    predicted = torch.einsum("noi,ni->no", flat, tangent.flatten(1))
    if (
        (predicted - change).abs() > _AGREEMENT * outputs.abs().amax().clamp(min=1e-300) + _AGREEMENT * change.abs()
    ).any():
        flat = torch.cat([_differences(network, row[None], snap) for row in rows])
    offset = outputs - torch.einsum("noi,ni->no", flat, rows.flatten(1))
    return AffineMap(found.patterns, found.on_boundary, outputs, flat.view(matrix.shape), offset)


def _check_bytes(outputs: Tensor, rows: Tensor) -> None:
    """Raise ValueError if the matrices (n, n_out, inputs) are too large."""
    needed = 8 * outputs.numel() * rows[0].numel()
    if needed > _MAX_BYTES:
        raise ValueError(
            f"Expected matrices A of at most {_MAX_BYTES / 2**30:g} GiB, got {needed / 2**30:,.3g} GiB for {len(rows)} "
            f"inputs with {outputs.shape[1]:,} outputs; pass fewer inputs at a time, or matrix=False for patterns alone"
        )


def follow(network: PiecewiseLinear, rows: Tensor, tangents: Tensor, snap: float) -> Followed:
    """Run rows (n, *shape), and rows moved by tangents (k, n, *shape), through the pieces of the rows."""
    n, copies, width = len(rows), 1 + len(tangents), _Width(snap)
    values = {0: torch.cat([rows, (rows + tangents).flatten(0, 1)])}
    patterns: dict[str, Tensor] = {}
    on_boundary = torch.zeros(n, dtype=torch.bool)
    for operation, unused in network.steps():
        inputs = [values[read] for read in operation.inputs]
        if isinstance(operation, Affine):
            new = operation.function(*inputs)
        elif isinstance(operation, Bend):
            new, patterns[operation.site], near = _bend(operation, inputs[0], n, copies, width)
            on_boundary |= near
        else:
            new, patterns[operation.site], near = _maximum(operation, inputs, n, copies, width)
            on_boundary |= near
        values[operation.output] = new
        values = {read: value for read, value in values.items() if read not in unused}
    return Followed(patterns, on_boundary, values[network.output].flatten(1))


def _bend(operation: Bend, z: Tensor, n: int, copies: int, width: _Width) -> tuple[Tensor, Tensor, Tensor]:
    """Return the values on the pieces of the first n rows, the pieces, and which rows are on a boundary."""
    base = z[:n].detach()
    flat = base.flatten(1)  # (n, units)
    units = flat.shape[1]
    slopes = operation.slopes.expand(-1, units)
    breakpoints = operation.breakpoints.expand(-1, units)
    pieces = (flat[:, None] > breakpoints).sum(1)
    slope = slopes.gather(0, pieces).view_as(base)
    change = z[n : 2 * n].detach().flatten(1) - flat
    near = [width.is_zero(flat - at) & (slopes[i] != slopes[i + 1]) for i, at in enumerate(breakpoints)]
    on_boundary = (torch.stack(near).any(0) & width.moves(change)).any(1)
    times = (copies, *[1] * (z.ndim - 1))
    new = operation.function(base).repeat(times) + slope.repeat(times) * (z - base.repeat(times))
    return new, pieces.to(torch.int16), on_boundary


def _maximum(
    operation: Maximum, inputs: list[Tensor], n: int, copies: int, width: _Width
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same for maxima: the piece is the number of the first largest candidate."""
    candidates = operation.candidates(*inputs)  # (n copies, units, k)
    with torch.no_grad():
        v, moved = candidates[:n], candidates[n : 2 * n]
        winner = v.argmax(2)
        shape = operation.function(*(value[:n] for value in inputs)).shape[1:]
        finite = v.isfinite()
        band = width.snap * v.where(finite, 0).abs().amax((1, 2), keepdim=True)
        change = (moved - v).where(finite, 0)
        lead = change.gather(2, winner[..., None])
        other = (change - lead).abs() > width.snap * change.abs().amax((1, 2), keepdim=True)
        on_boundary = (other & (v >= v.amax(2, keepdim=True) - band)).flatten(1).any(1)
    new = candidates.gather(2, winner[..., None].repeat(copies, 1, 1)).view(len(candidates), *shape)
    return new, winner.to(torch.int16), on_boundary


def derivatives(outputs: Tensor, leaf: Tensor) -> Tensor:
    """Return the derivatives (n, n_out, *shape) of outputs (n, n_out), each row of its own input."""
    found = leaf.new_zeros(len(leaf), outputs.shape[1], *leaf.shape[1:])
    for i, total in enumerate(outputs.sum(0) if outputs.requires_grad else ()):
        (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)
        if gradient is not None:
            found[:, i] = gradient
    return found


def _differences(network: PiecewiseLinear, row: Tensor, snap: float) -> Tensor:
    """Return the derivatives (1, n_out, inputs) at one row from a step along each axis, exact on a piece."""
    size = row.abs().amax().clamp(min=1)
    steps = size * torch.eye(row[0].numel(), dtype=torch.float64).view(-1, *row.shape)
    outputs = follow(network, row, steps, snap).outputs
    return ((outputs[1:] - outputs[:1]) / size).T[None]
