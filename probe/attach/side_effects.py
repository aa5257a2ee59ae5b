"""Detect and restore what a forward pass writes to the model: counters, caches, hidden states.

This module covers buffers and plain attributes. :mod:`probe.forward.isolation` restores training flags.
"""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[nn.Module, str]  # a module and the name of a buffer or an attribute of it

_OWN = frozenset(vars(nn.Module()))
_CONTAINERS = (list, dict, set, deque, Counter, OrderedDict, defaultdict)
_MISSING = object()


class Saved:
    """A value and a copy of its content, since a forward pass may write to it in place."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.content = (
            value.detach().clone() if isinstance(value, Tensor) else copy(value) if _is_container(value) else value
        )

    def differs(self, now: Any) -> bool:
        """Return whether the value has changed. Tensors are compared by their numbers."""
        if isinstance(self.value, Tensor) and isinstance(now, Tensor):
            return not tensors_equal(self.content, now)
        if _is_container(self.value):
            return now is not self.value or not _same_items(self.content, now)
        return now is not self.value and not (type(now) is type(self.value) and _is_scalar(now) and now == self.value)

    def restore(self, module: nn.Module, name: str) -> None:
        """Restore the content of the value, and the object itself."""
        if self.value is _MISSING:
            vars(module).pop(name, None)
            return
        if isinstance(self.value, Tensor):
            if not tensors_equal(self.content, self.value):
                self.value.data.copy_(self.content)  # .data keeps the version, which a later backward pass checks
        elif _is_container(self.value) and not _same_items(self.content, self.value):
            _refill(self.value, self.content)
        if name in module._buffers:
            module._buffers[name] = self.value
        else:
            vars(module)[name] = self.value


def saved(places: Iterable[Place]) -> dict[Place, Saved]:
    """Save the values at these places."""
    return {(module, name): Saved(_value(module, name)) for module, name in places}


def places_of(model: nn.Module) -> list[Place]:
    """Return all buffers and plain attributes of a model and its modules."""
    return [
        (module, name)
        for module in model.modules()
        for name in (*module._buffers, *(name for name in vars(module) if name not in _OWN))
        if name not in module._buffers or module._buffers[name] is not None
    ]


@contextmanager
def recording_side_effects(model: nn.Module) -> Iterator[list[Place]]:
    """Context manager that restores what is written to the model inside. Its list then holds the places."""
    before, found = saved(places_of(model)), list[Place]()
    try:
        yield found
    finally:
        new = {place: Saved(_MISSING) for place in places_of(model) if place not in before}
        for (module, name), value in {**before, **new}.items():
            if value.differs(_value(module, name)):
                value.restore(module, name)
                found.append((module, name))


@contextmanager
def restoring(places: Iterable[Place]) -> Iterator[None]:
    """Context manager that restores what is written to these places inside."""
    before = saved(places)
    try:
        yield
    finally:
        for (module, name), value in before.items():
            value.restore(module, name)


def describe_places(model: nn.Module, places: Iterable[Place]) -> list[str]:
    """Return the names of the restored attributes that the user should know about.

    Tensors in plain attributes are left out: stored activations, and weights that a hook computes at each call, do not
    influence a measurement.
    """
    names = {module: name for name, module in model.named_modules()}
    return [
        f"{names[module]}.{name}".lstrip(".")
        for module, name in places
        if name in module._buffers or not (isinstance(value := _value(module, name), Tensor) or value is _MISSING)
    ]


def _value(module: nn.Module, name: str) -> Any:
    return module._buffers[name] if name in module._buffers else vars(module).get(name, _MISSING)


def _is_container(value: Any) -> bool:
    return type(value) in _CONTAINERS


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float, complex, str, bytes, type(None)))


def _same_items(one: Any, other: Any) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, dict):
        return all(key in other and _same_item(item, other[key]) for key, item in one.items())
    return one == other if isinstance(one, set) else all(map(_same_item, one, other))


def _same_item(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and _is_scalar(one) and one == other)


def _refill(value: Any, content: Any) -> None:
    value.clear()
    if isinstance(value, (list, deque)):
        value.extend(content)
    else:
        value.update(content)


def tensors_equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, NaN at the same places."""
    if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
        return False
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())
