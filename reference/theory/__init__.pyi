from .command import (
    sample_all as sample_all,
    solve_all as solve_all,
    summary_text as summary_text,
    transitions_text as transitions_text,
)
from .figures import (
    draw_actions as draw_actions,
    draw_learned as draw_learned,
    draw_modular as draw_modular,
    draw_phases as draw_phases,
)
from .first_order.closed_forms import (
    ModularTransitions as ModularTransitions,
    TeacherTransition as TeacherTransition,
    critical_width as critical_width,
    gaussian_branch as gaussian_branch,
    mixed_branch as mixed_branch,
    modular_transitions as modular_transitions,
    teacher_transition as teacher_transition,
)
from .first_order.common import (
    PHASES as PHASES,
    ConvergenceError as ConvergenceError,
)
from .first_order.free_length import (
    FreeLengthSolution as FreeLengthSolution,
    solve_free_length as solve_free_length,
)
from .first_order.modular import (
    ModularAddition as ModularAddition,
    ModularSolution as ModularSolution,
    solve_modular as solve_modular,
)
from .first_order.sweep import (
    phase_diagram as phase_diagram,
    sweep_modular as sweep_modular,
    sweep_teacher as sweep_teacher,
)
from .first_order.teacher import (
    CubicTeacher as CubicTeacher,
    TeacherSolution as TeacherSolution,
    solve_teacher as solve_teacher,
)
from .langevin import (
    Langevin as Langevin,
    UnstableStepError as UnstableStepError,
)
from .order.analysis import (
    OrderTests as OrderTests,
    order_tests as order_tests,
)
from .order.command import (
    measure_order as measure_order,
    order_text as order_text,
)
from .order.figures import draw_order as draw_order
from .order.recording import record_order as record_order
from .order.settings import (
    ORDER as ORDER,
    OrderSettings as OrderSettings,
)
from .simulation.configs import SAMPLINGS as SAMPLINGS
from .simulation.modular import ModularNetworks as ModularNetworks
from .simulation.sampling import (
    Sampling as Sampling,
    sample as sample,
)
from .simulation.summary import summarise as summarise
from .simulation.teacher import TeacherNetworks as TeacherNetworks

__all__: list[str]
