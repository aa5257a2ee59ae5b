"""Elements of an information plane: limits, points, rings, bars and legend, for :mod:`probe.plots.plane`."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter

from probe.plots.names import label_text, layer_name, marker_colours, marker_labels, short_names
from probe.plots.steps import StepLocator, axis_name, first_positive, step_norm, step_text
from probe.plots.style import FONT, background, faint, ink, line_colour, text_colour

Bars = Literal["marked", "all", "none"]
RINGED = "fit_end", "generalisation_onset", "compression_onset", "end"
SHAPES = "osD^vP*"
_NOTE = "a fall on training inputs alone\nis no evidence of generalisation"
_MARGIN = 0.06  # of the extent of the points
_NEAR = 0.3  # of the extent of the points, up to which the target and the limits are within the view

View = tuple[float, float, float, float]  # least and largest I(T+n;X), least and largest I(T+n;Y)


def step_colours(plane: xr.Dataset) -> ScalarMappable:
    """Return the colour map of the steps, on the scale of a logarithmic axis."""
    return ScalarMappable(step_norm(plane["step"].values.astype(float)), "viridis")


def draw_colour_bar(ax: Axes, plane: xr.Dataset) -> None:
    """Draw the colours of the steps at the right of axes."""
    first = first_positive(plane["step"].values)
    ticks: dict[str, Any] = {"ticks": StepLocator(first), "format": FuncFormatter(lambda step, _: step_text(step))}
    beside = ax.inset_axes((1.03, 0, 0.04, 1))
    bar = ax.figure.colorbar(step_colours(plane), cax=beside, label=axis_name(plane), **ticks)
    bar.ax.yaxis.set_minor_locator(StepLocator(first, minor=True))


def limits_of(plane: xr.Dataset) -> tuple[float, float]:
    """Return the largest possible I(T+n;X), or NaN if it was not recorded, and I(T+n;Y)."""
    x = float(plane["information_x_ceiling"].max()) if "information_x_ceiling" in plane else np.nan
    return x, float(plane["information_y_ceiling"].max())


def view_of(*planes: xr.Dataset) -> View:
    """Return the part of the plane with all points, and with the target and the limits that are near."""
    ends = list[float]()
    for axis, limits in (("x", (0, 1)), ("y", (1,))):
        parts = [plane[f"information_{axis}"].values.ravel() for plane in planes]
        values = np.concatenate(parts)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        near = _NEAR * max(high - low, 0.1)
        known = [limits_of(plane)[i] for plane in planes for i in limits]
        known = [one for one in known if low - near <= one <= high + near]
        low, high = min(low, *known, high), max(high, *known, low)
        margin = _MARGIN * max(high - low, 0.1)
        ends += [max(low - margin, -margin), high + margin]
    return ends[0], ends[1], ends[2], ends[3]


def draw_frame(ax: Axes, plane: xr.Dataset, view: View) -> None:
    """Draw limits and target, and the labels of the axes with their values."""
    right, target = limits_of(plane)
    ax.set(xlim=view[:2], ylim=view[2:])
    star: dict[str, Any] = {"ms": 13, "mfc": background(ax), "mec": ink(ax), "clip_on": True}
    ax.plot(target, target, "*", zorder=3, gid="target", **star)
    end = right if np.isfinite(right) else view[1] + 1
    ax.plot([0, target, end, end], [0, target, target, 0], color=faint(ax), lw=1, zorder=-1, gid="limit")
    split = label_text(plane["split"].item()) if "split" in plane.coords else ""
    lines = [f"I(T+n;X) (bits){', ' if split else ''}{split}", _noise_text(plane), *_limit_texts(right, target)]
    ax.set_xlabel("\n".join(line for line in lines if line))
    ax.set_ylabel("I(T+n;Y) (bits)")
    if split.startswith("train"):
        below: dict[str, Any] = {"xycoords": ax.xaxis.label, "textcoords": "offset points", "ha": "center", "va": "top"}
        colour = text_colour(faint(ax), ax)
        ax.annotate(_NOTE, (0.5, 0), (0, -3), fontsize=FONT, style="italic", color=colour, **below)


def _limit_texts(right: float, target: float) -> list[str]:
    """Return what the limits are, for the label of the x axis, where they cover no points."""
    texts = [f"x at most log\u2082 N = {right:.3g} bits (N inputs)"] if np.isfinite(right) else []
    return [*texts, f"y at most H(Y) = {target:.3g} bits (label entropy)"]


def _outline(ax: Axes) -> list[Any]:
    """Return the outline of a ring, whose colour may be near those of the steps."""
    return [Stroke(linewidth=3.2, foreground=background(ax)), Normal()]


def draw_layers(
    ax: Axes, plane: xr.Dataset, marked: xr.DataArray | None, colours: ScalarMappable, bars: Bars = "none"
) -> list[Artist]:
    """Draw trajectories, points, rings and bars of all layers, and return the new artists."""
    before = set(ax.get_children())
    single = plane.sizes["run"] == 1
    for shape, layer in zip(cycle(SHAPES), plane["layer"].values, strict=False):
        here = plane.sel(layer=layer)
        runs = [_measured(here.isel(run=run)) for run in range(plane.sizes["run"])]
        for run in runs:
            ax.plot(run["information_x"], run["information_y"], color=faint(ax), alpha=0.5, lw=0.7, zorder=0, gid="run")
        main = runs[0] if single else _measured(_median(here))
        if not single:
            ax.plot(main["information_x"], main["information_y"], color=faint(ax), lw=1.8, zorder=1, gid="median")
        _draw_points(ax, main, shape, colours)
        ringed = [] if marked is None else _draw_rings(ax, runs, marked, size=60 if single else 20)
        shown = main["step"].values if bars == "all" else [*main["step"].values[-1:], *(ringed if single else [])]
        if bars != "none":
            _draw_bars(ax, main.sel(step=np.unique(shown)))
    return [artist for artist in ax.get_children() if artist not in before]


def legend_of(ax: Axes, plane: xr.Dataset, marked: xr.DataArray | None, bars: Bars) -> list[Line2D]:
    """Return the legend entries of the shapes, lines and rings that occur."""
    grey, names = faint(ax), short_names(plane["layer"].values.astype(str).tolist())
    layers = zip(cycle(SHAPES), names, strict=False)
    handles = [Line2D([], [], lw=0, marker=shape, color=grey, ms=6, label=layer_name(layer)) for shape, layer in layers]
    if plane.sizes["layer"] < plane.attrs["layers"]:
        handles.append(Line2D([], [], lw=0, label=f"{plane.sizes['layer']} of {plane.attrs['layers']} layers"))
    if "saturated" in plane and (plane["saturated"] == 1).any():
        handles.append(Line2D([], [], lw=0, marker="o", mfc="none", mec=grey, ms=6, label="saturated"))
    if plane.sizes["run"] > 1:
        handles.append(Line2D([], [], color=grey, lw=1.8, label=f"median of {plane.sizes['run']} runs"))
    if bars != "none" and "information_x_lower" in plane:
        handles.append(Line2D([], [], color=grey, lw=0.9, label="proven lower and upper bound"))
    if bars != "none" and "information_x_subsample_se" in plane:
        handles.append(Line2D([], [], color=grey, lw=2.4, label="two s.e. of subsampling"))
    if marked is not None:
        for marker, label in marker_labels(marked.isel(marker=marked.notnull().any("run").values)).items():
            ring: dict[str, Any] = {"mfc": "none", "mec": line_colour(marker_colours(marked)[marker], ax), "mew": 1.6}
            handles.append(Line2D([], [], lw=0, marker="o", ms=7, label=label, **ring))
    low, high = sorted(ax.get_xlim())
    if low <= limits_of(plane)[1] <= high:
        star: dict[str, Any] = {"mfc": background(ax), "mec": ink(ax)}
        handles.append(Line2D([], [], lw=0, marker="*", ms=11, label="a layer with only the labels", **star))
    return handles


def _draw_points(ax: Axes, one: xr.Dataset, shape: str, colours: ScalarMappable) -> None:
    """Draw points in the colours of their steps, hollow where saturated."""
    x, y = one["information_x"].values, one["information_y"].values
    rgba = colours.to_rgba(one["step"].values.astype(float))
    hollow = one["saturated"].values == 1 if "saturated" in one else np.zeros(len(x), bool)
    ax.scatter(x[~hollow], y[~hollow], marker=shape, s=22, c=rgba[~hollow], edgecolors=background(ax), lw=0.3, zorder=2)
    kept: dict[str, Any] = {"facecolors": "none", "edgecolors": rgba[hollow], "gid": "saturated"}
    ax.scatter(x[hollow], y[hollow], marker=shape, s=22, lw=0.8, zorder=2, **kept)


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
        colour = line_colour(marker_colours(marked)[marker], ax)
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": colour, "lw": 1.6}
        ax.scatter(x, y, s=size * (1 + i / 2), zorder=4, gid=f"ring {marker}", path_effects=_outline(ax), **style)
        ringed += [point["step"].item() for point in at]
    return ringed


def _draw_bars(ax: Axes, points: xr.Dataset) -> None:
    """Draw certified bounds (thin) and two standard errors of subsampling (thick)."""
    style: dict[str, Any] = {"color": faint(ax), "zorder": 0.5}
    for along, across, draw in (("x", "y", ax.hlines), ("y", "x", ax.vlines)):
        at, middle = points[f"information_{across}"], points[f"information_{along}"]
        if f"information_{along}_lower" in points:
            low, high = (points[f"information_{along}_{end}"] for end in ("lower", "upper"))
            draw(at, low, high, alpha=0.4, lw=0.7, **style, gid=f"bounds {along}")
        if f"information_{along}_subsample_se" in points:
            error = 2 * points[f"information_{along}_subsample_se"]
            draw(at, middle - error, middle + error, alpha=0.6, lw=2.4, **style, gid=f"subsample {along}")


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
