"""Numbers of relevant, marginal, irrelevant and undecided modes in each window."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from probe.plots.axes import closes_on_error, new_axes
from probe.plots.modes.styles import ABOVE, COLOURS, HATCHES, check_classes, selected
from probe.plots.names import label_text
from probe.plots.style import FONT, ink
from probe.stats.coarse_graining.classes import CLASSES

_WIDTH = 0.2


@closes_on_error
def mode_classes(classes: xr.Dataset, *, parameter: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the number of modes of each class over the windows: bars are means over runs, dots single runs.

    Parameters
    ----------
    classes : xarray.Dataset
        Result of :func:`probe.stats.mode_classes`, with or without ``run``.
    parameter : str, optional
        Name of the matrix; by default all matrices together.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If ``classes`` are not those above, or there is no such matrix.

    See Also
    --------
    mode_trajectories : The modes of one matrix.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe import plots
    >>> counts = [[1, 0], [0, 3], [4, 2], [2, 2]]  # (class, window)
    >>> names = ["relevant", "marginal", "irrelevant", "undecided"]
    >>> classes = xr.Dataset({"count": (("class", "window"), counts)}, {"class": names, "window": ["early", "late"]})
    >>> ax = plots.mode_classes(classes.assign(mode_class=("window", ["", ""])))
    >>> [float(bar.get_height()) for bar in ax.containers[2]]  # irrelevant
    [4.0, 2.0]
    """
    check_classes(classes)
    counts = classes["count"]
    if "parameter" in counts.dims:
        counts = counts.sum("parameter") if parameter is None else selected(counts, "parameter", parameter)
    counts = counts if "run" in counts.dims else counts.expand_dims("run")
    counts = counts if "window" in counts.dims else counts.expand_dims(window=[""])
    ax = new_axes(ax)
    places, names = np.arange(counts.sizes["window"]), [label_text(name) for name in counts["window"].values]
    for k, name in enumerate(CLASSES):
        values = counts.sel({"class": name}).transpose("run", "window").values
        x = places + (k - 1.5) * _WIDTH
        style: dict[str, Any] = {"color": COLOURS[name], "hatch": HATCHES[name], "edgecolor": ax.get_facecolor()}
        ax.bar(x, values.mean(0), 0.92 * _WIDTH, label=name, gid=name, lw=0, **style)
        if len(values) > 1:
            shift = np.linspace(-0.3, 0.3, len(values))[:, None] * _WIDTH
            ax.plot((x + shift).ravel(), values.ravel(), ".", ms=3.5, color=ink(ax), gid="run", zorder=3)
    ax.set_xticks(places, names)
    ax.set_ylabel("number of modes")
    runs = f"means and single values of {counts.sizes['run']} runs" if counts.sizes["run"] > 1 else None
    ax.legend(title=runs, title_fontsize=FONT, **ABOVE)
    return ax
