"""Phases and markers as shades and lines behind the curves: of one run, or the medians over runs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from sklearn.utils.validation import check_is_fitted

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.labels import explain_ceiling, label_above
from probe.plots.names import marker_colours, marker_labels, run_name
from probe.plots.steps import step_axis, step_edges
from probe.plots.style import FONT, PHASES, background, line_colour, shade

_DASH = 2.5  # widths of the line, from one dot to the next
_TRIANGLE, _LARGER = 7.0, 8.0  # points, of a marker, and by how much the largest of several at one place is larger
_SAME = 0.006  # of the width of the axes, up to which markers are at one place


class _Line(NamedTuple):
    """A marker as it is drawn."""

    name: str
    label: str
    colour: str
    step: float
    lower: float
    upper: float


@closes_on_error
def phases(
    detector: Any, *, ax: Axes | None = None, run: int | None = None, names: bool | Sequence[str] = True
) -> Axes:
    """Shade the phases of one run and draw its found markers, or draw the medians of the markers over runs.

    A marker is a dotted line; the bar at the upper edge of the axes is its interval. The interval of a median is drawn
    from 5 runs on.

    Parameters
    ----------
    detector : PhaseDetector
        Fitted.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on, below the curves; by default a new figure.
    run : int, optional
        Position of the run. By default the only run, or the medians of several runs, without shades; see
        :func:`phase_strip` for the phases of each run.
    names : bool or sequence of str
        Write the labels of all markers, or of these markers, above the axes.

    Returns
    -------
    matplotlib.axes.Axes
        If there are several runs, the label of the x axis states which run is shown, or that medians are shown.

    See Also
    --------
    phase_strip : The phases of all runs, one row per run.

    Examples
    --------
    >>> import numpy as np
    >>> from probe import PhaseDetector, plots
    >>> steps = np.arange(1, 60)
    >>> curves = {"step": steps, "train_accuracy": np.minimum(1, steps / 20), "test_accuracy": steps / 59}
    >>> ax = plots.phases(PhaseDetector(chance=0.1).fit(curves))
    >>> [text.get_text() for text in ax.texts]
    ['generalisation onset', 'fit end']
    """
    check_is_fitted(detector)
    new = ax is None
    ax = new_axes(ax)
    n_runs = detector.markers_.sizes["run"]
    step_axis(ax, detector.phases_, detector.markers_)
    if run is None and n_runs > 1:
        lines, shown = medians(detector), f"markers: median of {n_runs} runs"
    else:
        run = run or 0
        name = run_name(detector.markers_["run"].values.tolist()[run])
        lines, shown = found_markers(detector.markers_.isel(run=run)), f"phases and markers of run {name}"
        _shade(ax, detector.phases_.isel(run=run), labels=new)
    if new:
        ax.set_yticks([])
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=FONT)
    if n_runs > 1:
        first, *rest = ax.get_xlabel().split("\n")
        ax.set_xlabel("\n".join([f"{first} ({shown})", *rest]))
    explain_ceiling(ax)
    record = detector.phases_["step"].values[[0, -1]].astype(float)
    ax.set_xlim(*record)
    _draw_lines(ax, lines, record)
    named = [one for one in lines if names is True or (names and one.name in names)]
    label_above(ax, [one.label for one in named], [one.step for one in named], [one.colour for one in named])
    return ax


def medians(detector: Any) -> list[_Line]:
    """Return the markers with a median over runs; an interval without two ends is NaN."""
    across = detector.across_
    labels, colours = marker_labels(detector.markers_), marker_colours(detector.markers_)
    found = across.isel(marker=across["status"].values == "found").sortby("median")
    rows = zip(*(found[name].values.tolist() for name in ("marker", "median", "lower", "upper")), strict=True)
    return [
        _Line(name, labels[name], colours[name], step, *((low, high) if np.isfinite(high) else (np.nan, np.nan)))
        for name, step, low, high in rows
    ]


def found_markers(markers: xr.Dataset) -> list[_Line]:
    """Return the found markers of one run, in the order of their steps."""
    labels, colours = marker_labels(markers), marker_colours(markers)
    found = markers.isel(marker=markers["status"].values == "found").sortby("step")
    rows = zip(*(found[name].values.tolist() for name in ("marker", "step", "lower", "upper")), strict=True)
    return [_Line(name, labels[name], colours[name], *numbers) for name, *numbers in rows]


def _shade(ax: Axes, found: xr.DataArray, *, labels: bool) -> None:
    edges = step_edges(found["step"].values.astype(float))
    for phase, (text, _) in PHASES.items():
        inside = np.flatnonzero(found.values == phase)
        if len(inside):
            ends = edges[inside[0]], edges[inside[-1] + 1]
            ax.axvspan(*ends, color=shade(phase, ax), zorder=-2, lw=0, label=text if labels else None)


def _draw_lines(ax: Axes, lines: list[_Line], record: np.ndarray) -> None:
    """Draw each marker with its interval: a faint band, and a bar at the upper edge."""
    edge: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "solid_capstyle": "butt"}
    for line, (place, shared) in zip(lines, _places(ax, lines), strict=True):
        colour = line_colour(line.colour, ax)
        dashes = place * _DASH, (1, shared * _DASH - 1)  # lines at one place alternate
        ax.axvline(line.step, color=colour, lw=1.1, ls=dashes, zorder=-1)
        if np.isfinite(line.lower) and np.isfinite(line.upper):
            low, high = np.clip([line.lower, line.upper], *record)
            ax.axvspan(low, high, color=colour, alpha=0.12, lw=0, zorder=-1.5)
            ax.plot([low, high], [1, 1], lw=4, color=colour, zorder=2.5, gid="interval", **edge)
        size = _TRIANGLE + _LARGER * (shared - 1 - place) / max(shared - 1, 2)  # the first one is the largest
        shape: dict[str, Any] = {"ms": size, "color": colour, "mec": background(ax), "mew": 0.7, "gid": "marker"}
        ax.plot(line.step, 1, "v", zorder=2.6, **shape, **edge)


def _places(ax: Axes, lines: Sequence[_Line]) -> list[tuple[int, int]]:
    """Return for each line its number among those at the same place of the axes, and how many these are."""
    ends = np.array([[line.step, 1.0] for line in lines]).reshape(-1, 2)
    x = (ax.transData + ax.transAxes.inverted()).transform(ends)[:, 0]
    groups = np.cumsum(np.diff(x, prepend=-np.inf) > _SAME)
    return [(int((groups[:i] == group).sum()), int((groups == group).sum())) for i, group in enumerate(groups)]
