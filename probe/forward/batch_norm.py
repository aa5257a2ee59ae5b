"""Batch norm in training mode with a second derivative of few operations; that of PyTorch takes about 60."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_aten = torch.ops.aten


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Apply :func:`torch.nn.functional.batch_norm`, with the same values and derivatives."""
    usual = weight is not None and bias is not None and input.dtype == weight.dtype == bias.dtype and input.is_cpu
    if not (training and usual and input.numel() > input.shape[1]):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _BatchNorm.apply(input, weight, bias, running_mean, running_var, momentum, eps)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        running_mean, running_var, ctx.momentum, ctx.eps = rest
        y, mean, inverse = _aten.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, ctx.momentum, ctx.eps
        )
        ctx.save_for_backward(x, weight, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (*_Gradient.apply(gradients[0], *ctx.saved_tensors, ctx.eps), *[None] * 4)


class _Gradient(torch.autograd.Function):
    """Gradients g of the outputs -> those of inputs, weight and bias.

    With h the normalised inputs, r the inverse standard deviations, m() the means over all but the channels and
    P(z) = z - m(z) - h m(z h), they are weight r P(g), N m(g h) and N m(g).
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float) -> Any:
        ctx.save_for_backward(g, x, weight, mean, inverse)
        ctx.eps = eps
        return _backward(g, x, weight, mean, inverse, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the derivatives of u @ (weight r P(g)) + a N m(g h) + b N m(g)."""
        (u, a, b), (g, x, weight, mean, inverse) = gradients, ctx.saved_tensors
        n = x.numel() // x.shape[1]
        ones, shape = torch.ones_like(mean), (1, -1, *[1] * (x.ndim - 2))
        u_projected, u_h, _ = _backward(u, x, ones, mean, inverse, ctx.eps)  # r P(u), N m(u h)
        g_projected, g_h, _ = _backward(g, x, ones, mean, inverse, ctx.eps)
        product = (u * g_projected).sum([0, *range(2, x.ndim)])
        h = torch.addcmul((-mean * inverse).view(shape), x, inverse.view(shape))
        of_g = torch.addcmul(b.view(shape), u_projected, weight.view(shape)).addcmul_(h, a.view(shape))
        of_x = h * (-weight * product * inverse / n).view(shape)
        of_x.addcmul_(u_projected, (-weight * inverse * g_h / n).view(shape))
        of_x.addcmul_(g_projected, (a - weight * inverse * u_h / n).view(shape))
        return of_g, of_x, product, None, None, None


def _backward(g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float) -> Any:
    return _aten.native_batch_norm_backward(g, x, weight, None, None, mean, inverse, True, eps, [True] * 3)
