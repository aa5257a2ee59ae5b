from .boundaries import (
    boundary_density as boundary_density,
    boundary_distance as boundary_distance,
    sign_changes as sign_changes,
    slice_slope as slice_slope,
)
from .fisher import (
    FisherNumbers as FisherNumbers,
    fisher_numbers as fisher_numbers,
)
from .frames import (
    effective_share as effective_share,
    orthonormal_frame as orthonormal_frame,
)
from .growth import (
    angular_distance as angular_distance,
    log_growth as log_growth,
    top_eigenpair as top_eigenpair,
)
from .lines import (
    PairwiseLinearity as PairwiseLinearity,
    linear_mapping_number as linear_mapping_number,
    linearity as linearity,
    pairwise_linearity as pairwise_linearity,
)
from .modes.sequence import (
    FollowedModes as FollowedModes,
    follow_modes as follow_modes,
)
from .networks import (
    Affine as Affine,
    Bend as Bend,
    Maximum as Maximum,
    PiecewiseLinear as PiecewiseLinear,
    perceptron as perceptron,
)
from .partition.arrangement import (
    Arrangement as Arrangement,
)
from .partition.partition import (
    Partition as Partition,
    counts_by_width as counts_by_width,
    partition_slice as partition_slice,
)
from .partition.slices import (
    Slice as Slice,
    input_plane as input_plane,
    slice_through as slice_through,
    square as square,
)
from .regions.borders import (
    BoundaryGraph as BoundaryGraph,
    boundary_graph as boundary_graph,
)
from .regions.decision import (
    decision_segments as decision_segments,
    distance_to_segments as distance_to_segments,
)
from .regions.mechanisms import (
    RegionChanges as RegionChanges,
    region_changes as region_changes,
)
from .regions.merging import merged_boundaries as merged_boundaries
from .segments.segments import (
    LineBreakpoints as LineBreakpoints,
    SegmentRegions as SegmentRegions,
    line_breakpoints as line_breakpoints,
    segment_regions as segment_regions,
)
from .spectra import (
    effective_rank as effective_rank,
    participation_ratio as participation_ratio,
    spectral_entropy as spectral_entropy,
    squared_singular_values as squared_singular_values,
    stable_rank as stable_rank,
)
from .tangent_kernel import (
    KernelNumbers as KernelNumbers,
    kernel_alignment as kernel_alignment,
    kernel_numbers as kernel_numbers,
    kernel_sketch as kernel_sketch,
    probe_sketch as probe_sketch,
)

__all__: list[str]
