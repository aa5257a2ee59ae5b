from .data import (
    Batch as Batch,
    read_data as read_data,
)
from .isolation import (
    isolated as isolated,
    torch_defaults as torch_defaults,
)
from .layers import (
    INPUT as INPUT,
    OUTPUT as OUTPUT,
    default_layers as default_layers,
    named_modules as named_modules,
    select_layers as select_layers,
    unwrap as unwrap,
)
from .outputs import (
    reduced as reduced,
    replaced as replaced,
    tensor_of as tensor_of,
)
from .passes import (
    Pass as Pass,
    Scored as Scored,
    Tap as Tap,
    Trace as Trace,
    trace as trace,
)
from .scores import score_rows as score_rows
from .snapshot import (
    Snapshot as Snapshot,
    generator as generator,
)
from .training import TrainingContext as TrainingContext

__all__: list[str]
