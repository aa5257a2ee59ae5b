"""Overview of one series on one page."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from probe.plots.axes import DARK, PHASES, UNKNOWN, label_text, marker_colours, new_axes
from probe.plots.humps import draw_size, write_missing
from probe.plots.lines import band_text, curves, of_layer
from probe.plots.panels import PLANE, Panel, standard_panels, wanted_panels
from probe.plots.plane import information_plane
from probe.plots.shading import phases
from probe.plots.strip import phase_strip

_SIZE = 4.6, 3.5  # inches, of one panel
_CHARACTER = 0.6  # mean width of a character over its size


def overview(
    series: xr.Dataset,
    detector: Any = None,
    *,
    title: str = "",
    panels: Sequence[str | Sequence[str]] | str | None = None,
) -> Figure:
    """Draw the curves with their phases on one page, below the verdict.

    The text at the top is the sentence of ``verdict_``; for several runs, the number of runs of each class. One run
    has its phases as shades. For several runs, the curves show medians of curves and markers, and one more panel has
    the phases of each run (:func:`phase_strip`). An arrow shows the size of a hump, a small triangle a further top.
    Markers without a step are named below their curve. The axis of losses is logarithmic if they differ by a factor
    above 30, unless a hump has a tenth of their range. It then ends at a thirtieth of the least test loss.

    Parameters
    ----------
    series : xarray.Dataset
    detector : PhaseDetector, optional
        Fitted. Its phases and markers are drawn, and its roles name the accuracies and losses.
    title : str
        Name of the run or of the runs.
    panels : sequence of str or of sequences of str, optional
        One entry per panel: a variable or a role, or several of them for one pair of axes; "information_plane" is the
        plane. By default accuracy, loss, information, local complexity, linear mapping number, growth of a
        perturbation, velocity of the tangent kernel and information plane, without those that are missing from the
        series. Of variables with layers, the layer of the detector or the deepest measured one is drawn, and all
        splits. The plane shows one split: that of the detector, or else ``train``, or else the first.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the series contains no variable of any panel, or not the variables asked for.

    See Also
    --------
    panel : One of the panels, on given axes.
    curves : Any variables, without phases.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> steps = np.arange(1, 30)
    >>> series = xr.Dataset({"train_loss": ("step", 1 / steps), "lr": ("step", 1.0 * steps)}, {"step": steps})
    >>> figure = plots.overview(series, title="one run")
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['loss']
    >>> [ax.get_ylabel() for ax in plots.overview(series, panels=["lr", ["train_loss", "lr"]]).axes]
    ['lr', 'train_loss, lr']
    """
    chosen = standard_panels(series, detector) if panels is None else wanted_panels(series, detector, panels)
    several = detector is not None and detector.markers_.sizes["run"] > 1
    count = len(chosen) + several
    columns = min(3, count) if count != 4 else 2
    rows = -(-count // columns)
    figure = plt.figure(figsize=(max(_SIZE[0] * columns, 6), _SIZE[1] * rows + 0.6), layout="constrained")
    places = iter(figure.add_subplot(rows, columns, i + 1) for i in range(count))
    for one, ax in zip([one for one in chosen if one.names != PLANE], places, strict=False):
        _draw_panel(ax, series, detector, one)
    if several:
        phase_strip(detector, ax=next(places))
    if any(one.names == PLANE for one in chosen):
        split = _split_of(series["split"], detector)
        information_plane(series, split=split, detector=detector, ax=next(places))
    handles = _legend_of(figure, series, detector, several)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5, frameon=False)
    _write_title(figure, detector, title)
    return figure


def panel(
    series: xr.Dataset,
    names: Sequence[str],
    detector: Any = None,
    *,
    ax: Axes | None = None,
    log: bool | None = None,
) -> Axes:
    """Draw one panel of an overview: curves, phases and markers, and the size of a hump.

    Parameters
    ----------
    series, detector
        As for :func:`overview`.
    names : sequence of str
        Variables or roles.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.
    log : bool, optional
        Logarithmic y axis; by default as in an overview.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        For an unknown variable.

    See Also
    --------
    overview : All panels, the verdict and the phases of all runs.

    Examples
    --------
    >>> import numpy as np
    >>> from probe import PhaseDetector, plots
    >>> steps = np.arange(1, 60)
    >>> detector = PhaseDetector().fit({"step": steps, "train_accuracy": np.minimum(1, steps / 20)})
    >>> ax = plots.panel(detector.curves_, ["train_accuracy"], detector)
    >>> [text.get_text() for text in ax.texts]
    ['fit']
    """
    (one,) = wanted_panels(series, detector, [names])
    ax = new_axes(ax)
    _draw_panel(ax, series, detector, one if log is None else Panel(one.names, one.ylabel, log))
    return ax


def _draw_panel(ax: Axes, series: xr.Dataset, detector: Any, one: Panel) -> None:
    """Draw curves, markers and sizes, and name the markers without a step below the axes."""
    curves(series, one.names, ax=ax, log=one.log, ylabel=one.ylabel, layer=getattr(detector, "layer", None))
    if one.zero:
        ax.axhline(0, color=DARK, lw=0.8, zorder=0, gid="zero")
    if one.least is not None:
        ax.set_ylim(bottom=max(one.least, ax.get_ylim()[0]))
    handles, labels = ax.get_legend_handles_labels()
    if labels == [ax.get_ylabel()]:  # the legend would repeat the label of the axis
        ax.legend([], frameon=False)
    else:
        ax.legend(handles, labels, fontsize=8)
    if detector is not None:
        phases(detector, ax=ax)
        _draw_sizes(ax, series, detector, one)
        write_missing(ax, detector.markers_, [*one.names, *one.marked])


def _draw_sizes(ax: Axes, series: xr.Dataset, detector: Any, one: Panel) -> None:
    """Draw the humps of one run."""
    markers, colours = detector.markers_, marker_colours(detector.markers_)
    if markers.sizes["run"] > 1 or "curve" not in markers.coords:
        return
    for name in markers["marker"].values[markers["status"].values[0] == "found"].tolist():
        marker = markers.sel(marker=name).isel(run=0)
        variable = marker["curve"].item()
        if variable in one.names and np.isfinite(marker["size"]):
            curve = of_layer(series[variable], detector.layer).squeeze(drop=True)
            if "split" in curve.dims:
                curve = curve.sel(split=_split_of(curve["split"], detector))
            draw_size(ax, marker, curve, colours[name])


def _split_of(labels: xr.DataArray, detector: Any) -> str:
    """Return the split of the detector, else "train", else the first one."""
    names = [str(label) for label in labels.values]
    wanted = [name for name in (getattr(detector, "split", "train"), "train") if name in names]
    return (wanted or names)[0]


def _legend_of(figure: Figure, series: xr.Dataset, detector: Any, several: bool) -> list[Any]:
    """Return the entries for phases, intervals, and the lines of several runs."""
    handles: list[Any] = []
    if detector is not None:
        words = {**PHASES, -1: UNKNOWN} if several else PHASES
        occurring = [phase for phase in words if (detector.phases_ == phase).any()]
        handles += [Patch(color=words[phase][1], label=words[phase][0]) for phase in occurring]
        if any(line.get_gid() == "interval" for ax in figure.axes for line in ax.lines):
            handles.append(Line2D([], [], color="#888888", lw=4, label="interval of a marker"))
    if text := band_text(series.sizes.get("run", 1)):
        handles.append(Line2D([], [], color="#888888", lw=2, label=text))
    return handles


def _write_title(figure: Figure, detector: Any, title: str) -> None:
    """Write title and verdict at the top, left aligned, in lines as long as the figure is wide."""
    verdict = _verdict(detector)
    width = int(figure.get_size_inches()[0] * 72 / (11 * _CHARACTER))
    lines = textwrap.wrap(f"{title}: {verdict}" if title and verdict else title or verdict, width)
    if lines:
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, color=DARK)


def _verdict(detector: Any) -> str:
    """Return the sentence of one run, or the number of runs of each class."""
    if not hasattr(detector, "verdict_"):
        return ""
    if detector.verdict_.sizes["run"] == 1:
        return label_text(detector.verdict_["sentence"].values[0], 2000)
    names, counts = np.unique(detector.verdict_["class"].values.astype(str), return_counts=True)
    if len(names) == 1:
        return f"{'Both' if counts[0] == 2 else f'All {counts[0]}'} runs: {label_text(names[0])}"
    order = np.argsort(-counts, kind="stable")
    return f"{counts.sum()} runs: " + ", ".join(f"{counts[i]} {label_text(names[i])}" for i in order)
