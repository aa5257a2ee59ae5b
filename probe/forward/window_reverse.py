"""Derivatives through updates of a training by a second backward pass.

The model itself carries no tangents here, so that its functions need no forward derivative. ``loss.backward()``
computes the gradients g and, with the tangents v of the parameters, the derivative of g @ v. That is the Hessian times
v, and becomes the tangent of the gradients. Copies of the parameters with tangents replace the parameters while the
optimizer makes its update.

The derivative of g @ v is the tangent of the gradients if g is the gradient of one function. It is not if the loss
detaches a value that depends on the parameters: that value counts as a constant. So the first update of a window is
differentiated both ways where possible, see :func:`probe.forward.window_curvature.choose_route`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from probe.forward.batch_norm import batch_norm
from probe.forward.training import detached_copies
from probe.forward.window_dual import (
    NotDifferentiableError,
    Rules,
    derivative_errors,
    dual_steps,
    load_derivatives,
    set_tangents,
)
from probe.forward.window_statistics import MovedStatistics
from probe.forward.windows import Window


@contextmanager
def reverse(
    model: nn.Module, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> Iterator[list[Tensor]]:
    """Context manager that yields copies of the parameters. Gradients and updates carry the tangents of the copies."""
    load_derivatives()
    moving = [p.detach().clone() for p in parameters]
    backward = _Backward(model, parameters, moving)
    handles = [p.register_post_accumulate_grad_hook(backward.refuse) for p in model.parameters() if p.requires_grad]
    try:
        with (
            sdpa_kernel(SDPBackend.MATH),
            fw.dual_level(),
            Rules(),
            backward,
            dual_steps(optimizer),
            _swapped_steps(parameters, moving, optimizer),
        ):
            yield moving
    finally:
        for handle in handles:
            handle.remove()


class _Backward(TorchFunctionMode):
    """Mode in which ``loss.backward()`` stores gradients with tangents."""

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter], moving: Sequence[Tensor]) -> None:
        super().__init__()
        self._all = [p for p in model.parameters() if p.requires_grad]  # clipping reads them all
        self._checked = False
        self._moving = {id(p): copied for p, copied in zip(parameters, moving, strict=True)}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.backward and self._tangents():
            return self._backward(*args, **(kwargs or {}))
        if func is nn.functional.batch_norm and torch.is_grad_enabled():
            return batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def refuse(self, _: Tensor) -> None:
        """Raise NotDifferentiableError for a gradient that another function has accumulated."""
        if self._tangents():
            raise NotDifferentiableError(
                "Expected gradients from loss.backward(), got some from another function of torch.autograd; call "
                "loss.backward(), or use the twin only"
            )

    def _tangents(self) -> dict[int, Tensor]:
        found = {key: fw.unpack_dual(copied).tangent for key, copied in self._moving.items()}
        return {key: tangent for key, tangent in found.items() if tangent is not None}

    def _backward(
        self,
        loss: Tensor,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        if create_graph or inputs is not None:
            raise NotDifferentiableError(
                "Expected loss.backward() without inputs and create_graph, got one of them; leave them out, or use the "
                "twin only"
            )
        gradients, products = self._twice(loss, gradient, retain_graph)
        for p, new, product in zip(self._all, gradients, products, strict=True):
            if new is not None:
                new = fw.make_dual(new.detach(), torch.zeros_like(new) if product is None else product)
                p.grad = new if p.grad is None else p.grad + new

    def _twice(self, loss: Tensor, gradient: Tensor | None, retain_graph: bool | None) -> tuple[Any, Any]:
        """Return the gradients of all parameters, and the derivatives of their product with the tangents."""
        tangents = self._tangents()
        try:
            gradients: Sequence[Tensor | None] = torch.autograd.grad(
                loss, self._all, gradient, create_graph=True, allow_unused=True
            )
            if any(found is not None and found.is_sparse for found in gradients):
                raise NotImplementedError("gradients are sparse")
            pairs = [
                (found, tangents[id(p)])
                for p, found in zip(self._all, gradients, strict=True)
                if id(p) in tangents and found is not None and found.requires_grad
            ]
            if not self._checked:
                _check_graph([found for found, _ in pairs])
                self._checked = True
            if not pairs:
                return gradients, [None] * len(gradients)
            found, along = zip(*pairs, strict=True)
            return gradients, torch.autograd.grad(found, self._all, along, retain_graph=retain_graph, allow_unused=True)
        except (NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise NotDifferentiableError(
                f"Expected gradients that PyTorch can differentiate, got this: {reason}; use the twin only"
            ) from error


def _check_graph(gradients: Sequence[Tensor]) -> None:
    """Raise NotImplementedError if gradients depend on a function marked ``once_differentiable``.

    PyTorch raises an error of its own only where the derivative of a leaf is asked for that this function hides.
    """
    nodes = [gradient.grad_fn for gradient in gradients]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if node is None:
            continue
        if node.name() == "torch::autograd::Error":
            raise NotImplementedError("a function is marked once_differentiable")
        new = {other for other, _ in node.next_functions} - seen
        seen |= new
        nodes += new


@contextmanager
def _swapped_steps(
    parameters: Sequence[nn.Parameter], moving: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> Iterator[None]:
    """Context manager in which the optimizer updates copies with tangents, whose values the parameters receive."""
    copies = {id(p): copied for p, copied in zip(parameters, moving, strict=True)}
    for p in parameters:
        if p in optimizer.state:
            optimizer.state[copies[id(p)]] = optimizer.state.pop(p)
    versions = [p._version for p in parameters]
    step = optimizer.step

    def stepping(closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        _check_versions(parameters, versions)
        for p, copied in zip(parameters, moving, strict=True):
            copied.grad = p.grad
        held = [group["params"] for group in optimizer.param_groups]
        try:
            for group, own in zip(optimizer.param_groups, held, strict=True):
                group["params"] = [copies.get(id(p), p) for p in own]
            step()
        finally:
            for group, own in zip(optimizer.param_groups, held, strict=True):
                group["params"] = own
        with torch.no_grad():
            for p, copied in zip(parameters, moving, strict=True):
                p.copy_(fw.unpack_dual(copied).primal)
        versions[:] = [p._version for p in parameters]
        return loss

    try:
        optimizer.step = stepping  # type: ignore[method-assign]
        yield
        _check_versions(parameters, versions)
    finally:
        optimizer.step = step  # type: ignore[method-assign]


def _check_versions(parameters: Sequence[Tensor], versions: Sequence[int]) -> None:
    if [p._version for p in parameters] != versions:
        raise NotDifferentiableError(
            "Expected parameters that only optimizer.step() changes, got changes beside it; leave them to the "
            "optimizer, or use the twin only"
        )


def output_tangent(
    window: Window,
    model: nn.Module,
    parameters: Sequence[Tensor],
    tangents: Sequence[Tensor],
    moved: Mapping[int, Tensor],
) -> Tensor:
    """Return the derivative of what the window reads from a model whose parameters carry no tangents.

    ``moved`` are the tangents of running statistics by ``id``.
    """
    copied, inner, statistics = _copied(model, parameters, moved)
    try:
        one = fw.make_dual(torch.zeros(()), torch.ones(()))
        with derivative_errors(), torch.no_grad(), MovedStatistics(statistics, one):
            set_tangents(inner, torch.cat([tangent.flatten() for tangent in tangents]))
            found = fw.unpack_dual(window.outputs(copied))
            return (torch.zeros_like(found.primal) if found.tangent is None else found.tangent).clone()
    except NotDifferentiableError:
        copied, inner, statistics = _copied(model, parameters, moved)
        scale = torch.zeros((), requires_grad=True)
        with MovedStatistics(statistics, scale):
            return _twice_reversed(window, copied, [*inner, scale], [*tangents, torch.ones(())])


def _copied(
    model: nn.Module, parameters: Sequence[Tensor], moved: Mapping[int, Tensor]
) -> tuple[nn.Module, list[nn.Parameter], dict[int, Tensor]]:
    """Return a copy of a model, its copies of some parameters, and the tangents of its buffers."""
    memo: dict[int, Any] = detached_copies(model)
    with torch._C.DisableTorchFunction():
        copied = deepcopy(model, memo)
    return copied, [memo[id(p)] for p in parameters], {id(memo[key]): moved[key] for key in moved if key in memo}


def _twice_reversed(window: Window, model: nn.Module, parameters: Sequence[Tensor], along: Sequence[Tensor]) -> Tensor:
    """Return J v as the derivative of u @ J @ v with respect to u."""
    with torch.enable_grad():
        outputs = window.outputs(model)
        u = torch.zeros_like(outputs, requires_grad=True)
        try:
            gradients: Sequence[Tensor | None] = torch.autograd.grad(
                outputs, parameters, u, create_graph=True, allow_unused=True
            )
            pairs = [(found, v) for found, v in zip(gradients, along, strict=True) if found is not None]
            found, vectors = zip(*pairs, strict=True)
            return torch.autograd.grad(found, u, vectors)[0].detach()
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise NotDifferentiableError(
                f"Expected outputs that PyTorch can differentiate twice, got this: {error}; use the twin only"
            ) from error
