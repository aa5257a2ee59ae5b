"""Judge the claims on the tangent kernel and on linearised training."""

from collections.abc import Callable, Iterator

import numpy as np

from probe.stats import Cone
from reference.claims.base import Finding
from reference.claims.chaos_cone.configurations import (
    CLOSE,
    FLAT,
    NARROW,
    OUTSIDE,
    REFERENCES,
    RISES,
    SIZE,
    TRANSFORMERS,
    VELOCITY_FALLS,
)
from reference.claims.chaos_cone.evidence import Evidence, Kernels, Recording
from reference.claims.recorded import last
from reference.claims.verdicts import by_prediction, by_share

_LEAST_RECORD = 12  # observations, as in probe.stats.cone_entry
_LEAST = 3  # distances in a mean
_NEAR = 1.5  # largest ratio of numbers of steps that count as equal
_TINY = 1e-9  # distance that replaces zero in logarithms


def _each(one: Recording, read: Callable[[Kernels], float]) -> np.ndarray:
    """Return a number of each run, read before the first drop of the learning rate; NaN with few observations."""
    return np.array([read(row) if len(row.steps) >= _LEAST_RECORD else np.nan for row in one.early_kernels])


# -- velocity ------------------------------------------------------------------------------------------------------


def _late_pairs(one: Kernels) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of steps between observations in the second half of a record, and log10 of their distances."""
    late = np.flatnonzero(one.steps >= one.steps[-1] / 2)
    first, second = (late[part] for part in np.triu_indices(len(late), 1))
    return one.steps[second] - one.steps[first], np.log10(np.maximum(one.mean[first, second], _TINY))


def _lag(one: Kernels) -> float:
    """Return the usual number of steps between neighbouring observations in the second half of a record."""
    return float(np.median(np.diff(one.steps[one.steps >= one.steps[-1] / 2])))


def _velocity_fall(one: Kernels) -> float:
    """Return log10 of the distance from the start over the late one, after equal numbers of steps."""
    lag = _lag(one)
    lags, late = _late_pairs(one)
    near = np.abs(np.log(lags / lag)) < np.log(_NEAR)
    if near.sum() < _LEAST:
        return np.nan
    start = np.interp(np.log(lag), np.log(one.steps[1:] - one.steps[0]), np.maximum(one.mean[0, 1:], _TINY))
    return float(np.log10(start) - late[near].mean())


def velocity_falls(evidence: Evidence) -> Iterator[Finding]:
    """Judge the distance from the start against the late one, after equal numbers of steps."""
    for one in evidence.all():
        what = f"log10 of the first over the late distance, dt = {np.median(_each(one, _lag)):,.0f}"
        yield Finding(one.name, by_prediction(_each(one, _velocity_fall), VELOCITY_FALLS, np.inf, what))


def _late_exponent(one: Kernels) -> float:
    """Return the exponent of the late distance over the number of steps between two observations."""
    lags, late = _late_pairs(one)
    return float(np.polyfit(np.log10(lags), late, 1)[0])


def floor_of_velocity(evidence: Evidence) -> Iterator[Finding]:
    """Judge the exponent of the late distance over dt."""
    for one in evidence.all():
        yield Finding(one.name, by_prediction(_each(one, _late_exponent), -FLAT, FLAT, "exponent of dt"))


# -- cone ----------------------------------------------------------------------------------------------------------


def _in_cone(cone: Cone) -> bool | None:
    """Return whether the kernel enters a cone and stays there, None if this is not decided."""
    return {"found": True, "undecided": None, "undefined": None}.get(cone.status, False)


def _statuses(cones: list[Cone]) -> str:
    statuses = [cone.status for cone in cones]
    return ", ".join(f"{statuses.count(one)} {one.replace('_', ' ')}" for one in sorted(set(statuses)))


def cone(evidence: Evidence, *, whole: bool = False) -> Iterator[Finding]:
    """Judge in how many seeds the kernel enters a cone that none of the three nulls explains."""
    for one in evidence.all():
        cones = one.whole_cones if whole else one.cones
        verdict = by_share([_in_cone(found) for found in cones], f"cone ({_statuses(cones)})")
        yield Finding(one.name, verdict)


def whole_cone(evidence: Evidence) -> Iterator[Finding]:
    """Judge the same in the whole record, with its drops of the learning rate."""
    return cone(evidence, whole=True)


def not_universal(evidence: Evidence) -> Iterator[Finding]:
    """Judge in how many seeds of a transformer the kernel does not enter a cone."""
    for one in (one for one in evidence.all() if one.name in TRANSFORMERS):
        holds = [None if (found := _in_cone(cone)) is None else not found for cone in one.cones]
        yield Finding(one.name, by_share(holds, f"no entry into a cone ({_statuses(one.cones)})"))


def _references(one: Kernels) -> list[int]:
    """Return the observations at the shares `REFERENCES` of a record."""
    return [int(np.abs(one.steps - share * one.steps[-1]).argmin()) for share in REFERENCES]


def _to_references(one: Kernels) -> float:
    """Return the mean distance of later observations from the references."""
    return float(np.mean([one.mean[k, k + 1 :].mean() for k in _references(one)]))


def narrow(evidence: Evidence) -> Iterator[Finding]:
    """Judge the mean distance from later references."""
    for one in evidence.all():
        yield Finding(
            one.name, by_prediction(_each(one, _to_references), -np.inf, NARROW, "1 - cos to later references")
        )


def _exponent(one: Kernels) -> float:
    """Return the mean exponent of the distance from a reference over the number of steps."""
    slopes = []
    for k in _references(one):
        later = np.log10(np.maximum(one.mean[k, k + 1 :], _TINY))
        slopes.append(np.polyfit(np.log10(one.steps[k + 1 :] - one.steps[k]), later, 1)[0])
    return float(np.mean(slopes))


def flat(evidence: Evidence) -> Iterator[Finding]:
    """Judge the exponent of the distance from later references."""
    for one in evidence.all():
        yield Finding(one.name, by_prediction(_each(one, _exponent), -FLAT, FLAT, "exponent of the number of steps"))


def _start_ratio(one: Kernels) -> float:
    """Return the mean log10 of the distance from the start over that from a reference, after equal numbers of steps."""
    ratios = []
    for k in _references(one):
        lags = one.steps[k + 1 :] - one.steps[k]
        start = np.interp(lags, one.steps - one.steps[0], one.mean[0])
        ratios.append(np.log10(np.maximum(start, _TINY) / np.maximum(one.mean[k, k + 1 :], _TINY)))
    return float(np.concatenate(ratios).mean())


def start_outside(evidence: Evidence) -> Iterator[Finding]:
    """Judge the distance from the start over that from later references, after equal numbers of steps."""
    for one in evidence.all():
        what = "log10 of that from the start over that from references"
        yield Finding(one.name, by_prediction(_each(one, _start_ratio), OUTSIDE, np.inf, what))


def _size_change(one: Kernels) -> float:
    """Return log10 of the last norm over that at the first reference."""
    return float(np.log10(one.norms[-1] / one.norms[_references(one)[0]]))


def size_fixed(evidence: Evidence) -> Iterator[Finding]:
    """Judge the last norm of the kernel over that at the first reference."""
    what = f"log10 of the last norm over that at {REFERENCES[0]} of the record"
    for one in evidence.all():
        yield Finding(one.name, by_prediction(_each(one, _size_change), -SIZE, SIZE, what))


# -- linearised training -------------------------------------------------------------------------------------------


def linearised_rises(evidence: Evidence) -> Iterator[Finding]:
    """Judge the test accuracy of linearised training from the last t0 less that from the first t0."""
    for one in evidence.all():
        found = one.linearised
        ends = " and ".join(f"{found.values[:, k].mean():.3f}" for k in (0, -1))
        what = f"accuracy, t0 = {found['t0'].values[-1]:,.0f} less t0 = 0 (means {ends})"
        yield Finding(one.name, by_prediction(found.values[:, -1] - found.values[:, 0], RISES, np.inf, what))


def linearised_close(evidence: Evidence) -> Iterator[Finding]:
    """Judge the final test accuracy less that of linearised training from the last t0."""
    for one in evidence.all():
        full = last(one.series["test_accuracy"].transpose("run", "step")).values
        what = f"accuracy of the full training (mean {full.mean():.3f}) less linearised"
        yield Finding(one.name, by_prediction(full - one.linearised.values[:, -1], -np.inf, CLOSE, what))
