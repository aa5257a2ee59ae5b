from .batching import step_batches as step_batches
from .data import (
    Batch as Batch,
    read_data as read_data,
    shared as shared,
)
from .isolation import isolated as isolated
from .layers import (
    INPUT as INPUT,
    OUTPUT as OUTPUT,
    default_layers as default_layers,
    named_layers as named_layers,
    select_layers as select_layers,
)
from .loaders import from_loader as from_loader
from .outputs import reduce_output as reduce_output
from .passes import (
    Scored as Scored,
    Tap as Tap,
)
from .piecewise.network import piecewise_linear as piecewise_linear
from .piecewise.refusals import NotPiecewiseLinearError as NotPiecewiseLinearError
from .scores import score_rows as score_rows
from .sites import Trace as Trace
from .snapshot import (
    Snapshot as Snapshot,
    generator as generator,
)
from .tracing import trace as trace
from .training import TrainingContext as TrainingContext

__all__: list[str]
