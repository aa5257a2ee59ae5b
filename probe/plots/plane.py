"""The information plane: information of a noisy layer about the labels, against its information about the inputs.

Both depend on the noise, so that the label of the axis states it. All points lie within the grey line: I(T+n;Y) is at
most I(T+n;X) and at most H(Y), and I(T+n;X) is at most log2 N. The star at (H(Y), H(Y)) is a layer that contains the
labels and no other information; :func:`probe.plots.plane_distance` is the distance to it.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.plane_data import measured_splits, selected
from probe.plots.style import FONT, WIDTH
from probe.plots.trajectories import (
    Bars,
    View,
    draw_colour_bar,
    draw_frame,
    draw_layers,
    legend_of,
    step_colours,
    view_of,
)

_LONG = 32  # characters of a name in a legend, from which on it has fewer columns


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
    H(Y) and log2 N have a line if they are near the points. The label of the x axis has their values. Bars are cut at
    the edge of the view.

    Parameters
    ----------
    series : xarray.Dataset
        With ``information_x``, ``information_y`` and ``information_y_ceiling`` (bits) as MutualInfoProbe records them.
        Several runs are thin lines, and the points are their medians at the common steps.
    split : str, optional
        Inputs; by default ``train``, or else the only split. :func:`information_planes` shows all splits.
    layers : sequence of str, optional
        By default all measured layers, or seven of more, evenly spaced from the first to the last.
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
    chosen = [selected(series, split, layers, detector) for split in measured_splits(series)]
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
        columns = _columns(handles, 4 if len(chosen) > 1 else 2)
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=FONT, frameon=False)
    return figure


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
    handles = legend_of(ax, plane, marked, bars)
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "columnspacing": 1}
    place |= {"ncols": _columns(handles, 2), "handletextpad": 0.4}
    ax.legend(handles=handles, fontsize=FONT, frameon=False, **place)
    draw_colour_bar(ax, plane)


def _columns(handles: Sequence[Artist], most: int) -> int:
    """Return the number of columns of a legend: half as many for long names."""
    return most if max(len(str(one.get_label())) for one in handles) <= _LONG else most // 2
