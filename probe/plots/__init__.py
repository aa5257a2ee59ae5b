"""Plots of series: curves, phases, alignment of markers, information plane, overview. Works without PyTorch.

Each function that draws on one pair of axes accepts ``ax=None`` (a new figure) and returns the axes. No function shows
a figure, and only ``animate_plane`` saves a file. Curves over another axis than steps are drawn from ``curves_`` of
``PhaseDetector(axis=...)``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
