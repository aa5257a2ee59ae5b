"""Forward passes, seen from inside: {site: Tensor}, and the model left exactly as it was found.

A *site* is a place in the forward pass: the output of a layer (its name), :data:`~probe.INPUT`,
:data:`~probe.OUTPUT`, or what goes into an activation function, ``"<module>:<function>"``, as
``"blocks.0.mlp:gelu"``, or what comes out of it, ``"blocks.0.mlp:gelu->"``: activation modules and functional calls
(``F.gelu``) alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from probe.forward.activations import Activations
from probe.forward.call_graph import Calls, Link, ends, joined
from probe.forward.isolation import isolated, torch_defaults, user_defaults
from probe.forward.layers import INPUT, OUTPUT, named_layers
from probe.forward.outputs import Reduce, reduced, replaced, tensor_of
from probe.forward.row_buffer import Rows

# Edit(output, positions): what a site passes on instead; positions are the places of its rows in the request.
Edit = Callable[[Tensor, Tensor], Tensor]


_FLOATS = "floating-point numbers"


@dataclass(frozen=True)
class Scored:
    """A reduction that also sees the targets of its rows: ``function(output, targets) -> (n, k)``."""

    function: Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Tap:
    """What to take from one site."""

    site: str
    reduce: Reduce | Scored = None


@dataclass
class Trace:
    """What one small forward pass showed: the sites in the order in which they fired, and how often each did.

    ``kinds`` tell what kind of numbers a site holds; ``links`` where its value alone goes on to the next module,
    ``entries`` where it goes on to the first module inside, see :mod:`probe.forward.call_graph`.
    """

    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)
    # what hangs on these alone, once it was asked for: the layers where none are named, units of a site for one input
    defaults: list[str] = field(default_factory=list)
    units: dict[tuple[str, str], int] = field(default_factory=dict)  # by split and site

    @property
    def order(self) -> list[str]:
        """The sites in the order in which they first fired."""
        return list(self.calls)

    @property
    def activations(self) -> list[str]:
        """The sites before activation functions: pre-activations."""
        return [site for site in self.calls if ":" in site and not site.endswith("->")]

    def floats(self, site: str) -> bool:
        """Whether a site fires with floating-point numbers, which can be moved a little."""
        return self.kinds.get(site) == _FLOATS

    def told(self, site: str) -> str:
        """What a site was seen to do, for messages."""
        return f"holds {self.kinds[site]}" if site in self.kinds else "does not fire"

    def join(self, other: "Trace") -> None:
        """Add what another pass showed."""
        self.links = joined(self.links, other.links) if self.calls else dict(other.links)
        self.entries = joined(self.entries, other.entries) if self.calls else dict(other.entries)
        for site, calls in other.calls.items():
            self.calls[site] = max(calls, self.calls.get(site, 0))
            self.shapes.setdefault(site, other.shapes[site])
            self.kinds.setdefault(site, other.kinds[site])

    def saw(self, site: str, output: Tensor) -> None:
        """Note one visit."""
        self.calls[site] = self.calls.get(site, 0) + 1
        self.shapes.setdefault(site, tuple(output.shape))
        self.kinds.setdefault(site, _kind(output))


def _kind(output: Tensor) -> str:
    return _FLOATS if output.is_floating_point() else "complex numbers" if output.is_complex() else "integers"


TRACE_ROWS = 2  # as many rows as a trace looks at


class _Stop(Exception):  # noqa: N818
    """Raised inside a forward pass when all that was wanted has been seen."""


def call(model: nn.Module, inputs: Any) -> Any:
    """``model(x)`` for a tensor, ``model(*x)`` for a tuple, ``model(**x)`` for a mapping."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


class Pass:
    """Forward passes with taps and edits: within ``with``, which puts hooks on the model, as many as are wanted.

    Parameters
    ----------
    taps
        What to take. Nothing is kept but the reduced outputs.
    edits
        ``{site: edit}``: layers (or the input) whose output is replaced on the way.
    trace
        From :func:`trace`; with it a pass stops after the last wanted site.
    modules
        The named layers of the model, if they are known already.

    Attributes
    ----------
    seen : the sites of the last pass, if there was no trace
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Iterable[Tap],
        *,
        edits: Mapping[str, Edit] | None = None,
        trace: Trace | None = None,
        modules: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.model = model
        self.modules = named_layers(model) if modules is None else modules
        self.edits = dict(edits or {})
        self.wanted: dict[str, list[Tap]] = {}
        for tap in taps:
            self.wanted.setdefault(tap.site, []).append(tap)
        self._rows: dict[str, list[tuple[Tap, Rows]]] = {}
        self._visiting = False  # activation functions that edits and reductions call are no sites
        self._all = trace is None
        # Sites that may fire again, or that a small pass did not see, are waited for to the end.
        once = trace is not None and all(trace.calls.get(site) == 1 for site in self.wanted)
        self._awaited = set(self.wanted) if once else set()
        self._hooked = {*self.wanted, *self.edits}
        inside = self._all or any(":" in site for site in self._hooked)
        self._activations = Activations(self.modules, self._visit, lambda: self._visiting) if inside else None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for handle in self._hooks():
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def begin(self, inputs: int, keep: torch.device | None = None) -> None:
        """From now on, keep what is found for so many inputs, on the device ``keep`` if not where it is found."""
        self._rows = {site: [(tap, Rows(inputs, keep)) for tap in taps] for site, taps in self.wanted.items()}

    def run(self, inputs: Any, targets: Any = None, block: range = range(0)) -> None:
        """Run the model once; ``block`` are the places of these inputs among all."""
        if self._all:
            self.seen = Trace()
        self._next(targets, block)
        with user_defaults(), self._watching():
            call(self.model, self._entered(inputs))

    def found(self, blocks: int) -> dict[Tap, Tensor]:
        """Reduced outputs of the taps that fired in all of so many blocks.

        A layer that fired for some of the inputs only has no rows that could be matched with theirs.
        """
        pairs = chain.from_iterable(self._rows.values())
        return {tap: rows.joined() for tap, rows in pairs if rows.blocks == blocks > 0}

    def _next(self, targets: Any, block: range) -> None:
        self._targets, self._block = targets, block
        self._left = set(self._awaited)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        with self._activations or nullcontext(), suppress(_Stop):
            yield

    def _hooks(self) -> Iterator[Any]:
        names = self.modules if self._all else self._hooked & self.modules.keys()
        for name in names:
            yield self.modules[name].register_forward_hook(self._hook(name))
        if self._all or OUTPUT in self._hooked:
            yield self.model.register_forward_hook(self._hook(OUTPUT))
        if self._activations is not None:
            yield from self._activations.hooks()

    def _hook(self, site: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if site not in self.edits and site not in self.wanted and not self._all:
                return None
            tensor = _first(output, site)
            if tensor is None:
                return None
            new = self._visit(site, tensor)
            return None if new is tensor else replaced(output, new, f"layer {site!r}")

        return hook

    def _entered(self, inputs: Any) -> Any:
        if not (self._all or INPUT in self.wanted or INPUT in self.edits):
            return inputs
        tensor = tensor_of(inputs, "the data")
        new = self._visit(INPUT, tensor)
        if new is tensor:
            return inputs
        if isinstance(inputs, Mapping):
            return {key: new if value is tensor else value for key, value in inputs.items()}
        return replaced(inputs, new, "the data")

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        if site in self.edits or site in self.wanted:
            self._visiting = True
            try:
                with torch_defaults():
                    tensor = self._looked_at(site, tensor)
            finally:
                self._visiting = False
        if self._all:
            self.seen.saw(site, tensor)
        if site in self._left:
            self._left.discard(site)
            if not self._left:
                raise _Stop
        return tensor

    def _looked_at(self, site: str, tensor: Tensor) -> Tensor:
        if site in self.edits:
            positions = torch.arange(self._block.start, self._block.stop, device=tensor.device)
            tensor = self.edits[site](tensor, positions)
        for tap, rows in self._rows.get(site, ()):
            rows.add(self._reduce(tap, tensor), self._block)
        return tensor

    def _reduce(self, tap: Tap, tensor: Tensor) -> Tensor:
        if isinstance(tap.reduce, Scored):
            return tap.reduce.function(tensor, self._targets)
        rows, n = reduced(tensor, tap.reduce, f"layer {tap.site!r}"), len(self._block)
        if callable(tap.reduce) or tap.reduce in ("tokens", "none") or len(rows) == n:
            return rows
        raise ValueError(
            f"layer {tap.site!r} returned shape {tuple(tensor.shape)} for {n} inputs, expected one row for each; "
            "give reduce= a callable that makes them (lambda z: z[-1] for (T, n, d)), or select other layers"
        )


def _first(output: Any, site: str) -> Tensor | None:
    """The tensor of an output; None for a module that returns none (it cannot be measured, only passed by)."""
    try:
        return tensor_of(output, f"layer {site!r}")
    except TypeError:
        return None


def trace(model: nn.Module, inputs: Any) -> Trace:
    """Which sites fire, in which order, with what shapes, in one forward pass over ``inputs`` (a few rows)."""
    tracing = Pass(model, ())
    with isolated(model), Calls(model) as calls, tracing:
        tracing.run(inputs)
    seen, modules = tracing.seen, named_layers(model)
    by = {site: modules[name] for site in seen.calls if (name := site.split(":")[0]) in modules and ":" in site}
    seen.links, seen.entries = {**calls.links(), **ends(inputs, by)}, calls.entries()
    return seen
