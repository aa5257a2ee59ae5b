"""Our runs over the published curves: `python docs/benchmarks/published_curve.py runs/paper-division.nc --until 2500`.

The script reads a file of `python -m reference collect`. It draws the median and the range of the seeds over the points
of reference/paper/curves.csv. For each published point it prints the number of our seeds below it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import xarray as xr
from matplotlib import pyplot as plt

import probe
from reference.claims.two_phases import published

CURVES = {
    "train_batch_accuracy": "training batch, dropout on: accuracy",
    "test_accuracy": "test: accuracy",
    "test_loss": "test: loss (nats)",
}


def seeds_at(runs: xr.Dataset, name: str, steps: np.ndarray) -> np.ndarray:
    """Return the values `(run, step)` of our curve at published steps, interpolated between our evaluations."""
    found = []
    for run in range(runs.sizes["run"]):
        ours = runs[name].isel(run=run).dropna("step")
        found.append(np.interp(steps, ours["step"], ours, left=np.nan, right=np.nan))
    return np.array(found)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="file of `python -m reference collect`")
    parser.add_argument(
        "--task", choices=("division", "s5"), default="division", help="published task (default: division)"
    )
    parser.add_argument("--until", type=float, default=np.inf, help="last step (default: all)")
    parser.add_argument("--out", type=Path, help="figure to write (default: the file of the runs with .png)")
    args = parser.parse_args(argv)
    runs = probe.load(args.runs)
    runs = runs if "run" in runs.dims else runs.expand_dims("run")
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, (name, title) in zip(axes, CURVES.items(), strict=True):
        points = published(args.task)[name].dropna("step")
        points = points[points["step"] <= args.until]
        steps, values = points["step"].values, points.values
        ours = runs[name].where((runs["step"] > 0) & (runs["step"] <= args.until), drop=True).dropna("step", how="any")
        axis.fill_between(ours["step"], ours.min("run"), ours.max("run"), alpha=0.25, lw=0)
        axis.plot(ours["step"], ours.median("run"), label=f"ours: median of {runs.sizes['run']} seeds, all in the band")
        axis.plot(steps, values, "k.", ms=4, label="published (one run)")
        axis.set(xscale="log", xlabel="step", title=title)
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
    axes[0].legend(loc="lower right", fontsize="small")
    out = args.out or args.runs.with_suffix(".png")
    figure.savefig(out, dpi=110)
    plt.close(figure)
    print(f"written: {out}")


if __name__ == "__main__":
    main()
