"""Lines and crossings that two partitions of one slice do not share, by mechanism."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probe.plots.axes import closes_on_error
from probe.plots.names import label_text
from probe.plots.regions.axes import (
    add_lines,
    add_regions,
    coordinates,
    count_text,
    line_width,
    region_shapes,
    set_window,
)
from probe.plots.regions.colours import circuit_colours
from probe.plots.regions.lines import borders, switches
from probe.plots.style import FONT, WIDTH

# Okabe and Ito. A mechanism and its reverse have one colour.
MECHANISM_COLOURS = {
    "disappearance": "#d55e00",
    "appearance": "#d55e00",
    "merging": "#0072b2",
    "splitting": "#0072b2",
    "alignment": "#009e73",
    "crossing": "#009e73",
    "folding": "#8a8a8a",
}
_KEPT = "#8f8f8f"
_PALE = 0.45  # share of the colours of circuits
_MAX_MARKS = 400  # crossings above which their marks are smaller


class _Part(NamedTuple):
    """What one mechanism marks in one panel."""

    mechanism: str
    text: str  # in the legend, of lines or of crossings
    is_line: bool
    is_counted: bool  # the lines or crossings of this panel are the lost or the new ones


_BEFORE = (
    _Part("disappearance", "line that leaves the window", True, True),
    _Part("merging", "line that merges with another", True, True),
    _Part("splitting", "line that will separate from another", True, False),
    _Part("alignment", "crossing that is lost", False, True),
)
_AFTER = (
    _Part("appearance", "line that is new in the window", True, True),
    _Part("merging", "line that has merged with another", True, False),
    _Part("splitting", "line that has separated from another", True, True),
    _Part("crossing", "crossing that is new", False, True),
)


@closes_on_error
def region_changes(
    before: Any,
    after: Any,
    changes: Any,
    *,
    site: str | None = None,
    names: tuple[str, str] = ("before", "after"),
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Draw the lines of a slice at two observations, and mark what the changes of the number of regions are due to.

    At the left are the lines before. Lines that leave the window or that merge with another one are coloured. Rings
    are crossings that are lost although both lines are still there (alignment). At the right are the lines after, with
    the new lines and crossings. Grey lines are unchanged or only moved. A circuit has the same pale colour at both.

    Parameters
    ----------
    before, after : Partition
        Of the same slice.
    changes : RegionChanges
        ``region_changes(before, after)`` of :mod:`probe.geometry`.
    site : str, optional
        Mark the changes of this site alone, and draw the lines of the sites up to it; by default those of all sites.
    names : pair of str
        Names of the two observations, such as their steps.
    axes : pair of matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels. The title of the figure, or on given axes that of the second panel, has the change of the number of
        regions by each mechanism, and the legend the number of lines and crossings. A point where several lines cross
        adds several regions, so both numbers can differ.

    Raises
    ------
    ValueError
        If there is no such site.

    See Also
    --------
    partition : The regions of one observation.
    mechanisms : The mechanisms over training.

    Examples
    --------
    >>> import torch
    >>> from probe import plots
    >>> from probe.geometry import input_plane, partition_slice, perceptron, region_changes, square
    >>> def partition(bias):
    ...     return partition_slice(perceptron([(torch.eye(2), bias)], last=True), input_plane(square(1.0)))
    >>> before, after = partition([0.0, 0.0]), partition([-3.0, 0.0])
    >>> figure = plots.region_changes(before, after, region_changes(before, after))
    >>> [ax.get_title() for ax in figure.axes], figure.get_suptitle()
    (['before: 4 regions', 'after: 2 regions'], 'change of −2 regions: disappearance −2')
    """
    sites = list(changes.sites)
    if site is not None and site not in sites:
        raise ValueError(f"Expected a site among {', '.join(sites)}, got {site!r}; pass one of them")
    summary, new = _summary(changes, site), axes is None
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(WIDTH, 6), layout="compressed")[1]
    depth = len(sites) if site is None else sites.index(site) + 1
    sides = zip(axes, (before, after), (_BEFORE, _AFTER), names, strict=True)
    for ax, partition, parts, name in sides:
        handles = _draw_side(ax, partition, parts, changes, depth, site)
        set_window(ax, partition)
        ax.set_title(f"{label_text(name)}: {count_text(partition, depth)}", fontsize=10)
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 1 + new}
        ax.legend(handles=handles, fontsize=FONT, frameon=False, **place)
    figure: Any = axes[0].figure
    if new:
        figure.suptitle(summary, fontsize=10)
    else:
        axes[1].set_title(f"{axes[1].get_title()}\n{summary}", fontsize=FONT)
    return figure


def _draw_side(
    ax: Axes, partition: Any, parts: Iterable[_Part], changes: Any, depth: int, site: str | None
) -> list[Line2D]:
    """Draw one observation, and return the entries of its legend."""
    positions, width = coordinates(partition, partition.vertices), line_width(partition)
    patterns = partition.patterns()
    graph = borders(partition, patterns)
    colours = circuit_colours(dict(list(patterns.items())[:depth]))
    add_regions(ax, region_shapes(partition, positions), 1 - _PALE * (1 - colours))
    drawn = switches(graph)[:, :depth].any(1)
    add_lines(ax, positions[graph.edges[drawn]], gid="kept", color=_KEPT, lw=max(width, 0.3), zorder=1)
    handles = [Line2D([], [], color=_KEPT, label="line that remains")]
    for part in parts:
        style: dict[str, Any] = {"color": MECHANISM_COLOURS[part.mechanism], "gid": part.text}
        if part.is_line:
            found: Any = [one for one in changes.boundaries.get(part.mechanism, ()) if site in (None, one[0])]
            style |= {"lw": 0.6 + (1.3 if part.is_counted else 2.6) * width, "zorder": 2}
            edges = [positions[graph.edges[_borders_of(graph, one)]] for one in found]
            add_lines(ax, np.concatenate([np.zeros((0, 2, 2)), *edges]), **style)
        else:
            pairs = changes.pairs.get(part.mechanism, ())
            found = _meetings(graph, [pair for pair in pairs if site in (None, pair[1][0])])
            size = 6 if len(found) <= _MAX_MARKS else 2.5
            style |= {"marker": "o", "mfc": "none", "mew": 1.2, "ms": size, "lw": 0, "zorder": 3}
            ax.plot(*positions[found].T, **style)
        handles += [Line2D([], [], label=f"{part.text}: {len(found):,}", **style)] * bool(len(found))
    return handles


def _borders_of(graph: Any, boundary: tuple[str, int, int]) -> np.ndarray:
    """Return the borders on which a boundary (site, unit, breakpoint) lies."""
    site = graph.sites.index(boundary[0])
    number = graph.sizes[:site].sum() + boundary[1] * graph.breakpoints[site] + boundary[2]
    return graph.border_of[graph.boundary_of == number]


def _meetings(graph: Any, pairs: Iterable[Any]) -> np.ndarray:
    """Return the vertices inside the window where the boundaries of any of these pairs meet."""
    ends = cache(lambda boundary: np.unique(graph.edges[_borders_of(graph, boundary)]))
    found = [np.intersect1d(ends(one), ends(other), assume_unique=True) for one, other in pairs]
    points = np.unique(np.concatenate([np.zeros(0, int), *found]).astype(int))
    return points[graph.inside[points]]


def _summary(changes: Any, site: str | None) -> str:
    """Return the change of the number of regions by each mechanism as text."""
    chosen = slice(None) if site is None else list(changes.sites).index(site)
    change = int(np.sum((changes.after - changes.before)[chosen]))
    parts = {name: float(np.sum(values[chosen])) for name, values in changes.parts.items()}
    texts = [f"{name} {value:+,g}" for name, value in parts.items() if value]
    place = "" if site is None else f" at site {label_text(site)}"
    text = f"change{place} of {change:+,} regions: {', '.join(texts)}" if texts else f"no change{place}"
    return text.replace("-", "\N{MINUS SIGN}")
