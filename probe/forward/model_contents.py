"""The objects that a model holds: its containers with their items, and the tensors among them.

A comparison of hundreds of small containers one by one takes longer than a small forward pass. :class:`Contents`
therefore compares the items of all of them at once, and looks at single containers only if these differ.
"""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from operator import is_, methodcaller
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.saved_values import has_state

# Where a value is: the name of a module, or a class, and the keys that lead from its attributes to the value.
Place = tuple[Any, ...]

_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_CONTAINERS = frozenset([*_MAPPINGS, list, deque, set])
SCALARS = frozenset([bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size])
DATA: tuple[Any, ...] = (*SCALARS, *_CONTAINERS, tuple, Tensor)
_CODE = (FunctionType, BuiltinFunctionType, MethodType, type)
_DEPTH = 6  # levels of containers and objects below the attributes of a module
_MAX_ITEMS = 1000  # longer containers are compared by the identity of their items, which are not looked into
REGISTRIES = frozenset(["_parameters", "_buffers", "_modules"])
_values = methodcaller("values")


class Contents:
    """Containers and tensors, as they are when they are added.

    Parameters
    ----------
    packages
        Names of packages. Objects of their classes are looked into.
    copied
        Attributes, see :func:`attribute_of`, below which ``stateful`` objects are listed. None: all.
    seen
        Identities of objects that are not added, because they are elsewhere.

    Attributes
    ----------
    tensors, stateful : list of (object, Place)
        The tensors, and the random generators and arrays.
    lasting : bool
        Whether all tensors are parameters and buffers of modules. Others, such as stored activations, should not live
        longer than the model needs them.
    """

    def __init__(self, packages: Collection[str], copied: Collection[Place] | None, seen: Collection[int] = ()) -> None:
        self.tensors: list[tuple[Tensor, Place]] = []
        self.stateful: list[tuple[Any, Place]] = []
        self.lasting = True
        self.seen = set(seen)
        self._packages, self._copied = packages, copied
        self._mappings: list[tuple[Any, dict[Any, Any], Place]] = []
        self._others: list[tuple[Any, Any, Place]] = []
        self._empty: list[Any] = []  # apart and without places, since most registries are empty
        self._flat: tuple[list[int], list[Any], list[Any]] | None = None  # sizes, keys and values of the mappings

    def copies_at(self, place: Place) -> bool:
        """Return whether numbers are copied at a place."""
        copied = self._copied
        return copied is None or (bool(copied) and attribute_of(place) in copied)

    # -- adding ------------------------------------------------------------------------------------------------------

    def add_module(self, name: str, module: nn.Module) -> None:
        """Add the attributes and registries of a module."""
        self._add_items(vars(module), (name,), _DEPTH)

    def add(self, value: Any, place: Place, depth: int = 0) -> None:
        """Add a value that is no scalar, and what is in it down to a depth."""
        is_tensor, kind = isinstance(value, Tensor), type(value)
        if not is_tensor and kind not in _CONTAINERS and self._is_opened(value):
            value = vars(value)
            kind = dict
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        if is_tensor:
            self.tensors.append((value, place))
            self.lasting &= len(place) == 3 and place[1] in REGISTRIES
        elif kind in _CONTAINERS:
            self._add_items(value, place, depth)
        elif isinstance(value, tuple):
            for key, item in enumerate(value):
                if depth and type(item) not in SCALARS:
                    self.add(item, (*place, key), depth - 1)
        else:
            self.lasting &= isinstance(value, _CODE)
            if self.copies_at(place) and has_state(value):
                self.stateful.append((value, place))

    def _add_items(self, container: Any, place: Place, depth: int) -> None:
        kind = type(container)
        if kind in _MAPPINGS:
            items: Any = dict(container)
            self._mappings.append((container, items, place))
        else:
            items = set(container) if kind is set else list(container)
            self._others.append((container, items, place))
        if depth == 0 or len(items) > _MAX_ITEMS or kind is set:
            return
        pairs = items.items() if kind in _MAPPINGS else enumerate(items)
        for key, value in [pair for pair in pairs if type(pair[1]) not in SCALARS]:
            if type(value) in _CONTAINERS and not value:
                self._empty.append(value)
            else:
                self.add(value, (*place, key), depth - 1)

    def _is_opened(self, value: Any) -> bool:
        """Return whether the attributes of an object belong to the state of the model."""
        if isinstance(value, nn.Module):  # one that is not registered, since it is in a list
            return True
        package = type(value).__module__.partition(".")[0]
        return package in self._packages and type(getattr(value, "__dict__", None)) is dict

    # -- comparing and restoring ---------------------------------------------------------------------------------------

    def holds(self) -> bool:
        """Return whether all containers have the items that they had, the same objects in the same order."""
        if self._flat is None:
            self._flat = _flattened([items for _, items, _ in self._mappings])
        sizes, keys, values = _flattened([container for container, _, _ in self._mappings])
        return (
            sizes == self._flat[0]
            and all(map(is_, values, self._flat[2]))
            and keys == self._flat[1]
            and not any(self._empty)
            and all(_same_objects(container, items) for container, items, _ in self._others)
        )

    def restore(self) -> set[Place]:
        """Give the containers their items again, and return the places of those that had other values."""
        found: set[Place] = set()
        if self.holds():
            return found
        for container, items, place in self._mappings + self._others:
            found |= _restored(container, items, place)
        if any(self._empty):
            filled = {id(container) for container in self._empty if container}
            for _, items, place in self._mappings + self._others:
                for key, value in items.items() if isinstance(items, dict) else enumerate(items):
                    if id(value) in filled:
                        empty: Any = {} if isinstance(value, dict) else set() if isinstance(value, set) else []
                        found |= _restored(value, empty, (*place, key))
        return found


def attribute_of(place: Place) -> Place:
    """Return the place of the attribute or registry of a module, or the attribute of a class, that holds a place."""
    return place[:2]


def changed_keys(container: Any, items: Any) -> list[Any]:
    """Return the keys, or positions, at which two containers differ. Equal numbers are no difference."""
    if type(items) is set:
        return [] if container == items else ["items"]
    if type(items) is not dict:
        container, items = dict(enumerate(container)), dict(enumerate(items))
    changed = [key for key in items if key not in container or not _same_item(container[key], items[key])]
    changed += [key for key in container if key not in items]
    return changed or ([] if list(container) == list(items) else list(items))


def _flattened(mappings: list[Mapping[Any, Any]]) -> tuple[list[int], list[Any], list[Any]]:
    flat: Callable[[Any], list[Any]] = lambda parts: list(chain.from_iterable(parts))  # noqa: E731
    return list(map(len, mappings)), flat(mappings), flat(map(_values, mappings))


def _restored(container: Any, items: Any, place: Place) -> set[Place]:
    """Give a container its items again, and return the places that differed."""
    if _same_objects(container, items) or not (changed := changed_keys(container, items)):
        return set()
    _refill(container, items)
    return {(*place, key) for key in changed if key != "training"}


def _same_objects(container: Any, items: Any) -> bool:
    if len(container) != len(items):
        return False
    if type(items) is set:
        return bool(container == items)
    if type(items) is list:
        return all(map(is_, container, items))
    return all(map(is_, container.values(), items.values())) and list(container) == list(items)


def _same_item(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in SCALARS and one == other)


def _refill(container: Any, items: Any) -> None:
    """Give a container its items again, in their order."""
    if isinstance(container, dict):
        for key in [key for key in container if key not in items]:
            del container[key]
        if list(container) != list(items):
            container.clear()
        for key, value in items.items():
            container[key] = value
    elif isinstance(container, set):
        container ^= container ^ items
    else:
        container.clear()
        container.extend(items)
