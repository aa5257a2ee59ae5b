"""Figures of arXiv:2504.12700 with our runs: learning curves, and the information plane by every estimator."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.phases import estimates_of
from reference.claims.recorded import at_common_steps
from reference.claims.two_phases.coarse_graining import NAMES, recorded
from reference.claims.two_phases.configurations import (
    ALL_ESTIMATORS,
    ALL_ESTIMATORS_CONTROL,
    CONTROLS,
    DIVISION_RUNS,
    EMBEDDING,
    HISTOGRAM,
    PAPER_RUNS,
    UNITS,
)
from reference.claims.two_phases.evidence import Evidence
from reference.claims.two_phases.region_figures import draw_regions
from reference.experiments import draw_coarse

_CURVES = {
    "train_batch_accuracy": "training batch, dropout on: accuracy",
    "test_accuracy": "test accuracy",
    "test_loss": "test loss (nats)",
}
_LEARNT = ("paper-division", *DIVISION_RUNS)
_COLOURS = {"train": "#c4552d", "test": "#2b6ca3", "all": "#444444"}
_OURS, _WEIGHTS, _FITTED = "#2b6ca3", "#3d8b4f", "#888888"
_FIRST_STEP = 100  # before this step, the layers leave their initial state and the information jumps


def draw_curves(evidence: Evidence) -> Figure:
    """Draw our seeds (median and range) over the published points of figures 3 and 4."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    for row, (task, name) in zip(axes, PAPER_RUNS.items(), strict=True):
        runs = evidence.ours(name).curves
        for ax, (curve, title) in zip(row, _CURVES.items(), strict=True):
            band = runs[curve].where(runs["step"] > 0, drop=True)
            steps = band["step"]
            ax.fill_between(steps, band.min("run"), band.max("run"), alpha=0.25, lw=0, color=_OURS)
            ax.plot(steps, band.median("run"), color=_OURS, label=f"ours, {runs.sizes['run']} seeds")
            points = evidence.published[task][curve].dropna("step")
            ax.plot(points["step"], points, "k.", ms=4, label="published, one run")
            ax.set(xscale="log", xlabel="step", title=f"{task}: {title}")
    axes[0, 0].legend(fontsize=8)
    return figure


def draw_information(evidence: Evidence) -> Figure:
    """Draw I(T+n;X) above the paper's weight histograms, for runs that generalise and for controls.

    All columns but the last two have one range of steps, so that the ends of the records are visible. A dashed line is
    the last step that the runs and the shortest controls have in common.
    """
    names = (*_LEARNT, UNITS, *CONTROLS, ALL_ESTIMATORS[0], ALL_ESTIMATORS_CONTROL)
    controls = (UNITS, *CONTROLS, ALL_ESTIMATORS_CONTROL)
    figure, axes = plt.subplots(2, len(names), figsize=(2.4 * len(names), 5.4), layout="constrained", sharex="col")
    where = {"split": "train", "layer": evidence.ours(UNITS).layers()[-1]}
    every = [evidence.ours(name).measured("information_x", **where) for name in (*_LEARNT, UNITS, *CONTROLS)]
    common = at_common_steps(*every)[0]["step"].values[-1]
    last = max(one["step"].values[-1] for one in every)
    for column, name in zip(axes.T, names, strict=True):
        one = evidence.ours(name)
        for split in ("train", "test"):
            bits = one.probes["information_x"].sel(split=split, layer=one.layers()[-1])
            _draw_seeds(column[0], bits, _COLOURS[split], f"I(T+n;X), {split}")
        weights = one if HISTOGRAM in one.probes else evidence.ours(f"{name}-kept")
        _draw_seeds(column[1], weights.measured(HISTOGRAM, parameter=EMBEDDING), _WEIGHTS, "weight histogram")
        for ax in column:
            ax.set_xscale("log")
            _mark_fitted(ax, one.fitted)
            if not name.endswith("59"):
                ax.axvline(common, color=_FITTED, lw=0.8, ls="--")
                ax.set_xlim(_FIRST_STEP, 1.2 * last)
        column[0].set_title(f"{'control: ' if name in controls else ''}{name.removeprefix('control-')}", fontsize=9)
        column[1].set_xlabel("step")
    axes[0, 0].set_ylabel("bits, last block")
    axes[1, 0].set_ylabel("bits, embedding weights")
    axes[0, 0].legend(fontsize=7)
    return figure


def draw_estimators(evidence: Evidence) -> Figure:
    """Draw I(T;X) of the last block by every estimator and noise, on training, test and all inputs."""
    runs = (*ALL_ESTIMATORS, ALL_ESTIMATORS_CONTROL)
    names = list(estimates_of(evidence.ours(runs[0]).probes))
    size = 2.6 * len(names), 2.4 * len(runs)
    figure, axes = plt.subplots(len(runs), len(names), figsize=size, layout="constrained", sharex="row")
    for row, run in zip(axes, runs, strict=True):
        one = evidence.ours(run)
        for ax, (name, curves) in zip(row, estimates_of(one.probes).items(), strict=True):
            for split, colour in _COLOURS.items():
                _draw_seeds(ax, curves.sel(split=split, layer=one.layers()[-1]), colour, split)
            _mark_fitted(ax, one.fitted)
            ax.set(xscale="log", title="channel, r = .2" if name == "information_x" else name)
        row[0].set_ylabel(f"{run}, bits")
    axes[0, 0].legend(fontsize=7)
    return figure


def _draw_seeds(ax: Axes, array: xr.DataArray, colour: str, label: str) -> None:
    """Draw all runs as thin lines, and their median."""
    late = array.where(array["step"] >= _FIRST_STEP, drop=True).transpose("run", "step")
    ax.plot(late["step"], late.values.T, color=colour, lw=0.4, alpha=0.6)
    ax.plot(late["step"], np.nanmedian(late.values, 0), color=colour, lw=1.6, label=label)


def _mark_fitted(ax: Axes, steps: np.ndarray) -> None:
    """Draw a dotted line at the end of fitting of each run."""
    for step in steps:
        ax.axvline(step, color=_FITTED, lw=0.6, ls=":")


def draw_flow(evidence: Evidence) -> Figure:
    """Draw accuracies, effective numbers of parameters and classes of modes of all recordings of coarse graining."""
    return draw_coarse({name: recorded(evidence, name) for name in NAMES})


FIGURES: dict[str, Callable[[Evidence], Figure]] = {
    "curves": draw_curves,
    "information": draw_information,
    "readings": draw_estimators,
    "perceptrons": draw_regions,
    "coarse_graining": draw_flow,
}
