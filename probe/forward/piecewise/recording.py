"""Recordings of forward passes on tapes (:mod:`probe.forward.piecewise.tape`).

:class:`StartedPasses` runs a model in evaluation mode, with given values at one site.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from probe.forward.activations import ActivationMode
from probe.forward.data import leaves_of, map_leaves
from probe.forward.isolation import isolated
from probe.forward.outputs import Select, tensor_of
from probe.forward.passes import Pass
from probe.forward.piecewise.operations import EMPTY
from probe.forward.piecewise.tape import Call, Tape, Value, name_of, replaced

_LEAVES_TORCH = frozenset(["tolist", "numpy", "__array__", "__dlpack__"])
_STRIDED = torch.ops.aten.as_strided.default, torch.ops.aten.as_strided_.default


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
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # then also operations that are made of others come here
            with self:
                if (made := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return made
        given = replaced(args, self._read), replaced(kwargs, self._read)
        if func in _STRIDED and _keeps_places(*args):
            recorded, given = torch.ops.aten.alias.default, (given[0][:1], {})
        else:
            recorded = func
        result = func(*args, **kwargs)
        if name_of(func) in EMPTY:
            result.zero_()
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        made = tuple(self._write(item) if isinstance(item, Tensor) else None for item in outputs)
        self._tape.calls.append(Call(recorded, *given, made, *self._forward.where()))
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
            if self.function in _LEAVES_TORCH:
                torch.equal(args[0], args[0])  # a read that is recorded
            if func is torch.nn.functional.pad and (kwargs or {}).get("mode") == "circular":
                return _circular_pad(*args, **(kwargs or {}))  # torch writes in place, out of sight of functionalize
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
    """Forward pass in which ``replace(value)`` replaces the value of one site, or of one part of the inputs."""

    def __init__(
        self, model: nn.Module, start: str | int, replace: Callable[[Tensor], Tensor], output: Select = None
    ) -> None:
        super().__init__(model, (), output=output)
        self._start, self._replace = start, replace
        self._hooked |= {*self.modules} | ({start} if isinstance(start, str) else set())
        self._activations = mode = _NamingMode(self.modules, self._visit, lambda: False, self._calls)
        self.where = mode.where
        self.returned: Tensor | None = None

    def _visit_input(self, inputs: Any) -> Any:
        if isinstance(self._start, str):
            return inputs
        places = count()
        return map_leaves(inputs, lambda leaf: self._replace(leaf) if next(places) == self._start else leaf)

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


class StartedPasses:
    """Forward passes that start with given values at one place.

    Parameters
    ----------
    model : torch.nn.Module
    start : str or int
        A site, or the number of a part of the inputs.
    output
        See :func:`probe.forward.outputs.tensor_of`.
    """

    def __init__(self, model: nn.Module, start: str | int, output: Select) -> None:
        self._model, self._start, self._select = model, start, output

    def value(self, inputs: Any) -> Tensor | None:
        """Return the value at the start of an unchanged pass. Return None if the pass does not visit it."""
        found: list[Tensor] = []

        def keep(tensor: Tensor) -> Tensor:
            found.append(tensor.detach().clone())
            return tensor

        with isolated(self._model) as state:
            _StartedPass(self._model, self._start, keep).output_for(_copied(inputs))
            state.restore()
        return found[0] if found else None

    def output(self, inputs: Any, rows: Tensor) -> Tensor:
        """Return the output of the model for these rows at the start."""
        with isolated(self._model) as state:
            passed = _StartedPass(self._model, self._start, lambda _: rows.clone(), self._select)
            found = passed.output_for(_copied(inputs)).detach().clone()
            state.restore()
        return found

    def record(self, inputs: Any, rows: Tensor, *, without_writes: bool = False) -> Tape:
        """Record a pass with these rows at the start. Writes in place can be replaced by new values."""
        tape, values = Tape(), rows.clone()
        leaves = [leaf for leaf in leaves_of(inputs) if isinstance(leaf, Tensor)]
        given = [leaf.clone() for leaf in leaves]
        started: list[Tensor] = []
        forward = _StartedPass(self._model, self._start, lambda _: started[0], self._select)
        recorder = _Recorder(tape, forward)
        tape.start = recorder.number(values)

        def run(first: Tensor, *tensors: Tensor) -> Tensor:
            started.append(first)
            items = iter(tensors)
            return forward.output_for(
                map_leaves(inputs, lambda leaf: next(items) if isinstance(leaf, Tensor) else leaf)
            )

        with isolated(self._model) as state:
            function = torch.func.functionalize(run, remove="mutations") if without_writes else run
            with recorder:
                tape.output = recorder.number(function(values, *given))
            state.restore()
            for one, leaf in zip(given, leaves, strict=True):
                one.copy_(leaf)  # the network is computed from values before writes in place
        return tape


def _keeps_places(tensor: Tensor, size: Sequence[int], steps: Sequence[int], offset: int | None = None) -> bool:
    """Return whether ``as_strided`` returns the same numbers at the same places."""
    axes = zip(size, steps, tensor.stride(), strict=False)
    same_steps = all(one == other for length, one, other in axes if length > 1)
    return tuple(size) == tensor.shape and same_steps and offset in (None, tensor.storage_offset())


def _copied(inputs: Any) -> Any:
    """Return a copy of the inputs, to which a pass can write."""
    return map_leaves(inputs, lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)


def _circular_pad(tensor: Tensor, pad: Sequence[int], **_: Any) -> Tensor:
    for axis, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True), 1):
        length = tensor.shape[-axis]
        places = torch.arange(-before, length + after, device=tensor.device) % length
        tensor = tensor.index_select(-axis, places)
    return tensor
