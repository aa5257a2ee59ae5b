"""The state of a model that an observation leaves as found: numbers, objects, hooks, submodules, attributes, classes.

:func:`probe.forward.isolated` saves and restores it. Training flags are restored there too, and are not part of it.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn

from probe.forward.layers import named_modules
from probe.forward.model_contents import DATA, REGISTRIES, SCALARS, Contents, Place, attribute_of, changed_keys
from probe.forward.saved_values import SavedState, SavedTensor, addresses_of, versions_of
from probe.forward.shards import Shards

__all__ = ["ModelState", "Place", "Structure", "attribute_of", "describe"]

_SETTINGS = ("requires_grad", "grad", "_backward_hooks", "_post_accumulate_grad_hooks")
_settings_of: Callable[[Tensor], tuple[Any, ...]] = attrgetter(*_SETTINGS)


class Structure:
    """Modules of a model, with their classes, attributes and registries, without numbers.

    Parameters
    ----------
    model
        The model.
    copied
        Attributes, see :func:`attribute_of`, below which numbers are copied. None: all, to the CPU. Random generators,
        arrays and attributes of classes are saved there only.

    Attributes
    ----------
    modules : {name: module}
    """

    def __init__(self, model: nn.Module, copied: Collection[Place] | None = None) -> None:
        self.modules = named_modules(model)
        self.shards = Shards(self.modules.values())
        self.shards.reshard()
        self.copied = None if copied is None else frozenset(map(attribute_of, copied))
        self._kinds = list(map(type, self.modules.values()))
        self.packages = {kind.__module__.partition(".")[0] for kind in self._kinds} - {"torch"}
        self.contents = Contents(self.packages, self.copied, [id(vars(module)) for module in self.modules.values()])
        for name, module in self.modules.items():
            self.contents.add_module(name, module)
        self._classes = list(self._own_classes())
        self.parameters = [entry for entry in self.contents.tensors if _is_parameter(entry[0])]

    def _own_classes(self) -> Iterator[tuple[type, dict[str, Any]]]:
        """Yield the classes that PyTorch does not define, with their attributes that are data."""
        for cls in dict.fromkeys(chain.from_iterable(kind.__mro__ for kind in dict.fromkeys(self._kinds))):
            if cls.__module__.partition(".")[0] in self.packages:
                data = self._data_of(cls)
                for key, value in data.items():
                    if type(value) not in SCALARS:
                        self.contents.add(value, (cls, key), 1)
                yield cls, data

    def _data_of(self, cls: type) -> dict[str, Any]:
        """Return the attributes of a class that are data: no functions, descriptors or special names."""
        if self.copied is not None and not self.copied:
            return {}
        items = [(key, value) for key, value in vars(cls).items() if self.contents.copies_at((cls, key))]
        return {key: value for key, value in items if isinstance(value, DATA) and not key.startswith("__")}

    def serves(self, copied: Collection[Place] | None) -> bool:
        """Return whether the model still has this structure, and the same places are copied."""
        return (
            self.contents.lasting
            and self.copied == (None if copied is None else set(map(attribute_of, copied)))
            and all(map(is_, map(type, self.modules.values()), self._kinds))
            and not any(changed_keys(self._data_of(cls), data) for cls, data in self._classes if data)
            and self.contents.holds()
        )

    def restore(self) -> set[Place]:
        """Restore classes, attributes and registries, and return the places that differed."""
        found: set[Place] = set()
        for (name, module), kind in zip(self.modules.items(), self._kinds, strict=True):
            if type(module) is not kind:
                module.__class__ = kind
                found.add((name, "__class__"))
        for cls, data in self._classes:
            for key in changed_keys(self._data_of(cls), data):
                setattr(cls, key, data[key]) if key in data else delattr(cls, key)
                found.add((cls, key))
        return found | self.contents.restore()


class ModelState:
    """State of a model at the time when this object is made.

    The attributes and registries of each module are saved, and so are containers and objects of the model's own package
    among them. Tensors are saved by version and address. Only at some places their numbers are copied.

    Parameters
    ----------
    structure
        The present structure of the model.

    Attributes
    ----------
    restored : set of Place
        Places of the writes that :meth:`restore` has undone so far.
    lost : set of Place
        Places of the writes that it could not undo, because the numbers before are not known.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.restored: set[Place] = set()
        self.lost: set[Place] = set()
        self._parameters = structure.parameters
        self._settings = [_settings_of(parameter) for parameter, _ in self._parameters]
        self._passing = self._gradients_and_hooks()
        self._tensors = structure.contents.tensors + self._passing.tensors
        self._copies: list[tuple[SavedTensor | SavedState, Place]] = [
            (SavedTensor(tensor, on_cpu=structure.copied is None), place)
            for tensor, place in (self._tensors if structure.copied is None or structure.copied else ())
            if structure.contents.copies_at(place)
        ]
        self._copies += [(SavedState(value), place) for value, place in structure.contents.stateful]
        self._marks = self._current_marks()
        structure.shards.keep_order()

    def _gradients_and_hooks(self) -> Contents:
        """Return the contents of the settings of parameters."""
        structure = self.structure
        found = Contents(structure.packages, structure.copied, structure.contents.seen)
        for k, name in enumerate(_SETTINGS[1:], 1):
            given = [(settings[k], i) for i, settings in enumerate(self._settings) if settings[k] is not None]
            for value, i in given:
                found.add(value, (*self._parameters[i][1], name))
        return found

    def _current_marks(self) -> list[int]:
        tensors = [tensor for tensor, _ in self._tensors]
        return versions_of(tensors) + addresses_of(tensors)

    def restore(self) -> None:
        """Undo what was written since. A second call changes nothing."""
        self.structure.shards.recover()
        self.structure.shards.restore_order()
        self.restored |= self.structure.restore() | self._passing.restore()
        for saved, place in self._copies:
            if saved.restore():
                self.restored.add(place)
        self._restore_settings()
        now = self._current_marks()
        if now != self._marks:
            n = len(self._tensors)
            changed = {i % n for i, (one, other) in enumerate(zip(now, self._marks, strict=True)) if one != other}
            self.lost |= {place for i, (_, place) in enumerate(self._tensors) if i in changed}

    def _restore_settings(self) -> None:
        now = map(_settings_of, (parameter for parameter, _ in self._parameters))
        if all(map(is_, chain.from_iterable(now), chain.from_iterable(self._settings))):
            return
        for (parameter, place), settings in zip(self._parameters, self._settings, strict=True):
            for name, value in zip(_SETTINGS, settings, strict=True):
                if getattr(parameter, name) is not value:
                    setattr(parameter, name, value)
                    self.restored.add((*place, name))


def describe(place: Place) -> str:
    """Return the name of a place, such as ``"encoder.norm.running_mean"``."""
    first, attribute, *keys = place
    parts = [first.__qualname__ if isinstance(first, type) else first]
    keys = [key for key in keys if isinstance(key, str)]  # hooks have numbers
    parts += keys if attribute in REGISTRIES else [attribute]  # the items of other containers have no names
    return ".".join(part for part in parts if part)


def _is_parameter(tensor: Tensor) -> bool:
    return type(tensor) is nn.Parameter or isinstance(tensor, nn.Parameter)  # the second one takes 1 us
