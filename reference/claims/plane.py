"""The information plane: the real one, and the published one of weight histograms."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from probe.phases import estimates_of, fixed_point, top_inside
from reference.claims.base import CONTROLS, KEPT, KEPT_CONTROL, NOT_LEARNT, PAPER, TOGETHER, TRUE, Finding
from reference.claims.evidence import EMBEDDING, HISTOGRAM, PUBLISHED_PLANE, Evidence, around, last, log_times
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict, by_prediction, of_interval


def published_rise(_: Evidence) -> Iterator[Finding]:
    """Of the published plane: its maximum against its first point."""
    for task, plane in PUBLISHED_PLANE.items():
        word = CONFIRMED if plane.top > plane.first + 0.016 else NOT_CONFIRMED  # sd of a fresh start
        yield Finding(f"{task}, weight histograms", Verdict(word, f"{plane.first} to {plane.top} bits"))


def published_fall(_: Evidence) -> Iterator[Finding]:
    """Of the published plane: its last point against its maximum."""
    for task, plane in PUBLISHED_PLANE.items():
        word = CONFIRMED if plane.last < plane.top - 0.016 else NOT_CONFIRMED
        yield Finding(f"{task}, weight histograms", Verdict(word, f"{plane.top} to {plane.last} bits"))


def _changes(curves: xr.DataArray, start: np.ndarray, end: np.ndarray | None = None) -> np.ndarray:
    """Between two steps of each run; None: to the end."""
    return (last(curves) if end is None else around(curves, end)) - around(curves, start)


EARLY = 100.0  # after the first steps, in which the layers only grow out of their initial state


def rise_while_fitting(evidence: Evidence) -> Iterator[Finding]:
    """What the last block gains until the training set is fitted."""
    for name in (*PAPER.values(), *TRUE):
        one = evidence.ours(name)
        for variable in ("information_x", "information_y"):
            early = np.full(len(one.fitted), EARLY)
            gains = _changes(one.measured(variable, split="train", layer=one.layers()[-1]), early, one.fitted)
            yield Finding(f"{name}, {variable}", by_prediction(gains, 0, np.inf, "bits"))


def flat_after(evidence: Evidence) -> Iterator[Finding]:
    """What it gains about the labels afterwards."""
    for name in (*PAPER.values(), *TRUE):
        one = evidence.ours(name)
        where = {"split": "train", "layer": one.layers()[-1]}
        flat = 0.1 * float(one.probes["information_y_ceiling"].sel(where).max())
        gains = _changes(one.measured("information_y", **where), one.fitted)
        yield Finding(name, by_prediction(gains, -flat, flat, "bits"))


def _fall_after(evidence: Evidence) -> Iterator[Finding]:
    for name in (*PAPER.values(), *TRUE, "division-96", "s5-fast", *CONTROLS):
        one = evidence.ours(name)
        for split in ("train", "test"):
            falls = _changes(one.measured("information_x", split=split, layer=one.layers()[-1]), one.fitted)
            found = by_prediction(falls, -np.inf, 0, "bits")
            yield Finding(f"{name}, last block, {split}", found, name in NOT_LEARNT)


def _histogram_fall(evidence: Evidence) -> Iterator[Finding]:
    for name in (*KEPT, *TRUE, "s5-fast", *NOT_LEARNT):
        one = evidence.ours(name)
        falls = _changes(one.measured(HISTOGRAM, parameter=EMBEDDING), one.fitted)
        found = by_prediction(falls, -np.inf, 0, "bits")
        yield Finding(f"{name}, weight histogram", found, name in NOT_LEARNT)


def fall(evidence: Evidence) -> Iterator[Finding]:
    """What it loses about the inputs after fitting, and what the weight histogram does."""
    yield from _fall_after(evidence)
    yield from _histogram_fall(evidence)


def fall_by_reading(evidence: Evidence) -> Iterator[Finding]:
    """What the last block loses after fitting by each estimator and noise, on training, test and all inputs."""
    for name in (*KEPT, KEPT_CONTROL):
        one = evidence.ours(name)
        for reading, curves in estimates_of(one.probes).items():
            for split in ("train", "test", "all"):
                curve = curves.sel(split=split, layer=one.layers()[-1]).transpose("run", "step")
                found = by_prediction(_changes(curve, one.fitted), -np.inf, 0, "bits")
                yield Finding(f"{name}, {reading}, {split}", found, name in NOT_LEARNT)


def published_rightmost(evidence: Evidence) -> Iterator[Finding]:
    """The rightmost point of the published plane against the published hump."""
    for task, plane in PUBLISHED_PLANE.items():
        hump = evidence.published_markers[task].sel(marker="descent_onset")
        low, high = (np.log10(step) for step in plane.top_steps)
        a, b = (np.log10(hump[name].item()) for name in ("lower", "upper"))
        middle = (low + high) / 2 - np.log10(hump["step"].item())
        found = of_interval(middle, low - b, high - a, -TOGETHER, TOGETHER, "dex, top of the histogram entropy - hump")
        yield Finding(f"{task}, weight histograms", found)


def our_rightmost(evidence: Evidence) -> Iterator[Finding]:
    """The maximum of I(T+n;X), where there is one, of its other readings and of weight histograms, against the hump."""
    for name in (*PAPER.values(), *TRUE, *KEPT):
        one = evidence.ours(name)
        hump = log_times(one.markers, "descent_onset")
        tops = {"last block": log_times(one.compression())}
        if name in KEPT:
            tops |= {
                f"last block, {reading}": _tops(curves.sel(split="train", layer=one.layers()[-1]))
                for reading, curves in estimates_of(one.probes).items()
                if reading != "information_x"
            }
        if HISTOGRAM in one.probes:
            tops["weight histogram"] = _tops(one.measured(HISTOGRAM, parameter=EMBEDDING))
        for label, top in tops.items():
            yield Finding(f"{name}, {label}", by_prediction(top - hump, -TOGETHER, TOGETHER, "dex, its top - hump"))


def _tops(curves: xr.DataArray) -> np.ndarray:
    """log10 of the step of the maximum of each run, NaN where it is at an end of the record."""
    tops = [top_inside(curves["step"].values, row) for row in curves.transpose("run", "step").values]
    return np.array([np.nan if top is None else np.log10(top.step + 1) for top in tops])


def our_depth(evidence: Evidence) -> Iterator[Finding]:
    """The maximum in the last block against that in the first."""
    for name in (*PAPER.values(), *TRUE):
        one = evidence.ours(name)
        first, last = (log_times(one.compression(layer=layer)) for layer in (0, -1))
        yield Finding(name, by_prediction(last - first, -TOGETHER, TOGETHER, "dex, last block - first"))


def published_depth(_: Evidence) -> Iterator[Finding]:
    """The published plane has one x for all layers."""
    numbers = "true by construction: x is the same number for both layers, the entropy of the embedding's histogram"
    yield Finding("division, s5", Verdict(UNDECIDED, numbers))


def our_fixed_point(evidence: Evidence) -> Iterator[Finding]:
    """Where I(T+n;X) of test inputs comes to rest, against test accuracy .99."""
    for name in (*PAPER.values(), *TRUE, "s5-fast"):
        one = evidence.ours(name)
        rest = []
        for run in range(one.probes.sizes["run"]):
            curve = one.probes["information_x"].isel(run=run).sel(split="test", layer=one.layers()[-1])
            found = fixed_point(one.probes["step"].values, curve.values)
            rest.append(np.log10(found.step + 1) if found.status == "found" else np.nan)
        logs = np.array(rest) - log_times(one.markers, "end")[: len(rest)]
        yield Finding(f"{name}, last block, test", by_prediction(logs, -TOGETHER, TOGETHER, "dex, rest - end"))
