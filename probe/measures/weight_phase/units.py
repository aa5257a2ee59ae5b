"""The weight vectors of the units of a layer, and what the layer computes from its inputs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.forward.effective_weights import effective_weights
from probe.forward.layers import Layers, named_layers, select_layers
from probe.forward.snapshot import Snapshot, generator

_CONVOLUTIONS = nn.Conv1d, nn.Conv2d
_LEAST_INPUTS, _SAME, _MOST_COMPARED = 4, 1e-9, 2048
_NEAR = 0.05, 0.01, 1e-3, 1e-6  # of the size of a unit


def measured_layers(snapshot: Snapshot, layers: Layers) -> dict[str, nn.Module]:
    """Return the selected layers whose units have weight vectors, by name: Linear, Conv1d, Conv2d, Embedding."""
    found = {
        name: layer for name, layer in {"": snapshot.model, **named_layers(snapshot.model)}.items() if _fits(layer)
    }
    if layers is not None:
        chosen = select_layers(snapshot.model, layers, snapshot.trace.order)
        found = {name: layer for name, layer in found.items() if name in chosen}
    if not found:
        raise ValueError(
            f"Expected layers= to select Linear, Conv1d, Conv2d (one group) or Embedding layers, got none in {layers!r}"
            "; correct layers=, or leave WeightPhaseProbe out"
        )
    return found


def _fits(layer: nn.Module) -> bool:
    whole = isinstance(layer, _CONVOLUTIONS) and layer.groups == 1
    return isinstance(layer, nn.Linear | nn.Embedding) or whole


def unit_weights(model: nn.Module, layers: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Return the weights of the units of each layer, (units, inputs), in float64.

    A unit of an embedding is a dimension, and its inputs are one-hot vectors of the tokens.
    """
    matrices, found = effective_weights(model), {}
    for name, layer in layers.items():
        key = f"{name}.weight".lstrip(".")
        weight = matrices.matrices.get(matrices.tied.get(key, key))
        if weight is not None:
            weight = weight.detach().double().flatten(1)
            found[name] = weight.T if isinstance(layer, nn.Embedding) else weight
    return found


def distinct_units(weights: Tensor) -> Tensor:
    """Return the indices of the units that are no copy of another unit, up to the sign, in increasing order.

    Copies are not independent. Two units are copies if their difference is at most 5 % of the smaller of both, and of
    the median distance of either to the other units. This holds for noise of about 1 % of the spread of the weights.
    There must be half as many pairs at up to twice this distance at most. Otherwise, as for units in a plane, the
    tolerance is 1 %, .1 % or 1e-6. Units of weights 0 are kept. With fewer than four inputs, equal units can be
    rounded. Of more than 2,048 units, copies differ by at most 1e-9.
    """
    distinct = torch.arange(len(weights), device=weights.device)
    if weights.shape[1] < _LEAST_INPUTS or not weights.isfinite().all() or not weights.any():
        return distinct
    rows = weights / weights.abs().max()
    distinct = distinct[_first_of_equal(rows)]
    return distinct[_first_of_near(rows[distinct])] if len(distinct) <= _MOST_COMPARED else distinct


def _first_of_equal(rows: Tensor) -> Tensor:
    """Return which rows equal no earlier one within 1e-9, (units,). Rows of 0 count as distinct."""
    signed = rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
    mixing = torch.randn(rows.shape[1], generator=generator(0), dtype=torch.float64).to(rows)
    order = (signed @ mixing).argsort(stable=True)
    ranked = signed[order]
    copies = ((ranked[1:] - ranked[:-1]).abs().amax(1) <= _SAME) & ranked[1:].any(1)
    first = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    first[order[1:][copies]] = False
    return first


def _first_of_near(rows: Tensor) -> Tensor:
    """Return which rows are near no earlier one, (units,)."""
    squares, products = rows.square().sum(1), rows @ rows.T
    distances = (squares[:, None] + squares - 2 * products.abs()).clamp_min(0).sqrt()
    scale = torch.minimum(squares.sqrt(), distances.median(1).values)
    shares = (distances / torch.minimum(scale[:, None], scale).clamp_min(torch.finfo(rows.dtype).tiny)).tril(-1)
    shares[torch.ones_like(shares, dtype=torch.bool).triu()] = torch.inf
    shares[squares == 0] = torch.inf
    for tolerance in _NEAR:
        near = int((shares <= tolerance).sum())
        ring = int((shares <= 2 * tolerance).sum()) - near
        if near >= 2 * ring + 3 * ring**0.5:
            return ~(shares <= tolerance).any(1)
    return squares >= 0


def input_rows(layer: nn.Module, value: Tensor) -> Tensor:
    """Return the inputs of a layer as one row for each of its outputs in each position, (rows, inputs)."""
    if isinstance(layer, nn.Embedding):
        return F.one_hot(value.long(), layer.num_embeddings).flatten(0, -2).double()
    if not isinstance(layer, _CONVOLUTIONS):
        return value.flatten(0, -2).double()
    size, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    value = F.pad(value.double(), layer._reversed_padding_repeated_twice, mode)
    if isinstance(layer, nn.Conv1d):
        value = value[:, :, None]
        size, stride, dilation = (1, *size), (1, *stride), (1, *dilation)
    patches = F.unfold(value, size, dilation, 0, stride)
    return patches.movedim(1, 2).flatten(0, 1)


def output_rows(layer: nn.Module, value: Tensor) -> Tensor:
    """Return outputs of a layer, or gradients there, as one row for each position, (rows, units)."""
    rows = value.movedim(1, -1) if isinstance(layer, _CONVOLUTIONS) else value
    return rows.flatten(0, -2).double()


def positions(layer: nn.Module, value: Tensor) -> int:
    """Return the number of rows of :func:`input_rows` for each input of the model."""
    return output_rows(layer, value).shape[0] // value.shape[0]


def capture_input(snapshot: Snapshot, split: str, name: str, layer: nn.Module, rows: Tensor) -> Tensor | None:
    """Return the value that a layer receives in its first call, or None if it is not called."""
    found: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: found.append(args[0].detach()) if args else None)
    try:
        snapshot.outputs(split, [name], rows=rows)
    finally:
        handle.remove()
    return torch.as_tensor(found[0]) if found else None
