"""See and test the two phases of learning in any PyTorch model.

Probes attach to a model by hooks, observe it during training and return xarray time series.
:class:`PhaseDetector` reads such series, or curves logged elsewhere, and finds where fitting ends and what
happens then. Names are loaded on first use, so that ``import probe`` needs neither torch nor time.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

try:
    __version__ = version("probe-dynamics")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

del PackageNotFoundError, lazy_loader, version
