"""Where lines can be drawn in a network, and the part behind a layer as a function of its value."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.forward.layers import INPUT, OUTPUT, Layers, named_layers
from probe.forward.outputs import Reduce
from probe.forward.snapshot import Snapshot

ROUNDING = 1e-5  # of the largest output: float32 rounding of passes over other batches stays below
_AFFINE = (nn.Linear, nn.Identity, nn.Dropout)  # in evaluation mode; not their subclasses


@dataclass(frozen=True)
class Behind:
    """From a layer to a later output, for some inputs of a split.

    Called with ``(points, first)`` as :func:`probe.geometry.pairwise_linearity` does: the outputs (m, K) for
    values of the layer ``points`` (m, ...), a multiple of the inputs ``first`` (lines,), places in ``rows``.
    """

    snapshot: Snapshot
    split: str
    layer: str
    output: str
    rows: Tensor
    reduce: Reduce = None

    def __call__(self, points: Tensor, first: Tensor) -> Tensor:
        """The outputs for these values of the layer."""
        rows = self.rows[first.cpu()].repeat(len(points) // len(first))
        found = self.snapshot.outputs_from(
            self.split,
            self.layer,
            lambda at: points[at.start : at.stop],
            [self.output],
            rows=rows,
            reduce=self.reduce,
        )
        return found[self.output].flatten(1)

    def ends(self) -> "Ends":
        """What the layer and the output are for the inputs themselves."""
        n = len(self.rows)
        values = self.snapshot.outputs(self.split, [self.layer], reduce="none", rows=self.rows)[self.layer]
        if len(values) != n:
            raise ValueError(
                f"layer {self.layer!r} has shape {tuple(values.shape)} for {n} inputs, expected one row for each; "
                "choose another"
            )
        outputs = self(values.clone(), torch.arange(n))
        if len(outputs) != n:
            raise ValueError(f"reduce={self.reduce!r} makes {len(outputs)} rows of {n} outputs, expected as many")
        others = self(values[1:].clone(), torch.arange(n - 1))
        around = (others - outputs[1:]).abs().max() > ROUNDING * outputs.abs().max()
        return Ends(values, outputs, bool(around))


@dataclass(frozen=True)
class Ends:
    """What a layer and an output are for n inputs.

    Attributes
    ----------
    values : Tensor of shape (n, ...)
    outputs : Tensor of shape (n, K)
    around : whether an input's output is another where the layer passes on its value for another input: the output
        also hangs on what does not pass through the layer
    """

    values: Tensor
    outputs: Tensor
    around: bool


def line_layers(snapshot: Snapshot, layers: Layers, output: str) -> list[str]:
    """The layers to draw lines at, all before the output; by default the first hidden representation."""
    order, named = snapshot.trace.order, [layers] if isinstance(layers, str) else layers
    if named is None:
        chosen = [_first(snapshot)]
    elif isinstance(named, list) and all(isinstance(layer, str) and layer in order for layer in named):
        chosen = list(dict.fromkeys(named))
    else:
        chosen = snapshot.select(layers)
    if output not in order:
        raise ValueError(f"output={output!r} does not fire in this model; it has: {', '.join(order)}")
    for layer in chosen:
        if not snapshot.trace.is_floating(layer):
            raise ValueError(
                f"layer {layer!r} {snapshot.trace.describe(layer)}; lines need floating-point numbers, choose another "
                "layer"
            )
        if order.index(layer) >= order.index(output):
            raise ValueError(
                f"lines are followed from layers to output: layer {layer!r} does not come before "
                f"output={output!r}; the order is {', '.join(order)}"
            )
    return chosen


def _first(snapshot: Snapshot) -> str:
    """The first block, else what comes out of the first activation function, else the first layer."""
    first = snapshot.select(None)[0]
    block = any(name.startswith(f"{first}.") for name in named_layers(snapshot.model))
    after = next((site for site in snapshot.trace.order if site.endswith("->")), None)
    if not block and after is not None and not after.startswith(f"{first}:"):
        return after
    return INPUT if first == OUTPUT else first  # a model that is one layer is all tail


def affine_after(snapshot: Snapshot, site: str, output: str) -> str:
    """The last site up to which the value of ``site`` goes through affine modules: lines stay lines up to there."""
    modules = named_layers(snapshot.model)
    while site != output and site in snapshot.trace.links:
        name, called = snapshot.trace.links[site]
        if name == OUTPUT or (called and not _affine(modules[name])):
            break
        site = name
    return site


def _affine(module: nn.Module) -> bool:
    return type(module) in _AFFINE and not (module._forward_hooks or module._forward_pre_hooks)
