"""The weight vectors of the units of a layer, and what the layer computes from its inputs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.forward.effective_weights import effective_weights
from probe.forward.layers import Layers, named_layers, select_layers
from probe.forward.snapshot import Snapshot

_CONVOLUTIONS = nn.Conv1d, nn.Conv2d


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


def input_rows(layer: nn.Module, value: Tensor) -> Tensor:
    """Return the inputs of a layer as one row for each of its outputs in each position, (rows, inputs)."""
    if isinstance(layer, nn.Embedding):
        return F.one_hot(value.long(), layer.num_embeddings).flatten(0, -2).double()
    if not isinstance(layer, _CONVOLUTIONS):
        return value.flatten(0, -2).double()
    size, stride, padding, dilation = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    if isinstance(padding, str):
        raise ValueError(f"Expected a padding in numbers, got {padding!r}; pass directions of this layer as arrays")
    if isinstance(layer, nn.Conv1d):
        value = value[:, :, None]
        size, stride, padding, dilation = (1, *size), (1, *stride), (0, *padding), (1, *dilation)
    patches = F.unfold(value.double(), size, dilation, padding, stride)
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
