"""See and test the two phases of learning in any PyTorch model.

Probes attach to a model by hooks, observe it during training and return xarray time series;
:class:`PhaseDetector` reads such series, or curves logged elsewhere, and says when fitting ends and what
happens then. Names are loaded on first use, so that ``import probe`` needs neither torch nor time.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.base import Measured as Measured
    from probe.base import Probe as Probe
    from probe.base import Snapshot as Snapshot
    from probe.journal import load as load
    from probe.measures.activations import ActivationsProbe as ActivationsProbe
    from probe.measures.fourier import FourierProbe as FourierProbe
    from probe.measures.linear_mapping import LMNProbe as LMNProbe
    from probe.measures.local_complexity import LocalComplexityProbe as LocalComplexityProbe
    from probe.measures.mutual_info import MutualInfoProbe as MutualInfoProbe
    from probe.measures.neural_collapse import NeuralCollapseProbe as NeuralCollapseProbe
    from probe.measures.performance import PerformanceProbe as PerformanceProbe
    from probe.measures.robustness import RobustnessProbe as RobustnessProbe
    from probe.measures.weights import WeightsProbe as WeightsProbe
    from probe.phases.detector import PhaseDetector as PhaseDetector
    from probe.probeset import ProbeSet as ProbeSet
    from probe.progress.early_warning import EarlyWarning as EarlyWarning
    from probe.progress.scorecard import ProgressScorecard as ProgressScorecard
    from probe.readers import read as read
    from probe.schedule import at as at
    from probe.schedule import every as every
    from probe.schedule import log_spaced as log_spaced
    from probe.series import save as save

# The same names at run time (a test holds the two lists together).
_HOME = {
    "ActivationsProbe": "probe.measures.activations",
    "EarlyWarning": "probe.progress.early_warning",
    "FourierProbe": "probe.measures.fourier",
    "LMNProbe": "probe.measures.linear_mapping",
    "LocalComplexityProbe": "probe.measures.local_complexity",
    "Measured": "probe.base",
    "MutualInfoProbe": "probe.measures.mutual_info",
    "NeuralCollapseProbe": "probe.measures.neural_collapse",
    "PerformanceProbe": "probe.measures.performance",
    "PhaseDetector": "probe.phases.detector",
    "Probe": "probe.base",
    "ProbeSet": "probe.probeset",
    "ProgressScorecard": "probe.progress.scorecard",
    "RobustnessProbe": "probe.measures.robustness",
    "Snapshot": "probe.base",
    "WeightsProbe": "probe.measures.weights",
    "at": "probe.schedule",
    "every": "probe.schedule",
    "load": "probe.journal",
    "log_spaced": "probe.schedule",
    "read": "probe.readers",
    "save": "probe.series",
}
__all__ = sorted(_HOME)

try:
    __version__ = version("probe-dynamics")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'probe' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
