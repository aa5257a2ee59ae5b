"""Build piecewise-linear networks from recordings of a forward pass on 2 and on 3 rows.

What does not depend on the stem is computed once, in float64, on the CPU. Each other operation is an affine map, a bend
or a maximum, see :mod:`probe.forward.piecewise.operations`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.calls import CallCounter
from probe.forward.layers import named_layers
from probe.forward.piecewise.constants import Constants
from probe.forward.piecewise.operations import (
    BENDS,
    FILLS,
    MAXIMA,
    MINIMA,
    PAIRWISE,
    READS,
    REPLACED,
    Number,
    why_not_affine,
)
from probe.forward.piecewise.refusals import NotPiecewiseLinearError, Refusal
from probe.forward.piecewise.row_functions import Source, row_function
from probe.forward.piecewise.row_layouts import RowLayout, row_layout
from probe.forward.piecewise.tape import Call, Tape, values_in
from probe.geometry.networks import Affine, Bend, Maximum, Operation, PiecewiseLinear, fused


class NetworkBuilder:
    """Builder of the network of a model.

    Parameters
    ----------
    model
    two, three
        Recordings on 2 and on 3 rows, of which the first two agree.
    """

    def __init__(self, model: nn.Module, two: Tape, three: Tape) -> None:
        self._two, self._three = two, three
        self._refusal = Refusal(model)
        self._constants = Constants(two, three, self._refusal)
        self._needed: set[int] = set()  # values on which the output depends
        self._sources = {two.start: Source(two.start, 0, RowLayout(tuple(two.tensors[two.start].shape), 0, 1))}
        self._operations: list[Operation] = []
        self._calls, self._known = CallCounter(named_layers(model)), {call.site for call in two.calls}

    def network(self) -> PiecewiseLinear:
        """Return the network.

        Raises
        ------
        NotPiecewiseLinearError
            If there is none.
        """
        for call, other in self._needed_calls:
            if self._depends.isdisjoint(call.writes):
                self._constants.compute(call)
            else:
                self._add(*_replaced_calls(call, other))
        if self._two.output not in self._sources:
            raise NotPiecewiseLinearError(
                "Expected an output that depends on the stem, got a constant one; choose another stem= or output="
            )
        shape = tuple(self._two.tensors[self._two.start].shape[1:])
        return fused(PiecewiseLinear(tuple(self._operations), shape, self._sources[self._two.output].place))

    @property
    def writes_in_place(self) -> bool:
        """Whether the output depends on a value that the pass writes in place, so that the value has two origins."""
        calls = [call for call, _ in self._needed_calls if call.operation._schema.is_mutable]
        return any(not self._depends.isdisjoint(call.writes) for call in calls)

    @property
    def output(self) -> RowLayout:
        """Layout of the output of the model, once the network is built."""
        return self._sources[self._two.output].layout

    @property
    def precision(self) -> float:
        """Relative precision of the coarsest numbers of the model."""
        return self._two.precision

    # -- which calls matter -----------------------------------------------------------------------------------------

    @cached_property
    def _depends(self) -> set[int]:
        """Numbers of the values that depend on the stem."""
        found = {self._two.start}
        for call in self._two.calls:
            if call.name not in FILLS and not found.isdisjoint(call.reads):
                if call.name in READS or self._has_dynamic_shape(call, found):
                    raise self._refusal(call, "a decision or a number of Python that depends on the input")
                found.update(call.writes)
        return found

    def _has_dynamic_shape(self, call: Call, depends: set[int]) -> bool:
        """Whether the shape of a result depends on the input: Python can read it without an operation."""
        deciding = call.args[1:] if call.name == "index" else call.args
        tagged = torch.Tag.dynamic_output_shape in call.operation.tags
        return tagged and any(value.number in depends for value in values_in(deciding))

    @cached_property
    def _needed_calls(self) -> list[tuple[Call, Call]]:
        """Return the calls of both recordings on which the output depends."""
        two, three = self._two, self._three
        if [call.operation for call in two.calls] != [call.operation for call in three.calls]:
            raise NotPiecewiseLinearError(
                "Expected the same operations for any number of rows, got others for 2 and for 3 rows; leave out this "
                "probe, or change the model so that the size of a batch does not decide which operations run"
            )
        memory = {self._memory(two.output)}
        self._needed, found = {two.output}, []
        for call, other in zip(reversed(two.calls), reversed(three.calls), strict=True):
            in_place = call.operation._schema.is_mutable and any(self._memory(each) in memory for each in call.writes)
            if in_place or not self._needed.isdisjoint(call.writes):
                if call.name not in FILLS:
                    self._needed.update(call.reads)
                    memory.update(map(self._memory, call.reads))
                found.append((call, other))
        return found[::-1]

    def _memory(self, number: int) -> int:
        """Return the address of a value, by which writes to parts of it are found."""
        tensor = self._two.tensors[number]
        return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else -number

    # -- operations -------------------------------------------------------------------------------------------------

    def _add(self, call: Call, other: Call) -> None:
        """Add the operations that compute the values of a call."""
        add = self._kind(call)
        read = [self._sources[number] for number in dict.fromkeys(call.reads) if number in self._depends]
        for item, (value, again) in enumerate(zip(call.outputs, other.outputs, strict=True)):
            if value is not None and again is not None and value.number in self._needed:
                out = self._layout(call, value.number, again.number)
                same = [self._broadcast(source, out) for source in read] if call.name in BENDS else read
                function = row_function((call, other), item, same, out, self._constants)
                self._sources[value.number] = Source(value.number, add(call, same, out, function), out)

    def _kind(self, call: Call) -> Callable[..., int]:
        """Return the method that adds a call, or refuse the call."""
        name, positions = call.name, {i for i, arg in enumerate(call.args) if self._reads(arg)}
        self._refusal.check_random(call)
        if name in PAIRWISE and positions == {0, 1}:
            return self._add_maximum
        if name in BENDS and (positions == {0} or (name in PAIRWISE and positions == {1})):
            return self._add_bend
        if name in MAXIMA or name in MINIMA:
            return self._add_maximum
        if reason := why_not_affine(name, call.args, call.kwargs, positions):
            raise self._refusal(call, reason)
        return self._add_affine

    def _reads(self, argument: Any) -> bool:
        return any(value.number in self._depends for value in values_in(argument))

    def _append(self, kind: Callable[..., Operation], read: Sequence[Source], *described: Any) -> int:
        place = len(self._operations) + 1
        self._operations.append(kind(tuple(source.place for source in read), place, *described))
        return place

    def _add_affine(self, call: Call, read: Sequence[Source], out: RowLayout, function: Callable[..., Tensor]) -> int:
        return self._append(Affine, read, function)

    def _layout(self, call: Call, two: int, three: int) -> RowLayout:
        small, large = self._two.tensors[two], self._three.tensors[three]
        if not small.is_floating_point():
            raise self._refusal(call, f"{str(small.dtype).removeprefix('torch.')} numbers that depend on the input")
        layout = row_layout(small, large, self._two.precision)
        if layout is None:
            raise self._refusal(call, "a function of several rows together")
        return layout

    def _broadcast(self, source: Source, out: RowLayout) -> Source:
        """Return a source in the shape of a result."""
        if source.layout.shape == out.shape:
            return source
        layout = source.layout

        def expand(rows: Tensor) -> Tensor:
            return out.to_rows(layout.from_rows(rows).expand(out.size(len(rows))))

        return Source(source.number, self._append(Affine, [source], expand), out)

    # -- bends and maxima -------------------------------------------------------------------------------------------

    def _add_bend(self, call: Call, read: Sequence[Source], out: RowLayout, function: Callable[..., Tensor]) -> int:
        others = [self._constants.resolved(arg) for arg in call.args if not self._reads(arg)]
        breakpoints, slopes = BENDS[call.name](*others)
        if call.name == "threshold" and others[0] != others[1]:
            raise self._refusal(call, "not continuous")
        while breakpoints and _all_equal(breakpoints[0], -torch.inf):
            breakpoints, slopes = breakpoints[1:], slopes[1:]
        while breakpoints and _all_equal(breakpoints[-1], torch.inf):
            breakpoints, slopes = breakpoints[:-1], slopes[:-1]
        if not breakpoints:
            return self._append(Affine, read, function)
        site = self._site(call, len(breakpoints))
        return self._append(Bend, read, function, site, _by_unit(breakpoints, out), _by_unit(slopes, out))

    def _add_maximum(self, call: Call, read: Sequence[Source], out: RowLayout, function: Callable[..., Tensor]) -> int:
        """Add a maximum, or a minimum min(x) = -max(-x)."""
        site = self._site(call)
        if call.name in PAIRWISE:
            candidates: Callable[..., Tensor] = _stacked
        else:
            name = MINIMA.get(call.name, call.name)
            places = MAXIMA[name](read[0].layout.size(1), out.size(1), *self._constants.resolved(call.args[1:]))
            candidates = _gathered(_by_rows(places, read[0].layout, out))
        if call.name not in MINIMA:
            return self._append(Maximum, read, function, candidates, site)
        negative = [Source(source.number, self._append(Affine, [source], torch.neg), out) for source in read]
        largest = self._append(Maximum, negative, lambda *rows: -function(*map(torch.neg, rows)), candidates, site)
        return self._append(Affine, [Source(-1, largest, out)], torch.neg)

    def _site(self, call: Call, bends: int = 1) -> str:
        """Return the name of a site. A trace has one site for each bend of a function, a network one for all."""
        if not call.site:
            name = f"{call.module}:{call.function.strip('_') or call.name.strip('_')}"
            site = self._calls.next(name)
            while site in self._known:
                site = self._calls.next(name)
            return site
        return re.sub(r"_(min|max)(?=\.\d+$|$)", "", call.site) if bends > 1 else call.site


def _replaced_calls(*calls: Call) -> Iterator[Call]:
    """Yield calls with another form of their operation, see :data:`REPLACED`."""
    for call in calls:
        if call.name in REPLACED:
            operation, args = REPLACED[call.name](*call.args)
            yield replace(call, operation=operation, args=args)
        else:
            yield call


def _all_equal(number: Number, other: float) -> bool:
    return bool((torch.as_tensor(number) == other).all())


def _by_unit(numbers: Sequence[Number], out: RowLayout) -> Tensor:
    """Return the numbers of each unit (k, units), or (k, 1) if all units have the same."""
    tensors = [torch.as_tensor(number, dtype=torch.float64) for number in numbers]
    if all(tensor.numel() == 1 for tensor in tensors):
        return torch.stack([tensor.reshape(1) for tensor in tensors])
    return torch.stack([out.to_rows(tensor.expand(out.shape))[0].flatten() for tensor in tensors])


def _by_rows(places: Tensor, layout: RowLayout, out: RowLayout) -> Tensor:
    """Return places (units, k) among the numbers of one row, in the order of a value whose rows come first."""
    inverse = layout.order().argsort()
    return torch.where(places < 0, -1, inverse[places])[out.order()]


def _gathered(places: Tensor) -> Callable[[Tensor], Tensor]:
    outside = places < 0
    if not outside.any():
        return lambda rows: rows.flatten(1)[:, places]
    return lambda rows: rows.flatten(1)[:, places].masked_fill(outside, -torch.inf)


def _stacked(*rows: Tensor) -> Tensor:
    return torch.stack([each.flatten(1) for each in rows], -1)
