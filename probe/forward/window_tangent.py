"""Exact derivatives through updates of a training.

After W updates, the tangent is the derivative of the final parameters in a direction of the first ones. The user's
``step_fn`` runs as it is. There is no step size, so neither rounding of a difference nor a finite size enters. The
tangent of the gradients comes from a second backward pass (``"reverse"``) or from dual numbers (``"forward"``). Updates
of the optimizer use dual numbers.
"""

from collections.abc import Sequence

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn

from probe.forward.window_dual import derivative_errors, dual, prepare, set_tangents
from probe.forward.window_reverse import output_tangent, reverse
from probe.forward.windows import Window, flat, trained_parameters

ROUTES = {"reverse": reverse, "forward": dual}


def tangent(window: Window, direction: Tensor, route: str = "forward") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivative of the end of a window in a direction (P,) of its start.

    Parameters
    ----------
    window
        The updates.
    direction : Tensor of shape (P,)
        Tangent of the parameters at the start.
    route : {"reverse", "forward"}
        How gradients are differentiated, see :func:`probe.forward.window_curvature.choose_route`.

    Returns
    -------
    parameters, end : Tensor of shape (P,)
        Derivative of the final parameters, and the final parameters.
    outputs_start, outputs_end : Tensor
        Derivatives of what the window reads from the model at its start and at its end.

    Raises
    ------
    NotDifferentiableError
        If a function or the optimizer has no derivative by this route.
    """
    model, optimizer = window.training.copy(window.model)
    prepare(optimizer)
    parameters = trained_parameters(model, optimizer)
    with derivative_errors(), ROUTES[route](model, parameters, optimizer) as moving:
        set_tangents(moving, direction)
        first = _outputs(window, model, parameters, moving)
        for k, batch in enumerate(window.batches):
            window.update(model, optimizer, batch, k)
        last = _outputs(window, model, parameters, moving)
        return tangents(moving), flat([fw.unpack_dual(p).primal for p in moving]), first, last


def tangents(parameters: Sequence[Tensor]) -> Tensor:
    """Return the tangents of parameters as a vector (P,)."""
    return flat([fw.unpack_dual(p).tangent for p in parameters])


def _outputs(window: Window, model: nn.Module, parameters: Sequence[Tensor], moving: Sequence[Tensor]) -> Tensor:
    """Return the derivative of the outputs, where ``moving`` carry the tangents of the parameters."""
    if moving is not parameters:
        return output_tangent(window, model, parameters, [fw.unpack_dual(p).tangent for p in moving])
    with torch.no_grad():
        found = fw.unpack_dual(window.outputs(model))
    return (torch.zeros_like(found.primal) if found.tangent is None else found.tangent).detach().clone()
