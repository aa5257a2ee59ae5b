from .activations import (
    ActivationsProbe as ActivationsProbe,
    activation_summary as activation_summary,
)
from .chaos.probe import ChaosProbe as ChaosProbe
from .circuits.circuit import (
    Circuit as Circuit,
    circuit as circuit,
)
from .circuits.probe import CircuitsProbe as CircuitsProbe
from .feature_learning.kernels import feature_alignment as feature_alignment
from .feature_learning.probe import FeatureLearningProbe as FeatureLearningProbe
from .fisher import FisherProbe as FisherProbe
from .fourier import (
    FourierProbe as FourierProbe,
    fourier_norms as fourier_norms,
    gini as gini,
)
from .linear_mapping.probe import LMNProbe as LMNProbe
from .linear_regions.probe import LinearRegionsProbe as LinearRegionsProbe
from .local_complexity.probe import LocalComplexityProbe as LocalComplexityProbe
from .mutual_info.estimators import ESTIMATORS as ESTIMATORS
from .mutual_info.probe import MutualInfoProbe as MutualInfoProbe
from .neural_collapse import (
    NeuralCollapse as NeuralCollapse,
    NeuralCollapseProbe as NeuralCollapseProbe,
    collapse_summary as collapse_summary,
)
from .neural_tangent.probe import TangentKernelProbe as TangentKernelProbe
from .neural_tangent.whole import (
    tangent_kernel as tangent_kernel,
    tangent_products as tangent_products,
)
from .performance import PerformanceProbe as PerformanceProbe
from .random_walk import random_walk_band as random_walk_band
from .robustness import (
    RobustnessProbe as RobustnessProbe,
    directions as directions,
)
from .weight_modes.probe import WeightModesProbe as WeightModesProbe
from .weight_phase.probe import WeightPhaseProbe as WeightPhaseProbe
from .weights import (
    WeightsProbe as WeightsProbe,
    WeightSummary as WeightSummary,
    frobenius_norm as frobenius_norm,
    weight_matrices as weight_matrices,
    weight_summary as weight_summary,
)

__all__: list[str]
