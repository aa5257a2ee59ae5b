"""Our runs over the published curves: `python docs/benchmarks/published_curve.py runs/paper-division.nc --until 2500`.

The script reads a file of `python -m reference collect`, and compares it with the points of reference/paper/curves.csv.
For each published point it prints the number of our seeds below it. `--figure` draws the median and the range of the
seeds over the points. `figures.py` draws the figures of docs/reference.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import probe
from reference.claims.two_phases import published

RESULTS = Path(__file__).parents[2] / "reference" / "results"
FIGURES: dict[str, tuple[Any, ...]] = {  # arguments of `draw`
    "paper-division-2500": (RESULTS / "paper-division.nc", "division", 2500),
    "paper-s5": (RESULTS / "paper-s5.nc", "s5"),
}
CURVES = {
    "train_batch_accuracy": "accuracy of the training batch",
    "test_accuracy": "test accuracy",
    "test_loss": "test loss (nats)",
}
COLOUR, DOTS = "#2b6ca3", "#333333"


def seeds_at(runs: xr.Dataset, name: str, steps: np.ndarray) -> np.ndarray:
    """Return the values `(run, step)` of our curve at published steps, interpolated between our evaluations."""
    found = []
    for run in range(runs.sizes["run"]):
        ours = runs[name].isel(run=run).dropna("step")
        found.append(np.interp(steps, ours["step"], ours, left=np.nan, right=np.nan))
    return np.array(found)


def read(file: Path) -> xr.Dataset:
    """Return recorded runs, with the dimension ``run``."""
    runs = probe.load(file)
    return runs if "run" in runs.dims else runs.expand_dims("run")


def points_of(name: str, task: str, until: float) -> xr.DataArray:
    """Return the published points of a curve up to a step."""
    points = published(task)[name].dropna("step")
    return points[points["step"] <= until]


def draw(file: Path, task: str = "division", until: float = np.inf) -> Figure:
    """Draw our seeds over the published points."""
    runs = read(file)
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    for ax, (name, title) in zip(axes, CURVES.items(), strict=True):
        points = points_of(name, task, until)
        ours = runs[name].where((runs["step"] > 0) & (runs["step"] <= until), drop=True).dropna("step", how="any")
        ax.fill_between(ours["step"], ours.min("run"), ours.max("run"), color=COLOUR, alpha=0.25, lw=0)
        text = f"ours: median of {runs.sizes['run']} seeds, all in the band"
        ax.plot(ours["step"], ours.median("run"), color=COLOUR, label=text)
        ax.plot(points["step"], points, ".", color=DOTS, ms=4, label="published (one run)")
        ax.set(xscale="log", xlabel="step", ylabel=title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def compare(runs: xr.Dataset, name: str, task: str, until: float) -> None:
    """Print the number of our seeds below each published point."""
    points = points_of(name, task, until)
    steps, values = points["step"].values, points.values
    at = seeds_at(runs, name, steps)
    reached = ~np.isnan(at).any(0)
    if not reached.all():
        print(f"{name}: {(~reached).sum()} published points lie outside the steps of our seeds")
    at, steps, values = at[:, reached], steps[reached], values[reached]
    inside = (at.min(0) <= values) & (values <= at.max(0))
    print(f"{name}: {inside.sum()} of {len(steps)} published points lie within our {len(at)} seeds")
    for step, value, column in zip(steps, values, at.T, strict=True):
        below = (column < value).sum()
        print(f"  {step:8,.0f}  published {value:.4f}  ours {np.median(column):.4f} ({column.min():.4f} to "
              f"{column.max():.4f}), {below} of {len(column)} below")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="file of `python -m reference collect`")
    parser.add_argument(
        "--task", choices=("division", "s5"), default="division", help="published task (default: division)"
    )
    parser.add_argument("--until", type=float, default=np.inf, help="last step (default: all)")
    parser.add_argument("--figure", type=Path, help="figure to write")
    args = parser.parse_args(argv)
    runs = read(args.runs)
    for name in CURVES:
        compare(runs, name, args.task, args.until)
    if args.figure:
        draw(args.runs, args.task, args.until).savefig(args.figure, dpi=110)
        print(f"written: {args.figure}")


if __name__ == "__main__":
    main()
