"""Numbers of observations for dashboards: names, kinds, resumption, faults. Fakes have the signatures of packages."""

import functools
import random
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from cases import splits
from setups import DATA, adam, net, update
from torch import nn

import probe
from probe import PerformanceProbe, ProbeSet, WeightsProbe, every, over_checkpoints
from probe.errors import ProbeWarning
from probe.series import Variable
from probe.writers import outputs, send
from probe.writers.kinds import writers_of
from probe.writers.numbers import numbers_of

Rows = list[tuple[int, dict[str, float]]]


class Board:
    """A fake of every kind; ``rows`` holds what it was given, ``facts`` its description."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.facts: Any = None
        self.flushed = 0

    def take(self, numbers: dict[str, float], step: int) -> None:
        self.rows.append((step, dict(numbers)))

    def steps(self) -> list[int]:
        return [step for step, _ in self.rows]


class SummaryWriter(Board):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None, walltime: Any = None) -> None:
        if not self.rows or self.rows[-1][0] != global_step:
            self.rows.append((int(global_step or 0), {}))
        self.rows[-1][1][tag] = scalar_value

    def add_text(self, tag: str, text_string: str, global_step: int | None = None) -> None:
        self.facts = text_string

    def flush(self) -> None:
        self.flushed += 1


class WandbRun(Board):
    """A run of W&B: a row is open until a commit, and a step below that of the run is ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self._row, self.axes = 0, dict[str, Any](), dict[str, Any]()
        self.config = SimpleNamespace(update=lambda facts, allow_val_change: setattr(self, "facts", facts))

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes[name] = step_metric

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        if step is not None and step < self.step:
            raise AssertionError("a row of the user is ignored")
        if step is not None and step > self.step:
            self._commit()
            self.step = step
        self._row.update(data)
        if commit or (commit is None and step is None):
            self._commit()
            self.step += 1

    def _commit(self) -> None:
        if self._row:
            self.rows.append((self.step, self._row))
        self._row = {}


class Mlflow(Board):
    def log_metrics(self, metrics: dict[str, float], step: int | None = None, synchronous: Any = None) -> None:
        assert len(metrics) <= 1000
        self.take(metrics, int(step or 0))

    def log_dict(self, dictionary: Any, artifact_file: str) -> None:
        self.facts = dictionary


class Client(Board):
    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self.take({one.key: one.value for one in metrics}, metrics[0].step)

    def log_dict(self, run_id: str, dictionary: Any, artifact_file: str) -> None:
        self.facts = (run_id, dictionary)


class Trackio(Board):
    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.take(metrics, int(step or 0))


class Broken:
    """A function that raises at some calls."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.n, self.rows = calls, 0, Rows()

    def __call__(self, numbers: dict[str, float], step: int) -> None:
        self.n += 1
        if self.n in self.calls:
            raise OSError("disk full")
        self.rows.append((step, numbers))


def trained(n: int, *, start: int = 0, probes: Any = None, **options: Any) -> xr.Dataset:
    model = net()
    optimizer = adam(model)
    probes = probes or PerformanceProbe()
    probes.attach(model, splits(DATA), optimizer=optimizer, **{"schedule": every(1), "step": start, **options})
    for _ in range(n):
        update(model, optimizer)
    return probes.detach().series_


def test_names_and_values() -> None:
    layers = {"split": ["test"], "layer": ["x:relu->", "x_relu__", "c"]}
    variables = {
        "a": Variable("a", ("split", "layer"), layers, "bits"),
        "at_ceiling": Variable("at_ceiling", flag=True),
        "failed": Variable("failed", ("probe",), {"probe": ["p", "q"]}, flag=True),
        "spectrum": Variable("spectrum", ("frequency",), {"frequency": [1, 2]}),
        "unwritten": Variable("unwritten"),
    }
    values = {
        "a": np.array([[1.0, 2.0, np.nan]]),
        "at_ceiling": np.int8(1),
        "failed": np.array([0, -1], np.int8),
        "spectrum": np.array([3.0, 4.0]),
        "unwritten": np.array(0.0),
    }
    assert numbers_of(variables, values) == {
        "probe/a/test/x_relu-_": 1, "probe/a/test/x_relu__": 2, "probe/at_ceiling": 1, "probe/failed/p": 0,
    }  # fmt: skip
    assert numbers_of(variables, values, ["spectrum", "none"]) == {"probe/spectrum/1": 3, "probe/spectrum/2": 4}
    twice = {"b": Variable("b", ("layer",), {"layer": ["<i>", "_i_"]})}
    assert numbers_of(twice, {"b": np.array([1.0, 2.0])}) == {"probe/b/_i_": 1, "probe/b/_i__2": 2}
    long = {"b": Variable("b", ("layer",), {"layer": ["x" * 300, "x" * 301]})}
    assert sorted(map(len, numbers_of(long, {"b": np.array([1.0, 2.0])}))) == [240, 240]  # MLflow takes 250


def test_each_kind_takes_the_numbers_of_the_series(monkeypatch: pytest.MonkeyPatch) -> None:
    entities: Any = ModuleType("mlflow.entities")
    entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    boards = [SummaryWriter(), WandbRun(), Mlflow(), Client(), Trackio(), function := Board()]
    given = [*boards[:3], (boards[3], SimpleNamespace(info=SimpleNamespace(run_id="7"))), boards[4], function.take]
    series = trained(3, probes=ProbeSet([WeightsProbe()]), write_to=given)
    wandb: Any = boards[1]
    wandb.log({"loss": 1.0}, step=3)  # the rows of the probes are below the user's own step
    wandb.log({}, commit=True)
    wandb.rows = [(row.pop("probe/step"), {k: v for k, v in row.items() if k != "loss"}) for _, row in wandb.rows]
    layer = str(series["parameter"].values[0])
    for board in boards:
        assert board.steps() == [0, 1, 2, 3], type(board)
        for (step, numbers), row in zip(board.rows, function.rows, strict=True):
            assert (step, numbers) == row
            at = series.sel(step=step)
            assert numbers["probe/train_loss"] == at["train_loss"].item()
            assert numbers[f"probe/weight_norm/{layer}"] == at["weight_norm"].sel(parameter=layer).item()
            assert numbers["probe/failed/shared pass"] == 0
    assert series["unwritten"].values.tolist() == [0] * 4
    described = {"units": "nats", "description": "train loss"}
    for facts in (wandb.facts["probe_variables"], boards[2].facts, boards[3].facts[1]):
        assert facts["probe/train_loss"] == described
    assert "| probe/train_loss | nats | train loss |" in boards[0].facts
    assert boards[0].flushed == 1
    assert wandb.axes == {"probe/step": None, "probe/*": "probe/step"}


def test_numbers_that_the_loop_adds_are_written() -> None:
    board, model = Board(), net()
    probes = PerformanceProbe().attach(
        model, splits(DATA), optimizer=adam(model), schedule=every(1), write_to=board.take
    )
    probes.observe(lr=0.5)
    assert board.rows[-1] == (0, {"probe/lr": 0.5})


def test_numbers_that_are_added_and_lost_are_marked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first writer lacks the numbers that the loop adds, and the second one has none at all."""
    monkeypatch.setattr(outputs, "_REST", 0)
    model, probes = net(), PerformanceProbe()
    optimizer, writers = adam(model), [Broken(2), Broken(1, 2, 3)]
    with pytest.warns(ProbeWarning, match="of step 0"):
        probes.attach(model, splits(DATA), optimizer=optimizer, schedule=every(1), write_to=writers)
    with pytest.warns(ProbeWarning, match="of step 0"):
        probes.observe(lr=0.5)
    update(model, optimizer)
    with pytest.warns(ProbeWarning, match="got errors for 2 of them; the variable 'unwritten' marks them"):
        series = probes.detach().series_
    assert series["unwritten"].values.tolist() == [2, 1]


def test_the_row_of_a_user_of_wandb_is_never_ignored() -> None:
    """Steps from 0, logged at each update, and steps of the run that its own calls count."""
    for log in (lambda run, i: run.log({"loss": i}, step=i), lambda run, i: run.log({"loss": i})):
        run, model = WandbRun(), net()
        optimizer = adam(model)
        probes = PerformanceProbe().attach(
            model, splits(DATA), optimizer=optimizer, schedule=lambda step: step != 2, write_to=run
        )
        for i in range(4):
            update(model, optimizer)
            log(run, i)
        probes.detach()
        run.log({"end": 1})
        assert [row["loss"] for _, row in run.rows if "loss" in row] == [0, 1, 2, 3]
        assert [row["probe/step"] for _, row in run.rows if "probe/step" in row] == [0, 1, 3, 4]


def test_a_writer_that_raises_gives_one_warning_and_its_rows_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, whole = Broken(2, 3), Board()
    monkeypatch.setattr(outputs, "_REST", 0)
    with pytest.warns(ProbeWarning) as caught:
        series = trained(4, write_to=[broken, whole.take])
    texts = [str(one.message) for one in caught]
    assert "Expected Broken to take the numbers of step 1, got OSError: disk full; training and recording" in texts[0]
    assert "got errors for 2 of them" in texts[1]
    assert len(texts) == 2
    assert series["unwritten"].values.tolist() == [0, 1, 1, 0, 0]
    assert whole.steps() == [0, 1, 2, 3, 4]
    lost = series["step"].values[series["unwritten"].values > 0]
    assert send(series, broken, steps=lost) == 2
    assert sorted(broken.rows) == sorted((step, numbers) for step, numbers in whole.rows)


def test_a_writer_that_failed_slowly_is_left_alone_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(1)
    now = iter(range(0, 1000, 10))  # each look at the clock is 10 s after the last one
    monkeypatch.setattr(outputs, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    with pytest.warns(ProbeWarning):
        series = trained(20, write_to=broken)
    lost = int(series["unwritten"].sum())
    assert broken.n == 1 + len(broken.rows)
    assert series["unwritten"].values.tolist() == [1] * lost + [0] * (21 - lost)
    assert 5 < lost < 20


def test_a_resumed_run_writes_no_step_twice(tmp_path: Path) -> None:
    """The first run reaches step 5, and the training resumes at step 2, twice."""
    path, board = tmp_path / "run.nc", Board()
    trained(5, path=path, write_to=board.take)
    for end in (4, 7):
        with pytest.warns(ProbeWarning, match="steps 2 to 5 are recorded and not written again"):
            trained(end - 2, start=2, path=path, mode="resume", write_to=board.take)
    assert board.steps() == [0, 1, 2, 3, 4, 5, 6, 7]
    trained(1, start=7, path=path, mode="resume", write_to=board.take)
    assert board.steps()[-2:] == [7, 8]
    assert probe.load(path)["step"].values.tolist() == list(range(9))


def test_steps_that_nobody_has_written_are_written(tmp_path: Path) -> None:
    path, board = tmp_path / "run.nc", SummaryWriter()
    trained(5, path=path)
    trained(2, start=3, path=path, mode="resume", write_to=board)
    assert board.steps() == [3, 4, 5]
    trained(2, start=5, path=path, mode="resume", write_to=board)
    assert board.steps() == [3, 4, 5, 6, 7]


def test_send_writes_a_recorded_series(tmp_path: Path) -> None:
    live, later, path = Board(), Mlflow(), tmp_path / "run.nc"
    trained(3, probes=ProbeSet([WeightsProbe()]), path=path, write_to=live.take)
    series = probe.load(path)
    assert send(series, later) == 4
    assert later.rows == live.rows
    assert later.facts["probe/train_loss"]["units"] == "nats"
    with pytest.raises(ValueError, match=r"Expected steps of the series, got \[9\]"):
        send(series, later, steps=[9])
    with pytest.raises(ValueError, match=r"send series\.isel"):
        send(series.expand_dims("run"), later)


@pytest.mark.parametrize("given", ["runs", 3, SummaryWriter, __import__("logging"), [Trackio(), object()]])
def test_other_objects_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected write_to to offer add_scalar\(name, value, step\)"):
        writers_of(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda numbers: None, r"take \(numbers, step\), got <lambda>\(numbers\)"),
        (lambda numbers, *, step: None, r"take \(numbers, step\), got <lambda>\(numbers, \*, step\)"),
        (SimpleNamespace(add_scalar=lambda name, value: None), r"take add_scalar\(name, value, step\), got add_scalar"),
        (SimpleNamespace(log_metrics=lambda numbers: None), r"take log_metrics\(numbers, step=\), got log_metrics"),
    ],
)
def test_a_wrong_signature_is_refused_before_the_training(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"Expected write_to to {message}"):
        trained(0, write_to=given)


def test_random_numbers_of_writers_and_lines_leave_the_training_alone() -> None:
    """A writer that repeats a failed call waits for a random time."""

    def weights(**options: Any) -> torch.Tensor:
        torch.manual_seed(0)
        random.seed(0)
        model = nn.Sequential(nn.Dropout(), net())
        optimizer, probes = adam(model), ProbeSet([WeightsProbe()])
        probes.attach(model, DATA, optimizer=optimizer, **options)
        for _ in range(3):
            optimizer.param_groups[0]["lr"] = random.random()
            update(model, optimizer)
        probes.detach()
        return torch.cat([one.flatten() for one in model.parameters()])

    def draw(*_: Any) -> None:
        random.random()
        torch.rand(1)

    assert torch.equal(weights(), weights(write_to=draw, progress=draw))


def test_a_module_of_wandb_without_a_run_gives_advice() -> None:
    module: Any = ModuleType("wandb")
    module.run, module.log, module.define_metric = None, print, print
    with pytest.warns(ProbeWarning, match="Expected wandb to take .* call wandb.init"):
        trained(0, write_to=module)


def checkpoints(folder: Path, steps: Any) -> str:
    for step in steps:
        torch.save(nn.Linear(3, 2).state_dict(), folder / f"step{step}.pt")
    return str(folder / "step*.pt")


def test_checkpoints_are_written_when_they_are_measured(tmp_path: Path) -> None:
    data, board, path = (torch.randn(8, 3), torch.arange(8) % 2), Board(), tmp_path / "run.nc"

    def measure(steps: Any, write_to: Any) -> xr.Dataset:
        pattern = checkpoints(tmp_path, steps)
        return over_checkpoints(
            pattern, [WeightsProbe()], data, build=lambda: nn.Linear(3, 2), path=path, write_to=write_to
        )

    measure((0, 10), board.take)
    series = measure((5, 20), board.take)
    assert board.steps() == [0, 10, 5, 20]
    for step, numbers in board.rows:
        assert numbers["probe/weight_norm_total"] == series["weight_norm_total"].sel(step=step).item()
    with pytest.warns(ProbeWarning, match="of step 30, got OSError.* The attribute 'reading' counts the rows"):
        series = measure((30,), Broken(1))
    assert "rows that Broken did not take: 1" in series.attrs["reading"]
    assert "unwritten" not in series
    assert np.isfinite(series["weight_norm_total"].sel(step=30))


@pytest.mark.slow
def test_checkpoints_that_other_processes_measure_are_written(tmp_path: Path) -> None:
    data, board, pattern = (torch.randn(8, 3), torch.arange(8) % 2), Board(), checkpoints(tmp_path, range(9))
    build = functools.partial(nn.Linear, 3, 2)
    series = over_checkpoints(pattern, [WeightsProbe()], data, build=build, n_jobs=2, write_to=board.take)
    assert sorted(board.steps()) == list(range(9))
    assert {step: row["probe/weight_norm_total"] for step, row in board.rows} == dict(
        zip(series["step"].values.tolist(), series["weight_norm_total"].values.tolist(), strict=True)
    )
