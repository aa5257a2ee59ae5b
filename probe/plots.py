"""Pictures of series: curves, phases, information plane, and all of it on one page. Axes in, axes out; no torch.

Every function takes ``ax=None`` and returns the axes it drew on; nothing is shown or saved.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

_PHASES = {0: ("fitting", "#fde3c8"), 1: ("after fitting", "#d8e8f6"), 2: ("generalised", "#e0f0dc")}
_COLOURS = {"train": "#c4552d", "test": "#2b6ca3", "all": "#555555"}
_MARKERS = {
    "fit_end": "fit",
    "generalisation_onset": "above chance",
    "descent_onset": "loss turns",
    "compression_onset": "compression",
    "end": "end",
}


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _steps(series: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Steps for a logarithmic axis: step 0 stands at one half."""
    steps = series["step"].values.astype(float)
    return np.where(steps == 0, 0.5, steps)


def _step_axis(ax: Axes, steps: np.ndarray) -> None:
    """Logarithmic, unless the steps are evenly spaced."""
    gaps = np.diff(steps[1:])
    ax.set_xscale("linear" if len(gaps) > 1 and np.allclose(gaps, gaps[0]) else "log")
    ax.set_xlabel("step")


def curves(
    series: xr.Dataset, names: Sequence[str], *, ax: Axes | None = None, log: bool = False, ylabel: str | None = None
) -> Axes:
    """Variables over step; splits and runs as lines, ``<name>_se`` as a band of two standard errors.

    A variable with layers is drawn for the deepest layer that was measured; ``<name>_ceiling`` is dotted.
    """
    ax = _axes(ax)
    for name in names:
        array = _deepest(series[name])
        error = _deepest(series[f"{name}_se"]) if f"{name}_se" in series else None
        text = str(array.attrs.get("long_name", name))
        for label, line, band in _lines(array, error):
            told = ", ".join(part for part in (text if len(names) > 1 else "", label) if part) or text
            colour = _COLOURS.get(label if label in _COLOURS else name.split("_")[0])
            (drawn,) = ax.plot(_steps(line), line, ".-", lw=1.2, ms=3, color=colour, label=told)
            if band is not None:
                low, high = line - 2 * band, line + 2 * band
                ax.fill_between(_steps(line), low, high, color=drawn.get_color(), alpha=0.2, lw=0)
        if f"{name}_ceiling" in series:
            for label, line, _ in _lines(_deepest(series[f"{name}_ceiling"]), None):
                ax.plot(_steps(line), line, ":", lw=0.8, color=_COLOURS.get(label, "#888888"), zorder=0)
    first = _deepest(series[names[0]])
    units = str(first.attrs.get("units", "1"))
    ylabel = ylabel or str(first.attrs.get("long_name", names[0]))
    ax.set_ylabel(ylabel if units == "1" else f"{ylabel} ({units})")
    if log:
        ax.set_yscale("log")
    _step_axis(ax, _steps(series))
    ax.legend(fontsize=8)
    return ax


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
    """(label, line over step, its error) for each combination of the other dimensions."""
    others = [dim for dim in array.dims if dim != "step"]
    if not others:
        return [("", array, error)]
    stacked = array.stack(_line=others)
    labels = [" ".join(map(str, value)) for value in stacked["_line"].values]
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
        ax.axvspan(max(lower, 0.5), upper, color="#444444", alpha=0.08, lw=0, zorder=-1)
        if names:  # in three rows, so that neighbours do not overlap
            text, height = _MARKERS[str(marker)], 1.01 + 0.055 * (i % 3)
            ax.text(step, height, text, transform=ax.get_xaxis_transform(), ha="center", fontsize=7)
    if new:
        ax.set_yticks([])
        ax.legend(fontsize=8)
    _step_axis(ax, steps)
    return ax


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
        ax.figure.colorbar(plt.cm.ScalarMappable(norm, "viridis"), ax=ax, label="step", pad=0.02)
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
        return [
            str(name)
            for name, array in series.data_vars.items()
            if (str(name).endswith(ending) or name in wanted) and array.dtype.kind == "f"
        ]

    information = getattr(detector, "information", "information_x")
    single = [information if isinstance(information, str) else "information_x", "local_complexity_total"]
    panels: list[tuple[list[str], str | None, bool]] = [
        (named("_accuracy", "train_accuracy", "test_accuracy"), "accuracy", False),
        (named("_loss", "test_loss"), "loss", True),
        *(([name] if name in series else [], None, False) for name in [*single, "linear_mapping_number"]),
    ]
    return [panel for panel in panels if panel[0]]
