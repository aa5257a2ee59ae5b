from .boundaries import (
    boundary_density as boundary_density,
    boundary_distance as boundary_distance,
    sign_changes as sign_changes,
    slice_slope as slice_slope,
)
from .frames import (
    effective_share as effective_share,
    orthonormal_frame as orthonormal_frame,
)
from .lines import (
    PairwiseLinearity as PairwiseLinearity,
    linear_mapping_number as linear_mapping_number,
    linearity as linearity,
    pairwise_linearity as pairwise_linearity,
)
from .networks import (
    Affine as Affine,
    Bend as Bend,
    Maximum as Maximum,
    PiecewiseLinear as PiecewiseLinear,
    perceptron as perceptron,
)
from .segments import (
    LineBreakpoints as LineBreakpoints,
    SegmentRegions as SegmentRegions,
    line_breakpoints as line_breakpoints,
    segment_regions as segment_regions,
)
from .spectra import (
    effective_rank as effective_rank,
    spectral_entropy as spectral_entropy,
    squared_singular_values as squared_singular_values,
    stable_rank as stable_rank,
)

__all__: list[str]
