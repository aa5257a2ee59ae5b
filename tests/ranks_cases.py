"""Trainings on several ranks, good and bad ones, which tests run in one set of processes. The argument is a folder."""

import gc
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import probe
from probe import LMNProbe, Measured, MutualInfoProbe, Probe, ProbeSet, RobustnessProbe, WeightsProbe, every
from probe.forward import Tap

PATIENCE = 120  # seconds; the processes share a busy machine
SHORT = 2  # seconds
Result = dict[str, Any]
Case = Callable[[Path], Result]


def make(norm: type[nn.Module] = nn.BatchNorm1d) -> nn.Module:
    """Return the model, the same on all ranks."""
    torch.manual_seed(0)
    middle = nn.Sequential(nn.Linear(17, 16), norm(16), nn.ReLU())
    return nn.Sequential(nn.Linear(6, 17), nn.ReLU(), middle, nn.Linear(16, 3))


def data() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return two splits."""
    torch.manual_seed(1)
    x = torch.randn(150, 6)
    y = (x[:, 0] > 0).long()
    return {"train": (x, y), "test": (x[:40], y[:40])}


def shard(net: nn.Module, **options: Any) -> nn.Module:
    """Return the model, divided among the ranks."""
    for module in (net[0], net[2]):  # type: ignore[index]
        fully_shard(module, **options)
    return fully_shard(net, **options)


def probes() -> ProbeSet:
    """Return probes that take outputs, edit values and read weights."""
    return ProbeSet([MutualInfoProbe(), WeightsProbe(), LMNProbe(), RobustnessProbe()])


def train(model: nn.Module, steps: int = 6, observed: Probe | ProbeSet | None = None, **options: Any) -> Result:
    """Train, and return what the probes have observed and the weights at the end."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    given = {"schedule": every(3), "batch_size": 48, "timeout": PATIENCE, **options}
    accumulated = given.pop("accumulated", 1)
    if observed is not None:
        observed.attach(model, given.pop("data", data()), optimizer=optimizer, **given)
    for k in range(steps * accumulated):
        update(model, optimizer, k, last=(k + 1) % accumulated == 0)
    if observed is not None:
        observed.detach()
    return {"weights": numbers(model)}


def update(model: nn.Module, optimizer: Any, k: int, *, last: bool = True) -> None:
    """Make a backward pass on a part of a batch, and an update after the last of them."""
    x, y = data()["train"]
    rows = torch.arange(20 * k, 20 * k + 20).remainder(len(x)).chunk(dist.get_world_size())[dist.get_rank()]
    F.cross_entropy(model(x[rows]).float(), y[rows]).backward()
    if last:
        optimizer.step()
        optimizer.zero_grad()


def numbers(model: nn.Module) -> list[float]:
    """Return the weights as a checkpoint has them, whole, and the buffers of this rank."""
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, state)
    return [number for value in ranks[0].values() for number in value.double().flatten().tolist()]


class Fails(Probe):
    """A probe that fails at step 3 on the second rank, where the others make a pass."""

    def __init__(self, error: type[BaseException] = ValueError, within: bool = False) -> None:
        self.error = error
        self.within = within

    def measure(self, snapshot: probe.Snapshot) -> dict[str, Measured]:
        """Return a number."""
        fails = snapshot.step == 3 and dist.get_rank() == 1

        def rows(z: torch.Tensor) -> torch.Tensor:
            if fails:
                raise self.error("no number here")
            return z.flatten(1)

        if fails and not self.within:
            raise self.error("no number here")
        found = snapshot.outputs("train", ["0"], reduce=rows)["0"]
        return {"number": Measured(float(found.sum()))}


def steps_of(series: Any) -> Result:
    """Return the steps, and the failures of the probe that fails."""
    return {"steps": series["step"].values.tolist(), "failed": series["failed"].sel(probe="Fails").values.tolist()}


# -- cases -------------------------------------------------------------------------------------------------------------


def fixed(folder: Path) -> Result:
    """Observe a sharded and a replicated model that are not trained."""
    for name, model in (("fsdp", shard(make())), ("ddp", DistributedDataParallel(make()))):
        probes().attach(model, data(), path=folder / f"{name}.nc", batch_size=48, timeout=PATIENCE).observe(0).detach()
    return {}


def trained(folder: Path) -> Result:
    """Train sharded models, with and without probes."""
    observed = probes()
    found = {"with": train(shard(make()), observed=observed, path=folder / "trained.nc")["weights"]}
    found["without"] = train(shard(make()))["weights"]
    steps = observed.series_["step"].values.tolist()
    return {**found, "steps": steps, "loss": observed.series_["information_x"].values.ravel().tolist()}


def policies(folder: Path) -> Result:
    """Train with mixed precision, with activation checkpoints, and with accumulated gradients."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    found: Result = {}
    low = {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)}
    for name in ("mixed", "checkpoints", "accumulated"):
        weights = []
        for observed in (ProbeSet([MutualInfoProbe(), WeightsProbe()]), None):
            net = make(nn.LayerNorm)  # statistics of batch norm are no 16-bit numbers
            if name == "checkpoints":
                apply_activation_checkpointing(net, check_fn=lambda module: isinstance(module, nn.Linear))
            model = shard(net, **(low if name == "mixed" else {}))
            accumulated = 3 if name == "accumulated" else 1
            weights.append(train(model, observed=observed, accumulated=accumulated)["weights"])
            if observed is not None:
                found[f"{name} steps"] = observed.series_["step"].values.tolist()
                found[f"{name} norm"] = float(observed.series_["weight_norm_total"].values[0])
        found[name] = weights[0] == weights[1]
    return found


def failing(folder: Path) -> Result:
    """Train with probes that fail on the second rank, before and within a pass."""
    found: Result = {}
    for kind, prepare in (("fsdp", shard), ("ddp", DistributedDataParallel)):
        for within in (False, True):
            observed = ProbeSet([Fails(within=within), MutualInfoProbe()])
            weights = train(prepare(make()), observed=observed)["weights"]  # type: ignore[operator]
            found[f"{kind} {within}"] = steps_of(observed.series_)
            found[f"{kind} {within} same"] = weights == train(prepare(make()))["weights"]  # type: ignore[operator]
    return found


def raising(folder: Path) -> Result:
    """Train with on_error="raise" and a probe that fails on the second rank."""
    observed = ProbeSet([Fails()])
    try:
        train(shard(make()), observed=observed, on_error="raise")
    except Exception as error:
        observed.detach()
        return {"error": type(error).__name__, "steps": observed.series_["step"].values.tolist()}
    return {}


def interrupted(folder: Path) -> Result:
    """Interrupt the second rank within a measurement."""
    found: Result = {}
    for kind, prepare in (("fsdp", shard), ("ddp", DistributedDataParallel)):
        model, observed = prepare(make()), ProbeSet([Fails(error=KeyboardInterrupt)])  # type: ignore[operator]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        observed.attach(model, data(), optimizer=optimizer, schedule=every(3), timeout=PATIENCE)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for k in range(6):
                try:
                    update(model, optimizer, k)
                except KeyboardInterrupt:
                    optimizer.zero_grad()
                    found[f"{kind} interrupted"] = k
            observed.detach()
        found[f"{kind} texts"] = [str(one.message) for one in caught if "same point" in str(one.message)]
        found[f"{kind} steps"] = observed.series_["step"].values.tolist()
    return found


def different(folder: Path) -> Result:
    """Attach with other arguments on the second rank."""
    second = dist.get_rank() == 1
    other = {name: (x + 1, y) for name, (x, y) in data().items()}
    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "probes": (WeightsProbe(max_side=64 if second else 32), {}),
        "data": (WeightsProbe(), {"data": other if second else data()}),
        "schedule": (WeightsProbe(), {"schedule": every(7 if second else 3)}),
        "path": (WeightsProbe(), {"path": folder / f"other{dist.get_rank()}.nc"}),
    }
    found: Result = {}
    for name, (observed, options) in cases.items():
        found[name] = refused(shard(make()), observed, **options)
    wide = nn.Sequential(nn.Linear(6, 8 if second else 9), nn.ReLU(), nn.Linear(8 if second else 9, 3))
    found["model"] = refused(wide, WeightsProbe())
    torch.manual_seed(dist.get_rank())
    found["weights"] = refused(nn.Linear(6, 3), WeightsProbe())
    found["files"] = sorted(path.name for path in folder.glob("other*"))
    return found


def refused(model: nn.Module, observed: Any, **options: Any) -> str:
    """Return the message of attach, after which the model trains on."""
    message = ""
    try:
        observed.attach(model, options.pop("data", data()), **{"timeout": PATIENCE, **options}).observe(0)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    model(data()["train"][0]).sum().backward()
    return message


def unsupported(folder: Path) -> Result:
    """Attach to models that are divided in other ways, or on one rank alone."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    found = {"this": refused(shard(make()), WeightsProbe(), ranks="this")}
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    found["tensor"] = refused(
        parallelize_module(net, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()}), WeightsProbe()
    )
    found["fsdp1"] = refused(FullyShardedDataParallel(nn.Linear(6, 3), device_id=torch.device("cpu")), WeightsProbe())
    return found


def alone(folder: Path) -> Result:
    """Attach on the first rank only."""
    first = dist.get_rank() == 0
    found = {kind: "" for kind in ("fsdp", "ddp")}
    for kind, model in (("fsdp", shard(make())), ("ddp", DistributedDataParallel(make()))):
        if first:
            found[kind] = refused_at_attach(model, timeout=SHORT)
        found[f"{kind} same"] = len(train(model)["weights"]) > 0
    return found


def refused_at_attach(model: nn.Module, **options: Any) -> str:
    """Return the message of attach."""
    try:
        WeightsProbe().attach(model, data(), **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def budgeted(folder: Path) -> Result:
    """Train with a budget, whose decisions depend on the time of the first rank."""
    observed = ProbeSet([WeightsProbe()], budget=0.05)
    train(shard(make()), observed=observed, steps=40, schedule=every(1))
    return {"steps": observed.series_["step"].values.tolist()}


def resumed(folder: Path) -> Result:
    """Train three steps, and three more with a recording that is resumed."""
    model, path = shard(make()), folder / "resumed.nc"
    train(model, steps=3, observed=ProbeSet([WeightsProbe()]), path=path)
    observed = ProbeSet([WeightsProbe()])
    train(model, steps=3, observed=observed, path=path, mode="resume", step=3)
    return {"steps": observed.series_["step"].values.tolist()}


def detached(folder: Path) -> Result:
    """Detach on the first rank only."""
    model, observed = DistributedDataParallel(make()), ProbeSet([WeightsProbe()])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    observed.attach(
        model, data(), optimizer=optimizer, timeout=PATIENCE, path=folder / "detached.nc", schedule=every(3)
    )
    for k in range(4):
        update(model, optimizer, k)
        if k == 3 and dist.get_rank() == 0:
            observed.detach()
    return {"steps": observed.series_["step"].values.tolist()}


def destroyed(folder: Path) -> Result:
    """Destroy the process group before detach."""
    model, observed = DistributedDataParallel(make()), ProbeSet([WeightsProbe()])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    observed.attach(model, data(), optimizer=optimizer, timeout=PATIENCE, path=folder / "destroyed.nc")
    for k in range(9):  # step 9 is not on the default schedule
        update(model, optimizer, k)
    dist.destroy_process_group()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        observed.detach()
    texts = [str(one.message) for one in caught]
    return {
        "steps": observed.series_["step"].values.tolist(),
        "warned": [text for text in texts if "destroyed" in text],
    }


class Draws(Probe):
    """A probe that draws rows at random, from the global generator or from one with a seed of its own."""

    def __init__(self, own: bool = False) -> None:
        self.own = own

    def measure(self, snapshot: probe.Snapshot) -> dict[str, Measured]:
        """Return the sum of an output over the rows."""
        rows = torch.from_numpy(np.random.default_rng().permutation(150)) if self.own else torch.randperm(150)
        found = snapshot.outputs("train", ["0"], rows=rows[:100])["0"]
        return {"total": Measured(float(found.double().sum()))}


class Catches(Probe):
    """A probe that catches errors of its passes. At step 3 the second rank fails before them."""

    def measure(self, snapshot: probe.Snapshot) -> dict[str, Measured]:
        """Return the number of passes without an error."""
        if snapshot.step == 3 and dist.get_rank() == 1:
            raise ValueError("no number here")
        number = 0
        for _ in range(3):
            with suppress(Exception):
                number += len(snapshot.outputs("train", ["0"])) > 0
        return {"number": Measured(number)}


def drawn(folder: Path) -> Result:
    """Draw rows where the random states of the ranks differ."""
    model, observed, given = DistributedDataParallel(make()), Draws(), data()
    torch.manual_seed(7 + dist.get_rank())
    before, rows = torch.get_rng_state(), torch.randperm(150)[:100]
    torch.set_rng_state(before)
    observed.attach(model, given, batch_size=48, timeout=PATIENCE).observe(0).detach()
    same = torch.equal(before, torch.get_rng_state())
    with torch.no_grad():
        here = float(model.module[0](given["train"][0])[rows].double().sum())
    found = {"total": observed.series_["total"].item(), "here": here, "same": same}
    return {**found, "own": refused(model, Draws(own=True), batch_size=48)}


def caught(folder: Path) -> Result:
    """Train with a probe that catches the error of another rank."""
    found: Result = {}
    for kind, prepare in (("fsdp", shard), ("ddp", DistributedDataParallel)):
        observed = ProbeSet([("Fails", Catches()), MutualInfoProbe()])
        train(prepare(make()), observed=observed)  # type: ignore[operator]
        found[kind] = steps_of(observed.series_)
    return found


def scheduled(folder: Path) -> Result:
    """Train with a schedule that fails on the first rank, at step 3."""

    def due(step: int) -> bool:
        if step == 3 and dist.get_rank() == 0:
            raise ValueError("no step here")
        return True

    model, observed = DistributedDataParallel(make()), ProbeSet([WeightsProbe()])
    optimizer, errors = torch.optim.Adam(model.parameters(), lr=0.01), []
    observed.attach(model, data(), optimizer=optimizer, schedule=due, timeout=PATIENCE)
    for k in range(5):
        try:
            update(model, optimizer, k)
        except (ValueError, probe.errors.RankError) as error:
            errors.append(f"{k} {error}")
    observed.detach()
    return {"errors": errors, "steps": observed.series_["step"].values.tolist()}


def parts(folder: Path) -> Result:
    """Attach to parts of models, and to a model that one rank trains alone."""
    from torch.distributed.pipelining import PipelineStage

    found: Result = {}
    for when in ("before", "after"):
        model = shard(make())
        if when == "after":
            model(data()["train"][0])
        found[when] = refused_at_attach(model[2], timeout=PATIENCE)  # type: ignore[index]
        found[f"{when} same"] = len(train(model, steps=1)["weights"]) > 0
    stage = PipelineStage(nn.Linear(6, 3), dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    found["stage"] = refused_at_attach(stage, timeout=PATIENCE)  # type: ignore[arg-type]
    group = dist.new_group([0])
    if dist.get_rank() == 0:
        alone = DistributedDataParallel(make(), process_group=group)
        found["group"] = refused_at_attach(alone, timeout=PATIENCE)
    return found


class Selects(Probe):
    """A probe that fails, or is interrupted, on the second rank while it attaches."""

    def __init__(self, interrupt: bool = False) -> None:
        self.interrupt = interrupt

    def taps(self, snapshot: probe.Snapshot) -> list[Tap]:
        """Return one layer."""
        if self.interrupt and dist.get_rank() == 1:
            signal.raise_signal(signal.SIGINT)
        return [Tap("0", self.rows)]

    def rows(self, z: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the layer."""
        if not self.interrupt and dist.get_rank() == 1:
            raise ValueError("no rows here")
        return z.flatten(1)

    def measure(self, snapshot: probe.Snapshot) -> dict[str, Measured]:
        """Return a number."""
        return {"number": Measured(1.0)}


def attaching(folder: Path) -> Result:
    """Fail or be interrupted on the second rank at attach, and train on."""
    found: Result = {}
    for kind, prepare in (("fsdp", shard), ("ddp", DistributedDataParallel)):
        for interrupt in (False, True):
            name, model = f"{kind} {interrupt}", prepare(make())  # type: ignore[operator]
            try:
                ProbeSet([Selects(interrupt)]).attach(model, data(), timeout=PATIENCE)
            except (Exception, KeyboardInterrupt) as error:
                found[name] = f"{type(error).__name__}: {error}"
            found[f"{name} same"] = len(train(model, steps=1)["weights"]) > 0
    return found


def released(folder: Path) -> Result:
    """Attach and detach again and again."""
    model, numbers = DistributedDataParallel(make()), []
    for _ in range(4):
        for _ in range(5):
            WeightsProbe().attach(model, data(), timeout=PATIENCE).observe(0).detach()
        gc.collect()
        numbers.append(len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0)
    return {"files": numbers}


def killed(folder: Path) -> Result:
    """Kill the second rank after step 3."""
    model, observed = shard(make()), ProbeSet([WeightsProbe()])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    observed.attach(model, data(), optimizer=optimizer, schedule=every(1), path=folder / "killed.nc", timeout=PATIENCE)
    for k in range(6):
        if k == 3 and dist.get_rank() == 1:
            os.kill(os.getpid(), 9)
        update(model, optimizer, k)
    return {}


CASES: dict[str, list[Case]] = {
    "numbers": [fixed, trained, policies],
    "failures": [failing, raising, interrupted, different, unsupported, alone, budgeted, resumed, detached, destroyed],
    "more failures": [drawn, caught, scheduled, parts, attaching, released],
}


def main(folder: Path, names: str) -> None:
    """Run the cases, and write what they return, or their error."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=size)
    known = {case.__name__: case for cases in [*CASES.values(), [killed]] for case in cases}
    for case in CASES.get(names) or [known[name] for name in names.split(",")]:
        try:
            found = case(folder)
        except BaseException:
            if case is killed:
                raise
            found = {"unexpected": traceback.format_exc()}
        (folder / f"{case.__name__}-{rank}.json").write_text(json.dumps(found))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
