"""Figure of the perceptrons: accuracies, regions, local complexity, robustness and mechanisms over training."""

import numpy as np
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reference.claims.recorded import RecordedRuns
from reference.claims.two_phases.configurations import PERCEPTRONS, control_of
from reference.claims.two_phases.evidence import Evidence

_RUNS, _CONTROLS, _FITTED = "#2b6ca3", "#c4552d", "#888888"
_PLACES = {"train": "#2b6ca3", "midpoint": "#7a4fa3", "test": "#3d8b4f", "random": "#888888"}
_MECHANISMS = {
    ("disappearance", "appearance"): "#c4552d",
    ("merging", "splitting"): "#3d8b4f",
    ("alignment", "crossing"): "#2b6ca3",
    ("folding",): "#888888",
}
_FIRST_STEP = 10


def draw_regions(evidence: Evidence) -> Figure:
    """Draw a row for each task. Thin lines are seeds, thick ones medians; dotted: the training set is fitted."""
    figure, axes = plt.subplots(2, 6, figsize=(21, 6.6), layout="constrained")
    for row, name in zip(axes, PERCEPTRONS, strict=True):
        runs, controls = evidence.ours(name), evidence.ours(control_of(name))
        both = ((runs, _RUNS, "runs"), (controls, _CONTROLS, "controls"))
        for one, colour, label in both:
            _seeds(row[0], one.curves["test_accuracy"], colour, f"test, {label}")
            _seeds(row[1], one.measured("linear_regions_mean", split="train"), colour, label)
            accuracy = one.measured("robustness_accuracy", split="train", perturbation="worst")
            _seeds(row[4], accuracy, colour, label)
        _seeds(row[0], runs.curves["train_accuracy"], _FITTED, "train, runs")
        for split, colour in _PLACES.items():
            if split != "midpoint":
                _seeds(row[2], runs.measured("linear_regions_mean", split=split), colour, split)
            _seeds(row[3], runs.measured("local_complexity_total", split=split), colour, split)
        _mechanisms(row[5], runs)
        for ax in row:
            ax.set_xscale("log")
            for step in runs.fitted:
                ax.axvline(step, color=_FITTED, lw=0.6, ls=":")
        row[0].set_ylabel(name)
    titles = (
        "accuracy",
        "regions, slices at training inputs",
        "regions by place, runs",
        "local complexity by place, runs",
        "accuracy of perturbed training inputs",
        "net change of regions since fitting, runs",
    )
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=10)
        ax.legend(fontsize=7)
    for ax in axes[1]:
        ax.set_xlabel("step")
    return figure


def _seeds(ax: Axes, array: xr.DataArray, colour: str, label: str) -> None:
    """Draw all runs as thin lines, and their median."""
    late = array.where(array["step"] >= _FIRST_STEP, drop=True).transpose("run", "step")
    ax.plot(late["step"], late.values.T, color=colour, lw=0.4, alpha=0.6)
    ax.plot(late["step"], np.nanmedian(late.values, 0), color=colour, lw=1.6, label=label)


def _mechanisms(ax: Axes, one: RecordedRuns) -> None:
    """Draw the sums of the changes by each mechanism less its reverse, slices at training inputs."""
    changes = one.probes["linear_regions_change"].sel(split="train").sum("layer").mean("slice")
    later = changes.where(changes["step"] > xr.DataArray(one.fitted, dims="run"), 0)
    for names, colour in _MECHANISMS.items():
        total = later.sel(mechanism=list(names)).sum("mechanism").cumsum("step").assign_coords(step=changes["step"])
        _seeds(ax, total, colour, " less ".join(names))
    ax.axhline(0, color="k", lw=0.5)
