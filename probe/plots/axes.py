"""What all pictures share: axes over steps, and one word and colour for each phase, marker and split."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

PHASES = {0: ("fitting", "#fde3c8"), 1: ("after fitting", "#d8e8f6"), 2: ("generalised", "#e0f0dc")}
COLOURS = {"train": "#c4552d", "test": "#2b6ca3", "all": "#555555", "random": "#7d8f2e"}
MARKERS = {
    "fit_end": "fit",
    "generalisation_onset": "above chance",
    "descent_onset": "loss turns",
    "compression_onset": "compression",
    "end": "end",
}
MARKER_COLOURS = ("#c4552d", "#b0812a", "#2b6ca3", "#7a5aa6", "#3d8b4f")  # in the order of MARKERS


def new_axes(ax: Axes | None) -> Axes:
    """The given ones, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def log_steps(series: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Steps for a logarithmic axis: step 0 stands at one half."""
    steps = series["step"].values.astype(float)
    return np.where(steps == 0, 0.5, steps)


def axis_name(series: xr.Dataset | xr.DataArray) -> str:
    """What the steps are: "step", or the axis of a PhaseDetector."""
    return str(series["step"].attrs.get("axis", "step"))


def step_axis(ax: Axes, series: xr.Dataset | xr.DataArray) -> None:
    """Logarithmic, unless the steps are evenly spaced."""
    gaps = np.diff(log_steps(series)[1:])
    ax.set_xscale("linear" if len(gaps) > 1 and np.allclose(gaps, gaps[0]) else "log")
    ax.set_xlabel(axis_name(series))
