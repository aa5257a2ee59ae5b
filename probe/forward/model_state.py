"""The state of a model that an observation leaves as found: numbers, objects, hooks, submodules, attributes, classes.

:func:`probe.forward.isolated` saves and restores it. Training flags are restored there too, and are not part of it.
"""

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.saved_values import SavedState, SavedTensor, address_of, has_state, version_of

# Where a value is: the name of a module, or a class, and the keys that lead from its attributes to the value.
Place = tuple[Any, ...]

_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_CONTAINERS = frozenset([*_MAPPINGS, list, deque, set])
_SCALARS = frozenset([bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size])
_DATA: tuple[Any, ...] = (*_SCALARS, *_CONTAINERS, tuple, Tensor)
_DEPTH = 6  # levels of containers and objects below the attributes of a module
_MAX_ITEMS = 1000  # longer containers are compared by the identity of their items, which are not looked into
_REGISTRIES = frozenset(["_parameters", "_buffers", "_modules"])
_SETTINGS = ("requires_grad", "grad", "_backward_hooks", "_post_accumulate_grad_hooks")
_settings_of: Callable[[Tensor], tuple[Any, ...]] = attrgetter(*_SETTINGS)


class ModelState:
    """State of a model at the time when this object is made.

    The attributes and registries of each module are saved, and so are containers and objects of the model's own package
    among them. Tensors are saved by version and address. Only at some places their numbers are copied.

    Parameters
    ----------
    modules
        The modules of the model by name, see :func:`probe.forward.layers.named_modules`.
    copied
        Attributes, see :func:`attribute_of`, below which numbers are copied. None: all, to the CPU. Random generators,
        arrays and attributes of classes are saved there only.

    Attributes
    ----------
    restored : set of Place
        Places of the writes that :meth:`restore` has undone so far.
    lost : set of Place
        Places of the writes that it could not undo, because the numbers before are not known.
    """

    def __init__(self, modules: Mapping[str, nn.Module], copied: Collection[Place] | None = None) -> None:
        self.restored: set[Place] = set()
        self.lost: set[Place] = set()
        self._copied = copied
        self._modules = modules
        self._kinds = list(map(type, self._modules.values()))
        self._packages = {kind.__module__.partition(".")[0] for kind in self._kinds} - {"torch"}
        self._seen = {id(vars(module)) for module in self._modules.values()}
        self._containers: list[tuple[Any, Any, Place]] = []
        self._empty: list[Any] = []  # apart and without places, since most registries are empty
        self._tensors: dict[int, tuple[Tensor, Place]] = {}
        self._copies: list[tuple[SavedTensor | SavedState, Place]] = []
        for name, module in self._modules.items():
            self._add_items(vars(module), (name,), _DEPTH)
        self._classes = list(self._own_classes())
        self._parameters = [entry for entry in self._tensors.values() if _is_parameter(entry[0])]
        self._settings = [_settings_of(parameter) for parameter, _ in self._parameters]
        self._add_settings()
        self._marks = self._current_marks()

    # -- saving ------------------------------------------------------------------------------------------------------

    def _copies_at(self, place: Place) -> bool:
        return self._copied is None or attribute_of(place) in self._copied

    def _add_items(self, container: Any, place: Place, depth: int) -> None:
        """Save the items of a container, and what is in them."""
        kind = type(container)
        items: Any = dict(container) if kind in _MAPPINGS else set(container) if kind is set else list(container)
        self._containers.append((container, items, place))
        if depth == 0 or len(items) > _MAX_ITEMS or kind is set:
            return
        for key, value in items.items() if kind in _MAPPINGS else enumerate(items):
            kind = type(value)
            if kind in _SCALARS:
                continue
            if kind in _CONTAINERS and not value:
                self._empty.append(value)
            else:
                self._add(value, (*place, key), depth - 1)

    def _add(self, value: Any, place: Place, depth: int) -> None:
        """Save a value that is neither a scalar nor an empty container."""
        is_tensor = isinstance(value, Tensor)
        if not is_tensor and type(value) not in _CONTAINERS and self._is_opened(value):
            value = vars(value)
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if is_tensor:
            self._add_tensor(value, place)
        elif type(value) in _CONTAINERS:
            self._add_items(value, place, depth)
        elif isinstance(value, tuple):
            for key, item in enumerate(value):
                if depth and type(item) not in _SCALARS:
                    self._add(item, (*place, key), depth - 1)
        elif self._copies_at(place) and has_state(value):
            self._copies.append((SavedState(value), place))

    def _is_opened(self, value: Any) -> bool:
        """Return whether the attributes of an object belong to the state of the model."""
        if isinstance(value, nn.Module):  # one that is not registered, since it is in a list
            return True
        package = type(value).__module__.partition(".")[0]
        return package in self._packages and type(getattr(value, "__dict__", None)) is dict

    def _add_tensor(self, tensor: Tensor, place: Place) -> None:
        self._tensors[id(tensor)] = tensor, place
        if self._copies_at(place):
            self._copies.append((SavedTensor(tensor, on_cpu=self._copied is None), place))

    def _add_settings(self) -> None:
        """Save gradients and hooks of parameters."""
        for (_, place), (_, *values) in zip(self._parameters, self._settings, strict=True):
            for name, value in zip(_SETTINGS[1:], values, strict=True):
                if value is not None:
                    self._add(value, (*place, name), 0)

    def _own_classes(self) -> Iterator[tuple[type, dict[str, Any]]]:
        """Yield the classes that PyTorch does not define, with their attributes that are data."""
        for cls in dict.fromkeys(chain.from_iterable(kind.__mro__ for kind in dict.fromkeys(self._kinds))):
            if cls.__module__.partition(".")[0] in self._packages:
                data = {key: value for key, value in _data_of(cls).items() if self._copies_at((cls, key))}
                for key, value in data.items():
                    if type(value) not in _SCALARS:
                        self._add(value, (cls, key), 1)
                yield cls, data

    def _current_marks(self) -> list[int]:
        tensors = [tensor for tensor, _ in self._tensors.values()]
        return [*map(version_of, tensors), *map(address_of, tensors)]

    # -- restoring ---------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Undo what was written since. A second call changes nothing."""
        self._restore_classes()
        for container, items, place in self._containers:
            if not _same_objects(container, items):
                self._restore_items(container, items, place)
        if any(self._empty):
            self._restore_empty()
        for saved, place in self._copies:
            if saved.restore():
                self.restored.add(place)
        self._restore_settings()
        if self._current_marks() != self._marks:
            n, now = len(self._tensors), self._current_marks()
            changed = {i % n for i, (one, other) in enumerate(zip(now, self._marks, strict=True)) if one != other}
            self.lost |= {place for i, (_, place) in enumerate(self._tensors.values()) if i in changed}

    def _restore_classes(self) -> None:
        for (name, module), kind in zip(self._modules.items(), self._kinds, strict=True):
            if type(module) is not kind:
                module.__class__ = kind
                self.restored.add((name, "__class__"))
        for cls, data in self._classes:
            now = {key: value for key, value in _data_of(cls).items() if self._copies_at((cls, key))}
            for key in _changed_keys(now, data):
                setattr(cls, key, data[key]) if key in data else delattr(cls, key)
                self.restored.add((cls, key))

    def _restore_items(self, container: Any, items: Any, place: Place) -> None:
        if changed := _changed_keys(container, items):
            self.restored |= {(*place, key) for key in changed if key != "training"}
            _refill(container, items)

    def _restore_empty(self) -> None:
        filled = {id(container): container for container in self._empty if container}
        for _, items, place in self._containers:
            for key, value in items.items() if isinstance(items, dict) else enumerate(items):
                if id(value) in filled:
                    empty: Any = {} if isinstance(value, dict) else set() if isinstance(value, set) else []
                    self._restore_items(value, empty, (*place, key))

    def _restore_settings(self) -> None:
        now = map(_settings_of, (parameter for parameter, _ in self._parameters))
        if all(map(is_, chain.from_iterable(now), chain.from_iterable(self._settings))):
            return
        for (parameter, place), settings in zip(self._parameters, self._settings, strict=True):
            for name, value in zip(_SETTINGS, settings, strict=True):
                if getattr(parameter, name) is not value:
                    setattr(parameter, name, value)
                    self.restored.add((*place, name))


def _is_parameter(tensor: Tensor) -> bool:
    return type(tensor) is nn.Parameter or isinstance(tensor, nn.Parameter)  # the second one takes 1 us


def attribute_of(place: Place) -> Place:
    """Return the place of the attribute or registry of a module, or the attribute of a class, that holds a place."""
    return place[:2]


def describe(place: Place) -> str:
    """Return the name of a place, such as ``"encoder.norm.running_mean"``."""
    first, attribute, *keys = place
    parts = [first.__qualname__ if isinstance(first, type) else first]
    parts += keys if attribute in _REGISTRIES else [attribute]  # the items of other containers have no names
    return ".".join(part for part in parts if part)


def _data_of(cls: type) -> dict[str, Any]:
    """Return the attributes of a class that are data: no functions, descriptors or special names."""
    return {key: value for key, value in vars(cls).items() if isinstance(value, _DATA) and not key.startswith("__")}


def _same_objects(container: Any, items: Any) -> bool:
    if len(container) != len(items):
        return False
    if type(items) is set:
        return container == items
    if type(items) is list:
        return all(map(is_, container, items))
    return all(map(is_, container.values(), items.values())) and list(container) == list(items)


def _changed_keys(container: Any, items: Any) -> list[Any]:
    """Return the keys, or positions, at which two containers differ. Equal numbers are no difference."""
    if type(items) is set:
        return [] if container == items else ["items"]
    if type(items) is not dict:
        container, items = dict(enumerate(container)), dict(enumerate(items))
    changed = [key for key in items if key not in container or not _same_item(container[key], items[key])]
    changed += [key for key in container if key not in items]
    return changed or ([] if list(container) == list(items) else list(items))


def _same_item(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in _SCALARS and one == other)


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
