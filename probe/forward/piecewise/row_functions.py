"""Functions on rows from the calls of a recording."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.forward.piecewise.constants import Constants, on_cpu
from probe.forward.piecewise.operations import RESHAPES, SPLITS
from probe.forward.piecewise.row_layouts import ROWS, RowLayout
from probe.forward.piecewise.tape import Call, Value


@dataclass(frozen=True)
class Source:
    """A value that an operation reads: its number in the recording, its place in the network, and its layout."""

    number: int
    place: int
    layout: RowLayout


def row_function(
    calls: tuple[Call, Call], item: int, read: Sequence[Source], out: RowLayout, constants: Constants
) -> Callable[..., Tensor]:
    """Return the function that computes one output of a call from rows (n, ...) of the values that it reads.

    Parameters
    ----------
    calls
        The call, in the recordings on 2 and on 3 rows.
    item
        Number of the output.
    read
        The values that depend on the start.
    out
        Layout of the output.
    constants
        All other values.
    """
    two, three = calls
    layouts = [source.layout for source in read]
    if two.name in RESHAPES or (two.name in SPLITS and len(two.outputs) == 1):
        (layout,) = layouts
        return lambda rows: out.to_rows(layout.from_rows(rows).reshape(out.size(len(rows))))
    plan = _Plan(calls, {source.number: place for place, source in enumerate(read)}, constants)
    args = [plan.argument(*pair) for pair in zip(two.args, three.args, strict=True)]
    operation, kwargs = _without_writes(two.operation), on_cpu(two.kwargs)

    def function(*rows: Tensor) -> Tensor:
        n = len(rows[0])
        values = [layout.from_rows(each) for layout, each in zip(layouts, rows, strict=True)]
        result = operation(*(arg(n, values) if callable(arg) else arg for arg in args), **kwargs)
        return out.to_rows(result[item] if isinstance(result, (tuple, list)) else result)

    return function


@dataclass(frozen=True)
class _Plan:
    """How the arguments of a call follow from the number of rows and the values that it reads."""

    calls: tuple[Call, Call]
    places: Mapping[int, int]
    constants: Constants

    def argument(self, two: Any, three: Any) -> Any:
        """Return an argument, or else a function of the number of rows and the values that returns the argument."""
        if isinstance(two, Value):
            return self._tensor(two, three)
        if type(two) is tuple:
            parts = [self.argument(*pair) for pair in zip(two, three, strict=True)]
            if not any(map(callable, parts)):
                return tuple(parts)
            return lambda n, values: tuple([part(n, values) if callable(part) else part for part in parts])
        if type(two) is int and two != three:  # a size, which is linear in the number of rows
            return lambda n, values: two + (three - two) * (n - ROWS[0])
        return two

    def _tensor(self, two: Value, three: Value) -> Any:
        if two.number in self.places:
            place = self.places[two.number]
            return lambda n, values: values[place]
        constant = self.constants.for_rows(self.calls[0], two.number, three.number)
        return constant.value if constant.layout is None else lambda n, values: constant.at(n)


def _without_writes(operation: Any) -> Any:
    """Return the form of an operation that does not write in place."""
    if not operation._schema.is_mutable:
        return operation
    return getattr(torch.ops.aten, operation._schema.name.split("::")[1].removesuffix("_"))
