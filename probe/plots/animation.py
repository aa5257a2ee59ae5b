"""The information plane as an animation."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.animation import PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from probe.plots.axes import PHASES, axis_name, log_steps
from probe.plots.plane import draw_legend, draw_plane, selected
from probe.plots.trajectories import draw_layers, step_colours


def animate_plane(
    series: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    layers: Sequence[str] | None = None,
    detector: Any = None,
    frames: int = 60,
    fps: int = 8,
) -> Path:
    """Write the growth of an information plane to a GIF: the trajectory so far, its step, its phase.

    Parameters
    ----------
    series, split, layers, detector
        As for :func:`probe.plots.information_plane`. With several runs the title counts them by phase.
    path
        Ends in ``.gif``; a file that is there is written over.
    frames
        At most so many, evenly spaced in the logarithm of the step among the steps that were recorded.
    fps
        Frames in a second.

    Returns
    -------
    pathlib.Path
        The file: some 6 kB and 0.4 CPU seconds a frame.

    Raises
    ------
    ValueError
        For a path that does not end in ``.gif``, and as :func:`probe.plots.information_plane`.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"an animation is a GIF: expected a path that ends in .gif, got {os.fspath(path)!r}")
    if frames < 1 or fps < 1:
        raise ValueError(f"expected frames and fps from 1 on, got {frames} and {fps}")
    plane, marked = selected(series, split, layers, detector)
    figure = Figure(figsize=(6, 4.8), layout="constrained")  # not one of pyplot's: nothing to close
    FigureCanvasAgg(figure)
    title = figure.suptitle(" ", fontsize=9)
    ax = figure.add_subplot()
    drawn = draw_plane(ax, plane, marked, "none")  # the whole, for the extent of the axes
    draw_legend(ax, plane, marked, "none")
    figure.canvas.draw()
    figure.set_layout_engine("none")  # what it found stays
    writer = PillowWriter(fps=fps)
    with writer.saving(figure, os.fspath(path), dpi=80):
        for last in _frames(plane, frames):
            for artist in drawn:
                artist.remove()
            drawn = draw_layers(ax, plane.isel(step=slice(last + 1)), marked, step_colours(plane))
            title.set_text(_title(plane, last, detector))
            writer.grab_frame()
    return path


def _frames(plane: xr.Dataset, n: int) -> np.ndarray:
    """Positions of the last step of each frame."""
    steps = np.log(log_steps(plane))
    wanted = np.linspace(steps[0], steps[-1], n) if n > 1 else steps[-1:]
    return np.unique(np.abs(steps - wanted[:, None]).argmin(1))


def _title(plane: xr.Dataset, last: int, detector: Any) -> str:
    step = plane["step"].values[last].item()
    text = f"{axis_name(plane)} {step:,}"
    if detector is None:
        return text
    positions = [detector.markers_["run"].values.tolist().index(run) for run in plane["run"].values.tolist()]
    phases = [int(detector.phase_at(step, run=run)) for run in positions]
    words = Counter(PHASES.get(phase, ("phase unknown", ""))[0] for phase in sorted(phases))
    return f"{text}: " + ", ".join(word if len(phases) == 1 else f"{word} {n}" for word, n in words.items())
