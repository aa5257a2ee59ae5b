"""Arithmetic of optimizers on dual numbers, in place and with fewer operations than PyTorch takes.

The tangent of ``sqrt`` at 0 is 0, see :mod:`probe.forward.window_dual`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor
from torch.overrides import TorchFunctionMode


class StepRules(TorchFunctionMode):
    """Mode with rules for the functions that updates of optimizers use most."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _ROOTS and not kwargs:
            return _root(args[0], in_place=func is Tensor.sqrt_)
        rule = _RULES.get(func)
        if rule is not None and not torch.is_grad_enabled() and _alike(args) and kwargs.keys() <= {"value"}:
            return rule(*args, **kwargs)
        return func(*args, **kwargs)


_ROOTS = {torch.sqrt, Tensor.sqrt, Tensor.sqrt_}


def _alike(args: Any) -> bool:
    """Return whether the first argument has a tangent, and all tensors have one shape and dtype."""
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    first = tensors[0]
    return (
        isinstance(args[0], Tensor)
        and fw.unpack_dual(first).tangent is not None
        and all(tensor.shape == first.shape and tensor.dtype == first.dtype for tensor in tensors)
    )


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the value and the tangent of a tensor, which share its memory; a tangent of zeros if it has none."""
    value, tangent = fw.unpack_dual(x)
    return value, torch.zeros_like(value) if tangent is None else tangent


def _root(x: Tensor, *, in_place: bool) -> Tensor:
    value, tangent = fw.unpack_dual(x)
    root = value.sqrt()
    if tangent is not None:
        root = fw.make_dual(root, (tangent / (2 * root)).masked_fill_(root == 0, 0))
    return x.copy_(root) if in_place else root


def _lerp(x: Tensor, end: Tensor, weight: float) -> Tensor:
    (value, tangent), (end_value, end_tangent) = _split(x), _split(end)
    value.lerp_(end_value, weight)
    tangent.lerp_(end_tangent, weight)
    return x


def _addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    (number, tangent), (a_number, a_tangent), (b_number, b_tangent) = _split(x), _split(a), _split(b)
    number.addcmul_(a_number, b_number, value=value)
    if a is b:
        tangent.addcmul_(a_number, a_tangent, value=2 * value)
    else:
        tangent.addcmul_(a_number, b_tangent, value=value).addcmul_(b_number, a_tangent, value=value)
    return x


def _addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    (number, tangent), (a_number, a_tangent), (b_number, b_tangent) = _split(x), _split(a), _split(b)
    tangent.addcdiv_(torch.addcmul(a_tangent, a_number / b_number, b_tangent, value=-1), b_number, value=value)
    number.addcdiv_(a_number, b_number, value=value)
    return x


_RULES: dict[Any, Callable[..., Tensor]] = {Tensor.lerp_: _lerp, Tensor.addcmul_: _addcmul, Tensor.addcdiv_: _addcdiv}
