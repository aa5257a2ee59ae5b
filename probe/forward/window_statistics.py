"""Derivatives of the running statistics of batch norm, which PyTorch treats as constants.

An update changes running statistics r to (1 - m) r + m s, where s are the mean and the variance of the inputs x. With
the tangent u of x, the tangent of the mean is mean(u), and that of the variance 2 mean((x - mean(x)) u), corrected as
the variance. On dual numbers, x carries u. In a second backward pass, which differentiates g @ v for gradients g and
tangents v, u is the derivative with respect to the gradient of x.
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.forward.batch_norm import batch_norm, is_replaced
from probe.forward.window_dual import NotDifferentiableError

_NORMS = {nn.functional.batch_norm: False, nn.functional.instance_norm: True}  # whether each row has its own mean
_ALIKE = 1e-3  # largest relative difference of changes that are the same up to rounding
_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_DEFAULTS = {"momentum": 0.1, "eps": 1e-5, "weight": None, "bias": None, "running_mean": None, "running_var": None}


class BuffersError(NotDifferentiableError):
    """Error of buffers whose derivative is not known, so that the derivative of outputs is not known either."""

    @classmethod
    def of(cls, cause: str) -> Self:
        """Return the error of running statistics."""
        return cls(
            f"Expected running statistics that change once for each pass with gradients, got {cause}; read the growth "
            "of outputs from the twins"
        )


class RunningStatistics(TorchFunctionMode):
    """Mode that notes the derivatives of running statistics in the updates of a window.

    ``dual`` is whether inputs carry their tangents, else gradients are differentiated by a second backward pass.
    """

    def __init__(self, *, dual: bool) -> None:
        super().__init__()
        self._dual, self._calls = dual, list[_Call]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _NORMS:
            return func(*args, **kwargs)
        given = _arguments(func, args, kwargs)
        if given["training"] and given["running_mean"] is not None:
            x, weight, bias = (given[name] for name in ("input", "weight", "bias"))
            if not self._dual and x.requires_grad and not _NORMS[func] and is_replaced(x, weight, bias):
                return batch_norm(**given, note=self._called(given, by_row=False).store)
            kwargs = {name: value for name, value in given.items() if name != "training"}
            kwargs["use_input_stats" if _NORMS[func] else "training"] = True
            kwargs["input"] = self._noted(given, by_row=_NORMS[func])
            args = ()
        return func(*args, **kwargs)

    def _noted(self, given: Mapping[str, Any], *, by_row: bool) -> Tensor:
        """Return the inputs, whose tangent is noted when it is known."""
        x: Tensor = given["input"]
        call = self._called(given, by_row=by_row)
        if self._dual:
            value, along = fw.unpack_dual(x)
            call.note(value.detach(), None if along is None else along.detach())
        elif x.requires_grad:
            return _Tap.apply(x, call)
        elif torch.is_grad_enabled():
            call.note(x.detach(), None)
        return x

    def _called(self, given: Mapping[str, Any], *, by_row: bool) -> "_Call":
        self._calls.append(_Call(given, by_row=by_row))
        return self._calls[-1]

    def tangents(self) -> dict[int, Tensor]:
        """Return the tangents of running statistics by ``id``.

        Raises
        ------
        BuffersError
            If the noted updates do not explain the values. Checkpoints, for example, change statistics twice.
        """
        found = {id(buffer): torch.zeros_like(buffer) for call in self._calls for buffer in call.buffers}
        values = {id(call.buffers[0]): call.start for call in reversed(self._calls)}
        for call in self._calls:
            if not call.found:
                raise BuffersError.of("a pass in training mode without gradients")
            for buffer, new in zip(call.buffers, call.found, strict=True):
                found[id(buffer)].lerp_(new, call.momentum)
            values[id(call.buffers[0])] = values[id(call.buffers[0])].lerp(call.mean, call.momentum)
        for call in self._calls:
            mean, noted = call.buffers[0], values[id(call.buffers[0])]
            if (mean - noted).norm() > _ALIKE * (mean - call.start).norm().clamp(min=mean.norm() * _ALIKE):
                raise BuffersError.of("other changes")
        return found


class _Call:
    """One change of running statistics."""

    def __init__(self, given: Mapping[str, Any], *, by_row: bool) -> None:
        self.buffers: tuple[Tensor, Tensor] = (given["running_mean"], given["running_var"])
        self.start = self.buffers[0].clone()
        self.momentum, self._by_row = float(given["momentum"]), by_row
        self.found: tuple[Tensor, ...] = ()  # tangents of mean and variance
        self.mean = self.start

    def store(self, mean: Tensor, *found: Tensor) -> None:
        """Store the mean of the inputs, and the tangents of mean and variance."""
        self.mean, self.found = mean, found

    def note(self, x: Tensor, u: Tensor | None) -> None:
        """Store mean and tangents, for inputs (n, channels, ...) and their tangent, None for zeros."""
        dtype, c = self.buffers[0].dtype, x.shape[1]
        axes = [*([] if self._by_row else [0]), *range(2, x.ndim)]
        n = x.numel() // c // (len(x) if self._by_row else 1)
        x = x.to(dtype)
        mean = x.mean(axes, keepdim=True)
        self.mean, self.found = mean.reshape(-1, c).mean(0), tuple(map(torch.zeros_like, self.buffers))
        if u is not None:
            u = u.to(dtype)
            found = u.mean(axes), (x - mean).mul_(u).sum(axes) * (2 / (n - 1))
            self.found = tuple(part.reshape(-1, c).mean(0) for part in found)


class _Tap(torch.autograd.Function):
    """Identity. The derivative of its gradient is the tangent of its inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: _Call) -> Tensor:
        ctx.save_for_backward(x)
        ctx.call = call
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _TapGradient.apply(gradients[0], ctx.saved_tensors[0].detach(), ctx.call), None


class _TapGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, call: _Call) -> Tensor:
        ctx.save_for_backward(x)
        ctx.call = call
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *tangents: Any) -> Any:
        ctx.call.note(ctx.saved_tensors[0], tangents[0])
        return tangents[0], None, None


class MovedStatistics(TorchFunctionMode):
    """Mode in which norms in evaluation mode use running statistics r + scale * tangent, for tangents by ``id``."""

    def __init__(self, tangents: Mapping[int, Tensor], scale: Tensor) -> None:
        super().__init__()
        self._tangents, self._scale = tangents, scale

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _NORMS:
            return func(*args, **kwargs)
        given = _arguments(func, args, kwargs)
        if given["training"] or id(given["running_mean"]) not in self._tangents:
            return func(*args, **kwargs)
        x: Tensor = given["input"]
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean, variance = (self._moved(given[name]) for name in ("running_mean", "running_var"))
        factor = torch.rsqrt(variance + given["eps"])
        factor = factor if given["weight"] is None else factor * given["weight"]
        normed = (x - mean.view(shape)) * factor.view(shape)
        return normed if given["bias"] is None else normed + given["bias"].view(shape)

    def _moved(self, buffer: Tensor) -> Tensor:
        return buffer + self._scale * self._tangents[id(buffer)]


def _arguments(func: Any, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a norm by name; ``training`` is whether it uses the statistics of its inputs."""
    given = {**_DEFAULTS, "training": _NORMS[func], **dict(zip(_NAMES, args, strict=False)), **kwargs}
    if "use_input_stats" in given:
        given["training"] = given.pop("use_input_stats")
    return given
