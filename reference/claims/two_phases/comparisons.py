"""Compare runs that generalise with controls, and ReLU with GELU: at equal steps, with equal models and optimisers."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe import PhaseDetector
from reference.claims.base import Finding
from reference.claims.recorded import RecordedRuns, at_common_steps, change_after_fit, log_times
from reference.claims.two_phases.configurations import (
    COINCIDE,
    COMPARED,
    EMBEDDING,
    HISTOGRAM,
    TASKS,
)
from reference.claims.two_phases.evidence import Evidence
from reference.claims.verdicts import UNDECIDED, Reading, Verdict, by_separation, of_difference
from reference.training import CONFIGS

_SEPARATES = 0.9  # AUC of a progress measure


class _Measure(NamedTuple):
    """A measure, its variable, and the place of its layer among the blocks."""

    label: str
    variable: str
    where: dict[str, str]
    layer: int | None = None
    unit: str = "log10"

    def of(self, one: RecordedRuns) -> xr.DataArray | None:
        """Return the curves (run, step), in bits or as log10; None if the measure was not recorded."""
        if self.variable not in one.probes:
            return None
        where = self.where if self.layer is None else {**self.where, "layer": one.layers()[self.layer]}
        curves = one.measured(self.variable, **where)
        return curves if self.unit == "bits" else xr.ufuncs.log10(curves)


_MEASURES = (
    _Measure("I(T+n;X), train", "information_x", {"split": "train"}, -1, "bits"),
    _Measure("I(T+n;X), test", "information_x", {"split": "test"}, -1, "bits"),
    _Measure("local complexity, train", "local_complexity_total", {"split": "train"}),
    _Measure("linear mapping number, train", "linear_mapping_number", {"split": "train"}, 0),
    _Measure("weight histogram entropy", HISTOGRAM, {"parameter": EMBEDDING}, None, "bits"),
    _Measure("rms of the embedding", "embedding_rms", {}),
)


def separates(variable: str) -> Callable[[Evidence], Iterator[Finding]]:
    """Return a function that judges whether the change of a measure after fitting is lower in runs than in controls.

    Seeds are the units of the comparison of one task with one control. Tasks are the units of the last comparison of
    each measure.
    """

    def judge(evidence: Evidence) -> Iterator[Finding]:
        for measure in (one for one in _MEASURES if one.variable == variable):
            for name, control in COMPARED:
                if measure.of(evidence.ours(name)) is not None:
                    yield Finding(f"{name} against {control}, {measure.label}", _pair(evidence, measure, name, control))
            for runs, controls in TASKS:
                if all(measure.of(evidence.ours(name)) is not None for name in (*runs, *controls)):
                    label = f"{' and '.join(runs)} as tasks, {measure.label}"
                    yield Finding(label, _tasks(evidence, measure, runs, controls))

    return judge


def _pair(evidence: Evidence, measure: _Measure, name: str, control: str) -> Verdict:
    """Compare the seeds of a task with those of a control."""
    if other := differing_settings(name, control):
        return Verdict(UNDECIDED, f"not compared, other settings: {', '.join(other)}")
    runs, controls = _changes(evidence, measure, (name, control))
    verdict = by_separation(controls, runs, _description(measure, runs), auc=_SEPARATES)
    pairs = [len(CONFIGS[one].task.make(0).train) for one in (name, control)]
    other_share = f"; training pairs {pairs[0]:,} against {pairs[1]:,}" if pairs[0] != pairs[1] else ""
    return Verdict(verdict.word, verdict.numbers + other_share)


def _tasks(evidence: Evidence, measure: _Measure, names: tuple[str, ...], others: tuple[str, ...]) -> Verdict:
    """Compare the medians of the tasks with those of the controls."""
    changes = _changes(evidence, measure, (*names, *others))
    values = np.array([np.median(one.values) for one in changes])
    steps = np.array([one.steps.max() for one in changes])
    n = len(names)
    runs, controls = Reading(values[:n], steps[:n]), Reading(values[n:], steps[n:])
    return by_separation(controls, runs, _description(measure, runs), auc=_SEPARATES)


def _changes(evidence: Evidence, measure: _Measure, names: tuple[str, ...]) -> list[Reading]:
    """Return the changes from the end of fitting of each run to the last step that all runs observed."""
    every = [evidence.ours(name) for name in names]
    curves = [found for one in every if (found := measure.of(one)) is not None]
    return [
        change_after_fit(curve, one.fitted, until=end)
        for curve, one, end in zip(curves, every, at_common_steps(*curves), strict=True)
    ]


def _description(measure: _Measure, runs: Reading) -> str:
    """Return what is compared, and the step at which it is read."""
    return f"{measure.unit} change to step {runs.at}, control against runs"


def differing_settings(name: str, other: str) -> list[str]:
    """Return the settings of model and optimiser in which two configurations differ."""
    ignored = ("task", "steps", "every", "per_decade")
    one, two = CONFIGS[name], CONFIGS[other]
    return [f.name for f in fields(one) if f.name not in ignored and getattr(one, f.name) != getattr(two, f.name)]


def alike(evidence: Evidence) -> Iterator[Finding]:
    """Compare the markers of runs with ReLU and with GELU, both to the last common step."""
    names = ("paper-relu", "paper-division")
    curves = [evidence.ours(name).curves for name in names]
    last = min(one["step"].values[-1] for one in curves)
    detector = PhaseDetector(train_accuracy="train_batch_accuracy")
    relu, gelu = (detector.fit(one.sel(step=slice(None, last))).markers_ for one in curves)
    for marker in ("fit_end", "descent_onset"):
        what = f"dex, ReLU - GELU, records to step {last:,.0f}"
        verdict = of_difference(log_times(relu, marker), log_times(gelu, marker), -COINCIDE, COINCIDE, what)
        yield Finding(f"paper-relu, {marker}", verdict)
