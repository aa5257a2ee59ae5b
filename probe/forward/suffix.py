"""Forward passes through a suffix of the model: the modules after a site, without the rest of the model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from probe.forward.activations import holds_input
from probe.forward.call_graph import Link, in_place, in_place_candidates, is_activation
from probe.forward.calls import Call, CallCounter, call_of, function_call
from probe.forward.data import Batch
from probe.forward.isolation import with_user_defaults
from probe.forward.layers import OUTPUT
from probe.forward.outputs import tensor_of
from probe.forward.passes import Pass, Tap
from probe.forward.sites import Trace

# make_values(positions) -> values of the site for these rows, in a tensor to which no other code refers.
MakeValues = Callable[[range], Tensor]
_Module = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Suffix:
    """A site, the links from it to the output of the model, the dtype of its values, and the sites visited so far."""

    site: str
    links: Sequence[Link]
    dtype: torch.dtype
    visited: Sequence[str]


class SuffixPass(Pass):
    """Context manager for forward passes through a suffix, which start from given values.

    This class processes the values of the modules of the suffix between their calls. That takes a fraction of the time
    of a hook, and small networks spend more time in hooks than in matrix products. Sites inside the modules have hooks.

    Parameters
    ----------
    model, taps, trace, modules
        See :class:`probe.forward.passes.Pass`.
    suffix
        Where the passes start.
    make_values
        Values of this site. Activation modules of the suffix work in place, if no other code can hold their input.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Iterable[Tap],
        suffix: Suffix,
        make_values: MakeValues,
        *,
        trace: Trace,
        modules: Mapping[str, nn.Module],
    ) -> None:
        super().__init__(model, taps, modules=modules, output=trace.output)
        self._suffix, self._make_values = suffix, make_values
        self._in_place = in_place_candidates(suffix.links, modules, trace.shapes)
        self._steps = list(self._plan({OUTPUT: model, **modules}))
        self._hooked -= {site for _, sites in self._steps for site in sites}
        if self._hooked:  # their hooks must count the calls before the suffix
            self._calls = CallCounter(modules, suffix.visited)
        self._activations = self._activation_mode() if any(":" in site for site in self._hooked) else None
        while not self._hooked and len(self._steps) > 1 and not self._steps[-1][1]:
            self._steps.pop()  # no requested site follows

    def _plan(self, modules: Mapping[str, nn.Module]) -> Iterator[tuple[_Module | None, list[str]]]:
        """Yield each module with the requested sites whose value it returns. First None, with those of the start."""
        module: _Module | None = None
        sites = [self._suffix.site]
        for name, called in self._suffix.links:
            if called:
                call = call_of(name, modules)
                if call is None:
                    raise KeyError(name)  # the model has changed since the trace
                inside = self._inside(call) if is_activation(modules[call.name]) else []
                sites += [site for site in inside if not site.endswith("->")]
                yield module, [site for site in sites if site in self.taps_by_site]
                module, sites = self._module(modules, call.name), [site for site in inside if site.endswith("->")]
            sites.append(name)
        yield module, [site for site in sites if site in self.taps_by_site]

    def _module(self, modules: Mapping[str, nn.Module], name: str) -> _Module:
        module = with_user_defaults(modules[name])
        if name != OUTPUT or self._output is None:
            return module
        return lambda value: tensor_of(module(value), "the model", self._output)

    def _inside(self, call: Call) -> list[str]:
        """Return the requested sites of the call of an activation module that hold its input or its output."""
        functions = (
            (site, function_call(site)) for site in self.taps_by_site if site.endswith("->") or holds_input(site)
        )
        return [site for site, at in functions if at and (at[0], at[1].number) == call]

    def __enter__(self) -> Self:
        super().__enter__()
        self._stack.enter_context(in_place(self._in_place))
        return self

    def run(self, data: Batch, rows: Tensor, block: range, device: torch.device) -> None:
        """Run the suffix on the values for a block of rows. Only the targets of the data are used."""
        taken = rows[block.start : block.stop]
        self._start_block(data.targets_of(taken, device), block, data.mask_of(taken, device))
        process = self._visit if self._hooked else self._process
        value = self._make_values(block)
        value = value if value.dtype == self._suffix.dtype else value.to(self._suffix.dtype)
        with self._visiting() if self._hooked else nullcontext():
            for module, sites in self._steps:
                if module is not None:  # each value is released as soon as the next one exists
                    value = tensor_of(module(value), "a module of the suffix")
                for site in sites:
                    process(site, value)
