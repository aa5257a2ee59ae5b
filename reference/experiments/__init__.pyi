from .chaos_cone import (
    CHAOS_CONE as CHAOS_CONE,
    ChaosConeConfig as ChaosConeConfig,
    chaos_name as chaos_name,
    record_chaos as record_chaos,
    record_chaos_seed as record_chaos_seed,
)
from .coarse_graining import record_coarse as record_coarse
from .coarse_graining_analysis import summarise_coarse as summarise_coarse
from .coarse_graining_figures import draw_coarse as draw_coarse
from .demo import (
    Demo as Demo,
    find_phases as find_phases,
    run_demo as run_demo,
    run_demos as run_demos,
)
from .demo_command import show_demo as show_demo
from .figures import (
    EXPERIMENTS as EXPERIMENTS,
    Experiment as Experiment,
)
from .first_order_analysis import (
    Distance as Distance,
    distances as distances,
    share_mixed as share_mixed,
    weight_markers as weight_markers,
)
from .first_order_demo import (
    record_demo_seed as record_demo_seed,
    record_demos as record_demos,
)
from .first_order_figures import (
    draw_boundary as draw_boundary,
    draw_loops as draw_loops,
    draw_recorded as draw_recorded,
    draw_weights as draw_weights,
)
from .first_order_grokking import (
    PARTS as PARTS,
    GrokkingRun as GrokkingRun,
    boundary_probes as boundary_probes,
    grokking_probes as grokking_probes,
    grokking_runs as grokking_runs,
    record_grokking as record_grokking,
    record_grokking_seed as record_grokking_seed,
    record_part as record_part,
)
from .first_order_loops import (
    boundary_table as boundary_table,
    sweep_loops as sweep_loops,
)
from .measuring import (
    all_probes as all_probes,
    measure as measure,
    measure_run as measure_run,
)
from .perceptrons import (
    observed_data as observed_data,
    observed_steps as observed_steps,
    perceptron_config as perceptron_config,
    perceptron_name as perceptron_name,
    perceptron_probes as perceptron_probes,
    record_perceptron as record_perceptron,
    record_perceptrons as record_perceptrons,
)

__all__: list[str]
