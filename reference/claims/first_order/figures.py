"""Figures of the sampled networks beside the theory: learned fractions, and overlaps."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.style import DARK, FONT, WIDTH
from reference.claims.first_order.configurations import LEARNED, PRINTED
from reference.claims.first_order.evidence import Evidence, Sampled
from reference.theory import CubicTeacher, ModularAddition, solve_modular, solve_teacher

LINEAR, CUBIC = "#0072b2", "#d55e00"
_MARKS = {LINEAR: "o", CUBIC: "s"}


def missing(ax: Axes, file: str) -> None:
    """Write the name of a missing recording into an empty panel."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"not recorded:\n{file}", ha="center", va="center", transform=ax.transAxes)


def draw_differences(evidence: Evidence) -> Figure:
    """Draw learned fractions of sampled networks over those of the theory. Bars are two standard errors."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), layout="constrained")
    for ax, name, draw in zip(axes, ("sweep", "modular"), (_teacher_ratios, _modular_ratios), strict=True):
        sampled = evidence.sampled(name)
        if sampled is None:
            missing(ax, f"first-order-{name}.nc")
            continue
        draw(ax, sampled)
        ax.axhline(1, color=DARK, lw=0.8)
        ax.axhspan(1 - LEARNED, 1 + LEARNED, color=DARK, alpha=0.08, lw=0)
        ax.set(xlabel="noise $\\sigma^2$", ylabel="learned, networks over theory")
        ax.locator_params("x", nbins=5)
        ax.legend(frameon=False, fontsize=FONT)
    return figure


def _teacher_ratios(ax: Axes, sampled: Sampled) -> None:
    assert isinstance(sampled.task, CubicTeacher)
    for part, colour, shift in (("linear", LINEAR, -0.001), ("cubic", CUBIC, 0.001)):
        name = f"learned_{part}"
        theory = [getattr(solve_teacher(replace(sampled.task, noise=s)), name) for s in sampled.noises]
        _ratios(ax, sampled, name, theory, colour, f"{part} part", shift)
    ax.set_title(f"cubic teacher, d = {sampled.task.dimension:.0f}")


def _modular_ratios(ax: Axes, sampled: Sampled) -> None:
    assert isinstance(sampled.task, ModularAddition)
    for factor, colour, label in ((None, LINEAR, "F = 4 P²"), (PRINTED, CUBIC, "F = 1, as printed")):
        task = replace(sampled.task, kernel_factor=factor)
        theory = [solve_modular(replace(task, noise=s)).learned for s in sampled.noises]
        _ratios(ax, sampled, "learned", theory, colour, f"theory with {label}", 0)
    ax.set(yscale="log", title=f"modular addition, P = {sampled.task.modulus}")


def _ratios(
    ax: Axes, sampled: Sampled, name: str, theory: Sequence[float], colour: str, label: str, shift: float
) -> None:
    """Draw ratios with two standard errors."""
    values = np.array([sampled.means(name, s).values for s in sampled.noises])
    error = 2 * values.std(1, ddof=1) / np.sqrt(values.shape[1])
    y, bars = values.mean(1) / theory, error / np.array(theory)
    ax.errorbar(
        np.array(sampled.noises) + shift, y, bars, fmt=_MARKS[colour], ms=5, color=colour, mfc="white", label=label
    )


def draw_overlaps(evidence: Evidence) -> Figure:
    """Draw the density of the overlaps of sampled neurons at each noise, beside exp(-S) of the theory."""
    sampled = evidence.sampled("sweep")
    n = 1 if sampled is None else len(sampled.noises)
    figure, axes = plt.subplots(1, n, figsize=(WIDTH, 2.9), layout="constrained", sharey=True, squeeze=False)
    if sampled is None:
        missing(axes[0, 0], "first-order-sweep.nc")
        return figure
    for ax, noise in zip(axes[0], sampled.noises, strict=True):
        _density(ax, sampled, noise)
    axes[0, 0].set(yscale="log", ylabel="density of overlaps q", ylim=(1e-3, 10))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _density(ax: Axes, sampled: Sampled, noise: float) -> None:
    assert isinstance(sampled.task, CubicTeacher)
    q = sampled.series["overlaps"].sel(noise=noise).values.ravel()
    counts, edges = np.histogram(q, np.linspace(-1.2, 1.2, 61))
    ax.stairs(counts / len(q) / np.diff(edges), edges, color=CUBIC, fill=True, alpha=0.5, label="networks")
    grid = np.linspace(-1.2, 1.2, 1201)
    weight = np.exp(-solve_teacher(replace(sampled.task, noise=noise)).action(grid))
    density = weight / (weight.sum() * (grid[1] - grid[0]))
    ax.plot(grid, density, color=DARK, lw=1, label="theory")
    normal = np.exp(-(grid**2) / (2 * q.var())) / np.sqrt(2 * np.pi * q.var())
    ax.plot(grid, normal, color=LINEAR, lw=1.2, ls="--", label="Gaussian")
    ax.set(title=f"$\\sigma^2$ = {noise:g}", xlabel="overlap q", xlim=(-1.2, 1.2), xticks=(-1, 0, 1))


FIGURES: dict[str, Callable[[Evidence], Figure]] = {
    "first_order_differences": draw_differences,
    "first_order_overlaps": draw_overlaps,
}
