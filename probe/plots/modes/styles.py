"""Colours, lines and readers that the plots of modes share."""

from collections.abc import Hashable
from typing import Any

import xarray as xr

from probe.plots.style import FONT

# Okabe and Ito, with one line and one hatch for each.
COLOURS = {"relevant": "#d55e00", "marginal": "#0072b2", "irrelevant": "#009e73", "undecided": "#8c8c8c"}
LINES: dict[str, dict[str, Any]] = {
    "relevant": {"lw": 1.8, "ls": "-", "zorder": 4},
    "marginal": {"lw": 1.6, "ls": (0, (6, 1.5)), "zorder": 3.5},
    "irrelevant": {"lw": 1.4, "ls": (0, (1.5, 1.2)), "zorder": 3},
    "undecided": {"lw": 0.7, "ls": "-", "zorder": 2, "alpha": 0.6},
}
ABOVE: dict[str, Any] = {  # place of a legend that covers no data, also in a narrow figure
    "fontsize": FONT,
    "ncols": 2,
    "loc": "lower center",
    "bbox_to_anchor": (0.5, 1.01),
    "borderaxespad": 0,
    "frameon": False,
    "columnspacing": 1,
    "handlelength": 2.2,
}
HATCHES = {"relevant": "", "marginal": "///", "irrelevant": "...", "undecided": ""}


def selected(data: xr.DataArray | xr.Dataset, dim: str, label: Hashable | None) -> Any:
    """Return one label of a dimension, by default the first; ``data`` itself without this dimension."""
    if dim not in data.dims:
        return data
    labels = data[dim].values.tolist() if dim in data.coords else list(range(data.sizes[dim]))
    if label is None:
        label = labels[0]
    if label not in labels:
        raise ValueError(f"Expected {dim} among {', '.join(map(str, labels))}, got {label!r}; pass {dim}= with one")
    return data.isel({dim: labels.index(label)})


def check_classes(classes: Any) -> None:
    """Raise ValueError unless ``classes`` are those of :func:`probe.stats.mode_classes`."""
    if not isinstance(classes, xr.Dataset) or not {"mode_class", "count"} <= set(classes):
        raise ValueError(
            f"Expected the Dataset of probe.stats.mode_classes, got {type(classes).__name__}; pass its result"
        )
