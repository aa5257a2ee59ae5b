"""Section 7: curves that two readers judged by their pictures alone, before the detector ran on them.

The format is that of docs/benchmarks/curves/README.md. The section is empty without `blind.npz` and `readings.json`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from curves.densities import DENSITIES

from probe import PhaseDetector
from probe.phases import Marker
from verdicts.decisions import Bar, Cell, Number, Section, Table, wilson
from verdicts.real import AVERAGES, CURVES, Verdicts, contradictions_table
from verdicts.records import Rule

RIGHT, WRONGLY_FOUND = Bar(85, at_most=False), Bar(2)
FACTOR = 2  # a top is right up to this factor of a reader's step: they read it off a picture
Readings = Mapping[str, Mapping[str, Any]]
Run = Mapping[str, np.ndarray]
RIGHT_STATUSES = {"found": ("found",), "not": ("absent", "right_censored"), "cannot tell": ("undecided",)}


def load(folder: Path) -> tuple[dict[str, dict[str, np.ndarray]], Readings]:
    """Return the curves of each run by name and the readings; both are empty where a file is missing.

    Values that are not finite become NaN.
    """
    if not ((folder / "blind.npz").exists() and (folder / "readings.json").exists()):
        return {}, {}
    runs: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "blind.npz") as file:
        for key in file.files:
            name, curve = key.split("/")
            values = file[key].astype(float)
            runs.setdefault(name, {})[curve] = np.where(np.isfinite(values), values, np.nan)
    return runs, json.loads((folder / "readings.json").read_text())


def judge(marker: Marker, reading: str, tops: list[float | None], lag: float) -> tuple[bool, bool]:
    """Return whether a verdict is right, and whether it is wrongly `found`, given the reading of both readers.

    A top is right within a factor of 2 of the step that either reader wrote; ``lag``, in steps, is that of an average.
    """
    if marker.status != "found":
        return marker.status in RIGHT_STATUSES[reading], False
    steps = [top for top in tops if top is not None]
    near = not steps or min(steps) / FACTOR <= marker.step <= max(steps) * FACTOR + lag
    right = reading == "found" and near
    return right, reading == "not" or (reading == "found" and not near)


def verdicts_of(rule: Rule, runs: Mapping[str, Run]) -> Verdicts:
    """Return marker and record of each run at each density."""
    verdicts: Verdicts = {}
    for name, run in runs.items():
        records = {density: thin(run["step"], run["test_loss"]) for density, thin in DENSITIES.items()}
        verdicts[name] = {density: (rule(*record), record) for density, record in records.items()}
    return verdicts


def judged(verdicts: Verdicts, readings: Readings) -> np.ndarray:
    """Return (right, wrongly found) of each run at each density, NaN where the readers differ: (runs, densities, 2)."""
    results = np.full((len(verdicts), len(DENSITIES), 2), np.nan)
    for i, (name, of) in enumerate(verdicts.items()):
        for j, (density, (marker, (steps, _))) in enumerate(of.items()):
            first, second = readings[name][density]
            if first == second:
                decay = AVERAGES.get(density, 0)
                lag = 2 * decay / (1 - decay) * (steps[-1] - steps[-2])
                results[i, j] = judge(marker, first, readings[name]["top"][density], lag)
    return results


def bootstrap(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean over runs of 2,000 resamples."""
    rows = np.random.default_rng(seed).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[rows].mean(1), [0.025, 0.975])
    return float(low), float(high)


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def density_table(results: np.ndarray) -> Table:
    """Return right and wrongly found verdicts for each density, with Wilson's intervals."""
    table = Table(
        "Each density", "Shares (%) of the curves on which both readers agree, with 95 % intervals (Wilson).",
        ("density",), ("agreed", "set aside", "right", "95 % of right", "wrongly found", "95 % of wrongly found"),
    )  # fmt: skip
    for density, of in zip(DENSITIES, results.transpose(1, 0, 2), strict=True):
        kept = of[~np.isnan(of[:, 0])]
        if not len(kept):
            continue
        (right, wrong), n = kept.sum(0).astype(int), len(kept)
        row: dict[str, Cell] = {"agreed": Number(n), "set aside": Number(len(of) - n)}
        for name, hits in (("right", right), ("wrongly found", wrong)):
            row |= {name: Number(100 * hits / n, digits=1), f"95 % of {name}": _interval(wilson(hits, n))}
        table.add((density,), row)
    return table


def overall_table(results: np.ndarray, seed: int) -> Table:
    """Return both shares with each run counted once, whatever the number of its densities."""
    shares = np.array([np.nanmean(run, 0) for run in results if not np.isnan(run[:, 0]).all()])
    table = Table(
        "Each curve once", f"Mean over {len(shares)} curves of the share (%) of their densities on which the readers "
        "agree, with 95 % intervals (bootstrap over curves; Wilson for the last row).", ("verdict",), ("share", "95 %"),
    )  # fmt: skip
    for k, (name, bar) in enumerate({"right": RIGHT, "wrongly found": WRONGLY_FOUND}.items()):
        share = Number(100 * shares[:, k].mean(), bar, 1, "%")
        table.add((name,), {"share": share, "95 %": _interval(bootstrap(shares[:, k], seed))})
    wrong, n = int((shares[:, 1] > 0).sum()), len(shares)
    share = Number(100 * wrong / n, None, 1, "%")
    table.add(("wrongly found at any density",), {"share": share, "95 %": _interval(wilson(wrong, n))})
    return table


def classes_of(runs: Mapping[str, Run]) -> dict[str, str]:
    """Return the class of each run by `PhaseDetector.verdict_`."""
    return {
        name: str(
            PhaseDetector().fit({k: v if k == "step" else v[None] for k, v in run.items()}).verdict_["class"].item()
        )
        for name, run in runs.items()
    }


def class_table(classes: Mapping[str, str], readings: Readings) -> Table:
    """Return how often the class of a run is that of both readers, by class."""
    table = Table(
        "First sentence", "Number of runs whose class is that of both readers, by the readers' class.", ("class",),
        ("agreed", "right", "others given"),
    )  # fmt: skip
    agreed = {name: readings[name]["class"][0] for name in classes if len(set(readings[name]["class"])) == 1}
    for reading in dict.fromkeys(agreed.values()):
        given = [classes[name] for name, of in agreed.items() if of == reading]
        others = ", ".join(dict.fromkeys(of for of in given if of != reading))
        table.add(
            (reading,), {"agreed": Number(len(given)), "right": Number(given.count(reading)), "others given": others}
        )
    n, right = len(agreed), sum(classes[name] == of for name, of in agreed.items())
    note = f"{_interval(wilson(right, n))} %" if n else ""
    table.add(
        (f"all, {len(classes) - n} set aside",), {"agreed": Number(n), "right": Number(right), "others given": note}
    )
    return table


def section(
    rule: Rule, draws: int, seed: int, folder: Path = CURVES,
    classify: Callable[[Mapping[str, Run]], Mapping[str, str]] = classes_of,
) -> Section:  # fmt: skip
    """Return how often the verdict is that of the readers, on each density, on each curve once, and of the class."""
    runs, readings = load(folder)
    tables = []
    if runs:
        verdicts = verdicts_of(rule, runs)
        results = judged(verdicts, readings)
        tables = [
            overall_table(results, seed),
            density_table(results),
            contradictions_table("Verdicts of one run that contradict each other", verdicts),
            class_table(classify(runs), readings),
        ]
    return Section("readers", "Curves judged by two readers", tables)
