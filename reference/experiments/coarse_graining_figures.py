"""Figure of coarse graining: accuracies, effective numbers of parameters, and modes that grow, stay and shrink."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reference.experiments.coarse_graining_analysis import (
    CLASSES,
    IRRELEVANT,
    KINDS,
    MARGINAL,
    RELEVANT,
    UNDECIDED,
    shares,
)
from reference.experiments.coarse_graining_rules import FIRST_STEP

_RUN, _CONTROL, _DARK, _TRAIN = "#2b6ca3", "#c4552d", "#333333", "#999999"
_COLOURS = {RELEVANT: "#b2182b", MARGINAL: "#e8c15a", IRRELEVANT: "#2166ac", UNDECIDED: "#dddddd"}
_MARKERS = {"fit_end": ":", "test_half": "--"}
_SHOWN = ("fitting", "second")


def draw_coarse(recorded: Mapping[str, xr.Dataset]) -> Figure:
    """Draw runs and controls, a column for each recording: results of `summarise_coarse` by name."""
    n = len(recorded)
    figure, axes = plt.subplots(4, n, figsize=(2.5 * n + 1, 8.6), layout="constrained", squeeze=False)
    for column, (name, series) in zip(axes.T, recorded.items(), strict=True):
        late = series.sel(step=series["step"] >= FIRST_STEP)
        _accuracies(column[0], late)
        for ax, number in zip(column[1:3], ("participation_ratio", "stable_rank"), strict=True):
            _numbers(ax, late[number])
        for ax in column[:3]:
            _mark(ax, series["marker_step"])
            ax.set(xscale="log")
        column[2].set_xlabel("step")
        _classes(column[3], series)
        column[0].set_title(name, fontsize=10)
    labels = ("accuracy", "participation ratio,\nsum of all matrices", "stable rank,\nsum of all matrices")
    for ax, label in zip(axes[:, 0], (*labels, "share of modes"), strict=True):
        ax.set_ylabel(label)
    axes[0, 0].legend(fontsize=7, frameon=False)
    axes[1, 0].legend(fontsize=7, frameon=False)
    handles, names = axes[3, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(CLASSES), fontsize=8, frameon=False)
    return figure


def _accuracies(ax: Axes, series: xr.Dataset) -> None:
    parts = (("train_accuracy", "run", _TRAIN, "training"), ("test_accuracy", "run", _RUN, "test"))
    for name, kind, colour, label in (*parts, ("test_accuracy", "control", _CONTROL, "test, control")):
        _seeds(ax, series[name].sel(kind=kind), colour, label)


def _numbers(ax: Axes, array: xr.DataArray) -> None:
    for kind, colour, label in zip(KINDS, (_RUN, _CONTROL), ("runs", "controls"), strict=True):
        _seeds(ax, array.sel(kind=kind), colour, label)


def _seeds(ax: Axes, array: xr.DataArray, colour: str, label: str) -> None:
    """Draw a thin line for each seed, and their median at the steps that all seeds observed."""
    values = array.transpose("run", "step").values
    for row in values:
        known = np.isfinite(row)
        ax.plot(array["step"].values[known], row[known], color=colour, lw=0.4, alpha=0.6)
    common = np.isfinite(values).all(0)
    ax.plot(array["step"].values[common], np.median(values[:, common], 0), color=colour, lw=1.6, label=label)


def _mark(ax: Axes, markers: xr.DataArray) -> None:
    """Draw the medians of two markers over seeds."""
    for name, style in _MARKERS.items():
        steps = markers.sel(marker=name).values
        if np.isfinite(steps).any():
            ax.axvline(float(np.nanmedian(steps)), color=_DARK, lw=0.8, ls=style)


def _classes(ax: Axes, series: xr.Dataset) -> None:
    """Draw the mean share of each class, for runs and controls in two windows."""
    bars = [(window, kind) for window in _SHOWN for kind in KINDS]
    found = [{label: _mean(values) for label, values in shares(series, *bar).items()} for bar in bars]
    places = np.array([0, 1, 2.4, 3.4])
    bottom = np.zeros(len(bars))
    for label in (IRRELEVANT, MARGINAL, RELEVANT, UNDECIDED):
        heights = np.array([one[label] for one in found])
        ax.bar(places, heights, 0.85, bottom, color=_COLOURS[label], label=CLASSES[label])
        bottom += heights
    ax.set_xticks(places, ["run", "control"] * 2, fontsize=7, rotation=30)
    for x, window in zip((0.5, 2.9), ("while fitting", "after fitting"), strict=True):
        ax.text(x, 1.02, window, ha="center", va="bottom", fontsize=7)
    ax.set_ylim(0, 1.12)


def _mean(values: np.ndarray) -> float:
    """Return the mean of the seeds that have the window, 0 without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
