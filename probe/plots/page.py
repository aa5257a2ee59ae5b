"""Overview of one series on one page."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from probe.plots.axes import PHASES
from probe.plots.lines import curves
from probe.plots.plane import information_plane
from probe.plots.shading import phases


def overview(series: xr.Dataset, detector: Any = None, *, title: str = "") -> Figure:
    """Draw accuracy, loss, information, local complexity, linear mapping number and information plane on one page.

    Panels whose variables are missing from the series are omitted.

    Parameters
    ----------
    series : xarray.Dataset
    detector : PhaseDetector, optional
        Fitted. Its phases are shaded, and its roles name the accuracies and losses.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the series contains no variable of any panel.

    See Also
    --------
    curves : Any variables, on one pair of axes.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> series = xr.Dataset({"train_loss": ("step", 1 / np.arange(1.0, 30))}, {"step": np.arange(1, 30)})
    >>> figure = plots.overview(series, title="one run")
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['loss']
    """
    panels = _panels(series, detector)
    plane = {"information_x", "information_y", "split"} <= {*map(str, series.data_vars), *map(str, series.dims)}
    if not panels and not plane:
        raise ValueError(
            "Expected a variable of a panel (*_accuracy, *_loss, information_x, local_complexity_total or "
            f"linear_mapping_number), got {', '.join(map(str, series.data_vars))}; use plots.curves for other variables"
        )
    count = len(panels) + plane
    columns = min(3, count)
    rows = -(-count // columns)
    figure = plt.figure(figsize=(4.6 * columns, 3.5 * rows), layout="constrained")
    for i, (names, ylabel, log) in enumerate(panels):
        ax = figure.add_subplot(rows, columns, i + 1)
        curves(series, names, ax=ax, log=log, ylabel=ylabel)
        if detector is not None:
            phases(detector, ax=ax)
    if plane:
        information_plane(series, detector=detector, ax=figure.add_subplot(rows, columns, count))
    if detector is not None:
        occurring = {int(phase) for phase in np.unique(detector.phases_)} & PHASES.keys()
        shades = [Patch(color=PHASES[phase][1], label=PHASES[phase][0]) for phase in sorted(occurring)]
        shades.append(Patch(color="#dddddd", label="interval of a marker"))
        figure.legend(handles=shades, loc="outside lower center", ncols=len(shades), fontsize=9, frameon=False)
    if title:
        figure.suptitle(title)
    return figure


def _panels(series: xr.Dataset, detector: Any) -> list[tuple[list[str], str | None, bool]]:
    """Return (variables, label of the axis, logarithmic) of each panel with a variable."""

    def named(ending: str, *roles: str) -> list[str]:
        wanted = [getattr(detector, role, None) for role in roles]
        of_model = [name for name, array in series.data_vars.items() if "layer" not in array.dims]
        chosen = {*wanted, *(name for name in of_model if str(name).endswith(ending))}
        return [str(name) for name, array in series.data_vars.items() if name in chosen and array.dtype.kind == "f"]

    information = getattr(detector, "information", "information_x")
    single = [information if isinstance(information, str) else "information_x", "local_complexity_total"]
    panels: list[tuple[list[str], str | None, bool]] = [
        (named("_accuracy", "train_accuracy", "test_accuracy"), "accuracy", False),
        (named("_loss", "test_loss"), "loss", True),
        *(([name] if name in series else [], None, False) for name in [*single, "linear_mapping_number"]),
    ]
    return [panel for panel in panels if panel[0]]
