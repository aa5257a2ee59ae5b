"""Figures of our recordings: maps over (t0, t1), growth, tangent kernels, transitions, and linearised training."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe import plots
from reference.claims.chaos_cone.coincidence import NAMES
from reference.claims.chaos_cone.configurations import CONVOLUTIONAL, MOMENTUM
from reference.claims.chaos_cone.evidence import Evidence, Recording
from reference.claims.recorded import last

_MAPS = {  # variable: transition, label
    "map_barrier": ("barrier", "barrier of the test loss (nats)"),
    "map_disagreement": ("disagreement", "share of test inputs that disagree"),
    "map_angle": (None, "1 - cosine of the parameters"),
}
_COLOURS = {
    "barrier": "#c4552d",
    "disagreement": "#b0812a",
    "chaos_end": "#7a4fa3",
    "cone": "#2b6ca3",
    "fit_end": "#3d8b4f",
    "signal_to_noise": "#555555",
    "learning_rate": "#888888",
    "linearised": "#0b7a75",
}
_FIRST = 0.5  # where step 0 is drawn on a logarithmic axis


def draw_maps(evidence: Evidence) -> Figure:
    """Draw the median over seeds of barriers, disagreements and angles. A triangle is the transition of a seed."""
    recordings = evidence.all()
    size = 5.6 * len(_MAPS), 4.6 * len(recordings)
    figure, axes = plt.subplots(len(recordings), len(_MAPS), figsize=size, layout="constrained", squeeze=False)
    for row, one in zip(axes, recordings, strict=True):
        for ax, (variable, (transition, label)) in zip(row, _MAPS.items(), strict=True):
            steps = [found.step for found in one.transitions[transition]] if transition else None
            steps = None if steps is None or np.isnan(steps).all() else steps
            plots.perturbation_map(one.map(variable), transitions=steps, label=label, ax=ax)
        row[0].set_ylabel(f"{one.name}\n{row[0].get_ylabel()}")
    return figure


def draw_growth(evidence: Evidence) -> Figure:
    """Draw the growth of perturbations over a window, and learning rate times sharpness."""
    recordings = evidence.all()
    size = 5.2 * len(recordings), 6.4
    figure, axes = plt.subplots(2, len(recordings), figsize=size, layout="constrained", squeeze=False, sharex="col")
    for column, one in zip(axes.T, recordings, strict=True):
        plots.growth(one.series, momentum=MOMENTUM if one.name in CONVOLUTIONAL else None, axes=column)
        column[0].set_title(one.name)
    return figure


def draw_kernels(evidence: Evidence) -> Figure:
    """Draw the distances between tangent kernels before the first drop of the learning rate, medians over seeds."""
    recordings = evidence.all()
    rows = -(-len(recordings) // 2)
    margins = {"left": 0.09, "right": 0.95, "bottom": 0.11, "top": 0.94, "hspace": 0.4, "wspace": 0.25}
    figure, axes = plt.subplots(rows, 2, figsize=(11, 5 * rows), squeeze=False, gridspec_kw=margins)
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
    n = len(recordings)
    margins = {"left": 0.75 / (n + 0.7), "right": 0.97, "bottom": 0.14, "top": 0.9, "wspace": 0.1}
    figure, axes = plt.subplots(1, n, figsize=(3.6 * n + 3, 4.6), sharey=True, gridspec_kw=margins)
    for ax, one in zip(np.atleast_1d(axes), recordings, strict=True):
        for row, (name, colour) in enumerate(_COLOURS.items()):
            _draw_row(ax, one, name, row, colour)
        ax.set(xscale="log", xlim=(_FIRST, 1.15 * one.last_step), xlabel="step", title=one.name)
        ax.grid(axis="y", lw=0.4, alpha=0.5)
    first = np.atleast_1d(axes)[0]
    first.set_yticks(range(len(_COLOURS)), [NAMES[name] for name in _COLOURS])
    first.set_ylim(len(_COLOURS) - 0.5, -0.5)
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
        ax.plot(np.full(there.sum(), at), heights[there], shape, mfc="white", clip_on=False, **style)
    others = [str(word).replace("_", " ") for word in marker["status"].values if "censored" not in word]
    words = [f"{others.count(word)} {word}" for word in sorted({*others} - {"found"})]
    right = 0.9 if (marker["status"].values == "right_censored").any() else 0.98  # beside their triangles
    ax.text(right, row, ", ".join(words), transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=7)


def draw_linearised(evidence: Evidence) -> Figure:
    """Draw the test accuracy of linearised training over its start t0, and that of the full training (dotted).

    The dotted line is the median over seeds of the mean of the last three observations, as in the table.
    """
    recordings = evidence.all()
    figure, axes = plt.subplots(1, len(recordings), figsize=(4 * len(recordings), 3.6), layout="constrained")
    for ax, one in zip(np.atleast_1d(axes), recordings, strict=True):
        t0 = np.maximum(one.linearised["t0"].values.astype(float), _FIRST)
        ax.plot(t0, one.linearised.values.T, color=_COLOURS["linearised"], lw=0.8, alpha=0.6, marker=".")
        ax.plot(t0, one.linearised.median("run"), color=_COLOURS["linearised"], lw=2, label="linearised from t0")
        full = np.median(last(one.series["test_accuracy"].transpose("run", "step")).values)
        ax.axhline(full, color="k", ls=":", label="full training")
        ax.set(xscale="log", xlabel="step t0", title=one.name)
    np.atleast_1d(axes)[0].set_ylabel("test accuracy at the end")
    np.atleast_1d(axes)[0].legend(fontsize=8)
    return figure


FIGURES: dict[str, Callable[[Evidence], Figure]] = {
    "chaos_cone_maps": draw_maps,
    "chaos_cone_growth": draw_growth,
    "chaos_cone_kernels": draw_kernels,
    "chaos_cone_transitions": draw_transitions,
    "chaos_cone_linearised": draw_linearised,
}
