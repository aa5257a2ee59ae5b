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

from probe.plots.plane import draw_legend, draw_plane
from probe.plots.plane_data import selected
from probe.plots.steps import axis_name, first_positive, step_places
from probe.plots.style import FONT, PHASES
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
    """Write an animated information plane to a GIF: the trajectory up to each step, with step and phase in the title.

    Parameters
    ----------
    series, split, layers, detector
        As for :func:`probe.plots.information_plane`. With several runs, the title counts them by phase.
    path : path
        Ends in ``.gif``. An existing file is overwritten.
    frames : int
        Most frames. They are evenly spaced in the logarithm of the step, among the recorded steps.
    fps : int
        Frames per second.

    Returns
    -------
    pathlib.Path
        The file: about 6 kB and 0.4 CPU seconds per frame.

    Raises
    ------
    ValueError
        If the path does not end in ``.gif``, ``frames`` or ``fps`` is below 1, or a variable, split, layer or run
        is missing.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> x, dims = np.linspace(1, 4, 6)[:, None, None], ("step", "split", "layer")
    >>> values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2}
    >>> series = xr.Dataset(
    ...     {name: (dims, value) for name, value in values.items()},
    ...     {"step": [0, 1, 2, 5, 10, 20], "split": ["train"], "layer": ["hidden"]},
    ... )
    >>> plots.animate_plane(series, "plane.gif", frames=1).name
    'plane.gif'
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"Expected a path that ends in .gif, got {os.fspath(path)!r}; pass path='plane.gif'")
    if frames < 1 or fps < 1:
        raise ValueError(f"Expected frames and fps of at least 1, got {frames} and {fps}; pass frames=60, fps=8")
    plane, marked = selected(series, split, layers, detector)
    figure = Figure(figsize=(6, 4.8), layout="constrained")  # not registered in pyplot, so that nothing must be closed
    FigureCanvasAgg(figure)
    title = figure.suptitle(" ", fontsize=FONT)
    ax = figure.add_subplot()
    drawn = draw_plane(ax, plane, marked, "none")  # all steps, for the extent of the axes
    draw_legend(ax, plane, marked, "none")
    figure.canvas.draw()
    figure.set_layout_engine("none")  # keep the layout in all frames
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
    """Return the index of the last step of each frame."""
    steps = step_places(plane["step"].values, first_positive(plane["step"].values))
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
