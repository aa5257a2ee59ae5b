"""Pictures of series: curves, phases, alignment, information plane, one page. Axes in, axes out; no torch.

Every function takes ``ax=None`` and returns the axes it drew on; nothing is shown or saved. Curves over another axis
than steps are drawn as ``PhaseDetector(axis=...)`` keeps them, in ``curves_``.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from sklearn.utils.validation import check_is_fitted

_PHASES = {0: ("fitting", "#fde3c8"), 1: ("after fitting", "#d8e8f6"), 2: ("generalised", "#e0f0dc")}
_COLOURS = {"train": "#c4552d", "test": "#2b6ca3", "all": "#555555"}
_MARKERS = {
    "fit_end": "fit",
    "generalisation_onset": "above chance",
    "descent_onset": "loss turns",
    "compression_onset": "compression",
    "end": "end",
}
_ROWS = ("#c4552d", "#b0812a", "#2b6ca3", "#7a5aa6", "#3d8b4f")  # one colour a marker, for all that is known of it
_ARROWS = {"left_censored": (0, "<"), "right_censored": (-1, ">")}  # which end of the record, which way it points


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _steps(series: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Steps for a logarithmic axis: step 0 stands at one half."""
    steps = series["step"].values.astype(float)
    return np.where(steps == 0, 0.5, steps)


def _axis_name(series: xr.Dataset | xr.DataArray) -> str:
    """What the steps are: "step", or the axis of a PhaseDetector."""
    return str(series["step"].attrs.get("axis", "step"))


def _step_axis(ax: Axes, series: xr.Dataset | xr.DataArray) -> None:
    """Logarithmic, unless the steps are evenly spaced."""
    gaps = np.diff(_steps(series)[1:])
    ax.set_xscale("linear" if len(gaps) > 1 and np.allclose(gaps, gaps[0]) else "log")
    ax.set_xlabel(_axis_name(series))


def curves(
    series: xr.Dataset, names: Sequence[str], *, ax: Axes | None = None, log: bool = False, ylabel: str | None = None
) -> Axes:
    """Variables over step; splits and runs as lines, ``<name>_se`` as a band of two standard errors.

    All runs of a variable and split have one colour, and one line in the legend. A variable with layers is drawn for
    the deepest layer that was measured; ``<name>_ceiling`` is dotted.
    """
    ax = _axes(ax)
    colours: dict[str, Any] = {}  # by what the legend says
    for name in names:
        _draw_variable(ax, series, name, colours, prefix=len(names) > 1)
    first = _deepest(series[names[0]])
    units = str(first.attrs.get("units", "1"))
    ylabel = ylabel or str(first.attrs.get("long_name", names[0]))
    ax.set_ylabel(ylabel if units == "1" else f"{ylabel} ({units})")
    if log:
        ax.set_yscale("log")
    _step_axis(ax, series)
    ax.legend(fontsize=8)
    return ax


def _draw_variable(ax: Axes, series: xr.Dataset, name: str, colours: dict[str, Any], *, prefix: bool) -> None:
    """Lines, bands and ceiling; ``prefix``: the legend names the variable too. ``colours`` grows."""
    array = _deepest(series[name])
    error = _deepest(series[f"{name}_se"]) if f"{name}_se" in series else None
    text = str(array.attrs.get("long_name", name))
    for label, line, band in _lines(array, error):
        told = ", ".join(part for part in (text if prefix else "", label) if part) or text
        colour = _COLOURS.get(label if label in _COLOURS else name.split("_")[0], colours.get(told))
        entry = f"_{told}" if told in colours else told  # matplotlib leaves out what begins with _
        (drawn,) = ax.plot(_steps(line), line, ".-", lw=1.2, ms=3, color=colour, label=entry)
        colours[told] = drawn.get_color()
        if band is not None:
            low, high = line - 2 * band, line + 2 * band
            ax.fill_between(_steps(line), low, high, color=drawn.get_color(), alpha=0.2, lw=0)
    if f"{name}_ceiling" in series:
        for label, line, _ in _lines(_deepest(series[f"{name}_ceiling"]), None):
            ax.plot(_steps(line), line, ":", lw=0.8, color=_COLOURS.get(label, "#888888"), zorder=0)


def _deepest(array: xr.DataArray, layer: Hashable | None = None) -> xr.DataArray:
    """One layer: the given one, or the last that was measured; its name joins the long_name."""
    if "layer" not in array.dims:
        return array
    if layer is None:
        others = [dim for dim in array.dims if dim != "layer"]
        measured = array["layer"].values[array.notnull().any(others).values]
        layer = measured[-1] if len(measured) else array["layer"].values[-1]
    text = array.attrs.get("long_name", array.name)
    return array.sel(layer=layer, drop=True).assign_attrs(array.attrs | {"long_name": f"{text}, {layer}"})


def _lines(array: xr.DataArray, error: xr.DataArray | None) -> list[tuple[str, xr.DataArray, xr.DataArray | None]]:
    """(label, line over step, its error) for each combination of the other dimensions; runs have no label."""
    others = [dim for dim in array.dims if dim != "step"]
    if not others:
        return [("", array, error)]
    stacked = array.stack(_line=others)
    labels = [
        " ".join(str(part) for dim, part in zip(others, value, strict=True) if dim != "run")
        for value in stacked["_line"].values
    ]
    errors = None if error is None else error.stack(_line=others)
    return [
        (label, stacked.isel(_line=i), None if errors is None else errors.isel(_line=i))
        for i, label in enumerate(labels)
    ]


def phases(detector: Any, *, ax: Axes | None = None, run: int = 0, names: bool = True) -> Axes:
    """Shade the phases of a fitted PhaseDetector, and mark what was found with its interval."""
    new = ax is None
    ax = _axes(ax)
    found = detector.phases_.isel(run=run)
    steps = _steps(found)
    edges = np.concatenate([[steps[0]], np.sqrt(steps[1:] * steps[:-1]), [steps[-1]]])
    markers = detector.markers_.isel(run=run)
    for phase, (text, colour) in _PHASES.items():
        inside = np.flatnonzero(found.values == phase)
        if len(inside):
            ax.axvspan(
                edges[inside[0]], edges[inside[-1] + 1], color=colour, zorder=-2, lw=0, label=text if new else None
            )
    found_markers = markers.sel(marker=[name for name in _MARKERS if markers["status"].sel(marker=name) == "found"])
    for i, marker in enumerate(found_markers.sortby("step")["marker"].values):
        one = markers.sel(marker=marker)
        step, lower, upper = (float(one[name]) for name in ("step", "lower", "upper"))
        ax.axvline(step, color="#444444", lw=0.8, ls=":", zorder=-1)
        ax.axvspan(max(lower, steps[0]), upper, color="#444444", alpha=0.08, lw=0, zorder=-1)
        if names:  # in three rows, so that neighbours do not overlap
            text, height = _MARKERS[str(marker)], 1.01 + 0.055 * (i % 3)
            ax.text(step, height, text, transform=ax.get_xaxis_transform(), ha="center", fontsize=7)
    if new:
        ax.set_yticks([])
        ax.legend(fontsize=8)
    _step_axis(ax, found)
    return ax


def alignment(detector: Any, *, ax: Axes | None = None) -> Axes:
    """When each marker of a fitted PhaseDetector came in each run, to see whether they fall together.

    One row a marker. A point is a run, with the interval of the marker; an arrow at an end of the record is a run
    whose marker lies beyond it. Runs without a time (absent, undecided, undefined) are counted at the right. The bar
    below the runs is their median with its 90 % interval, cut off where the record ends.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    """
    check_is_fitted(detector)
    ax = _axes(ax)
    markers, across, record = detector.markers_, detector.across_, _steps(detector.phases_)[[0, -1]]
    names = markers["marker"].values
    for row, name in enumerate(names):
        colour = _ROWS[row % len(_ROWS)]
        ax.axhspan(row - 0.5, row + 0.5, color="#f6f6f6" if row % 2 else "white", lw=0, zorder=-3)
        _draw_runs(ax, markers.sel(marker=name), row, colour, record)
        if across is not None and across["status"].sel(marker=name) == "found":
            _draw_median(ax, across.sel(marker=name), row + 0.3, colour, record)
    ax.set_xscale("log")
    ax.set_xlabel(_axis_name(detector.phases_))
    ax.set_yticks(range(len(names)), [str(name).replace("_", " ") for name in names])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)  # the first marker on top
    ax.margins(x=0.03)
    handles = _legend_of(markers, across)
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8, frameon=False)
    return ax


def _draw_runs(ax: Axes, marker: xr.Dataset, row: int, colour: str, record: np.ndarray) -> None:
    """Points, arrows, and the count of what has no time."""
    status, n = marker["status"].values, marker.sizes["run"]
    heights = row + (np.linspace(-0.38, 0.1, n) if n > 1 else np.zeros(1))  # the median has its place below
    size = 5 if n <= 10 else 3
    found = status == "found"
    step, lower, upper = (np.maximum(marker[name].values[found], record[0]) for name in ("step", "lower", "upper"))
    ax.hlines(heights[found], lower, upper, color=colour, lw=1.2, alpha=0.6)
    ax.plot(step, heights[found], "o", ms=size, color=colour, mec="white", mew=0.5)
    for word, (end, shape) in _ARROWS.items():
        at = heights[status == word]
        ax.plot(np.full(len(at), record[end]), at, shape, ms=size + 1, mfc="white", mec=colour, mew=1.2, zorder=3)
    words, counts = np.unique(status[~found & ~np.isin(status, list(_ARROWS))], return_counts=True)
    told = "\n".join(f"{count} {word}" if n > 1 else word for word, count in zip(words, counts, strict=True))
    ax.text(1.015, row, told, transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=colour)


def _draw_median(ax: Axes, median: xr.Dataset, height: float, colour: str, record: np.ndarray) -> None:
    low, middle, high = (float(np.clip(median[name], *record)) for name in ("lower", "median", "upper"))
    ax.hlines(height, low, high, color=colour, lw=5, alpha=0.45)
    ax.plot(middle, height, "|", ms=11, mew=2.5, color=colour)


def _legend_of(markers: xr.Dataset, across: xr.Dataset | None) -> list[Line2D]:
    """What the shapes mean, of those that occur."""
    grey, status = "#555555", markers["status"].values
    handles = [
        Line2D([], [], color=grey, marker="o", ms=5, mec="white", lw=1.2, label="one run"),
        Line2D([], [], color=grey, marker=">", ms=6, mfc="white", lw=0, label="beyond the record"),
        Line2D([], [], color=grey, marker="|", ms=11, mew=2.5, lw=5, alpha=0.45, label="median, 90 %"),
    ]
    medians = across is not None and bool((across["status"] == "found").any())
    occurs = (status == "found").any(), np.isin(status, list(_ARROWS)).any(), medians
    return [handle for handle, shown in zip(handles, occurs, strict=True) if shown]


def information_plane(series: xr.Dataset, *, split: str = "train", ax: Axes | None = None) -> Axes:
    """I(T+n; Y) against I(T+n; X) of each layer, coloured by step, within what is possible.

    The grey line is I(T+n; Y) = min(I(T+n; X), H(Y)); nothing lies above it. Saturated points are hollow: they say
    only that the noise is too fine to tell. Each layer has a shape and, at its last point, its name.
    """
    ax = _axes(ax)
    splits = [str(label) for label in series["split"].values]
    one = series.sel(split=split if split in splits else splits[0])
    one = one if "run" in one.dims else one.expand_dims("run")
    steps = _steps(one)
    norm = LogNorm(max(steps[0], 0.5), max(steps[-1], 1))
    ceiling = float(one["information_y_ceiling"].max())
    right = 1.05 * max(float(one["information_x"].max()), ceiling)
    ax.plot([0, ceiling, right], [0, ceiling, ceiling], color="#bbbbbb", lw=1, zorder=-1)
    ax.set_ylim(top=1.12 * ceiling)
    ax.text(right, ceiling, "H(Y) ", va="bottom", ha="right", fontsize=8, color="#888888")
    measured = one["layer"].values[one["information_x"].notnull().any(["run", "step"]).values]
    for i, layer in enumerate(measured):
        for run in range(one.sizes["run"]):
            _trajectory(ax, one.isel(run=run).sel(layer=layer), "osD^vP*"[i % 7], plt.get_cmap("viridis")(norm(steps)))
    if ax.figure is not None:
        ax.figure.colorbar(plt.cm.ScalarMappable(norm, "viridis"), ax=ax, label=_axis_name(one), pad=0.02)
    ax.set_xlabel(f"I(T+n;X) (bits), {one['split'].item()}")
    ax.set_ylabel("I(T+n;Y) (bits)")
    return ax


def _trajectory(ax: Axes, here: xr.Dataset, shape: str, colours: np.ndarray) -> None:
    x, y, solid = here["information_x"].values, here["information_y"].values, here["saturated"].values != 1
    ax.plot(x, y, color="#cccccc", lw=0.6, zorder=0)
    ax.scatter(x[solid], y[solid], marker=shape, s=16, c=colours[solid], edgecolors="white", lw=0.3)
    ax.scatter(x[~solid], y[~solid], marker=shape, s=16, facecolors="none", edgecolors=colours[~solid], lw=0.8)
    last = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(last):
        at = (x[last[-1]], y[last[-1]])
        ax.annotate(str(here["layer"].item()), at, (4, -9), textcoords="offset points", fontsize=7)


def overview(series: xr.Dataset, detector: Any = None, *, title: str = "") -> Figure:
    """One page: accuracy, loss, information over step, information plane, local complexity, linear mapping number.

    Panels whose variables are not in the series are left out. A fitted PhaseDetector shades its phases, and says which
    variables are accuracies and losses if they have other names.
    """
    panels = _panels(series, detector)
    plane = {"information_x", "information_y", "split"} <= {*map(str, series.data_vars), *map(str, series.dims)}
    if not panels and not plane:
        raise ValueError(f"none of the variables is known to this page: {', '.join(map(str, series.data_vars))}")
    count = len(panels) + plane
    columns = min(3, count)
    rows = -(-count // columns)
    figure = plt.figure(figsize=(4.6 * columns, 3.5 * rows), layout="constrained")
    for i, (names, ylabel, log) in enumerate(panels):
        ax = figure.add_subplot(rows, columns, i + 1)
        curves(series, names, ax=ax, log=log, ylabel=ylabel)
        if detector is not None:
            phases(detector, ax=ax)
    if plane:
        information_plane(series, ax=figure.add_subplot(rows, columns, count))
    if detector is not None:
        occurring = {int(phase) for phase in np.unique(detector.phases_)} & _PHASES.keys()
        shades = [Patch(color=_PHASES[phase][1], label=_PHASES[phase][0]) for phase in sorted(occurring)]
        shades.append(Patch(color="#dddddd", label="interval of a marker"))
        figure.legend(handles=shades, loc="outside lower center", ncols=len(shades), fontsize=9, frameon=False)
    if title:
        figure.suptitle(title)
    return figure


def _panels(series: xr.Dataset, detector: Any) -> list[tuple[list[str], str | None, bool]]:
    """(variables, label of the axis, logarithmic) of each panel that has any variable."""

    def named(ending: str, *roles: str) -> list[str]:
        wanted = [getattr(detector, role, None) for role in roles]
        of_model = [name for name, array in series.data_vars.items() if "layer" not in array.dims]
        chosen = {*wanted, *(name for name in of_model if str(name).endswith(ending))}
        return [str(name) for name, array in series.data_vars.items() if name in chosen and array.dtype.kind == "f"]

    information = getattr(detector, "information", "information_x")
    single = [information if isinstance(information, str) else "information_x", "local_complexity_total"]
    panels: list[tuple[list[str], str | None, bool]] = [
        (named("_accuracy", "train_accuracy", "test_accuracy"), "accuracy", False),
        (named("_loss", "test_loss"), "loss", True),
        *(([name] if name in series else [], None, False) for name in [*single, "linear_mapping_number"]),
    ]
    return [panel for panel in panels if panel[0]]
