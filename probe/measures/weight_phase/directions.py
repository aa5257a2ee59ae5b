"""Directions along which the units of a layer are compared: given ones, or derived from gradients or targets."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.gradients import differentiable
from probe.forward.layers import IGNORED
from probe.forward.snapshot import Snapshot, generator
from probe.measures.weight_phase.units import capture_input, distinct_units, input_rows, output_rows
from probe.stats.validation import check_count

_ROWS = 4096  # gradients that count
_FLAT = 1e-6  # of the largest singular value: smaller ones are rounding


def given_overlaps(weights: Tensor, name: str, directions: Mapping[str, Any]) -> Tensor:
    """Return the overlaps with given directions, (directions, units)."""
    try:
        found = torch.as_tensor(directions[name], dtype=torch.float64, device=weights.device)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected numbers as directions of {name!r}, got others; pass an array") from error
    found = found[None] if found.ndim == 1 else found
    if found.ndim != 2 or not len(found) or found.shape[1] != weights.shape[1] or not found.isfinite().all():
        raise ValueError(
            f"Expected finite directions of {name!r} of shape ({weights.shape[1]},) or (k, {weights.shape[1]}), got "
            f"{tuple(found.shape)}; pass one number for each input of the layer"
        )
    sizes = found.abs().amax(1)  # the squares of very small or large numbers are 0 or infinite
    if not (sizes > 0).all():
        raise ValueError(f"Expected directions of {name!r} that are not 0, got one of length 0; leave it out")
    return nn.functional.normalize(found / sizes[:, None]) @ weights.T


def fourier_powers(weights: Tensor, name: str, period: int | None) -> Tensor:
    """Return the Fourier powers of all units and frequencies, over their mean, as one row (1, units * frequencies)."""
    p = weights.shape[1] if period is None else period
    if period is not None:
        check_count("period", period, 5)
    if p < 5 or weights.shape[1] % p:
        raise ValueError(
            f"Expected period= to divide the {weights.shape[1]} inputs of {name!r} and to be 5 or more, got {p}; pass "
            "the number of tokens, or layers="
        )
    blocks = weights[distinct_units(weights)].reshape(-1, p)
    power = torch.fft.rfft(blocks, norm="ortho").abs().square()[:, 1 : (p + 1) // 2]
    return (power / power.mean().clamp_min(torch.finfo(power.dtype).tiny)).flatten()[None]


def gradient_overlaps(
    snapshot: Snapshot, split: str, name: str, layer: nn.Module, weights: Tensor, rows: Tensor, count: int, seed: int
) -> Tensor | None:
    """Return the overlaps with the leading eigenvectors of the average gradient outer product, (directions, units).

    The gradient with respect to the inputs of the layer is the sum over units of their weights times the gradients at
    their outputs. Each half of the units has the eigenvectors of the sum over the other half: a direction that was
    found from a unit's own weights would favour it. Copies of a unit do not count.
    """
    gradients = torch.cat(list(_output_gradients(snapshot, split, name, layer, rows, seed)))[:_ROWS]
    if not gradients.isfinite().all() or not gradients.any():
        return None
    distinct = distinct_units(weights)
    order = distinct[torch.randperm(len(distinct), generator=generator(seed)).to(weights.device)]
    halves, found = order.chunk(2), weights.new_zeros(count, len(weights))
    if len(halves) < 2:
        return None
    for own, other in (halves, halves[::-1]):
        products = gradients[:, other] @ weights[other]
        _, sizes, vectors = torch.linalg.svd(products, full_matrices=False)
        vectors = vectors[:count][sizes[:count] > _FLAT * sizes[0]]
        found[: len(vectors), own] = vectors @ weights[own].T
    return found


def _output_gradients(
    snapshot: Snapshot, split: str, name: str, layer: nn.Module, rows: Tensor, seed: int
) -> Iterator[Tensor]:
    """Yield gradients at the outputs of a layer, of four random combinations of the outputs of the model."""
    signs = generator(seed)
    for part in rows.split(snapshot.graph_rows):
        inputs = snapshot.inputs(split, part)
        with differentiable(snapshot.model, inputs, name, snapshot.trace.output) as (leaf, returned):
            for _ in range(4):
                weights = torch.randn(returned.shape[1:], generator=signs).to(returned)
                (found,) = torch.autograd.grad(
                    (returned * weights).sum(), leaf, retain_graph=True, materialize_grads=True
                )
                yield output_rows(layer, found)


def target_overlaps(
    snapshot: Snapshot, split: str, name: str, layer: nn.Module, weights: Tensor, rows: Tensor, count: int
) -> Tensor | None:
    """Return the overlaps with the leading directions of the covariance of inputs and targets, (directions, units).

    They are the eigenvectors of H^T Y Y^T H, with the centred inputs H of the layer and the centred targets Y. Inputs
    without a target do not count.
    """
    targets = snapshot.data[split].targets
    value = capture_input(snapshot, split, name, layer, rows)
    if targets is None or value is None or len(targets) != len(snapshot.data[split]):
        return None
    columns, known = (part.to(weights.device) for part in _columns(targets[rows.to(targets.device)]))
    h = input_rows(layer, value).to(weights.device)
    if len(h) % len(columns):
        return None
    h, columns = h.view(len(columns), -1, h.shape[1]).mean(1)[known], columns[known]
    if not (len(h) and columns.shape[1] and h.isfinite().all()):
        return None
    _, sizes, vectors = torch.linalg.svd((columns - columns.mean(0)).T @ (h - h.mean(0)), full_matrices=False)
    vectors = vectors[:count][sizes[:count] > 1e-10 * sizes[0]]
    if not len(vectors):
        return None
    found = weights.new_zeros(count, len(weights))
    found[: len(vectors)] = vectors @ weights.T
    return found


def _columns(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return targets as numbers by column, with classes as unit vectors, and which inputs have a target."""
    if targets.is_floating_point():
        columns = targets.double().reshape(len(targets), -1)
        return columns, columns.isfinite().all(1)
    classes = targets.reshape(len(targets), -1)[:, -1]
    values = classes[classes != IGNORED].unique()
    return (classes[:, None] == values).double(), classes != IGNORED
