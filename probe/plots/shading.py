"""Phases of one run, as shades behind its curves."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from probe.plots.axes import PHASES, log_steps, marker_labels, new_axes, step_axis


def phases(detector: Any, *, ax: Axes | None = None, run: int = 0, names: bool = True) -> Axes:
    """Shade the phases of one run, and draw its found markers with their intervals.

    Parameters
    ----------
    detector : PhaseDetector
        Fitted.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on, below the curves; by default a new figure.
    run : int
        Index of the run.
    names : bool
        Write the labels of the markers above the axes.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from probe import PhaseDetector, plots
    >>> steps = np.arange(1, 60)
    >>> curves = {"step": steps, "train_accuracy": np.minimum(1, steps / 20), "test_accuracy": steps / 59}
    >>> ax = plots.phases(PhaseDetector(chance=0.1).fit(curves))
    >>> [text.get_text() for text in ax.texts]
    ['above chance', 'fit']
    """
    new = ax is None
    ax = new_axes(ax)
    found = detector.phases_.isel(run=run)
    steps = log_steps(found)
    edges = np.concatenate([[steps[0]], np.sqrt(steps[1:] * steps[:-1]), [steps[-1]]])
    for phase, (text, colour) in PHASES.items():
        inside = np.flatnonzero(found.values == phase)
        if len(inside):
            ax.axvspan(
                edges[inside[0]], edges[inside[-1] + 1], color=colour, zorder=-2, lw=0, label=text if new else None
            )
    _draw_markers(ax, detector, run, steps[0], names)
    if new:
        ax.set_yticks([])
        ax.legend(fontsize=8)
    step_axis(ax, found)
    return ax


def _draw_markers(ax: Axes, detector: Any, run: int, first: float, names: bool) -> None:
    markers = detector.markers_.isel(run=run)
    markers = markers.isel(marker=np.flatnonzero(markers["status"].values == "found")).sortby("step")
    for i, (name, label) in enumerate(marker_labels(markers).items()):
        step, lower, upper = (float(markers[key].sel(marker=name)) for key in ("step", "lower", "upper"))
        ax.axvline(step, color="#444444", lw=0.8, ls=":", zorder=-1)
        ax.axvspan(max(lower, first), upper, color="#444444", alpha=0.08, lw=0, zorder=-1)
        if names:  # in three rows, so that neighbours do not overlap
            ax.text(step, 1.01 + 0.055 * (i % 3), label, transform=ax.get_xaxis_transform(), ha="center", fontsize=7)
