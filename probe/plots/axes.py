"""The axes of plots."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

# For the report.
from probe.plots.names import marker_colours as marker_colours, marker_labels as marker_labels, run_name as run_name
from probe.plots.steps import is_logarithmic as is_logarithmic, step_edges as step_edges
from probe.plots.style import PHASES as PHASES


def new_axes(ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def drawn_steps(steps: np.ndarray) -> np.ndarray:
    """Return steps for the logarithmic axis of a report, where step 0 is drawn at one half."""
    return np.where(steps == 0, 0.5, steps)
