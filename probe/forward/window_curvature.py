"""Curvature of the loss at the start of a window, and the same window with the curvature held constant."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn

from probe.forward.window_dual import NotDifferentiableError, derivative_errors, dual_steps, prepare, set_tangents
from probe.forward.window_tangent import ROUTES, tangents
from probe.forward.windows import Window, flat, parts, seed_all, trained_parameters

_LINEAR = torch.optim.SGD, torch.optim.ASGD
_ALIKE = 1e-3  # largest relative difference of two derivatives that are the same up to rounding


class Curvature:
    """Gradient and Hessian of the loss of batches at the start of a window, from the user's ``step_fn``.

    The optimizer of a copy is replaced by one that notes the gradients and changes nothing. A gradient that ``step_fn``
    clips is noted as clipped, and so are its derivatives.
    """

    def __init__(self, window: Window, route: str = "forward") -> None:
        self._window, self._route = window, ROUTES[route]
        self._model, self._optimizer = window.training.copy(window.model)
        self.parameters: list[nn.Parameter] = trained_parameters(self._model, self._optimizer)

    def gradient(self) -> Tensor:
        """Return the gradient (P,) of the first batch in float64."""
        with self.carried():
            return self.noted(0)[0].cpu().double()

    def product(self, direction: Tensor) -> Tensor:
        """Return the Hessian of the first batch times a direction (P,) in float64.

        Raises
        ------
        NotDifferentiableError
            If a function has no derivative by this route.
        """
        with self.carried() as carried:
            set_tangents(carried, direction)
            return self.noted(0)[1].cpu().double()

    @contextmanager
    def carried(self) -> Iterator[Sequence[Tensor]]:
        """Context manager that yields the tensors whose tangents :meth:`noted` uses."""
        with derivative_errors(), self._route(self._model, self.parameters, self._optimizer) as carried:
            yield carried

    def noted(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the gradient of batch k and its tangent, both (P,), within :meth:`carried`."""
        notes: list[tuple[Tensor, Tensor]] = []

        def note(closure: Any = None) -> None:
            if closure is not None:
                with torch.enable_grad():
                    closure()
            found = [fw.unpack_dual(torch.zeros_like(p) if p.grad is None else p.grad) for p in self.parameters]
            tangents = [torch.zeros_like(part.primal) if part.tangent is None else part.tangent for part in found]
            notes.append((flat([part.primal for part in found]), flat(tangents)))

        step, self._optimizer.step = self._optimizer.step, note  # type: ignore[method-assign, assignment]
        try:
            for p in self._model.parameters():
                p.grad = None
            seed_all(self._window.seed + k)
            self._window.training.update(self._model, self._optimizer, self._window.batches[k])
        finally:
            self._optimizer.step = step  # type: ignore[method-assign]
        if len(notes) != 1:
            raise NotDifferentiableError(
                f"Expected step_fn to call optimizer.step() once, got {len(notes)} calls; call it once in each update"
            )
        return notes[0]


def choose_route(window: Window, direction: Tensor) -> str:
    """Return how the gradients of a training are differentiated.

    Parameters
    ----------
    window
        Its first update is differentiated both ways.
    direction : Tensor of shape (P,)
        Direction of the test.

    Returns
    -------
    str
        ``"reverse"``, by a second backward pass, which is faster. ``"forward"``, by dual numbers, if both differ, as
        where the loss detaches a value that depends on the parameters, or if there is no second derivative.

    Raises
    ------
    NotDifferentiableError
        If neither exists. The message has both reasons.
    """
    found, reasons = {}, []
    for route in ROUTES:
        try:
            found[route] = Curvature(window, route).product(direction)
        except NotDifferentiableError as error:
            reasons.append(str(error))
    if not found:
        raise NotDifferentiableError("; ".join(dict.fromkeys(reasons)))
    first, *others = found.values()
    differ = any((first - other).norm() > _ALIKE * max(first.norm(), other.norm()) for other in others)
    return "forward" if differ else next(iter(found))


def quadratic_tangent(window: Window, direction: Tensor, route: str = "forward") -> Tensor:
    """Return the derivative (P,) of the end of a window in which each batch keeps the Hessian of the start.

    The optimizer and its state are those of the training. The growth on this quadratic model comes from learning rate
    and curvature at the start alone. The updates of SGD and ASGD are linear in the gradients, so that their derivative
    does not depend on the path: there each update takes one product with a Hessian, else two.

    Raises
    ------
    NotDifferentiableError
        If a function or the optimizer has no derivative by this route.
    """
    fixed = Curvature(window, route)
    model, optimizer = window.training.copy(window.model)
    prepare(optimizer)
    moving = trained_parameters(model, optimizer)
    start = flat(moving)
    with fixed.carried() as carried, dual_steps(optimizer):
        set_tangents(moving, direction)
        for k in range(len(window.batches)):
            change: Tensor | float = 0.0
            if not isinstance(optimizer, _LINEAR):
                set_tangents(carried, flat([fw.unpack_dual(p).primal for p in moving]) - start)
                change = fixed.noted(k)[1]
            set_tangents(carried, tangents(moving))
            gradient, turned = fixed.noted(k)
            pairs = zip(parts(gradient + change, moving), parts(turned, moving), strict=True)
            for p, (value, along) in zip(moving, pairs, strict=True):
                p.grad = fw.make_dual(value, along)
            optimizer.step()
        return tangents(moving)
