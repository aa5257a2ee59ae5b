"""Figures of the tests of order."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from probe.plots.style import DARK, FONT, WIDTH
from reference.theory.first_order.free_length import solve_free_length
from reference.theory.first_order.teacher import solve_teacher
from reference.theory.order.analysis import OrderTests, overlaps, settings_of

_LINEAR, _CUBIC = "#0072b2", "#d55e00"


def draw_order(recorded: xr.Dataset, found: OrderTests) -> dict[str, Figure]:
    """Return the figures of the tests of order by name."""
    return {
        "overlaps": draw_overlaps(recorded),
        "barriers": draw_barriers(found),
        "loops": draw_loops(recorded, found),
    }


def draw_overlaps(recorded: xr.Dataset) -> Figure:
    """Draw minus the log density of the overlaps of each size, beside both actions."""
    settings = settings_of(recorded)
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5), layout="constrained", sharex=True)
    edges = np.linspace(0, 1.5, 39)
    middle = (edges[1:] + edges[:-1]) / 2
    for ax, d in zip(axes.flat, settings.sizes, strict=False):
        teacher, samples = settings.teacher(d), np.abs(overlaps(recorded.histogram.sel(dimension=d)))
        counts = np.histogram(samples, edges)[0]
        shown = counts >= 5
        ax.plot(
            middle[shown], -np.log(counts[shown] / counts[0]), "o", ms=3, color=_CUBIC, mfc="white", label="networks"
        )
        for solution, style, label in (
            (solve_free_length(teacher), "-", "theory, free length"),
            (solve_teacher(teacher), "--", "theory, paper's action"),
        ):
            curve = solution.action(middle)
            ax.plot(middle, curve - curve[0], color=_LINEAR, ls=style, lw=1.2, label=label)
        ax.set(title=f"d = {d}, N = {teacher.width:.0f}", ylim=(-0.5, 9))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    for ax in axes[:, 0]:
        ax.set_ylabel("-log density (nats)")
    for ax in axes[-1]:
        ax.set_xlabel("overlap |q|")
    return figure


def draw_barriers(found: OrderTests) -> Figure:
    """Draw barriers and log rates against d, with the theory and with lines."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained")
    b, table = found.barriers, found.table
    ax = axes[0]
    errors = np.array([b.barriers - b.lower, b.upper - b.barriers])
    ax.errorbar(b.sizes, b.barriers, errors, fmt="o", ms=4, color=_CUBIC, mfc="white", label="networks, 90 %")
    c = found.control
    ax.plot(c.sizes, c.barriers, "s", ms=4, color=DARK, mfc="white", label="before the transition")
    ax.plot(table.dimension, table.barrier, color=_LINEAR, label="theory, free length")
    ax.plot(table.dimension, table.paper_barrier, color=_LINEAR, ls="--", label="theory, paper's action")
    ax.set(xlabel="dimension d", ylabel="barrier log(peak / antimode) (nats)")
    ax.legend(frameon=False, fontsize=FONT)
    for name, colour, mark, label in (("up", _LINEAR, "o", "to the droplet"), ("down", _CUBIC, "s", "back")):
        rate, error = table[f"rate_{name}"], table[f"rate_{name}_log_se"]
        slope, se, _ = found.slopes[name]
        axes[1].errorbar(table.dimension, rate, 1.64 * rate * error, fmt=mark, ms=4, color=colour, mfc="white",
                         label=f"{label}: slope {slope:.3f} ({1000 * se:.0f})")  # fmt: skip
        line = np.exp(np.average(np.log(rate), weights=error**-2.0)
                      + slope * (table.dimension - np.average(table.dimension, weights=error**-2.0)))  # fmt: skip
        axes[1].plot(table.dimension, line, color=colour, lw=1)
    axes[1].set(yscale="log", xlabel="dimension d", ylabel="hops of a neuron per step")
    axes[1].legend(frameon=False, fontsize=FONT)
    return figure


def draw_loops(recorded: xr.Dataset, found: OrderTests) -> Figure:
    """Draw the sweeps of each size, and the areas of the loops against the rate."""
    dimensions = recorded.loop_dimension.values
    figure, grid = plt.subplots(2, -(-(len(dimensions) + 1) // 2), figsize=(WIDTH, 6), layout="constrained")
    axes = grid.ravel()
    steps = recorded.loop_steps.values
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(steps)))
    for ax, d in zip(axes, dimensions, strict=False):
        for n, colour in zip(steps, colours, strict=True):
            one = recorded.sel(loop_dimension=d, loop_steps=n)
            ax.plot(one.noise, one.up.mean("loop_run"), color=colour, lw=1.2, label=f"{n:,.0f} steps")
            ax.plot(one.noise, one.down.mean("loop_run"), color=colour, lw=1.2, ls="--")
        ax.set(xlabel="noise $\\sigma^2$ over that at u = 6", title=f"d = {d:.0f}", ylim=(0, None))
        ax.set_ylabel("share of specialised neurons")
    axes[0].legend(frameon=False, fontsize=FONT, title="solid: up, dashed: down", title_fontsize=FONT)
    for d, colour, mark in zip(dimensions, (_LINEAR, _CUBIC, DARK), "osD", strict=False):
        loop = found.loops[int(d)]
        axes[-1].errorbar(loop.rates, loop.areas, 1.64 * loop.errors, fmt=f"{mark}-", ms=4, lw=1, color=colour,
                          mfc="white", label=f"d = {d:.0f}: {loop.status}")  # fmt: skip
    axes[-1].axhline(0, color=DARK, lw=0.6)
    axes[-1].set(xscale="log", xlabel="rate of the noise per step", ylabel="area of the loop")
    axes[-1].xaxis.set_minor_formatter(NullFormatter())
    axes[-1].legend(frameon=False, fontsize=FONT, loc="upper left")
    return figure
