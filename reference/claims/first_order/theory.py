"""Judge the claims on solutions of the equations: transitions, phases, widths and a fixed kernel."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy.optimize import brentq

from reference.claims.base import Finding
from reference.claims.first_order.configurations import (
    APPENDIX_D,
    FIGURE_2,
    FIGURE_3,
    LARGE,
    MAGNITUDE,
    NOISES,
    PRINTED,
    WIDTHS,
)
from reference.claims.first_order.evidence import Evidence
from reference.claims.first_order.rules import of_printed, of_truth
from reference.claims.verdicts import Verdict
from reference.theory import (
    PHASES,
    CubicTeacher,
    critical_width,
    modular_transitions,
    solve_teacher,
    sweep_modular,
    sweep_teacher,
    teacher_transition,
)
from reference.theory.first_order.teacher import features

Judge = Callable[[Evidence], Iterator[Finding]]


def teacher_numbers(*, printed: bool) -> Judge:
    """Return a function that judges u and s^2 of the transition of figure 2, with 2 as printed or with 4 in Q_11."""
    at, name = FIGURE_2, "4 in Q_11"
    if printed:  # half of Q_11 at the same u is half of s_a^2 and half of N
        at = replace(at, readout_variance=at.readout_variance / 2, width=at.width / 2)
        name = "2 in Q_11"

    def judge(_: Evidence) -> Iterator[Finding]:
        found = teacher_transition(at)
        yield Finding(f"solved, {name}, u", of_printed(float(found.coupling), "30.2", "u"))
        yield Finding(f"solved, {name}, noise", of_printed(found.noise, ".18", "s^2"))

    return judge


def modular_numbers(_: Evidence) -> Iterator[Finding]:
    """Judge both noises and the discrepancy of figure 3, with the printed F."""
    found = modular_transitions(replace(FIGURE_3, kernel_factor=PRINTED))
    name = "solved, F = 1"
    yield Finding(f"{name}, first noise", of_printed(found.noise_first, ".227", "s^2_I"))
    yield Finding(f"{name}, second noise", of_printed(found.noise_second, ".175", "s^2_II"))
    yield Finding(f"{name}, discrepancy", of_printed(found.discrepancy_second, "-.7", "a at s^2_II"))


def second_transition(factor: float | None) -> Judge:
    """Return a function that judges whether figure 3 has a transition from GMFL-I to GMFL-II with a factor F."""

    def judge(_: Evidence) -> Iterator[Finding]:
        found = modular_transitions(replace(FIGURE_3, kernel_factor=factor)).noise_second
        numbers = f"s^2_II = {found:.4g}" if found > 0 else "no positive s^2_II"
        yield Finding(f"solved, {_name(factor)}", of_truth(found > 0, numbers))

    return judge


def _name(factor: float | None) -> str:
    return "F = 4 P^2" if factor is None else f"F = {factor:g}"


def order_of_phases(_: Evidence) -> Iterator[Finding]:
    """Judge whether the phases come in the stated order as the noise falls."""
    for teacher in (FIGURE_2, FIGURE_2.scaled(LARGE)):
        found = sweep_teacher(teacher, NOISES)
        yield Finding(f"solved, cubic teacher, d = {teacher.dimension:,.0f}", in_order(found["phase"].values))
    for factor in (PRINTED, None):
        found = sweep_modular(replace(FIGURE_3, kernel_factor=factor), NOISES)
        yield Finding(f"solved, modular addition, {_name(factor)}", in_order(found["phase"].values))


def in_order(phases: np.ndarray) -> Verdict:
    """Return the verdict on the phases at the noises, which fall: the first two or all three, in order."""
    changes = [0, *(np.flatnonzero(phases[1:] != phases[:-1]) + 1)]
    passed = [str(phases[k]) for k in changes]
    steps = [f"{name} from s^2 = {NOISES[k]:.3g}" for name, k in zip(passed, changes, strict=True)]
    return of_truth(len(passed) > 1 and passed == list(PHASES[: len(passed)]), ", ".join(steps))


def widths(_: Evidence) -> Iterator[Finding]:
    """Judge the phases of the three widths of appendix D."""
    critical = critical_width(APPENDIX_D)
    holds = all((width > critical) == (phase == PHASES[0]) for width, phase in WIDTHS.items())
    yield Finding("solved, infinite d", of_truth(holds, f"the transition is at N = {critical:,.0f}"))
    solved = {width: solve_teacher(replace(APPENDIX_D, width=width)) for width in WIDTHS}
    parts = [f"N = {width:,} {one.phase}, cubic part {one.learned_cubic:.3f}" for width, one in solved.items()]
    holds = all(one.phase == WIDTHS[width] for width, one in solved.items())
    yield Finding("solved, d = 150", of_truth(holds, "; ".join(parts)))


def fixed_kernel(teacher: CubicTeacher, readout_variance: float) -> float:
    """Return the number of data at which the kernel of Gaussian weights learns half of the cubic part."""
    q, width = np.linspace(-1, 1, 20_001), np.sqrt(teacher.weight_variance / teacher.dimension)
    weight = np.exp(-(q**2) / (2 * width**2))
    e = features(q, teacher.weight_variance)
    kernel = readout_variance * (e * (weight / weight.sum())) @ e.T

    def unlearned(log_data: float) -> float:
        left = np.linalg.solve(np.eye(2) + np.exp(log_data) * kernel / teacher.noise, teacher.target)
        return float(left[1] / teacher.target[1] - 0.5)

    return float(np.exp(brentq(unlearned, 0, 60)))


def needed_data(readout_variance: float) -> Judge:
    """Return a function that judges the number of data that a fixed kernel needs, at the transition of figure 2."""

    def judge(_: Evidence) -> Iterator[Finding]:
        at = replace(FIGURE_2, noise=teacher_transition(FIGURE_2).noise)
        data = fixed_kernel(at, readout_variance)
        holds = 5e5 / MAGNITUDE <= data <= 5e5 * MAGNITUDE
        numbers = f"half of the cubic part at n = {data:.1e}, s_a^2 = {readout_variance:.3g}, s^2 = {at.noise:.3f}"
        yield Finding("solved, Gaussian weights", of_truth(holds, numbers))

    return judge


def two_minima(_: Evidence) -> Iterator[Finding]:
    """Judge whether the action has two equal minima with a barrier between them, at the transition of both teachers."""
    at = teacher_transition(FIGURE_2)
    q = np.linspace(0, at.overlap, 2001)
    gain = (np.array([at.linear, np.sqrt(6) * FIGURE_2.epsilon]) @ features(q, FIGURE_2.weight_variance)) ** 2
    action = (q**2 / FIGURE_2.weight_variance - at.coupling * gain) / 2
    yield Finding(
        "solved, cubic teacher, infinite d", _barrier(action, f"q = 0 and {at.overlap:.3f}", FIGURE_2.dimension)
    )
    second = modular_transitions(FIGURE_3)
    power = np.linspace(0, second.power, 2001)
    action = power - np.sqrt(4 * FIGURE_3.decay / 3) * power**2 + FIGURE_3.decay / 3 * power**3
    yield Finding(
        "solved, modular addition, infinite P", _barrier(action, f"Phi = 0 and {second.power:.0f}", FIGURE_3.modulus)
    )


def _barrier(action: np.ndarray, where: str, size: float) -> Verdict:
    """Return the verdict on an action per size between two minima."""
    top = float(action.max())
    numbers = f"equal minima at {where}, barrier {top:.3g} times the size: {top * size:.3g} nats at {size:g}"
    return of_truth(top > 0 and abs(action[-1]) < 1e-6 * top, numbers)
