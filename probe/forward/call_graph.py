"""Links between consecutive modules: the part of the call graph through which a value passes unchanged.

A :class:`Link` leads from a site to the next module that receives its value. There are two cases:

- The module is called with the value as its only argument.
- The module contains the site and returns the value unchanged.

Any other use of the value (a residual sum, a function, a second argument) gives no link. A module that is called twice
has no link. An *entry* leads from a module to its first inner module, if both are called with the same value as their
only argument.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from probe.forward.layers import ACTIVATION_MODULES, INPUT, OUTPUT, named_layers
from probe.forward.outputs import tensor_of

_AFFINE = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)
_T = TypeVar("_T")


class Link(NamedTuple):
    """The next module, and whether it is called with the value (or else returns the value unchanged)."""

    name: str
    called: bool


@dataclass
class _Call:
    """One call of a module. It keeps the tensors alive, so that no other tensor gets the same identity."""

    name: str
    argument: tuple[Tensor, int] | None = None  # with its version, which each write in place increases
    output: tuple[Tensor, int] | None = None
    inside: list["_Call"] = field(default_factory=list)


class CallRecorder:
    """Context manager that records the calls of modules. The model must run once in it."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {OUTPUT: model, **named_layers(model)}
        self._stack = [_Call("")]
        self._handles: list[Any] = []

    def __enter__(self) -> "CallRecorder":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._enter_module(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave_module))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter_module(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            single = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
            call = _Call(name, _with_version(args[0]) if single else None)
            self._stack[-1].inside.append(call)
            self._stack.append(call)

        return hook

    def _leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop().output = _with_version(output)

    def links(self) -> dict[str, Link]:
        """Return the links between modules that were called once, by the name of the first module."""
        calls, once = self._called_once()
        found = {}
        for parent in calls:
            for call, following in zip(parent.inside, [*parent.inside[1:], None], strict=False):
                link = Link(parent.name, False) if following is None else Link(following.name, True)
                received = parent.output if following is None else following.argument
                if _is_same(call.output, received) and {call.name, link.name} <= once:
                    found[call.name] = link
        return found

    def entries(self) -> dict[str, str]:
        """Return the entries of modules that were called once, by the name of the outer module."""
        calls, once = self._called_once()
        pairs = {
            call.name: call.inside[0].name
            for call in calls
            if call.inside and _is_same(call.argument, call.inside[0].argument)
        }
        return {outer: inner for outer, inner in pairs.items() if {outer, inner} <= once}

    def _called_once(self) -> tuple[list[_Call], set[str]]:
        """Return all calls, and the names of the modules with one call."""
        calls = list(_walk(self._stack[0]))
        return calls, {name for name, n in Counter(call.name for call in calls).items() if n == 1}


def _walk(call: _Call) -> Iterator[_Call]:
    yield call
    for inner in call.inside:
        yield from _walk(inner)


def _with_version(output: Any) -> tuple[Tensor, int] | None:
    try:
        tensor = tensor_of(output, "a module")
    except TypeError:
        return None
    return None if tensor.is_inference() else (tensor, tensor._version)


def _is_same(one: tuple[Tensor, int] | None, other: tuple[Tensor, int] | None) -> bool:
    return one is not None and other is not None and one[0] is other[0] and one[1] == other[1]


def boundary_links(inputs: Any, activations: Mapping[str, nn.Module]) -> dict[str, Link]:
    """Return the links of sites that are not modules: a single input tensor, and the outputs of activation modules.

    ``activations``: {site: module that called the function}.
    """
    found = {INPUT: Link(OUTPUT, True)} if isinstance(inputs, Tensor) else {}
    for site, module in activations.items():
        simple = next(module.children(), None) is None and next(module.parameters(), None) is None
        if site.endswith("->") and simple:  # the check of the suffix tests whether the module returns it unchanged
            found[site] = Link(site.split(":")[0], False)
    return found


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
    """Return the names of the modules from a site up to the first affine map. The list is empty if there is none.

    The affine map is an unmodified ``nn.Linear`` or convolution. Only ``nn.Flatten`` and ``nn.Identity`` may come
    before it.
    """
    names = []
    for name in _innermost_modules(links, entries, site):
        module = modules.get(name)
        if module is None or not is_unmodified(module):
            return []
        names.append(name)
        if is_affine(module):
            return names
        if type(module) not in (nn.Flatten, nn.Identity):
            return []
    return []


def _innermost_modules(links: Mapping[str, Link], entries: Mapping[str, str], site: str) -> Iterator[str]:
    """Yield the modules without a known inner module that receive the value of a site, in the order of their calls."""
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


def in_place_candidates(links: Iterable[Link], modules: Mapping[str, nn.Module]) -> list[nn.Module]:
    """Return the activation modules of a suffix that can work in place, since no other code holds their input.

    No other code holds the first value of the suffix, or the output of an unmodified affine map. Other modules may keep
    a reference to their output.
    """
    found, exclusive = [], True
    for module in (modules.get(name) for name, called in links if called):
        if module is None:  # the model itself
            exclusive = False
        elif exclusive and is_activation(module) and getattr(module, "inplace", True) is False:
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
