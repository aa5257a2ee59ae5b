"""The layers that lines can lie in, and the part of a network after a layer as a function of its value."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from probe.forward.activations import is_hidden_value
from probe.forward.call_graph import is_unmodified
from probe.forward.calls import call_name, called_module
from probe.forward.layers import INPUT, OUTPUT, Layers
from probe.forward.outputs import Reduce
from probe.forward.sites import TRACE_ROWS
from probe.forward.snapshot import Snapshot
from probe.reads import holds

ROUNDING = 1e-5  # of the largest output: the float32 rounding between batches is smaller
# Bytes of the rows of a forward pass at its widest site, unless batch_size is smaller.
_BYTES = {"cpu": 16 << 20}
_BYTES_ELSEWHERE = 256 << 20
_AFFINE = (nn.Linear, nn.Identity, nn.Dropout)  # in evaluation mode; not their subclasses


class NotMeasured(Exception):  # noqa: N818
    """Raised if some forward passes do not visit the layer or the output, as in a model with early exits."""


@dataclass(frozen=True)
class SuffixMap:
    """Function from values of a layer to a later output, for some inputs of a split.

    :func:`probe.geometry.pairwise_linearity` calls it with ``(points, first)``: values of the layer ``points`` (m,
    ...), and the places ``first`` (lines,) in ``rows`` of the inputs that they belong to, where m is a multiple of the
    number of lines. It returns the outputs (m, K).
    """

    snapshot: Snapshot
    split: str
    layer: str
    output: str
    rows: Tensor
    reduce: Reduce = None

    @property
    def batch_size(self) -> int:
        """Number of rows in a forward pass: fewer than that of the snapshot if they are wide."""
        size, order = _BYTES.get(self.snapshot.device.type, _BYTES_ELSEWHERE), self.snapshot.trace.order
        end = self.output if self._head is None else order[order.index(self._head) - 1]
        return min(self.snapshot.batch_size, self.snapshot.rows_within(size, self.layer, end))

    @cached_property
    def _head(self) -> str | None:
        """The linear map that returns the output, if only the last position of its result is measured."""
        if self.reduce not in (None, "last") or self.snapshot.data[self.split].mask is not None:
            return None
        return linear_head(self.snapshot, self.output)

    def __call__(self, points: Tensor, first: Tensor) -> Tensor:
        """Return the outputs for these values of the layer."""
        rows = self.rows[first].repeat(len(points) // len(first))
        output = self.output if self._head is None else self._head
        with nullcontext() if self._head is None else _last_position(self.snapshot.modules[self._head]):
            found = self.snapshot.outputs_from(
                self.split,
                self.layer,
                lambda at: points[at.start : at.stop],
                [output],
                rows=rows,
                reduce=self.reduce,
                batch_size=self.batch_size,
            )
        if output not in found:
            raise NotMeasured
        return found[output].flatten(1)

    def end_points(self) -> "EndPoints":
        """Return the values of the layer and of the output for the inputs themselves."""
        n = len(self.rows)
        values = self.snapshot.outputs(self.split, [self.layer], reduce="none", rows=self.rows).get(self.layer)
        if values is None:
            raise NotMeasured
        outputs = self(values.clone(), torch.arange(n))
        if len(outputs) != n:
            raise ValueError(
                f"Expected one row for each of {n} outputs, got {len(outputs)} rows from reduce={self.reduce!r}; "
                "pass another reduce"
            )
        others = self(values[1:].clone(), torch.arange(n - 1))
        if others.shape[1:] != outputs.shape[1:]:
            raise ValueError(
                f"Expected outputs of one shape for any number of inputs, got {outputs.shape[1]} numbers with {n} "
                f"inputs and {others.shape[1]} with {n - 1}; attach with output=, a part of what the model returns "
                "that has its own row for each input, or leave this probe out"
            )
        around = (others - outputs[1:]).abs().max() > ROUNDING * outputs.abs().max()
        return EndPoints(values, outputs, holds(around))


@dataclass(frozen=True)
class EndPoints:
    """Values of a layer and of an output for n inputs.

    Attributes
    ----------
    values : Tensor of shape (n, ...)
    outputs : Tensor of shape (n, K)
    around : whether the output of an input differs if the layer passes on its value for another input, so that the
        output also depends on values that do not pass through the layer
    """

    values: Tensor
    outputs: Tensor
    around: bool


def line_layers(snapshot: Snapshot, layers: Layers, output: str) -> list[str]:
    """Return the layers that the lines lie in, all before the output; by default the first hidden representation."""
    order = snapshot.trace.order
    chosen = [_first(snapshot)] if layers is None else snapshot.select(layers)
    if output not in order:
        if output == OUTPUT:
            snapshot.trace.check_output(None)
        raise ValueError(f"Expected output= to name one of {', '.join(order)}, got {output!r}; pass one of them")
    for layer in chosen:
        if layer not in order:
            raise ValueError(
                f"Expected a layer that fires for the first {TRACE_ROWS} inputs of a split, got {layer!r}, which does "
                "not; choose another layer"
            )
        if not snapshot.trace.is_floating(layer):
            raise ValueError(
                f"Expected floating-point numbers in layer {layer!r}, got a layer that "
                f"{snapshot.trace.describe(layer)}; choose another layer"
            )
        if not snapshot.trace.has_rows(layer):
            raise ValueError(
                f"Expected one row for each of {TRACE_ROWS} inputs, got layer {layer!r} of shape "
                f"{snapshot.trace.shapes[layer]}; choose another layer"
            )
        if order.index(layer) >= order.index(output):
            raise ValueError(
                f"Expected layers before the output, got layer {layer!r}, which does not come before "
                f"output={output!r}; choose by the order {', '.join(order)}"
            )
    return chosen


def _first(snapshot: Snapshot) -> str:
    """Return the first block, else the output of the first activation function, else the first layer."""
    first = snapshot.select(None)[0]
    block = any(name.startswith(f"{first}.") for name in snapshot.modules)
    hidden = (site for site in snapshot.trace.order if not block and is_hidden_value(site))
    after = next((site for site in hidden if snapshot.receiving_all([site])), None)
    if after is not None and not after.startswith(f"{first}:"):
        return after
    return INPUT if first == OUTPUT else first  # a model of a single layer is a suffix of its input


def linear_head(snapshot: Snapshot, output: str) -> str | None:
    """Return the linear layer whose result, with one row for each position, is the output and nothing else.

    It maps each position by itself, so the last position of its input determines that of its result.
    """
    trace, modules = snapshot.trace, snapshot.modules
    returned = {link.name: name for name, link in trace.links.items() if not link.called}
    head = output
    while head in returned:
        head = returned[head]
    module = modules.get(head)
    if type(module) is not nn.Linear or not is_unmodified(module) or call_name(head, 2, modules) in trace.shapes:
        return None
    return head if len(trace.shapes.get(head, ())) == 3 and trace.has_rows(head) else None


@contextmanager
def _last_position(module: nn.Module) -> Iterator[None]:
    """Context manager in which a linear layer maps the last position of a sequence alone."""
    handle = module.register_forward_pre_hook(lambda module, args: (args[0][:, -1:],) if args else None)
    try:
        yield
    finally:
        handle.remove()


def affine_after(snapshot: Snapshot, site: str, output: str) -> str:
    """Return the last site to which affine modules alone lead from ``site``, so that lines remain lines."""
    modules = snapshot.modules
    while site != output and site in snapshot.trace.links:
        name, called = snapshot.trace.links[site]
        if name == OUTPUT or (called and not _affine(called_module(name, modules))):
            break
        site = name
    return site


def _affine(module: nn.Module | None) -> bool:
    return module is not None and type(module) in _AFFINE and not (module._forward_hooks or module._forward_pre_hooks)
