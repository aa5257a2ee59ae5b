"""Exact derivatives through updates of a training.

After W updates, the tangent is the derivative of the final parameters in a direction of the first ones. The user's
``step_fn`` runs as it is. There is no step size, so neither rounding of a difference nor a finite size enters. The
tangent of the gradients comes from a second backward pass (``"reverse"``) or from dual numbers (``"forward"``). Updates
of the optimizer use dual numbers. The tangents of running statistics are carried beside.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn

from probe.forward.window_dual import derivative_errors, dual, prepare, set_tangents
from probe.forward.window_reverse import output_tangent, reverse
from probe.forward.window_statistics import BuffersError, MovedStatistics, RunningStatistics
from probe.forward.windows import Window, flat, trained_parameters

ROUTES = {"reverse": reverse, "forward": dual}


def tangent(
    window: Window, direction: Tensor, route: str = "forward", problems: list[str] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivative of the end of a window in a direction (P,) of its start.

    Parameters
    ----------
    window
        The updates.
    direction : Tensor of shape (P,)
        Tangent of the parameters at the start.
    route : {"reverse", "forward"}
        How gradients are differentiated, see :func:`probe.forward.window_curvature.choose_route`.
    problems : list of str, optional
        Receives the reason if the final derivative of buffers is not known. ``outputs_end`` is then NaN. Default: an
        error.

    Returns
    -------
    parameters, end : Tensor of shape (P,)
        Derivative of the final parameters, and the final parameters.
    outputs_start, outputs_end : Tensor
        Derivatives of what the window reads from the model at its start and at its end.

    Raises
    ------
    NotDifferentiableError
        If a function, the optimizer or a change of buffers has no derivative by this route.
    """
    model, optimizer = window.training.copy(window.model)
    prepare(optimizer)
    parameters, statistics = trained_parameters(model, optimizer), RunningStatistics(dual=route == "forward")
    with derivative_errors(), ROUTES[route](model, parameters, optimizer) as moving:
        set_tangents(moving, direction)
        first = _outputs(window, model, parameters, moving, {})
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with statistics:
            for k, batch in enumerate(window.batches):
                window.update(model, optimizer, batch, k)
        try:
            moved = statistics.tangents()
            _check_buffers(model, before, moved)
            last = _outputs(window, model, parameters, moving, moved)
        except BuffersError as error:
            if problems is None:
                raise
            problems.append(str(error))
            last = torch.full_like(first, torch.nan)
        return tangents(moving), flat([fw.unpack_dual(p).primal for p in moving]), first, last


def _check_buffers(model: nn.Module, before: Mapping[str, Tensor], moved: Mapping[int, Tensor]) -> None:
    """Raise BuffersError if a buffer has changed whose tangent is not known, by ``moved`` or as a dual number."""
    for name, buffer in model.named_buffers():
        known = id(buffer) in moved or not buffer.is_floating_point() or fw.unpack_dual(buffer).tangent is not None
        if not known and not (name in before and torch.equal(before[name], buffer)):
            raise BuffersError(
                f"Expected buffers whose changes have a derivative, got changes of {name}; read the growth of outputs "
                "from the twins"
            )


def tangents(parameters: Sequence[Tensor]) -> Tensor:
    """Return the tangents of parameters as a vector (P,)."""
    return flat([fw.unpack_dual(p).tangent for p in parameters])


def _outputs(
    window: Window,
    model: nn.Module,
    parameters: Sequence[Tensor],
    moving: Sequence[Tensor],
    moved: Mapping[int, Tensor],
) -> Tensor:
    """Return the derivative of the outputs, where ``moving`` carry the tangents of the parameters, ``moved`` others."""
    if moving is not parameters:
        return output_tangent(window, model, parameters, [fw.unpack_dual(p).tangent for p in moving], moved)
    one = fw.make_dual(torch.zeros(()), torch.ones(()))
    with torch.no_grad(), MovedStatistics(moved, one):
        found = fw.unpack_dual(window.outputs(model))
    return (torch.zeros_like(found.primal) if found.tangent is None else found.tangent).detach().clone()
