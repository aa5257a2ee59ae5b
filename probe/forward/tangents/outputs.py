"""Outputs of a model with the graph to its parameters, and the parameters of a tangent kernel."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from probe.forward.gradients import without_backward_hooks
from probe.forward.isolation import isolated, user_defaults
from probe.forward.layers import OUTPUT, Layers, select_layers
from probe.forward.outputs import Select, tensor_of
from probe.forward.passes import call_model
from probe.forward.shards import refuse_sharded


def trained_parameters(model: nn.Module, layers: Layers = None) -> dict[str, nn.Parameter]:
    """Return the parameters that the training changes, each once: those with ``requires_grad``.

    Parameters
    ----------
    model
    layers
        Modules whose parameters count, those of their submodules included. Default: all.

    Raises
    ------
    ValueError
        If there is none, or one is no real floating-point tensor.
    """
    refuse_sharded(model, "derivatives with respect to parameters")
    chosen = [OUTPUT] if layers is None else select_layers(model, layers)
    inside = {  # a tied parameter has several names
        id(parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if OUTPUT in chosen or any(name.startswith(f"{layer}.") for layer in chosen)
    }
    found = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) in inside
    }
    if not found:
        where = "the model" if layers is None else f"layers={layers!r}"
        raise ValueError(
            f"Expected parameters with requires_grad=True, got none in {where}; select layers that are trained"
        )
    for name, parameter in found.items():
        if not parameter.is_floating_point():
            raise ValueError(f"Expected real parameters, got {parameter.dtype} in {name}; leave its layer out")
    return found


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for rows of fixed inputs, as a matrix (rows, columns).

    Parameters
    ----------
    model
    take : function(rows) -> inputs
    n : int
        Number of rows.
    select
        Part of what the model returns, see :func:`probe.forward.outputs.tensor_of`.
    columns : LongTensor, optional
        Numbers of one row of outputs that count. Default: all.
    mask : function(rows) -> Tensor (n, T), optional
        Positions that count; outputs at other positions are replaced by 0.
    summed : bool
        Whether the columns are summed and divided by the root of their number.
    """

    model: nn.Module
    take: Callable[[Tensor], Any]
    n: int
    select: Select = None
    columns: Tensor | None = None
    mask: Callable[[Tensor], Tensor | None] | None = None
    summed: bool = False

    def shape(self) -> torch.Size:
        """Return the shape of one row of outputs, from a pass over at most two rows."""
        with isolated(self.model), math_attention(self.model):
            return self.returned(torch.arange(min(2, self.n))).shape[1:]

    def of(self, rows: Tensor) -> Tensor:
        """Return the matrix of outputs for rows. The caller has switched gradients and the model."""
        found = self.returned(rows)
        mask = None if self.mask is None else self.mask(rows)
        if mask is not None and found.shape[1:2] == mask.shape[1:]:
            found = found * mask.view(*mask.shape, *[1] * (found.ndim - 2)).to(found.dtype)
        found = found.reshape(len(rows), -1)
        if self.columns is not None:
            found = found[:, self.columns.to(found.device)]
        return found.sum(1, keepdim=True) / found.shape[1] ** 0.5 if self.summed else found

    def returned(self, rows: Tensor) -> Tensor:
        """Return the outputs for rows, in the shape of the model."""
        with user_defaults():
            found = tensor_of(call_model(self.model, self.take(rows)), f"layer {OUTPUT!r}", self.select)
        return _checked(found, len(rows))

    @contextmanager
    def graph(self, rows: Tensor) -> Iterator[Tensor]:
        """Context manager that yields the matrix of outputs with the graph to the parameters.

        Raises
        ------
        ValueError
            If the outputs do not depend on trained parameters by operations with derivatives.
        """
        with differentiable(self.model), torch.enable_grad():
            found = self.of(rows)
            if not found.requires_grad:
                raise ValueError(
                    "Expected outputs that depend on trained parameters by operations with derivatives, got none; "
                    "leave this measure out, or pass output= to name another part of what the model returns"
                )
            yield found


def _checked(returned: Tensor, n: int) -> Tensor:
    if not returned.is_floating_point():
        raise ValueError(
            f"Expected real floating-point outputs, got {returned.dtype}; pass output= to name a part of what the "
            "model returns, or a function of it"
        )
    if returned.shape[:1] != (n,):
        raise ValueError(
            f"Expected one row of outputs for each of {n} inputs, got shape {tuple(returned.shape)}; pass output= to "
            "name another part of what the model returns, or a function of it"
        )
    return returned


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Context manager for derivatives: isolated, without the user's hooks on gradients, with twice differentiable code.

    The fused kernels of attention and of recurrent networks have no second derivatives.
    """
    with isolated(model), without_backward_hooks(model), _without_hooks_of_parameters(model), math_attention(model):
        yield


@contextmanager
def math_attention(model: nn.Module) -> Iterator[None]:
    """Context manager that switches attention and recurrent layers to code that can be differentiated twice."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextmanager
def _without_hooks_of_parameters(model: nn.Module) -> Iterator[None]:
    """Context manager in which derivatives call no hooks of parameters, which can change a gradient."""
    hooks: Mapping[nn.Parameter, Any] = {p: p._backward_hooks for p in model.parameters() if p._backward_hooks}
    try:
        for parameter in hooks:
            parameter._backward_hooks = None
        yield
    finally:
        for parameter, registered in hooks.items():
            parameter._backward_hooks = registered
