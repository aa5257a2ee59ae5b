"""Names of the calls of layers and functions in one forward pass.

A layer that a forward pass calls several times is several sites: ``"block"``, ``"block.2"``, ``"block.3"`` and so on. A
module whose children have numbers as names, as in ``nn.Sequential``, has ``"block#2"`` in place of ``"block.2"``. Calls
are counted when they return. Only calls that return a tensor count.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import nn

_LATER_CALL = re.compile(r"(.+)[.#]([1-9]\d*)")
_FUNCTION = re.compile(r"(.*):(\w+)(?:\.(\d+))?(?:->)?")


class Call(NamedTuple):
    """A call: the name of the layer or function, and its number, from 1."""

    name: str
    number: int


def call_name(name: str, number: int, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of the site of a call."""
    if number == 1:
        return name
    numbered = name in modules and any(child.isdigit() for child in modules[name]._modules)
    return f"{name}{'#' if numbered else '.'}{number}"


def call_of(site: str, modules: Mapping[str, nn.Module]) -> Call | None:
    """Return the call of a layer that a name stands for. Return None for any other name.

    ``"block.1"`` stands for the first call of ``"block"``, unless it is a layer itself.
    """
    if site in modules:
        return Call(site, 1)
    match = _LATER_CALL.fullmatch(site)
    return Call(match[1], int(match[2])) if match and match[1] in modules else None


def called_module(site: str, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the module whose output a site is. Return None for any other site."""
    call = call_of(site, modules)
    return None if call is None else modules[call.name]


def function_call(site: str) -> tuple[str, Call] | None:
    """Return the layer that called an activation function, and the call. Return None for any other site."""
    match = _FUNCTION.fullmatch(site)
    return (match[1], Call(match[2], int(match[3] or 1))) if match else None


def spread_calls(sites: Sequence[str], modules: Mapping[str, nn.Module], most: int) -> list[str]:
    """Return sites with at most ``most`` evenly spaced calls of each layer or function, the first and last included."""
    groups: dict[object, list[str]] = {}
    for site in sites:
        call, function = call_of(site, modules), function_call(site)
        name = (function[0], function[1].name) if function else call.name if call else site
        groups.setdefault(name, []).append(site)
    kept: set[str] = set()
    for calls in groups.values():
        step = max(1.0, (len(calls) - 1) / (most - 1))
        kept.update(calls[round(k * step)] for k in range(min(most, len(calls))))
    return [site for site in sites if site in kept]


class CallCounter:
    """Counter of the calls of layers and functions in one forward pass.

    Parameters
    ----------
    modules
        The layers by name.
    visited
        Sites that count as visited before each forward pass starts.
    """

    def __init__(self, modules: Mapping[str, nn.Module], visited: Iterable[str] = ()) -> None:
        self._modules = modules
        self._before: dict[str, int] = {}
        for site in visited:
            call, function = call_of(site, modules), function_call(site)
            if function is not None:
                call = Call(f"{function[0]}:{function[1].name}", function[1].number)
            if call is not None:
                self._before[call.name] = max(call.number, self._before.get(call.name, 0))
        self.restart()

    def restart(self) -> None:
        """Start a new forward pass."""
        self._counts = dict(self._before)

    def next(self, name: str) -> str:
        """Count a call of a layer (``"block"``) or a function (``"block:relu"``), and return the name of its site."""
        number = self._counts[name] = self._counts.get(name, 0) + 1
        return name if number == 1 else call_name(name, number, self._modules)

    def functions(self) -> set[str]:
        """Return the sites of the last counted call of each function."""
        return {call_name(name, number, self._modules) for name, number in self._counts.items() if ":" in name}
