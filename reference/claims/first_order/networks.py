"""Judge the claims on networks that were sampled at equilibrium."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from probe.stats import droplet_phase
from reference.claims.base import Finding
from reference.claims.first_order.configurations import (
    DRAWS,
    DRIFT,
    DROPLETS,
    KURTOSIS,
    LEARNED,
    POWER,
    PRINTED,
    SIZE,
    VIRIAL,
)
from reference.claims.first_order.evidence import Evidence, Sampled
from reference.claims.first_order.rules import not_recorded, of_errors, of_ratio, of_truth
from reference.claims.verdicts import UNDECIDED, Verdict, of_interval
from reference.theory import (
    CubicTeacher,
    ModularAddition,
    TeacherSolution,
    solve_modular,
    solve_teacher,
    teacher_transition,
)
from reference.theory.first_order.free_length import solve_free_length

Judge = Callable[[Evidence], Iterator[Finding]]
_PARTS = {"linear": "learned_linear", "cubic": "learned_cubic"}
_NORMAL = 1.645  # of a 90 % interval


def _with_sampled(name: str, judge: Callable[[Sampled], Iterator[Finding]]) -> Judge:
    """Return a judge of a recording, which is undecided without it."""

    def judged(evidence: Evidence) -> Iterator[Finding]:
        found = evidence.sampled(name)
        if found is None:
            file, command = f"first-order-{name}.nc", f"python -m reference first-order {name}"
            yield Finding(f"sampled, {name}", not_recorded(file, command))
        else:
            yield from judge(found)

    return judged


def _solutions(sampled: Sampled) -> dict[float, TeacherSolution]:
    """Return the solution of the equations at the size of the networks, by noise."""
    assert isinstance(sampled.task, CubicTeacher)
    return {noise: solve_teacher(replace(sampled.task, noise=noise)) for noise in sampled.noises}


# -- learned fractions ---------------------------------------------------------------------------------------------


def _learned(sampled: Sampled) -> Iterator[Finding]:
    for part, name in _PARTS.items():
        for noise, solution in _solutions(sampled).items():
            values = sampled.means(name, noise).values
            verdict = of_ratio(values, getattr(solution, name), LEARNED, "learned")
            yield Finding(f"sampled, {part} part, s^2 = {noise:g}", verdict)


def _learned_free(sampled: Sampled) -> Iterator[Finding]:
    assert isinstance(sampled.task, CubicTeacher)
    for noise in sampled.noises:
        free = solve_free_length(replace(sampled.task, noise=noise))
        fractions = {"linear": 1 - free.linear, "cubic": 1 - free.cubic / sampled.task.epsilon}
        for part, theory in fractions.items():
            values = sampled.means(_PARTS[part], noise).values
            yield Finding(f"sampled, {part} part, s^2 = {noise:g}", of_ratio(values, theory, LEARNED, "learned"))


def _differences(sampled: Sampled) -> Iterator[Finding]:
    for part, name in _PARTS.items():
        found = {}
        for noise, solution in _solutions(sampled).items():
            values = sampled.means(name, noise).values
            error = values.std(ddof=1) / np.sqrt(len(values))
            found[f"s^2 = {noise:g}"] = float(values.mean() - getattr(solution, name)), float(error)
        yield Finding(f"sampled, {part} part", of_errors(found, SIZE, "networks minus theory"))


def modular_fractions(factor: float | None) -> Judge:
    """Return a function that judges the learned fraction of modular addition against the theory with a factor F."""

    def judge(sampled: Sampled) -> Iterator[Finding]:
        assert isinstance(sampled.task, ModularAddition)
        for noise in sampled.noises:
            theory = solve_modular(replace(sampled.task, noise=noise, kernel_factor=factor)).learned
            verdict = of_ratio(sampled.means("learned", noise).values, theory, LEARNED, "learned")
            yield Finding(f"sampled, modular addition, s^2 = {noise:g}", verdict)

    return _with_sampled("modular", judge)


# -- neurons -------------------------------------------------------------------------------------------------------


def _before(sampled: Sampled, noise: float) -> bool:
    """Return whether a noise lies above the transition for infinite dimension."""
    assert isinstance(sampled.task, CubicTeacher)
    return noise > teacher_transition(sampled.task).noise


def kurtosis(*, before: bool) -> Judge:
    """Return a function that judges the excess kurtosis of overlaps before or after the transition."""
    low, high = (-KURTOSIS, KURTOSIS) if before else (KURTOSIS, np.inf)

    def judge(sampled: Sampled) -> Iterator[Finding]:
        for noise in (noise for noise in sampled.noises if _before(sampled, noise) == before):
            one = sampled.summary.sel(noise=noise)
            value, half = float(one["kurtosis"]), _NORMAL * float(one["kurtosis_se"])
            verdict = of_interval(value, value - half, value + half, low, high, "excess kurtosis")
            yield Finding(f"sampled, s^2 = {noise:g}", verdict)

    return _with_sampled("sweep", judge)


def _labels(sampled: Sampled) -> Iterator[Finding]:
    source = np.random.default_rng(0)
    for noise, solution in _solutions(sampled).items():
        overlaps = sampled.series["overlaps"].sel(noise=noise).isel(snapshot=-1).values.ravel()
        label = _label(overlaps)
        drawn = [_label(_draw(solution, len(overlaps), source)) for _ in range(DRAWS)]
        power = np.mean([one == solution.phase for one in drawn])
        text = f"{label}, theory {solution.phase} ({len(overlaps):,} neurons of all networks; power {power:.1f})"
        verdict = of_truth(label == solution.phase, text)
        yield Finding(f"sampled, s^2 = {noise:g}", verdict if power >= POWER else Verdict(UNDECIDED, text))


def _label(overlaps: np.ndarray) -> str:
    return str(droplet_phase(overlaps.astype(float))["phase"].item())


def _draw(solution: TeacherSolution, n: int, source: np.random.Generator) -> np.ndarray:
    """Return overlaps of independent neurons with the density of the theory."""
    q = np.linspace(-1.5, 1.5, 6001)
    weight = np.exp(-solution.action(q))
    return source.choice(q, n, p=weight / weight.sum())


def _shares(sampled: Sampled) -> Iterator[Finding]:
    for noise, solution in _solutions(sampled).items():
        if np.isnan(solution.barrier):
            continue  # the action has one minimum
        beyond = abs(sampled.series["overlaps"].sel(noise=noise)) > solution.barrier
        shares = beyond.mean(["snapshot", "neuron"]).values
        what = f"share beyond the barrier at {solution.barrier:.2f}"
        yield Finding(f"sampled, s^2 = {noise:g}", of_ratio(shares, solution.specialised_share, DROPLETS, what))


# -- checks of the sampling ----------------------------------------------------------------------------------------


def equilibrium(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether the mean of x . grad L is that of equilibrium, and whether learned parts do not drift."""
    for name in ("sweep", "modular"):
        yield from _with_sampled(name, _equilibrium)(evidence)


def _equilibrium(sampled: Sampled) -> Iterator[Finding]:
    kind = "cubic teacher" if isinstance(sampled.task, CubicTeacher) else "modular addition"
    for layer, name in {"weights": "virial_w", "read-outs": "virial_a"}.items():
        values = np.mean([sampled.means(name, noise).values for noise in sampled.noises], axis=0)
        yield Finding(f"sampled, {kind}, {layer}", of_ratio(values, 1.0, VIRIAL, "mean of x . grad L"))
    drift = float(np.abs(sampled.summary["drift"]).max())
    text = f"last minus third quarter: at most {drift:.1f} standard errors"
    yield Finding(f"sampled, {kind}, drift", of_truth(drift <= DRIFT, text))


learned: Judge = _with_sampled("sweep", _learned)
learned_free: Judge = _with_sampled("sweep", _learned_free)
differences: Judge = _with_sampled("sweep", _differences)
labels: Judge = _with_sampled("sweep", _labels)
shares: Judge = _with_sampled("sweep", _shares)
gaussian_before: Judge = kurtosis(before=True)
droplets_after: Judge = kurtosis(before=False)
factor_printed: Judge = modular_fractions(PRINTED)
factor_derived: Judge = modular_fractions(None)
