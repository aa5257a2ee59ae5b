"""Growth of perturbations over a window of training, and the sharpness beside."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probe.plots.axes import closes_on_error
from probe.plots.lines import MAX_THIN, band_text
from probe.plots.names import label_text
from probe.plots.steps import step_axis
from probe.plots.style import FONT, background, ink, line_colour, text_colour

# Okabe and Ito, with one shape for each.
_SIZES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "D"), ("#cc79a7", "^"), ("#a89a00", "v"))
_QUANTILES = (10, 90)  # %
_GREY = "#7a7a7a"
_DROP = 0.75  # of the learning rate from one observation to the next, below which it is marked
_NEEDED = ("chaos{}_growth", "chaos_tangent{}_growth")
_SHARPNESS = "sharpness_learning_rate"


@closes_on_error
def growth(
    series: xr.Dataset,
    *,
    direction: str | None = None,
    outputs: bool = False,
    momentum: float | None = None,
    axes: Sequence[Axes] | None = None,
) -> Figure:
    """Draw the log growth of a perturbation over the steps by size, and sharpness times learning rate below.

    A perturbation above the line at zero grows within the window. Black is the derivative. Filled points are sizes
    below the first one that grows otherwise than the derivative. Hollow points are at or above it: crossings of kinks,
    or the curvature over such a distance, make their growth. A cross at the lower edge is a size that rounding
    dominates. The dashed line is the growth on the quadratic model, with the curvature of the start, if it was
    recorded. On a logarithmic axis, step 0 is drawn at 0.5.

    Parameters
    ----------
    series : xarray.Dataset
        Series of :class:`probe.ChaosProbe`, with or without ``run``. Several runs are thin lines, or from 13 runs on a
        band from the 10 % to the 90 % quantile, below their median. A point of a median is hollow, and a cross is
        drawn, if it holds for at least half of the runs.
    direction : str, optional
        Direction of the perturbation; by default the first.
    outputs : bool
        Draw the growth of the change of the outputs, not of the parameters.
    momentum : float, optional
        Momentum of SGD, in [0, 1), with 0 for SGD without momentum. A line marks 2 (1 + momentum) in the lower panel:
        gradient descent on a quadratic loss diverges above it. By default there is no line, as it does not hold for
        other optimizers such as Adam.
    axes : sequence of matplotlib.axes.Axes, optional
        One pair of axes for the growth, and a second one for the sharpness; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the series lacks the variables or the direction, or the momentum is not in [0, 1).

    See Also
    --------
    perturbation_map : The response over the start and the end of a window.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe import plots
    >>> dims = ("step", "direction", "size")
    >>> series = xr.Dataset(
    ...     {
    ...         "chaos_growth": (dims, [[[0.2, 1.5]], [[-0.1, -0.1]]], {"window": 20}),
    ...         "chaos_tangent_growth": (dims[:2], [[0.2], [-0.1]]),
    ...         "chaos_kink_size": (dims[:2], [[1e-2], [float("nan")]]),
    ...     },
    ...     {"step": [0, 100], "direction": ["gaussian"], "size": [1e-4, 1e-2]},
    ... )
    >>> figure = plots.growth(series)
    >>> figure.axes[0].get_ylabel()
    'log growth over 20 updates (nats)'
    """
    if momentum is not None and not 0 <= momentum < 1:
        raise ValueError(f"Expected a momentum in [0, 1), got {momentum}; pass that of SGD, or None for Adam")
    one = _selected(series, direction, "_output" if outputs else "")
    below = _SHARPNESS in series and bool(series[_SHARPNESS].notnull().any())
    if axes is None:
        size, ratios = (6.4, 5.6 if below else 4.0), [2, 1][: 1 + below]
        grid = plt.subplots(
            1 + below, 1, figsize=size, layout="constrained", sharex=True, squeeze=False, height_ratios=ratios
        )[1]
        axes = list(grid[:, 0])
    top = axes[0]
    _draw_growth(top, one, outputs)
    if below and len(axes) > 1:
        _draw_sharpness(axes[1], one, momentum)
        if top.get_shared_x_axes().joined(top, axes[1]):
            top.set_xlabel("")
    figure: Any = top.figure
    return figure


def _selected(series: xr.Dataset, direction: str | None, kind: str) -> xr.Dataset:
    """Return one direction, over run, step and size, without the steps that were not observed."""
    names = [name.format(kind) for name in _NEEDED]
    if lost := [name for name in names if name not in series]:
        raise ValueError(
            f"Expected {' and '.join(names)}, got a series without {', '.join(lost)}; record them with ChaosProbe"
        )
    wanted = {names[0]: "growth", names[1]: "tangent", "chaos_kink_size": "kink_size", _SHARPNESS: _SHARPNESS}
    wanted |= {f"chaos{kind}_rounded": "rounded", "learning_rate": "learning_rate", "sharpness": "sharpness"}
    wanted |= {} if kind else {"chaos_quadratic_growth": "quadratic"}
    one = series[[name for name in wanted if name in series]].rename(
        {name: short for name, short in wanted.items() if name in series}
    )
    one = one if "run" in one.dims else one.expand_dims("run")
    if "direction" in one.dims:
        directions = [str(name) for name in one["direction"].values]
        if direction is not None and direction not in directions:
            raise ValueError(f"Expected a direction among {', '.join(directions)}, got {direction!r}; pass one of them")
        one = one.sel(direction=direction or directions[0])
    return one


def _draw_growth(ax: Axes, one: xr.Dataset, outputs: bool) -> None:
    sizes = one["size"].values
    looks = [(line_colour(colour, ax), shape) for colour, shape in (_SIZES[k % len(_SIZES)] for k in range(len(sizes)))]
    handles = []
    for size, (colour, shape) in zip(sizes, looks, strict=True):
        values = one["growth"].sel(size=size)
        steps, middle = _lines(ax, values, color=colour, lw=1.2, label=f"size {size:g}")
        hollow = _share(one["kink_size"] <= size, values, steps) if "kink_size" in one else np.zeros(len(steps), bool)
        for gid, face, chosen in (("linear", colour, ~hollow), ("kinks", background(ax), hollow)):
            style: dict[str, Any] = {"mfc": face, "mec": colour, "mew": 1.2, "ms": 5, "zorder": 3}
            style["clip_on"] = not chosen.any()  # the layout makes room for an empty line
            ax.plot(steps[chosen], middle[chosen], shape, gid=gid, **style)
        handles.append(Line2D([], [], color=colour, marker=shape, ms=5, lw=1.2, label=f"size {size:g}"))
    _lines(ax, one["tangent"], color=ink(ax), lw=2, zorder=4, label="derivative")
    handles.append(Line2D([], [], color=ink(ax), lw=2, label="derivative"))
    if "quadratic" in one and one["quadratic"].notnull().any():
        _lines(ax, one["quadratic"], color=_GREY, lw=1.6, ls=(0, (4, 2)), zorder=3.5, label="quadratic")
        handles.append(Line2D([], [], color=_GREY, lw=1.6, ls=(0, (4, 2)), label="quadratic model"))
    ax.axhline(0, color=ink(ax), lw=0.8, ls=":", zorder=1, gid="zero")
    grey: dict[str, Any] = {"color": _GREY, "lw": 0, "ms": 5}
    if any(line.get_gid() == "kinks" and np.size(line.get_xdata()) for line in ax.lines):
        handles.append(Line2D([], [], marker="o", mfc=background(ax), label="differs from the derivative", **grey))
    if _draw_rounded(ax, one, looks):
        handles.append(Line2D([], [], marker="x", label="dominated by rounding", **grey))
    window = one["growth"].attrs.get("window")
    what = "log growth of the outputs" if outputs else "log growth"
    ax.set_ylabel(f"{what}{f' over {window:g} updates' if window else ''} (nats)")
    _set_steps(ax, one)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
    title = band_text(one.sizes["run"])
    ax.legend(handles=handles, fontsize=FONT, title=title, title_fontsize=FONT, ncols=2, loc="upper right")


def _draw_rounded(ax: Axes, one: xr.Dataset, looks: list[tuple[str, str]]) -> bool:
    """Mark sizes that rounding dominates at the lower edge, one row for each size, and return whether there are any."""
    if "rounded" not in one:
        return False
    seen = one["rounded"].where(one["rounded"] >= 0)
    share = seen.mean("run")
    for row, (colour, _) in enumerate(looks):
        steps = one["step"].values[(share.isel(size=row) >= 0.5).values]
        place = np.full(len(steps), 0.025 + 0.035 * row)
        if len(steps):
            ax.plot(
                steps.astype(float), place, "x", ms=5, mew=1.4, color=colour, gid="rounded",
                transform=ax.get_xaxis_transform(),
            )  # fmt: skip
    return bool((share >= 0.5).any())


def _draw_sharpness(ax: Axes, one: xr.Dataset, momentum: float | None) -> None:
    _lines(ax, one[_SHARPNESS], color=ink(ax), lw=1.6, marker=".", label="sharpness times learning rate")
    if momentum is not None:
        _draw_limit(ax, momentum)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0), high)
    ax.set_ylabel("sharpness ×\nlearning rate")
    _draw_drops(ax, one)
    _set_steps(ax, one)


def _draw_limit(ax: Axes, momentum: float) -> None:
    limit = 2 * (1 + momentum)
    ax.axhline(limit, color=line_colour(_SIZES[1][0], ax), lw=1.2, ls="--", gid="limit")
    text = f"{limit:g}: unstable above (gradient descent{f', momentum {momentum:g}' if momentum else ''})"
    ax.annotate(
        text, (0.01, limit), xycoords=ax.get_yaxis_transform(), xytext=(0, 3), textcoords="offset points",
        fontsize=FONT, color=text_colour(_SIZES[1][0], ax),
    )  # fmt: skip
    ax.set_ylim(top=max(ax.get_ylim()[1], 1.25 * limit))


def _draw_drops(ax: Axes, one: xr.Dataset) -> None:
    """Mark steps at which the learning rate drops."""
    rate = one["learning_rate"] if "learning_rate" in one else one[_SHARPNESS] / one["sharpness"]
    rate = rate.median("run").dropna("step")
    dropped = rate["step"].values[1:][rate.values[1:] < _DROP * rate.values[:-1]]
    for k, step in enumerate(dropped):
        ax.axvline(step, color=_GREY, lw=1, ls=":", gid="drop", label="_" if k else "learning rate dropped")
    if len(dropped):
        ax.legend(handles=[line for line in ax.lines if line.get_gid() == "drop"][:1], fontsize=FONT, frameon=False)


def _lines(ax: Axes, values: xr.DataArray, *, label: str, **style: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draw runs and their median over the steps with a value, and return the steps and the median."""
    found = values.transpose("run", "step").dropna("step", how="all")
    steps, runs = found["step"].values.astype(float), found.values
    middle = np.nanmedian(runs, axis=0) if runs.size else np.zeros(0)
    ax.plot(steps, middle, label=label_text(label), **style)
    thin = {"color": style["color"], "zorder": 1.5}
    if len(runs) > MAX_THIN:
        low, high = np.nanpercentile(runs, _QUANTILES, axis=0)
        ax.fill_between(steps, low, high, alpha=0.2, lw=0, **thin)
    elif len(runs) > 1:
        for run in runs:
            seen = ~np.isnan(run)
            ax.plot(steps[seen], run[seen], lw=0.7, alpha=0.5, gid="run", **thin)
    return steps, middle


def _share(flags: xr.DataArray, values: xr.DataArray, steps: np.ndarray) -> np.ndarray:
    """Return the steps at which at least half of the runs with a value have the flag."""
    seen = values.notnull()
    share = (flags & seen).sum("run") / seen.sum("run").clip(min=1)
    found: np.ndarray = (share >= 0.5).sel(step=steps).values
    return found


def _set_steps(ax: Axes, one: xr.Dataset) -> None:
    step_axis(ax, one["growth"].dropna("step", how="all"))
