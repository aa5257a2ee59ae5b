"""How far tangent kernels move from one kernel, beside a random walk, and how large they are."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.chaos.kernels import Kernels, cone_text, read_kernels
from probe.plots.lines import curves
from probe.plots.names import label_text
from probe.plots.steps import scale_steps
from probe.plots.style import FONT, ink
from probe.stats.cones.cone_window import ConeRadius, cone_radius as window_radius
from probe.stats.cones.kernel_records import DISTANCE, NORM, of_split
from probe.stats.cones.sketches import SKETCH

_RADIUS, _WALK = "#0072b2", "#d55e00"


@closes_on_error
def cone_radius(
    series: xr.Dataset | xr.DataArray,
    *,
    split: str | None = None,
    run: int | None = None,
    reference: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the radius of the movement of tangent kernels around a reference over the window, beside a random walk.

    The radius of a cone stays the same, however long the window is. The radius of a random walk with the same steps
    grows with the window. Both are those of :func:`probe.stats.cone_radius`. The band is the interval of one run.

    Parameters
    ----------
    series : xarray.Dataset or xarray.DataArray
        As for :func:`kernel_distances`.
    split : str, optional
        Split of the inputs; by default "train", or else the only one.
    run : int, optional
        Position of the run; by default all runs, with one line each.
    reference : float, optional
        Step of the reference kernel. By default the entry into the cone, or without a cone the first step after the
        last fast movement. With a single batch, it is the first step in the last two thirds of the observations.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the series has no distances, or there is no such split or step.

    See Also
    --------
    kernel_distances : The distances of all pairs of steps.
    kernel_norm : The size of the kernel, which angles do not show.

    Notes
    -----
    The radius is the root mean squared angle from the reference in the last three fifths of the window, jitter
    included. The share of jitter is that of :func:`probe.stats.cone_entry`; a single batch counts as free of jitter.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> angle = np.deg2rad(np.arange(0, 60, 2))  # of kernels on a circle
    >>> steps = np.arange(30) * 10
    >>> distances = xr.DataArray(1 - np.cos(angle[:, None] - angle), {"step": steps, "step_ref": steps})
    >>> ax = plots.cone_radius(distances, reference=0)
    >>> moved, walk = (line.get_ydata()[-1] for line in ax.lines)
    >>> bool(moved > 2 * walk)  # a drift moves further than a random walk
    True
    """
    found, split = read_kernels(series, split)
    ax = new_axes(ax)
    shown = found if run is None else [found[run]]
    longest = 1.0
    for k, one in enumerate(shown):
        curve = _radius(one, reference)
        window = curve.window
        longest = max(longest, window[-1] / window[0])
        alone = len(shown) == 1
        style: dict[str, Any] = {"lw": 1.6 if alone else 1, "alpha": 1 if alone else 0.7}
        hidden = "_" if k else ""
        if alone:
            band: dict[str, Any] = {
                "color": _RADIUS,
                "alpha": 0.18,
                "lw": 0,
                "label": "90 % interval",
                "gid": "interval",
            }
            ax.fill_between(window, curve.lower, curve.upper, **band)
        ax.plot(window, curve.radius, color=_RADIUS, marker=".", label=f"{hidden}radius", **style)
        ax.plot(window, curve.walk, color=_WALK, ls="--", label=f"{hidden}random walk with the same steps", **style)
    scale_steps(ax, [1, longest])
    ax.set_ylim(0)
    ax.set(xlabel="window (steps after the reference)", ylabel=f"radius of tangent kernels ({label_text(split)}, rad)")
    if len(shown) == 1:
        ax.set_title(cone_text(shown[0], len(found) > 1), fontsize=FONT)
    ax.legend(fontsize=FONT, title=f"each of {len(shown)} runs" if len(shown) > 1 else None, title_fontsize=FONT)
    return ax


def _radius(one: Kernels, reference: float | None) -> ConeRadius:
    """Return the radius over the window of one run."""
    last = len(one.steps) - 2
    if reference is not None:
        if reference not in one.steps[:-1]:
            raise ValueError(
                f"Expected an observed step before the last one as reference, got {reference:g}; the steps are "
                f"{one.steps[0]:g} to {one.steps[-1]:g}"
            )
        at = int(np.flatnonzero(one.steps == reference)[0])
    else:
        at = -1 if one.cone is None else max(one.cone.reference, one.cone.start)
    movement = np.nan if one.cone is None else one.cone.movement
    return window_radius(
        one.steps,
        one.mean,
        min(at, last) if at >= 0 else len(one.steps) // 3,
        movement=float(np.clip(movement, 0, 1)) if np.isfinite(movement) else 1.0,
    )


@closes_on_error
def kernel_norm(series: xr.Dataset, *, split: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the Frobenius norm of the tangent kernel over the steps, and the entry into the cone.

    Distances and angles do not show the size of a kernel. A kernel that grows makes training faster.

    Parameters
    ----------
    series : xarray.Dataset
        Series of :class:`probe.TangentKernelProbe`, with or without ``run``. The norm is the mean over the batches.
        The entry is drawn if the series has one run and distances or sketches of two batches. A band around one run
        shows two standard errors of an estimated norm.
    split : str, optional
        Split of the inputs; by default "train", or else the only one.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the series has no norm, or there is no such split.

    See Also
    --------
    kernel_distances : The distances of all pairs of steps.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe import plots
    >>> norms = [[[10.0, 12.0]], [[20.0, 26.0]]]
    >>> series = xr.Dataset(
    ...     {"tangent_kernel_norm": (("step", "split", "batch"), norms)}, {"step": [1, 10], "split": ["train"]}
    ... )
    >>> ax = plots.kernel_norm(series)
    >>> print(ax.lines[0].get_ydata())
    [11. 23.]
    """
    if NORM not in series:
        raise ValueError(f"Expected {NORM}, got a series without it; record it with TangentKernelProbe")
    name = of_split(series[NORM], split)[1]
    names = [name for name in (NORM, f"{NORM}_se") if name in series]
    one = series[names].sel(split=name) if "split" in series[NORM].dims else series[names]
    norm = one[NORM]
    drawn = norm.mean("batch", keep_attrs=True) if "batch" in norm.dims else norm
    parts = {NORM: drawn}
    if len(names) > 1 and bool((one[names[1]] > 0).any()):
        error = one[names[1]]
        parts[names[1]] = ((error**2).mean("batch") / error.sizes["batch"]) ** 0.5 if "batch" in error.dims else error
    parts[NORM].attrs["long_name"] = f"norm of the tangent kernel ({name})"
    ax = curves(xr.Dataset(parts).dropna("step", how="all"), [NORM], ax=ax, log=True)
    if series.sizes.get("run", 1) == 1:
        for band in ax.collections[:1]:
            band.set_label("two standard errors")
            ax.legend(handles=[band], fontsize=FONT)
    _draw_entry(ax, series, split)
    return ax


def _draw_entry(ax: Axes, series: xr.Dataset, split: str | None) -> None:
    """Draw the entry into the cone with its interval, if there is one."""
    if series.sizes.get("run", 1) > 1 or not any(name in series for name in (DISTANCE, "distance", SKETCH)):
        return
    cone = read_kernels(series, split)[0][0].cone
    if cone is not None and cone.status == "found":
        step = cone.step
        ax.axvspan(cone.lower, cone.upper, color=ink(ax), alpha=0.1, lw=0, zorder=-1)
        ax.axvline(step, color=ink(ax), lw=1.1, ls=(0, (1, 1.5)), zorder=-1, gid="entry")
        ax.annotate(
            "cone", (step, 1), xycoords=ax.get_xaxis_transform(), xytext=(0, 3), textcoords="offset points",
            ha="center", fontsize=FONT,
        )  # fmt: skip
