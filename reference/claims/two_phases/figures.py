"""Figures of arXiv:2504.12700 with our runs: learning curves, and the information plane by every estimator."""

from collections.abc import Callable

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.phases import estimates_of
from probe.plots.style import COLOURS, DARK, LINES, WIDTH
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
from reference.experiments.drawing import GREY, RUN, draw_seeds, mark_fitted

_CURVES = {
    "train_batch_accuracy": "batch accuracy",
    "test_accuracy": "test accuracy",
    "test_loss": "test loss (nats)",
}
_TASKS = {"division": "division", "s5": "S5"}
_LEARNT = ("paper-division", *DIVISION_RUNS)
_WEIGHTS = "#009e73"
_FIRST_STEP = 100  # before this step, the layers leave their initial state and the information jumps
_COLUMNS = 4  # of the figure of the information
_ESTIMATES = {"information_x": "noise 0.2", "coding_rate": "coding rate", "renyi": "Rényi", "binned": "bins"}


def draw_curves(evidence: Evidence) -> Figure:
    """Draw our seeds (median and range) over the published points of figures 3 and 4."""
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5.4), layout="constrained", sharex="row")
    for row, (task, name) in zip(axes, PAPER_RUNS.items(), strict=True):
        runs = evidence.ours(name).curves
        for ax, (curve, title) in zip(row, _CURVES.items(), strict=True):
            band = runs[curve].where(runs["step"] > 0, drop=True)
            steps = band["step"]
            ax.fill_between(steps, band.min("run"), band.max("run"), alpha=0.3, lw=0, color=RUN)
            ax.plot(steps, band.median("run"), color=RUN, label="our seeds (8 and 6): median and range")
            points = evidence.published[task][curve].dropna("step")
            ax.plot(points["step"], points, ".", color=DARK, ms=4, label="published: points of one run")
            ax.set(xscale="log", ylabel=f"{_TASKS[task]}: {title}")
    for ax in axes[-1]:
        ax.set_xlabel("step")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def draw_information(evidence: Evidence) -> Figure:
    """Draw I(T+n;X) above the paper's weight histograms, for runs that generalise and for controls.

    All panels but the last two pairs have one range of steps, so that the ends of the records are visible. A dashed
    line is the last step that the runs and the shortest controls have in common.
    """
    names = (*_LEARNT, UNITS, *CONTROLS, ALL_ESTIMATORS[0], ALL_ESTIMATORS_CONTROL)
    where = {"split": "train", "layer": evidence.ours(UNITS).layers()[-1]}
    every = [evidence.ours(name).measured("information_x", **where) for name in (*_LEARNT, UNITS, *CONTROLS)]
    common = at_common_steps(*every)[0]["step"].values[-1]
    last = max(one["step"].values[-1] for one in every)
    rows = 2 * -(-len(names) // _COLUMNS)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(WIDTH, 1.75 * rows + 0.4), layout="constrained")
    for k, name in enumerate(names):
        row, column = 2 * (k // _COLUMNS), k % _COLUMNS
        pair = axes[row], axes[row + 1]
        _draw_pair(evidence, name, pair[0][column], pair[1][column])
        for ax in (pair[0][column], pair[1][column]):
            ax.set_xscale("log")
            mark_fitted(ax, evidence.ours(name).fitted)
            if not name.endswith("59"):
                ax.axvline(common, color=GREY, lw=0.9, ls="--")
                ax.set_xlim(_FIRST_STEP, 1.2 * last)
    for row, start in enumerate(axes[:, 0]):
        start.set_ylabel("weights (bits)" if row % 2 else "last block (bits)")
    for ax in axes[-1]:
        ax.set_xlabel("step")
    handles = {text: line for ax in axes[:2, 0] for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_pair(evidence: Evidence, name: str, above: Axes, below: Axes) -> None:
    """Draw the information of one kind of runs, and the entropy of the weights below."""
    one = evidence.ours(name)
    for split in ("train", "test"):
        bits = one.probes["information_x"].sel(split=split, layer=one.layers()[-1])
        look = {"first": _FIRST_STEP, "style": LINES[split]}
        draw_seeds(above, bits, COLOURS[split], f"I(T+n;X), {split} inputs", **look)
    weights = one if HISTOGRAM in one.probes else evidence.ours(f"{name}-kept")
    histogram = weights.measured(HISTOGRAM, parameter=EMBEDDING)
    draw_seeds(below, histogram, _WEIGHTS, "entropy of the histogram of embedding weights", first=_FIRST_STEP)
    control = name in (UNITS, *CONTROLS, ALL_ESTIMATORS_CONTROL)
    above.set_title(f"{'control: ' if control else ''}{name.removeprefix('control-')}", fontsize=10)


def draw_estimators(evidence: Evidence) -> Figure:
    """Draw I(T;X) of the last block by every estimator and noise, on training, test and all inputs."""
    runs = (*ALL_ESTIMATORS, ALL_ESTIMATORS_CONTROL)
    names = list(estimates_of(evidence.ours(runs[0]).probes))
    size = WIDTH, 1.75 * len(names) + 0.6
    figure, axes = plt.subplots(len(names), len(runs), figsize=size, layout="constrained", sharex="col")
    for column, run in zip(axes.T, runs, strict=True):
        one = evidence.ours(run)
        for ax, (name, curves) in zip(column, estimates_of(one.probes).items(), strict=True):
            for split, colour in COLOURS.items():
                if split in curves["split"]:
                    look = {"first": _FIRST_STEP, "style": LINES[split]}
                    draw_seeds(ax, curves.sel(split=split, layer=one.layers()[-1]), colour, f"{split} inputs", **look)
            mark_fitted(ax, one.fitted)
            ax.set(xscale="log")
            if ax in axes[:, 0]:
                ax.set_ylabel(f"{_ESTIMATES.get(name, name)} (bits)")
        column[0].set_title(run, fontsize=10)
        column[-1].set_xlabel("step")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


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
