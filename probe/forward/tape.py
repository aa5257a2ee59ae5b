"""Record the operations of a forward pass: which numbers each one reads, and what it returns.

:func:`record` runs a model in evaluation mode on a few rows, and lists the calls of ATen operations below it. Writes in
place are replaced by functions that return new values, so each value has one origin. The model runs twice, on 2 and on
3 rows. From the two recordings follow the sizes that depend on the number of rows, and where the rows of a value are.
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
    """Number of a tensor of a recording, in the place of the tensor among the arguments of a call."""

    number: int


@dataclass(frozen=True)
class Call:
    """Call of an operation.

    Attributes
    ----------
    function
        The ATen operation.
    args, kwargs
        Its arguments, with a :class:`Value` in the place of each tensor.
    outputs : tuple of Value or None
        The tensors that it returns.
    module : str
        Name of the module that runs.
    site : str
        Name of the input of the activation function that runs, or an empty string.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Value | None, ...]
    module: str
    site: str


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

    def __init__(self, tape: Tape, where: Callable[[], tuple[str, str]]) -> None:
        super().__init__()
        self.tape = tape
        self._where = where
        self._numbers: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _replaced(args, self._read), _replaced(kwargs or {}, self._read)
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        made = tuple(self._write(item) if isinstance(item, Tensor) else None for item in outputs)
        self.tape.calls.append(Call(func, *given, made, *self._where()))
        return result

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor. One that no call has returned gets a new number."""
        return self._read(tensor).number if isinstance(tensor, Tensor) else -1

    def _read(self, item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        known = self._numbers.get(id(item))
        return self._write(item) if known is None else Value(known)

    def _write(self, tensor: Tensor) -> Value:
        self.tape.tensors.append(tensor)
        self._numbers[id(tensor)] = len(self.tape.tensors) - 1
        return Value(len(self.tape.tensors) - 1)


class _TapedActivations(ActivationMode):
    """Mode that notes the activation function that runs."""

    site = ""

    def _finish(self, func: Any, site: str, x: Tensor, new: Tensor, args: Any, kwargs: Any) -> Any:
        self.site = site
        try:
            return super()._finish(func, site, x, new, args, kwargs)
        finally:
            self.site = ""

    @property
    def caller(self) -> str:
        """Name of the module that runs."""
        return self._callers[-1]


class _TapedPass(Pass):
    """Forward pass whose value at one site is a given tensor."""

    def __init__(self, model: nn.Module, start: str, values: Callable[[Tensor], Tensor], output: Select) -> None:
        super().__init__(model, (), output=output)
        self._start, self._values = start, values
        self._hooked |= {start, *self.modules}
        self._mode = _TapedActivations(self.modules, self._visit, lambda: self._in_callback, self._calls)
        self._activations = self._mode
        self.returned: Tensor | None = None

    def where(self) -> tuple[str, str]:
        """Return the module and the site of the activation function that run."""
        return self._mode.caller, self._mode.site

    def _visit_input(self, inputs: Any) -> Any:
        if self._start != INPUT:
            return inputs
        first = first_floating(inputs)
        new = self._values(first)
        return map_leaves(inputs, lambda leaf: new if leaf is first else leaf)

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        return self._values(tensor) if site == self._start else tensor

    def _visit_output(self, output: Any) -> None:
        self.returned = tensor_of(output, "the model", self._output)


def first_floating(inputs: Any) -> Tensor:
    """Return the first tensor with rows of floating-point numbers."""
    leaves = (leaf for leaf in leaves_of(inputs) if isinstance(leaf, Tensor) and leaf.ndim)
    return next(leaf for leaf in leaves if leaf.is_floating_point())


def value_at(model: nn.Module, inputs: Any, site: str) -> Tensor:
    """Return the value of a site for inputs."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor.detach().clone())
        return tensor

    with isolated(model), _TapedPass(model, site, keep, None) as forward:
        forward.run_inputs(inputs)
    return found[0]


def output_of(model: nn.Module, inputs: Any, site: str, rows: Tensor, output: Select) -> Tensor:
    """Return the output of the model if a site has these values."""
    with isolated(model), _TapedPass(model, site, lambda _: rows.clone(), output) as forward:
        forward.run_inputs(inputs)
    assert forward.returned is not None
    return forward.returned


def record(model: nn.Module, inputs: Any, site: str, rows: Tensor, output: Select = None) -> Tape:
    """Record the forward pass of a model on inputs, with these values at a site."""
    tape, start = Tape(), rows.clone()
    given = [leaf.clone() for leaf in leaves_of(inputs) if isinstance(leaf, Tensor)]

    def run(values: Tensor, *tensors: Tensor) -> Tensor:
        items = iter(tensors)
        forward = _TapedPass(model, site, lambda _: values, output)
        recorder._where = forward.where
        with forward:
            forward.run_inputs(map_leaves(inputs, lambda leaf: next(items) if isinstance(leaf, Tensor) else leaf))
        assert forward.returned is not None
        return forward.returned

    recorder = _Recorder(tape, lambda: ("", ""))
    tape.start = recorder.number(start)
    with isolated(model), recorder:
        returned = torch.func.functionalize(run, remove="mutations")(start, *given)
    tape.output = recorder.number(returned)
    return tape


def _replaced(item: Any, function: Callable[[Any], Any]) -> Any:
    """Return arguments with their tensors replaced, also those in lists."""
    if isinstance(item, dict):
        return {key: _replaced(value, function) for key, value in item.items()}
    if isinstance(item, (tuple, list)):
        return tuple(_replaced(part, function) for part in item)
    return function(item)
