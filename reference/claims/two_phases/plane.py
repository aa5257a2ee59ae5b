"""Judge the claims on the information plane: mutual information, and the published entropies of weight histograms."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from probe.phases import estimates_of, fixed_point, top_inside
from reference.claims.base import Finding
from reference.claims.recorded import around, at_common_steps, change_after_fit, log_times
from reference.claims.two_phases.configurations import (
    ALL_ESTIMATORS,
    ALL_ESTIMATORS_CONTROL,
    COINCIDE,
    DIVISION_RUNS,
    EMBEDDING,
    HISTOGRAM,
    PAPER_RUNS,
)
from reference.claims.two_phases.evidence import PUBLISHED_PLANE, Evidence
from reference.claims.verdicts import (
    CONFIRMED,
    NOT_CONFIRMED,
    UNDECIDED,
    Verdict,
    by_prediction,
    by_separation,
    of_interval,
)

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


def rise_while_fitting(evidence: Evidence) -> Iterator[Finding]:
    """Judge the rise of I(T;X) and I(T;Y) of the last block until the training set is fitted."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS):
        one = evidence.ours(name)
        for variable in ("information_x", "information_y"):
            early = np.full(len(one.fitted), EARLY)
            curves = one.measured(variable, split="train", layer=one.layers()[-1])
            gains = around(curves, one.fitted) - around(curves, early)
            yield Finding(f"{name}, {variable}", by_prediction(gains, 0, np.inf, "bits"))


def flat_after(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether I(T;Y) of the last block stays constant after fitting."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS):
        one = evidence.ours(name)
        where = {"split": "train", "layer": one.layers()[-1]}
        flat = 0.1 * float(one.probes["information_y_ceiling"].sel(where).max())
        gains = change_after_fit(one.measured("information_y", **where), one.fitted)
        yield Finding(name, by_prediction(gains.values, -flat, flat, f"bits to step {gains.at}"))


def fall(evidence: Evidence) -> Iterator[Finding]:
    """Judge the fall of I(T;X) of the last block after fitting, and that of the entropy of the weight histogram."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, "s5-fast", ALL_ESTIMATORS[0]):
        one = evidence.ours(name)
        for split in ("train", "test"):
            curves = one.measured("information_x", split=split, layer=one.layers()[-1])
            yield Finding(f"{name}, last block, {split}", _falls(curves, one.fitted))
    for name in (*ALL_ESTIMATORS, *DIVISION_RUNS, "s5-fast"):
        one = evidence.ours(name)
        yield Finding(f"{name}, weight histogram", _falls(one.measured(HISTOGRAM, parameter=EMBEDDING), one.fitted))


def _falls(curves: xr.DataArray, fitted: np.ndarray) -> Verdict:
    """Judge the fall of curves (run, step) from the end of fitting to the end of the record."""
    found = change_after_fit(curves, fitted)
    return by_prediction(found.values, -np.inf, 0, f"bits to step {found.at}")


def fall_by_estimator(evidence: Evidence) -> Iterator[Finding]:
    """Judge the fall of I(T;X) of the last block by each estimator and noise, on training, test and all inputs."""
    for name in ALL_ESTIMATORS:
        for label, curves in _estimates(evidence, name).items():
            yield Finding(f"{name}, {label}", _falls(curves, evidence.ours(name).fitted))


def fall_against_control(evidence: Evidence) -> Iterator[Finding]:
    """Compare the fall of I(T;X) by each estimator with that in the control, at the last common step."""
    name, control = ALL_ESTIMATORS[0], ALL_ESTIMATORS_CONTROL
    runs, controls = _estimates(evidence, name), _estimates(evidence, control)
    for label, curves in runs.items():
        ends = at_common_steps(controls[label], curves)
        larger, smaller = (
            change_after_fit(one, evidence.ours(config).fitted, until=end)
            for one, config, end in zip((controls[label], curves), (control, name), ends, strict=True)
        )
        verdict = by_separation(larger, smaller, f"bits to step {smaller.at}, control against runs", auc=0.9)
        yield Finding(f"{name} against {control}, {label}", verdict)


def _estimates(evidence: Evidence, name: str) -> dict[str, xr.DataArray]:
    """Return I(T;X) of the last block (run, step) by each estimator on each set of inputs."""
    one = evidence.ours(name)
    return {
        f"{estimator}, {split}": curves.sel(split=split, layer=one.layers()[-1]).transpose("run", "step")
        for estimator, curves in estimates_of(one.probes).items()
        for split in ("train", "test", "all")
    }


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
