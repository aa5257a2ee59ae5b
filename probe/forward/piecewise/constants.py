"""The values of a recording that do not depend on the start of the pass, computed once, in float64, on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probe.forward.piecewise.operations import EMPTY
from probe.forward.piecewise.refusals import Refusal
from probe.forward.piecewise.row_layouts import RowLayout, agree, row_layout
from probe.forward.piecewise.tape import Call, Tape, Value, replaced

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Constant:
    """A value that does not depend on the start. If it has rows, they are equal, and one is kept."""

    value: Tensor
    layout: RowLayout | None = None

    def at(self, n: int) -> Tensor:
        """Return the value for n rows."""
        if self.layout is None:
            return self.value
        return self.layout.from_rows(self.value.expand(n, *self.value.shape[1:]))


class Constants:
    """Constants of recordings on 2 and on 3 rows."""

    def __init__(self, two: Tape, three: Tape, refusal: Refusal) -> None:
        self._two, self._three, self._refusal = two, three, refusal
        self._values: dict[int, Tensor] = {}  # for 2 rows

    def resolved(self, part: Any) -> Any:
        """Return arguments of a call with their values for 2 rows."""
        return replaced(part, lambda item: self._value(item.number) if isinstance(item, Value) else item)

    def compute(self, call: Call) -> None:
        """Compute what a call returns. Calls that write in place write to copies of parameters and buffers."""
        self._refusal.check_random(call)
        result = call.operation(*self.resolved(call.args), **on_cpu(self.resolved(call.kwargs)))
        if call.name in EMPTY:
            result.zero_()
        results = result if isinstance(result, (tuple, list)) else (result,)
        for value, tensor in zip(call.outputs, results, strict=True):
            if value is not None:
                self._values[value.number] = tensor.to(_promoted(tensor.dtype))

    def for_rows(self, call: Call, two: int, three: int) -> Constant:
        """Return a constant for any number of rows, from its numbers in the two recordings."""
        small, large = self._two.tensors[two], self._three.tensors[three]
        if small.shape == large.shape:
            return Constant(self._value(two))
        layout = row_layout(small, large, self._two.precision)
        rows = None if layout is None else layout.to_rows(self._value(two))
        if rows is None or not agree(rows[0], rows[1], self._two.precision):
            raise self._refusal(call, "a constant that depends on the number or the order of the rows")
        return Constant(rows[:1], layout)

    def _value(self, number: int) -> Tensor:
        if number not in self._values:  # a parameter, a buffer or an input
            tensor = self._two.tensors[number].detach()
            self._values[number] = tensor.to(_CPU, _promoted(tensor.dtype), copy=True)
        return self._values[number]


def on_cpu(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of an operation for float64 on the CPU."""
    found = {key: value for key, value in kwargs.items() if key not in ("pin_memory", "layout")}
    if found.get("device") is not None:
        found["device"] = _CPU
    if found.get("dtype") is not None:
        found["dtype"] = _promoted(found["dtype"])
    return found


def _promoted(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype.is_floating_point else dtype
