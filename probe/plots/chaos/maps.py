"""Response to a perturbation at one step, measured at a later step."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.chaos.cells import draw_cells, mark_runs
from probe.plots.names import label_text, run_name
from probe.plots.style import FONT

_DIMS = ("t0", "t1")


@closes_on_error
def perturbation_map(
    values: xr.DataArray,
    *,
    transitions: ArrayLike | None = None,
    run: int | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a measure over the step of a perturbation and the step at which its effect is measured.

    The perturbation happens at step t0; the measure compares both trainings at step t1 (arXiv:2505.13900, figure 1).
    Light cells are small. Cells without a value, as those with t1 < t0, stay empty.

    Parameters
    ----------
    values : xarray.DataArray
        Over ``t0`` and ``t1``, and optionally ``run``. The cells of several runs are medians over the runs with a
        value.
    transitions : array of shape (runs,), optional
        A step t0 for each run, as the first one from which on perturbations have no effect. Triangles above the axes
        mark them, near ones above each other; the legend counts the runs without one (NaN).
    run : int, optional
        Position of the run to draw; by default the only run, or the median of several runs.
    label : str, optional
        Label of the colours; by default the ``long_name`` or the name of the values, with the unit.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the values have other dimensions, or the number of transitions is not that of the runs.

    See Also
    --------
    growth : Growth over a window of fixed length.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> t0, t1 = np.array([0, 10, 100]), np.array([10, 100, 1000])
    >>> barrier = np.where(t1 >= t0[:, None], (t1 / 1000) / (1 + t0[:, None]), np.nan)
    >>> ax = plots.perturbation_map(xr.DataArray(barrier, {"t0": t0, "t1": t1}, name="barrier"), transitions=[10])
    >>> ax.get_xlabel(), [tick.get_text() for tick in ax.get_xticklabels()]
    ('step t0 of the perturbation', ['0', '10', '100'])
    """
    if {*values.dims} - {"run"} != {*_DIMS}:
        raise ValueError(
            f"Expected values over t0 and t1, and optionally run, got {', '.join(map(str, values.dims)) or 'none'}; "
            "select one entry of each other dimension, or draw windows of ChaosProbe by growth"
        )
    runs = values.sortby(list(_DIMS)) if "run" in values.dims else values.sortby(list(_DIMS)).expand_dims("run")
    marks = None if transitions is None else np.atleast_1d(np.asarray(transitions, dtype=float))
    if marks is not None and marks.shape != (runs.sizes["run"],):
        raise ValueError(
            f"Expected one transition for each of {runs.sizes['run']} runs, got an array of shape {marks.shape}; pass "
            "NaN for a run without one"
        )
    title = f"median of {runs.sizes['run']} runs" if runs.sizes["run"] > 1 else ""
    if run is not None:
        name = runs["run"].values.tolist()[run] if "run" in runs.coords else run
        title, runs, marks = f"run {run_name(name)}", runs.isel(run=[run]), None if marks is None else marks[[run]]
    runs = runs.dropna("t0", how="all").dropna("t1", how="all")
    if not runs.size:
        raise ValueError("Expected at least one value, got NaN only; pass the values of a map")
    ax = new_axes(ax)
    units = label_text(values.attrs.get("units", "1"))
    text = label or label_text(values.attrs.get("long_name", "response" if values.name is None else values.name), 80)
    draw_cells(
        ax,
        runs["t0"].values,
        runs["t1"].values,
        runs.median("run").transpose("t1", "t0").values,
        text if units == "1" or label else f"{text} ({units})",
    )
    ax.set(xlabel="step t0 of the perturbation", ylabel="step t1 of the comparison")
    height = 0.0
    if marks is not None:
        height = mark_runs(ax, marks, "transition")
        ax.legend(loc="lower right", fontsize=FONT)
    ax.set_title(title, fontsize=FONT, pad=6 + height)
    return ax
