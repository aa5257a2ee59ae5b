"""Cells over two axes of steps, and marks of single runs above them."""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import ArrayLike

from probe.plots.steps import first_positive, scale_steps, step_places, step_text, steps_at
from probe.plots.style import background, ink

COLOURS = "cividis_r"  # small is light; readable for colour-blind readers, and in grey print
_MOST_TICKS = 12
_NEAR = 0.045  # of the axis, below which two marks or two labels overlap
_ROW = 9  # points, from one mark to the mark above it


def draw_cells(ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, label: str) -> None:
    """Draw values (y, x) over steps as cells, with a colour bar. Cells without a value stay empty."""
    log = is_log(x, y)
    ends = cell_edges(x, log), cell_edges(y, log)
    measured = np.ma.masked_invalid(values)
    low, high = (measured.min(), measured.max()) if measured.count() else (0.0, 0.0)
    mesh = ax.pcolormesh(*ends, measured, cmap=COLOURS, vmin=min(low, 0), vmax=high if high > 0 else 1)
    axes: tuple[tuple[Literal["x", "y"], np.ndarray, np.ndarray], ...] = ("x", x, ends[0]), ("y", y, ends[1])
    for name, steps, edge in axes:
        scale_steps(ax, steps, log=log, which=name)
        ax.set(**{f"{name}lim": edge[[0, -1]]})
        if log:
            _set_ticks(getattr(ax, f"{name}axis"), steps.astype(float))
    bar = ax.figure.colorbar(mesh, cax=ax.inset_axes((1.04, 0, 0.05, 1)))  # as high as the cells
    bar.set_label(label)


def is_log(x: np.ndarray, y: np.ndarray) -> bool:
    """Return whether the axes are logarithmic: unless both have even steps."""
    gaps = [np.diff(steps) for steps in (x, y)]
    return not all(len(one) > 1 and np.allclose(one, one[0]) for one in gaps)


def cell_edges(steps: np.ndarray, log: bool) -> np.ndarray:
    """Return the edges (n + 1,) of the cells of steps (n,), in the middle between two steps."""
    steps = steps.astype(float)
    first = first_positive(steps)
    places = step_places(steps, first) if log else steps
    middle = (places[1:] + places[:-1]) / 2
    half = middle[[0, -1]] - places[[0, -1]] if len(middle) else np.array([0.5, -0.5])
    found = np.concatenate([places[:1] - half[0], middle, places[-1:] - half[1]])
    return steps_at(found, first) if log else found


def _set_ticks(axis: Any, steps: np.ndarray) -> None:
    """Label the steps if there are few, else the first one and powers of ten."""
    first = first_positive(steps)
    powers = 10.0 ** np.arange(np.ceil(np.log10(first)), np.floor(np.log10(steps[-1])) + 1)
    wanted = steps if len(steps) <= _MOST_TICKS else np.union1d(steps[:1], powers)
    kept, (start, end) = list[float](), step_places(steps[[0, -1]], first)
    for step in wanted:
        if not kept or np.ptp(step_places([kept[-1], step], first)) > 1.8 * _NEAR * (end - start):
            kept.append(float(step))
    axis.set_major_locator(FixedLocator(kept))
    axis.set_major_formatter(FixedFormatter([step_text(step) for step in kept]))
    axis.set_minor_locator(NullLocator())


def mark_runs(ax: Axes, steps: ArrayLike, what: str) -> float:
    """Mark a step of each run above the axes, near ones above each other, and return the height of all marks in points.

    NaN is a run without the step; their number is in the legend.
    """
    found = np.sort(np.asarray(steps, dtype=float).ravel())
    measured = found[~np.isnan(found)]
    tops = np.reshape([(x, ax.get_ylim()[1]) for x in measured], (-1, 2))  # none without a measured step
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
        measured, marks, "v", transform=ax.get_xaxis_transform(), gid="runs", label=text,
        ms=6, color=ink(ax), mec=background(ax), mew=0.6, clip_on=not rows,  # the layout makes room for an empty line
    )  # fmt: skip
    return 5.0 + _ROW * (max(rows) + 1) if rows else 0.0
