"""The tables of docs/compatibility.md: models and loops by group, and models that attach refuses."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from architectures import ARCHITECTURES, nodes
from cases import CASES, Case, mlp, plain, splits, vectors
from hugging_face import HUGGING_FACE
from loops import LIBRARIES, LOOPS
from setups import SETUPS, Setup
from torch import nn

from probe import PerformanceProbe
from probe.testing import state_of

MODELS: dict[str, list[Case]] = {"Plain PyTorch": [*CASES, *ARCHITECTURES], "transformers": HUGGING_FACE}
TRAINING: dict[str, list[Setup]] = {"Plain loops": [*SETUPS, *LOOPS], "Loops of libraries": LIBRARIES}


@dataclass(frozen=True)
class Refused:
    """A model that attach refuses, and leaves as it was."""

    name: str
    make: Callable[[], tuple[nn.Module, Any]]
    advice: str  # a part of the message
    state: Callable[[nn.Module], Any] = lambda model: state_of(model, None)


def kinds(model: nn.Module) -> Any:
    """Return what can be compared of a model without numbers."""
    return model.training, [(type(parameter), parameter.device) for parameter in model.parameters()]


def held(model: nn.Module) -> dict[str, Any]:
    """Return what a model of TorchScript, or with parameters that are sharded, holds."""
    whole = {
        name: getattr(value, "to_local", lambda value=value: value)() for name, value in model.state_dict().items()
    }
    return {"training": model.training, **{name: value.tolist() for name, value in whole.items()}}


def sharded() -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(mlp(), device_id=torch.device("cpu"))


REFUSED = [
    Refused(
        "TorchScript",
        plain(lambda: torch.jit.script(mlp()), vectors),
        "attach to the module from which torch.jit.script or torch.jit.trace made it",
        held,
    ),
    Refused(
        "FSDP1 (`FullyShardedDataParallel`)",
        plain(sharded, vectors),
        "use fully_shard (FSDP2) on the whole model",
        held,
    ),
    Refused(
        "lazy modules that are not initialised",
        plain(lambda: nn.LazyLinear(3), vectors),
        "run the model once, model(x), before the optimizer is made and probes are attached",
        kinds,
    ),
    Refused("a model on the meta device", plain(lambda: mlp().to("meta"), vectors), "load values first", kinds),
    Refused(
        "graph network whose inputs are the nodes of one graph",
        nodes,
        "pass several graphs, or several signals on one graph",
    ),
]


@contextmanager
def process_group() -> Iterator[None]:
    from torch import distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def refused(case: Refused) -> tuple[str, bool]:
    """Return the message of attach, and whether the model is as it was."""
    with process_group(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        model, data = case.make()
        before = case.state(model)
        try:
            PerformanceProbe().attach(model, splits(data))
        except (TypeError, ValueError) as error:
            return str(error), case.state(model) == before
    raise AssertionError(f"{case.name} is not refused")


def refused_row(case: Refused) -> str:
    """Return the row of a model that is refused in docs/compatibility.md."""
    return f"| {case.name} | {case.advice} |"
