from .detector import PhaseDetector as PhaseDetector
from .markers.bends import (
    piecewise_linear_onset as piecewise_linear_onset,
    plateau_end as plateau_end,
)
from .markers.chance import leaves_chance as leaves_chance
from .markers.crossings import sustained_crossing as sustained_crossing
from .markers.departures import departure as departure
from .markers.growth import growth_end as growth_end
from .markers.marker import (
    Marker as Marker,
    Status as Status,
    check_curve as check_curve,
)
from .markers.modes import (
    top_inside as top_inside,
    unimodal_mode as unimodal_mode,
)
from .markers.peaks import second_descent as second_descent
from .markers.settling import (
    fitting_end as fitting_end,
    fixed_point as fixed_point,
)
from .markers.table import (
    MARKERS as MARKERS,
    MarkerKind as MarkerKind,
)
from .over_runs.agreement import (
    estimates_of as estimates_of,
    peak_agreement as peak_agreement,
)
from .over_runs.alignment import (
    align as align,
    chance_level as chance_level,
    order_shares as order_shares,
)
from .over_runs.comovement import (
    CoMovement as CoMovement,
    co_movement as co_movement,
)
from .over_runs.second_phase import (
    AcrossRuns as AcrossRuns,
    second_phase_across as second_phase_across,
)

__all__: list[str]
