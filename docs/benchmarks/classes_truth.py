"""How often `PhaseDetector.verdict_` names the class that a reader saw: `python docs/benchmarks/classes_truth.py`.

Without an argument: the recordings of the project, the digitised curves of the paper, and the given curves, whose
labels one reader wrote from pictures before any rule existed. The levels of the rules were chosen on these runs.
`--blind`: the runs of curves/blind.npz, with two readings of each run in curves/readings.json. A run on which they
differ is set aside. `--densities` repeats either at the seven densities of curves/densities.py.

The script prints a table for docs/phases_truth.md and each disagreement. It takes 20 CPU seconds, and 2 CPU minutes
with `--densities`.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent))
from curves.densities import DENSITIES
from verdicts.decisions import wilson

from probe import PhaseDetector
from probe.errors import ProbeWarning

CURVES = Path(__file__).parent / "curves"
REFERENCE = Path(__file__).parents[2] / "reference"
ROLES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
DELAYED, PLAIN = "delayed generalisation", "plain learning"
OVERFITTING, MEMORISED = "overfitting", "memorised without generalising"
# The label comes first. A second class is one that the reader would also sign.
GIVEN = {
    **dict.fromkeys(("convex_softmax_const_seed12", "convex_softmax_cos_seed7", "convex_softmax_step_seed5"), PLAIN),
    **dict.fromkeys(("linreg_dd", "steplr", "tiny_test50"), PLAIN),
    **dict.fromkeys(("finetune", "overfit_noise40", "poly_mlp"), OVERFITTING),
    **dict.fromkeys(("nogrok_p23_s0_wd0", "percent_chance_p97", "shuffled_p23_s0_wd1"), MEMORISED),
    "flat_t5_1": "not fitted",
    "grok_p23_s0_wd1": DELAYED,
    "parity_s1": (DELAYED, PLAIN),
}
RECORDED = {
    **dict.fromkeys(("demo", "division-59", "division-96", "division-97", "subtraction-96"), DELAYED),
    **dict.fromkeys(("paper-division", "paper-s5", "s5-fast"), DELAYED),
    **dict.fromkeys(("variants/control-59", "variants/control-few", "variants/control-shuffled"), MEMORISED),
    **dict.fromkeys(("variants/paper-beta2", "variants/paper-decay-.01", "variants/paper-depth-4"), DELAYED),
    **dict.fromkeys(("variants/paper-division-kept", "variants/paper-epochs", "variants/paper-relu"), DELAYED),
    **dict.fromkeys(("variants/paper-decay-1", "variants/paper-post-norm"), (PLAIN, DELAYED)),
    "variants/paper-depth-1": (DELAYED, PLAIN),
    "variants/s5-fast-dropout": PLAIN,
}
WITHOUT_DROPOUT = {"0": (PLAIN, DELAYED), "1": (PLAIN, DELAYED), "2": (DELAYED, PLAIN), "3": (DELAYED, PLAIN)}


class Labelled(NamedTuple):
    """One run with its label."""

    name: str
    steps: np.ndarray
    curves: Mapping[str, np.ndarray]
    label: tuple[str, ...]
    chance: float | None = None


def tuned_runs() -> Iterator[Labelled]:
    """Yield the runs on which the levels were chosen."""
    yield from _of_file(CURVES / "given.npz", GIVEN)
    paper = pd.read_csv(REFERENCE / "paper" / "curves.csv")
    for task, rows in paper.groupby("task"):
        table = rows.pivot(index="step", columns="curve", values="value")
        curves = {str(name): table[name].to_numpy() for name in table.columns}
        yield Labelled(f"published {task}", table.index.to_numpy(), curves, (DELAYED,))
    for name, label in [*RECORDED.items(), ("variants/paper-no-dropout", None)]:
        yield from _recorded(name, label)


def _recorded(name: str, label: str | tuple[str, ...] | None) -> Iterator[Labelled]:
    """Yield the runs of one recording."""
    with xr.open_dataset(REFERENCE / "results" / f"{name}.nc") as series:
        found = series[list(ROLES)].load()
    chance = float(found["test_accuracy"].attrs["chance"])
    for run in np.atleast_1d(found["run"].values) if "run" in found.dims else [None]:
        one = found if run is None else found.sel(run=run)
        curves = {role: one[role].values for role in ROLES}
        of_run = WITHOUT_DROPOUT[f"{run:g}"] if label is None else label
        steps = found["step"].values
        yield Labelled(f"{name} {'' if run is None else f'{run:g}'}", steps, curves, _labels(of_run), chance)


def blind_runs() -> Iterator[Labelled]:
    """Yield the blind runs on whose class both readers agree."""
    readings = json.loads((CURVES / "readings.json").read_text(encoding="utf-8"))
    classes = {name: one["class"] for name, one in readings.items() if len(set(one["class"])) == 1}
    print(f"{len(classes)} of {len(readings)} runs have one class from both readers")
    yield from _of_file(CURVES / "blind.npz", {name: both[0] for name, both in classes.items()})


def _of_file(path: Path, labels: Mapping[str, str | tuple[str, ...]]) -> Iterator[Labelled]:
    """Yield the runs of a file of curves that have a label."""
    with np.load(path) as file:
        for name, label in labels.items():
            curves = {role: file[f"{name}/{role}"].astype(float) for role in ROLES if f"{name}/{role}" in file}
            yield Labelled(name, file[f"{name}/step"].astype(float), curves, _labels(label))


def _labels(label: str | tuple[str, ...]) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label


def class_of(run: Labelled, density: str) -> str:
    """Return the class that the detector names."""
    records = {role: DENSITIES[density](run.steps, values) for role, values in run.curves.items()}
    steps = next(iter(records.values()))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)  # percent
        curves = {"step": steps} | {role: values for role, (_, values) in records.items()}
        return str(PhaseDetector(chance=run.chance).fit(curves).verdict_["class"].item())


def judged(runs: list[Labelled], density: str) -> list[tuple[Labelled, str]]:
    """Return each run with the class that the detector names."""
    return [(run, class_of(run, density)) for run in runs]


def report(density: str, found: list[tuple[Labelled, str]]) -> str:
    """Return one row of the table: agreement, with an interval, and agreement with either class of a doubtful run."""
    n, agreed = len(found), sum(name == run.label[0] for run, name in found)
    either = sum(name in run.label for run, name in found)
    low, high = wilson(agreed, n)
    return f"| {density} | {n} | {agreed} ({agreed / n:.0%}; {low:.0%} to {high:.0%}) | {either} ({either / n:.0%}) |"


def by_class(found: list[tuple[Labelled, str]]) -> Iterator[str]:
    """Yield the rows of the table of labels and named classes."""
    counts = Counter((run.label[0], name) for run, name in found)
    for label in sorted({run.label[0] for run, _ in found}):
        named = {name: n for (true, name), n in sorted(counts.items()) if true == label}
        yield f"| {label} | {sum(named.values())} | {', '.join(f'{name} {n}' for name, n in named.items())} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Compare the classes of the detector with those of readers.")
    parser.add_argument("--blind", action="store_true", help="the blind runs")
    parser.add_argument("--densities", action="store_true", help="all densities")
    args = parser.parse_args(arguments)
    runs = list(blind_runs() if args.blind else tuned_runs())
    names = list(DENSITIES) if args.densities else ["dense"]
    results = {name: judged(runs, name) for name in names}
    print("| density | runs | the label (95 % interval) | the label, or the second class of a doubtful run |")
    print("|---|---|---|---|")
    print(*(report(name, found) for name, found in results.items()), sep="\n")
    print("\n| label | runs | named |\n|---|---|---|")
    print(*by_class(results["dense"]), sep="\n")
    for run, name in results["dense"]:
        if name != run.label[0]:
            print(f"{run.name}: {' or '.join(run.label)}, named {name}")


if __name__ == "__main__":
    main()
