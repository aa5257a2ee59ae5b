"""One page for one series."""

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
    """One page: accuracy, loss, information over step, information plane, local complexity, linear mapping number.

    Panels whose variables are not in the series are left out. A fitted PhaseDetector shades its phases, and says which
    variables are accuracies and losses if they have other names.
    """
    panels = _panels(series, detector)
    plane = {"information_x", "information_y", "split"} <= {*map(str, series.data_vars), *map(str, series.dims)}
    if not panels and not plane:
        raise ValueError(f"none of the variables is known to this page: {', '.join(map(str, series.data_vars))}")
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
    """(variables, label of the axis, logarithmic) of each panel that has any variable."""

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
