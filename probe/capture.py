"""One forward pass, seen from inside: {site: Tensor}, and the model left exactly as it was found.

A *site* is a place in the forward pass: the output of a layer (its name), :data:`~probe.layers.INPUT`,
:data:`~probe.layers.OUTPUT`, or what goes into an activation function, ``"<module>:<function>"``, as
``"blocks.0.mlp:gelu"``, or what comes out of it, ``"blocks.0.mlp:gelu->"``: activation modules and functional calls
(``F.gelu``) alike.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.chain import Calls, Link, ends, joined
from probe.defaults import of_the_user, plain
from probe.layers import INPUT, OUTPUT, Reduce, named_layers, reduced, replaced, tensor_of

# Edit(output, positions): what a site passes on instead; positions are the places of its rows in the request.
Edit = Callable[[Tensor, Tensor], Tensor]

# By name, since one function goes by several objects (F.relu, torch.relu, Tensor.relu); in-place forms end in "_".
_ACTIVATIONS = frozenset(
    [
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "softsign",
        "tanh",
        "sigmoid",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "logsigmoid",
        "log_sigmoid",
    ]
)


@dataclass(frozen=True)
class Scored:
    """A reduction that also sees the targets of its rows: ``function(output, targets) -> (n, k)``."""

    function: Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Tap:
    """What to take from one site."""

    site: str
    reduce: Reduce | Scored = None


@dataclass(frozen=True)
class Start:
    """A place to start from that is not the input: a site and the chain of modules after it."""

    site: str
    steps: Sequence[Link]


@dataclass
class Trace:
    """What one small forward pass showed: the sites in the order in which they fired, and how often each did.

    ``links`` tell where the value of a site alone goes on to the next module, ``entries`` where it goes on to the
    first module inside, see :mod:`probe.chain`.
    """

    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    floating: dict[str, bool] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """The sites in the order in which they first fired."""
        return list(self.calls)

    @property
    def activations(self) -> list[str]:
        """The sites before activation functions: pre-activations."""
        return [site for site in self.calls if ":" in site and not site.endswith("->")]

    def join(self, other: "Trace") -> None:
        """Add what another pass showed."""
        self.links = joined(self.links, other.links) if self.calls else dict(other.links)
        self.entries = joined(self.entries, other.entries) if self.calls else dict(other.entries)
        for site, calls in other.calls.items():
            self.calls[site] = max(calls, self.calls.get(site, 0))
            self.shapes.setdefault(site, other.shapes[site])
            self.floating.setdefault(site, other.floating[site])

    def saw(self, site: str, output: Tensor) -> None:
        """Note one visit."""
        self.calls[site] = self.calls.get(site, 0) + 1
        self.shapes.setdefault(site, tuple(output.shape))
        self.floating.setdefault(site, output.is_floating_point())


TRACE_ROWS = 2  # as many rows as a trace looks at


class _Stop(Exception):  # noqa: N818
    """Raised inside a forward pass when all that was wanted has been seen."""


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, no autocast, no fused attention layers, inside; outside, nothing has changed.

    Restored: the training flag of each module (set directly, since ``model.train()`` may be overridden), and the
    random states of torch (CPU and the model's CUDA devices), numpy and Python.
    """
    import random

    import numpy as np

    flags = {module: module.training for module in model.modules()}
    devices = {tensor.device for tensor in _tensors_of(model)}
    cuda = [device for device in devices if device.type == "cuda"]
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(cuda))
        stack.enter_context(torch.no_grad())
        for kind in {device.type for device in devices} | {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)  # its fused kernels pass by the layers inside
        if "torch._dynamo" in sys.modules:  # compiled code ignores hooks that come after it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags.items():
                module.training = flag
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def _tensors_of(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def device_of(model: nn.Module) -> torch.device:
    """Where the model expects its inputs: the device of its first parameter or buffer."""
    return next((tensor.device for tensor in _tensors_of(model)), torch.device("cpu"))


def call(model: nn.Module, inputs: Any) -> Any:
    """``model(x)`` for a tensor, ``model(*x)`` for a tuple, ``model(**x)`` for a mapping."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


class Pass:
    """One forward pass with taps and edits.

    Parameters
    ----------
    taps
        What to take. Nothing is kept but the reduced outputs.
    edits
        ``{site: edit}``: layers (or the input) whose output is replaced on the way.
    trace
        From :func:`trace`; with it the pass stops after the last wanted site.
    modules
        The named layers of the model, if they are known already.
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
        self.found: dict[Tap, Tensor] = {}
        self.seen = Trace()
        self._visiting = False
        self._all = trace is None
        # Sites that may fire again, or that a small pass did not see, are waited for to the end.
        once = trace is not None and all(trace.calls.get(site) == 1 for site in self.wanted)
        self._left = set(self.wanted) if once else set()

    def run(
        self, inputs: Any, targets: Any = None, positions: Tensor | None = None, start: Start | None = None
    ) -> dict[Tap, Tensor]:
        """Reduced outputs of all taps that fired; from ``start`` on, ``inputs`` being the value there, if given."""
        self._targets, self._positions = targets, positions
        self._n = None if positions is None else len(positions)
        with ExitStack() as stack:
            stack.enter_context(of_the_user())
            for handle in self._hooks():
                stack.callback(handle.remove)
            try:
                if start is None:
                    call(self.model, self._entered(inputs))
                else:
                    self._follow(start, inputs)
            except _Stop:
                pass
        return self.found

    def _follow(self, start: Start, value: Tensor) -> None:
        """Run the modules after a site only."""
        value = self._visit(start.site, value)
        for name, called in start.steps:
            module = self.model if name == OUTPUT else self.modules[name]
            value = tensor_of(module(value), f"layer {name!r}") if called else self._visit(name, value)

    def _hooks(self) -> Iterator[Any]:
        modules = self.modules
        names = modules if self._all else {*self.wanted, *self.edits} & modules.keys()
        for name in names:
            yield modules[name].register_forward_hook(self._hook(name))
        if self._all or OUTPUT in self.wanted:
            yield self.model.register_forward_hook(self._hook(OUTPUT))
        if self._all or any(":" in site for site in (*self.wanted, *self.edits)):
            yield _Activations({"": self.model, **modules}, self._visit, lambda: self._visiting)

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
        self._visiting = True  # activation functions that edits and reductions call are no sites
        try:
            if site in self.edits or site in self.wanted:
                with plain():
                    tensor = self._looked_at(site, tensor)
        finally:
            self._visiting = False
        self.seen.saw(site, tensor)
        if site in self._left:
            self._left.discard(site)
            if not self._left:
                raise _Stop
        return tensor

    def _looked_at(self, site: str, tensor: Tensor) -> Tensor:
        if site in self.edits:
            assert self._positions is not None
            tensor = self.edits[site](tensor, self._positions)
        for tap in self.wanted.get(site, ()):
            self.found[tap] = self._reduce(tap, tensor)
        return tensor

    def _reduce(self, tap: Tap, tensor: Tensor) -> Tensor:
        if isinstance(tap.reduce, Scored):
            return tap.reduce.function(tensor, self._targets).clone()
        rows = reduced(tensor, tap.reduce, f"layer {tap.site!r}")
        free = callable(tap.reduce) or tap.reduce in ("tokens", "none")
        if self._n is not None and not free and len(rows) != self._n:
            raise ValueError(
                f"layer {tap.site!r} returned shape {tuple(tensor.shape)} for {self._n} inputs, expected one row for "
                "each; give reduce= a callable that makes them (lambda z: z[-1] for (T, n, d)), or select other layers"
            )
        return rows.clone()  # the next layer may write in place


def _first(output: Any, site: str) -> Tensor | None:
    """The tensor of an output; None for a module that returns none (it cannot be measured, only passed by)."""
    try:
        return tensor_of(output, f"layer {site!r}")
    except TypeError:
        return None


class _Activations(TorchFunctionMode):
    """Sees each activation function called inside the model, and which module called it."""

    def __init__(
        self, modules: Mapping[str, nn.Module], visit: Callable[[str, Tensor], Tensor], paused: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._visit = visit
        self._paused = paused
        self._stack = [""]
        self._counts: dict[str, int] = {}
        self._handles = []
        for name, module in modules.items():
            if name:
                self._handles.append(module.register_forward_pre_hook(self._enter(name)))
                self._handles.append(module.register_forward_hook(self._leave, always_call=True))
        self.__enter__()

    def remove(self) -> None:
        self.__exit__(None, None, None)
        for handle in self._handles:
            handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._stack.append(name)

    def _leave(self, *_: Any) -> None:
        if len(self._stack) > 1:
            self._stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").removesuffix("_")
        if name not in _ACTIVATIONS or self._paused() or not args or not isinstance(args[0], Tensor):
            return func(*args, **(kwargs or {}))
        site = self._site(name)
        result = func(self._visit(site, args[0]), *args[1:], **(kwargs or {}))
        return self._visit(f"{site}->", result)

    def _site(self, function: str) -> str:
        site = f"{self._stack[-1]}:{function}"
        count = self._counts[site] = self._counts.get(site, 0) + 1
        return site if count == 1 else f"{site}.{count}"


def trace(model: nn.Module, inputs: Any) -> Trace:
    """Which sites fire, in which order, with what shapes, in one forward pass over ``inputs`` (a few rows)."""
    tracing = Pass(model, ())
    with preserved(model), Calls(model) as calls:
        tracing.run(inputs)
    seen, modules = tracing.seen, named_layers(model)
    by = {site: modules[name] for site in seen.calls if (name := site.split(":")[0]) in modules and ":" in site}
    seen.links, seen.entries = {**calls.links(), **ends(inputs, by)}, calls.entries()
    return seen
