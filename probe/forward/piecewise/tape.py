"""Tapes: the ATen operations of a forward pass, what each one reads, and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


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
        return name_of(self.operation)

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

    @property
    def precision(self) -> float:
        """Relative precision of the coarsest floating-point numbers of the pass."""
        return max(torch.finfo(tensor.dtype).eps for tensor in self.tensors if tensor.is_floating_point())


def replaced(part: Any, function: Callable[[Any], Any]) -> Any:
    """Return arguments of a call with each item replaced, also those in lists and mappings."""
    if isinstance(part, dict):
        return {key: replaced(each, function) for key, each in part.items()}
    if type(part) in (tuple, list):
        return tuple([replaced(each, function) for each in part])
    return function(part)


def name_of(operation: Any) -> str:
    """Return the name of an operation, without the underscore of a write in place."""
    return str(operation._schema.name).split("::")[1].removesuffix("_")


def values_in(part: Any) -> list[Value]:
    """Return the values among the arguments of a call."""
    found: list[Value] = []
    replaced(part, lambda item: found.append(item) if isinstance(item, Value) else None)
    return found
