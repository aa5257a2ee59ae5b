"""The phases of all runs, one row per run."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from sklearn.utils.validation import check_is_fitted

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.names import label_text, marker_colours, marker_labels, run_name
from probe.plots.steps import step_axis, step_edges
from probe.plots.style import FONT, PHASES, background, ink, line_colour, shade

_MAX_NAMED = 16  # rows with a name of their own
_SHAPES = "o^sDvPX"
_SPREAD = 0.25  # of the markers above and below the middle of a row


@closes_on_error
def phase_strip(detector: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the phases of each run as one row of colours, with its found markers as points.

    Up to 16 rows carry the name of their run and, if the verdicts differ, the class of its verdict at the right. A
    row ends where its run ends. Each marker has its own height in the row, so that none hides another.

    Parameters
    ----------
    detector : PhaseDetector
        Fitted.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    See Also
    --------
    phases : The phases of one run, behind its curves.
    alignment : The markers of all runs, one row per marker.

    Examples
    --------
    >>> import numpy as np
    >>> from probe import PhaseDetector, plots
    >>> steps = np.arange(1, 60)
    >>> accuracies = np.minimum(1, steps / np.array([[10], [20], [40]]))
    >>> ax = plots.phase_strip(PhaseDetector().fit({"step": steps, "train_accuracy": accuracies}))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['0', '1', '2']
    """
    check_is_fitted(detector)
    ax = new_axes(ax)
    n_runs = detector.markers_.sizes["run"]
    _draw_rows(ax, detector)
    handles = _draw_markers(ax, detector.markers_, size=5 if n_runs <= _MAX_NAMED else 3)
    ax.set_ylim(n_runs - 0.5, -0.5)  # the first run on top
    ax.tick_params(axis="y", length=0)
    if n_runs <= _MAX_NAMED:
        ax.set_yticks(range(n_runs), [run_name(run) for run in detector.markers_["run"].values.tolist()])
        _write_classes(ax, detector)
    ax.set_ylabel("run")
    step_axis(ax, detector.phases_, detector.markers_)
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
    if handles:
        place["ncols"] = len(handles) if len(handles) <= 4 else 3
        ax.legend(handles=handles, fontsize=FONT, frameon=False, handletextpad=0.1, columnspacing=1, **place)
    return ax


def _draw_rows(ax: Axes, detector: Any) -> None:
    """Draw the phases between the ends of each run."""
    found, steps = detector.phases_, detector.phases_["step"].values.astype(float)
    first, last = (detector.markers_[name].values[:, None] for name in ("first_step", "last_step"))
    shown = np.ma.masked_where((steps < first) | (steps > last), found.values)
    edges = step_edges(steps)
    colours = ListedColormap([shade(phase, ax) for phase in (-1, *PHASES)])
    rows = np.arange(len(shown) + 1) - 0.5
    ax.pcolormesh(edges, rows, shown, cmap=colours, vmin=-1.5, vmax=2.5, zorder=-2, rasterized=True)
    if len(shown) <= _MAX_NAMED:
        ax.hlines(rows[1:-1], edges[0], edges[-1], color=background(ax), lw=2, zorder=-1)


def _draw_markers(ax: Axes, markers: xr.Dataset, size: float) -> list[Line2D]:
    """Draw the found markers of all runs, and return the entries of the legend."""
    handles = []
    labels, colours = marker_labels(markers), marker_colours(markers)
    shown = [name for name in labels if (markers["status"].sel(marker=name) == "found").any()]
    heights = dict(zip(shown, np.linspace(-_SPREAD, _SPREAD, len(shown)) if len(shown) > 1 else [0.0], strict=False))
    for shape, name in zip(_SHAPES * len(labels), labels, strict=False):
        one = markers.sel(marker=name)
        rows = np.flatnonzero(one["status"].values == "found")
        if len(rows):
            style: dict[str, Any] = {
                "marker": shape,
                "lw": 0,
                "ms": size,
                "color": line_colour(colours[name], ax),
                "mec": background(ax),
                "mew": 0.5,
            }
            ax.plot(one["step"].values[rows], rows + heights[name], **style)
            handles.append(Line2D([], [], label=labels[name], **(style | {"ms": 5})))
    return handles


def _write_classes(ax: Axes, detector: Any) -> None:
    """Write the class of the verdict of each run at the right, if the classes differ."""
    classes = detector.verdict_["class"].values.tolist() if hasattr(detector, "verdict_") else []
    if len({*classes}) == 1:  # as the title of an overview states
        return
    place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center"}
    for row, text in enumerate(classes):
        ax.text(1.02, row, label_text(text), fontsize=FONT, color=ink(ax), **place)
