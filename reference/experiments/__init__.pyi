from .demo import (
    Demo as Demo,
    find_phases as find_phases,
    run_demo as run_demo,
)
from .figures import (
    EXPERIMENTS as EXPERIMENTS,
    Experiment as Experiment,
)
from .measuring import (
    all_probes as all_probes,
    measure as measure,
    measure_run as measure_run,
)

__all__: list[str]
