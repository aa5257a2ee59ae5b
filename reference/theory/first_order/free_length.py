"""The cubic teacher with a free length of the weights: the paper replaces |w|^2 by its mean under the prior.

Let R be the squared length of w without its part q along w*, with D = 1 + 2 (R + q^2). The exact density of a neuron in
the mean field is

    p(q, R) = R^((d - 3) / 2) exp(-d (q^2 + R) / (2 s_w^2) + (d u / 2) (e(q, R) . v)^2).

The paper sets R = s_w^2. The gain in the exponent is of order d, so that it shifts R by an amount that does not vanish
for large d: shorter weights have larger features. `solve_teacher` has R = s_w^2, and this module integrates over R. The
self-consistent equation for v is the same, with averages over q and R, and it is again a convex minimisation.
"""

from dataclasses import dataclass

import numpy as np

from reference.theory.first_order.common import Floats, minimise
from reference.theory.first_order.teacher import CubicTeacher, features, solve_teacher


@dataclass(frozen=True)
class FreeLengthSolution:
    """Solution of the equations with a free length of the weights.

    Attributes
    ----------
    teacher : CubicTeacher
        The parameters.
    linear, cubic : float
        b and c, the unlearned parts of the coefficients 1 and epsilon.
    q, curve : array of shape (m,)
        Overlaps from 0 on, and S(q) there, minus the logarithm of the density; 0 at q = 0.
    """

    teacher: CubicTeacher
    linear: float
    cubic: float
    q: Floats
    curve: Floats

    def action(self, q: Floats) -> Floats:
        """Return S(q) by interpolation."""
        return np.interp(np.abs(q), self.q, self.curve)


def solve_free_length(
    teacher: CubicTeacher, *, tolerance: float = 1e-8, max_iterations: int = 100
) -> FreeLengthSolution:
    """Solve the equations by Newton steps from the solution of the paper's equations.

    Raises
    ------
    ConvergenceError
        If the residual is above the tolerance after all steps. The error has the residual.
    ValueError
        If the dimension is below 6 or above 25,000, where the grid of lengths is too coarse.
    """
    if not 6 <= teacher.dimension <= 25_000:
        raise ValueError(
            f"Expected a dimension from 6 to 25,000 for a free length, got {teacher.dimension}; use solve_teacher."
        )
    t, start = teacher, solve_teacher(teacher)
    q, length = _grids(t)
    log_prior = (t.dimension - 3) / 2 * np.log(length) - t.dimension * (q[:, None] ** 2 + length) / (
        2 * t.weight_variance
    )
    log_prior[0] -= np.log(2)  # the trapezoid of q >= 0
    e = np.stack([features(q, one) for one in length], 2).reshape(2, -1)
    strength, size = t.dimension * t.coupling, t.noise * t.width / t.n_data

    def free_energy(v: Floats) -> tuple[float, Floats, Floats]:
        projected = v @ e
        exponent = log_prior.ravel() + strength / 2 * projected**2
        weight = np.exp(exponent - exponent.max())
        total = weight.sum()
        weight /= total
        moved = strength * projected * e
        mean = moved @ weight
        curvature = strength * (e * weight) @ e.T + (moved * weight) @ moved.T - np.outer(mean, mean)
        value = ((v - t.target) ** 2).sum() / 2 + size * (np.log(total) + exponent.max())
        return value, v - t.target + size * mean, np.eye(2) + size * curvature

    first = np.array([start.linear, np.sqrt(6) * start.cubic])
    v = minimise(free_energy, first, tolerance=tolerance, max_iterations=max_iterations).point
    exponent = log_prior + strength / 2 * (v @ e).reshape(log_prior.shape) ** 2
    exponent[0] += np.log(2)
    curve = -np.logaddexp.reduce(exponent, axis=1)
    return FreeLengthSolution(t, float(v[0]), float(v[1] / np.sqrt(6)), q, curve - curve[0])


def _grids(t: CubicTeacher) -> tuple[Floats, Floats]:
    """Return overlaps and squared lengths up to where the density is negligible."""
    gain = 0.75 * (t.target**2).sum()  # bound of (e . v)^2
    end = np.sqrt(t.weight_variance * (t.coupling * gain + 80 / t.dimension))
    step = np.sqrt(t.weight_variance / t.dimension)
    q = np.linspace(0, end, int(np.clip(np.ceil(8 * end / step), 256, 4000)))
    spread = 8 * np.sqrt(2 / t.dimension)
    length = t.weight_variance * np.linspace(1e-3, 1 + spread, 120)
    return q, length
