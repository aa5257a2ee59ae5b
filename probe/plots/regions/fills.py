"""Fills and boundaries of the regions of one panel."""

from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from probe.plots.regions.axes import add_lines, add_regions, coordinates
from probe.plots.regions.colours import CLASSES, TINTS, circuit_colours, hamming_distances, tint
from probe.plots.regions.dots import outlined
from probe.plots.regions.lines import class_parts, region_of
from probe.plots.style import FONT

Colour = Literal["circuit", "output", "hamming", "none"]
_INK, _EARLIER = "#1d1d1d", "#7a7a7a"


class Drawn(NamedTuple):
    """Arrays of a partition that all panels share."""

    positions: np.ndarray  # (V, 2), of the vertices in the plot
    shapes: Any  # array (R, most corners, 2)
    edges: np.ndarray  # (P, 2, 2)
    switching: np.ndarray  # (P, sites): units that switch at an edge
    patterns: dict[str, np.ndarray]
    dots: np.ndarray | None  # (n, 2), coordinates in the slice


def fill_regions(ax: Axes, partition: Any, arrays: Drawn, depth: int, colour: Colour) -> list[Any]:
    """Fill the regions, and return the entries of the legend."""
    patterns = dict(list(arrays.patterns.items())[:depth])
    if colour == "circuit":
        add_regions(ax, arrays.shapes, circuit_colours(patterns) if depth else tint(CLASSES[:1]))
    elif colour == "output":
        return _fill_classes(ax, partition, arrays)
    elif colour == "hamming":
        place = np.asarray(partition.slice.window).mean(0) if arrays.dots is None else arrays.dots[0]
        distances = np.zeros(len(arrays.shapes))  # without a site, and in a partition that stopped at the first one
        if patterns:
            distances = hamming_distances(patterns, region_of(partition, place))
        fill = add_regions(ax, arrays.shapes, "white")
        colours = LinearSegmentedColormap.from_list("tints", TINTS)
        fill.set(array=distances, cmap=colours, clim=(0, distances.max(initial=1)))
        bar = ax.figure.colorbar(fill, ax=ax, pad=0.02, shrink=0.8)
        bar.set_label("units that differ from the circuit at the cross", fontsize=FONT)
        bar.ax.tick_params(labelsize=FONT)
        ax.plot(*coordinates(partition, place[None]).T, "+", color=_INK, ms=9, mew=1.6, zorder=5)
    elif colour != "none":
        raise ValueError(f"Expected colour='circuit', 'output', 'hamming' or 'none', got {colour!r}; pass one of them")
    return []


def _fill_classes(ax: Axes, partition: Any, arrays: Drawn) -> list[Any]:
    """Colour regions by their class, and draw the parts of regions that the decision boundary divides."""
    tints = tint(CLASSES)
    classes, parts, of_parts = class_parts(partition, arrays.positions)
    add_regions(ax, arrays.shapes, tints[classes % len(tints)])
    if parts:
        add_regions(ax, parts, tints[np.array(of_parts) % len(tints)], gid="parts", zorder=0.6)
    shown = sorted({*classes[classes >= 0].tolist(), *of_parts})
    colours = tints.tolist()
    return [Patch(color=colours[c % len(tints)], label=f"class {c}") for c in shown] if len(shown) <= 10 else []


def draw_boundaries(ax: Axes, arrays: Drawn, depth: int, width: float) -> list[Any]:
    """Draw the boundaries of the first sites, and return the entries of the legend."""
    switching = arrays.switching[:, :depth]
    if depth > switching.shape[1]:  # the cuts of the site at which the partition stopped
        switching = np.concatenate([switching, switching.sum(1, keepdims=True) == 0], axis=1)
    if not depth:
        return []
    units, first = switching.sum(1), (switching > 0).argmax(1)
    handles = []
    for text, chosen, colour, wide in (
        ("boundaries of earlier layers", (units == 1) & (first < depth - 1), _EARLIER, 1.0),
        ("boundaries of this layer", (units == 1) & (first == depth - 1), _INK, 1.0),
        ("composite boundaries", units > 1, _INK, 2.5),
    ):
        add_lines(ax, arrays.edges[chosen], gid=text, zorder=2, color=colour, lw=wide * width)
        look: dict[str, Any] = {"color": colour, "lw": wide * max(width, 0.6), "path_effects": outlined(4)}
        handles += [Line2D([], [], label=text, **look)] * bool(chosen.any())
    return handles if len(handles) > 1 else []
