"""Which layers of a model, and how their outputs become rows of numbers.

A layer is named as in ``model.named_modules()``. Two more names can stand where a layer can: :data:`INPUT`, what goes
into the model, and :data:`OUTPUT`, what comes out of it.
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from torch import nn
from torch.optim.swa_utils import AveragedModel

INPUT = "<input>"
OUTPUT = "<output>"

IGNORED = -100  # the label that means "no target here", as in torch.nn.CrossEntropyLoss

Layers = str | re.Pattern[str] | type | Callable[[str, nn.Module], bool] | Iterable[Any] | None

# Modules whose output is what the field calls "the hidden activations" of a plain network.
ACTIVATION_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Softplus, nn.Softsign, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid,
)  # fmt: skip


_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrap(model: nn.Module) -> nn.Module:
    """The original module inside the wrappers of ``torch.compile``, data parallelism and weight averaging."""
    while True:
        if "_orig_mod" in getattr(model, "_modules", {}):  # what is no module is refused elsewhere
            model = cast(nn.Module, model._orig_mod)
        elif isinstance(model, _WRAPPERS):
            model = model.module
        else:
            return model


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """As ``model.named_modules()``, whose generators, one inside the other, take several times as long."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    waiting = [("", model)]
    while waiting:
        name, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found[name] = module
        prefix = f"{name}." if name else ""
        waiting += [(prefix + key, child) for key, child in reversed(module._modules.items()) if child is not None]
    return found


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """All modules below ``model`` by name, wrappers of compiled submodules looked through."""
    found: dict[str, nn.Module] = {}
    for name, module in named_modules(model).items():
        if "_orig_mod" in name:
            name = ".".join(part for part in name.split(".") if part != "_orig_mod")
        if name:
            found[name] = unwrap(module)
    return found


def select_layers(model: nn.Module, layers: Layers = None) -> list[str]:
    """Names of the selected layers, in the order of ``model.named_modules()``.

    Parameters
    ----------
    layers
        None (see :func:`default_layers`), an exact name, a glob (``"blocks.*"``), a compiled regular expression
        (matched from the start), a module class, a callable ``(name, module) -> bool``, :data:`INPUT`,
        :data:`OUTPUT`, or a list of any of these. A glob's ``*`` does not cross a dot: ``"blocks.*"`` are the
        blocks, ``"blocks.**"`` all that is in them.

    Raises
    ------
    ValueError
        If something selects nothing; names that are near are listed.
    """
    modules = named_layers(model)
    if layers is None:
        return default_layers(model)
    single = isinstance(layers, (str, re.Pattern, type)) or callable(layers)
    items = [layers] if single else list(cast(Iterable[Any], layers))
    if not items:
        raise ValueError("layers=[] selects nothing; None selects the default layers")
    chosen: set[str] = set()
    for item in items:
        matched = _matching(modules, item)
        if not matched:
            raise ValueError(_nothing_selected(modules, item))
        chosen.update(matched)
    order = [INPUT, *modules, OUTPUT]
    return sorted(chosen, key=order.index)


def _matching(modules: Mapping[str, nn.Module], item: Any) -> list[str]:
    if isinstance(item, str):
        if item in modules or item in (INPUT, OUTPUT):
            return [item]
        pattern = re.compile(_glob(item))
        return [name for name in modules if pattern.fullmatch(name)]
    if isinstance(item, re.Pattern):
        return [name for name in modules if item.match(name)]
    if isinstance(item, type):
        return [name for name, module in modules.items() if isinstance(module, item)]
    if callable(item) and not isinstance(item, nn.Module):  # a module is lost when the probe is copied
        return [name for name, module in modules.items() if item(name, module)]
    raise TypeError(
        f"layers takes names, globs, compiled regular expressions, module classes or callables, got {item!r}"
    )


def _glob(pattern: str) -> str:
    parts = [fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z") for part in pattern.split("**")]
    inside = [part.replace(".*", r"[^.]*") for part in parts]
    return ".*".join(inside)


def _nothing_selected(modules: Mapping[str, nn.Module], item: Any) -> str:
    told = f"layers={item!r} selects no layer of this model"
    names = list(modules)
    near = difflib.get_close_matches(item, names, n=5, cutoff=0.4) if isinstance(item, str) else []
    if near:
        return f"{told}; near names: {', '.join(near)}"
    shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return f"{told}; it has: {shown or 'no submodules (layers=OUTPUT measures what comes out)'}"


def default_layers(model: nn.Module, functional: Sequence[str] = ()) -> list[str]:
    """The layers measured where none are named.

    In this order: the children of the containers whose children share one class (the blocks of a transformer or a
    residual network; of several such classes the one with most parameters); else what comes out of the activation
    functions, be they modules or, as far as a forward pass has seen them (``functional``), calls; else the leaf
    modules with parameters; else what comes out of the model.
    """
    blocks = _repeated_blocks(model)
    if blocks:
        return blocks
    modules = named_layers(model)
    activations = [name for name, module in modules.items() if isinstance(module, ACTIVATION_MODULES)]
    # what is inside an attention layer is used, but never called
    inside = {
        id(part)
        for module in modules.values()
        if isinstance(module, nn.MultiheadAttention)
        for part in module.children()
    }
    leaves = [
        name
        for name, module in modules.items()
        if (_is_leaf(module) or isinstance(module, nn.MultiheadAttention))
        and id(module) not in inside
        and any(True for _ in module.parameters())
    ]
    return activations or list(functional) or leaves or [OUTPUT]


def _repeated_blocks(model: nn.Module) -> list[str]:
    by_class: dict[type, dict[str, nn.Module]] = {}
    order = list(named_layers(model))
    for prefix, container in {"": model, **named_layers(model)}.items():
        children = {name: unwrap(child) for name, child in container.named_children()}
        classes = {type(child) for child in children.values()}
        if len(classes) != 1 or (len(children) < 2 and not isinstance(container, nn.ModuleList)):
            continue
        (cls,) = classes
        if any(_is_leaf(child) or isinstance(child, nn.ModuleList) for child in children.values()):
            continue
        named = {f"{prefix}.{name}" if prefix else name: child for name, child in children.items()}
        named = {name: child for name, child in named.items() if name in order}  # a shared block has one name
        by_class.setdefault(cls, {}).update(named)
    if not by_class:
        return []

    def size(cls: type) -> tuple[int, bool]:  # stages that are nothing but their blocks give way to the blocks
        return sum(_n_parameters(block) for block in by_class[cls].values()), cls is not nn.Sequential

    return sorted(by_class[max(by_class, key=size)], key=order.index)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
