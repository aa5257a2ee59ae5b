"""Pictures of series: curves, phases, alignment, information plane, one page. Axes in, axes out; no torch.

Every function that draws on one pair of axes takes ``ax=None`` and returns the axes it drew on; nothing is shown, and
only an animation is saved. Curves over another axis than steps are drawn as ``PhaseDetector(axis=...)`` keeps them, in
``curves_``.
"""

from probe.plots.alignment import alignment
from probe.plots.animation import animate_plane
from probe.plots.curves import curves
from probe.plots.overview import overview
from probe.plots.phases import phases
from probe.plots.plane import information_plane, information_planes, plane_distance

__all__ = [
    "alignment",
    "animate_plane",
    "curves",
    "information_plane",
    "information_planes",
    "overview",
    "phases",
    "plane_distance",
]
