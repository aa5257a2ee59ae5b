"""Figures of docs/measures: one for each measure that has a plot; `figures.py` writes them."""

from collections.abc import Callable

from matplotlib.figure import Figure

PICTURES: dict[str, Callable[[], Figure]] = {}
