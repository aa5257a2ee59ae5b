"""One variable over many layers or matrices, as colours over the steps."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probe.plots.lines import band_text
from probe.plots.names import layer_name
from probe.plots.steps import axis_name, is_logarithmic, scale_steps, step_edges
from probe.plots.style import FONT
from probe.stats.one_grid import on_one_grid

COLOURS = "cividis"  # readable for colour-blind readers, and in grey print
_MOST_NAMES = 24  # rows with a name


def heat_map(ax: Axes, array: xr.DataArray, label: str, *, log: bool = False) -> None:
    """Draw an array over (row, step), or the median over ``run``, as colours, with one row for each layer.

    A cell begins and ends in the middle between two steps. Cells without a value stay empty. Runs on different steps
    are interpolated as in :func:`probe.plots.curves`.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    array : xarray.DataArray
        Over ``step``, one further dimension, and optionally ``run``.
    label : str
        Label of the colours.
    log : bool
        Logarithmic colours. Values that are not positive stay empty.
    """
    array = array.where(np.isfinite(array) & (not log or array > 0))
    (rows,) = [str(dim) for dim in array.dims if dim not in ("step", "run")]
    steps, names = array["step"].values.astype(float), array[rows].values.tolist()
    runs = array.transpose(rows, ..., "step").values.reshape(len(names), -1, len(steps))
    values = np.stack([np.median(on_one_grid(np.log10(steps + 1.0), row)[0], axis=0) for row in runs])
    norm: dict[str, Any] = {"norm": "log"} if log and np.isfinite(values).any() else {}
    edges = step_edges(steps) if len(steps) > 1 else np.array([steps[0] - 0.5, steps[0] + 0.5])
    mesh = ax.pcolormesh(edges, np.arange(len(names) + 1) - 0.5, values, cmap=COLOURS, rasterized=True, **norm)
    scale_steps(ax, steps, log=is_logarithmic(array))
    several = band_text(array.sizes.get("run", 1))
    ax.set_xlabel(axis_name(array) + ("" if several is None else f" (median of {array.sizes['run']} runs)"))
    ax.set_ylim(len(names) - 0.5, -0.5)  # the first layer on top
    shown = np.unique(np.linspace(0, len(names) - 1, min(len(names), _MOST_NAMES)).round().astype(int))
    ax.set_yticks(shown, [layer_name(names[i]) for i in shown], fontsize=FONT)
    ax.tick_params(axis="y", length=0)
    bar = ax.figure.colorbar(mesh, cax=ax.inset_axes((1.03, 0, 0.04, 1)), label=label)
    if not log:
        bar.ax.yaxis.set_major_locator(MaxNLocator(5))
