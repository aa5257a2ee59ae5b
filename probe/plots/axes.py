"""Shared by all plots: axes over steps, colours and words of phases and splits, labels and colours of markers."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from probe.errors import printable

# Tints of orange, sky blue and bluish green, which remain different for colour-blind readers (Okabe and Ito).
PHASES = {0: ("fitting", "#fbe3c6"), 1: ("after fitting", "#d9e8f5"), 2: ("generalised", "#cfe8df")}
UNKNOWN = ("unknown", "#ececec")
COLOURS = {"train": "#c4552d", "test": "#2b6ca3", "all": "#555555", "random": "#7d8f2e"}
DARK, _PALE = "#333333", "#dddddd"
# For markers without a colour: the colour cycle of matplotlib.
_DEFAULT_COLOURS = tuple(f"C{i}" for i in range(10))
_FEW_DECADES = 50  # last over first step, below which powers of ten are too few labels
_LOG_FACTOR = 30  # a linear axis hides markers before this fraction of the record


def marker_labels(markers: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """Return the label of each marker: the coordinate ``label``, or the name of the marker."""
    names = [str(name) for name in np.atleast_1d(markers["marker"].values)]
    labels = np.atleast_1d(markers["label"].values).tolist() if "label" in markers.coords else names
    return dict(zip(names, map(label_text, labels), strict=True))


def marker_colours(markers: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """Return the colour of each marker: the coordinate ``colour``, or one of the default colours in turn."""
    names = [str(name) for name in np.atleast_1d(markers["marker"].values)]
    if "colour" in markers.coords:
        return dict(zip(names, np.atleast_1d(markers["colour"].values).tolist(), strict=True))
    return dict(zip(names, cycle(_DEFAULT_COLOURS), strict=False))


def ink(ax: Axes) -> str:
    """Return the colour of lines that have no other meaning: dark on a light background, pale on a dark one."""
    red, green, blue = to_rgb(ax.get_facecolor())
    return DARK if 0.3 * red + 0.6 * green + 0.1 * blue > 0.4 else _PALE


def darker(colour: str) -> tuple[float, ...]:
    """Return the colour for text, which must be readable on white."""
    return tuple(0.75 * part for part in to_rgb(colour))


def label_text(name: object, most: int = 40) -> str:
    """Return a name of the data as text that matplotlib draws as it is.

    Dollar signs begin no formula, control characters and line ends are shown, a long name is cut in the middle, and a
    name that begins with "_", which a legend would omit, gets a space.
    """
    text = printable(str(name)).replace("\n", "\\n").replace("\t", "\\t")
    if len(text) > most:
        text = f"{text[: most // 2]}...{text[-most // 2 :]}"
    text = f" {text}" if text.startswith("_") else text
    return text.replace("$", r"\$")


def run_name(run: object) -> str:
    """Return the name of a run as text. Recordings store numbers as floats."""
    return label_text(f"{run:g}" if isinstance(run, float) else run, 24)


def chosen_split(splits: Sequence[str], split: str | None) -> str:
    """Return a split, by default "train" or else the only one."""
    if split is None:
        split = "train" if "train" in splits or len(splits) != 1 else splits[0]
        got = "none"
    else:
        got = repr(split)
    if split not in splits:
        raise ValueError(f"Expected a split among {', '.join(splits)}, got {got}; pass split= with one of them")
    return split


def new_axes(ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def log_steps(series: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Return the steps of a series for a logarithmic axis."""
    return drawn_steps(series["step"].values.astype(float))


def drawn_steps(steps: np.ndarray) -> np.ndarray:
    """Return steps for a logarithmic axis, where step 0 is drawn at one half."""
    return np.where(steps == 0, 0.5, steps)


def step_edges(steps: np.ndarray) -> np.ndarray:
    """Return the ends (n + 1,) of the intervals that steps (n,) have on a logarithmic axis."""
    return np.concatenate([[steps[0]], np.sqrt(steps[1:] * steps[:-1]), [steps[-1]]])


def axis_name(series: xr.Dataset | xr.DataArray) -> str:
    """Return the name of the axis: "step", or the ``axis`` of a PhaseDetector."""
    return label_text(series["step"].attrs.get("axis", "step"))


def step_axis(ax: Axes, series: xr.Dataset | xr.DataArray, markers: xr.Dataset | None = None) -> None:
    """Set the axis of steps, linear or logarithmic (:func:`is_logarithmic`)."""
    if is_logarithmic(series, markers):
        steps = log_steps(series)
        log_axis(ax, steps[0], steps[-1])
    else:
        ax.set_xscale("linear")
    _place_step_zero(ax, series["step"].values)
    ax.set_xlabel(axis_name(series))


def _place_step_zero(ax: Axes, steps: np.ndarray) -> None:
    """Move step 0 of the curves to 0 on a linear axis, and to one half on a logarithmic one."""
    if steps[0] != 0 or 0.5 in steps:
        return
    for line in ax.lines:
        x = np.array(line.get_xdata(), dtype=float)
        if line.get_transform() is ax.transData and len(x) and x[0] in (0, 0.5):
            x[0] = 0.5 if ax.get_xscale() == "log" else 0.0
            line.set_xdata(x)


def is_logarithmic(series: xr.Dataset | xr.DataArray, markers: xr.Dataset | None = None) -> bool:
    """Return whether the steps are not evenly spaced, or a found marker lies in the first thirtieth of the record."""
    steps = log_steps(series)
    gaps = np.diff(steps[1:])
    even = len(gaps) > 1 and np.allclose(gaps, gaps[0])
    early = markers is not None and bool((markers["step"] < steps[-1] / _LOG_FACTOR).any())
    return not even or early


def log_axis(ax: Axes, first: float, last: float) -> None:
    """Set a logarithmic x axis, with labels that do not overlap."""
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    if last / first < _FEW_DECADES:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
