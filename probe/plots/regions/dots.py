"""Points of data in the plot of a partition, with their labels."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from probe.plots.names import label_text
from probe.plots.regions.colours import CLASSES
from probe.plots.style import FONT

_INK = "#1d1d1d"
_MAX_NAMED = 12  # points with a label beside them
_MAX_LARGE = 200  # points above which their dots are smaller
_OFF_PLANE = 1e-6  # of the side of the window: distance from which on a point is not in the plane


def points_on_plane(partition: Any, points: Any) -> np.ndarray:
    """Return the coordinates (n, 2) of inputs in the plane."""
    found = partition.slice.coordinates(points)
    distance = np.abs(np.asarray(partition.slice.points(found)) - np.asarray(points)).reshape(len(points), -1).max(1)
    outside = distance > _OFF_PLANE * np.ptp(np.asarray(partition.slice.window), axis=0).max()
    if outside.any():
        raise ValueError(
            f"Expected points in the plane of the slice, got {outside.sum()} of {len(points)} outside it, at a "
            f"distance of up to {distance.max():.3g}; pass the points through which the slice goes"
        )
    return np.asarray(found)


def draw_points(ax: Axes, positions: np.ndarray, labels: Any) -> list[Any]:
    """Draw points, and return the entries of the legend."""
    size = 6 if len(positions) <= _MAX_NAMED else 3.5 if len(positions) <= _MAX_LARGE else 2.6
    style: dict[str, Any] = {"marker": "o", "lw": 0, "ms": size, "mec": "white", "mew": size / 10}
    style |= {"zorder": 4, "gid": "points"}
    if labels is None:
        ax.plot(*positions.T, color=_INK, **style)
        return []
    texts = np.array([label_text(label) for label in np.asarray(labels).tolist()])
    if len(texts) != len(positions):
        raise ValueError(f"Expected one label for each of {len(positions)} points, got {len(texts)}; pass as many")
    handles = []
    for number, text in enumerate(sorted(set(texts), key=lambda text: (len(text), text))):
        place = int(text) if text.isdecimal() else number
        colour = CLASSES[place % len(CLASSES)]
        ax.plot(*positions[texts == text].T, color=colour, **style)
        handles.append(Line2D([], [], color=colour, label=f"label {text}", **(style | {"ms": 6})))
    if len(positions) > _MAX_NAMED:
        return handles
    for (x, y), text in zip(positions, texts, strict=True):
        style = {"xytext": (6, 4), "textcoords": "offset points", "fontsize": FONT, "fontweight": "bold", "zorder": 4}
        ax.annotate(text, (x, y), color=_INK, path_effects=outlined(2.5), **style)
    return []


def outlined(width: float) -> list[Any]:
    """Return an outline on which dark lines and letters are readable on dark pages."""
    return [Stroke(linewidth=width, foreground="white"), Normal()]
