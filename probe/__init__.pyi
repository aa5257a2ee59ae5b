from . import (
    adapters as adapters,
    checkpoints as checkpoints,
    errors as errors,
    forward as forward,
    geometry as geometry,
    information as information,
    measures as measures,
    phases as phases,
    plots as plots,
    progress as progress,
    readers as readers,
    recording as recording,
    report as report,
    schedule as schedule,
    series as series,
    stats as stats,
    testing as testing,
    writers as writers,
)
from .attach.contract import Measured as Measured
from .base import Probe as Probe
from .checkpoints.measuring import over_checkpoints as over_checkpoints
from .errors import ProbeWarning as ProbeWarning
from .forward.data import shared as shared
from .forward.layers import (
    INPUT as INPUT,
    OUTPUT as OUTPUT,
)
from .forward.loaders import from_loader as from_loader
from .forward.passes import Tap as Tap
from .forward.snapshot import (
    Snapshot as Snapshot,
    generator as generator,
)
from .layer_probe import LayerProbe as LayerProbe
from .measures.activations import ActivationsProbe as ActivationsProbe
from .measures.chaos.probe import ChaosProbe as ChaosProbe
from .measures.circuits.probe import CircuitsProbe as CircuitsProbe
from .measures.feature_learning.probe import FeatureLearningProbe as FeatureLearningProbe
from .measures.fisher import FisherProbe as FisherProbe
from .measures.fourier import FourierProbe as FourierProbe
from .measures.linear_mapping.probe import LMNProbe as LMNProbe
from .measures.linear_regions.probe import LinearRegionsProbe as LinearRegionsProbe
from .measures.local_complexity.probe import LocalComplexityProbe as LocalComplexityProbe
from .measures.mutual_info.probe import MutualInfoProbe as MutualInfoProbe
from .measures.neural_collapse import NeuralCollapseProbe as NeuralCollapseProbe
from .measures.neural_tangent.probe import TangentKernelProbe as TangentKernelProbe
from .measures.performance import PerformanceProbe as PerformanceProbe
from .measures.robustness import RobustnessProbe as RobustnessProbe
from .measures.weight_modes.probe import WeightModesProbe as WeightModesProbe
from .measures.weight_phase.probe import WeightPhaseProbe as WeightPhaseProbe
from .measures.weights import WeightsProbe as WeightsProbe
from .phases.detector import PhaseDetector as PhaseDetector
from .phases.markers.marker import Marker as Marker
from .probeset import ProbeSet as ProbeSet
from .progress.early_warning import EarlyWarning as EarlyWarning
from .progress.scorecard import ProgressScorecard as ProgressScorecard
from .readers.reading import read as read
from .recording.files import save as save
from .recording.reading import load as load
from .schedule import (
    at as at,
    every as every,
    log_spaced as log_spaced,
)
from .series import concat as concat
from .testing import check_probe as check_probe

__all__: list[str]
__version__: str
