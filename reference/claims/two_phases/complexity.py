"""Judge the claims on local complexity and the linear mapping number."""

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from reference.claims.base import Finding
from reference.claims.recorded import RecordedRuns, around, change_after_fit
from reference.claims.two_phases.configurations import (
    CONTROLS,
    DEMO,
    DIVISION_RUNS,
    PAPER_RUNS,
    PERCEPTRONS,
    control_of,
)
from reference.claims.two_phases.evidence import Evidence
from reference.claims.verdicts import UNDECIDED, Verdict, by_prediction

_RANDOM, _INTEGRAL = "random", "local_complexity_integral"  # points in the box of the inputs, and their mean


def concentrated(evidence: Evidence) -> Iterator[Finding]:
    """Judge the ratio of local complexity at training points to that in the rest of input space, after fitting.

    The paper speaks of the rest of input space. Test points do not stand for it: they have the same form as training
    points. So a recording without random points is undecided, and its ratio to test points is shown.
    """
    perceptrons = (one for name in PERCEPTRONS for one in (name, control_of(name)))
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, *CONTROLS, DEMO, *perceptrons):
        one = evidence.ours(name)
        if _RANDOM in one.probes["split"].values:
            ratio = _train_over(one, _RANDOM)
            yield Finding(name, by_prediction(ratio, np.log10(1.1), np.inf, "log10 of train over random points"))
        else:
            shown = by_prediction(_train_over(one, "test"), np.log10(1.1), np.inf, "log10 of train over test")
            yield Finding(name, Verdict(UNDECIDED, f"random points were not recorded; {shown.numbers}"))


def _train_over(one: RecordedRuns, split: str) -> np.ndarray:
    """Return log10 of local complexity at training points over that of another split, by run."""
    train, other = (
        around(one.measured("local_complexity_total", split=split), one.fitted) for split in ("train", split)
    )
    return np.log10(train / other)


def falls_on(variable: str) -> Callable[[Evidence], Iterator[Finding]]:
    """Return a function that judges whether a measure falls between the end of fitting and the end of the record."""

    def judge(evidence: Evidence) -> Iterator[Finding]:
        for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, "s5-fast", *PERCEPTRONS):
            one = evidence.ours(name)
            where = {"split": "train"}
            if "layer" in one.probes[variable].dims:
                where["layer"] = one.layers()[0]
            yield Finding(name, _falls(one.measured(variable, **where), one.fitted))

    return judge


def integral_falls(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether the mean of local complexity over the box of the inputs falls after fitting."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, "s5-fast", DEMO, *PERCEPTRONS):
        one = evidence.ours(name)
        recorded = _INTEGRAL in one.probes
        missing = Verdict(UNDECIDED, "random points were not recorded")
        yield Finding(name, _falls(one.measured(_INTEGRAL), one.fitted) if recorded else missing)


def _falls(curves: xr.DataArray, fitted: np.ndarray) -> Verdict:
    found = change_after_fit(xr.ufuncs.log10(curves), fitted)
    return by_prediction(found.values, -np.inf, 0, f"log10 of the change to step {found.at}")
