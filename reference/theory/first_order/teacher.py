"""Two-layer erf network that learns a cubic teacher: equations of arXiv:2310.03789 at finite input dimension.

The student is f(x) = sum_i a_i erf(w_i . x). The teacher is y = H1(z) + epsilon H3(z) with z = w* . x, H1(z) = z and
H3(z) = z^3 - 3 z. Let v = (b, sqrt(6) c) be the unlearned parts of both components and T = (1, sqrt(6) epsilon). With
q = w . w*, the neurons are independent, and each has the density exp(-S(q)):

    S(q) = d q^2 / (2 s_w^2) - (d u / 2) (e(q) . v)^2,      u = n^2 s_a^2 / (s^4 d N),
    e(q) = (2 q / sqrt(pi D), -4 q^3 / (sqrt(6 pi) D^1.5)),     D = 1 + 2 (s_w^2 + q^2),
    v = T - (n / s^2) s_a^2 <e e'> v.

The last line is the gradient of a convex function of v, since log of the integral of exp(-S) is convex in v:

    G(v) = |v - T|^2 / 2 + (s^2 N / n) log integral exp(-S(q; v)) dq.

So the solution at finite d exists and is unique, and damped Newton steps find it.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from reference.theory.first_order.common import Floats, check_positive, is_finite, minimise, phase_of

_MOST_POINTS = 200_000  # of the grid of overlaps


@dataclass(frozen=True, kw_only=True)
class CubicTeacher:
    """Parameters of network, data and teacher. The defaults are those of figure 2 of the paper.

    Attributes
    ----------
    noise : float
        s^2: variance of the noise of the Bayesian posterior, or temperature of the Langevin dynamics.
    width : float
        N: number of hidden neurons.
    n_data : float
        n: number of training inputs.
    dimension : float
        d: input dimension.
    readout_variance : float
        s_a^2: N times the prior variance of a read-out weight. Tables of the paper list s_a^2, which is small as 8 / N.
    weight_variance : float
        s_w^2: prior variance of ``|w|^2``, so that an entry of w has variance s_w^2 / d.
    epsilon : float
        Strength of the cubic part, not 0.
    """

    noise: float
    width: float = 700
    n_data: float = 3000
    dimension: float = 150
    readout_variance: float = 8 / 700
    weight_variance: float = 0.5
    epsilon: float = -0.3

    def __post_init__(self) -> None:
        check_positive(**{name: value for name, value in vars(self).items() if name != "epsilon"})
        if not is_finite(self.epsilon) or self.epsilon == 0:
            raise ValueError(f"Expected a finite epsilon other than 0, got {self.epsilon}; the teacher needs H3.")

    @property
    def coupling(self) -> float:
        """Control parameter u = n^2 s_a^2 / (s^4 d N)."""
        return self.n_data**2 * self.readout_variance / (self.noise**2 * self.dimension * self.width)

    @property
    def target(self) -> Floats:
        """Coefficients of the teacher, T = (1, sqrt(6) epsilon)."""
        return np.array([1, np.sqrt(6) * self.epsilon])

    def scaled(self, factor: float) -> "CubicTeacher":
        """Return the teacher at another size of the same u and k: N and n times factor, d times its square root."""
        check_positive(factor=factor)
        root = np.sqrt(factor)
        sizes = {"width": self.width * factor, "n_data": self.n_data * factor, "dimension": self.dimension * root}
        return replace(self, **sizes, readout_variance=self.readout_variance / root)


def features(q: Floats, weight_variance: float) -> Floats:
    """Return e(q): overlaps of erf(w . x) with H1 and H3 / sqrt(6), as an array (2, q)."""
    d = 1 + 2 * (weight_variance + q**2)
    return np.stack([2 * q / np.sqrt(np.pi * d), -4 * q**3 / (np.sqrt(6 * np.pi) * d**1.5)])


@dataclass(frozen=True)
class TeacherSolution:
    """Solution of the equations.

    Attributes
    ----------
    teacher : CubicTeacher
        The parameters.
    linear, cubic : float
        b and c, the unlearned parts of the coefficients 1 and epsilon.
    residual : float
        Largest violation of the equations.
    iterations : int
        Newton steps.
    """

    teacher: CubicTeacher
    linear: float
    cubic: float
    residual: float
    iterations: int

    @property
    def learned_linear(self) -> float:
        """Learned fraction of the linear part, 1 - b."""
        return 1 - self.linear

    @property
    def learned_cubic(self) -> float:
        """Learned fraction of the cubic part, 1 - c / epsilon."""
        return 1 - self.cubic / self.teacher.epsilon

    def action(self, q: Floats) -> Floats:
        """Return S(q), 0 at q = 0."""
        t, v = self.teacher, np.array([self.linear, np.sqrt(6) * self.cubic])
        gain = (v @ features(q, t.weight_variance)) ** 2
        return t.dimension * (q**2 / t.weight_variance - t.coupling * gain) / 2

    @cached_property
    def _curve(self) -> tuple[Floats, Floats]:
        q = _grid(self.teacher)
        return q, self.action(q)

    @property
    def barrier(self) -> float:
        """Overlap at the barrier between the state q = 0 and the other one; NaN without two states."""
        q, s = self._curve
        tops = np.flatnonzero((s[1:-1] >= s[:-2]) & (s[1:-1] > s[2:])) + 1
        return float(q[tops[-1]]) if len(tops) else np.nan

    @property
    def overlap(self) -> float:
        """Overlap q* of the specialised state; NaN without one."""
        q, s = self._curve
        inside = np.flatnonzero((s[1:-1] < s[:-2]) & (s[1:-1] <= s[2:])) + 1
        return float(q[inside[-1]]) if len(inside) else np.nan

    @property
    def specialised_share(self) -> float:
        """Probability of a neuron beyond the barrier. Without a barrier: 1 if S falls by 1 or more from q = 0, or 0."""
        (q, s), barrier = self._curve, self.barrier
        if np.isnan(barrier):
            return float(s.min() <= -1)
        weight = np.exp(s.min() - s)
        weight[0] /= 2  # the trapezoid of q >= 0
        return float(weight[q > barrier].sum() / weight.sum())

    @property
    def phase(self) -> str:
        """GFL, GMFL-I or GMFL-II; see `phase_of`."""
        return phase_of(self.teacher.width, self.specialised_share)


def solve_teacher(teacher: CubicTeacher, *, tolerance: float = 1e-9, max_iterations: int = 100) -> TeacherSolution:
    """Solve the equations by damped Newton steps on their convex function.

    Parameters
    ----------
    teacher
        The parameters.
    tolerance
        Largest violation of the equations.
    max_iterations
        Newton steps at most.

    Raises
    ------
    ConvergenceError
        If the residual is above the tolerance after all steps. The error has the residual.
    ValueError
        If the noise is so small that the grid of overlaps would be coarser than a prior standard deviation.
    """
    start = teacher.target / 2
    if teacher.dimension > 1000:  # G has a sharp edge there; start from the solution at a fourth of the dimension
        smaller = solve_teacher(teacher.scaled(1 / 16), tolerance=tolerance, max_iterations=max_iterations)
        start = np.array([smaller.linear, np.sqrt(6) * smaller.cubic])
    q = _grid(teacher)
    convex = partial(_free_energy, teacher, q, features(q, teacher.weight_variance))
    (b, c), residual, iterations = minimise(convex, start, tolerance=tolerance, max_iterations=max_iterations)
    return TeacherSolution(teacher, float(b), float(c / np.sqrt(6)), residual, iterations)


def _grid(teacher: CubicTeacher) -> Floats:
    """Return overlaps from 0 to where exp(-S) is negligible for each v up to T, dense in standard deviations of w."""
    t = teacher
    gain = 0.75 * (t.target**2).sum()  # bound of (e . v)^2, since (e . e) < 2 / pi + 1 / (3 pi) < 0.75
    end = np.sqrt(t.weight_variance * (t.coupling * gain + 80 / t.dimension))
    width = np.sqrt(t.weight_variance / t.dimension)
    if not end / width <= _MOST_POINTS:
        raise ValueError(
            f"Expected a noise at which overlaps reach at most {_MOST_POINTS} prior standard deviations, got {t.noise} "
            f"with {end / width:.1e}; raise the noise."
        )
    return np.linspace(0, end, int(np.clip(np.ceil(8 * end / width), 512, _MOST_POINTS)))


def _free_energy(t: CubicTeacher, q: Floats, e: Floats, v: Floats) -> tuple[float, Floats, Floats]:
    """Return G with its gradient and Hessian at v."""
    strength, size = t.dimension * t.coupling, t.noise * t.width / t.n_data
    projected = v @ e
    log_weight = strength / 2 * projected**2 - t.dimension * q**2 / (2 * t.weight_variance)
    top = log_weight.max()
    weight = np.exp(log_weight - top)
    weight[0] /= 2
    total = weight.sum()
    weight /= total
    kernel = (e * weight) @ e.T
    moved = strength * projected * e  # derivative of the log weight
    mean = moved @ weight
    covariance = (moved * weight) @ moved.T - np.outer(mean, mean)
    value = ((v - t.target) ** 2).sum() / 2 + size * (np.log(total) + top)
    return value, v - t.target + size * mean, np.eye(2) + size * (strength * kernel + covariance)
