"""Updates of a training on dual numbers of PyTorch: parameters that carry tangents, which updates carry on.

Some functions have no forward derivative in PyTorch, or one that is not defined where training visits. Within an update
they are replaced by equal ones:

- ``sqrt`` at 0 in an update of the optimizer: derivative 0. Adam and its relatives divide by sqrt(v) + eps. Where all
  gradients of a parameter so far are 0, v and m are 0, and m / (sqrt(v) + eps) has the derivative dm / eps whatever the
  derivative of the root is. A weight that has never had a gradient, but gets one after the perturbation, moves by
  1 / eps times its change: the derivative is right, and holds for sizes below eps only.
- functions of lists of tensors, as ``clip_grad_norm_`` uses them, the division by the scale of a ``GradScaler``, and
  functions with ``out=`` (amsgrad, spectral norm).
- ``detach``, which drops the tangent of the first momentum buffer of SGD, or of a target that the loss detaches.
- Losses of floating-point targets without a tangent, in whose place their backward passes cannot write.
- ``group_norm``, whose backward pass has no forward derivative.
- ``_weight_norm``, which has no forward derivative, and whose second derivative is wrong in PyTorch 2.
"""

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from probe.forward.window_steps import StepRules
from probe.forward.windows import parts

DIFFERENTIABLE = tuple(
    getattr(torch.optim, name)
    for name in ("SGD", "ASGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta")
)


class NotDifferentiableError(ValueError):
    """Error of a training whose updates have no forward derivative in PyTorch. The message names the function."""


def prepare(optimizer: torch.optim.Optimizer) -> None:
    """Switch a copied optimizer to updates of single tensors.

    Raises
    ------
    NotDifferentiableError
        If the update of this class is not known to carry derivatives, or it updates complex numbers.
    """
    if type(optimizer) not in DIFFERENTIABLE:
        names = ", ".join(cls.__name__ for cls in DIFFERENTIABLE)
        raise NotDifferentiableError(
            f"Expected one of the optimizers {names} of torch.optim, got {type(optimizer).__name__}; its twin is "
            "measured, its tangent is not"
        )
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    if other := [p.dtype for p in trained if not p.is_floating_point()]:
        raise NotDifferentiableError(
            f"Expected real trained parameters, got {other[0]}; twins of the real ones are measured, the tangent is not"
        )
    for group in optimizer.param_groups:
        group.update({name: False for name in ("foreach", "fused") if name in group})


@contextmanager
def dual(
    model: nn.Module, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> Iterator[Sequence[Tensor]]:
    """Context manager that yields the parameters. Gradients of the model, and updates, carry their tangents."""
    load_derivatives()
    handles: list[Any] = []
    with sdpa_kernel(SDPBackend.MATH), fw.dual_level(), Rules(), dual_steps(optimizer):
        try:
            for parameter in model.parameters():
                handles += _carry_tangents(parameter) if parameter.requires_grad else []
            yield parameters
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def dual_steps(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Context manager in which the updates of an optimizer use :class:`StepRules`."""
    step = optimizer.step

    def stepping(*args: Any, **kwargs: Any) -> Any:
        with StepRules():
            return step(*args, **kwargs)

    try:
        optimizer.step = stepping  # type: ignore[method-assign]
        yield
    finally:
        optimizer.step = step  # type: ignore[method-assign]


def load_derivatives() -> None:
    """Import the forward derivatives that PyTorch compiles with ``torch.jit.script``, which is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def set_tangents(parameters: Sequence[Tensor], direction: Tensor) -> None:
    """Give parameters the tangents of a vector (P,), in place of those that they have."""
    with torch.no_grad():
        for parameter, part in zip(parameters, parts(direction, parameters), strict=True):
            old = fw.unpack_dual(parameter).tangent
            new = part if old is None else part - old
            parameter.add_(fw.make_dual(torch.zeros_like(part), new))


def _carry_tangents(parameter: Tensor) -> list[Any]:
    """Register hooks that add up the tangents of gradients, which the accumulation in ``.grad`` drops."""
    stored: list[Tensor | None] = [None]

    def before(gradient: Tensor) -> None:
        old = None if parameter.grad is None else fw.unpack_dual(parameter.grad).tangent
        new = fw.unpack_dual(gradient).tangent
        stored[0] = old if new is None else new if old is None else old + new

    def after(_: Tensor) -> None:
        if stored[0] is not None and parameter.grad is not None:
            parameter.grad = fw.make_dual(fw.unpack_dual(parameter.grad).primal.detach(), stored[0].detach())

    return [parameter.register_hook(before), parameter.register_post_accumulate_grad_hook(after)]


class Rules(TorchFunctionMode):
    """Mode that replaces functions by equal ones with a forward derivative, see the top of this file."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "").startswith("_foreach_"):
            return _each(func.__name__, args, kwargs)
        if func is torch._amp_foreach_non_finite_check_and_unscale_:
            return _unscale(*args)
        if isinstance(kwargs.get("out"), Tensor) and any(map(_has_tangent, args)):
            out = kwargs.pop("out")
            return out.copy_(func(*args, **kwargs))
        if func in _LOSSES and any(map(_has_tangent, (*args, *kwargs.values()))):
            args = tuple(_with_zeros(arg) for arg in args)
            kwargs = {name: _with_zeros(arg) for name, arg in kwargs.items()}
        if func in (torch.group_norm, nn.functional.group_norm) and _has_tangent(args[0]):
            return _group_norm(*args, **kwargs)
        if func is torch._weight_norm:
            return _weight_norm(*args, **kwargs)
        if func in (torch.detach, torch.Tensor.detach) and (found := fw.unpack_dual(args[0])).tangent is not None:
            return fw.make_dual(found.primal.detach(), found.tangent.detach())
        if func in _WITH_NUMBERS and not kwargs and isinstance(args[1], (int, float)) and not torch.is_grad_enabled():
            return _with_number(func, *args)
        if getattr(func, "__self__", None) is torch.Tensor.data and isinstance(args[0], nn.Parameter):
            raise NotDifferentiableError(
                "Expected updates that PyTorch can differentiate, got one with .data of a parameter, which has no "
                "derivative; write p.add_(...) within torch.no_grad(), or use the twin only"
            )
        return func(*args, **kwargs)


def _each(name: str, args: Any, kwargs: Any) -> Any:
    """Apply a function of lists of tensors to one tensor after the other."""
    if name == "_foreach_norm":
        return [torch.linalg.vector_norm(tensor, *args[1:], **kwargs) for tensor in args[0]]
    single = getattr(torch, name.removeprefix("_foreach_"), None) or getattr(Tensor, name.removeprefix("_foreach_"))
    lists = [arg if isinstance(arg, (list, tuple)) else [arg] * len(args[0]) for arg in args]
    found = [single(*each, **kwargs) for each in zip(*lists, strict=True)]
    return None if name.endswith("_") else found


def _unscale(gradients: Sequence[Tensor], found_inf: Tensor, inverse: Tensor) -> None:
    """Divide gradients by the scale of a GradScaler, with their tangents."""
    for gradient in gradients:
        value, along = fw.unpack_dual(gradient)
        torch._amp_foreach_non_finite_check_and_unscale_([value], found_inf, inverse)  # in the memory of the gradient
        if along is not None:
            along.mul_(inverse)


_SUMS = {getattr(torch.Tensor, name) for name in ("add", "add_", "sub", "sub_")}
_PRODUCTS = {getattr(torch.Tensor, name) for name in ("mul", "mul_", "div", "div_", "__truediv__")}
_WITH_NUMBERS = _SUMS | _PRODUCTS
_IN_PLACE = {getattr(torch.Tensor, name) for name in ("add_", "sub_", "mul_", "div_")}


def _with_number(func: Any, x: Any, number: float) -> Any:
    """Apply a sum or a product with a number. PyTorch takes .5 ms for its tangent, whatever the size."""
    found = fw.unpack_dual(x) if isinstance(x, Tensor) else None
    if found is None or found.tangent is None:
        return func(x, number)
    if func in _IN_PLACE:  # value and tangent share the memory of x
        func(found.primal, number)
        if func in _PRODUCTS:
            func(found.tangent, number)
        return x
    return fw.make_dual(
        func(found.primal, number), func(found.tangent, number) if func in _PRODUCTS else found.tangent.clone()
    )


_LOSSES = {
    getattr(nn.functional, name)
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div")
} | {nn.functional.binary_cross_entropy_with_logits, nn.functional.cross_entropy}


def _has_tangent(x: Any) -> bool:
    return isinstance(x, Tensor) and fw.unpack_dual(x).tangent is not None


def _with_zeros(x: Any) -> Any:
    """Return a floating-point tensor without a tangent with one of zeros."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or _has_tangent(x):
        return x
    return fw.make_dual(x, torch.zeros_like(x))


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    grouped = x.reshape(len(x), num_groups, -1)
    variance, mean = torch.var_mean(grouped, 2, correction=0, keepdim=True)
    normed = ((grouped - mean) / torch.sqrt(variance + eps)).view_as(x)
    shape = (1, -1, *[1] * (x.ndim - 2))
    normed = normed if weight is None else normed * weight.view(shape)
    return normed if bias is None else normed + bias.view(shape)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = [axis for axis in range(v.ndim) if axis != dim]  # dim -1: the norm over all axes
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1))


_MISSING = "forward AD", "forward mode AD", "forward gradient", "SparseTensorImpl"


@contextmanager
def derivative_errors() -> Iterator[None]:
    """Context manager that turns errors of PyTorch about missing derivatives into a :class:`NotDifferentiableError`."""
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        if not any(part in str(error) for part in _MISSING):
            raise
        reason = str(error).partition(" because ")[0].partition("\n")[0].rstrip(".")
        raise NotDifferentiableError(
            f"Expected updates of which PyTorch has forward derivatives, got this: {reason}; use the twin only"
        ) from error
