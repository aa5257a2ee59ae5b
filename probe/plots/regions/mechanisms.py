"""What changed the number of linear regions over training, as stacked areas."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from probe.plots.axes import closes_on_error
from probe.plots.lines import band_text, curves
from probe.plots.names import chosen_split, label_text
from probe.plots.regions.changes import MECHANISM_COLOURS
from probe.plots.regions.colours import tint
from probe.plots.steps import first_positive, step_axis, step_places, steps_at
from probe.plots.style import FONT, WIDTH, background, ink
from probe.stats.one_grid import on_one_grid

_GAINS = {"appearance": "disappearance", "splitting": "merging", "crossing": "alignment"}  # and their reverses
_NEEDED = ("linear_regions_total", "linear_regions_change")
_STOPPED = "linear_regions_incomplete"
_LEFT_OVER, _OTHER = "not attributed", "#d9d9d9"
_HATCHES = {"merging": "//", "splitting": "//", "alignment": "..", "crossing": ".."}  # for grey print
_ROUNDING = 1e-6  # regions


@closes_on_error
def mechanisms(
    series: xr.Dataset,
    controls: xr.Dataset | None = None,
    *,
    split: str | None = None,
    net: bool = True,
    names: tuple[str, str] = ("runs", "controls"),
) -> Figure:
    """Draw the number of linear regions over training, and below it what changed the number.

    A triangle marks a lower bound, where a limit stopped the partition. The areas are sums since the first observation,
    over all layers, means over slices and runs: losses below zero, gains above. The black line is their sum, which is
    the change of the number of regions. The numbers of several runs are drawn with their median, the areas with their
    mean.

    Parameters
    ----------
    series : xarray.Dataset
        Of :class:`probe.LinearRegionsProbe`, with or without ``run``.
    controls : xarray.Dataset, optional
        Series of control runs, drawn beside on the same axes.
    split : str, optional
        Split whose slices are drawn; by default "train", or else the only split.
    net : bool
        Add each mechanism and its reverse, such as disappearance and appearance. If not, both are drawn. They are much
        larger, since lines move to and fro, and their size depends on how often the network is observed.
    names : pair of str
        Titles of both columns.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the series lacks the variables or the split.

    See Also
    --------
    region_changes : The lines that were lost between two observations.
    curves : Single variables, such as ``linear_regions_lines``.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> dims = ("step", "split", "slice")
    >>> change = np.array([[np.nan, np.nan], [-3.0, 1.0]]).reshape(2, 1, 1, 1, 2)
    >>> series = xr.Dataset(
    ...     {
    ...         "linear_regions_total": (dims, np.array([9.0, 7.0]).reshape(2, 1, 1)),
    ...         "linear_regions_change": ((*dims, "layer", "mechanism"), change),
    ...     },
    ...     {"step": [0, 100], "split": ["train"], "mechanism": ["merging", "crossing"]},
    ... )
    >>> [ax.get_ylabel() for ax in plots.mechanisms(series).axes]
    ['linear regions (train)', 'change since step 0']
    """
    columns = [_of_split(one, split) for one in (series, controls) if one is not None]
    size = WIDTH if len(columns) > 1 else 6, 6
    figure, axes = plt.subplots(
        2, len(columns), figsize=size, layout="constrained", squeeze=False, sharex="col", sharey="row",
        height_ratios=[1, 1.4],
    )  # fmt: skip
    for (top, below), one, name in zip(axes.T, columns, names, strict=False):
        total = one[["linear_regions_total"]].mean("slice", keep_attrs=True)
        total[_NEEDED[0]].attrs["long_name"] = f"linear regions ({one['split'].item()})"
        curves(total.drop_vars("split"), _NEEDED[:1], ax=top)
        top.set_title(label_text(name) if controls is not None else "", fontsize=10)
        _mark_bounds(top, one)
        _note(top, band_text(one.sizes["run"]))
        _draw_areas(below, one, net)
        top.set_xlabel("")
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    entries = {label: handle for ax in axes[1] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": 1 + len(columns), "frameon": False}
    figure.legend(entries.values(), entries.keys(), fontsize=FONT, **place)
    return figure


def _mark_bounds(ax: Axes, series: xr.Dataset) -> None:
    """Mark numbers that are lower bounds, since a limit stopped the partition of a slice."""
    if _STOPPED not in series or not (stopped := (series[_STOPPED] == 1).any("slice")).any():
        return
    numbers = series["linear_regions_total"].mean("slice").where(stopped).transpose("step", "run").values
    steps = series["step"].values.astype(float)
    marks = ax.plot(steps, numbers, ls="", marker="^", ms=5, color=ink(ax), gid="bound")
    ax.legend(marks[:1], ["lower bound: the partition stopped at a limit"], fontsize=FONT, frameon=False)


def _note(ax: Axes, text: str | None) -> None:
    """Write a note into the upper right corner."""
    if text is not None:
        ax.text(0.99, 0.97, text, transform=ax.transAxes, ha="right", va="top", fontsize=FONT)


def _of_split(series: xr.Dataset, split: str | None) -> xr.Dataset:
    if lost := [name for name in _NEEDED if name not in series]:
        raise ValueError(
            f"Expected {', '.join(_NEEDED)}, got a series without {', '.join(lost)}; record them with "
            "LinearRegionsProbe, with n_slices of at least 1"
        )
    measured = series["linear_regions_total"].dropna("split", how="all")  # without splits of other measures
    splits = [str(name) for name in measured["split"].values]
    split = chosen_split(splits, split)
    one = series[[name for name in (*_NEEDED, _STOPPED) if name in series]].sel(split=split)
    return one if "run" in one.dims else one.expand_dims("run")


def cumulated(series: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the change (step,) since the first observation by each mechanism, and what was not attributed.

    Changes are sums over layers, means over slices and over runs. Runs on different steps are interpolated.
    """
    total = series["linear_regions_total"].mean("slice").transpose("run", "step").values
    measured = series["linear_regions_change"].dropna("layer", how="all")  # without layers of other measures
    change = measured.sum("layer", skipna=False)  # (..., slice, mechanism)
    names = [str(name) for name in series["mechanism"].values]
    parts = change.mean("slice", skipna=False).transpose("mechanism", "run", "step").values
    seen = ~np.isnan(total)
    sums = np.where(seen, np.nancumsum(parts, axis=2), np.nan)  # 0 where nothing was attributed
    first = np.array([run[there][:1].sum() for run, there in zip(total, seen, strict=True)])
    left = total - first[:, None] - sums.sum(0)
    place = np.log10(series["step"].values + 1.0)
    found = {
        name: on_one_grid(place, rows)[0].mean(0)
        for name, rows in zip([*names, _LEFT_OVER], [*sums, left], strict=True)
    }
    return found


def _draw_areas(ax: Axes, series: xr.Dataset, net: bool) -> None:
    """Draw the sums since the first observation as areas, and their sum as a line."""
    found = _paired(cumulated(series)) if net else cumulated(series)
    steps = series["step"].values.astype(float)
    first = first_positive(steps)
    places, rows = _with_zeros(step_places(steps, first), np.stack(list(found.values())))
    above, below, ground = np.zeros(len(places)), np.zeros(len(places)), background(ax)
    for name, values in zip(found, rows, strict=True):
        colour: Any = MECHANISM_COLOURS.get(name.split(" ")[0], _OTHER)
        colour, hatch = tint([colour], 0.5)[0] if name in _GAINS else colour, _HATCHES.get(name.split(" ")[0], "")
        for part, base in ((np.maximum(values, 0), above), (np.minimum(values, 0), below)):
            if np.nanmax(np.abs(part), initial=0) > _ROUNDING:
                text = f"_{name}" if name in ax.get_legend_handles_labels()[1] else name
                look: dict[str, Any] = {"fc": colour, "ec": ground, "lw": 0, "hatch": hatch, "label": text}
                ax.fill_between(steps_at(places, first), base, base + part, **look)
                base += part
    outline = [Stroke(linewidth=4, foreground=background(ax)), Normal()]
    total = np.sum(list(found.values()), axis=0)
    ax.plot(steps, total, color=ink(ax), lw=2, label="change of the number (sum)", path_effects=outline)
    ax.axhline(0, color=mpl.rcParams["axes.edgecolor"], lw=0.6)
    ax.set_ylabel(f"{'mean ' * (series.sizes['run'] > 1)}change since step {series['step'].values[0]:,g}")
    step_axis(ax, series)


def _paired(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add each mechanism and its reverse."""
    names = {loss: f"{loss} and {gain}" for gain, loss in _GAINS.items()}
    paired = dict[str, np.ndarray]()
    for name, values in found.items():
        loss = _GAINS.get(name, name)
        name = names.get(loss, loss)
        paired[name] = paired.get(name, 0) + values
    return paired


def _with_zeros(places: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places (m,) and rows (k, m) with all places where the line through a row (k, n) crosses zero."""
    one, other = rows[:, :-1], rows[:, 1:]
    row, gap = np.nonzero(one * other < 0)
    part = one[row, gap] / (one[row, gap] - other[row, gap])
    wanted = np.union1d(places, places[gap] + part * (places[gap + 1] - places[gap]))
    return wanted, np.stack([np.interp(wanted, places, values) for values in rows])
