"""Layers that receive a part of the inputs, as the experts of a mixture do."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.passes import Scored, Tap
from probe.forward.runner import Runner
from probe.forward.sites import TRACE_ROWS

_FEWER = {(n,) for n in range(TRACE_ROWS)}  # first axes


def partial_layers(runner: Runner, layers: Sequence[str]) -> set[str]:
    """Return which of these layers receive a part of the inputs. If the trace suggests a router, all data is passed.

    Experts that receive k of E parts of the inputs cannot all receive both traced inputs. The children of a list whose
    numbers of rows differ are therefore all partial, also one that the router happens to give every input.
    """
    shapes, modules = runner.trace.shapes, runner.modules
    routed, unvisited, lists = [], False, _lists(modules)
    for name, children in lists.items():
        counts = {shapes[child][:1] for child in children if child in shapes}
        unvisited |= bool(counts) and not shapes.keys() >= children
        if len(counts) > 1 or counts & _FEWER:
            routed.append(name)
    found = {layer for layer in layers if shapes.get(layer, (TRACE_ROWS,))[:1] in _FEWER}
    found |= {layer for layer in layers if layer.startswith(tuple(routed))}
    if found or routed or unvisited:
        others = [layer for layer in layers if layer in shapes and layer not in found and runner.trace.has_rows(layer)]
        found |= _with_fewer_rows(runner, others)
    inner = (max((name for name in lists if layer.startswith(name)), key=len, default=None) for layer in found)
    prefixes = tuple({name for name in inner if name is not None})
    return found | {layer for layer in layers if layer.startswith(prefixes)}


def _lists(modules: Mapping[str, nn.Module]) -> dict[str, set[str]]:
    """Return the children of each list of modules, by the start of their names."""
    lists = {name: part for name, part in modules.items() if isinstance(part, (nn.ModuleList, nn.ModuleDict))}
    return {f"{name}.": {f"{name}.{key}" for key in part._modules} for name, part in lists.items()}


def _with_fewer_rows(runner: Runner, layers: Sequence[str]) -> set[str]:
    """Return the layers that receive fewer rows than there are inputs, in one pass over all data."""
    found: set[str] = set()
    for split, batch in runner.data.items() if layers else ():
        counts: dict[str, int] = {}
        taps = [Tap(layer, Scored(_counter(layer, counts))) for layer in layers]
        with suppress(Exception):  # the observation raises it, with the name of the probe
            runner.run(split, runner.model_pass(taps), torch.arange(len(batch)))
            found |= {layer for layer, count in counts.items() if count < len(batch)}
    return found


def _counter(layer: str, counts: dict[str, int]) -> Callable[[Tensor, Tensor | None], Any]:
    """Return a reduction that adds the number of rows of a layer, and keeps no rows."""

    def count(value: Tensor, targets: Tensor | None) -> None:
        counts[layer] = counts.get(layer, 0) + (value.shape[0] if value.ndim else 0)

    return count
