"""Figures of the theory, and of the sampled networks beside it."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from probe.plots.style import DARK, FONT, PHASES as SHADES, STYLES, WIDTH
from reference.theory.first_order.closed_forms import modular_transitions, teacher_transition
from reference.theory.first_order.common import PHASES
from reference.theory.first_order.modular import ModularAddition
from reference.theory.first_order.sweep import sweep_modular, sweep_teacher
from reference.theory.first_order.teacher import CubicTeacher, solve_teacher

_LINEAR, _CUBIC = "#0072b2", "#d55e00"
_FILLS = tuple(colour for _, colour in (SHADES[1], SHADES[0], SHADES[2]))  # GFL, GMFL-I, GMFL-II


def draw_actions(teacher: CubicTeacher, noises: Iterable[float]) -> Figure:
    """Draw S(q) at several noises, at the size of ``teacher`` and at 1000 times this size."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained", sharey=True)
    q, noises = np.linspace(-1.3, 1.3, 521), list(noises)
    for ax, factor in zip(axes, (1, 1000), strict=True):
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(noises)))
        for noise, colour, style in zip(noises, colours, cycle(STYLES), strict=False):
            solution = solve_teacher(replace(teacher, noise=noise).scaled(factor))
            d = solution.teacher.dimension
            ax.plot(q, solution.action(q) / d, color=colour, ls=style, label=f"$\\sigma^2$ = {noise:g}")
        ax.axhline(0, color=DARK, lw=0.6)
        ax.set(
            xlim=(-1.3, 1.3),
            ylim=(-0.02, 0.2),
            xlabel="overlap $q = w \\cdot w^*$",
            title=f"d = {d:,.0f}, N = {solution.teacher.width:,.0f}",
        )
    axes[0].set_ylabel("action S(q) / d")
    axes[0].legend(frameon=False, fontsize=FONT)
    return figure


def draw_phases(teacher: CubicTeacher, noises: Iterable[float], widths: Iterable[float]) -> Figure:
    """Draw the phases over noise and width, with the transition at infinite dimension as a line."""
    noises, widths = np.sort(list(noises)), np.sort(list(widths))
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), layout="constrained", sharey=True)
    for ax, factor in zip(axes, (1, 1000), strict=True):
        # scaled(factor) keeps u and k, so the label is the width before scaling
        rows = [sweep_teacher(replace(teacher, width=width).scaled(factor), noises)["phase"].values for width in widths]
        codes = np.array([[PHASES.index(phase) for phase in row] for row in rows])
        ax.pcolormesh(noises, widths, codes, cmap=ListedColormap(_FILLS), vmin=-0.5, vmax=2.5, shading="nearest")
        critical = [teacher_transition(replace(teacher, width=width)).noise for width in widths]
        ax.plot(critical, widths, color=DARK, lw=1.5)
        ax.set(xlabel="noise $\\sigma^2$", xlim=(noises[0], noises[-1]), ylim=(widths[0], widths[-1]),
               title=f"d = {teacher.scaled(factor).dimension:,.0f}")  # fmt: skip
    handles: list[Artist] = [Rectangle((0, 0), 1, 1, color=colour) for colour in _FILLS[:2]]
    handles.append(Line2D([], [], color=DARK))
    axes[1].legend(handles, ["GFL", "GMFL-I (mixed)", "transition for infinite d"], fontsize=FONT)
    axes[0].set_ylabel("width N")
    axes[1].set_ylabel("width N / 1,000")
    return figure


def draw_learned(summary: xr.Dataset, teacher: CubicTeacher) -> Figure:
    """Draw learned fractions of sampled networks over the noise, beside the theory at their size and at a large one."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), layout="constrained")
    noises = np.linspace(0.9 * float(summary["noise"].min()), 1.05 * float(summary["noise"].max()), 60)
    finite, large = sweep_teacher(teacher, noises), sweep_teacher(teacher.scaled(8000), noises)
    critical = teacher_transition(teacher).noise
    for ax, part, colour in zip(axes, ("linear", "cubic"), (_LINEAR, _CUBIC), strict=True):
        name = f"learned_{part}"
        ax.plot(noises, finite[name], color=colour, label=f"theory, d = {teacher.dimension:.0f}")
        ax.plot(
            noises, large[name], color=colour, ls="--", lw=1, label=f"theory, d = {teacher.scaled(8000).dimension:,.0f}"
        )
        _points(ax, summary, name, colour)
        ax.axvline(critical, color=DARK, lw=0.8, ls=":", label="transition for infinite d")
        ax.set(xlabel="noise $\\sigma^2$", ylabel=f"learned fraction, {part} part", ylim=(0, None))
        ax.legend(frameon=False, fontsize=FONT)
    return figure


def draw_modular(summary: xr.Dataset, task: ModularAddition) -> Figure:
    """Draw the learned fraction of sampled networks of modular addition, beside the theory with both factors F."""
    figure, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    noises = np.linspace(0.8 * float(summary["noise"].min()), 1.1 * float(summary["noise"].max()), 60)
    for factor, style, label in ((None, "-", "theory, F = 4 P²"), (1.0, "--", "theory, F = 1 as printed")):
        found = sweep_modular(replace(task, kernel_factor=factor), noises)
        ax.plot(noises, 1 + found["discrepancy"], color=_LINEAR, ls=style, label=label)
    _points(ax, summary, "learned", _CUBIC)
    ax.axvline(modular_transitions(task).noise_first, color=DARK, lw=0.8, ls=":", label="first transition, closed form")
    ax.locator_params("x", nbins=5)
    ax.set(xlabel="noise $\\sigma^2$", ylabel="learned fraction 1 + a", ylim=(0, 1))
    ax.legend(frameon=False, fontsize=FONT)
    return figure


def _points(ax: Axes, summary: xr.Dataset, name: str, colour: str) -> None:
    ax.errorbar(summary["noise"], summary[name], 2 * summary[f"{name}_se"], fmt="o", ms=4, color=colour, mfc="white",
                label="networks, 2 standard errors")  # fmt: skip
