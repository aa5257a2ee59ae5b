"""Names of the layers of a model, and their selection.

The name of a layer is that in ``model.named_modules()``. Two more names are valid:
:data:`INPUT`, the input of the model, and :data:`OUTPUT`, its output.
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, cast

from torch import nn
from torch.optim.swa_utils import AveragedModel

from probe.forward.calls import call_name, call_of

INPUT = "<input>"
OUTPUT = "<output>"

IGNORED = -100  # the label of a position without a target, as in torch.nn.CrossEntropyLoss

Layers = str | re.Pattern[str] | type | Callable[[str, nn.Module], bool] | Iterable[Any] | None

# Modules whose outputs are the "hidden activations" of a plain network.
ACTIVATION_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Softplus, nn.Softsign, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid,
    nn.Threshold, nn.GLU, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink,
)  # fmt: skip

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the original module inside the wrappers of ``torch.compile``, data parallelism and weight averaging."""
    while True:
        modules = getattr(model, "_modules", None)  # another check rejects what is no module, or one of TorchScript
        if isinstance(modules, dict) and "_orig_mod" in modules:
            model = modules["_orig_mod"]
        elif isinstance(model, _WRAPPERS):
            model = model.module
        else:
            return model


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return ``dict(model.named_modules())``, several times as fast as the nested generators of PyTorch."""
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
    """Return all modules inside a model by name, without the wrappers of compiled submodules.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    dict of str to torch.nn.Module
        In the order of ``model.named_modules()``. The model itself is not included.

    See Also
    --------
    select_layers : Select some of these names.

    Examples
    --------
    >>> from torch import nn
    >>> from probe.forward import named_layers
    >>> list(named_layers(nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))))
    ['0', '1', '1.0', '1.1']
    """
    found: dict[str, nn.Module] = {}
    for name, module in named_modules(model).items():
        if "_orig_mod" in name:
            name = ".".join(part for part in name.split(".") if part != "_orig_mod")
        if name:
            found[name] = unwrap(module)
    return found


def select_layers(model: nn.Module, layers: Layers = None, sites: Sequence[str] = ()) -> list[str]:
    """Return the names of the selected layers, in the order of ``model.named_modules()``.

    With the sites of a trace, the order is that of the forward pass, and each call of a layer is a layer: ``"act"``,
    ``"act.2"`` and so on, see :mod:`probe.forward.sites`.

    Parameters
    ----------
    model : torch.nn.Module
    layers
        One of these, or a list of them:

        - None: the default layers, see :func:`default_layers`.
        - The exact name of a layer, :data:`INPUT` or :data:`OUTPUT`. With ``sites``, also the name of another site, or
          of one call of a layer (``"act.1"`` for the first one; ``"act"`` selects all calls).
        - A glob. Its ``*`` does not match a dot: ``"blocks.*"`` selects the blocks, ``"blocks.**"`` also everything
          inside them.
        - A compiled regular expression, matched from the start of the name.
        - A module class.
        - A callable ``(name, module) -> bool``.
    sites : sequence of str
        Sites that a forward pass has visited, in their order.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If an item selects no layer. The message lists similar names.
    TypeError
        If an item is of another type.

    See Also
    --------
    default_layers : Layers that are measured by default.

    Examples
    --------
    >>> from torch import nn
    >>> from probe.forward import select_layers
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> select_layers(model, [nn.Linear, "1"])
    ['0', '1', '2']
    >>> select_layers(model)
    ['1']
    >>> twice = nn.Sequential(model[1], model[0], model[1])
    >>> select_layers(twice, nn.ReLU, sites=["<input>", "0", "1", "0.2", "<output>"])
    ['0', '0.2']
    """
    modules = named_layers(model)
    if layers is None:
        return default_layers(model)
    calls = _calls(modules, sites)
    single = isinstance(layers, (str, re.Pattern, type)) or callable(layers)
    items = [layers] if single else list(cast(Iterable[Any], layers))
    if not items:
        raise ValueError("Expected at least one layer, got layers=[]; pass layers=None for the default layers")
    chosen: set[str] = set()
    for item in items:
        matched = [site for name in _matching(modules, item) for site in calls.get(name, [name])]
        matched = matched or _named_site(modules, item, sites)
        if not matched:
            raise ValueError(_no_layer_message(modules, item, sites))
        chosen.update(matched)
    order = dict.fromkeys([*sites, INPUT, *modules, OUTPUT])
    return [name for name in order if name in chosen]


def _calls(modules: Mapping[str, nn.Module], sites: Sequence[str]) -> dict[str, list[str]]:
    """Return the sites of each layer that was called."""
    found: dict[str, list[str]] = {}
    for site in sites:
        call = call_of(site, modules)
        if call is not None:
            found.setdefault(call.name, []).append(site)
    return found


def _named_site(modules: Mapping[str, nn.Module], item: Any, sites: Sequence[str]) -> list[str]:
    """Return the visited site that a name stands for."""
    call = call_of(item, modules) if isinstance(item, str) else None
    site = item if call is None else call_name(*call, modules)
    return [site] if site in sites else []


def _matching(modules: Mapping[str, nn.Module], item: Any) -> list[str]:
    if isinstance(item, str):
        if item in modules or item in (INPUT, OUTPUT):
            return [item]
        pattern = re.compile(_glob_to_regex(item))
        return [name for name in modules if pattern.fullmatch(name)]
    if isinstance(item, re.Pattern):
        return [name for name in modules if item.match(name)]
    if isinstance(item, type):
        return [name for name, module in modules.items() if isinstance(module, item)]
    if callable(item) and not isinstance(item, nn.Module):  # a copy of the probe would hold a copy of the module
        return [name for name, module in modules.items() if item(name, module)]
    raise TypeError(
        "Expected layers= to hold names, globs, compiled regular expressions, module classes or callables, got "
        f"{item!r}; pass the name of the layer"
    )


def _glob_to_regex(pattern: str) -> str:
    parts = [fnmatch.translate(part).removesuffix(r"\Z").removesuffix(r"\z") for part in pattern.split("**")]
    inside = [part.replace(".*", r"[^.]*") for part in parts]
    return ".*".join(inside)


def _no_layer_message(modules: Mapping[str, nn.Module], item: Any, sites: Sequence[str]) -> str:
    names = list(dict.fromkeys([*modules, *sites]))
    advice = "pass layers=OUTPUT to measure the output, since this model has no submodules"
    if names:
        advice = advised_names(item if isinstance(item, str) else "", names)
    return f"Expected layers= to select layers of this model, got {item!r}, which selects no layer; {advice}"


def advised_names(name: str, names: Sequence[str]) -> str:
    """Return the advice to choose names similar to this one, or else any of the names."""
    if similar := difflib.get_close_matches(name, names, n=5, cutoff=0.4):
        return f"choose one of the similar names: {', '.join(similar)}"
    return f"choose one of: {', '.join(names[:20])}" + (f", ... ({len(names)} in all)" if len(names) > 20 else "")


def default_layers(
    model: nn.Module, functional: Sequence[str] = (), visited: Set[str] | None = None, iterated: Sequence[str] = ()
) -> list[str]:
    """Return the names of the layers that are measured by default.

    The first group counts that is not empty, and of which the forward pass visits a layer. A snapshot also passes over
    a group whose layers receive a part of the inputs each, as the experts of a mixture:

    1. Repeated blocks: the children of the containers whose children share one class, as in a transformer or a residual
       network. If there are several such classes, the one with most parameters.
    2. A block that is applied several times, as in a universal transformer: the module with most parameters among those
       that hold modules, are called several times and return values of the shape of their input.
    3. Activation modules.
    4. Outputs of functional activations.
    5. Leaf modules with parameters, also quantised ones.
    6. The output of the model.

    Parameters
    ----------
    model : torch.nn.Module
    functional : sequence of str
        Outputs of the functional activations that a forward pass has recorded.
    visited : set of str, optional
        All sites that a forward pass has recorded. Default: no group is passed over.
    iterated : sequence of str
        Layers that a forward pass has called several times, with outputs of the shape of their input.

    Returns
    -------
    list of str

    See Also
    --------
    select_layers : Select other layers.

    Examples
    --------
    >>> from torch import nn
    >>> from probe.forward import default_layers
    >>> default_layers(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    ['1']
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> default_layers(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    ['layers.0', 'layers.1']
    """
    groups = default_groups(model, functional, iterated)
    return next((group for group in groups if visited is None or not visited.isdisjoint(group)), [OUTPUT])


def default_groups(model: nn.Module, functional: Sequence[str] = (), iterated: Sequence[str] = ()) -> list[list[str]]:
    """Return the groups of :func:`default_layers` that are not empty, in their order."""
    modules = named_layers(model)
    activations = [name for name, module in modules.items() if isinstance(module, ACTIVATION_MODULES)]
    again = [name for name in iterated if not _is_leaf(modules[name])]
    block = [max(again, key=lambda name: _n_parameters(modules[name]))] if again else []
    groups = _repeated_blocks(model), block, activations, list(functional), _leaves_with_parameters(modules), [OUTPUT]
    return [group for group in groups if group]


def _leaves_with_parameters(modules: Mapping[str, nn.Module]) -> list[str]:
    attention = [module for module in modules.values() if isinstance(module, nn.MultiheadAttention)]
    never_called = {id(part) for module in attention for part in module.children()}  # only their weights are used

    def has_weights(module: nn.Module) -> bool:
        leaf = _is_leaf(module) or isinstance(module, nn.MultiheadAttention)
        return (leaf and any(True for _ in module.parameters())) or is_quantised(module)

    return [name for name, module in modules.items() if id(module) not in never_called and has_weights(module)]


def is_quantised(module: nn.Module) -> bool:
    """Return whether the weights of a module are packed, so that a method returns them."""
    kind = type(module)  # an attribute of the module itself may be computed at each access, with side effects
    return callable(getattr(kind, "weight", None)) or callable(getattr(kind, "get_weight", None))


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

    def size(cls: type) -> tuple[int, bool]:  # at equal size, prefer blocks to nn.Sequential stages that hold them
        return sum(_n_parameters(block) for block in by_class[cls].values()), cls is not nn.Sequential

    return sorted(by_class[max(by_class, key=size)], key=order.index)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
