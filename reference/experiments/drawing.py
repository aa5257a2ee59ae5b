"""What the figures of recorded runs share: seeds with their median, and the end of fitting."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

RUN, CONTROL, GREY = "#0072b2", "#d55e00", "#6b6b6b"
DASHED, DOTTED = (0, (5, 1.4)), (0, (1.2, 1.2))


def draw_seeds(ax: Axes, array: xr.DataArray, colour: str, label: str, *, first: float = 0, style: Any = "-") -> None:
    """Draw a thin line for each seed from the step ``first`` on, and their median at the steps that all observed."""
    late = array.sel(step=array["step"] >= first).transpose("run", "step")
    steps, values = late["step"].values, late.values
    for row in values:
        known = np.isfinite(row)
        ax.plot(steps[known], row[known], color=colour, lw=0.5, alpha=0.5)
    common = np.isfinite(values).all(0)
    ax.plot(steps[common], np.median(values[:, common], 0), color=colour, lw=1.8, ls=style, label=label)


def mark_fitted(ax: Axes, steps: np.ndarray) -> None:
    """Draw a dotted line at the end of fitting of each run."""
    for step in steps:
        ax.axvline(step, color=GREY, lw=0.8, ls=":", zorder=0)
