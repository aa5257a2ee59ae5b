"""Figure of coarse graining: accuracies, effective numbers of parameters, and modes that grow, stay and shrink."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.style import FONT, WIDTH
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
from reference.experiments.drawing import CONTROL, DASHED, DOTTED, GREY, RUN, draw_seeds

_COLOURS = {RELEVANT: "#d55e00", MARGINAL: "#0072b2", IRRELEVANT: "#009e73", UNDECIDED: "#dddddd"}
_HATCHES = {RELEVANT: "", MARGINAL: "///", IRRELEVANT: "...", UNDECIDED: ""}
_MARKERS = {"fit_end": ":", "test_half": "--"}
_SHOWN = ("fitting", "second")
_KINDS = ((RUN, "runs (test accuracy)", "-"), (CONTROL, "controls (test accuracy)", DASHED))
_COLUMNS = ("accuracy", "participation ratio", "stable rank", "share of modes")


def draw_coarse(recorded: Mapping[str, xr.Dataset]) -> Figure:
    """Draw runs and controls, a row for each recording: results of `summarise_coarse` by name."""
    n = len(recorded)
    figure, axes = plt.subplots(n, 4, figsize=(WIDTH, 1.9 * n + 0.9), layout="constrained", squeeze=False)
    for row, (name, series) in zip(axes, recorded.items(), strict=True):
        late = series.sel(step=series["step"] >= FIRST_STEP)
        _accuracies(row[0], late)
        for ax, number in zip(row[1:3], ("participation_ratio", "stable_rank"), strict=True):
            _numbers(ax, late[number])
        for ax in row[:3]:
            _mark(ax, series["marker_step"])
            ax.set(xscale="log")
        _classes(row[3], series)
        row[0].set_ylabel(name)
    for ax, label in zip(axes[0], _COLUMNS, strict=True):
        ax.set_title(label, fontsize=10)
    for ax in axes[-1, :3]:
        ax.set_xlabel("step")
    handles, names = (a + b for a, b in zip(*(ax.get_legend_handles_labels() for ax in axes[0, [0, 3]]), strict=True))
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=FONT, frameon=False)
    return figure


def _accuracies(ax: Axes, series: xr.Dataset) -> None:
    draw_seeds(ax, series["train_accuracy"].sel(kind="run"), GREY, "train", style=DOTTED)
    for kind, (colour, label, style) in zip(KINDS, _KINDS, strict=True):
        draw_seeds(ax, series["test_accuracy"].sel(kind=kind), colour, label, style=style)


def _numbers(ax: Axes, array: xr.DataArray) -> None:
    for kind, (colour, label, style) in zip(KINDS, _KINDS, strict=True):
        draw_seeds(ax, array.sel(kind=kind), colour, label, style=style)


def _mark(ax: Axes, markers: xr.DataArray) -> None:
    """Draw the medians of two markers over seeds."""
    for name, style in _MARKERS.items():
        steps = markers.sel(marker=name).values
        if np.isfinite(steps).any():
            ax.axvline(float(np.nanmedian(steps)), color=GREY, lw=0.9, ls=style)


def _classes(ax: Axes, series: xr.Dataset) -> None:
    """Draw the mean share of each class, for runs and controls in two windows."""
    bars = [(window, kind) for window in _SHOWN for kind in KINDS]
    found = [{label: _mean(values) for label, values in shares(series, *bar).items()} for bar in bars]
    places = np.array([0, 1, 2.4, 3.4])
    bottom = np.zeros(len(bars))
    for label in (IRRELEVANT, MARGINAL, RELEVANT, UNDECIDED):
        heights = np.array([one[label] for one in found])
        look: dict[str, Any] = {"color": _COLOURS[label], "hatch": _HATCHES[label], "edgecolor": "white", "lw": 0}
        ax.bar(places, heights, 0.85, bottom, label=CLASSES[label], **look)
        bottom += heights
    ax.set_xticks(places, ["run", "ctrl."] * 2, fontsize=8)
    for x, window in zip((0.5, 2.9), ("fitting", "later"), strict=True):
        ax.text(x, 1.02, window, ha="center", va="bottom", fontsize=8)
    ax.set_ylim(0, 1.16)


def _mean(values: np.ndarray) -> float:
    """Return the mean of the seeds that have the window, 0 without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
