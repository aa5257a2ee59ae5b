"""The phases of one run, as shades behind its curves."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probe.plots.axes import MARKERS, PHASES, log_steps, new_axes, step_axis


def phases(detector: Any, *, ax: Axes | None = None, run: int = 0, names: bool = True) -> Axes:
    """Shade the phases of a fitted PhaseDetector, and mark what was found with its interval."""
    new = ax is None
    ax = new_axes(ax)
    found = detector.phases_.isel(run=run)
    steps = log_steps(found)
    edges = np.concatenate([[steps[0]], np.sqrt(steps[1:] * steps[:-1]), [steps[-1]]])
    markers = detector.markers_.isel(run=run)
    for phase, (text, colour) in PHASES.items():
        inside = np.flatnonzero(found.values == phase)
        if len(inside):
            ax.axvspan(
                edges[inside[0]], edges[inside[-1] + 1], color=colour, zorder=-2, lw=0, label=text if new else None
            )
    found_markers = markers.sel(marker=[name for name in MARKERS if markers["status"].sel(marker=name) == "found"])
    for i, marker in enumerate(found_markers.sortby("step")["marker"].values):
        one = markers.sel(marker=marker)
        step, lower, upper = (float(one[name]) for name in ("step", "lower", "upper"))
        ax.axvline(step, color="#444444", lw=0.8, ls=":", zorder=-1)
        ax.axvspan(max(lower, steps[0]), upper, color="#444444", alpha=0.08, lw=0, zorder=-1)
        if names:  # in three rows, so that neighbours do not overlap
            text, height = MARKERS[str(marker)], 1.01 + 0.055 * (i % 3)
            ax.text(step, height, text, transform=ax.get_xaxis_transform(), ha="center", fontsize=7)
    if new:
        ax.set_yticks([])
        ax.legend(fontsize=8)
    step_axis(ax, found)
    return ax
