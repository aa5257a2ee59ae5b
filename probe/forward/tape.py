"""Recordings of forward passes: the ATen operations that run, what each one reads, and what it returns.

:func:`record` runs a model in evaluation mode, with given values at one site. Writes in place become functions that
return new values, so that each value has one origin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from probe.forward.activations import ActivationMode
from probe.forward.data import leaves_of, map_leaves
from probe.forward.isolation import isolated
from probe.forward.layers import INPUT
from probe.forward.outputs import Select, tensor_of
from probe.forward.passes import Pass


class Value(NamedTuple):
    """Number of a tensor of a recording. It stands for the tensor among the arguments of a call."""

    number: int


@dataclass(frozen=True)
class Call:
    """Call of an operation.

    Attributes
    ----------
    operation : OpOverload
    args, kwargs
        Its arguments, with a :class:`Value` for each tensor. Lists are tuples.
    outputs : tuple of Value or None
        The tensors that it returns.
    module : str
        Name of the module that runs.
    function : str
        Name of the function of ``torch`` that runs, such as ``"layer_norm"``.
    site : str
        Name of the site of the activation function that runs. Empty if there is none.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Value | None, ...]
    module: str
    function: str
    site: str

    @property
    def name(self) -> str:
        """Name of the operation, without the underscore of a write in place."""
        return str(self.operation._schema.name).split("::")[1].removesuffix("_")

    @property
    def reads(self) -> list[int]:
        """Numbers of all tensors among the arguments."""
        return [value.number for value in values_in((self.args, dict(self.kwargs)))]

    @property
    def writes(self) -> list[int]:
        """Numbers of all tensors that it returns."""
        return [value.number for value in self.outputs if value is not None]


@dataclass
class Tape:
    """Recording of a forward pass.

    Attributes
    ----------
    calls : list of Call
    tensors : list of Tensor
        All tensors by number.
    start, output : int
        Numbers of the value at which the pass starts, and of the output of the model.
    """

    calls: list[Call] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    start: int = -1
    output: int = -1


class _Recorder(TorchDispatchMode):
    """Mode that adds each operation to a tape."""

    def __init__(self, tape: Tape, forward: "_StartedPass") -> None:
        super().__init__()
        self._tape, self._forward = tape, forward
        self._numbers: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first use imports the compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = replaced(args, self._read), replaced(kwargs or {}, self._read)
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        made = tuple(self._write(item) if isinstance(item, Tensor) else None for item in outputs)
        self._tape.calls.append(Call(func, *given, made, *self._forward.where()))
        return result

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor, a new one for a tensor that no operation has read or returned."""
        known = self._numbers.get(id(tensor))
        return self._write(tensor).number if known is None else known

    def _read(self, item: Any) -> Any:
        return Value(self.number(item)) if isinstance(item, Tensor) else item

    def _write(self, tensor: Tensor) -> Value:
        self._tape.tensors.append(tensor)  # also keeps it alive, so that its id stays its own
        self._numbers[id(tensor)] = len(self._tape.tensors) - 1
        return Value(len(self._tape.tensors) - 1)


class _NamingMode(ActivationMode):
    """Mode that notes which function of ``torch`` runs, and its site if it is an activation function."""

    function = ""
    site = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.function = getattr(func, "__name__", "")
        try:
            return super().__torch_function__(func, types, args, kwargs)
        finally:
            self.function = ""

    def _finish(self, func: Any, site: str, x: Tensor, new: Tensor, args: Any, kwargs: Any) -> Any:
        self.site = site
        try:
            return super()._finish(func, site, x, new, args, kwargs)
        finally:
            self.site = ""

    def where(self) -> tuple[str, str, str]:
        """Return the names of the module, the function and the site that run."""
        return getattr(self, "_callers", [""])[-1], self.function, self.site


class _StartedPass(Pass):
    """Forward pass in which ``replace(value)`` replaces the value of one site.

    The value of :data:`~probe.INPUT` is that of the first floating-point input.
    """

    def __init__(self, model: nn.Module, start: str, replace: Callable[[Tensor], Tensor], output: Select) -> None:
        super().__init__(model, (), output=output)
        self._start, self._replace = start, replace
        self._hooked |= {start, *self.modules}
        self._activations = mode = _NamingMode(self.modules, self._visit, lambda: False, self._calls)
        self.where = mode.where
        self.returned: Tensor | None = None

    def _visit_input(self, inputs: Any) -> Any:
        if self._start != INPUT:
            return inputs
        first = next(leaf for leaf in leaves_of(inputs) if has_floating_rows(leaf))
        new = self._replace(first)
        return map_leaves(inputs, lambda leaf: new if leaf is first else leaf)

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        return self._replace(tensor) if site == self._start else tensor

    def _visit_output(self, output: Any) -> None:
        self.returned = tensor_of(output, "the model", self._output)

    def output_for(self, inputs: Any) -> Tensor:
        """Run the model, and return its output."""
        with self:
            self.run_inputs(inputs)
        assert self.returned is not None
        return self.returned


def has_floating_rows(leaf: Any) -> bool:
    """Return whether a part of the inputs holds rows of floating-point numbers."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.is_floating_point()


def value_at(model: nn.Module, inputs: Any, site: str, output: Select = None) -> Tensor | None:
    """Return the value of a site for inputs. Return None if the pass does not visit it."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor.detach().clone())
        return tensor

    with isolated(model):
        _StartedPass(model, site, keep, output).output_for(inputs)
    return found[0] if found else None


def output_of(model: nn.Module, inputs: Any, site: str, rows: Tensor, output: Select = None) -> Tensor:
    """Return the output of a model if a site has these values."""
    with isolated(model):
        return _StartedPass(model, site, lambda _: rows.clone(), output).output_for(inputs).detach()


def record(model: nn.Module, inputs: Any, site: str, rows: Tensor, output: Select = None) -> Tape:
    """Record the forward pass of a model on inputs, if a site has these values."""
    tape, start = Tape(), rows.clone()
    given = [leaf.clone() for leaf in leaves_of(inputs) if isinstance(leaf, Tensor)]
    started: list[Tensor] = []
    forward = _StartedPass(model, site, lambda _: started[0], output)
    recorder = _Recorder(tape, forward)
    tape.start = recorder.number(start)

    def run(values: Tensor, *tensors: Tensor) -> Tensor:
        started.append(values)
        items = iter(tensors)
        return forward.output_for(map_leaves(inputs, lambda leaf: next(items) if isinstance(leaf, Tensor) else leaf))

    with isolated(model), recorder:
        tape.output = recorder.number(torch.func.functionalize(run, remove="mutations")(start, *given))
    return tape


def replaced(part: Any, function: Callable[[Any], Any]) -> Any:
    """Return arguments of a call with each item replaced, also those in lists and mappings."""
    if isinstance(part, dict):
        return {key: replaced(each, function) for key, each in part.items()}
    if type(part) in (tuple, list):
        return tuple([replaced(each, function) for each in part])
    return function(part)


def values_in(part: Any) -> list[Value]:
    """Return the values among the arguments of a call."""
    found: list[Value] = []
    replaced(part, lambda item: found.append(item) if isinstance(item, Value) else None)
    return found
