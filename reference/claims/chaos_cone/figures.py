"""Figures of our recordings: maps over (t0, t1), growth, tangent kernels, transitions, and linearised training."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe import plots
from probe.plots.steps import scale_steps
from probe.plots.style import DARK, FONT, WIDTH
from reference.claims.chaos_cone.coincidence import NAMES
from reference.claims.chaos_cone.configurations import CONVOLUTIONAL, MOMENTUM
from reference.claims.chaos_cone.evidence import Evidence, Recording
from reference.claims.recorded import last

_MAPS = {  # variable: transition, label
    "map_barrier": ("barrier", "barrier of the\ntest loss (nats)"),
    "map_disagreement": ("disagreement", "share of test inputs\nthat disagree"),
    "map_angle": (None, "1 - cosine of\nthe parameters"),
}
_COLOURS = {
    "barrier": "#d55e00",
    "disagreement": "#a07000",
    "chaos_end": "#b0528f",
    "cone": "#0072b2",
    "fit_end": "#00805f",
    "signal_to_noise": "#4d4d4d",
    "learning_rate": "#6b6b6b",
    "linearised": "#2077a8",
}
_FIRST = 0.5  # where step 0 is drawn in the figure of transitions


def draw_maps(evidence: Evidence) -> Figure:
    """Draw the median over seeds of barriers, disagreements and angles. A triangle is the transition of a seed."""
    recordings = evidence.all()
    size = WIDTH, 2.6 * len(recordings) + 0.6
    figure, axes = plt.subplots(len(recordings), len(_MAPS), figsize=size, layout="constrained", squeeze=False)
    for row, one in zip(axes, recordings, strict=True):
        for ax, (variable, (transition, _)) in zip(row, _MAPS.items(), strict=True):
            steps = [found.step for found in one.transitions[transition]] if transition else None
            steps = None if steps is None or np.isnan(steps).all() else steps
            plots.perturbation_map(one.map(variable), transitions=steps, label=" ", ax=ax)
            ax.set(title="", xlabel="step t0" if row is axes[-1] else "", ylabel="")
            ax.tick_params(axis="x", rotation=90)
            if ax.get_legend():
                ax.get_legend().remove()
        row[0].set_ylabel(f"{one.name}\nstep t1")
    for ax, (_, label) in zip(axes[0], _MAPS.values(), strict=True):
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        ax.annotate(label, (0.5, 1), (0, 30), ha="center", va="bottom", **place)
    figure.suptitle("medians of the seeds; a triangle is the transition of one seed", fontsize=10)
    return figure


def draw_growth(evidence: Evidence) -> Figure:
    """Draw the growth of perturbations over a window, and learning rate times sharpness, two recordings in a row."""
    recordings = evidence.all()
    rows = -(-len(recordings) // 2)
    size = WIDTH, 4.9 * rows
    figure, axes = plt.subplots(
        2 * rows, 2, figsize=size, layout="constrained", squeeze=False, height_ratios=[3, 2] * rows
    )
    for k, one in enumerate(recordings):
        pair = list(axes[2 * (k // 2) : 2 * (k // 2) + 2, k % 2])
        plots.growth(one.series, momentum=MOMENTUM if one.name in CONVOLUTIONAL else None, axes=pair)
        pair[0].set_title(one.name, fontsize=11)
        pair[0].set(xlabel="", xlim=pair[1].get_xlim())
        if k and pair[0].get_legend():
            pair[0].get_legend().remove()
    for ax in axes.flat[2 * len(recordings) :]:
        ax.remove()
    return figure


def draw_kernels(evidence: Evidence) -> Figure:
    """Draw the distances between tangent kernels before the first drop of the learning rate, medians over seeds."""
    recordings = evidence.all()
    rows = -(-len(recordings) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 4.5 * rows), squeeze=False, layout="constrained")
    for ax, one in zip(axes.flat, recordings, strict=False):
        early = one.series.sel(step=slice(None, min(one.first_part)))
        plots.kernel_distances(early, split="train", ax=ax)
        ax.set_ylabel(f"{one.name}\n{ax.get_ylabel()}")
    for ax in axes.flat[len(recordings) :]:
        ax.remove()
    return figure


def draw_transitions(evidence: Evidence) -> Figure:
    """Draw all transitions of each seed. A line is an interval, an arrow a transition after the end of its record."""
    recordings = evidence.all()
    rows = -(-len(recordings) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 3.4 * rows), sharey=True, layout="constrained", squeeze=False)
    for ax, one in zip(axes.flat, recordings, strict=False):
        for row, (name, colour) in enumerate(_COLOURS.items()):
            _draw_row(ax, one, name, row, colour)
        ax.set(xscale="log", xlim=(_FIRST, 1.15 * one.last_step), xlabel="step", title=one.name)
        ax.grid(axis="y", lw=0.4, alpha=0.5)
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(_COLOURS)), [NAMES[name] for name in _COLOURS], fontsize=FONT)
        ax.set_ylim(len(_COLOURS) - 0.5, -0.5)
    for ax in axes.flat[len(recordings) :]:
        ax.remove()
    return figure


def _draw_row(ax: Axes, one: Recording, name: str, row: int, colour: str) -> None:
    """Draw one transition of all seeds, and count the seeds without it."""
    marker = one.markers.sel(marker=name)
    heights = row + np.linspace(-0.3, 0.3, one.n_runs)
    style: dict[str, Any] = {"color": colour, "ms": 5}
    found = marker["status"].values == "found"
    step, lower, upper = (np.maximum(marker[part].values[found], _FIRST) for part in ("step", "lower", "upper"))
    ax.hlines(heights[found], lower, upper, color=colour, lw=1.2, alpha=0.6)
    ax.plot(step, heights[found], "o", **style)
    for status, at, shape in (("right_censored", one.end_of(name), ">"), ("left_censored", _FIRST, "<")):
        there = marker["status"].values == status
        if there.any():  # the layout would make room at (0, 0) for a line without points that is not clipped
            ax.plot(np.full(there.sum(), at), heights[there], shape, mfc="white", clip_on=False, **style)
    others = [str(word).replace("_", " ") for word in marker["status"].values if "censored" not in word]
    words = [f"{others.count(word)} {word}" for word in sorted({*others} - {"found"})]
    right = 0.9 if (marker["status"].values == "right_censored").any() else 0.98  # beside their triangles
    ax.text(right, row, ", ".join(words), transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=8)


def draw_linearised(evidence: Evidence) -> Figure:
    """Draw the test accuracy of linearised training over its start t0, and that of the full training (dotted).

    The dotted line is the median over seeds of the mean of the last three observations, as in the table.
    """
    recordings = evidence.all()
    rows = -(-len(recordings) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, 2.6 * rows), layout="constrained", squeeze=False)
    for ax, one in zip(axes.flat, recordings, strict=False):
        t0, colour = one.linearised["t0"].values, _COLOURS["linearised"]
        ax.plot(t0, one.linearised.values.T, color=colour, lw=0.7, alpha=0.5, marker=".", ms=4)
        ax.plot(t0, one.linearised.median("run"), color=colour, lw=2, label="linearised from t0")
        full = np.median(last(one.series["test_accuracy"].transpose("run", "step")).values)
        ax.axhline(full, color=DARK, ls=":", label="full training")
        scale_steps(ax, t0)
        ax.set(xlabel="step t0", title=one.name)
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy at the end")
    axes.flat[0].legend(fontsize=FONT)
    for ax in axes.flat[len(recordings) :]:
        ax.remove()
    return figure


FIGURES: dict[str, Callable[[Evidence], Figure]] = {
    "chaos_cone_maps": draw_maps,
    "chaos_cone_growth": draw_growth,
    "chaos_cone_kernels": draw_kernels,
    "chaos_cone_transitions": draw_transitions,
    "chaos_cone_linearised": draw_linearised,
}
