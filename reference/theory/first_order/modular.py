"""Two-layer quadratic network that learns modular addition: equations of arXiv:2310.03789 at finite modulus.

The student is f_p(n, m) = sum_i a_pi (w_i[n] + v_i[m])^2. Its target is 1 - 1/P for p = (n + m) mod P and -1/P for
other p. All P^2 pairs are training data: this theory has no test set, and it describes equilibrium, not time.

Let w_k = (1/P) sum_n w[n] exp(-2 pi i k n / P), Phi_k = |w_k|^2 and Psi_k = |v_k|^2. A conjugate pair of Fourier modes
k and -k of a neuron has the density exp(-2 P A(Phi, Psi)):

    A = (Phi + Psi) / 2 - u a^2 Phi Psi + (g / 6) (Phi^3 + Psi^3),      u = 2 s_a^2 P^2 / (N s^4),
    a = -s^2 / (lambda + s^2),      lambda = F s_a^2 <Phi Psi>,      F = 4 P^2.

a is the mean of the output minus the target, over the target. The term with g is a decay that keeps the action bounded.
The paper prints F = 1. `ModularAddition` explains why 4 P^2 follows from the model.

With tau = -a / s^2 the equations are the derivative of a convex function, so that the solution is unique:

    s^2 tau^2 / 2 - tau + (N F / (8 P^3)) log integral exp(-2 P A) dPhi dPsi.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.integrate import trapezoid
from scipy.optimize import brentq

from reference.theory.first_order.common import Floats, check_converged, check_positive, phase_of


@dataclass(frozen=True, kw_only=True)
class ModularAddition:
    """Parameters of the network. The defaults are those of figure 3 of the paper.

    Attributes
    ----------
    noise : float
        s^2: variance of the noise of the Bayesian posterior, or temperature of the Langevin dynamics.
    width : float
        N: number of hidden neurons.
    modulus : int
        P, an odd number.
    readout_variance : float
        s_a^2: N times the prior variance of a read-out weight.
    decay : float
        g: strength of the non-linear decay.
    kernel_factor : float, optional
        F in lambda = F s_a^2 <Phi Psi>; default 4 P^2, the value of the model. The paper prints lambda without it,
        F = 1. With this u, F = 4 P^2 is the only value for which the equation for a and the density of the modes
        derive from one free energy. Sampled networks agree with it.
    """

    noise: float
    width: float = 1000
    modulus: int = 401
    readout_variance: float = 2e-6
    decay: float = 1e-4
    kernel_factor: float | None = None

    def __post_init__(self) -> None:
        names = ("noise", "width", "readout_variance", "decay", "modulus")
        check_positive(**{name: getattr(self, name) for name in names}, kernel_factor=self.factor)
        if not 3 <= self.modulus < np.inf or self.modulus % 2 != 1:
            raise ValueError(f"Expected an odd modulus from 3 on, got {self.modulus}; give an odd number.")

    @property
    def coupling(self) -> float:
        """Control parameter u = 2 s_a^2 P^2 / (N s^4)."""
        return 2 * self.readout_variance * self.modulus**2 / (self.width * self.noise**2)

    @property
    def factor(self) -> float:
        """F, the factor of lambda."""
        return 4.0 * self.modulus**2 if self.kernel_factor is None else self.kernel_factor


@dataclass(frozen=True)
class ModularSolution:
    """Solution of the equations.

    Attributes
    ----------
    task : ModularAddition
        The parameters.
    discrepancy : float
        a: mean of the output minus the target, over the target; from -1 (nothing learned) to 0.
    residual : float
        Largest violation of the equation for a.
    iterations : int
        Evaluations.
    """

    task: ModularAddition
    discrepancy: float
    residual: float
    iterations: int

    @property
    def learned(self) -> float:
        """Learned fraction of the target, 1 + a."""
        return 1 + self.discrepancy

    def action(self, power: Floats) -> Floats:
        """Return A(Phi, Phi), the action of a mode over P."""
        m = self.task.coupling * self.discrepancy**2
        return power - m * power**2 + self.task.decay / 3 * power**3

    @property
    def barrier(self) -> float:
        """Phi at the barrier between both states; NaN without two states."""
        return self._stationary(-1)

    @property
    def power(self) -> float:
        """Phi of the specialised state; NaN without one."""
        return self._stationary(1)

    def _stationary(self, sign: int) -> float:
        m, g = self.task.coupling * self.discrepancy**2, self.task.decay
        return float((m + sign * np.sqrt(m * m - g)) / g) if m * m > g else np.nan

    @cached_property
    def specialised_share(self) -> float:
        """Probability of a pair of modes of a neuron with sqrt(Phi Psi) beyond the barrier; 0 without a barrier."""
        if np.isnan(self.barrier):
            return 0.0
        s, log_prior = _grid(self.task)
        weight = _weights(self.task, s, log_prior, -self.discrepancy)
        return float(weight[s > self.barrier].sum())

    @property
    def phase(self) -> str:
        """GFL, GMFL-I or GMFL-II of all modes of all neurons; see `phase_of`."""
        return phase_of(self.task.width * (self.task.modulus - 1) / 2, self.specialised_share)


def solve_modular(task: ModularAddition, *, tolerance: float = 1e-9, max_iterations: int = 200) -> ModularSolution:
    """Solve the equation for a by bisection and interpolation; its left side increases.

    Parameters
    ----------
    task
        The parameters.
    tolerance
        Largest violation of the equation 1 = tau (s^2 + lambda).
    max_iterations
        Evaluations at most.

    Raises
    ------
    ConvergenceError
        If the residual is above the tolerance after all steps. The error has the residual.
    """
    s, log_prior = _grid(task)

    def violation(x: float) -> float:
        """Return tau (s^2 + lambda) - 1 for x = -a, which increases."""
        power = float(_weights(task, s, log_prior, x) @ s**2)
        return x - 1 + task.factor * task.readout_variance * power * x / task.noise

    x, found = brentq(violation, 0, 1, xtol=1e-300, rtol=1e-15, maxiter=max_iterations, full_output=True, disp=False)
    residual = abs(violation(x))
    check_converged(residual, tolerance, max_iterations)
    return ModularSolution(task, -float(x), residual, found.iterations)


def _weights(task: ModularAddition, s: Floats, log_prior: Floats, x: float) -> Floats:
    """Return the probabilities of s = sqrt(Phi Psi) for a = -x."""
    exponent = log_prior + 2 * task.modulus * task.coupling * x**2 * s**2
    weight = np.exp(exponent - exponent.max())
    return weight / weight.sum()


def _grid(task: ModularAddition) -> tuple[Floats, Floats]:
    """Return s = sqrt(Phi Psi) up to where the density is negligible, and its log density without the term of u."""
    end = 3 * task.coupling / task.decay + 20 / task.modulus
    return _integrated(task.modulus, task.decay, 2.0 ** np.ceil(np.log2(end)))


@lru_cache(maxsize=8)
def _integrated(p: int, g: float, end: float) -> tuple[Floats, Floats]:
    """Integrate exp(-2 P A) over t = log(Phi / Psi) / 2 for u = 0; return s, and the logarithm with the spacing of s.

    dPhi dPsi = 2 s ds dt, Phi + Psi = 2 s cosh(t), Phi^3 + Psi^3 = 2 s^3 cosh(3 t).
    """
    s = np.unique(np.concatenate([np.geomspace(1e-9 / p, end, 2000), np.linspace(0, end, 10_001)[1:]]))
    t = np.arccosh(1 + 20 / (p * s))[:, None] * np.linspace(0, 1, 65)
    falling = s[:, None] * (np.cosh(t) - 1) + (g / 3 * s**3)[:, None] * (np.cosh(3 * t) - 1)
    inner = trapezoid(np.exp(-2 * p * falling), t, axis=1)
    return s, np.log(inner * 2 * s * np.gradient(s)) - 2 * p * (s + g / 3 * s**3)
