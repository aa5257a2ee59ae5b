"""Overview of one series on one page."""

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.humps import draw_size, write_missing
from probe.plots.lines import curves, of_layer
from probe.plots.names import marker_colours
from probe.plots.page_texts import legend_of, verdict_text
from probe.plots.panels import PLANE, Panel, standard_panels, wanted_panels
from probe.plots.plane import information_plane
from probe.plots.shading import phases
from probe.plots.strip import phase_strip
from probe.plots.style import FONT, WIDTH, ink
from probe.plots.titles import write_title

_HEIGHT = 3.3  # inches, of one panel


@closes_on_error
def overview(
    series: xr.Dataset,
    detector: Any = None,
    *,
    title: str = "",
    panels: Sequence[str | Sequence[str]] | str | None = None,
) -> Figure:
    """Draw the curves with their phases on one page, below the verdict.

    The text at the top is the sentence of ``verdict_``; for several runs, the number of runs of each class. One run
    has its phases as shades. All markers are lines in each panel, in the colours of the legend, and have a label in the
    panel of their curve. For several runs, the curves show medians of curves and markers, and one more panel has
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
    figure = plt.figure(figsize=_size(count), layout="constrained")
    places = _places(figure, count)
    with_curves = [one for one in chosen if one.names != PLANE]
    for one, named, ax in zip(with_curves, _named(detector, with_curves), places, strict=False):
        _draw_panel(ax, series, detector, one, named)
    if several:
        phase_strip(detector, ax=next(places))
    if any(one.names == PLANE for one in chosen):
        split = _split_of(series["split"], detector)
        information_plane(series, split=split, detector=detector, ax=next(places))
    handles = legend_of(figure, series, detector, several)
    if handles:
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": min(len(handles), 3 if count == 1 else 5)}
        figure.legend(handles=handles, fontsize=FONT, frameon=False, **place)
    verdict = verdict_text(detector)
    write_title(figure, f"{title}: {verdict}" if title and verdict else title or verdict)
    return figure


def _size(count: int) -> tuple[float, float]:
    """Return width and height (inches) of a page with this number of panels."""
    rows = -(-count // 2)
    return WIDTH if count > 1 else 0.65 * WIDTH, _HEIGHT * rows + 0.8


def _places(figure: Figure, count: int) -> Iterator[Axes]:
    """Yield axes in two columns; the last of an odd number has the whole width."""
    grid = figure.add_gridspec(-(-count // 2), min(count, 2))
    for i in range(count):
        alone = count % 2 and i == count - 1
        yield figure.add_subplot(grid[i // 2, :] if alone else grid[i // 2, i % 2])


@closes_on_error
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
    ['fit end']
    """
    (one,) = wanted_panels(series, detector, [names])
    ax = new_axes(ax)
    _draw_panel(ax, series, detector, one if log is None else Panel(one.names, one.ylabel, log))
    return ax


def _named(detector: Any, panels: Sequence[Panel]) -> list[list[str]]:
    """Return which markers have their label in which panel: in those of their curve, or else in the first."""
    named: list[list[str]] = [[] for _ in panels]
    markers = getattr(detector, "markers_", None)
    if markers is None or not panels:
        return named
    for name in markers["marker"].values.tolist():
        curve = markers["curve"].sel(marker=name).item() if "curve" in markers.coords else ""
        own = [i for i, one in enumerate(panels) if curve in (*one.names, *one.marked)]
        for i in own or [0]:
            named[i].append(name)
    return named


def _draw_panel(ax: Axes, series: xr.Dataset, detector: Any, one: Panel, named: bool | Sequence[str] = True) -> None:
    """Draw curves, markers and sizes, and name the markers without a step below the axes."""
    curves(series, one.names, ax=ax, log=one.log, ylabel=one.ylabel, layer=getattr(detector, "layer", None))
    if one.zero:
        ax.axhline(0, color=ink(ax), lw=0.8, zorder=0, gid="zero")
    if one.least is not None:
        _cut(ax, one.least)
    if detector is not None:
        phases(detector, ax=ax, names=named)
        _draw_sizes(ax, series, detector, one)
        write_missing(ax, detector.markers_, [*one.names, *one.marked])


def _cut(ax: Axes, least: float) -> None:
    """Let the y axis begin at a value, and write how far the curves go that leave it."""
    named = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    lowest = [(line.get_label(), np.nanmin([np.inf, *np.asarray(line.get_ydata(), dtype=float)])) for line in named]
    below = [f"{label} to {value:.1g}" for label, value in lowest if value < least]
    ax.set_ylim(bottom=max(least, ax.get_ylim()[0]))
    if below:
        style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "color": ink(ax)}
        text = f"\u2193 {', '.join(below)}"
        ax.annotate(text, (0, 0), (5, 4), va="bottom", fontsize=FONT, gid="cut", **style)


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
