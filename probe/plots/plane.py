"""The information plane: what a layer, read through noise, tells of the labels against what it tells of the inputs.

Such a plane is one of its noise, so the axis states it. Nothing lies outside the grey line: I(T+n;Y) is at most
I(T+n;X) and at most H(Y), and I(T+n;X) at most log2 N. The star at (H(Y), H(Y)) is a layer that has kept all of the
labels and nothing else; :func:`plane_distance` is the distance to it.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.utils.validation import check_is_fitted

from probe.plots.axes import axis_name, new_axes
from probe.plots.trajectories import RINGS, Bars, draw_frame, draw_layers, legend_of, step_colours

_NEEDED = ["information_x", "information_y", "information_y_ceiling"]
_OPTIONAL = [
    "information_x_ceiling", "saturated", "noise_relative",
    *(f"information_{axis}_{part}" for axis in "xy" for part in ("lower", "upper", "subsample_se")),
]  # fmt: skip


def information_plane(
    series: xr.Dataset,
    *,
    split: str | None = None,
    layers: Sequence[str] | None = None,
    detector: Any = None,
    bars: Bars = "marked",
    ax: Axes | None = None,
) -> Axes:
    """I(T+n;Y) against I(T+n;X) of one split: layers by shape, steps by colour, within what is possible.

    Parameters
    ----------
    series
        With ``information_x``, ``information_y`` and ``information_y_ceiling`` (bits) as MutualInfoProbe records them.
        Several runs are thin lines, and their median at the steps that all of them share carries the points.
    split
        Which inputs; default: ``train``, else the first. Under training inputs the plot says that their fall alone
        tells nothing of generalisation; :func:`information_planes` shows all splits.
    layers
        Which layers; default: all that were measured.
    detector
        A fitted PhaseDetector: the ends of its phases are rings on the trajectory of each layer and run, at the
        recorded step nearest to the marker. A marker outside the recorded steps has no ring.
    bars
        Where the certified bounds are drawn (thin), with two standard errors of subsampling (thick) if they were
        recorded: ``"marked"``: at the last point, and with one run at its rings; at ``"all"`` points; ``"none"``. With
        several runs these are medians over runs.
    ax
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Hollow points are saturated (in any run): they say only that the noise is too fine to tell.

    Raises
    ------
    ValueError
        For a variable, split, layer or run that is not there.
    """
    plane, marked = selected(series, split, layers, detector)
    ax = new_axes(ax)
    draw_plane(ax, plane, marked, bars)
    draw_legend(ax, plane, marked, bars)
    return ax


def information_planes(
    series: xr.Dataset, *, layers: Sequence[str] | None = None, detector: Any = None, bars: Bars = "marked"
) -> Figure:
    """The planes of all splits side by side, on the same scales; parameters as of :func:`information_plane`.

    Compression that generalises shows on inputs that were not trained on too; on training inputs alone it may be
    the clustering of what was memorised.
    """
    splits = np.atleast_1d(series["split"].values).tolist() if "split" in series.coords else [None]
    figure, grid = plt.subplots(1, len(splits), figsize=(5 * len(splits), 4.6), squeeze=False, layout="constrained")
    chosen = [selected(series, split, layers, detector) for split in splits]
    for ax, (plane, marked) in zip(grid[0], chosen, strict=True):
        draw_plane(ax, plane, marked, bars)
    limits = np.array([(*ax.get_xlim(), *ax.get_ylim()) for ax in grid[0]])
    for ax in grid[0]:
        ax.set(xlim=(limits[:, 0].min(), limits[:, 1].max()), ylim=(limits[:, 2].min(), limits[:, 3].max()))
    handles = legend_of(*chosen[0], bars)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=7, frameon=False)
    figure.colorbar(step_colours(chosen[0][0]), ax=grid, label=axis_name(series), pad=0.02)
    return figure


def plane_distance(series: xr.Dataset) -> xr.Dataset:
    """Distance in the information plane to (H(Y), H(Y)): all of the labels kept, and nothing else.

    Parameters
    ----------
    series
        As for :func:`information_plane`.

    Returns
    -------
    xarray.Dataset
        ``plane_distance`` (bits), Euclidean, over the dimensions of ``information_x``; ``plane_distance_se`` if
        standard errors were recorded, those of subsampling before those of Monte Carlo; ``saturated`` as recorded:
        where it is 1, the distance is one of the noise.

    Notes
    -----
    The standard error is the root of the sum of both squares. A distance moves by no more than its point does, so this
    is an upper bound, whatever the correlation of the two errors.
    """
    _check(series)
    x, y, target = (series[name] for name in _NEEDED)
    kept = {key: x.attrs[key] for key in ("estimator", "noise", "noise_convention") if key in x.attrs}
    text = {"units": "bits", "long_name": "distance to (H(Y), H(Y))"}
    distance = ((x - target) ** 2 + (y - target) ** 2) ** 0.5
    out = xr.Dataset({"plane_distance": distance.assign_attrs(kept | text)})
    for kind in ("subsample_se", "se"):
        names = [f"information_{axis}_{kind}" for axis in "xy"]
        if all(name in series for name in names):
            text = {"units": "bits", "long_name": f"at most this standard error ({kind})"}
            of_x, of_y = (series[name] for name in names)
            out["plane_distance_se"] = ((of_x**2 + of_y**2) ** 0.5).assign_attrs(text)
            break
    return out.assign(saturated=series["saturated"]) if "saturated" in series else out


def selected(
    series: xr.Dataset, split: str | None, layers: Sequence[str] | None, detector: Any
) -> tuple[xr.Dataset, xr.DataArray | None]:
    """What a plane needs of one split, over (run, layer, step); steps of its rings (run, marker), NaN: not found."""
    _check(series)
    plane = _of_split(series[[*_NEEDED, *(name for name in _OPTIONAL if name in series)]], split)
    plane = plane.expand_dims([dim for dim in ("run", "layer") if dim not in plane.dims])
    if "run" not in plane.coords:
        plane = plane.assign_coords(run=np.arange(plane.sizes["run"]))
    both = (plane["information_x"] + plane["information_y"]).notnull()
    known = plane["layer"].values[both.any(["run", "step"]).values].tolist()
    if not known:
        raise ValueError(
            "no information about labels was measured in these inputs; MutualInfoProbe needs integer targets"
        )
    if unknown := [layer for layer in layers or () if layer not in known]:
        raise ValueError(f"no information of layer {unknown[0]!r}; measured were: {', '.join(map(str, known))}")
    plane = plane.sel(layer=known if layers is None else list(layers)).transpose("run", "layer", "step")
    return plane, None if detector is None else _rings(detector, plane["run"])


def draw_plane(ax: Axes, plane: xr.Dataset, marked: xr.DataArray | None, bars: Bars) -> list[Artist]:
    """Layers and frame; what was drawn of the layers."""
    if bars not in ("marked", "all", "none"):
        raise ValueError(f'bars must be "marked", "all" or "none", got {bars!r}')
    drawn = draw_layers(ax, plane, marked, step_colours(plane), bars)
    draw_frame(ax, plane)
    return drawn


def draw_legend(ax: Axes, plane: xr.Dataset, marked: xr.DataArray | None, bars: Bars) -> None:
    """Above the axes, and the colours beside them."""
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 3, "columnspacing": 1}
    ax.legend(handles=legend_of(plane, marked, bars), fontsize=7, frameon=False, handletextpad=0.4, **place)
    ax.figure.colorbar(step_colours(plane), ax=ax, label=axis_name(plane), pad=0.02)


def _of_split(series: xr.Dataset, split: str | None) -> xr.Dataset:
    if "split" not in series.dims:
        return series
    splits = [str(label) for label in series["split"].values]
    split = split or ("train" if "train" in splits else splits[0])
    if split not in splits:
        raise ValueError(f"no split {split!r} in the series; there are: {', '.join(splits)}")
    return series.sel(split=split)


def _rings(detector: Any, runs: xr.DataArray) -> xr.DataArray:
    check_is_fitted(detector)
    found: xr.DataArray = detector.markers_["step"].sel(marker=list(RINGS))
    known = found["run"].values.tolist()
    if lost := [run for run in runs.values.tolist() if run not in known]:
        raise ValueError(f"the detector has no run {lost[0]!r}, only {known}; fit it on the runs that are drawn")
    return found.sel(run=runs)


def _check(series: xr.Dataset) -> None:
    if lost := [name for name in _NEEDED if name not in series]:
        raise ValueError(
            f"an information plane needs {', '.join(_NEEDED)}; the series lacks {', '.join(lost)}. MutualInfoProbe "
            "records them for data with labels"
        )
