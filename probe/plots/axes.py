"""Shared by all plots: axes over steps, colours and words of phases and splits, labels and colours of markers."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.errors import printable

PHASES = {0: ("fitting", "#fde3c8"), 1: ("after fitting", "#d8e8f6"), 2: ("generalised", "#e0f0dc")}
COLOURS = {"train": "#c4552d", "test": "#2b6ca3", "all": "#555555", "random": "#7d8f2e"}
# For markers without a colour: the colour cycle of matplotlib.
_DEFAULT_COLOURS = tuple(f"C{i}" for i in range(10))


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


def new_axes(ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def log_steps(series: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Return the steps for a logarithmic axis, where step 0 is drawn at one half."""
    steps = series["step"].values.astype(float)
    return np.where(steps == 0, 0.5, steps)


def axis_name(series: xr.Dataset | xr.DataArray) -> str:
    """Return the name of the axis: "step", or the ``axis`` of a PhaseDetector."""
    return label_text(series["step"].attrs.get("axis", "step"))


def step_axis(ax: Axes, series: xr.Dataset | xr.DataArray) -> None:
    """Set a linear axis if the steps are evenly spaced, and a logarithmic one otherwise."""
    gaps = np.diff(log_steps(series)[1:])
    ax.set_xscale("linear" if len(gaps) > 1 and np.allclose(gaps, gaps[0]) else "log")
    ax.set_xlabel(axis_name(series))
