"""Links between consecutive calls of modules: the part of the call graph through which a value passes unchanged.

A :class:`Link` leads from a site to the next call of a module that receives its value. There are two cases:

- The module is called with the value as its only argument.
- The module contains the site and returns the value unchanged.

Any other use of the value (a residual sum, a function, a second argument) gives no link. An *entry* leads from a call
to the first call inside it, if both receive the same value as their only argument. Calls have the names of their sites,
see :mod:`probe.forward.calls`.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from probe.forward.calls import CallCounter, call_name, call_of, called_module, function_call
from probe.forward.layers import ACTIVATION_MODULES, INPUT, OUTPUT, named_layers
from probe.forward.outputs import OutputError, Select, tensor_of

_AFFINE = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)
_T = TypeVar("_T")


class Link(NamedTuple):
    """The next call, and whether it receives the value (or else returns the value unchanged)."""

    name: str
    called: bool


@dataclass
class _Call:
    """One call of a module. It keeps the tensors alive, so that no other tensor gets the same identity."""

    name: str = ""  # of its site; empty if it has none
    shape: tuple[int, ...] | None = None  # of the first tensor among its arguments
    argument: tuple[Tensor, int] | None = None  # with its version, which each write in place increases
    output: tuple[Tensor, int] | None = None
    inside: list["_Call"] = field(default_factory=list)


class CallRecorder:
    """Context manager that records the calls of modules. The model must run once in it.

    ``output`` selects what the model itself returns, see :func:`probe.forward.outputs.tensor_of`.
    """

    def __init__(self, model: nn.Module, output: Select = None) -> None:
        self._output = output
        self._modules = {OUTPUT: model, **named_layers(model)}
        self._calls = CallCounter(self._modules)
        self._reshaping: set[str] = set()  # modules with an output of another shape than the input
        self._stack = [_Call()]
        self._handles: list[Any] = []

    def __enter__(self) -> "CallRecorder":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._enter_module, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave_module(name), always_call=True))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter_module(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        single = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
        first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        call = _Call(argument=_with_version(args[0]) if single else None, shape=None if first is None else first.shape)
        self._stack[-1].inside.append(call)
        self._stack.append(call)

    def _leave_module(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            call = self._stack.pop()
            try:
                tensor = tensor_of(output, name, self._output if len(self._stack) == 1 else None)
            except (TypeError, OutputError):  # no site, as in a pass
                return
            call.output = _with_version(tensor)
            if call.shape != tensor.shape:
                self._reshaping.add(name)
            if name != OUTPUT or len(self._stack) == 1:  # a model that calls itself returns its output once
                call.name = self._calls.next(name)

        return hook

    def links(self) -> dict[str, Link]:
        """Return the links by the name of the first call."""
        found = {}
        for parent in _walk(self._stack[0]):
            for call, following in zip(parent.inside, [*parent.inside[1:], None], strict=False):
                link = Link(parent.name, False) if following is None else Link(following.name, True)
                received = parent.output if following is None else following.argument
                if call.name and link.name and _is_same(call.output, received):
                    found[call.name] = link
        return found

    def iterated(self) -> list[str]:
        """Return the modules that were called several times and returned values of the shape of their input."""
        calls = (call_of(call.name, self._modules) for call in _walk(self._stack[0]))
        names = {call.name for call in calls if call is not None and call.number == 2}
        return sorted(names - self._reshaping)

    def entries(self) -> dict[str, str]:
        """Return the entries by the name of the outer call."""
        pairs = [(call, call.inside[0]) for call in _walk(self._stack[0]) if call.inside]
        return {
            outer.name: inner.name
            for outer, inner in pairs
            if outer.name and inner.name and _is_same(outer.argument, inner.argument)
        }


def _walk(call: _Call) -> Iterator[_Call]:
    yield call
    for inner in call.inside:
        yield from _walk(inner)


def _with_version(tensor: Tensor) -> tuple[Tensor, int] | None:
    return None if tensor.is_inference() else (tensor, tensor._version)


def _is_same(one: tuple[Tensor, int] | None, other: tuple[Tensor, int] | None) -> bool:
    return one is not None and other is not None and one[0] is other[0] and one[1] == other[1]


def boundary_links(inputs: Any, order: Sequence[str], modules: Mapping[str, nn.Module]) -> dict[str, Link]:
    """Return the links of sites that are not calls: a single input tensor, and the outputs of activation modules.

    ``order`` holds the visited sites.
    """
    found = {INPUT: Link(OUTPUT, True)} if isinstance(inputs, Tensor) else {}
    returns: dict[str, str] = {}  # the call of each layer that returns next
    for site in reversed(order):
        call, function = call_of(site, modules), function_call(site)
        if call is not None:
            returns[call.name] = site
        elif function and site.endswith("->") and function[0] in returns and _is_simple(modules[function[0]]):
            found[site] = Link(returns[function[0]], False)  # the check of the suffix tests whether it is unchanged
    return found


def _is_simple(module: nn.Module) -> bool:
    return next(module.children(), None) is None and next(module.parameters(), None) is None


def common_items(one: Mapping[str, _T], other: Mapping[str, _T]) -> dict[str, _T]:
    """Return the items that are equal in both mappings."""
    return {key: value for key, value in one.items() if other.get(key) == value}


def suffix_links(links: Mapping[str, Link], site: str) -> list[Link] | None:
    """Return the links from a site to the output of the model. Return None if a link is missing."""
    found: list[Link] = []
    while site != OUTPUT:
        if site not in links:
            return None
        found.append(links[site])
        site = found[-1].name
    return found


def affine_prefix(
    links: Mapping[str, Link], entries: Mapping[str, str], modules: Mapping[str, nn.Module], site: str
) -> list[str]:
    """Return the calls of modules from a site up to the first affine map. The list is empty if there is none.

    The affine map is an unmodified ``nn.Linear`` or convolution. Only ``nn.Flatten`` and ``nn.Identity`` may come
    before it.
    """
    names = []
    for name in _innermost_modules(links, entries, site):
        module = called_module(name, modules)
        if module is None or not is_unmodified(module):
            return []
        names.append(name)
        if is_affine(module):
            return names
        if type(module) not in (nn.Flatten, nn.Identity):
            return []
    return []


def _innermost_modules(links: Mapping[str, Link], entries: Mapping[str, str], site: str) -> Iterator[str]:
    """Yield the calls without a known inner call that receive the value of a site, in their order."""
    while site in links:
        site, called = links[site]
        while called and site in entries:
            site = entries[site]
        if called:
            yield site


def is_unmodified(module: nn.Module) -> bool:
    """Return whether a call of a module runs only the code of its class: no hooks, no ``forward`` of the instance."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def is_affine(module: nn.Module) -> bool:
    """Return whether a module is an unmodified linear layer or convolution."""
    return type(module).forward in _AFFINE and is_unmodified(module)


def is_activation(module: nn.Module) -> bool:
    """Return whether a module is an unmodified activation function."""
    return type(module) in ACTIVATION_MODULES and is_unmodified(module)


def in_place_candidates(
    links: Iterable[Link], modules: Mapping[str, nn.Module], visited: Container[str]
) -> list[nn.Module]:
    """Return the activation modules of a suffix that can work in place, since no other code holds their input.

    No other code holds the first value of the suffix, or the output of an unmodified affine map. Other modules may keep
    a reference to their output. A module with several calls among the ``visited`` sites may have other inputs, too.
    """
    found, exclusive = [], True
    for name in (name for name, called in links if called):
        module = called_module(name, modules)
        if module is None:  # the model itself
            exclusive = False
        elif exclusive and is_activation(module) and getattr(module, "inplace", True) is False:
            if name in modules and call_name(name, 2, modules) not in visited:
                found.append(module)
        else:
            exclusive = is_affine(module)
    return found


@contextmanager
def in_place(activations: Iterable[nn.Module]) -> Iterator[None]:
    """Context manager in which these activation modules work in place, which saves a third of the memory traffic."""
    for module in activations:
        module.inplace = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in activations:
            module.inplace = False  # type: ignore[assignment]
