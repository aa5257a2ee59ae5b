"""The size of a hump, its further tops, and the markers without a step, in the panel of their curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.names import marker_labels
from probe.plots.style import FONT, background, ink, line_colour, text_colour
from probe.words import STATUS_NAMES

_LOWEST, _EDGE = 0.1, 0.15  # fractions of the axes: least height of the label, and where it is not centred
_HALO = {"edgecolor": "none", "alpha": 0.6, "pad": 0.5}


def draw_size(ax: Axes, marker: xr.Dataset, curve: xr.DataArray, colour: str) -> None:
    """Draw the size of the hump of one run as an arrow below its top, and further tops as small triangles.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes with the curve, with its final scales.
    marker : xarray.Dataset
        One found marker of one run.
    curve : xarray.DataArray
        Its curve, over ``step``.
    colour : str
        Colour of the marker.
    """
    seen, colour = curve.dropna("step"), line_colour(colour, ax)
    at = [float(seen.sel(step=top, method="nearest")) for top in (float(marker["step"]), *_others(marker))]
    step, top, size = float(marker["step"]), at[0], float(marker["size"])
    for other, value in zip(_others(marker), at[1:], strict=True):
        ax.plot(other, value, marker=7, ms=6, color=colour, mec=background(ax), mew=0.5, zorder=3, gid="top")
    if not size > 0:
        return
    low = ax.get_ylim()[0]
    foot = max(top - size, low) if ax.get_yscale() == "linear" else max(top - size, low, 1e-300)
    arrow = {"arrowstyle": "<->", "color": colour, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (step, top), (step, foot), arrowprops=arrow, zorder=3)
    inverse, to_axes = ax.transAxes.inverted().transform, ax.transData.transform
    x, y = inverse(to_axes((step, foot)))
    share = f" ({100 * float(marker['size_share']):.0f} %)" if np.isfinite(marker["size_share"]) else ""
    number = f"{size:,.0f}" if size >= 100 else f"{size:#.2g}".rstrip(".")  # as in the sentence above the plot
    ax.annotate(
        f"size {number}{share}", (step, max(y, _LOWEST)), (0, -3), xycoords=ax.get_xaxis_transform(),
        textcoords="offset points", ha="left" if x < _EDGE else "right" if x > 1 - _EDGE else "center", va="top",
        fontsize=FONT, color=text_colour(colour, ax), bbox=_HALO | {"facecolor": background(ax)}, zorder=4, gid="size",
    )  # fmt: skip


def _others(marker: xr.Dataset) -> list[float]:
    """Return the tops before the last one, which is the step of the marker."""
    tops = marker["tops"].values if "tops" in marker else np.empty(0)
    return [float(top) for top in tops if np.isfinite(top) and top != float(marker["step"])]


def write_missing(ax: Axes, markers: xr.Dataset, variables: Sequence[str]) -> None:
    """Write below the axes which markers of these variables were not found, and why; of several runs, in how many."""
    if "curve" not in markers.coords:
        return
    texts = []
    for name, label in marker_labels(markers).items():
        one = markers.sel(marker=name)
        status = one["status"].values
        if one["curve"].item() in variables and (status != "found").any():
            texts.append(f"{label}: {_state(status)}")
    below: dict[str, Any] = {"xycoords": ax.xaxis.label, "textcoords": "offset points", "ha": "center", "va": "top"}
    if texts:
        style: dict[str, Any] = {"fontsize": FONT, "style": "italic", "color": ink(ax), "gid": "missing"}
        ax.annotate("\n".join(texts), (0.5, 0), (0, -3), **below, **style)


def _state(status: np.ndarray) -> str:
    """Return the status of one run, or the number of runs by status."""
    words, counts = np.unique([STATUS_NAMES.get(word, word) for word in status.tolist()], return_counts=True)
    if len(status) == 1:
        return str(words[0])
    return ", ".join(f"{count} {word}" for word, count in sorted(zip(words, counts, strict=True), key=lambda p: -p[1]))
