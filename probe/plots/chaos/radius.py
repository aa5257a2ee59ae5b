"""How far tangent kernels move from one kernel, beside a random walk, and how large they are."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import DARK, drawn_steps, label_text, log_axis, new_axes
from probe.plots.chaos.kernels import NORM, Kernels, cone_text, read_kernels, split_of
from probe.plots.lines import curves

_RADIUS, _WALK = "#0072b2", "#d55e00"


def cone_radius(
    series: xr.Dataset | xr.DataArray,
    *,
    split: str | None = None,
    run: int | None = None,
    reference: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how far the tangent kernel moves from a reference kernel within a window, beside a random walk.

    In a cone the angle stays at its radius, however long the window is. The angle of a random walk with the same steps
    grows with the window. Grey is the radius with its interval (:func:`probe.stats.cone_entry`).

    Parameters
    ----------
    series : xarray.Dataset or xarray.DataArray
        As for :func:`kernel_distances`.
    split : str, optional
        Split of the inputs; by default "train" if there is such a split, else the first.
    run : int, optional
        Position of the run; by default all runs, with one line each.
    reference : float, optional
        Step of the reference kernel. By default the entry into the cone, or without a cone the first step in the last
        two thirds of the observations.
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
    The angle is arccos(1 - distance), and contains the jitter of the measurement. Directions of the steps of a random
    walk are independent, so that the cosines of its steps multiply. Jitter, the share of the squared distances that
    both batches do not share, is subtracted from each step and added to the sum once.

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
    >>> print(f"{np.rad2deg(moved):.0f} {np.rad2deg(walk):.0f}")  # 29 steps: the angle of a walk grows with their root
    58 11
    """
    found, split = read_kernels(series, split)
    ax = new_axes(ax)
    shown = found if run is None else [found[run]]
    longest = 1.0
    for k, one in enumerate(shown):
        window, angle, walk = _windows(one, reference)
        longest = max(longest, window[-1] / window[0])
        style: dict[str, Any] = {"lw": 1.6 if len(shown) == 1 else 1, "alpha": 1 if len(shown) == 1 else 0.7}
        hidden = "_" if k else ""
        ax.plot(window, angle, color=_RADIUS, marker=".", label=f"{hidden}angle to the reference", **style)
        ax.plot(window, walk, color=_WALK, ls="--", label=f"{hidden}random walk with the same steps", **style)
        if one.cone is not None and np.isfinite(one.cone.radius) and len(shown) == 1 and reference is None:
            ax.axhspan(one.cone.radius_lower, one.cone.radius_upper, color="#b5b5b5", alpha=0.45, lw=0, zorder=0)
            ax.axhline(one.cone.radius, color=DARK, lw=0.8, zorder=0.5, label="radius of the cone, 90 %")
    log_axis(ax, 1, longest)
    ax.set_ylim(0)
    ax.set(xlabel="window (steps after the reference)", ylabel=f"angle of tangent kernels ({label_text(split)}, rad)")
    if len(shown) == 1:
        ax.set_title(cone_text(shown[0], len(found) > 1), fontsize=9)
    ax.legend(fontsize=8, title=f"each of {len(shown)} runs" if len(shown) > 1 else None, title_fontsize=8)
    return ax


def _windows(one: Kernels, reference: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return windows (steps), angles to the reference, and angles of a random walk with the same steps."""
    if reference is None:
        at = one.cone.reference if one.cone is not None and one.cone.reference >= 0 else len(one.steps) // 3
    elif reference in one.steps[:-1]:
        at = int(np.flatnonzero(one.steps == reference)[0])
    else:
        raise ValueError(
            f"Expected an observed step before the last one as reference, got {reference:g}; the steps are "
            f"{one.steps[0]:g} to {one.steps[-1]:g}"
        )
    d = one.mean[at:, at:]
    jitter = 0.0
    if one.cone is not None and np.isfinite(one.cone.movement):
        jitter = (1 - one.cone.movement) * float(d[np.triu_indices(len(d), 1)].mean())
    steps = 1 - np.diag(d, 1) + jitter  # cosines without jitter
    walk = np.clip(np.cumprod(steps), 0, 1) - jitter
    return one.steps[at + 1 :] - one.steps[at], _angle(d[0, 1:]), _angle(1 - walk)


def _angle(distance: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.arccos(np.clip(1 - distance, -1, 1))
    return found


def kernel_norm(series: xr.Dataset, *, split: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the Frobenius norm of the tangent kernel over the steps, and the entry into the cone.

    Distances and angles do not show the size of a kernel. A kernel that grows makes training faster.

    Parameters
    ----------
    series : xarray.Dataset
        Series of :class:`probe.TangentKernelProbe`, with or without ``run``. The norm is the mean over the batches.
        The entry is drawn if the series has one run and distances or sketches of two batches.
    split : str, optional
        Split of the inputs; by default "train" if there is such a split, else the first.
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
    split = split_of(series[NORM], split)
    names = [name for name in (NORM, f"{NORM}_se") if name in series]
    one = series[names].sel(split=split) if "split" in series[NORM].dims else series[names]
    norm = one[NORM]
    drawn = norm.mean("batch", keep_attrs=True) if "batch" in norm.dims else norm
    parts = {NORM: drawn}
    if len(names) > 1 and bool((one[names[1]] > 0).any()):
        error = one[names[1]]
        parts[names[1]] = ((error**2).mean("batch") / error.sizes["batch"]) ** 0.5 if "batch" in error.dims else error
    ax = curves(
        xr.Dataset(parts).dropna("step", how="all"),
        [NORM], ax=ax, log=True, ylabel=f"norm of the tangent kernel ({label_text(split)})",
    )  # fmt: skip
    legend = ax.get_legend()
    if legend is not None and series.sizes.get("run", 1) == 1:
        legend.remove()
    _draw_entry(ax, series, split)
    return ax


def _draw_entry(ax: Axes, series: xr.Dataset, split: str) -> None:
    """Draw the entry into the cone with its interval, if there is one."""
    if series.sizes.get("run", 1) > 1:
        return
    try:
        cone = read_kernels(series, split)[0][0].cone
    except ValueError:  # no distances
        return
    if cone is not None and cone.status == "found":
        low, step, high = drawn_steps(np.array([cone.lower, cone.step, cone.upper]))
        ax.axvspan(low, high, color=DARK, alpha=0.1, lw=0, zorder=-1)
        ax.axvline(step, color=DARK, lw=1.1, ls=(0, (1, 1.5)), zorder=-1, gid="entry")
        ax.annotate(
            "cone", (step, 1), xycoords=ax.get_xaxis_transform(), xytext=(0, 3), textcoords="offset points",
            ha="center", fontsize=8,
        )  # fmt: skip
