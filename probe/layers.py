"""Which layers of a model, and how their outputs become rows of numbers.

A layer is named as in ``model.named_modules()``. Two more names can stand where a layer can: :data:`INPUT`, what goes
into the model, and :data:`OUTPUT`, what comes out of it.
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

INPUT = "<input>"
OUTPUT = "<output>"

IGNORED = -100  # the label that means "no target here", as in torch.nn.CrossEntropyLoss

Layers = str | re.Pattern[str] | type | Callable[[str, nn.Module], bool] | Iterable[Any] | None
Reduce = str | int | Callable[[Tensor], Tensor] | None
_REDUCTIONS = (None, "last", "mean", "flatten", "tokens", "none")

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


def tensor_of(output: Any, where: str) -> Tensor:
    """The tensor that an output stands for: itself, its ``logits``, else the first tensor in it."""
    if isinstance(output, Tensor):
        return output
    found = _first_tensor(output)
    if found is None:
        raise TypeError(f"{where} returned {type(output).__name__} with no tensor in it; select another layer")
    return found


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        items: Iterable[Any] = [output["logits"]] if "logits" in output else output.values()
    elif isinstance(output, (tuple, list)):
        items = [cast(Any, output).logits] if "logits" in getattr(output, "_fields", ()) else output
    elif is_dataclass(output):
        names = [field.name for field in fields(output)]
        items = [getattr(output, name) for name in (["logits"] if "logits" in names else names)]
    else:
        return None
    return next((found for found in map(_first_tensor, items) if found is not None), None)


def replaced(output: Any, new: Tensor, where: str) -> Any:
    """The same output with the tensor that it stands for (see :func:`tensor_of`) exchanged."""
    return _exchanged(output, tensor_of(output, where), new)


def _exchanged(output: Any, old: Tensor, new: Tensor) -> Any:
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed = copy(output)
        for key, value in output.items():
            changed[key] = _exchanged(value, old, new)  # type: ignore[index]
        return changed
    if isinstance(output, (tuple, list)):
        items = [_exchanged(item, old, new) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    if is_dataclass(output) and not isinstance(output, type):
        changed_fields = {field.name: _exchanged(getattr(output, field.name), old, new) for field in fields(output)}
        return replace(output, **changed_fields)
    return output


def reduced(output: Tensor, reduce: Reduce, where: str = "a layer") -> Tensor:
    """Rows of numbers from what a layer returns.

    Parameters
    ----------
    output : Tensor of shape (n, ...)
    reduce
        None: (n, d) as it is, (n, T, d) the last position, (n, C, H, W) the mean over space. ``"last"``, ``"mean"``
        (over all but the first and the feature axis), ``"flatten"``, ``"tokens"`` (positions become rows), an index
        of a position, ``"none"`` (as it is), or a callable. Where there are no positions, (n, d), all but a callable
        leave it as it is.

    Returns
    -------
    Tensor of shape (n, d); (n*T, d) or (n*H*W, C) for ``"tokens"``. Half precision and integers become float32,
    complex features two real ones each (for ``"none"`` and a callable they are an error).
    """
    if callable(reduce):
        rows = _floating(tensor_of(reduce(output), f"the callable reduce of {where}"))
        if rows.ndim == 0:
            raise ValueError(f"the callable reduce of {where} returned a single number, expected a row for each input")
        return rows
    if not isinstance(reduce, int) and reduce not in _REDUCTIONS:
        raise ValueError(
            f"reduce must be None, 'last', 'mean', 'flatten', 'tokens', 'none', an index or a callable, got {reduce!r}"
        )
    if output.is_complex() and reduce != "none":
        output = _as_real(output)
    output = _floating(output)
    if reduce == "none":
        return output
    if output.ndim == 0:
        raise ValueError(f"{where} returns a single number, expected one row for each input; select another layer")
    if output.ndim == 1:
        return output[:, None]
    if reduce == "flatten" or output.ndim == 2:
        return output.flatten(1)
    if reduce is None:
        reduce = "last" if output.ndim == 3 else "mean"
    if reduce == "mean":
        return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(2)
    if reduce == "tokens":
        return (output if output.ndim == 3 else output.movedim(1, -1)).flatten(0, -2)
    index = -1 if reduce == "last" else int(reduce)
    if not -output.shape[1] <= index < output.shape[1]:
        raise ValueError(f"reduce={index} asks {where} for a position that it lacks: it has {output.shape[1]}")
    return output[:, index].flatten(1)


def _as_real(output: Tensor) -> Tensor:
    """Real and imaginary parts side by side along the feature axis: distances stay what they are."""
    axis = -1 if output.ndim <= 3 else 1
    return torch.cat([output.real, output.imag], axis) if output.ndim > 1 else torch.view_as_real(output)


def _floating(output: Tensor) -> Tensor:
    if output.is_nested:
        raise TypeError("nested tensors have no rows of one length; give reduce= a callable that makes them")
    if output.is_quantized:
        return output.dequantize()
    if output.layout != torch.strided:
        output = output.to_dense()
    if output.is_complex():
        raise TypeError("complex outputs have no order; give reduce= a callable that makes them real")
    return output if output.dtype in (torch.float32, torch.float64) else output.float()
