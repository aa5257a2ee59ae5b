"""Figures of the networks that grok: weights beside accuracies, loops of weight decay, and the boundary of grokking."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from probe.plots.style import DARK, FONT, WIDTH
from probe.stats import Hysteresis
from reference.experiments.first_order_analysis import weight_markers
from reference.experiments.first_order_demo import LAYERS
from reference.experiments.first_order_grokking import BUDGETS, GROKKED, STEPS_PER_VALUE, SWEPT
from reference.experiments.first_order_loops import boundary_table, loop_curves, sweep_loops

_TRAIN, _TEST, _READ_OUT, _WEIGHTS = "#888888", "#0072b2", "#d55e00", "#6a3d9a"
_MARKERS = {"fit_end": "#d55e00", "generalisation_onset": "#e69f00", "end": "#009e73", "mixed": _WEIGHTS}
_LABELS = {"fit_end": "fit end", "generalisation_onset": "generalisation onset", "end": "end", "mixed": "weights mixed"}
_TITLES = {"grokking": "weight decay 1", "no-decay": "no weight decay", "shuffled": "permuted answers"}
_TITLES |= {"demo": "demo", "demo-control": "permuted answers"}
_ROWS = ("accuracy", "share of droplets (lines),\nof mixed seeds (area)", "excess kurtosis")
_VARIABLES = {"sweep": "test accuracy", "collapse": "norm of all parameters"}


def draw_recorded(part: str, recorded: Mapping[str, xr.Dataset]) -> dict[str, Figure]:
    """Return the figures of a part of the command by name, from what it recorded."""
    if part == "grokking":
        return {part: draw_weights(recorded, "fourier_weight_phase", "0", "1")}
    if part == "demo":
        return {part: draw_weights(recorded, "weight_phase", LAYERS[-1], "blocks.1")}
    if part == "boundary":
        return {part: draw_boundary(recorded[part])}
    return {part: draw_loops(recorded, "sweep" if part == "sweeps" else part)}


def draw_weights(recorded: Mapping[str, xr.Dataset], label: str, layer: str, features: str) -> Figure:
    """Draw accuracies, share of droplets and kurtosis over steps, a thin line for each seed, and medians of markers.

    Parameters
    ----------
    recorded
        Runs and controls by name, of one length.
    label : str
        Variable with the phase of the weights.
    layer, features : str
        Layer of the weights, and of the refitted read-out.
    """
    n = len(recorded)
    figure, axes = plt.subplots(
        3, n, figsize=(max(WIDTH * n / 3, 6), 6.4), layout="constrained", sharex="col", sharey="row", squeeze=False
    )
    for column, (name, series) in zip(axes.T, recorded.items(), strict=True):
        _draw_column(column, series, label, layer, features)
        column[0].set(title=_TITLES.get(name, name), xscale="log", xlim=(1, series.step.values[-1] + 1))
        column[2].set_xlabel("step + 1")
    for ax, text in zip(axes[:, 0], _ROWS, strict=True):
        ax.set_ylabel(text)
    curves = {"train": _TRAIN, "test": _TEST, "refitted read-out, test": _READ_OUT}
    figure.legend(
        handles=[Line2D([], [], color=colour, ls=_style(colour), lw=0.8, label=text) for text, colour in curves.items()]
        + [Line2D([], [], color=colour, ls="--", label=_LABELS[name]) for name, colour in _MARKERS.items()],
        loc="outside lower center", ncols=4, frameon=False, fontsize=FONT,
    )  # fmt: skip
    return figure


def _draw_column(column: np.ndarray, series: xr.Dataset, label: str, layer: str, features: str) -> None:
    """Draw the curves and markers of the runs of one kind into its three axes."""
    steps, weights = series.step.values + 1, series.sel(layer=layer, direction=0)
    read_out = series.read_out_accuracy.sel(split="test", layer=features)
    for curve, colour in ((series.train_accuracy, _TRAIN), (series.test_accuracy, _TEST), (read_out, _READ_OUT)):
        _seeds(column[0], steps, curve, colour)
    _seeds(column[1], steps, weights[f"{label}_droplet_fraction"], _WEIGHTS)
    mixed = (weights[label] == 1).mean("run")
    column[1].fill_between(steps, 0, mixed, step="mid", color=_WEIGHTS, alpha=0.15, lw=0)
    _seeds(column[2], steps, weights[f"{label}_kurtosis"], _WEIGHTS)
    _draw_markers(column, weight_markers(series, label, layer, features))


def _seeds(ax: Axes, steps: np.ndarray, curve: xr.DataArray, colour: str) -> None:
    ax.plot(steps, curve.transpose("step", "run").values, color=colour, lw=0.8, ls=_style(colour))


def _style(colour: str) -> str:
    """Return the style of a curve. Dashes keep the accuracy of the network visible."""
    return "--" if colour == _READ_OUT else "-"


def _draw_markers(axes: np.ndarray, markers: xr.Dataset) -> None:
    """Draw the median step of each marker that is found in more than half of the seeds."""
    for name, colour in _MARKERS.items():
        one = markers.sel(marker=name)
        found = one.step.values[one.status.values == "found"]
        if 2 * len(found) > one.sizes["run"]:
            for ax in axes:
                ax.axvline(np.median(found) + 1, color=colour, lw=1, ls="--")


def draw_loops(recorded: Mapping[str, xr.Dataset], kind: str = "sweep") -> Figure:
    """Draw the loops at each rate, and their area over the rate with the area at zero rate."""
    counts = [n for n in STEPS_PER_VALUE if f"{kind}-{n}" in recorded]
    variable = "test_accuracy" if kind == "sweep" else "parameter_norm"
    figure, axes = plt.subplots(1, len(counts) + 1, figsize=(WIDTH, 2.7), layout="constrained")
    for ax, count in zip(axes, counts, strict=False):
        for values, colour in zip(
            loop_curves(recorded[f"{kind}-{count}"], variable, kind), (_TEST, _READ_OUT), strict=True
        ):
            ax.plot(SWEPT[kind], values.T, color=colour, lw=0.7, alpha=0.7)
            ax.plot(SWEPT[kind], values.mean(0), color=colour, lw=1.8)
        ax.set(xscale="log", xlabel="weight decay", title=f"{count} steps a value")
        ax.sharey(axes[0])
        ax.xaxis.set_minor_formatter(NullFormatter())
        if kind == "collapse":  # less than two decades
            ax.set_xticks([10, 20, 50], ["10", "20", "50"])
    axes[0].set_ylabel(_VARIABLES[kind])
    axes[0].legend(handles=[Line2D([], [], color=_TEST, label="up"), Line2D([], [], color=_READ_OUT, label="down")],
                   frameon=False, fontsize=FONT)  # fmt: skip
    _draw_areas(axes[-1], sweep_loops(dict(recorded), variable, kind))
    return figure


def _draw_areas(ax: Axes, found: Hysteresis) -> None:
    """Draw areas with two standard errors, the power law, and the interval at zero rate."""
    ax.errorbar(found.rates, found.areas, 2 * found.errors, fmt="o", color=DARK, ms=4)
    zero, power = found.zero_rate.value, found.exponent.value
    if np.isfinite(power):
        x = np.linspace(0, found.rates[-1], 200)
        slope = (found.areas[-1] - zero) / found.rates[-1] ** power
        ax.plot(x, zero + slope * x**power, color=DARK, lw=0.8)
        ax.plot([0, 0], found.zero_rate[1:3], color=_READ_OUT, lw=3, solid_capstyle="butt")
    ax.axhline(0, color=DARK, lw=0.5)
    ax.set(xlabel="rate, values per step", ylabel="area of the loop", title=found.status)


def draw_boundary(recorded: xr.Dataset) -> Figure:
    """Draw the share of seeds that grok within three budgets, and the step at which each seed groks."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), layout="constrained")
    table, decays = boundary_table(recorded), recorded.weight_decay.values
    for budget, colour, mark in zip(
        BUDGETS, plt.get_cmap("viridis")(np.linspace(0, 0.85, len(BUDGETS))), "osD", strict=True
    ):
        axes[0].plot(decays, table.sel(budget=budget), f"{mark}-", color=colour, ms=4, label=f"{budget:,} steps")
    axes[0].set(xscale="log", xlabel="weight decay", ylabel="share of seeds that grok")
    axes[0].legend(frameon=False, fontsize=FONT, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    reached = recorded.test_accuracy.transpose("weight_decay", "run", "step").values >= GROKKED
    first = np.where(reached.any(-1), recorded.step.values[reached.argmax(-1)].astype(float), np.nan)
    axes[1].plot(decays, first, "o", color=_TEST, ms=4)
    if np.isfinite(first).any():
        middle = int(np.argmin(abs(np.log(decays))))
        axes[1].plot(
            decays,
            np.nanmedian(first[middle]) / decays * decays[middle],
            color=DARK,
            lw=0.8,
            ls=":",
            label="1 / weight decay",
        )
        axes[1].legend(frameon=False, fontsize=FONT)
    axes[1].set(xscale="log", yscale="log", xlabel="weight decay", ylabel=f"first step with test accuracy {GROKKED:g}")
    axes[1].set_ylim(50, 2 * BUDGETS[-1])
    return figure
