"""Small examples of ways to train, for tests/test_training.py and the table of docs/compatibility.md.

Each function trains a model and calls ``look.attach`` and ``look.observe`` where a user would. If ``look.on`` is False,
nothing is attached, and the training must give the same result.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from cases import Data, mlp, splits, vectors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from probe import LocalComplexityProbe, MutualInfoProbe, ProbeSet, every
from probe.testing import state_of

UPDATES = 4


@dataclass
class Look:
    """Attaches probes, or does nothing."""

    on: bool
    probes: list[ProbeSet] = field(default_factory=list)

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **options: Any) -> None:
        if self.on:
            probes = ProbeSet([MutualInfoProbe(subsample_se=True), LocalComplexityProbe(max_rows=400)])
            schedule = None if optimizer is None else every(1)
            data = splits(DATA)
            probes.attach(model, data, optimizer=optimizer, schedule=schedule, on_error="raise", **options)
            self.probes.append(probes)

    def observe(self, step: int) -> None:
        for probes in self.probes:
            probes.observe(step)

    def steps(self) -> list[list[int]]:
        return [probes.detach().series_["step"].values.tolist() for probes in self.probes]


@dataclass(frozen=True)
class Setup:
    """A way to train. ``run(look)`` returns the models and optimisers whose states must not change."""

    name: str
    run: Callable[[Look], tuple[list[nn.Module], list[torch.optim.Optimizer]]]
    steps: tuple[tuple[int, ...], ...] = (tuple(range(UPDATES + 1)),)
    how: str = "attach(..., optimizer=)"
    remark: str = ""
    messages: tuple[str, ...] = ()  # warnings that occur only with probes
    slow: bool = False
    needs: str = ""  # name of a required package


def made() -> Data:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return vectors()


DATA = made()
X, Y = splits(DATA)["train"]


def net() -> nn.Sequential:
    """Return a model with state and randomness: batch norm and dropout."""
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 3))


def adam(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, **options)


def batch() -> tuple[Tensor, Tensor]:
    chosen = torch.randint(len(Y), (8,), device="cpu")
    return X[chosen], Y[chosen]


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x, y = batch()
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


# -- the ways ----------------------------------------------------------------------------------------------------------


def compiled(wrap: Callable[[nn.Module], nn.Module], *, late: bool) -> Callable[[Look], Any]:
    def run(look: Look) -> Any:
        torch._dynamo.reset()
        model = net()
        used = wrap(model)
        optimizer = adam(model)
        if late:
            used(X)
        look.attach(used, optimizer)
        for _ in range(UPDATES):
            update(used, optimizer)
        return [model], [optimizer]

    return run


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def whole(backend: str) -> Callable[[nn.Module], nn.Module]:
    return lambda model: torch.compile(model, backend=backend)  # type: ignore[return-value]


def compiled_step(look: Look) -> Any:
    torch._dynamo.reset()
    model = net()
    optimizer = adam(model)
    look.attach(model, optimizer)
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    for _ in range(UPDATES):
        x, y = batch()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        step()
    return [model], [optimizer]


def autocast(inside: bool) -> Callable[[Look], Any]:
    """Train with autocast. The optimiser steps outside or inside of the region."""

    def run(look: Look) -> Any:
        model = net()
        optimizer = adam(model)
        look.attach(model, optimizer)
        for _ in range(UPDATES):
            x, y = batch()
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x), y)
                if inside:
                    loss.backward()
                    optimizer.step()
            if not inside:
                loss.backward()
                optimizer.step()
        return [model], [optimizer]

    return run


def scaled(fused: bool) -> Callable[[Look], Any]:
    """Train with a GradScaler, which skips the third update, since its gradients overflow."""

    def run(look: Look) -> Any:
        model = net()
        optimizer = adam(model, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        look.attach(model, optimizer)
        for i in range(UPDATES + 1):
            x, y = batch()
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss * (torch.inf if i == 2 else 1)).backward()
            scaler.step(optimizer)
            scaler.update()
        return [model], [optimizer]

    return run


def checkpointed(reentrant: bool) -> Callable[[Look], Any]:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.block, self.head = nn.Linear(6, 12), net()[1:4], nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(checkpoint(self.block, self.first(x), use_reentrant=reentrant))

    def run(look: Look) -> Any:
        model = Net()
        optimizer = adam(model)
        look.attach(model, optimizer)
        for _ in range(UPDATES):
            update(model, optimizer)
        return [model], [optimizer]

    return run


def accumulated(look: Look) -> Any:
    model = net()
    optimizer = adam(model)
    look.attach(model, optimizer)
    for i in range(3 * UPDATES):
        x, y = batch()
        F.cross_entropy(model(x), y).div(3).backward()
        if i % 3 == 2:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return [model], [optimizer]


def scheduled(look: Look) -> Any:
    model = net()
    optimizer = adam(model)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=UPDATES + 1)
    look.attach(model, optimizer)
    for _ in range(UPDATES):
        update(model, optimizer)
        scheduler.step()
    return [model], [optimizer]


def several(look: Look) -> Any:
    model = net()
    first, last = torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9), adam(model[4])
    look.attach(model, last)
    for _ in range(UPDATES):
        x, y = batch()
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        first.step()
        last.step()
    return [model], [first, last]


def closure(look: Look) -> Any:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    look.attach(model, optimizer)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(model(X), Y)
        value.backward()
        return value

    for _ in range(UPDATES):
        optimizer.step(loss)
    return [model], [optimizer]


def averaged(look: Look) -> Any:
    model = net()
    optimizer, average = adam(model), AveragedModel(model, avg_fn=lambda a, b, n: 0.9 * a + 0.1 * b)
    look.attach(average)
    look.observe(0)
    for step in range(1, UPDATES + 1):
        update(model, optimizer)
        average.update_parameters(model)
        look.observe(step)
    return [model, average], [optimizer]


def loaded(look: Look) -> Any:
    """Train with two forked data loader workers while the probes record to a file."""
    model = net()
    optimizer = adam(model)
    with tempfile.TemporaryDirectory() as folder:
        look.attach(model, optimizer, path=Path(folder) / "run.nc")
        loader = DataLoader(
            TensorDataset(X, Y), batch_size=4, shuffle=True, num_workers=2, multiprocessing_context="fork"
        )
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        look.steps()
    return [model], [optimizer]


def twice(look: Look) -> Any:
    model = net()
    optimizer = adam(model)
    look.attach(model, optimizer)
    look.attach(model, optimizer)
    for _ in range(UPDATES):
        update(model, optimizer)
    return [model], [optimizer]


def nested(look: Look) -> Any:
    model = net()
    optimizer = adam(model)
    if look.on:
        probes = ProbeSet([ProbeSet([MutualInfoProbe()]), LocalComplexityProbe(max_rows=400)])
        look.probes.append(probes.attach(model, splits(DATA), optimizer=optimizer, schedule=every(1), on_error="raise"))
    for _ in range(UPDATES):
        update(model, optimizer)
    return [model], [optimizer]


def distributed(look: Look) -> Any:
    """Train in a process group of size 1. The group ends before the last observation, so a collective would fail."""
    from torch import distributed as dist

    model = net()
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        used = nn.parallel.DistributedDataParallel(model)
        optimizer = adam(used)
        look.attach(used)
        look.observe(0)
        for _ in range(UPDATES):
            update(used, optimizer)
        dist.destroy_process_group()
    look.observe(UPDATES)
    return [model], [optimizer]


def sharing_a_group(look: Look) -> Any:
    """Train in a process group of size 1, with steps counted by the optimiser."""
    from torch import distributed as dist

    model = net()
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
        try:
            used = nn.parallel.DistributedDataParallel(model)
            optimizer = adam(used)
            look.attach(used, optimizer)
            for _ in range(UPDATES):
                update(used, optimizer)
        finally:
            dist.destroy_process_group()
    return [model], [optimizer]


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def within(context: Callable[[], Any]) -> Callable[[Look], Any]:
    """Train inside of a context manager. Only the model is made outside of it."""

    def run(look: Look) -> Any:
        model = net()
        optimizer = adam(model)
        with context():
            look.attach(model, optimizer)
            for _ in range(UPDATES):
                update(model, optimizer)
        return [model], [optimizer]

    return run


def inference(look: Look) -> Any:
    model = net()
    optimizer = adam(model)
    look.attach(model)
    for step in range(UPDATES):
        with torch.inference_mode():
            look.observe(step)
        update(model, optimizer)
    look.observe(UPDATES)
    return [model], [optimizer]


def frozen(look: Look) -> Any:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    look.attach(model, optimizer)
    for i in range(UPDATES):
        if i == 2:
            model[0].requires_grad_(False)
        update(model, optimizer)
    return [model], [optimizer]


def in_backward(look: Look) -> Any:
    """Train with one optimiser for each parameter, stepped in the backward pass. The loop counts the steps."""
    model = net()
    optimizers = [torch.optim.SGD([parameter], lr=1e-2) for parameter in model.parameters()]
    by_parameter = dict(zip(model.parameters(), optimizers, strict=True))

    def step(parameter: Tensor) -> None:
        by_parameter[parameter].step()  # type: ignore[index]
        by_parameter[parameter].zero_grad()  # type: ignore[index]

    handles = [parameter.register_post_accumulate_grad_hook(step) for parameter in model.parameters()]
    look.attach(model)
    look.observe(0)
    for i in range(UPDATES):
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        look.observe(i + 1)
    for handle in handles:
        handle.remove()
    return [model], optimizers


BY_LOOP = "attach(...), observe(step)"
SETUPS = [
    Setup("a plain loop", within(nullcontext)),
    Setup("torch.compile, attached before the first call", compiled(whole("eager"), late=False)),
    Setup("torch.compile, attached after the first call", compiled(whole("eager"), late=True)),
    Setup("torch.compile with aot_eager", compiled(whole("aot_eager"), late=False), slow=True),
    Setup("module.compile(), attached before the first call", compiled(in_place, late=False)),
    Setup("module.compile(), attached after the first call", compiled(in_place, late=True)),
    Setup("a compiled step of the optimiser", compiled_step, slow=True),
    Setup("autocast to bfloat16", autocast(False)),
    Setup("autocast, the optimiser steps inside", autocast(True)),
    Setup("GradScaler, an update skipped", scaled(False), remark="skipped updates do not count as steps"),
    Setup(
        "GradScaler with a fused optimiser, an update skipped",
        scaled(True),
        remark="skipped updates do not count as steps",
    ),
    Setup(
        "gradient checkpointing, reentrant",
        checkpointed(True),
        remark="PyTorch warns that no input requires a gradient",
        messages=("None of the inputs have requires_grad=True. Gradients will be None",),
    ),
    Setup("gradient checkpointing, not reentrant", checkpointed(False)),
    Setup("gradient accumulation and clipping", accumulated, remark="steps are updates, not batches"),
    Setup("learning rate schedulers", scheduled),
    Setup("several optimisers", several, remark="pass the optimiser that steps last"),
    Setup("LBFGS", closure, remark="steps are calls of step, not of the closure"),
    Setup("one optimiser for each parameter, stepped in the backward pass", in_backward, how=BY_LOOP),
    Setup("an average of the weights (AveragedModel)", averaged, how=BY_LOOP),
    Setup("a layer is frozen during training", frozen),
    Setup("data loader with forked workers, recording to a file", loaded),
    Setup("two sets of probes on one model", twice, (tuple(range(UPDATES + 1)),) * 2),
    Setup("a set of probes in a set", nested),
    Setup("DistributedDataParallel, no collective", distributed, ((0, UPDATES),), how=BY_LOOP),
    Setup("DistributedDataParallel, counted", sharing_a_group, remark="attach on one rank"),
    Setup("observed in inference mode", inference, how=BY_LOOP),
    Setup("default type float64", within(lambda: default_type(torch.float64))),
    Setup("default device other than that of the data", within(lambda: torch.device("meta"))),
    Setup("deterministic algorithms", within(deterministic)),
    Setup("anomaly detection", within(torch.autograd.detect_anomaly)),
]


def trained(setup: Setup, *, on: bool) -> tuple[list[dict[str, Any]], list[list[int]], list[str]]:
    """Return the final states, the recorded steps and the warnings."""
    torch.manual_seed(5)
    look = Look(on)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models, optimizers = setup.run(look)
        steps = look.steps()
    states = [state_of(model, None) for model in models]
    states += [state_of(nn.Identity(), optimizer) for optimizer in optimizers]
    return states, steps, list(dict.fromkeys(str(warning.message) for warning in caught))


def row(setup: Setup, untouched: bool) -> str:
    """Return the row of a way to train in docs/compatibility.md."""
    cells = [setup.name, setup.how, "untouched" if untouched else "CHANGED", setup.remark]
    return f"| {' | '.join(cells)} |"


# Fault, result, and the test in tests/test_faults.py that shows it.
FAULTS = [
    (
        "kill -9 at any moment of an observation",
        "the last observation may be lost, all earlier ones are kept; the file opens, and recording continues",
        "test_kill_9_in_any_phase_loses_at_most_the_observation_that_is_written",
    ),
    (
        "disk full",
        "a warning for each observation that cannot be written; it stays in memory and is written once there is space; "
        "training continues",
        "test_a_full_disk_is_told_training_goes_on_and_the_file_opens",
    ),
    (
        "read-only folder",
        "attach raises an error, and leaves no file",
        "test_a_read_only_folder_is_an_error_at_attach_and_nothing_is_left",
    ),
    (
        "slow, network-like writes",
        "an observation waits for the disk once, and twice if it rewrites the NetCDF file",
        "test_slow_writes_come_once_or_twice_for_an_observation",
    ),
    (
        "two processes on one file",
        "the second raises an error until the first has ended in any way",
        "test_a_second_process_is_refused_until_the_first_has_ended",
    ),
    (
        "two attached probes on one file",
        "the second raises an error until the first is detached",
        "test_two_probes_of_one_process_are_refused_until_the_first_is_detached",
    ),
    (
        "a file system without locks",
        "`probe` warns; recording continues",
        "test_a_file_system_without_locks_is_told",
    ),
    (
        "a fork, such as that of a data loader",
        "the child writes nothing, and warns if it observes; it does not lock the file after the parent has ended",
        "test_a_forked_process_writes_nothing",
    ),
    (
        'Ctrl-C, an error or a kill before the first observation of `mode="overwrite"`',
        "the earlier recording stays, byte by byte",
        "test_a_recording_stays_until_an_observation_replaces_it",
    ),
    (
        "the files of a recording are removed meanwhile",
        "a warning; the journal is written again with all observations, as soon as its folder is there",
        "test_files_that_are_removed_are_written_again",
    ),
    (
        "another recording has replaced the files",
        "it is not changed; `probe` warns, and the series stays in memory",
        "test_another_recording_in_the_place_of_the_files_is_left_alone",
    ),
    (
        "a symbolic link as path",
        "it is followed once, at attach; journal and kept values are beside the file",
        "test_a_link_is_followed_once",
    ),
    (
        "a damaged file",
        "an error names file and line, because lines have checksums and NetCDF files a digest. A damaged last line is "
        "skipped with a warning. We tried 1,000 damages of each kind of file",
        "test_a_damaged_file_is_an_error",
    ),
    (
        "an exception in the forward pass",
        "it is raised at the first observation. Later, the observation is flagged, a warning gives the reason, and "
        "training continues",
        "test_an_exception_in_the_model_is_flagged_in_the_file_and_training_goes_on",
    ),
    (
        "Ctrl-C in the forward pass",
        "it is raised; the file opens, and the same step can be observed again",
        "test_an_interrupt_in_the_model_gets_through_and_the_file_opens",
    ),
    (
        "a file from an untrusted source",
        "reading a file cannot run code, because `probe` reads only JSON and NetCDF, and no pickles",
        "test_nothing_that_is_read_can_run_code",
    ),
]


def fault_row(fault: str, outcome: str, test: str) -> str:
    """Return the row of a fault in docs/compatibility.md."""
    return f"| {fault} | {outcome} |"
