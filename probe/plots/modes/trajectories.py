"""Singular modes of one matrix over the steps."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.modes.styles import ABOVE, COLOURS, LINES, check_classes, selected
from probe.plots.names import label_text
from probe.plots.steps import scale_steps
from probe.plots.style import FONT, ink
from probe.stats.coarse_graining.classes import CLASSES

_NEEDED = "mode_singular_value", "mode_matched", "mode_norm"


@closes_on_error
def mode_trajectories(
    series: xr.Dataset,
    *,
    parameter: str | None = None,
    classes: xr.Dataset | None = None,
    window: str | None = None,
    edges: tuple[float, float] | None = None,
    run: Hashable | None = None,
    relative: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the singular value of each followed mode of a matrix over the steps, with its class in one window.

    Both axes are logarithmic, so that a power of the step is a straight line and its slope the growth exponent. A line
    ends where a mode loses its identity; modes that are followed at one observation only are not drawn. The axis is
    linear from step 0 to the next one.

    Parameters
    ----------
    series : xarray.Dataset
        Series of :class:`probe.WeightModesProbe`.
    parameter : str, optional
        Name of the matrix; by default the first.
    classes : xarray.Dataset, optional
        Result of :func:`probe.stats.mode_classes` for this series. By default all modes have one colour.
    window : str, optional
        Window of the classes; by default the first.
    edges : (float, float), optional
        First and last step of this window, which are marked. A slot can hold one mode after another. The class is
        that of the longest one within the edges; the others are drawn as undecided.
    run : label, optional
        Label of the run; by default the first.
    relative : bool
        Draw the values over the norm of the matrix.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the series has no followed modes, or there is no such matrix, run or window.

    See Also
    --------
    mode_classes : Numbers of modes of each class.

    Examples
    --------
    >>> import torch
    >>> from probe import WeightModesProbe, plots
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> probe = WeightModesProbe().attach(model, (torch.zeros(2, 2), None))
    >>> for step in (1, 2, 4, 8):
    ...     _ = model.weight.data.copy_(torch.diag(torch.tensor([9.0, 0.5 * step])))
    ...     _ = probe.observe(step)
    >>> ax = plots.mode_trajectories(probe.series_, relative=False)
    >>> ax.lines[1].get_ydata().round(3).tolist()
    [0.5, 1.0, 2.0, 4.0]
    """
    if missing := [name for name in _NEEDED if name not in series]:
        raise ValueError(f"Expected a series with followed modes, got none of {missing}; record WeightModesProbe")
    one = selected(selected(series[[*_NEEDED]], "run", run), "parameter", parameter)
    of_mode = _classes(classes, one, window, run)
    ax = new_axes(ax)
    steps = one["step"].values.astype(float)
    values = one["mode_singular_value"].transpose("step", "mode").values
    if relative:
        values = values / one["mode_norm"].values[:, None]
    starts = one["mode_matched"].transpose("step", "mode").values == 0
    for mode in range(values.shape[1]):
        _draw(ax, steps, values[:, mode], starts[:, mode], of_mode[mode], edges)
    scale_steps(ax, steps)
    ax.set(yscale="log", xlabel="step")
    ax.set_ylabel("singular value" + (" / norm" if relative else ""))
    name = label_text(str(one["parameter"].item())) if "parameter" in one.coords else ""
    if classes is None:
        ax.set_title(name, fontsize=10)
    else:
        _draw_legend(ax, _of(classes["count"], one, window, run), name)
    for edge in edges or ():
        ax.axvline(edge, color=ink(ax), lw=0.8, ls=":", zorder=1, gid="edge")
    return ax


def _classes(classes: xr.Dataset | None, one: xr.Dataset, window: str | None, run: Hashable | None) -> list[str]:
    """Return the class of each mode; "" without classes."""
    if classes is None:
        return [""] * one.sizes["mode"]
    check_classes(classes)
    found = _of(classes["mode_class"], one, window, run)
    if found.sizes["mode"] != one.sizes["mode"]:
        raise ValueError(
            f"Expected a class for each of {one.sizes['mode']} modes, got {found.sizes['mode']}; pass the classes of "
            "this series"
        )
    return [str(text) for text in found.values]


def _of(classes: xr.DataArray, one: xr.Dataset, window: str | None, run: Hashable | None) -> xr.DataArray:
    """Return the part of one run, window and matrix."""
    name = one["parameter"].item() if "parameter" in one.coords else None
    found: xr.DataArray = selected(selected(selected(classes, "run", run), "window", window), "parameter", name)
    return found


def _draw(
    ax: Axes, steps: np.ndarray, values: np.ndarray, starts: np.ndarray, name: str, edges: tuple[float, float] | None
) -> None:
    """Draw the trajectories of one slot, with a gap where a new mode starts.

    The class is that of the longest trajectory within the edges. Others of this slot are drawn as undecided.
    """
    cuts = np.flatnonzero(starts)
    parts = [part[values[part] > 0] for part in np.split(np.arange(len(steps)), cuts[cuts > 0])]
    low, high = edges or (0, np.inf)
    extents = [_extent(steps[part], low, high) for part in parts]
    for part, extent in zip(parts, extents, strict=True):
        kind = name if extent == max(extents) > 0 or not name else CLASSES[3]
        style: dict[str, Any] = {"color": COLOURS[kind], **LINES[kind]} if kind else {"color": ink(ax), "lw": 0.9}
        if len(part) > 1:
            ax.plot(steps[part], values[part], gid=kind or "mode", **style)


def _extent(steps: np.ndarray, low: float, high: float) -> float:
    """Return the extent of steps within edges, in log t."""
    inside = np.maximum(steps[(steps >= low) & (steps <= high)], 0.5)
    return float(np.log(inside[-1] / inside[0])) if len(inside) else 0.0


def _draw_legend(ax: Axes, counts: xr.DataArray, title: str) -> None:
    """Add the classes with their numbers of modes above the axes."""
    handles = [
        Line2D([], [], color=COLOURS[name], **LINES[name], label=f"{name} ({counts.sel({'class': name}).item()})")
        for name in CLASSES
    ]
    ax.legend(handles=handles, title=title, title_fontsize=FONT, **ABOVE)
