"""The matrices with which the modules of a model compute, which are not always its parameters.

- A parametrisation of today (:mod:`torch.nn.utils.parametrize`) computes the weight at each access, one of old
  (``nn.utils.weight_norm``, ``spectral_norm``, pruning) in a hook before each call.
- An adapter adds a product of two small matrices to the output of a layer (LoRA). No attribute holds the sum. If the
  module is affine, its outputs for unit vectors are the matrix. So are those of a subclass of nn.Linear whose forward
  pass changes the weight, such as by a scale, a norm or a rounding. The kernels of such a convolution are those that
  it passes to the function of PyTorch.
- A quantised layer returns its weight from a method.
"""

from collections import Counter, UserDict
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from probe.forward.convolved_weights import CONVOLUTIONS, convolved_weight, has_own_convolution
from probe.forward.isolation import isolated, user_defaults
from probe.forward.layers import is_quantised, named_layers
from probe.forward.shards import is_distributed, is_sharded, whole

_INGREDIENTS = ("g", "v", "orig", "bar")  # endings of the parameters from which a hook computes a weight
_PACKED = {"q_proj_weight": 0, "k_proj_weight": 1, "v_proj_weight": 2}  # parts of nn.MultiheadAttention.in_proj_weight
_ROUNDING = 100  # units of rounding by which an affine map may differ from additivity


class Matrices(UserDict[str, Any]):
    """Matrices by name. Those of a model that is divided among ranks are gathered, by all ranks, when they are read."""

    def __getitem__(self, name: str) -> Tensor:
        found = self.data[name]
        return cast(Tensor, found if isinstance(found, Tensor) else found())


@dataclass
class EffectiveWeights:
    """Matrices (out, in) by name, or (k, out, in) for k matrices that act on different inputs.

    ``tied`` maps the further names of a matrix to its first one, and ``left_out`` names of weights to the reason why
    they are not among the matrices.
    """

    matrices: Matrices = field(default_factory=Matrices)
    tied: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def effective_weights(model: nn.Module) -> EffectiveWeights:
    """Return the matrices with which a model computes. The model stays unchanged."""
    found, first, adapted = EffectiveWeights(), dict[int, str](), list[str]()
    with isolated(model):
        for name, module in {"": model, **named_layers(model)}.items():
            if "parametrizations" in name.split(".") or any(name.startswith(prefix) for prefix in adapted):
                continue
            adapter = _sharded_adapter(module) if is_sharded(model) else _adapter(module)
            if isinstance(adapter, Tensor):
                found.matrices[f"{name}.weight".lstrip(".")] = adapter
                adapted.append(f"{name}." if name else "")
                continue
            if adapter is not None:
                found.left_out[name or type(module).__name__] = adapter
            for key, value in _own_weights(module, found.left_out, name).items():
                label = f"{name}.{key}".lstrip(".")
                if isinstance(value, nn.Parameter) and first.setdefault(id(value), label) != label:
                    found.tied[label] = first[id(value)]
                else:
                    found.matrices |= {
                        f"{name}.{k}".lstrip("."): w for k, w in _read_as_matrices(module, key, value).items()
                    }
    return found


def _read_as_matrices(module: nn.Module, key: str, weight: Tensor) -> dict[str, Any]:
    """Return a weight as matrices, or functions that gather it from all ranks and return the matrix."""
    if not is_distributed(weight):
        return _as_matrices(module, key, weight)
    names = _as_matrices(module, key, torch.empty(weight.shape, device="meta"))
    return {name: lambda name=name: _as_matrices(module, key, whole(weight))[name] for name in names}


# -- the weights of one module -----------------------------------------------------------------------------------------


def _own_weights(module: nn.Module, left_out: dict[str, str], name: str) -> dict[str, Tensor]:
    """Return the weights of a module without its submodules, as they compute."""
    found: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    if is_parametrized(module):
        found |= {key: getattr(module, key) for key in cast(nn.ModuleDict, module.parametrizations)}
    if module._forward_pre_hooks:
        computed = _computed_by_hooks(module)
        for key in computed:
            for ending in _INGREDIENTS:
                found.pop(f"{key}_{ending}", None)
        found |= computed
    if is_quantised(module) and "weight" not in found:
        if (weight := _unpacked(module)) is None:
            left_out[name] = f"{type(module).__name__}, which does not return its weight"
        else:
            found["weight"] = weight
    if has_own_convolution(module) and not is_quantised(module):
        if (weight := convolved_weight(module)) is None:
            left_out[name or type(module).__name__] = _OWN_CONVOLUTION
        else:
            found["weight"] = weight
    for key, value in dict(found).items():
        if value.is_quantized or type(value).__name__ not in ("Tensor", "Parameter", "Buffer", "DTensor"):
            found[key] = value = value.dequantize()
        if value.ndim > 1 and not (value.is_floating_point() or value.is_complex()):
            left_out[f"{name}.{key}".lstrip(".")] = f"numbers of {value.dtype}, packed by another library"
    return {key: w for key, w in found.items() if w.ndim > 1 and (w.is_floating_point() or w.is_complex())}


def _computed_by_hooks(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights that hooks before a call compute, from a copy of the module that holds the same tensors."""
    plain = {key for key, value in vars(module).items() if isinstance(value, Tensor)}
    names = {key for key in plain if any(f"{key}_{ending}" in module._parameters for ending in _INGREDIENTS)}
    if not names:
        return {}
    twin = copy(module)
    vars(twin).update({"training": False, "_buffers": dict(module._buffers), "_parameters": dict(module._parameters)})
    for hook in module._forward_pre_hooks.values():
        if names & {value for value in getattr(hook, "__dict__", {}).values() if isinstance(value, str)}:
            hook(twin, ())
    return {key: getattr(twin, key).detach() for key in names}


def _unpacked(module: Any) -> Tensor | None:
    try:
        weight = module.weight()
    except Exception:  # each kind of quantised layer has another way
        return None
    return weight.dequantize() if isinstance(weight, Tensor) else None


def _as_matrices(module: nn.Module, key: str, weight: Tensor) -> dict[str, Tensor]:
    """Return a weight as matrices (out, in), or (k, out, in)."""
    if isinstance(module, nn.MultiheadAttention) and key == "in_proj_weight":
        return {name: weight.chunk(3)[part] for name, part in _PACKED.items()}
    if isinstance(module, CONVOLUTIONS) and key == "weight":
        kernels = weight.unflatten(0, (module.groups, -1))  # (groups, out, in, ...), transposed (groups, in, out, ...)
        matrix = (kernels.transpose(1, 2) if module.transposed else kernels).flatten(2)
    elif weight.ndim == 3 and not isinstance(module, nn.Bilinear):
        matrix = weight  # a stack, as that of the experts
    else:
        matrix = weight.flatten(1)
    return {key: matrix[0] if matrix.ndim == 3 and len(matrix) == 1 else matrix}


# -- adapters ----------------------------------------------------------------------------------------------------------

_CONVOLUTION = "a convolution with adapters, whose own weight is measured without them"
_OWN_CONVOLUTION = "a convolution with a forward pass of its own, whose parameter is measured as it is"
_OWN_FORWARD = "a linear layer with a forward pass of its own that is not affine, whose parameter is measured as it is"
_SHARDED = "a layer with adapters of a model that fully_shard divides, whose parts are measured as they are"
_BEHIND = "its largest weight reads what adapters have changed, and is measured without them"


def _adapter(module: nn.Module) -> Tensor | str | None:
    """Return the matrix of a layer with adapters, or the reason why it has none; None if the module is no such layer.

    The module is run on a few rows. A layer with adapters is affine, and nothing inside reads the output of the layer.
    """
    if (found := _base_of(module)) is not None and (adapter := _adapted(module, *found)) is not None:
        return adapter
    for owner, base in _bases_of_full_rank(module):
        if isinstance(adapter := _adapted(module, owner, base), Tensor) or adapter == _CONVOLUTION:
            return adapter
    return None


def _sharded_adapter(module: nn.Module) -> str | None:
    """Return the reason why a layer with adapters has no matrix: a part of a sharded model does not run alone."""
    return None if _base_of(module) is None else _SHARDED


def _adapted(module: nn.Module, owner: nn.Module, base: Tensor) -> Tensor | str | None:
    """Return the matrix of a module whose adapters may change the weight ``base`` of ``owner``, or a reason."""
    if isinstance(owner, nn.Embedding):
        run = _run_beside(module, owner, torch.arange(len(base), device=base.device))
        return run.output if run is not None and run.output.shape == base.shape else None
    if base.ndim > 2:
        run = _affine_run(module, owner, base, (base.shape[1], *(4 * size for size in base.shape[2:])))
        return None if run is None else _CONVOLUTION
    for wide, tall in {(base.shape[1], base.shape[0]), (base.shape[0], base.shape[1])}:
        run = _affine_run(module, owner, base, (wide,))
        if run is not None and run.output.shape[1:] == (tall,):
            unit = torch.eye(wide, dtype=base.dtype, device=base.device)
            return _BEHIND if run.behind else (module(unit) - module(torch.zeros_like(unit[:1]))).detach().T
    return _OWN_FORWARD if _has_own_forward(module) else None


def _base_of(module: nn.Module) -> tuple[nn.Module, Tensor] | None:
    """Return the layer that adapters change and its weight, judged by the structure of the module.

    The largest weight (out, in, ...) is in the module itself or in a direct submodule. Beside it are two others, (rank,
    in) and (out, rank), either way round, or a dictionary of parameters or modules.
    """
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return None
    owners = [
        (owner, weight)
        for owner in (module, *module.children())
        for weight in owner.parameters(recurse=False)
        if weight.ndim > 1 and weight.is_floating_point()
    ]
    if not owners:
        return None
    if _has_own_forward(module) and isinstance(module.weight, nn.Parameter):
        return module, module.weight
    owner, base = max(owners, key=lambda pair: pair[1].numel())
    others = [weight.shape for weight in module.parameters() if weight.ndim > 1 and weight is not base]
    if any(shape.numel() >= base.numel() for shape in others):
        return None
    ends, shapes = {*base.shape[:2]}, Counter(tuple(shape[:2]) for shape in others)
    pairs = [*combinations(shapes, 2), *((shape, shape) for shape, count in shapes.items() if count > 1)]
    low_rank = any(
        rank < min(ends) and {*one, *other} - {rank} == ends and rank in other for one, other in pairs for rank in one
    )
    kinds = () if isinstance(owner, nn.Embedding) else (nn.ParameterDict, nn.ModuleDict)
    named = any(isinstance(child, kinds) and any(True for _ in child.parameters()) for child in module.children())
    return (owner, base) if low_rank or named else None


def _bases_of_full_rank(module: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """Return the layers that adapters of any rank may change, if the module has three weights and these fit.

    With a rank of at least min(in, out), the adapters are as large as the layer, and the shapes do not tell which is
    which. The first that fits and that no part reads is the layer.
    """
    weights = [weight for weight in module.parameters() if weight.ndim > 1]
    if len(weights) != 3 or isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return []
    found: list[tuple[nn.Module, Tensor]] = []
    for owner in (module, *module.children()):
        for base in owner.parameters(recurse=False):
            one, other = (
                ([*weight.shape[:2]] for weight in weights if weight is not base) if base.ndim > 1 else ([], [])
            )
            if not isinstance(owner, nn.Embedding) and any(
                sorted(one) == sorted([rank, a]) and sorted(other) == sorted([rank, b])
                for rank in one
                for a, b in (base.shape[:2], (base.shape[1], base.shape[0]))
            ):
                found.append((owner, base))
    return found


def _has_own_forward(module: nn.Module) -> TypeGuard[nn.Linear]:
    return isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward


class _Run(NamedTuple):
    """Output of a module, and whether its base reads the output of a part with parameters."""

    output: Tensor
    behind: bool


def _affine_run(module: nn.Module, owner: nn.Module, base: Tensor, shape: tuple[int, ...]) -> _Run | None:
    """Run a module on a few rows of this shape; None if it is not affine."""
    one, other = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(base)
    run = _run_beside(module, owner, torch.stack([torch.zeros_like(one), one, other, one + other, 2 * one]))
    if run is None or run.output.ndim != base.ndim or len(run.output) != 5:
        return None
    values = run.output.double()
    first, second, both, twice = (values[1:] - values[0]).unbind()
    error = _ROUNDING * torch.finfo(base.dtype).eps * values.abs().amax()
    different = torch.stack([first + second - both, 2 * first - twice]).abs().amax() > error
    return None if bool(different) else run


def _run_beside(module: nn.Module, owner: nn.Module, inputs: Tensor) -> _Run | None:
    """Run a module; None if it takes other inputs, or a part of it reads the output of the base."""
    outputs: dict[nn.Module, Any] = {}
    readers: dict[nn.Module, nn.Module] = {}

    def before(part: nn.Module, args: tuple[Any, ...]) -> None:
        readers.update({source: part for source, output in outputs.items() if any(arg is output for arg in args)})

    def after(part: nn.Module, args: Any, output: Any) -> None:
        if any(True for _ in part.parameters()):
            outputs[part] = output

    with ExitStack() as stack, user_defaults():
        for part in list(module.modules())[1:]:
            stack.callback(part.register_forward_pre_hook(before).remove)
            stack.callback(part.register_forward_hook(after).remove)
        try:
            output = module(inputs)
        except Exception:
            return None
    if owner in readers or not isinstance(output, Tensor):
        return None
    return _Run(output.detach(), owner in readers.values())
