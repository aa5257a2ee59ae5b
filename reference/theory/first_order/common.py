"""What both solvers share: phases, checks of parameters, and the minimisation of a convex function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

GAUSSIAN, MIXED, SPECIALISED = PHASES = ("GFL", "GMFL-I", "GMFL-II")
Floats = NDArray[np.float64]
Convex = Callable[[Floats], tuple[float, Floats, Floats]]


class ConvergenceError(ValueError):
    """A solver did not reach its tolerance.

    Attributes
    ----------
    residual : float
        Largest violation of the equations at the last iterate.
    """

    def __init__(self, message: str, residual: float) -> None:
        super().__init__(message)
        self.residual = residual


class Minimum(NamedTuple):
    """Point, residual (largest entry of the gradient) and number of Newton steps."""

    point: Floats
    residual: float
    iterations: int


def phase_of(width: float, share: float) -> str:
    """Return the phase of a network from the expected share of its specialised neurons.

    A network is mixed (GMFL-I) if at least one of its neurons is expected to be specialised, and at least one is not.
    """
    if width * share < 1:
        return GAUSSIAN
    return MIXED if width * (1 - share) >= 1 else SPECIALISED


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def check_positive(**values: float) -> None:
    """Raise ValueError unless all values are positive and finite."""
    for name, value in values.items():
        if not (is_finite(value) and value > 0):
            raise ValueError(f"Expected a positive number {name}, got {value}; give a finite number above 0.")


def minimise(convex: Convex, start: Floats, *, tolerance: float, max_iterations: int) -> Minimum:
    """Minimise a convex function by Newton steps, halved until the function decreases.

    Parameters
    ----------
    convex
        Returns value, gradient and Hessian at a point.
    start
        The first point.
    tolerance
        Largest entry of the gradient at the end.
    max_iterations
        Newton steps at most.

    Raises
    ------
    ConvergenceError
        If the gradient is above the tolerance after all steps.
    """
    point, (value, gradient, hessian) = start, convex(start)
    residual = float(np.abs(gradient).max())
    for k in range(max_iterations):
        if residual <= tolerance:
            return Minimum(point, residual, k)
        step, scale = np.linalg.solve(hessian, gradient), 1.0
        for _ in range(40):
            trial = convex(point - scale * step)
            # close to the minimum the value is exhausted by rounding, and the gradient decides
            flat = trial[0] <= value + 1e-12 * (1 + abs(value)) and np.abs(trial[1]).max() < 0.5 * residual
            if flat or trial[0] <= value - 1e-4 * scale * gradient @ step:
                break
            scale /= 2
        point, (value, gradient, hessian) = point - scale * step, trial
        residual = float(np.abs(gradient).max())
    check_converged(residual, tolerance, max_iterations)
    return Minimum(point, residual, max_iterations)


def check_converged(residual: float, tolerance: float, iterations: int) -> None:
    """Raise ConvergenceError unless the residual is at most the tolerance."""
    if not residual <= tolerance:
        raise ConvergenceError(
            f"Expected a residual of at most {tolerance:.1e} after {iterations} iterations, got {residual:.1e}; "
            "give more max_iterations or a larger tolerance.",
            residual,
        )
