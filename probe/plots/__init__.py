"""Pictures of series: curves, phases, alignment, information plane, one page. Axes in, axes out; no torch.

Every function that draws on one pair of axes takes ``ax=None`` and returns the axes it drew on; nothing is shown, and
only an animation is saved. Curves over another axis than steps are drawn as ``PhaseDetector(axis=...)`` keeps them, in
``curves_``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
