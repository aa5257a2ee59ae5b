"""Batch norm in training mode with a second derivative of few operations; that of PyTorch takes about 60."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_aten = torch.ops.aten
Note = Callable[[Tensor, Tensor, Tensor], None]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    note: Note | None = None,
) -> Tensor:
    """Apply :func:`torch.nn.functional.batch_norm`, with the same values and derivatives.

    ``note`` receives the mean, and the tangents of mean and variance, when the gradients are differentiated. Ask
    :func:`is_replaced` before.
    """
    if not (training and is_replaced(input, weight, bias)):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _BatchNorm.apply(input, weight, bias, running_mean, running_var, momentum, eps, note)


def is_replaced(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> bool:
    """Return whether batch norm in training mode has a second derivative of its own here."""
    usual = weight is not None and bias is not None and input.dtype == weight.dtype == bias.dtype and input.is_cpu
    return usual and input.numel() > input.shape[1]


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        running_mean, running_var, momentum, ctx.eps, ctx.note = rest
        y, mean, inverse = _aten.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, ctx.eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (*_Gradient.apply(gradients[0], *ctx.saved_tensors, ctx.eps, ctx.note), *[None] * 5)


class _Gradient(torch.autograd.Function):
    """Gradients g of the outputs -> those of inputs, weight and bias.

    With h the normalised inputs, r the inverse standard deviations, m() the means over all but the channels and
    P(z) = z - m(z) - h m(z h), they are weight r P(g), N m(g h) and N m(g).
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, *rest: Any) -> Any:
        ctx.eps, ctx.note = rest
        projected, g_h, g_sum = _projected(g, x, mean, inverse, ctx.eps)
        ctx.save_for_backward(projected, g_h, x, weight, mean, inverse)
        return projected * weight.view(1, -1, *[1] * (x.ndim - 2)), g_h, g_sum

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the derivatives of u @ (weight r P(g)) + a N m(g h) + b N m(g). The tangent of x is u."""
        (u, a, b), (g_projected, g_h, x, weight, mean, inverse) = gradients, ctx.saved_tensors
        n, shape = x.numel() // x.shape[1], (1, -1, *[1] * (x.ndim - 2))
        u_projected, u_h, u_sum = _projected(u, x, mean, inverse, ctx.eps)
        if ctx.note is not None:
            ctx.note(mean, u_sum / n, 2 * u_h / inverse / (n - 1))
        product = (u * g_projected).sum([0, *range(2, x.ndim)])
        h = torch.addcmul((-mean * inverse).view(shape), x, inverse.view(shape))
        of_g = torch.addcmul(b.view(shape), u_projected, weight.view(shape)).addcmul_(h, a.view(shape))
        of_x = h.mul_((-weight * product * inverse / n).view(shape))
        of_x.addcmul_(u_projected, (-weight * inverse * g_h / n).view(shape))
        of_x.addcmul_(g_projected, (a - weight * inverse * u_h / n).view(shape))
        return of_g, of_x, product, *[None] * 4


def _projected(z: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, eps: float) -> Any:
    """Return r P(z), N m(z h) and N m(z)."""
    ones = torch.ones_like(mean)
    return _aten.native_batch_norm_backward(z, x, ones, None, None, mean, inverse, True, eps, [True] * 3)
