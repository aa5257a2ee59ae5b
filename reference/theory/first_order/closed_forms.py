"""Closed forms of the transitions in the limit of infinite dimension. They do not use the solvers.

Cubic teacher. Let e = |epsilon|, D0 = 1 + 2 s_w^2, u = n^2 s_a^2 / (s^4 d N) and k = n s_a^2 / d. The overlap
is replaced by y = 2 q^2 / (D0 + 2 q^2), from 0 to 1.

* Before the transition the cubic part is unlearned, and S is a parabola at q = 0. Its curvature gives
  b (1 + R) = 1 with R = (k / s^2) (4 / (pi D0)) / (1 / s_w^2 - 4 u b^2 / (pi D0)).
* S(q) = 0 is (4 s_w^2 u / (pi D0)) (1 - y) (b - sign(epsilon) e y)^2 = 1. The left side is largest at y*, where it is
  (4 s_w^2 u / (pi D0)) 4 (e - sign b)^3 / (27 e). So a second minimum of depth 0 appears at
  u_c = (D0 / (4 s_w^2)) 27 pi e / (4 (e - sign b)^3).
* Beyond the transition some neurons stay at y*, and S remains 0 there. This fixes b as a function of c.

The left side is below 1 at q = 0 on the Gaussian branch. So y* > 0 at the transition, for each epsilon: it is of first
order.

Modular addition. S / P = Phi - m Phi^2 + (g / 3) Phi^3 with m = u a^2. Both S and its derivative vanish at
Phi_c = sqrt(3 / g), m_c = sqrt(4 g / 3).
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from reference.theory.first_order.modular import ModularAddition
from reference.theory.first_order.teacher import CubicTeacher, features


class TeacherTransition(NamedTuple):
    """Transition from GFL to GMFL-I: s^2, u, the unlearned linear part b, and y and overlap q of the new state."""

    noise: float
    coupling: float
    linear: float
    y: float
    overlap: float


class ModularTransitions(NamedTuple):
    """Both transitions: s^2 of each, the discrepancy a at the second one, and the power Phi of the new state.

    ``noise_second`` is negative if no noise reaches the second transition.
    """

    noise_first: float
    noise_second: float
    discrepancy_second: float
    power: float


def gaussian_branch(teacher: CubicTeacher) -> float:
    """Return the unlearned linear part b of the state in which all neurons are Gaussian."""
    d0 = 1 + 2 * teacher.weight_variance
    top = min(1.0, np.sqrt(np.pi * d0 / (4 * teacher.weight_variance * teacher.coupling)))  # curvature 0
    return float(brentq(_linear_excess, 0, top, args=(teacher, 0), xtol=1e-300, rtol=1e-14))


def _linear_excess(b: float, teacher: CubicTeacher, specialised: float) -> float:
    """Return the violation of b (1 + R) + specialised = 1 times the curvature at q = 0."""
    d0 = 1 + 2 * teacher.weight_variance
    strength = teacher.n_data * teacher.readout_variance / (teacher.dimension * teacher.noise) * 4 / (np.pi * d0)
    curvature = 1 / teacher.weight_variance - 4 * teacher.coupling * b * b / (np.pi * d0)
    return (b + specialised - 1) * curvature + strength * b


def _first_minimum(b: float, teacher: CubicTeacher) -> tuple[float, float]:
    """Return the u at which a second minimum reaches S = 0 while c = epsilon, and its y."""
    e, towards, s2 = abs(teacher.epsilon), -np.sign(teacher.epsilon) * b, teacher.weight_variance
    return (1 + 2 * s2) / (4 * s2) * 27 * np.pi * e / (4 * (e + towards) ** 3), (2 * e - towards) / (3 * e)


def _overlap(y: float, teacher: CubicTeacher) -> float:
    return float(np.sqrt((1 + 2 * teacher.weight_variance) * y / (2 * (1 - y))))


def _at_coupling(teacher: CubicTeacher, u: float) -> CubicTeacher:
    return replace(teacher, noise=float(teacher.noise * np.sqrt(teacher.coupling / u)))


def teacher_transition(teacher: CubicTeacher) -> TeacherTransition:
    """Return the transition from GFL to GMFL-I on lowering the noise. The noise of ``teacher`` itself is not used."""
    e = abs(teacher.epsilon)
    largest = 2 * e if teacher.epsilon < 0 else e  # y* in (0, 1) needs a smaller b

    def excess(log_coupling: float) -> float:
        at = _at_coupling(teacher, np.exp(log_coupling))
        b = gaussian_branch(at)
        return b - largest if b >= largest else np.log(_first_minimum(b, at)[0] / at.coupling)

    at = _at_coupling(teacher, np.exp(brentq(excess, -30, 60, xtol=1e-13)))
    b = gaussian_branch(at)
    u, y = _first_minimum(b, at)
    return TeacherTransition(at.noise, u, b, y, _overlap(y, teacher))


def critical_width(teacher: CubicTeacher) -> float:
    """Return the width N_c of the transition at the noise of ``teacher``. Wider networks are in the phase GFL.

    The read-out variance s_a^2 is kept, and the width of ``teacher`` is not used.
    """

    def excess(log_width: float) -> float:
        return float(np.log(teacher_transition(replace(teacher, width=np.exp(log_width))).noise / teacher.noise))

    return float(np.exp(brentq(excess, -10, 40, xtol=1e-12)))


def mixed_branch(teacher: CubicTeacher) -> tuple[float, float]:
    """Return the unlearned parts b and c beyond the transition, for infinite dimension at fixed u and k.

    Both states have S = 0. This fixes b as a function of c. The two equations for the unlearned parts then give c
    and the share of the specialised neurons, which falls as 1 / d.

    Raises
    ------
    ValueError
        If the noise is not below that of the transition.
    """
    if teacher.noise >= (critical := teacher_transition(teacher).noise):
        raise ValueError(
            f"Expected a noise below the transition at {critical:.6g}, got {teacher.noise}; lower the noise."
        )
    sign, top = np.sign(teacher.epsilon), abs(teacher.epsilon)
    scale = _first_minimum(0, teacher)[0] * top**2 / teacher.coupling  # (e - sign b)^3 = scale e for c = sign e

    def linear(e: float) -> float:
        return float(sign * (e - np.cbrt(scale * e)))

    def violation(e: float) -> float:
        y = _first_minimum(linear(e), replace(teacher, epsilon=sign * e))[1]
        (e1,), (e3,) = features(np.array([_overlap(y, teacher)]), teacher.weight_variance)
        return _linear_excess(linear(e), teacher, np.sqrt(6) * sign * (top - e) * e1 / e3)

    unit = np.sqrt(scale / 27)  # the curvature at q = 0 vanishes for |b| = 2 unit: at e = unit and at e = 8 unit
    low = unit * (1 + 1e-6) if sign < 0 else np.sqrt(scale)
    e = float(brentq(violation, low, min(top, 8 * unit), xtol=1e-14))
    return linear(e), float(sign * e)


def modular_transitions(task: ModularAddition) -> ModularTransitions:
    """Return both transitions for a large modulus. The noise of ``task`` is not used."""
    g = task.decay
    first = float(np.sqrt(2 * task.readout_variance * task.modulus**2 / (task.width * np.sqrt(4 * g / 3))))
    second = first - task.factor * 3 * task.readout_variance / g
    return ModularTransitions(first, second, -second / first, float(np.sqrt(3 / g)))
