"""Judge the claims on the information plane: mutual information, and the published entropies of weight histograms."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from probe.phases import estimates_of, fixed_point, top_inside
from reference.claims.base import Finding
from reference.claims.recorded import around, last, log_times
from reference.claims.two_phases.configurations import (
    ALL_ESTIMATORS,
    ALL_ESTIMATORS_CONTROL,
    COINCIDE,
    CONTROLS,
    DIVISION_RUNS,
    EMBEDDING,
    HISTOGRAM,
    NOT_LEARNT,
    PAPER_RUNS,
)
from reference.claims.two_phases.evidence import PUBLISHED_PLANE, Evidence
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict, by_prediction, of_interval

EARLY = 100.0  # before this step, the layers leave their initial state
_FRESH_SD = 0.016  # bits, standard deviation of the histogram entropy over initial embeddings


# -- changes of information ----------------------------------------------------------------------------------------


def published_rise(_: Evidence) -> Iterator[Finding]:
    """Compare the maximum of the published plane with its first point."""
    for task, plane in PUBLISHED_PLANE.items():
        word = CONFIRMED if plane.top > plane.first + _FRESH_SD else NOT_CONFIRMED
        yield Finding(f"{task}, weight histograms", Verdict(word, f"{plane.first} to {plane.top} bits"))


def published_fall(_: Evidence) -> Iterator[Finding]:
    """Compare the last point of the published plane with its maximum."""
    for task, plane in PUBLISHED_PLANE.items():
        word = CONFIRMED if plane.last < plane.top - _FRESH_SD else NOT_CONFIRMED
        yield Finding(f"{task}, weight histograms", Verdict(word, f"{plane.top} to {plane.last} bits"))


def _changes(curves: xr.DataArray, start: np.ndarray, end: np.ndarray | None = None) -> np.ndarray:
    """Return the change (run,) between two steps of each run; without an end, to the end of the record."""
    return (last(curves) if end is None else around(curves, end)) - around(curves, start)


def rise_while_fitting(evidence: Evidence) -> Iterator[Finding]:
    """Judge the rise of I(T;X) and I(T;Y) of the last block until the training set is fitted."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS):
        one = evidence.ours(name)
        for variable in ("information_x", "information_y"):
            early = np.full(len(one.fitted), EARLY)
            gains = _changes(one.measured(variable, split="train", layer=one.layers()[-1]), early, one.fitted)
            yield Finding(f"{name}, {variable}", by_prediction(gains, 0, np.inf, "bits"))


def flat_after(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether I(T;Y) of the last block stays constant after fitting."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS):
        one = evidence.ours(name)
        where = {"split": "train", "layer": one.layers()[-1]}
        flat = 0.1 * float(one.probes["information_y_ceiling"].sel(where).max())
        gains = _changes(one.measured("information_y", **where), one.fitted)
        yield Finding(name, by_prediction(gains, -flat, flat, "bits"))


def fall(evidence: Evidence) -> Iterator[Finding]:
    """Judge the fall of I(T;X) of the last block after fitting, and that of the entropy of the weight histogram."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, "division-96", "s5-fast", *CONTROLS):
        one = evidence.ours(name)
        for split in ("train", "test"):
            falls = _changes(one.measured("information_x", split=split, layer=one.layers()[-1]), one.fitted)
            verdict = by_prediction(falls, -np.inf, 0, "bits")
            yield Finding(f"{name}, last block, {split}", verdict, name in NOT_LEARNT)
    for name in (*ALL_ESTIMATORS, *DIVISION_RUNS, "s5-fast", *NOT_LEARNT):
        one = evidence.ours(name)
        falls = _changes(one.measured(HISTOGRAM, parameter=EMBEDDING), one.fitted)
        verdict = by_prediction(falls, -np.inf, 0, "bits")
        yield Finding(f"{name}, weight histogram", verdict, name in NOT_LEARNT)


def fall_by_estimator(evidence: Evidence) -> Iterator[Finding]:
    """Judge the fall of I(T;X) of the last block by each estimator and noise, on training, test and all inputs."""
    for name in (*ALL_ESTIMATORS, ALL_ESTIMATORS_CONTROL):
        one = evidence.ours(name)
        for estimator, curves in estimates_of(one.probes).items():
            for split in ("train", "test", "all"):
                curve = curves.sel(split=split, layer=one.layers()[-1]).transpose("run", "step")
                verdict = by_prediction(_changes(curve, one.fitted), -np.inf, 0, "bits")
                yield Finding(f"{name}, {estimator}, {split}", verdict, name in NOT_LEARNT)


# -- steps of the maxima -------------------------------------------------------------------------------------------


def published_rightmost(evidence: Evidence) -> Iterator[Finding]:
    """Compare the rightmost point of the published plane with the top of the published test loss."""
    for task, plane in PUBLISHED_PLANE.items():
        hump = evidence.published_markers[task].sel(marker="descent_onset")
        low, high = (np.log10(step) for step in plane.top_steps)
        a, b = (np.log10(hump[name].item()) for name in ("lower", "upper"))
        middle = (low + high) / 2 - np.log10(hump["step"].item())
        what = "dex, top of the histogram entropy - hump"
        verdict = of_interval(middle, low - b, high - a, -COINCIDE, COINCIDE, what)
        yield Finding(f"{task}, weight histograms", verdict)


def our_rightmost(evidence: Evidence) -> Iterator[Finding]:
    """Compare the maximum of I(T;X), by each estimator, and of the weight histogram with the top of the test loss."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, *ALL_ESTIMATORS):
        one = evidence.ours(name)
        hump = log_times(one.markers, "descent_onset")
        tops = {"last block": log_times(one.compression())}
        if name in ALL_ESTIMATORS:
            tops |= {
                f"last block, {estimator}": _tops(curves.sel(split="train", layer=one.layers()[-1]))
                for estimator, curves in estimates_of(one.probes).items()
                if estimator != "information_x"
            }
        if HISTOGRAM in one.probes:
            tops["weight histogram"] = _tops(one.measured(HISTOGRAM, parameter=EMBEDDING))
        for label, top in tops.items():
            yield Finding(f"{name}, {label}", by_prediction(top - hump, -COINCIDE, COINCIDE, "dex, its top - hump"))


def _tops(curves: xr.DataArray) -> np.ndarray:
    """Return log10(step + 1) of the maximum of each run, NaN where the maximum is at an end of the record."""
    tops = [top_inside(curves["step"].values, row) for row in curves.transpose("run", "step").values]
    return np.array([np.nan if top is None else np.log10(top.step + 1) for top in tops])


def our_depth(evidence: Evidence) -> Iterator[Finding]:
    """Compare the maximum of I(T;X) in the last block with that in the first block."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS):
        one = evidence.ours(name)
        first, deepest = (log_times(one.compression(layer=layer)) for layer in (0, -1))
        yield Finding(name, by_prediction(deepest - first, -COINCIDE, COINCIDE, "dex, last block - first"))


def published_depth(_: Evidence) -> Iterator[Finding]:
    """Report that the published plane has one x for all layers."""
    numbers = "true by construction: x is the same number for both layers, the entropy of the embedding's histogram"
    yield Finding("division, s5", Verdict(UNDECIDED, numbers))


def our_fixed_point(evidence: Evidence) -> Iterator[Finding]:
    """Compare the step after which I(T;X) of test inputs is constant with the step of test accuracy .99."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, "s5-fast"):
        one = evidence.ours(name)
        rests = []
        for run in range(one.probes.sizes["run"]):
            curve = one.probes["information_x"].isel(run=run).sel(split="test", layer=one.layers()[-1])
            marker = fixed_point(one.probes["step"].values, curve.values)
            rests.append(np.log10(marker.step + 1) if marker.status == "found" else np.nan)
        logs = np.array(rests) - log_times(one.markers, "end")[: len(rests)]
        yield Finding(f"{name}, last block, test", by_prediction(logs, -COINCIDE, COINCIDE, "dex, rest - end"))
