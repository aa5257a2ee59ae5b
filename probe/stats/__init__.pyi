from .censored import (
    MedianStep as MedianStep,
    log_bounds as log_bounds,
    median_step as median_step,
    order_interval as order_interval,
)
from .changepoints import (
    Segmentation as Segmentation,
    difference_noise as difference_noise,
    piecewise_linear as piecewise_linear,
)
from .inference import (
    Estimate as Estimate,
    Separation as Separation,
    change_correlation as change_correlation,
    leave_one_out as leave_one_out,
    mean_interval as mean_interval,
    median_interval as median_interval,
    separation as separation,
    tau_b as tau_b,
    thinned as thinned,
)
from .isotonic import (
    prefix_isotonic as prefix_isotonic,
    unimodal_splits as unimodal_splits,
    valley as valley,
)
from .noise import (
    PHI as PHI,
    Noise as Noise,
    ar1 as ar1,
    inflation as inflation,
    noise_model as noise_model,
    spikes as spikes,
)
from .paired import (
    Concordance as Concordance,
    Line as Line,
    concordance as concordance,
    orthogonal_line as orthogonal_line,
)
from .scan_statistic import (
    Excursions as Excursions,
    second_phase_table as second_phase_table,
)
from .segmented import (
    SegmentedFit as SegmentedFit,
    segmented_fit as segmented_fit,
)

__all__: list[str]
