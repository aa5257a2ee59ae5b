"""The partition of a slice of the input space into linear regions."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.names import layer_name
from probe.plots.regions.axes import (
    add_lines,
    check_partition,
    coordinates,
    count_text,
    drawn_sites,
    line_width,
    region_shapes,
    set_window,
)
from probe.plots.regions.dots import draw_points, points_on_plane
from probe.plots.regions.fills import Colour, Drawn, draw_boundaries, fill_regions
from probe.plots.regions.lines import borders, decision_lines, switches
from probe.plots.style import FONT

_DECISION = "#c4006a"
_PANEL, _MOST_COLUMNS = 3.1, 4  # inches, panels in a row
_LEGEND: dict[str, Any] = {"fontsize": FONT, "frameon": False}


@closes_on_error
def partition(
    partition: Any,
    *,
    site: str | None = None,
    ax: Axes | None = None,
    colour: Colour = "circuit",
    points: Any = None,
    labels: Sequence[Any] | None = None,
    decision: bool = True,
) -> Axes:
    r"""Draw the linear regions of a slice, after all sites or after one site.

    Black lines are the boundaries of the last drawn site, grey lines those of earlier sites. A wide line is a composite
    boundary, where several units switch at once. The title has the number of regions, "at least" if the partition
    stopped at this site.

    Parameters
    ----------
    partition : Partition
    site : str, optional
        Draw the regions after this site; by default after all sites.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.
    colour : {"circuit", "output", "hamming", "none"}
        "circuit": one colour for each circuit. Regions that the first site separates have different hues; a later
        site divides a region into lighter and darker shades of its hue. "output": the predicted class at the centre
        of the region. "hamming": the number of units in which the circuit differs from that of the first point, or
        without points from that in the middle of the window.
    points : Tensor of shape (n, ...), optional
        Inputs in the plane of the slice, drawn as dots.
    labels : sequence, optional
        Labels of the points. They are written beside up to 12 points, and listed in the legend for more points.
    decision : bool
        Draw the decision boundary: where the largest output changes, or where a single output changes its sign. An
        incomplete partition has none.

    Returns
    -------
    matplotlib.axes.Axes
        The axes have the units of the input. Inputs of two numbers are drawn at their own coordinates, others at
        their coordinates in the slice.

    Raises
    ------
    ValueError
        If there is no such site, or a point is not in the plane.

    See Also
    --------
    partitions : One panel for each site.
    region_changes : Which lines two partitions do not share.

    Examples
    --------
    >>> import torch
    >>> from probe import plots
    >>> from probe.geometry import input_plane, partition_slice, perceptron, square
    >>> network = perceptron([(torch.eye(2), [0.0, 0.0]), ([[1.0, 1.0]], [-1.0])])
    >>> found = partition_slice(network, input_plane(square(1.0)))
    >>> plots.partition(found).get_title()
    'after layer 0\n4 regions'
    """
    check_partition(partition)
    ax = new_axes(ax)
    arrays = _arrays(partition, points)
    if handles := _draw(ax, partition, arrays, site, colour, labels, decision):
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, **_LEGEND)
    return ax


@closes_on_error
def partitions(
    partition: Any,
    *,
    sites: str | Sequence[str] | None = None,
    colour: Colour = "circuit",
    points: Any = None,
    labels: Sequence[Any] | None = None,
    decision: bool = True,
) -> Figure:
    r"""Draw the linear regions of a slice layer by layer: one panel for each site, in the order of execution.

    Parameters
    ----------
    partition, colour, points, labels, decision
        As for :func:`partition`. The decision boundary is drawn after the last site alone.
    sites : str or sequence of str, optional
        Draw these sites; by default all sites.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is no such site, or a point is not in the plane.

    See Also
    --------
    partition : One panel, on given axes.

    Examples
    --------
    >>> import torch
    >>> from probe import plots
    >>> from probe.geometry import input_plane, partition_slice, perceptron, square
    >>> network = perceptron([(torch.eye(2), [0.0, 0.0]), ([[1.0, 1.0]], [-1.0])], last=True)
    >>> found = partition_slice(network, input_plane(square(1.0)))
    >>> [ax.get_title() for ax in plots.partitions(found).axes]
    ['after layer 0\n4 regions', 'after layer 1\n5 regions']
    """
    check_partition(partition)
    names = drawn_sites(partition) if sites is None else [sites] if isinstance(sites, str) else list(sites)
    if not names:
        raise ValueError("Expected at least one site, got none; use plots.partition for a network without bends.")
    rows = -(-len(names) // _MOST_COLUMNS)
    columns = -(-len(names) // rows)
    size = _PANEL * columns, (_PANEL + 0.8) * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="compressed", squeeze=False)
    arrays = _arrays(partition, points)
    handles = dict[str, Any]()
    for name, ax in zip(names, axes.flat, strict=False):
        last = name == drawn_sites(partition)[-1]
        drawn = _draw(ax, partition, arrays, name, colour, labels, decision and last)
        handles |= {handle.get_label(): handle for handle in drawn}
    for ax in axes.flat[len(names) :]:
        ax.remove()
    if handles:
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=2 * columns, **_LEGEND)
    return figure


def _arrays(partition: Any, points: Any) -> Drawn:
    patterns = partition.patterns()
    graph = borders(partition, patterns)
    positions = coordinates(partition, partition.vertices)
    return Drawn(
        positions,
        region_shapes(partition, positions),
        positions[graph.edges],
        switches(graph),
        patterns,
        None if points is None else points_on_plane(partition, points),
    )


def _draw(
    ax: Axes, partition: Any, arrays: Drawn, site: str | None, colour: Colour, labels: Any, decision: bool
) -> list[Any]:
    """Draw one panel, and return the entries of its legend."""
    sites = drawn_sites(partition)
    if site is not None and site not in sites:
        raise ValueError(f"Expected a site among {', '.join(sites)}, got {site!r}; pass one of them")
    depth = len(sites) if site is None else sites.index(site) + 1
    handles = fill_regions(ax, partition, arrays, depth, colour)
    handles += draw_boundaries(ax, arrays, depth, line_width(partition))
    if decision and partition.complete:
        lines = decision_lines(partition)
        segments = coordinates(partition, lines.reshape(-1, 2)).reshape(-1, 2, 2)
        add_lines(ax, segments, gid="decision", color=_DECISION, lw=1.6, zorder=3)
        handles += [Line2D([], [], color=_DECISION, lw=1.6, label="decision boundary")] * bool(len(lines))
    if arrays.dots is not None:
        handles += draw_points(ax, coordinates(partition, arrays.dots), labels)
    set_window(ax, partition)
    name = f"after {layer_name(sites[depth - 1])}" if depth else "no site"
    ax.set_title(f"{name}\n{count_text(partition, depth)}", fontsize=FONT)
    return handles
