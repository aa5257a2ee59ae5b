"""The axes of plots, and figures that are closed if a plot fails."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

P = ParamSpec("P")
R = TypeVar("R")


def new_axes(ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def closes_on_error(plot: Callable[P, R]) -> Callable[P, R]:
    """Return a plot that closes its new figures if it raises an error, so that none stays open in pyplot."""

    @wraps(plot)
    def closing(*args: P.args, **options: P.kwargs) -> R:
        before = plt.get_fignums()
        try:
            return plot(*args, **options)
        except BaseException:
            for number in {*plt.get_fignums()} - {*before}:
                plt.close(number)
            raise

    return closing
