"""Shared by the plots of regions: coordinates, the window, the number of regions, lines of given widths."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.path import Path

from probe.plots.style import FONT

_WIDTH, _LEAST_WIDTH, _MOST_WIDTH = 16.0, 0.08, 1.0  # points: width times the root of the number of regions
_MOST_SHAPES = 1000  # lines or regions that remain shapes in files of vector graphics
_SEGMENTS = 500  # of one path: matplotlib needs 30 us for each path
_MARGIN = 0.02  # of the side of the window


def coordinates(partition: Any, points: Any) -> np.ndarray:
    """Return where points (n, 2) of the slice are drawn: inputs of two numbers at their own place."""
    points = np.asarray(points, float)
    axes, origin = np.asarray(partition.slice.axes), np.asarray(partition.slice.origin)
    return points if origin.size != 2 else origin.reshape(2) + points @ axes.reshape(2, 2)


def region_shapes(partition: Any, positions: np.ndarray) -> Any:
    """Return the corners (R, most corners, 2) of all regions at positions (V, 2); the last corner is repeated."""
    sizes = np.diff(partition.starts, append=len(partition.loops))
    corners = np.minimum(np.arange(sizes.max()), sizes[:, None] - 1)
    return positions[partition.loops[partition.starts[:, None] + corners]]


def add_regions(ax: Axes, shapes: Any, colours: Any, *, gid: str = "regions", **style: Any) -> PolyCollection:
    """Fill polygons, as pixels in files of vector graphics."""
    look: dict[str, Any] = {"lw": 0, "antialiased": False, "rasterized": len(shapes) > _MOST_SHAPES, "zorder": 0.5}
    fill = PolyCollection(shapes, facecolors=colours, gid=gid, **(look | style))
    ax.add_collection(fill, autolim=False)
    return fill


def set_window(ax: Axes, partition: Any) -> None:
    """Set the limits to the window, equal units on both axes, and their labels."""
    window = coordinates(partition, partition.slice.window)
    low, high = window.min(0), window.max(0)
    margin = _MARGIN * (high - low)
    ax.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    ax.set_aspect("equal", adjustable="box")
    own = np.asarray(partition.slice.origin).size == 2
    ax.set_xlabel("input 1" if own else "direction 1 (units of the input)", fontsize=FONT)
    ax.set_ylabel("input 2" if own else "direction 2 (units of the input)", fontsize=FONT)
    ax.tick_params(labelsize=FONT)
    ax.locator_params(nbins=5)
    ax.spines[:].set_visible(False)
    outline = np.concatenate([window, window[:1]])
    ax.plot(*outline.T, color=mpl.rcParams["axes.edgecolor"], lw=0.8, gid="window", solid_joinstyle="miter")


def check_partition(partition: Any) -> None:
    """Raise TypeError unless this is a partition."""
    if not hasattr(partition, "arrangements"):
        raise TypeError(f"Expected a Partition, got {type(partition).__name__}; make it with partition_slice")


def drawn_sites(partition: Any) -> list[str]:
    """Return the names of the sites, up to the one at which an incomplete partition stopped."""
    return list(partition.network.sites)[: len(partition.arrangements) + (not partition.complete)]


def count_text(partition: Any, depth: int) -> str:
    """Return the number of regions after some sites in words: "27 regions", or "at least 27 regions"."""
    found = partition.arrangements
    exact = depth <= len(found)
    count = partition.n_regions if not exact else found[depth - 1].n_regions if depth else 1
    return f"{'' if exact else 'at least '}{count:,} region{'' if count == 1 else 's'}"


def line_width(partition: Any) -> float:
    """Return a width in points at which the lines of this number of regions do not cover the regions."""
    return float(np.clip(_WIDTH / partition.n_regions**0.5, _LEAST_WIDTH, _MOST_WIDTH))


def add_lines(ax: Axes, segments: np.ndarray, *, gid: str, color: Any, lw: float, zorder: float) -> None:
    """Draw segments (S, 2, 2), as pixels in files of vector graphics."""
    parts = [segments[first : first + _SEGMENTS] for first in range(0, len(segments), _SEGMENTS)]
    paths = [Path(part.reshape(-1, 2), np.tile([Path.MOVETO, Path.LINETO], len(part))) for part in parts]
    style: dict[str, Any] = {"facecolors": "none", "edgecolors": color, "linewidths": lw, "zorder": zorder, "gid": gid}
    if paths:
        lines = PathCollection(paths, rasterized=len(segments) > _MOST_SHAPES, **style)
        ax.add_collection(lines, autolim=False)
