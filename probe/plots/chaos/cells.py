"""Cells over two axes of steps, and marks of single runs above them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import ArrayLike

from probe.plots.axes import drawn_steps, ink

COLOURS = "cividis_r"  # small is light; readable for colour-blind readers, and in grey print
_MOST_TICKS = 12
_NEAR = 0.045  # of the axis, below which two marks or two labels overlap
_ROW = 9  # points, from one mark to the mark above it


def draw_cells(ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, label: str) -> None:
    """Draw values (y, x) over steps as cells, with a colour bar. Cells without a value stay empty."""
    log = not (_even(x) and _even(y))
    x, y = (drawn_steps(steps.astype(float)) if log else steps.astype(float) for steps in (x, y))
    ends = _edges(x, log), _edges(y, log)
    measured = np.ma.masked_invalid(values)
    low, high = (measured.min(), measured.max()) if measured.count() else (0.0, 0.0)
    mesh = ax.pcolormesh(*ends, measured, cmap=COLOURS, vmin=min(low, 0), vmax=high if high > 0 else 1)
    for name, steps, edge in (("x", x, ends[0]), ("y", y, ends[1])):
        ax.set(**{f"{name}scale": "log" if log else "linear", f"{name}lim": edge[[0, -1]]})
        if log:
            _set_ticks(getattr(ax, f"{name}axis"), steps)
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label(label)


def _even(steps: np.ndarray) -> bool:
    gaps = np.diff(steps)
    return len(gaps) > 1 and np.allclose(gaps, gaps[0])


def _edges(steps: np.ndarray, log: bool) -> np.ndarray:
    """Return the edges (n + 1,) of the cells of steps (n,), in the middle between two steps."""
    places = np.log(steps) if log else steps
    middle = (places[1:] + places[:-1]) / 2
    half = middle[[0, -1]] - places[[0, -1]] if len(middle) else np.array([0.5, -0.5])
    found = np.concatenate([places[:1] - half[0], middle, places[-1:] - half[1]])
    return np.exp(found) if log else found


def _set_ticks(axis: Any, steps: np.ndarray) -> None:
    """Label the steps if there are few, else the first one and powers of ten. One half is step 0."""
    powers = 10.0 ** np.arange(np.ceil(np.log10(steps[0])), np.floor(np.log10(steps[-1])) + 1)
    wanted = steps if len(steps) <= _MOST_TICKS else np.union1d(steps[:1], powers)
    kept = list[float]()
    for step in wanted:
        if not kept or np.log(step / kept[-1]) > 1.8 * _NEAR * np.log(steps[-1] / steps[0]):
            kept.append(float(step))
    axis.set_major_locator(FixedLocator(kept))
    axis.set_major_formatter(FixedFormatter([f"{step:,g}" if step != 0.5 else "0" for step in kept]))
    axis.set_minor_locator(NullLocator())


def mark_runs(ax: Axes, steps: ArrayLike, what: str) -> float:
    """Mark a step of each run above the axes, near ones above each other, and return the height of all marks in points.

    NaN is a run without the step; their number is in the legend.
    """
    found = np.sort(np.asarray(steps, dtype=float).ravel())
    measured = found[~np.isnan(found)]
    places = drawn_steps(measured) if ax.get_xscale() == "log" else measured
    tops = np.reshape([(x, ax.get_ylim()[1]) for x in places], (-1, 2))  # none without a measured step
    share = ax.transAxes.inverted().transform(ax.transData.transform(tops))[:, 0]
    first, rows = -np.inf, list[int]()
    for one in share:
        near = one - first < _NEAR
        rows.append(rows[-1] + 1 if near else 0)
        first = first if near else one
    lost = len(found) - len(measured)
    text = f"{what} of {f'each of {len(found)} runs' if len(found) > 1 else 'the run'}"
    text += f" ({lost} without)" * bool(lost)
    height = ax.get_window_extent().height / ax.figure.dpi * 72
    marks = 1 + (5 + _ROW * np.array(rows, dtype=float)) / height
    ax.plot(
        places, marks, "v", transform=ax.get_xaxis_transform(), gid="runs", label=text,
        ms=6, color=ink(ax), mec="white", mew=0.6, clip_on=not rows,  # the layout makes room for an empty line
    )  # fmt: skip
    return 5.0 + _ROW * (max(rows) + 1) if rows else 0.0
