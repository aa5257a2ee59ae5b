"""Variables of a series over the steps."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import COLOURS, drawn_steps, label_text, new_axes, step_axis
from probe.readers.names import SPLITS, role_of
from probe.stats.one_grid import on_one_grid

MAX_THIN = 12  # runs that are drawn one by one; more runs are drawn as a band
_MAX_DOTS = 100  # observations of a line with a dot each
_QUANTILES = (0.1, 0.9)


def curves(
    series: xr.Dataset,
    names: Sequence[str],
    *,
    ax: Axes | None = None,
    log: bool = False,
    ylabel: str | None = None,
    layer: Hashable | None = None,
) -> Axes:
    """Draw variables over the steps, one line per split, and the median of several runs.

    All runs of a variable and split have one colour and one entry in the legend. Up to 12 runs are thin lines, more
    runs a band from the 10 % to the 90 % quantile; a thick line is their median. Runs on different steps are
    interpolated between neighbouring observations on ``log10(step + 1)``; median and band cover the steps that all
    runs share. With one run, a band shows two standard errors if the series contains ``<name>_se``, else the interval
    from ``<name>_lower`` to ``<name>_upper``, and a dotted line ``<name>_ceiling``.

    Parameters
    ----------
    series : xarray.Dataset
        Variables over ``step``, and optionally over ``run``, ``split`` and ``layer``.
    names : sequence of str
        Variables to draw. Curves of validation data have the colour of the test curves, and are dashed beside them.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.
    log : bool
        Logarithmic y axis.
    ylabel : str, optional
        Label of the y axis; by default the ``long_name`` or the name of the first variable. The unit is appended.
    layer : label, optional
        Layer of variables with layers; by default the deepest (last) measured layer.

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
        _draw_variable(ax, series, name, colours, prefix=len(names) > 1, layer=layer)
    first = of_layer(series[names[0]], layer)
    units = label_text(first.attrs.get("units", "1"))
    ylabel = ylabel or label_text(first.attrs.get("long_name", names[0]))
    ax.set_ylabel(ylabel if units == "1" else f"{ylabel} ({units})")
    if log:
        ax.set_yscale("log")
    step_axis(ax, series)
    ax.legend(fontsize=8, title=band_text(max(series[name].sizes.get("run", 1) for name in names)), title_fontsize=8)
    return ax


def band_text(n_runs: int) -> str | None:
    """Describe thick lines, thin lines and bands of several runs; None for one run."""
    if n_runs == 1:
        return None
    return f"median of {n_runs} runs, {'each run thin' if n_runs <= MAX_THIN else 'band: 10 % to 90 %'}"


def of_layer(array: xr.DataArray, layer: Hashable | None = None) -> xr.DataArray:
    """Return one layer: the given one, or the last measured one. Its name is appended to the long_name."""
    if "layer" not in array.dims:
        return array
    if layer is None or layer not in array["layer"].values:
        others = [dim for dim in array.dims if dim != "layer"]
        measured = array["layer"].values[array.notnull().any(others).values]
        layer = measured[-1] if len(measured) else array["layer"].values[-1]
    text = array.attrs.get("long_name", array.name)
    return array.sel(layer=layer, drop=True).assign_attrs(array.attrs | {"long_name": f"{text}, {layer}"})


def _draw_variable(
    ax: Axes, series: xr.Dataset, name: str, colours: dict[str, Any], *, prefix: bool, layer: Hashable | None
) -> None:
    """Draw lines, bands and ceiling, and extend ``colours``; ``prefix`` adds the name of the variable to the legend."""
    array = of_layer(series[name], layer)
    bands = _bands(series, name, layer)
    text = label_text(array.attrs.get("long_name", name))
    for label, runs in _groups(array):
        legend = ", ".join(part for part in (text if prefix else "", label_text(label)) if part) or text
        colour = colour_of(label) or colour_of(name)
        style = "--" if colour and colour in colours.values() else "-"  # as validation beside test
        colour = colour or colours.get(legend)
        entry = f"_{legend}" if legend in colours else legend  # matplotlib omits labels that begin with _
        colours[legend] = _draw_runs(ax, series["step"].values, runs, bands.get(label), colour, style, entry)
    if f"{name}_ceiling" in series:
        for label, runs in _groups(of_layer(series[f"{name}_ceiling"], layer)):
            _line(ax, series["step"].values, runs[0], ls=":", lw=0.8, color=colour_of(label) or "#888888", zorder=0)


def _bands(series: xr.Dataset, name: str, layer: Hashable | None) -> dict[str, np.ndarray]:
    """Return the ends (2, runs, steps) of the error bands by group."""
    found = [f"{name}{end}" for end in ("", "_se", "_lower", "_upper")]
    value, error, lower, upper = (
        dict(_groups(of_layer(series[part], layer))) if part in series else {} for part in found
    )
    if error:
        return {
            label: np.stack([value[label] - 2 * each, value[label] + 2 * each])
            for label, each in error.items()
            if label in value
        }
    return {label: np.stack([lower[label], upper[label]]) for label in lower if label in upper}


def colour_of(name: str) -> str | None:
    """Return the colour of a split, of a name that begins with a split, or of a logged name such as ``val/loss``."""
    role = role_of(name)
    split = role.split("_")[0] if role else name.split("_")[0]
    split = "test" if split in SPLITS["test"] else split
    return COLOURS.get(name, COLOURS.get(split))


def _draw_runs(
    ax: Axes, steps: np.ndarray, runs: np.ndarray, band: np.ndarray | None, colour: Any, style: str, entry: str
) -> Any:
    """Draw one run, or median and runs or band of several runs, and return the colour."""
    measured = ~np.isnan(runs).all(axis=1)
    runs = runs[measured] if measured.any() else runs[:1]
    if len(runs) == 1:
        dots: dict[str, Any] = {"marker": ".", "ms": 3} if (~np.isnan(runs[0])).sum() <= _MAX_DOTS else {}
        colour = _line(ax, steps, runs[0], ls=style, lw=1.4, color=colour, label=entry, **dots)
        if band is not None and band.shape[1] == 1:
            low, high = band[:, 0]
            seen = ~np.isnan(low)
            ax.fill_between(drawn_steps(steps[seen]), low[seen], high[seen], color=colour, alpha=0.2, lw=0)
        return colour
    grid = on_one_grid(np.log10(steps + 1.0), runs)[0]
    shared = ~np.isnan(grid).any(axis=0)
    if not shared.any():  # no median: the label goes to the first run
        for i, run in enumerate(runs):
            colour = _line(ax, steps, run, ls=style, lw=0.8, color=colour, label=entry if i == 0 else f"_{entry}")
        return colour
    colour = _line(ax, steps[shared], np.median(grid[:, shared], axis=0), ls=style, lw=2, color=colour, label=entry)
    if len(runs) <= MAX_THIN:
        for run in runs:
            _line(ax, steps, run, ls=style, lw=0.8, alpha=0.5, color=colour, zorder=1.5)
    else:
        low, high = np.quantile(grid[:, shared], _QUANTILES, axis=0)
        ax.fill_between(drawn_steps(steps[shared]), low, high, color=colour, alpha=0.22, lw=0)
    return colour


def _line(ax: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> Any:
    """Draw the observations without the missing ones, and return the colour."""
    seen = ~np.isnan(values)
    (drawn,) = ax.plot(drawn_steps(steps[seen]), values[seen], **style)
    return drawn.get_color()


def _groups(array: xr.DataArray) -> list[tuple[str, np.ndarray]]:
    """Return (label, values (run, step)) for each combination of the other dimensions that was measured."""
    others = [dim for dim in array.dims if dim not in ("step", "run")]
    array = array.astype(float).where(np.isfinite(array))
    array = array if "run" in array.dims else array.expand_dims("run")
    if not others:
        return [("", array.transpose("run", "step").values)]
    stacked = array.stack(_line=others).transpose("_line", "run", "step")
    labels = [" ".join(map(str, value)) for value in stacked["_line"].values]
    # without the splits of other variables
    return [(label, rows) for label, rows in zip(labels, stacked.values, strict=True) if not np.isnan(rows).all()]
