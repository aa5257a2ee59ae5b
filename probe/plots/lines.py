"""Variables of a series over the steps."""

from collections.abc import Hashable, Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import COLOURS, label_text, log_steps, new_axes, step_axis


def curves(
    series: xr.Dataset, names: Sequence[str], *, ax: Axes | None = None, log: bool = False, ylabel: str | None = None
) -> Axes:
    """Draw variables over the steps, one line per split and run.

    All runs of a variable and split have one colour and one entry in the legend. A band shows two standard errors if
    the series contains ``<name>_se``, and a dotted line ``<name>_ceiling``. Of a variable with layers, the deepest
    measured layer is drawn.

    Parameters
    ----------
    series : xarray.Dataset
        Variables over ``step``, and optionally over ``run``, ``split`` and ``layer``.
    names : sequence of str
        Variables to draw.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.
    log : bool
        Logarithmic y axis.
    ylabel : str, optional
        Label of the y axis; by default the ``long_name`` or the name of the first variable. The unit is appended.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> series = xr.Dataset({"train_loss": ("step", 1 / np.arange(1.0, 30))}, {"step": np.arange(1, 30)})
    >>> ax = plots.curves(series, ["train_loss"], log=True)
    >>> ax.get_ylabel(), ax.get_yscale()
    ('train_loss', 'log')
    """
    ax = new_axes(ax)
    colours: dict[str, Any] = {}  # by entry of the legend
    for name in names:
        _draw_variable(ax, series, name, colours, prefix=len(names) > 1)
    first = _deepest(series[names[0]])
    units = label_text(first.attrs.get("units", "1"))
    ylabel = ylabel or label_text(first.attrs.get("long_name", names[0]))
    ax.set_ylabel(ylabel if units == "1" else f"{ylabel} ({units})")
    if log:
        ax.set_yscale("log")
    step_axis(ax, series)
    ax.legend(fontsize=8)
    return ax


def _draw_variable(ax: Axes, series: xr.Dataset, name: str, colours: dict[str, Any], *, prefix: bool) -> None:
    """Draw lines, bands and ceiling, and extend ``colours``; ``prefix`` adds the name of the variable to the legend."""
    array = _deepest(series[name])
    error = _deepest(series[f"{name}_se"]) if f"{name}_se" in series else None
    text = label_text(array.attrs.get("long_name", name))
    for label, line, band in _lines(array, error):
        legend = ", ".join(part for part in (text if prefix else "", label_text(label)) if part) or text
        colour = COLOURS.get(label if label in COLOURS else name.split("_")[0], colours.get(legend))
        entry = f"_{legend}" if legend in colours else legend  # matplotlib omits labels that begin with _
        (drawn,) = ax.plot(log_steps(line), line, ".-", lw=1.2, ms=3, color=colour, label=entry)
        colours[legend] = drawn.get_color()
        if band is not None:
            low, high = line - 2 * band, line + 2 * band
            ax.fill_between(log_steps(line), low, high, color=drawn.get_color(), alpha=0.2, lw=0)
    if f"{name}_ceiling" in series:
        for label, line, _ in _lines(_deepest(series[f"{name}_ceiling"]), None):
            ax.plot(log_steps(line), line, ":", lw=0.8, color=COLOURS.get(label, "#888888"), zorder=0)


def _deepest(array: xr.DataArray, layer: Hashable | None = None) -> xr.DataArray:
    """Return one layer: the given one, or the last measured one. Its name is appended to the long_name."""
    if "layer" not in array.dims:
        return array
    if layer is None:
        others = [dim for dim in array.dims if dim != "layer"]
        measured = array["layer"].values[array.notnull().any(others).values]
        layer = measured[-1] if len(measured) else array["layer"].values[-1]
    text = array.attrs.get("long_name", array.name)
    return array.sel(layer=layer, drop=True).assign_attrs(array.attrs | {"long_name": f"{text}, {layer}"})


def _lines(array: xr.DataArray, error: xr.DataArray | None) -> list[tuple[str, xr.DataArray, xr.DataArray | None]]:
    """Return (label, line over step, its error) for each combination of the other dimensions, except the run."""
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
        if stacked.isel(_line=i).notnull().any()  # not the splits of other variables
    ]
