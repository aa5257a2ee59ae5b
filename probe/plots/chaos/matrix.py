"""Distances between the tangent kernels at all pairs of observed steps."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.chaos.cells import cell_edges, draw_cells, is_log, mark_runs
from probe.plots.chaos.kernels import Kernels, cone_text, read_kernels
from probe.plots.names import label_text
from probe.plots.style import DARK, FONT, ink
from probe.stats.cones.cone import Cone

_LEGEND: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2, "frameon": False}


@closes_on_error
def kernel_distances(
    series: xr.Dataset | xr.DataArray, *, split: str | None = None, run: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the distance between the tangent kernels at each pair of observed steps, and the entry into the cone.

    Light cells are near kernels. A frame surrounds the observations within the cone, and the bars at the upper and
    right edges are the interval of its entry (:func:`probe.stats.cone_entry`, on the first two batches). Without a
    cone, the title has the reason. The cells are means over the batches.

    Parameters
    ----------
    series : xarray.Dataset or xarray.DataArray
        Series of :class:`probe.TangentKernelProbe`, distances that :func:`probe.stats.kernel_distances` returns, or
        recorded ones, ``tangent_kernel_distance``.
    split : str, optional
        Split of the inputs; by default "train", or else the only one.
    run : int, optional
        Position of the run. By default the only run, or the median over runs at the steps that all runs share. Then
        triangles mark the entry of each run.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the series has no distances, or there is no such split.

    See Also
    --------
    cone_radius : One row of this matrix, with the random walk.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> angle = np.r_[np.linspace(1.5, 0, 10), np.zeros(30)]  # fast movement, then small ones around a centre
    >>> place = np.random.default_rng(0).normal(0, 0.005, (40, 50))
    >>> place[:, :2] += np.stack([np.cos(angle), np.sin(angle)], 1)
    >>> place /= np.linalg.norm(place, axis=1, keepdims=True)
    >>> distances = xr.DataArray(
    ...     [1 - place @ place.T] * 2,  # both batches alike: no jitter
    ...     {"batch": [0, 1], "step": np.arange(40) * 10, "step_ref": np.arange(40) * 10},
    ... )
    >>> plots.kernel_distances(distances).get_title().split(" (")[0]
    'cone from step 90'
    """
    found, split = read_kernels(series, split)
    shown = found if run is None else [found[run]]
    ax = new_axes(ax)
    if len(shown) > 1:
        steps, values = _median(shown)
    else:
        steps, values = shown[0].steps, shown[0].mean
    draw_cells(ax, steps, steps, values, f"distance of tangent kernels ({label_text(split)})")
    ax.set(xlabel="step", ylabel="step", aspect="equal")
    if len(shown) > 1:
        entries = [one.cone.step if one.cone else np.nan for one in shown]
        height = mark_runs(ax, entries, "entry into the cone")
        ax.set_title(f"median of {len(shown)} runs", fontsize=FONT, pad=6 + height)
        ax.legend(fontsize=FONT, **_LEGEND)
    elif cone := shown[0].cone:
        _draw_cone(ax, cone, steps)
        ax.set_title(cone_text(shown[0], len(found) > 1), fontsize=FONT, pad=10)
    return ax


def _median(runs: list[Kernels]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all runs share, and the median distances."""
    steps = runs[0].steps
    for one in runs[1:]:
        steps = np.intersect1d(steps, one.steps)
    if len(steps) < 2:
        raise ValueError(f"Expected runs that share 2 or more steps, got {len(steps)}; pass run=")
    rows = [np.searchsorted(one.steps, steps) for one in runs]
    return steps, np.median([one.mean[np.ix_(at, at)] for one, at in zip(runs, rows, strict=True)], axis=0)


def _draw_cone(ax: Axes, cone: Cone, steps: np.ndarray) -> None:
    """Draw a frame around the observations within the cone, and the interval of its entry at the edges."""
    if cone.reference < 0:
        return
    frame: dict[str, Any] = {"fill": False, "lw": 1.6, "ec": DARK, "zorder": 3}
    outline = [Stroke(linewidth=3.4, foreground="white"), Normal()]
    ends = np.array(ax.get_xlim())
    start = cell_edges(steps, is_log(steps, steps))[cone.reference]
    size = ends[1] - start
    ax.add_patch(Rectangle((start, start), size, size, path_effects=outline, gid="cone", **frame))
    if cone.status != "found":
        return
    bar: dict[str, Any] = {"color": ink(ax), "lw": 4, "solid_capstyle": "butt", "clip_on": False, "gid": "interval"}
    low = max(cone.lower, ends[0])
    ax.plot([low, cone.upper], [1.015, 1.015], transform=ax.get_xaxis_transform(), **bar)
    ax.plot([1.015, 1.015], [low, cone.upper], transform=ax.get_yaxis_transform(), **bar)
