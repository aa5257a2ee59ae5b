"""Curvature of the loss at the start of a window, and the same window with the curvature held constant."""

from typing import Any

import torch
import torch.autograd.forward_ad as fw
from torch import Tensor, nn

from probe.forward.window_tangent import derivative_errors, dual, dual_steps, prepare, set_tangents
from probe.forward.windows import Window, flat, parts, seed_all, trained_parameters


class Curvature:
    """Gradient and Hessian of the loss of batches at the start of a window, from the user's ``step_fn``.

    The optimizer of a copy is replaced by one that notes the gradients and changes nothing. A gradient that ``step_fn``
    clips is noted as clipped, and so are its derivatives.
    """

    def __init__(self, window: Window, n_batches: int = 1) -> None:
        self._window, self._n_batches = window, min(n_batches, len(window.batches))
        self._model, self._optimizer = window.training.copy(window.model)
        self.parameters: list[nn.Parameter] = trained_parameters(self._model, self._optimizer)

    def gradient(self) -> Tensor:
        """Return the gradient (P,) in float64, the mean over the batches."""
        return self._mean(None)

    def product(self, direction: Tensor) -> Tensor:
        """Return the Hessian times a direction (P,) in float64, the mean over the batches.

        Raises
        ------
        NotDifferentiableError
            If a function has no forward derivative.
        """
        return self._mean(direction)

    def _mean(self, direction: Tensor | None) -> Tensor:
        total = torch.zeros(sum(p.numel() for p in self.parameters), dtype=torch.float64)
        with derivative_errors(), dual(self.parameters, self._optimizer):
            if direction is not None:
                set_tangents(self.parameters, direction)
            for k in range(self._n_batches):
                gradient, derivative = self.noted(k)
                total += (gradient if direction is None else derivative).cpu().double() / self._n_batches
        return total

    def noted(self, k: int) -> tuple[Tensor, Tensor]:
        """Return the gradient of batch k and its tangent, both (P,), within :func:`dual`."""
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
            for p in self.parameters:
                p.grad = None
            seed_all(self._window.seed + k)
            self._window.training.update(self._model, self._optimizer, self._window.batches[k])
        finally:
            self._optimizer.step = step  # type: ignore[method-assign]
        if len(notes) != 1:
            raise ValueError(
                f"Expected step_fn to call optimizer.step() once, got {len(notes)} calls; call it once in each update"
            )
        return notes[0]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the copy."""
        return self._optimizer


def quadratic_tangent(window: Window, direction: Tensor) -> Tensor:
    """Return the derivative (P,) of the end of a window in which each batch keeps the Hessian of the start.

    The optimizer and its state are those of the training. The growth on this quadratic model comes from learning rate
    and curvature at the start alone.

    Raises
    ------
    NotDifferentiableError
        If a function or the optimizer has no forward derivative.
    """
    fixed = Curvature(window)
    model, optimizer = window.training.copy(window.model)
    prepare(optimizer)
    moving = trained_parameters(model, optimizer)
    start = flat(moving)
    with derivative_errors(), dual(fixed.parameters, fixed.optimizer), dual_steps(optimizer):
        set_tangents(moving, direction)
        for k in range(len(window.batches)):
            found = [fw.unpack_dual(p) for p in moving]
            set_tangents(fixed.parameters, flat([part.primal for part in found]) - start)
            gradient, change = fixed.noted(k)
            set_tangents(fixed.parameters, flat([part.tangent for part in found]))
            pairs = zip(parts(gradient + change, moving), parts(fixed.noted(k)[1], moving), strict=True)
            for p, (value, tangent) in zip(moving, pairs, strict=True):
                p.grad = fw.make_dual(value, tangent)
            optimizer.step()
        return flat([fw.unpack_dual(p).tangent for p in moving])
