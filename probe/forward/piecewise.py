"""Piecewise-linear networks from models: the operations of a forward pass as a list of affine maps, bends and maxima."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.calls import CallCounter
from probe.forward.data import Batch, leaves_of, map_leaves, to_tensor
from probe.forward.isolation import device_of, torch_defaults
from probe.forward.layers import INPUT, named_layers, unwrap
from probe.forward.outputs import Select
from probe.forward.piecewise_operations import BENDS, is_affine
from probe.forward.tape import Call, Tape, Value, output_of, record, value_at
from probe.forward.tracing import trace
from probe.geometry.networks import Affine, Bend, Operation, PiecewiseLinear

_ROWS = 2, 3  # of the two recordings


def piecewise_linear(
    model: nn.Module, inputs: Any, *, stem: str | None = None, output: Select = None
) -> PiecewiseLinear:
    """Return the piecewise-linear network of a model.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : Tensor, tuple or mapping
        One or more rows, of which the first one counts.
    stem : str, optional
        Site at which the network starts. Default: the first floating-point input, or else the first layer that returns
        floating-point numbers.
    output
        What the output is, see :meth:`probe.Probe.attach`.

    Returns
    -------
    PiecewiseLinear

    See Also
    --------
    probe.geometry.PiecewiseLinear : The network.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import piecewise_linear
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> piecewise_linear(model, torch.ones(1, 3)).sites
    ['1:relu']
    """
    model = unwrap(model)
    batch = Batch(map_leaves(inputs, to_tensor), None)
    with torch_defaults():
        return _network(model, batch, stem, output)


def _network(model: nn.Module, batch: Batch, stem: str | None, output: Select) -> PiecewiseLinear:
    repeated = [batch.take(torch.zeros(n, dtype=torch.long), device_of(model))[0] for n in _ROWS]
    stem = stem or _stem(model, repeated[0])
    first = value_at(model, repeated[0], stem)[:1]
    rows = _rows_around(first, max(_ROWS))
    tapes = [
        record(model, given, stem, rows[: len(rows) - max(_ROWS) + n], output)
        for given, n in zip(repeated, _ROWS, strict=True)
    ]
    return _Builder(model, *tapes).network()


def _stem(model: nn.Module, inputs: Any) -> str:
    if any(isinstance(leaf, Tensor) and leaf.ndim and leaf.is_floating_point() for leaf in leaves_of(inputs)):
        return INPUT
    recorded = trace(model, inputs)
    return next(
        site for site in recorded.order if ":" not in site and recorded.is_floating(site) and recorded.has_rows(site)
    )


def _rows_around(first: Tensor, n: int) -> Tensor:
    """Return different rows near the first one."""
    random = torch.randn(n, *first.shape[1:], generator=torch.Generator().manual_seed(0))
    scale = first.abs().mean().clamp(min=1e-3) if first.any() else 1.0
    return first + scale * random.to(first)


@dataclass(frozen=True)
class _Layout:
    """Shape of a value for n rows, and where its rows are: at ``axis``, with ``block`` places for each row."""

    shape_2: tuple[int, ...]
    shape_3: tuple[int, ...]
    axis: int | None
    block: int
    outer: bool

    def shape(self, n: int) -> tuple[int, ...]:
        return tuple(two + (three - two) * (n - 2) for two, three in zip(self.shape_2, self.shape_3, strict=True))

    def to_rows(self, value: Tensor, n: int) -> Tensor:
        """Return a value with its rows first."""
        axis = self.axis
        if axis is None or (axis == 0 and self.block == 1):
            return value
        value = value.reshape(self.shape(n))
        if self.block == 1:
            return value.movedim(axis, 0)
        sizes = (n, self.block) if self.outer else (self.block, n)
        return value.unflatten(axis, sizes).movedim(axis if self.outer else axis + 1, 0)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Return a value whose rows come first in its own layout."""
        axis = self.axis
        if axis is None or (axis == 0 and self.block == 1):
            return rows
        if self.block == 1:
            return rows.movedim(0, axis)
        return rows.movedim(0, axis if self.outer else axis + 1).flatten(axis, axis + 1)


class _Builder:
    """Builds the network from the recordings on 2 and on 3 rows."""

    def __init__(self, model: nn.Module, two: Tape, three: Tape) -> None:
        self.modules = named_layers(model)
        self.two, self.three = two, three
        assert len(two.calls) == len(three.calls)
        self.depends = {two.start}
        self.needed = {two.output}
        self.places: dict[int, int] = {two.start: 0}
        self.constants: dict[int, Tensor] = {}
        self.operations: list[Operation] = []
        self.counter = CallCounter(self.modules)

    def network(self) -> PiecewiseLinear:
        for call in reversed(self.two.calls):
            if any(value and value.number in self.needed for value in call.outputs):
                self.needed |= {value.number for value in _values((call.args, call.kwargs))}
        for call, other in zip(self.two.calls, self.three.calls, strict=True):
            if any(value and value.number in self.needed for value in call.outputs):
                self._add(call, other)
        start = self.two.tensors[self.two.start]
        return PiecewiseLinear(tuple(self.operations), tuple(start.shape[1:]), self.places[self.two.output])

    def _add(self, call: Call, other: Call) -> None:
        name = call.function._schema.name.split("::")[1].removesuffix("_")
        depends = {i for i, arg in enumerate(call.args) if any(v.number in self.depends for v in _values(arg))}
        if not depends:
            self._add_constant(call)
            return
        self.depends |= {value.number for value in call.outputs if value}
        function = call.function
        inputs = [value.number for value in _values(call.args) if value.number in self.depends]
        template = _merged(call.args, other.args), _merged(call.kwargs, other.kwargs)
        for item, value in enumerate(call.outputs):
            if value is None or value.number not in self.needed:
                continue
            run = self._function(function, template, inputs, value, item, len(call.outputs))
            places = tuple(self.places[number] for number in inputs)
            self.places[value.number] = place = len(self.operations) + 1
            if name in BENDS:
                breakpoints, slopes = BENDS[name](*call.args[1:])
                site = call.site or self.counter.next(f"{call.module}:{name}")
                self.operations.append(Bend(places, place, run, site, _column(breakpoints), _column(slopes)))
            elif is_affine(name, call.args, depends):
                self.operations.append(Affine(places, place, run))
            else:
                raise ValueError(
                    f"Expected operations that are piecewise linear, got {name} in module {call.module!r}; "
                    "replace it, or leave out this probe"
                )

    def _function(
        self, function: Any, template: Any, inputs: list[int], value: Value, item: int, n_outputs: int
    ) -> Callable[..., Tensor]:
        args, kwargs = template
        layouts = [self._layout(number) for number in inputs]
        out = self._layout(value.number)
        places = {number: i for i, number in enumerate(inputs)}

        def run(*rows: Tensor) -> Tensor:
            n = len(rows[0])
            values = [layout.from_rows(each) for layout, each in zip(layouts, rows, strict=True)]

            def fill(part: Any) -> Any:
                if isinstance(part, Value):
                    return values[places[part.number]] if part.number in places else self._constant(part.number)
                if isinstance(part, _Size):
                    return part.two + (part.three - part.two) * (n - 2)
                if isinstance(part, tuple):
                    return tuple(fill(each) for each in part)
                return part

            result = function(*(fill(part) for part in args), **{key: fill(part) for key, part in kwargs.items()})
            return out.to_rows(result[item] if n_outputs > 1 else result, n)

        return run

    def _layout(self, number: int) -> _Layout:
        two, three = self.two.tensors[number], self.three.tensors[number]
        axes = [i for i, (a, b) in enumerate(zip(two.shape, three.shape, strict=True)) if a != b]
        axis = axes[0]
        block = three.shape[axis] - two.shape[axis]
        one = two.narrow(axis, 0, block), three.narrow(axis, 0, block)
        return _Layout(tuple(two.shape), tuple(three.shape), axis, block, torch.allclose(*one, atol=1e-5))

    def _constant(self, number: int) -> Tensor:
        if number not in self.constants:
            tensor = self.two.tensors[number].detach().cpu()
            self.constants[number] = tensor.double() if tensor.is_floating_point() else tensor
        return self.constants[number]

    def _add_constant(self, call: Call) -> None:
        args = _filled(call.args, self._constant)
        result = call.function(*args, **_filled(call.kwargs, self._constant))
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        for value, tensor in zip(call.outputs, outputs, strict=True):
            if value:
                self.constants[value.number] = tensor.double() if tensor.is_floating_point() else tensor


@dataclass(frozen=True)
class _Size:
    two: int
    three: int


def _merged(two: Any, three: Any) -> Any:
    if isinstance(two, dict):
        return {key: _merged(two[key], three[key]) for key in two}
    if type(two) is tuple:
        return tuple(_merged(a, b) for a, b in zip(two, three, strict=True))
    return _Size(two, three) if type(two) is int and two != three else two


def _filled(part: Any, constant: Callable[[int], Tensor]) -> Any:
    if isinstance(part, Value):
        return constant(part.number)
    if isinstance(part, dict):
        return {key: _filled(each, constant) for key, each in part.items()}
    return tuple(_filled(each, constant) for each in part) if type(part) is tuple else part


def _values(part: Any) -> list[Value]:
    if isinstance(part, Value):
        return [part]
    if isinstance(part, dict):
        part = tuple(part.values())
    return [value for each in part for value in _values(each)] if type(part) is tuple else []


def _column(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]
