"""The axes of plots."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes


def new_axes(ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax
