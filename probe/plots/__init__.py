"""Plots of series: curves, phases, alignment of markers, information plane, overview. Works without PyTorch.

A function that draws one pair of axes accepts ``ax=None`` (a new figure) and returns the axes. A function that draws
several returns the figure: ``overview``, ``measure``, ``information_planes``, ``partitions``, ``region_changes``,
``mechanisms`` and ``growth``. No function shows a figure, and only ``animate_plane`` saves a file. Curves over another
axis than steps are drawn from ``curves_`` of ``PhaseDetector(axis=...)``.

Colours and texts follow the style of matplotlib, also a dark one. The axis of steps is logarithmic if the steps are not
evenly spaced; it is then linear from step 0 to the next one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
