"""Steps of the markers of all runs, one row per marker."""

import re
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sklearn.utils.validation import check_is_fitted

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.names import marker_colours, marker_labels
from probe.plots.steps import axis_name, scale_steps
from probe.plots.style import FONT, background, faint, line_colour, text_colour

_NOT_RECORDED = re.compile(r"no variable for \w+; a \w+ records it")
# End of the record (index) and direction of the arrow of a censored marker.
_ARROWS = {"left_censored": (0, "<"), "right_censored": (-1, ">")}


@closes_on_error
def alignment(detector: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the step of each marker in each run, to compare the markers.

    There is one row per marker, without those on curves that only a probe records, and none did. A point is a run, with
    the interval of the marker; an arrow at an end of the record is a run whose marker lies outside the record. The
    other runs (absent, undecided, undefined) are counted at the right. The tick below the runs is their median, the bar
    its 90 % interval. A median of fewer than 5 runs has no interval, and no bar; an arrow at the end of a bar is an
    interval that extends beyond the record.

    Parameters
    ----------
    detector : PhaseDetector
        Fitted.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from probe import PhaseDetector, plots
    >>> steps = np.arange(1, 60)
    >>> curves = {"step": steps, "train_accuracy": np.minimum(1, steps / 20), "test_accuracy": steps / 59}
    >>> ax = plots.alignment(PhaseDetector(chance=0.1).fit(curves))
    >>> ax.get_yticklabels()[0].get_text()
    'fit end'
    """
    check_is_fitted(detector)
    ax = new_axes(ax)
    markers, across, steps = _listed(detector.markers_), detector.across_, detector.phases_["step"].values.astype(float)
    colours = {name: line_colour(colour, ax) for name, colour in marker_colours(markers).items()}
    record = steps[[0, -1]]
    scale_steps(ax, steps)
    for row, (name, colour) in enumerate(colours.items()):
        ax.axhspan(row - 0.5, row + 0.5, color=faint(ax), alpha=0.1 * (row % 2), lw=0, zorder=-3)
        _draw_runs(ax, markers.sel(marker=name), row, colour, record)
        if across is not None and across["status"].sel(marker=name) == "found":
            _draw_median(ax, across.sel(marker=name), row + 0.3, colour, record)
    ax.set_xlim(*record)
    ax.set_xlabel(axis_name(detector.phases_))
    ax.set_yticks(range(len(colours)), [marker_labels(markers)[name] for name in colours])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(colours) - 0.5, -0.5)  # the first marker on top
    handles = _legend_of(ax, markers, across)
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=FONT, frameon=False)
    return ax


def _listed(markers: xr.Dataset) -> xr.Dataset:
    """Return the markers without those whose curve only a probe records, and none did."""
    if "reason" not in markers:
        return markers
    reasons = markers["reason"].isel(run=0).values.tolist()
    return markers.isel(marker=[i for i, reason in enumerate(reasons) if not _NOT_RECORDED.fullmatch(reason)])


def _draw_runs(ax: Axes, marker: xr.Dataset, row: int, colour: str, record: np.ndarray) -> None:
    """Draw points and arrows, and write the number of runs without a step."""
    status, n = marker["status"].values, marker.sizes["run"]
    heights = row + (np.linspace(-0.38, 0.1, n) if n > 1 else np.zeros(1))  # with space for the median below
    size = 5 if n <= 10 else 3
    found = status == "found"
    step, lower, upper = (np.maximum(marker[name].values[found], record[0]) for name in ("step", "lower", "upper"))
    ax.hlines(heights[found], lower, upper, color=colour, lw=1.2, alpha=0.6)
    # The layout would make room at (0, 0) for a line without points that is not clipped.
    if found.any():
        ax.plot(step, heights[found], "o", ms=size, color=colour, mec=background(ax), mew=0.5, clip_on=False)
    for word, (end, shape) in _ARROWS.items():
        at = heights[status == word]
        style: dict[str, Any] = {"ms": size + 1, "mfc": background(ax), "mec": colour, "mew": 1.2, "zorder": 3}
        if len(at):
            ax.plot(np.full(len(at), record[end]), at, shape, clip_on=False, **style)
    words, counts = np.unique(status[~found & ~np.isin(status, list(_ARROWS))], return_counts=True)
    texts = [str(word).replace("_", " ") for word in words]
    text = "\n".join(f"{count} {word}" if n > 1 else word for word, count in zip(texts, counts, strict=True))
    place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center"}
    ax.text(1.015, row, text, fontsize=FONT, color=text_colour(colour, ax), **place)


def _draw_median(ax: Axes, median: xr.Dataset, height: float, colour: str, record: np.ndarray) -> None:
    """Draw the median, and its interval unless it has no ends; an arrow is an end beyond the record."""
    low, middle, high = (float(median[name]) for name in ("lower", "median", "upper"))
    if low > 0 or np.isfinite(high):
        ends = np.clip([low, high], *record)
        ax.hlines(height, *ends, color=colour, lw=5, alpha=0.45, gid="interval")
        for end, shape, is_open in zip(ends, "<>", (low < record[0], high > record[1]), strict=True):
            if is_open:
                ax.plot(end, height, shape, ms=8, color=colour, alpha=0.6, mew=0, clip_on=False)
    ax.plot(middle, height, "|", ms=11, mew=2.5, color=colour)


def _legend_of(ax: Axes, markers: xr.Dataset, across: xr.Dataset | None) -> list[Line2D]:
    """Return the legend entries of the shapes that occur."""
    grey, behind, status = faint(ax), background(ax), markers["status"].values
    handles = [
        Line2D([], [], color=grey, marker="o", ms=5, mec=behind, lw=1.2, label="one run"),
        Line2D([], [], color=grey, marker=">", ms=6, mfc=behind, lw=0, label="beyond the record"),
        Line2D([], [], color=grey, marker="|", ms=11, mew=2.5, lw=5, alpha=0.45, label="median, 90 %"),
    ]
    medians = across is not None and bool((across["status"] == "found").any())
    occurs = (status == "found").any(), np.isin(status, list(_ARROWS)).any(), medians
    return [handle for handle, shown in zip(handles, occurs, strict=True) if shown]
