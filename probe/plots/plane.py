"""The information plane: information of a noisy layer about the labels, against its information about the inputs.

Both depend on the noise, so that the label of the axis states it. All points lie within the grey line: I(T+n;Y) is at
most I(T+n;X) and at most H(Y), and I(T+n;X) is at most log2 N. The star at (H(Y), H(Y)) is a layer that contains the
labels and no other information; :func:`plane_distance` is the distance to it.
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

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.names import chosen_split
from probe.plots.style import FONT, WIDTH
from probe.plots.trajectories import (
    RINGED,
    Bars,
    View,
    draw_colour_bar,
    draw_frame,
    draw_layers,
    legend_of,
    step_colours,
    view_of,
)

_NEEDED = ["information_x", "information_y", "information_y_ceiling"]
_OPTIONAL = [
    "information_x_ceiling", "saturated", "noise_relative",
    *(f"information_{axis}_{part}" for axis in "xy" for part in ("lower", "upper", "subsample_se")),
]  # fmt: skip


@closes_on_error
def information_plane(
    series: xr.Dataset,
    *,
    split: str | None = None,
    layers: Sequence[str] | None = None,
    detector: Any = None,
    bars: Bars = "marked",
    ax: Axes | None = None,
) -> Axes:
    """Draw I(T+n;Y) against I(T+n;X) of one split, with one shape per layer and the colour of the step.

    Hollow points are saturated (in any run): the noise is too small for an estimate. Below training inputs, a note
    states that a fall on training inputs alone is no evidence of generalisation. The view has all points. The limits
    H(Y) and log2 N have a line if they are near the points; else the label of the x axis has their values. Bars are cut
    at the edge of the view.

    Parameters
    ----------
    series : xarray.Dataset
        With ``information_x``, ``information_y`` and ``information_y_ceiling`` (bits) as MutualInfoProbe records them.
        Several runs are thin lines, and the points are their medians at the common steps.
    split : str, optional
        Inputs; by default ``train``, or else the only split. :func:`information_planes` shows all splits.
    layers : sequence of str, optional
        By default all measured layers.
    detector : PhaseDetector, optional
        Fitted. Its markers are rings on the trajectory of each layer and run, at the recorded step nearest to the
        marker. A marker outside the recorded steps has no ring.
    bars : "marked", "all" or "none"
        Points with bars: the last point and (with one run) the rings, all points, or none. Thin bars are certified
        bounds, thick bars two standard errors of subsampling, if they were recorded. With several runs, the bars are
        medians over runs.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a variable, split, layer or run is missing, or ``bars`` is unknown.

    See Also
    --------
    information_planes : All splits side by side.
    animate_plane : The same as an animation.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> x, dims = np.linspace(1, 4, 6)[:, None, None], ("step", "split", "layer")
    >>> values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2}
    >>> series = xr.Dataset(
    ...     {name: (dims, value) for name, value in values.items()},
    ...     {"step": [0, 1, 2, 5, 10, 20], "split": ["train"], "layer": ["hidden"]},
    ... )
    >>> ax = plots.information_plane(series)
    >>> ax.get_ylabel()
    'I(T+n;Y) (bits)'
    """
    plane, marked = selected(series, split, layers, detector)
    ax = new_axes(ax)
    draw_plane(ax, plane, marked, bars)
    draw_legend(ax, plane, marked, bars)
    return ax


@closes_on_error
def information_planes(
    series: xr.Dataset, *, layers: Sequence[str] | None = None, detector: Any = None, bars: Bars = "marked"
) -> Figure:
    """Draw the information planes of all splits with information about labels, on the same scales.

    Compression that accompanies generalisation also occurs on inputs outside the training set. On training inputs
    alone, it may be the clustering of memorised examples.

    Parameters
    ----------
    series, layers, detector, bars
        As for :func:`information_plane`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If a variable, layer or run is missing, or ``bars`` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> x, dims = np.linspace(1, 4, 6)[:, None, None], ("step", "split", "layer")
    >>> values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2}
    >>> series = xr.Dataset(
    ...     {name: (dims, value) for name, value in values.items()},
    ...     {"step": [0, 1, 2, 5, 10, 20], "split": ["train"], "layer": ["hidden"]},
    ... )
    >>> figure = plots.information_planes(series)
    >>> len(figure.axes)
    1
    """
    chosen = [selected(series, split, layers, detector) for split in _measured_splits(series)]
    rows = -(-len(chosen) // 2)
    size = (WIDTH if len(chosen) > 1 else WIDTH / 2 + 1, 4.2 * rows + 0.6)
    figure, grid = plt.subplots(rows, min(len(chosen), 2), figsize=size, squeeze=False, layout="constrained")
    view = view_of(*(plane for plane, _ in chosen))
    for ax, (plane, marked) in zip(grid.flat, chosen, strict=False):
        draw_plane(ax, plane, marked, bars, view)
    draw_colour_bar(grid[0, -1], chosen[0][0])
    handles = legend_of(grid[0, 0], *chosen[0], bars)
    if len(chosen) < grid.size:  # the legend has the empty place
        grid[-1, -1].axis("off")
        grid[-1, -1].legend(handles=handles, loc="center", fontsize=FONT, frameon=False)
    else:
        columns = 4 if len(chosen) > 1 else 2
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=FONT, frameon=False)
    return figure


def _measured_splits(series: xr.Dataset) -> list[Any]:
    """Return the splits with information about labels; all splits if none has any."""
    if "split" not in series.coords:
        return [None]
    splits = np.atleast_1d(series["split"].values).tolist()
    if "split" not in series.dims or "information_y" not in series:
        return splits
    known = series["information_y"].notnull()
    measured = [split for split in splits if bool(known.sel(split=split).any())]
    return measured or splits


def plane_distance(series: xr.Dataset) -> xr.Dataset:
    """Return the distance in the information plane to (H(Y), H(Y)): the labels, and no other information.

    Parameters
    ----------
    series : xarray.Dataset
        As for :func:`information_plane`.

    Returns
    -------
    xarray.Dataset
        ``plane_distance`` (bits), Euclidean, over the dimensions of ``information_x``. ``plane_distance_se`` (bits)
        if standard errors were recorded: those of subsampling, or else those of Monte Carlo. ``saturated`` as
        recorded: where it is 1, the distance depends on the noise only.

    Raises
    ------
    ValueError
        If a variable is missing.

    Notes
    -----
    The standard error is the root of the sum of both squares. A distance changes by no more than its point moves, so
    that this is an upper bound, for any correlation of the two errors.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> x, dims = np.linspace(1, 4, 6)[:, None, None], ("step", "split", "layer")
    >>> values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2}
    >>> series = xr.Dataset(
    ...     {name: (dims, value) for name, value in values.items()},
    ...     {"step": [0, 1, 2, 5, 10, 20], "split": ["train"], "layer": ["hidden"]},
    ... )
    >>> print(plots.plane_distance(series)["plane_distance"].values.ravel().round(2))
    [1.8  1.26 0.92 1.   1.43 2.  ]
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
    """Return the variables of one split over (run, layer, step), and the steps of the rings (run, marker), or NaN."""
    _check(series)
    plane = _of_split(series[[*_NEEDED, *(name for name in _OPTIONAL if name in series)]], split)
    plane = plane.expand_dims([dim for dim in ("run", "layer") if dim not in plane.dims])
    if "run" not in plane.coords:
        plane = plane.assign_coords(run=np.arange(plane.sizes["run"]))
    both = (plane["information_x"] + plane["information_y"]).notnull()
    known = plane["layer"].values[both.any(["run", "step"]).values].tolist()
    if not known:
        raise ValueError(
            "Expected information about labels, got only missing values; MutualInfoProbe requires integer targets"
        )
    if unknown := [layer for layer in layers or () if layer not in known]:
        raise ValueError(f"Expected layers among {', '.join(map(str, known))}, got {unknown[0]!r}; pass one of them")
    plane = plane.sel(layer=known if layers is None else list(layers)).transpose("run", "layer", "step")
    return plane, None if detector is None else _rings(detector, plane["run"])


def draw_plane(
    ax: Axes, plane: xr.Dataset, marked: xr.DataArray | None, bars: Bars, view: View | None = None
) -> list[Artist]:
    """Draw layers and frame, and return the artists of the layers."""
    if bars not in ("marked", "all", "none"):
        raise ValueError(f"Expected bars='marked', 'all' or 'none', got {bars!r}; pass one of them")
    drawn = draw_layers(ax, plane, marked, step_colours(plane), bars)
    draw_frame(ax, plane, view or view_of(plane))
    return drawn


def draw_legend(ax: Axes, plane: xr.Dataset, marked: xr.DataArray | None, bars: Bars) -> None:
    """Draw the legend above the axes, and the colours of the steps beside them."""
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2, "columnspacing": 1}
    ax.legend(handles=legend_of(ax, plane, marked, bars), fontsize=FONT, frameon=False, handletextpad=0.4, **place)
    draw_colour_bar(ax, plane)


def _of_split(series: xr.Dataset, split: str | None) -> xr.Dataset:
    if "split" not in series.dims:
        return series
    splits = [str(label) for label in series["split"].values]
    return series.sel(split=chosen_split(splits, split))


def _rings(detector: Any, runs: xr.DataArray) -> xr.DataArray:
    check_is_fitted(detector)
    markers: xr.DataArray = detector.markers_["step"]
    found = markers.isel(marker=np.isin(markers["marker"].values, RINGED))
    known = found["run"].values.tolist()
    if lost := [run for run in runs.values.tolist() if run not in known]:
        raise ValueError(f"Expected a detector with the run {lost[0]!r}, got the runs {known}; fit it on these runs")
    return found.sel(run=runs)


def _check(series: xr.Dataset) -> None:
    if lost := [name for name in _NEEDED if name not in series]:
        raise ValueError(
            f"Expected {', '.join(_NEEDED)}, got a series without {', '.join(lost)}; record them with MutualInfoProbe "
            "on data with labels"
        )
