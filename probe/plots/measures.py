"""The standard figure of each measure of this package."""

from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.axes import closes_on_error
from probe.plots.chaos.matrix import kernel_distances
from probe.plots.chaos.radius import kernel_norm
from probe.plots.chaos.windows import growth
from probe.plots.frequencies import draw_frequencies
from probe.plots.heat import heat_map
from probe.plots.lines import curves, with_unit
from probe.plots.modes.trajectories import mode_trajectories
from probe.plots.names import chosen_split, label_text, layer_name, short_names
from probe.plots.regions.mechanisms import mechanisms
from probe.plots.style import WIDTH

_HEIGHT = 3.2  # inches, of a row
_MOST_LINES = 7  # layers or matrices with a line each; more are rows of a heat map
_SPLIT = "split_shown"  # attribute of a reduced array
_ENDS = ("", "_se", "_lower", "_upper", "_ceiling")


class _Lines(NamedTuple):
    """Variables with a line for each label of a dimension, or with one line each and a label of their own."""

    names: tuple[str, ...]
    over: str = "split"
    log: bool = False
    labels: tuple[str, ...] = ()
    ylabel: str | None = None


class _Drawn(NamedTuple):
    """A variable that a function of its own draws on axes."""

    names: tuple[str, ...]
    draw: Callable[[xr.Dataset, str | None, Axes], Any]


def _modes(series: xr.Dataset, split: str | None, ax: Axes) -> None:
    mode_trajectories(series, ax=ax)


def _distances(series: xr.Dataset, split: str | None, ax: Axes) -> None:
    kernel_distances(series, split=split, ax=ax)


def _norm(series: xr.Dataset, split: str | None, ax: Axes) -> None:
    kernel_norm(series, split=split, ax=ax)


_WHOLE: dict[str, Callable[[xr.Dataset, str | None], Figure]] = {
    "ChaosProbe": lambda series, split: growth(series),
    "LinearRegionsProbe": lambda series, split: mechanisms(series, split=split),
}
_PANELS: dict[str, tuple[_Lines | _Drawn, ...]] = {
    "ActivationsProbe": (
        _Lines(("activation_norm",), "layer"),
        _Lines(("dormant_fraction",), "layer"),
        _Lines(("activation_sparsity",), "layer"),
        _Lines(("activation_effective_rank",), "layer"),
    ),
    "CircuitsProbe": (
        _Lines(
            ("circuits_near_total", "circuits_random_total"),
            "",
            labels=("nearest", "random"),
            ylabel="share of units that differ in pairs",
        ),
        _Lines(
            ("circuits_always_on_total", "circuits_always_off_total"),
            "",
            labels=("always on", "always off"),
            ylabel="share of units that never switch",
        ),
    ),
    "FeatureLearningProbe": (
        _Lines(("feature_deviation",), "layer"),
        _Lines(("read_out_accuracy",), "layer"),
        _Lines(("read_out_r2",), "layer"),
    ),
    "FisherProbe": (_Lines(("fisher_determined",), "layer"), _Lines(("fisher_trace",), "layer", log=True)),
    "FourierProbe": (_Drawn(("fourier_norm",), draw_frequencies), _Lines(("fourier_gini",))),
    "LMNProbe": (_Lines(("linear_mapping_number",)),),
    "LocalComplexityProbe": (_Lines(("local_complexity_total",)), _Lines(("local_complexity",), "layer")),
    "MutualInfoProbe": (_Lines(("information_x",), "layer"), _Lines(("information_y",), "layer")),
    "NeuralCollapseProbe": (_Lines(("nc1",), "layer", log=True), _Lines(("nc2_angles",), "layer")),
    "PerformanceProbe": (_Lines(("train_accuracy", "test_accuracy")), _Lines(("train_loss", "test_loss"))),
    "RobustnessProbe": (_Lines(("robustness_accuracy",), "perturbation"), _Lines(("lipschitz_mean",))),
    "TangentKernelProbe": (
        _Drawn(("tangent_kernel_velocity",), _distances),
        _Drawn(("tangent_kernel_norm",), _norm),
    ),
    "WeightModesProbe": (_Drawn(("mode_singular_value",), _modes), _Lines(("mode_count",), "parameter")),
    "WeightPhaseProbe": (
        _Lines(("weight_phase_kurtosis",), "layer"),
        _Lines(("weight_phase_droplet_fraction",), "layer"),
    ),
    "WeightsProbe": (
        _Lines(("weight_norm",), "parameter"),
        _Lines(("weight_stable_rank",), "parameter"),
        _Lines(("weight_effective_rank",), "parameter"),
        _Lines(("weight_participation_ratio",), "parameter"),
    ),
}


@closes_on_error
def measure(series: xr.Dataset, name: str, *, split: str | None = None) -> Figure:
    """Draw the standard figure of one measure: its main variables over training.

    A panel has a line for each split, layer, matrix or perturbation. More than seven layers or matrices are rows of a
    heat map. The other dimensions have one label each: the split ``split``, the deepest measured layer, the first
    direction; batches and slices are averaged.

    Parameters
    ----------
    series : xarray.Dataset
        Series of this measure, with or without ``run``. Panels whose variables are missing, or have no value, are
        omitted.
    name : str
        Name of the class of the probe, such as ``"WeightsProbe"``.
    split : str, optional
        Split of panels that show one split; by default "train", or else the only one.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the name is that of no measure, the series has none of its variables, or there is no such split.

    See Also
    --------
    curves : Any variables of a series on one pair of axes.
    overview : The usual measures on one page, with the phases.

    Examples
    --------
    >>> import torch
    >>> from probe import WeightsProbe, plots
    >>> probe = WeightsProbe().attach(torch.nn.Linear(2, 2), (torch.zeros(2, 2), None))
    >>> _ = probe.observe(1), probe.observe(2)
    >>> figure = plots.measure(probe.series_, "WeightsProbe")
    >>> [ax.get_ylabel() for ax in figure.axes[:3]]
    ['Frobenius norm', 'stable rank', 'effective rank of singular values']
    """
    if name in _WHOLE:
        return _WHOLE[name](series, split)
    if name not in _PANELS:
        names = ", ".join(sorted({*_PANELS, *_WHOLE}))
        raise ValueError(f"Expected the name of a measure among {names}, got {name!r}; use plots.curves for others")
    measured = {one for panel in _PANELS[name] for one in panel.names if one in series and series[one].notnull().any()}
    panels = [panel for panel in _PANELS[name] if measured.intersection(panel.names)]
    if not panels:
        needed = ", ".join(name for panel in _PANELS[name] for name in panel.names)
        raise ValueError(f"Expected a series with values of any of {needed}, got none; record it with {name}")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = WIDTH * columns / 2, _HEIGHT * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for panel, ax in zip(panels, axes.flat, strict=False):
        if isinstance(panel, _Drawn):
            panel.draw(series, split, ax)
        else:
            _draw_lines(ax, series, panel, split)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    return figure


def _draw_lines(ax: Axes, series: xr.Dataset, panel: _Lines, split: str | None) -> None:
    names = [name for name in panel.names if name in series and series[name].notnull().any()]
    parts = {
        f"{name}{end}": _reduced(series[f"{name}{end}"], panel.over, split)
        for name in names
        for end in _ENDS
        if f"{name}{end}" in series and series[f"{name}{end}"].notnull().any()
    }
    for name, label in zip(panel.names, panel.labels, strict=False):
        if name in parts:
            parts[name].attrs["long_name"] = label
    first, ylabel = parts[names[0]], panel.ylabel
    if ylabel and _SPLIT in first.attrs:
        ylabel = f"{ylabel}, split {first.attrs[_SPLIT]}"
    if first.sizes.get("_label", 1) > _MOST_LINES:
        text = label_text(ylabel or first.attrs.get("long_name", names[0]), 80)
        heat_map(ax, first, with_unit(text, label_text(first.attrs.get("units", "1"))), log=panel.log)
        return
    curves(xr.Dataset(parts), names, ax=ax, log=panel.log, ylabel=ylabel)


def _reduced(array: xr.DataArray, over: str, split: str | None) -> xr.DataArray:
    """Return an array over run, step and ``over``, whose labels are words; a chosen split is part of the long_name."""
    if over != "split" and "split" in array.dims:
        measured = array.dropna("split", how="all")["split"].values.tolist()
        chosen = chosen_split([str(one) for one in measured], split)
        text = f"{array.attrs.get('long_name', array.name)}, split {chosen}"
        array = array.sel(split=chosen, drop=True).assign_attrs(array.attrs | {"long_name": text, _SPLIT: chosen})
    array = array.mean([dim for dim in ("batch", "slice") if dim in array.dims], keep_attrs=True)
    for dim in [dim for dim in array.dims if dim not in ("step", "run", "split", "layer", over)]:
        array = array.isel({dim: 0}, drop=True)
    if over not in ("layer", "parameter") or over not in array.dims:
        return array
    array = array.dropna(over, how="all")
    names = [layer_name(name) for name in short_names(array[over].values.astype(str).tolist())]
    return array.rename({over: "_label"}).assign_coords(_label=names)  # `curves` draws one layer alone
