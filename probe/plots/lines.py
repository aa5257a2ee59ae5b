"""Variables of a series over the steps."""

import textwrap
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.labels import explain_ceiling, label_lines
from probe.plots.names import label_text, layer_name
from probe.plots.steps import step_axis
from probe.plots.style import COLOURS, CYCLE, LINES, STYLES, faint, line_colour
from probe.readers.names import SPLITS, role_of
from probe.stats.one_grid import on_one_grid

MAX_THIN = 12  # runs that are drawn one by one; more runs are drawn as a band
_MAX_DOTS = 30  # observations of a line with a dot each
_LONGEST = 36  # characters of a line of the label of the y axis, in a font of 10 points
_QUANTILES = (0.1, 0.9)


@closes_on_error
def curves(
    series: xr.Dataset,
    names: Sequence[str] | str,
    *,
    ax: Axes | None = None,
    log: bool = False,
    ylabel: str | None = None,
    layer: Hashable | None = None,
) -> Axes:
    """Draw variables over the steps, one line per split, and the median of several runs.

    All runs of a variable and split have one colour, one line style, and one label at the end of the line or, for more
    than five lines, in a legend. Up to 12 runs are thin lines, more runs a band from the 10 % to the 90 % quantile; a
    thick line is their median. Runs on different steps are
    interpolated between neighbouring observations on ``log10(step + 1)``; median and band cover the steps that all
    runs share. With one run, a band shows two standard errors if the series contains ``<name>_se``, else the interval
    from ``<name>_lower`` to ``<name>_upper``, and a dotted line ``<name>_ceiling``.

    Parameters
    ----------
    series : xarray.Dataset
        Variables over ``step``, and optionally over ``run``, ``split`` and ``layer``.
    names : str or sequence of str
        Variables to draw. Curves of validation data have the colour of the test curves, and beside them another line
        style.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.
    log : bool
        Logarithmic y axis.
    ylabel : str, optional
        Label of the y axis; by default the ``long_name`` or the name of the variable, or the word that all of several
        names end with. The unit is appended.
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
    >>> ax = plots.curves(series, "train_loss", log=True)
    >>> ax.get_ylabel(), ax.get_yscale()
    ('train_loss', 'log')
    """
    names = [names] if isinstance(names, str) else list(names)
    ax = new_axes(ax)
    drawn: dict[str, tuple[Any, Any]] = {}  # colour and line style by label
    for name in names:
        _draw_variable(ax, series, name, drawn, prefix=len(names) > 1, layer=layer)
    longest = int(_LONGEST * 10 / max(float(ax.yaxis.label.get_fontsize()), 10))  # characters of a large font are wider
    ax.set_ylabel("\n".join(textwrap.wrap(_axis_label(series, names, ylabel, layer), longest)))
    if log:
        ax.set_yscale("log")
    step_axis(ax, series)
    label_lines(ax, band_text(max(series[name].sizes.get("run", 1) for name in names)))
    explain_ceiling(ax)
    return ax


def band_text(n_runs: int) -> str | None:
    """Describe thick lines, thin lines and bands of several runs; None for one run."""
    if n_runs == 1:
        return None
    return f"median of {n_runs} runs, {'each run thin' if n_runs <= MAX_THIN else 'band: 10 % to 90 %'}"


def _axis_label(series: xr.Dataset, names: Sequence[str], label: str | None, layer: Hashable | None) -> str:
    """Return the label of the y axis with its unit: the word that all names end with, or the names themselves."""
    arrays = [of_layer(series[name], layer) for name in names]
    texts = [label_text(array.attrs.get("long_name", array.name), 80) for array in arrays]
    units = [label_text(array.attrs.get("units", "1")) for array in arrays]
    ends = {text.replace("_", " ").split(" ")[-1] for text in texts}
    if len({*units}) > 1 and label is None:
        return ", ".join(map(with_unit, texts, units))
    shared = ends.pop() if len(ends) == 1 and len(texts) > 1 else label_text(", ".join(texts), 80)
    return with_unit(label or shared, units[0])


def with_unit(text: str, unit: str) -> str:
    """Return a name with its unit, which is not written if it is 1."""
    return text if unit == "1" else f"{text} ({unit})"


def of_layer(array: xr.DataArray, layer: Hashable | None = None) -> xr.DataArray:
    """Return one layer: the given one, or the last measured one. Its name is appended to the long_name."""
    if "layer" not in array.dims:
        return array
    if layer is None or layer not in array["layer"].values:
        others = [dim for dim in array.dims if dim != "layer"]
        measured = array["layer"].values[array.notnull().any(others).values]
        layer = measured[-1] if len(measured) else array["layer"].values[-1]
    text = array.attrs.get("long_name", array.name)
    return array.sel(layer=layer, drop=True).assign_attrs(array.attrs | {"long_name": f"{text}, {layer_name(layer)}"})


def _draw_variable(
    ax: Axes, series: xr.Dataset, name: str, drawn: dict[str, Any], *, prefix: bool, layer: Hashable | None
) -> None:
    """Draw lines, bands and ceiling, and extend ``drawn``; ``prefix`` adds the name of the variable to the labels."""
    array = of_layer(series[name], layer)
    bands = _bands(series, name, layer)
    text = label_text(array.attrs.get("long_name", name))
    for label, runs in _groups(array):
        legend = ", ".join(part for part in (text if prefix else "", label_text(label)) if part) or text
        entry = f"_{legend}" if legend in drawn else legend  # matplotlib omits labels that begin with _
        drawn.setdefault(legend, _style(ax, split_of(label) or split_of(name), [*drawn.values()]))
        colour, style = drawn[legend]
        _draw_runs(ax, series["step"].values, runs, bands.get(label), colour, style, entry)
    if f"{name}_ceiling" in series:
        for label, runs in _groups(of_layer(series[f"{name}_ceiling"], layer)):
            _draw_ceiling(ax, series["step"].values, runs[0], split_of(label))


def _style(ax: Axes, split: str | None, used: list[tuple[Any, Any]]) -> tuple[str, Any]:
    """Return a colour and a line style: those of the split, or the next ones that are not used."""
    colours = [line_colour(COLOURS[split], ax)] if split else [line_colour(colour, ax) for colour in CYCLE]
    free = [colour for colour in colours if colour not in [one for one, _ in used]] or colours
    wanted = [LINES[split]] if split else []
    styles = [*wanted, *STYLES]
    return next(((colour, style) for style in styles for colour in free if (colour, style) not in used),
                (free[0], styles[0]))  # fmt: skip


def split_of(name: str) -> str | None:
    """Return the split with a colour of its own that a name stands for, such as "test" for ``val/loss``."""
    role = role_of(name)
    split = name if name in COLOURS else role.split("_")[0] if role else name.split("_")[0]
    split = "test" if split in SPLITS["test"] else split
    return split if split in COLOURS else None


def colour_of(name: str) -> str | None:
    """Return the colour of the split that a name stands for."""
    split = split_of(name)
    return COLOURS[split] if split else None


def _draw_ceiling(ax: Axes, steps: np.ndarray, values: np.ndarray, split: str | None) -> None:
    """Draw the largest value that a measure can have."""
    colour = line_colour(COLOURS[split], ax) if split else faint(ax)
    _line(ax, steps, values, ls=":", lw=0.8, color=colour, zorder=0, gid="ceiling")


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


def _draw_runs(
    ax: Axes, steps: np.ndarray, runs: np.ndarray, band: np.ndarray | None, colour: Any, style: Any, entry: str
) -> None:
    """Draw one run, or median and runs or band of several runs."""
    measured = ~np.isnan(runs).all(axis=1)
    runs = runs[measured] if measured.any() else runs[:1]
    if len(runs) == 1:
        dots: dict[str, Any] = {"marker": ".", "ms": 5} if (~np.isnan(runs[0])).sum() <= _MAX_DOTS else {}
        _line(ax, steps, runs[0], ls=style, lw=1.6, color=colour, label=entry, **dots)
        if band is not None and band.shape[1] == 1:
            low, high = band[:, 0]
            seen = ~np.isnan(low)
            ax.fill_between(steps[seen], low[seen], high[seen], color=colour, alpha=0.2, lw=0)
        return
    grid = on_one_grid(np.log10(steps + 1.0), runs)[0]
    shared = ~np.isnan(grid).any(axis=0)
    if not shared.any():  # no median: the label goes to the first run
        for i, run in enumerate(runs):
            _line(ax, steps, run, ls=style, lw=0.8, color=colour, label=entry if i == 0 else f"_{entry}")
        return
    _line(ax, steps[shared], np.median(grid[:, shared], axis=0), ls=style, lw=2, color=colour, label=entry)
    if len(runs) <= MAX_THIN:
        for run in runs:
            _line(ax, steps, run, lw=0.8, alpha=0.45, color=colour, zorder=1.5)
    else:
        low, high = np.quantile(grid[:, shared], _QUANTILES, axis=0)
        ax.fill_between(steps[shared], low, high, color=colour, alpha=0.22, lw=0)


def _line(ax: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw the observations without the missing ones."""
    seen = ~np.isnan(values)
    ax.plot(steps[seen], values[seen], **style)


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
