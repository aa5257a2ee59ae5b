from .censored import (
    MedianStep as MedianStep,
    log_bounds as log_bounds,
    median_step as median_step,
    order_interval as order_interval,
)
from .coarse_graining.classes import (
    control_band as control_band,
    mode_classes as mode_classes,
)
from .coarse_graining.distances import spectral_distance as spectral_distance
from .coarse_graining.exponents import growth_exponents as growth_exponents
from .coarse_graining.flow import spectral_flow as spectral_flow
from .coarse_graining.slopes import (
    Slopes as Slopes,
    slope_interval as slope_interval,
)
from .cones.cone import (
    Cone as Cone,
    cone_entry as cone_entry,
)
from .cones.cone_window import (
    ConeRadius as ConeRadius,
    cone_radius as cone_radius,
)
from .cones.kernel_records import (
    RecordedKernels as RecordedKernels,
    recorded_kernels as recorded_kernels,
)
from .cones.recorded_cones import cone_of as cone_of
from .cones.sketches import (
    KernelDistance as KernelDistance,
    kernel_distance as kernel_distance,
    kernel_distances as kernel_distances,
)
from .curves.changepoints import (
    Segmentation as Segmentation,
    piecewise_linear as piecewise_linear,
)
from .curves.isotonic import (
    prefix_isotonic as prefix_isotonic,
    unimodal_splits as unimodal_splits,
)
from .curves.outliers import spikes as spikes
from .curves.prominence import (
    prominences as prominences,
    roughness as roughness,
    third_differences as third_differences,
)
from .inference import (
    Estimate as Estimate,
    Separation as Separation,
    change_correlation as change_correlation,
    least_p_value as least_p_value,
    leave_one_out as leave_one_out,
    mean_interval as mean_interval,
    median_interval as median_interval,
    separation as separation,
    tau_b as tau_b,
    thinned as thinned,
)
from .loss_barrier import (
    LossBarriers as LossBarriers,
    loss_barriers as loss_barriers,
)
from .noise import (
    PHI_GRID as PHI_GRID,
    Noise as Noise,
    difference_noise as difference_noise,
    local_sd as local_sd,
    noise_model as noise_model,
    simulate_ar1 as simulate_ar1,
    variance_inflation as variance_inflation,
)
from .paired import (
    Concordance as Concordance,
    Line as Line,
    concordance as concordance,
    orthogonal_line as orthogonal_line,
)
from .segmented import (
    SegmentedFit as SegmentedFit,
    segmented_fit as segmented_fit,
)
from .transition.action import empirical_action as empirical_action
from .transition.barriers import (
    BarrierScaling as BarrierScaling,
    barrier_scaling as barrier_scaling,
)
from .transition.binder import binder_cumulant as binder_cumulant
from .transition.droplets import droplet_phase as droplet_phase
from .transition.hopping import (
    Dwells as Dwells,
    HoppingRates as HoppingRates,
    hopping_rates as hopping_rates,
)
from .transition.loops import (
    Hysteresis as Hysteresis,
    hysteresis as hysteresis,
)

__all__: list[str]
