"""The legend and the title of an overview."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from probe.plots.lines import band_text
from probe.plots.names import label_text
from probe.plots.shading import found_markers, medians
from probe.plots.style import PHASES, UNKNOWN, faint, line_colour, shade


def legend_of(figure: Figure, series: xr.Dataset, detector: Any, several: bool) -> list[Any]:
    """Return the entries for markers, phases, intervals, and the lines of several runs."""
    handles: list[Any] = []
    ax = figure.axes[0]
    if detector is not None and sum(ax.get_xlabel() != "" for ax in figure.axes) > 1 + several:
        style: dict[str, Any] = {"ls": (0, (1, 1.5)), "lw": 1.1, "marker": "v", "ms": 6}
        lines = medians(detector) if several else found_markers(detector.markers_.isel(run=0))
        handles += [Line2D([], [], color=line_colour(one.colour, ax), label=one.label, **style) for one in lines]
    if detector is not None:
        words = {**PHASES, -1: UNKNOWN} if several else PHASES
        occurring = [phase for phase in words if (detector.phases_ == phase).any()]
        handles += [Patch(color=shade(phase, ax), label=words[phase][0]) for phase in occurring]
        if any(line.get_gid() == "interval" for ax in figure.axes for line in ax.lines):
            handles.append(Line2D([], [], color=faint(ax), lw=4, label="interval of a marker"))
    if text := band_text(series.sizes.get("run", 1)):
        handles.append(Line2D([], [], color=faint(ax), lw=2, label=text))
    return handles


def verdict_text(detector: Any) -> str:
    """Return the sentence of one run, or the number of runs of each class."""
    if not hasattr(detector, "verdict_"):
        return ""
    if detector.verdict_.sizes["run"] == 1:
        return label_text(detector.verdict_["sentence"].values[0], 2000)
    names, counts = np.unique(detector.verdict_["class"].values.astype(str), return_counts=True)
    if len(names) == 1:
        return f"{'Both' if counts[0] == 2 else f'All {counts[0]}'} runs: {label_text(names[0])}"
    order = np.argsort(-counts, kind="stable")
    return f"{counts.sum()} runs: " + ", ".join(f"{counts[i]} {label_text(names[i])}" for i in order)
