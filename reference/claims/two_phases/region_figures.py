"""Figure of the perceptrons: accuracies, regions, local complexity, robustness and mechanisms over training."""

from typing import Any

import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.style import COLOURS, FONT, LINES, WIDTH
from reference.claims.recorded import RecordedRuns
from reference.claims.two_phases.configurations import PERCEPTRONS, control_of
from reference.claims.two_phases.evidence import Evidence
from reference.experiments.drawing import CONTROL, DASHED, DOTTED, GREY, RUN, draw_seeds, mark_fitted

_LOOKS = {  # colour and line of the place of inputs
    "train": (COLOURS["train"], LINES["train"]),
    "midpoint": ("#009e73", DASHED),
    "test": (COLOURS["test"], LINES["test"]),
    "random": (COLOURS["random"], LINES["random"]),
}
_MECHANISMS = {
    ("disappearance", "appearance"): (CONTROL, "-"),
    ("merging", "splitting"): (RUN, DASHED),
    ("alignment", "crossing"): ("#009e73", (0, (7, 1.4, 1.4, 1.4))),
    ("folding",): (GREY, DOTTED),
}
_NAMES = {"perceptrons-division": "division", "perceptrons-digits": "digits"}
_ROWS = (
    "accuracy",
    "linear regions,\nslices at training inputs",
    "linear regions by place,\nruns",
    "local complexity by place,\nruns",
    "accuracy of perturbed\ntraining inputs",
    "net change of regions\nsince fitting, runs",
)
_FIRST_STEP = 10


def draw_regions(evidence: Evidence) -> Figure:
    """Draw a column for each task. Thin lines are seeds, thick ones medians; dotted: the training set is fitted."""
    figure, axes = plt.subplots(6, 2, figsize=(WIDTH, 12.5), layout="constrained", sharex="col")
    for column, name in zip(axes.T, PERCEPTRONS, strict=True):
        runs, controls = evidence.ours(name), evidence.ours(control_of(name))
        for one, colour, label, style in ((runs, RUN, "runs", "-"), (controls, CONTROL, "controls", DASHED)):
            look: dict[str, Any] = {"first": _FIRST_STEP, "style": style}
            draw_seeds(column[0], one.curves["test_accuracy"], colour, f"test, {label}", **look)
            draw_seeds(column[1], one.measured("linear_regions_mean", split="train"), colour, label, **look)
            accuracy = one.measured("robustness_accuracy", split="train", perturbation="worst")
            draw_seeds(column[4], accuracy, colour, label, **look)
        draw_seeds(column[0], runs.curves["train_accuracy"], GREY, "train, runs", first=_FIRST_STEP, style=DOTTED)
        for split, (colour, style) in _LOOKS.items():
            look = {"first": _FIRST_STEP, "style": style}
            if split != "midpoint":
                draw_seeds(column[2], runs.measured("linear_regions_mean", split=split), colour, split, **look)
            draw_seeds(column[3], runs.measured("local_complexity_total", split=split), colour, split, **look)
        _mechanisms(column[5], runs)
        for ax in column:
            ax.set_xscale("log")
            mark_fitted(ax, runs.fitted)
        column[0].set_title(_NAMES.get(name, name), fontsize=11)
        column[-1].set_xlabel("step")
    for (left, right), text in zip(axes, _ROWS, strict=True):
        left.set_ylabel(text)
        handles, labels = left.get_legend_handles_labels()
        right.legend(handles, labels, fontsize=FONT, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _mechanisms(ax: Axes, one: RecordedRuns) -> None:
    """Draw the sums of the changes by each mechanism less its reverse, slices at training inputs."""
    changes = one.probes["linear_regions_change"].sel(split="train").sum("layer").mean("slice")
    later = changes.where(changes["step"] > xr.DataArray(one.fitted, dims="run"), 0)
    for names, (colour, style) in _MECHANISMS.items():
        total = later.sel(mechanism=list(names)).sum("mechanism").cumsum("step").assign_coords(step=changes["step"])
        draw_seeds(ax, total, colour, "\nless ".join(names), first=_FIRST_STEP, style=style)
    ax.axhline(0, color=GREY, lw=0.6)
