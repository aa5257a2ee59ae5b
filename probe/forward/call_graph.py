"""What comes after a layer, where that is a chain of modules: found from the calls of one forward pass.

A *link* leads from a site to what happens next to its value: ``(module, True)``: that module is called with the value
and nothing else; ``(module, False)``: that module, which is around the site, returns the value as it is. Where anything
else happens (a residual sum, a function, a second argument) there is no link. A module that is called twice has none.
An *entry* leads from a module to the first one inside it, where both are called with the same value and nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from probe.forward.layers import ACTIVATION_MODULES, INPUT, OUTPUT, named_layers
from probe.forward.outputs import tensor_of

Link = tuple[str, bool]
_AFFINE = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)
_T = TypeVar("_T")


@dataclass
class _Call:
    """One call of a module, with the tensors themselves: as long as they live, no other is the same object."""

    name: str
    argument: tuple[Tensor, int] | None = None  # with its version: writing in place counts it up
    output: tuple[Tensor, int] | None = None
    inside: list["_Call"] = field(default_factory=list)


class Calls:
    """The calls of modules within ``with``, in which the model runs once."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {OUTPUT: model, **named_layers(model)}
        self._stack = [_Call("")]
        self._handles: list[Any] = []

    def __enter__(self) -> "Calls":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
            call = _Call(name, _stamp(args[0]) if alone else None)
            self._stack[-1].inside.append(call)
            self._stack.append(call)

        return hook

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._stack.pop().output = _stamp(output)

    def links(self) -> dict[str, Link]:
        """The links between the modules that were called once, by the name of the first."""
        calls, once = self._once()
        found = {}
        for around in calls:
            for call, after in zip(around.inside, [*around.inside[1:], None], strict=False):
                link = (around.name, False) if after is None else (after.name, True)
                onward = around.output if after is None else after.argument
                if _same(call.output, onward) and {call.name, link[0]} <= once:
                    found[call.name] = link
        return found

    def entries(self) -> dict[str, str]:
        """The entries of the modules that were called once, by the name of the module around."""
        calls, once = self._once()
        first = {call.name: call.inside[0].name for call in calls if call.inside and _alike(call, call.inside[0])}
        return {around: inner for around, inner in first.items() if {around, inner} <= once}

    def _once(self) -> tuple[list[_Call], set[str]]:
        calls = list(_walk(self._stack[0]))
        return calls, {name for name, n in Counter(call.name for call in calls).items() if n == 1}


def _walk(call: _Call) -> Iterator[_Call]:
    yield call
    for inner in call.inside:
        yield from _walk(inner)


def _stamp(output: Any) -> tuple[Tensor, int] | None:
    try:
        tensor = tensor_of(output, "a module")
    except TypeError:
        return None
    return None if tensor.is_inference() else (tensor, tensor._version)


def _same(one: tuple[Tensor, int] | None, other: tuple[Tensor, int] | None) -> bool:
    return one is not None and other is not None and one[0] is other[0] and one[1] == other[1]


def _alike(one: _Call, other: _Call) -> bool:
    return _same(one.argument, other.argument)


def tail(links: Mapping[str, Link], site: str) -> list[Link] | None:
    """The links from a site to the output of the model; None where the chain breaks."""
    steps: list[Link] = []
    while site != OUTPUT:
        if site not in links:
            return None
        steps.append(links[site])
        site = steps[-1][0]
    return steps


def innermost(links: Mapping[str, Link], entries: Mapping[str, str], site: str) -> Iterator[str]:
    """The modules without modules inside that the value of a site goes through, one after the other."""
    while site in links:
        site, called = links[site]
        while called and site in entries:
            site = entries[site]
        if called:
            yield site


def joined(one: Mapping[str, _T], other: Mapping[str, _T]) -> dict[str, _T]:
    """What holds in two passes."""
    return {site: fact for site, fact in one.items() if other.get(site) == fact}


def ends(inputs: Any, activations: Mapping[str, nn.Module]) -> dict[str, Link]:
    """Links of sites that are no modules: a single input tensor, and what leaves an activation module.

    ``activations``: {site: module that called it}.
    """
    found = {INPUT: (OUTPUT, True)} if isinstance(inputs, Tensor) else {}
    for site, module in activations.items():
        plain = next(module.children(), None) is None and next(module.parameters(), None) is None
        if site.endswith("->") and plain:  # whether it does return it as it is, shows when the tail is tried
            found[site] = (site.split(":")[0], False)
    return found


def bare(module: nn.Module) -> bool:
    """Whether nothing but the code of its class runs when a module is called."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def affine(module: nn.Module) -> bool:
    """Whether a module is an affine map of all that it is given: a linear layer or a convolution, as it is."""
    return type(module).forward in _AFFINE and bare(module)


def activation(module: nn.Module) -> bool:
    """Whether a module is an activation function and nothing else."""
    return type(module) in ACTIVATION_MODULES and bare(module)


def overwriting(steps: Iterable[Link], modules: Mapping[str, nn.Module]) -> list[nn.Module]:
    """The activation modules of a chain that can write over what they are given, since nobody else holds it.

    That holds for the first value, and for what a bare affine map returns; other modules may keep what they return.
    """
    found, ours = [], True
    for module in (modules.get(name) for name, called in steps if called):
        if module is None:  # the model itself
            ours = False
        elif ours and activation(module) and getattr(module, "inplace", True) is False:
            found.append(module)
        else:
            ours = affine(module)
    return found


@contextmanager
def in_place(activations: Iterable[nn.Module]) -> Iterator[None]:
    """Let these activation modules write over what they are given: a third less memory to go through."""
    for module in activations:
        module.inplace = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in activations:
            module.inplace = False  # type: ignore[assignment]
