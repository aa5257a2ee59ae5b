"""Elements of an information plane: limits, points, rings, bars and legend, for :mod:`probe.plots.plane`."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from probe.plots.axes import label_text, log_steps, marker_colours, marker_labels

Bars = Literal["marked", "all", "none"]
RINGED = "fit_end", "generalisation_onset", "compression_onset", "end"
# The colours of some markers are near those of steps, so each ring has a white outline.
_OUTLINE = [Stroke(linewidth=3.2, foreground="white"), Normal()]
_SHAPES = "osD^vP*"
_NOTE = "a fall on training inputs alone is no evidence of generalisation"
_GREY, _BAR, _LIGHT = "#777777", "#a5a5a5", "#bbbbbb"


def step_colours(plane: xr.Dataset) -> ScalarMappable:
    """Return the colour map of the steps, logarithmic."""
    first, last = log_steps(plane)[[0, -1]]
    return ScalarMappable(LogNorm(first, max(last, 1)), "viridis")


def draw_frame(ax: Axes, plane: xr.Dataset) -> None:
    """Draw limits, target and axis labels, after the layers, so that the axes keep the extent of the layers."""
    target = float(plane["information_y_ceiling"].max())
    right = float(plane["information_x_ceiling" if "information_x_ceiling" in plane else "information_x"].max())
    ax.plot(target, target, "*", ms=12, mfc="white", mec="#444444", zorder=3, gid="target")
    ax.annotate("H(Y)", (target, target), (6, -12), textcoords="offset points", ha="left", fontsize=8, color=_GREY)
    (left, end), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    ax.set(xlim=(max(left, 0), end), ylim=(max(bottom, 0), max(top, 1.06 * target)))  # with space for the star
    ax.plot([0, target, right, right], [0, target, target, 0], color=_LIGHT, lw=1, zorder=-1, gid="limit")
    split = label_text(plane["split"].item()) if "split" in plane.coords else ""
    ax.set_xlabel(f"I(T+n;X) (bits){', ' if split else ''}{split}\n{_noise_text(plane)}")
    ax.set_ylabel("I(T+n;Y) (bits)")
    if split.startswith("train"):
        below: dict[str, Any] = {"xycoords": ax.xaxis.label, "textcoords": "offset points", "ha": "center", "va": "top"}
        ax.annotate(_NOTE, (0.5, 0), (0, -3), fontsize=7, style="italic", color=_GREY, **below)


def draw_layers(
    ax: Axes, plane: xr.Dataset, marked: xr.DataArray | None, colours: ScalarMappable, bars: Bars = "none"
) -> list[Artist]:
    """Draw trajectories, points, rings and bars of all layers, and return the new artists."""
    before = set(ax.get_children())
    single = plane.sizes["run"] == 1
    for shape, layer in zip(cycle(_SHAPES), plane["layer"].values, strict=False):
        here = plane.sel(layer=layer)
        runs = [_measured(here.isel(run=run)) for run in range(plane.sizes["run"])]
        for run in runs:
            ax.plot(run["information_x"], run["information_y"], color="#c8c8c8", lw=0.7, zorder=0, gid="run")
        main = runs[0] if single else _measured(_median(here))
        if not single:
            ax.plot(main["information_x"], main["information_y"], color="#888888", lw=1.8, zorder=1, gid="median")
        _draw_points(ax, main, shape, colours)
        ringed = [] if marked is None else _draw_rings(ax, runs, marked, size=60 if single else 20)
        shown = main["step"].values if bars == "all" else [*main["step"].values[-1:], *(ringed if single else [])]
        if bars != "none":
            _draw_bars(ax, main.sel(step=np.unique(shown)))
    return [artist for artist in ax.get_children() if artist not in before]


def legend_of(plane: xr.Dataset, marked: xr.DataArray | None, bars: Bars) -> list[Line2D]:
    """Return the legend entries of the shapes, lines and rings that occur."""
    layers = zip(cycle(_SHAPES), plane["layer"].values, strict=False)
    handles = [
        Line2D([], [], lw=0, marker=shape, color=_GREY, ms=5, label=label_text(layer)) for shape, layer in layers
    ]
    if "saturated" in plane and (plane["saturated"] == 1).any():
        handles.append(Line2D([], [], lw=0, marker="o", mfc="none", mec=_GREY, ms=5, label="saturated"))
    if plane.sizes["run"] > 1:
        handles.append(Line2D([], [], color="#888888", lw=1.8, label=f"median of {plane.sizes['run']} runs"))
    if bars != "none" and "information_x_lower" in plane:
        handles.append(Line2D([], [], color=_BAR, lw=0.9, label="certified bounds"))
    if bars != "none" and "information_x_subsample_se" in plane:
        handles.append(Line2D([], [], color=_BAR, lw=2.4, label="two s.e. of subsampling"))
    if marked is not None:
        for marker, label in marker_labels(marked.isel(marker=marked.notnull().any("run").values)).items():
            ring: dict[str, Any] = {"mfc": "none", "mec": marker_colours(marked)[marker], "mew": 1.6}
            handles.append(Line2D([], [], lw=0, marker="o", ms=7, label=label, **ring))
    return handles


def _draw_points(ax: Axes, one: xr.Dataset, shape: str, colours: ScalarMappable) -> None:
    """Draw points in the colours of their steps, hollow where saturated."""
    x, y, rgba = one["information_x"].values, one["information_y"].values, colours.to_rgba(log_steps(one))
    hollow = one["saturated"].values == 1 if "saturated" in one else np.zeros(len(x), bool)
    ax.scatter(x[~hollow], y[~hollow], marker=shape, s=18, c=rgba[~hollow], edgecolors="white", lw=0.3, zorder=2)
    kept: dict[str, Any] = {"facecolors": "none", "edgecolors": rgba[hollow], "gid": "saturated"}
    ax.scatter(x[hollow], y[hollow], marker=shape, s=18, lw=0.8, zorder=2, **kept)


def _draw_rings(ax: Axes, runs: Sequence[xr.Dataset], marked: xr.DataArray, *, size: float) -> list[int]:
    """Draw rings and return their steps; later markers have wider rings, so that all rings at a step are visible."""
    ringed = []
    for i, marker in enumerate(marked["marker"].values):
        at = []
        for run, step in zip(runs, marked.sel(marker=marker).values, strict=True):
            steps = run["step"].values
            if len(steps) and steps[0] <= step <= steps[-1]:  # false for NaN
                at.append(run.sel(step=step, method="nearest"))
        x, y = ([float(point[name]) for point in at] for name in ("information_x", "information_y"))
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": marker_colours(marked)[marker], "lw": 1.6}
        ax.scatter(x, y, s=size * (1 + i / 2), zorder=4, gid=f"ring {marker}", path_effects=_OUTLINE, **style)
        ringed += [point["step"].item() for point in at]
    return ringed


def _draw_bars(ax: Axes, points: xr.Dataset) -> None:
    """Draw certified bounds (thin) and two standard errors of subsampling (thick)."""
    for along, across, draw in (("x", "y", ax.hlines), ("y", "x", ax.vlines)):
        at, middle = points[f"information_{across}"], points[f"information_{along}"]
        if f"information_{along}_lower" in points:
            low, high = (points[f"information_{along}_{end}"] for end in ("lower", "upper"))
            draw(at, low, high, color=_BAR, lw=0.7, zorder=0.5, gid=f"bounds {along}")
        if f"information_{along}_subsample_se" in points:
            error = 2 * points[f"information_{along}_subsample_se"]
            draw(at, middle - error, middle + error, color=_BAR, lw=2.4, zorder=0.5, gid=f"subsample {along}")


def _median(here: xr.Dataset) -> xr.Dataset:
    """Return the median over runs, at their common steps; saturated where any run is."""
    median = here.drop_vars("saturated", errors="ignore").median("run", skipna=False)
    return median.assign(saturated=here["saturated"].max("run")) if "saturated" in here else median


def _measured(one: xr.Dataset) -> xr.Dataset:
    return one.isel(step=np.flatnonzero((one["information_x"] + one["information_y"]).notnull()))


def _noise_text(plane: xr.Dataset) -> str:
    """Return the estimator, the level and the convention of the noise."""
    attrs = plane["information_x"].attrs
    if "noise" not in attrs:
        return "noise not recorded"
    level = str(attrs["noise"])
    if level == "auto" and "noise_relative" in plane:
        level = "auto ({:.2g} to {:.2g})".format(*(float(plane["noise_relative"].quantile(q)) for q in (0, 1)))
    convention = str(attrs.get("noise_convention", "")).split(":")[0]
    parts = (attrs.get("estimator", ""), "noise", level, convention)
    return " ".join(label_text(part) for part in parts if part)
