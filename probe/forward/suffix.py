"""Passes that start behind a site: the modules of the chain after it run, and nothing else."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from probe.forward.call_graph import Link, activation, in_place, overwriting
from probe.forward.isolation import with_user_defaults
from probe.forward.layers import OUTPUT
from probe.forward.outputs import tensor_of
from probe.forward.passes import Pass, Tap, Trace

Put = Callable[[range], Tensor]  # positions -> the value at the site, in a tensor that nobody else holds
_Call = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Start:
    """A site, the chain of modules after it, and the type of what it passes on."""

    site: str
    steps: Sequence[Link]
    dtype: torch.dtype


class Tail(Pass):
    """As :class:`probe.forward.Pass`, from a site on.

    What the modules of the chain are given and return is looked at between their calls, which takes a fraction of the
    time of a hook: small networks spend more of it on hooks than on products. What is inside of them has hooks.

    Parameters
    ----------
    start, put
        Where it starts, and with what. The activation modules of the chain write over it, and over what else nobody
        can hold.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Iterable[Tap],
        start: Start,
        put: Put,
        *,
        trace: Trace,
        modules: Mapping[str, nn.Module],
    ) -> None:
        super().__init__(model, taps, trace=trace, modules=modules)
        self._start, self._put = start, put
        self._spare = overwriting(start.steps, modules)
        self._plan = list(self._planned({OUTPUT: model, **modules}))
        self._hooked -= {site for _, sites in self._plan for site in sites}
        if not any(":" in site for site in self._hooked):
            self._activations = None
        while self._awaited and not self._hooked and not self._plan[-1][1]:
            self._plan.pop()  # nothing is wanted after this

    def _planned(self, modules: Mapping[str, nn.Module]) -> Iterator[tuple[_Call | None, list[str]]]:
        """Each module, and the wanted sites that see what it returns; before them those that see what is put."""
        module: _Call | None = None
        sites = [self._start.site]
        for name, called in self._start.steps:
            if called:
                alone = activation(modules[name])  # its function sees what the module sees
                inside = [site for site in self.wanted if alone and site.startswith(f"{name}:")]
                sites += [site for site in inside if not site.endswith("->")]
                yield module, [site for site in sites if site in self.wanted]
                module, sites = with_user_defaults(modules[name]), [site for site in inside if site.endswith("->")]
            if not called or name != OUTPUT:  # the model itself may stop on the way
                sites.append(name)
        yield module, [site for site in sites if site in self.wanted]

    def __enter__(self) -> Self:
        super().__enter__()
        self._stack.enter_context(in_place(self._spare))
        return self

    def run(self, inputs: Any = None, targets: Any = None, block: range = range(0)) -> None:
        """Run the chain once; it makes its own inputs."""
        self._next(targets, block)
        look = self._visit if self._hooked else self._looked_at
        value = self._put(block)
        value = value if value.dtype == self._start.dtype else value.to(self._start.dtype)
        with self._watching() if self._hooked else nullcontext():
            for module, sites in self._plan:
                if module is not None:  # a value is let go of as soon as the next is there
                    value = tensor_of(module(value), "a layer of the chain")
                for site in sites:
                    look(site, value)
