"""Distances between the spectra of groups of runs over the steps."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.modes.styles import ABOVE, selected
from probe.plots.names import label_text
from probe.plots.steps import scale_steps
from probe.plots.style import ink
from probe.stats.coarse_graining.run_spectra import ALL

# Okabe and Ito, with one mark for each.
_PAIRS = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "D"), ("#cc79a7", "^"), ("#a89a00", "v"), ("#56b4e9", "P"))
_MARKS = 16  # at most on a line


@closes_on_error
def spectral_flow(flow: xr.Dataset, *, parameter: str = ALL, ax: Axes | None = None) -> Axes:
    """Draw the distances of spectra between groups of runs over the steps, and within groups.

    A solid line is the mean distance between runs of two groups, and the thin dashed line of the same colour that
    between runs of one group. Where both agree, the groups differ as runs of one group do. The legend has the verdict
    of each pair.

    Parameters
    ----------
    flow : xarray.Dataset
        Result of :func:`probe.stats.spectral_flow`.
    parameter : str
        Name of the matrix; by default all matrices together.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If ``flow`` is not as above, or there is no such matrix.

    See Also
    --------
    probe.stats.spectral_flow : The distances, the test and the verdict.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots, stats
    >>> def runs(end):
    ...     spectra = np.stack([np.ones((4, 3)), np.tile(end, (4, 1))], 1)
    ...     return xr.DataArray(spectra, dims=("run", "step", "rank"), coords={"step": [1, 100]})
    >>> flow = stats.spectral_flow({"one": runs([3.0, 0, 0]), "two": runs([2.0, 2.0, 0])}, (100, 100))
    >>> ax = plots.spectral_flow(flow)
    >>> ax.lines[0].get_ydata().round(2).tolist()
    [0.0, 0.77]
    """
    _check(flow)
    one = selected(flow, "parameter", parameter)
    ax, spans = new_axes(ax), []
    for k in range(one.sizes["pair"]):
        pair = one.isel(pair=k)
        seen = pair["between_at"].notnull().values
        steps = pair["step"].values[seen].astype(float)
        if not len(steps):
            continue
        spans += [steps[0], steps[-1]]
        colour, mark = _PAIRS[k % len(_PAIRS)]
        every = max(1, len(steps) // _MARKS)
        style: dict[str, Any] = {"color": colour, "marker": mark, "ms": 4, "markevery": every, "lw": 1.6}
        text = f"{label_text(pair['pair'].item(), 60)}: {pair['verdict'].item()}"
        ax.plot(steps, pair["between_at"].values[seen], label=text, gid="between", **style)
        within = pair["within_at"].values[seen]
        if np.isfinite(within).any():
            ax.plot(steps, within, color=colour, lw=1, ls=(0, (4, 2)), gid="within")
    ax.plot([], [], color=ink(ax), lw=1, ls=(0, (4, 2)), label="within groups")
    if spans:
        scale_steps(ax, np.unique(spans))
    ax.set_ylim(0)
    what = "all matrices" if parameter == ALL else label_text(parameter)
    ax.set(xlabel="step", ylabel=f"distance of spectra ({what})")
    ax.legend(**ABOVE | {"ncols": 1})
    return ax


def _check(flow: Any) -> None:
    """Raise ValueError unless ``flow`` is the result of :func:`probe.stats.spectral_flow`."""
    if not isinstance(flow, xr.Dataset) or not {"between_at", "within_at", "verdict"} <= set(flow):
        raise ValueError(
            f"Expected the Dataset of probe.stats.spectral_flow, got {type(flow).__name__}; pass its result"
        )
