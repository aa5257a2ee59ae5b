"""Frequencies of a token embedding over the steps."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.steps import step_axis, step_edges

_COLOURS = "cividis_r"  # small is light


def draw_frequencies(series: xr.Dataset, split: str | None, ax: Axes) -> None:
    """Draw the norm of each frequency as cells over the steps; one run, or the median of several runs."""
    norms = series["fourier_norm"]
    norms = norms.median("run") if "run" in norms.dims else norms
    norms = norms.dropna("step", how="all").transpose("frequency", "step")
    steps, frequencies = norms["step"].values.astype(float), norms["frequency"].values
    edges = np.arange(len(frequencies) + 1) + frequencies[0] - 0.5
    mesh = ax.pcolormesh(step_edges(steps), edges, norms.values, cmap=_COLOURS, vmin=0)
    step_axis(ax, norms)
    ax.set_ylabel("frequency (cycles over all tokens)")
    ax.figure.colorbar(mesh, ax=ax, pad=0.02).set_label("norm of the component")
