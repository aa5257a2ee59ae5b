import copy
import gc
import json
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import end_of_process, in_fork
from sklearn.exceptions import NotFittedError
from torch import nn

from probe import Measured, MutualInfoProbe, PerformanceProbe, Probe, ProbeSet, Snapshot, at, every, load, save
from probe.errors import DuplicateNameError, ProbeWarning
from probe.recording import journal as journal_module, journal_of, read_netcdf

X, Y = torch.linspace(-2, 2, 36).reshape(12, 3), torch.tensor([0, 1, 1] * 4)
DATA = {"train": (X[:8], Y[:8]), "test": (X[8:], Y[8:])}


class Echo(Probe):
    """Measure the step under a name, and fail at some steps."""

    def __init__(
        self, name: str = "echo", fails: tuple[int, ...] = (), error: type[BaseException] = RuntimeError
    ) -> None:
        self.name, self.fails, self.error = name, fails, error

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        if snapshot.step in self.fails:
            raise self.error("asked to fail")
        return {self.name: Measured(float(snapshot.step), units="steps")}


class Wide(Echo):
    """Measure two values under the same name."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        return {self.name: Measured([0.0, 1.0], ("k",), {"k": "ab"})}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def trained(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
    for _ in range(n):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()


def steps(probe: Any) -> list[int]:
    return probe.series_["step"].values.tolist()  # type: ignore[no-any-return]


def n_hooks(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_post_hooks)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.nc"


# -- counting --------------------------------------------------------------------------------------------------------


def test_updates_are_counted_by_the_optimiser_from_step_0() -> None:
    model = net()
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(2))
    assert steps(probe) == [0]
    train(model, optimizer, 5)
    assert steps(probe) == [0, 2, 4]
    assert probe.series_["echo"].values.tolist() == [0, 2, 4]


def test_the_default_schedule_with_an_optimiser_is_log_spaced() -> None:
    model = net()
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer)
    train(model, optimizer, 60)
    expected = {0, *(round(10 ** (k / 12)) for k in range(24))}
    assert steps(probe) == sorted(step for step in expected if step <= 60)


def test_an_update_that_is_skipped_does_not_count() -> None:
    """A gradient scaler does not call optimizer.step when gradients overflow."""
    model = net()
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(1))
    scaler = torch.amp.GradScaler("cpu")
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * model(X).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert steps(probe) == [0, 1, 2]


def test_the_model_is_seen_after_the_update() -> None:
    model = net()
    optimizer = trained(model)
    probe = PerformanceProbe().attach(model, DATA, optimizer=optimizer, schedule=every(1))
    train(model, optimizer, 1)
    expected = nn.functional.cross_entropy(model(X[:8]), Y[:8]).item()
    assert probe.series_["train_loss"].sel(step=1).item() == pytest.approx(expected, rel=1e-6)


def test_counting_starts_at_the_given_step() -> None:
    model = net()
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(5), step=100)
    train(model, optimizer, 6)
    assert steps(probe) == [100, 105]


def test_without_an_optimiser_the_loop_gives_the_steps() -> None:
    probe = Echo().attach(net(), DATA, schedule=at([0, 7]))
    assert steps(probe) == [], "attach does not observe"
    for step in range(9):
        assert probe.due(step) is (step in (0, 7))
        probe.observe(step)
    assert steps(probe) == [0, 7]


def test_a_step_may_be_observed_again_and_replaces_itself() -> None:
    assert steps(Echo().attach(net(), DATA).observe(3).observe(3)) == [3]


def test_steps_above_two_to_the_31_are_exact(path: Path) -> None:
    probe = Echo().attach(net(), DATA, path=path).observe(2**31 + 1).detach()
    assert steps(probe) == load(path)["step"].values.tolist() == [2**31 + 1]


def test_observing_backwards_is_an_error() -> None:
    probe = Echo().attach(net(), DATA).observe(5)
    with pytest.raises(ValueError, match="a step of at least 5, got 4"):
        probe.observe(4)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Echo().attach(net(), DATA).observe(-1)


def test_giving_a_step_with_an_optimiser_is_an_error() -> None:
    model = net()
    probe = Echo().attach(model, DATA, optimizer=trained(model))
    with pytest.raises(ValueError, match="the optimizer's hook counts the steps"):
        probe.observe(3)


def test_observing_without_step_and_optimiser_is_an_error() -> None:
    with pytest.raises(ValueError, match="attach got no optimizer, got no step"):
        Echo().attach(net(), DATA).observe()


# -- scalars ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        np.float32(0.5),
        torch.tensor([0.5], requires_grad=True),
        lambda: 0.5,
        lambda: torch.tensor(0.5),
        np.array([0.5]),
    ],
)
def test_scalars_stand_beside_the_measures(value: Any, path: Path) -> None:
    probe = Echo().attach(net(), DATA, path=path).observe(0).observe(1, lr=value).detach()
    np.testing.assert_array_equal(probe.series_["lr"], [np.nan, 0.5])
    np.testing.assert_array_equal(load(path)["lr"], [np.nan, 0.5])


def test_callable_scalars_are_evaluated_on_schedule_only() -> None:
    calls: list[int] = []
    probe = Echo().attach(net(), DATA, schedule=every(3))
    for step in range(7):
        probe.observe(step, cost=lambda step=step: calls.append(step) or 1.0)
    assert calls == [0, 3, 6]


def test_with_an_optimiser_scalars_annotate_the_observation_of_this_step() -> None:
    model, calls = net(), []
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(2))
    for _ in range(4):
        train(model, optimizer, 1)
        probe.observe(loss=lambda: calls.append(1) or 7.0)
    assert len(calls) == 2
    np.testing.assert_array_equal(probe.series_["loss"], [np.nan, 7, 7])


@pytest.mark.parametrize("name", ["train_loss", "seconds", "failed", "layer", "split", "probe", "run"])
def test_a_scalar_with_a_name_that_is_taken_is_refused(name: str) -> None:
    probes = ProbeSet([MutualInfoProbe()]).attach(net(), DATA).observe(0)
    with pytest.raises(ValueError, match=rf"observe\({name}=\.\.\.\)"):
        probes.observe(1, **{name: 1.0})


@pytest.mark.parametrize("value", [None, "text", torch.ones(2), [1.0, 2.0], lambda: None])
def test_a_scalar_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected observe\(lr=\.\.\.\) with a number"):
        Echo().attach(net(), DATA).observe(0, lr=value)


def test_a_scalar_whose_name_no_file_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="a name without a slash"):
        Echo().attach(net(), DATA).observe(0, **{"train/loss": 1.0})


# -- failures --------------------------------------------------------------------------------------------------------


def test_a_failing_probe_is_flagged_and_training_goes_on() -> None:
    model = net()
    optimizer = trained(model)
    probes = ProbeSet([Echo(fails=(1,))]).attach(model, DATA, optimizer=optimizer, schedule=every(1))
    with pytest.warns(ProbeWarning, match=r"an error of Echo at step 1, which is flagged.*RuntimeError: asked to fail"):
        train(model, optimizer, 2)
    failed = probes.series_["failed"]
    assert failed.sel(probe="Echo").values.tolist() == [0, 1, 0]
    assert failed.sel(probe="PerformanceProbe").values.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(probes.series_["echo"], [0, np.nan, 2])
    assert probes.series_["train_loss"].notnull().all()


def test_a_failing_probe_stops_the_training_if_asked_to() -> None:
    probe = Echo(fails=(1,)).attach(net(), DATA, on_error="raise").observe(0)
    with pytest.raises(RuntimeError, match="asked to fail"):
        probe.observe(1)
    assert steps(probe) == [0]


def test_a_keyboard_interrupt_is_raised_and_the_record_stays(path: Path) -> None:
    probe = Echo(fails=(1,), error=KeyboardInterrupt).attach(net(), DATA, path=path).observe(0)
    with pytest.raises(KeyboardInterrupt):
        probe.observe(1)
    assert load(path)["step"].values.tolist() == [0]
    assert steps(probe.observe(2)) == [0, 2]


def test_a_measure_that_changes_its_shape_is_flagged() -> None:
    class Growing(Probe):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            n = snapshot.step + 1
            return {"v": Measured([0.0] * n, ("k",), {"k": range(n)})}

    probe = Growing().attach(net(), DATA).observe(0)
    with pytest.warns(ProbeWarning, match=r"Expected v with the labels of .*\{'k': \[0\]\}, got \{'k': \[0, 1\]\}"):
        probe.observe(1)
    assert probe.series_["failed"].sel(probe="Growing").values.tolist() == [0, 1]


def test_activations_that_are_not_finite_are_flagged() -> None:
    model = net()
    probe = MutualInfoProbe().attach(model, DATA, on_error="raise").observe(0)
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    flags = probe.observe(1).series_["information_nonfinite"].sel(layer="1")
    assert flags.values.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert np.isnan(probe.series_["information_x"].isel(step=1)).all()


def test_a_layer_that_never_fires_is_named_at_detach(path: Path) -> None:
    model = net()
    model[1].add_module("idle", nn.Linear(2, 2))
    probe = MutualInfoProbe(layers=["0", "1.idle"]).attach(model, DATA, path=path).observe(0)
    with pytest.warns(ProbeWarning, match=r"to fire for all inputs, got no or partial output of 1\.idle"):
        probe.detach()
    assert np.isnan(load(path)["information_x"].sel(layer="1.idle")).all()


def test_the_file_is_written_even_if_a_warning_at_detach_is_an_error(path: Path) -> None:
    model = net()
    model[1].add_module("idle", nn.Linear(2, 2))
    probe = MutualInfoProbe(layers=["0", "1.idle"]).attach(model, DATA, path=path)
    for step in range(6):
        probe.observe(step)
    with pytest.raises(ProbeWarning, match="to fire for all inputs") as caught:  # warnings are errors in these tests
        probe.detach()
    assert caught.tb is not None, "the traceback still holds the attachment, so nothing else has closed the file"
    assert read_netcdf(path).sizes["step"] == 6
    assert steps(probe) == list(range(6))


# -- attaching -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"on_error": "ignore"}, ValueError, "Expected on_error to be 'warn' or 'raise'"),
        ({"optimizer": trained(net())}, ValueError, "hold parameters of this model, got none"),
        ({"optimizer": trained(net()), "mode": "resume"}, ValueError, "Expected step= with mode='resume'"),
        ({"mode": "resume"}, FileNotFoundError, "Expected the journal .*, got none"),
    ],
)
def test_an_attachment_that_cannot_be_is_refused_and_leaves_no_file(
    kwargs: dict[str, Any], error: type[Exception], message: str, path: Path
) -> None:
    with pytest.raises(error, match=message):
        Echo().attach(net(), DATA, path=path, **kwargs)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (MutualInfoProbe(layers="nowhere_at_all"), "selects no layer"),
        (MutualInfoProbe(reduce="max"), "Expected reduce= to be None, 'last'"),
        (MutualInfoProbe(reduce=lambda z: z.view(7)), "Expected the probes to measure two inputs .* got RuntimeError"),
    ],
)
def test_a_setting_that_cannot_work_is_an_error_at_attach(probe: Probe, message: str, path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        probe.attach(net(), DATA, path=path)
    assert list(path.parent.iterdir()) == []


def test_an_optimizer_of_a_part_of_the_model_is_accepted() -> None:
    model = net()
    assert steps(Echo().attach(model, DATA, optimizer=torch.optim.SGD(model[2].parameters(), lr=0.1))) == [0]


def test_a_compiled_model_trains_and_is_observed() -> None:
    torch._dynamo.reset()
    model = net()
    compiled = torch.compile(model, backend="eager")
    optimizer = trained(model)
    probe = PerformanceProbe().attach(compiled, DATA, optimizer=optimizer, schedule=every(1), on_error="raise")
    train(compiled, optimizer, 3)  # type: ignore[arg-type]
    assert steps(probe) == [0, 1, 2, 3]
    assert (probe.series_["train_loss"].diff("step") < 0).all()


def test_detach_removes_the_hook_and_may_be_called_twice() -> None:
    model = net()
    optimizer = trained(model)
    before = n_hooks(optimizer)
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(1))
    assert n_hooks(optimizer) > before
    train(model, optimizer, 1)
    probe.detach().detach()
    assert n_hooks(optimizer) == before
    train(model, optimizer, 1)
    assert steps(probe) == [0, 1]
    for verb in (lambda: probe.observe(2), lambda: probe.due(2)):
        with pytest.raises(NotFittedError, match="call attach"):
            verb()


def test_an_attachment_that_fails_leaves_no_hook() -> None:
    model = net()
    optimizer = trained(model)
    with pytest.raises(RuntimeError, match="asked to fail") as caught:
        Echo(fails=(0,)).attach(model, DATA, optimizer=optimizer, on_error="raise")
    assert caught.tb is not None, "the traceback still holds the attachment"
    assert n_hooks(optimizer) == 0


def test_a_second_attach_replaces_the_first() -> None:
    model, other = net(), net()
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer).attach(other, DATA).observe(5)
    assert n_hooks(optimizer) == 0
    assert steps(probe) == [5]


def test_the_hook_of_a_deleted_probe_warns_once_and_goes_with_the_next_attachment() -> None:
    model = net()
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer)
    del probe
    gc.collect()
    with pytest.warns(ProbeWarning, match="keep a reference"):
        train(model, optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, 1)
    Echo().attach(model, DATA, optimizer=optimizer).detach()
    assert n_hooks(optimizer) == 0


def test_a_first_observation_that_raises_leaves_no_files(tmp_path: Path) -> None:
    class Raising(Probe):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            raise RuntimeError("no")

    model = net()
    with pytest.raises(RuntimeError, match="no"):
        Raising().attach(model, DATA, optimizer=trained(model), path=tmp_path / "run.nc", on_error="raise")
    assert not list(tmp_path.iterdir())


def test_default_layers_that_make_no_row_for_each_input_are_left_out() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.body = nn.Embedding(4, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x[:, None] + self.table(torch.arange(4))[None])[:, -1]

    class Both(Probe):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            layers = snapshot.select(None)
            return {"n": Measured([1.0] * len(layers), ("layer",), {"layer": layers})}

    data = (torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1]))
    assert Both().fit(Positions(), data).series_["layer"].values.tolist() == ["body"]


def test_an_attached_probe_does_not_keep_the_model_after_it_is_gone() -> None:
    import weakref

    model = net()
    optimizer = trained(model)
    Echo().attach(model, DATA, optimizer=optimizer)
    seen = weakref.ref(model)
    del model, optimizer
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("carry", [copy.deepcopy, lambda probe: pickle.loads(pickle.dumps(probe))])
def test_copies_carry_the_series_and_no_attachment(carry: Callable[[Probe], Probe]) -> None:
    model = net()
    probe = carry(Echo().attach(model, DATA, optimizer=trained(model)))
    assert steps(probe) == [0]
    with pytest.raises(NotFittedError):
        probe.due(0)


def test_detach_without_an_observation_gives_an_empty_series(path: Path) -> None:
    with pytest.warns(ProbeWarning, match="Expected an observation before detach"):
        probe = Echo().attach(net(), DATA, path=path).detach()
    assert steps(probe) == load(path)["step"].values.tolist() == []


def test_seconds_are_measured_for_each_probe() -> None:
    class Slow(Echo):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            import time

            time.sleep(0.05)
            return super().measure(snapshot)

    seconds = ProbeSet([Slow()]).fit(net(), DATA).series_["seconds"].isel(step=0)
    assert seconds.sel(probe="Slow") >= 0.05
    assert seconds.sum() < 5


def test_an_estimate_names_each_probe_and_counts_the_observations() -> None:
    probes = ProbeSet([MutualInfoProbe()])
    estimate = probes.estimate(net(), DATA, schedule=every(10), steps=100)
    assert set(estimate.seconds) == {"shared pass", "MutualInfoProbe", "PerformanceProbe"}
    assert all(value >= 0 for value in estimate.seconds.values())
    assert estimate.observations == 11
    assert "11 observations" in str(estimate)
    with pytest.raises(NotFittedError):
        probes.series_  # noqa: B018


# -- sets ------------------------------------------------------------------------------------------------------------


def test_a_set_always_holds_the_performance() -> None:
    assert {"train_loss", "test_accuracy"} <= set(ProbeSet().fit(net(), DATA).series_.data_vars)
    own = ProbeSet([PerformanceProbe()]).fit(net(), DATA).series_
    assert own["probe"].values.tolist() == ["shared pass", "PerformanceProbe"]


def test_plain_probes_share_one_pass_over_each_split() -> None:
    model, rows = net(), []
    probes = ProbeSet([MutualInfoProbe(), ("wide", MutualInfoProbe(layers="0", reduce="flatten"))])
    probes.attach(model, DATA, on_error="raise")
    handle = model.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    probes.observe(0)
    handle.remove()
    assert rows == [8, 4]


def test_names_are_prefixes() -> None:
    series = ProbeSet([Echo(), ("second", Echo("other"))]).fit(net(), DATA).series_
    assert {"echo", "second_other"} <= set(series.data_vars)


@pytest.mark.parametrize(
    ("probes", "error", "message"),
    [
        ([Echo(), Echo()], ValueError, r"got two called 'Echo'.*\('second', Echo"),
        ([("a", Echo()), ("a", Wide())], ValueError, "got two called 'a'"),
        ([nn.Linear(1, 1)], TypeError, "Expected probes and"),
        ([Echo], TypeError, "Expected probes and"),
    ],
)
def test_sets_that_cannot_be_are_refused(probes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ProbeSet(probes).attach(net(), DATA)


@pytest.mark.parametrize("wide", [Wide(), type("Second", (Echo,), {})()], ids=["other shape", "same shape"])
def test_two_probes_that_make_one_variable_are_an_error_that_shows_the_fix(wide: Probe) -> None:
    with pytest.raises(DuplicateNameError, match=r"'echo', got Echo and \w+;.*makes 'second_echo'"):
        ProbeSet([Echo(), wide]).attach(net(), DATA).observe(0)


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_path_that_exists_names_the_modes(path: Path) -> None:
    Echo().attach(net(), DATA, path=path).observe(0).detach()
    with pytest.raises(FileExistsError, match=r"mode='resume'.*mode='overwrite'"):
        Echo().attach(net(), DATA, path=path)


def test_overwrite_starts_anew(path: Path) -> None:
    Echo().attach(net(), DATA, path=path).observe(0).detach()
    Echo().attach(net(), DATA, path=path, mode="overwrite").observe(4).detach()
    assert load(path)["step"].values.tolist() == [4]


def test_resume_continues_at_the_step_of_the_optimizer(path: Path) -> None:
    model = net()
    optimizer = trained(model)
    probe = ProbeSet([Echo()]).attach(model, DATA, optimizer=optimizer, schedule=every(2), path=path)
    train(model, optimizer, 7)
    probe.detach()
    model = net()  # as from the checkpoint of step 4
    optimizer = trained(model)
    again = ProbeSet([Echo()]).attach(
        model, DATA, optimizer=optimizer, schedule=every(2), path=path, mode="resume", step=4
    )
    train(model, optimizer, 5)
    assert steps(again.detach()) == load(path)["step"].values.tolist() == [0, 2, 4, 6, 8]


def test_a_resumed_step_replaces_the_old_one(path: Path) -> None:
    model = net()
    Echo().attach(model, DATA, path=path).observe(0, mark=1.0).observe(3, mark=1.0).detach()
    Echo().attach(model, DATA, path=path, mode="resume").observe(3, mark=2.0).observe(5, mark=2.0).detach()
    assert load(path)["mark"].values.tolist() == [1, 2, 2]


@pytest.mark.parametrize(
    ("probe", "data", "message"),
    [
        (Echo(fails=(99,)), DATA, "probes"),
        (Echo(), {**DATA, "test": (X[8:11], Y[8:11])}, "data"),
    ],
)
def test_resume_refuses_another_configuration(probe: Probe, data: Any, message: str, path: Path) -> None:
    Echo().attach(net(), DATA, path=path).observe(0).detach()
    with pytest.raises(ValueError, match=rf"another configuration \({message}[^:]*: recorded"):
        probe.attach(net(), data, path=path, mode="resume")


def test_resume_refuses_another_model(path: Path) -> None:
    Echo().attach(net(), DATA, path=path).observe(0).detach()
    with pytest.raises(ValueError, match=r"another configuration \(layers: recorded"):
        Echo().attach(nn.Linear(3, 2), DATA, path=path, mode="resume")


def test_parameters_that_are_not_finite_can_be_recorded_and_resumed(path: Path) -> None:
    probe = Echo(fails=(float("inf"), float("nan")))  # type: ignore[arg-type]
    probe.attach(net(), DATA, path=path).observe(0).detach()
    probe.attach(net(), DATA, path=path, mode="resume").observe(1).detach()
    assert load(path)["step"].values.tolist() == [0, 1]


def test_a_full_disk_does_not_stop_the_training(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    probe = Echo().attach(net(), DATA, path=path, on_error="raise").observe(0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.warns(ProbeWarning, match="Expected to write step 1"):
            probe.observe(1)
    probe.observe(2)
    assert load(path)["step"].values.tolist() == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this test forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kill_9_loses_no_finished_observation(path: Path) -> None:
    output, finished_steps = os.pipe()
    if not (pid := os.fork()):
        try:
            os.close(output)
            probe = PerformanceProbe().attach(net(), DATA, path=path)
            for step in range(1000):
                probe.observe(step)
                os.write(finished_steps, b".")
        finally:
            os._exit(1)
    os.close(finished_steps)
    with open(output, "rb") as pipe:
        pipe.read(30)
        os.kill(pid, signal.SIGKILL)
        finished = 30 + len(pipe.read())
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a last line may be cut off
        found = load(path)
    assert found["step"].values.tolist()[:finished] == list(range(finished))
    assert found["train_loss"][:finished].notnull().all()
    assert journal_of(path).exists()


def test_the_end_of_the_process_writes_the_file_but_the_end_of_a_fork_does_not(path: Path) -> None:
    def process() -> None:
        probe = PerformanceProbe().attach(net(), DATA, path=path)
        for step in range(7):
            probe.observe(step)
        before = {file.name: file.stat().st_ino for file in path.parent.iterdir()}
        fork = os.fork()
        if fork == 0:
            end_of_process()
            os._exit(0)
        assert os.waitpid(fork, 0)[1] == 0
        assert {file.name: file.stat().st_ino for file in path.parent.iterdir()} == before
        kept.append(probe)  # it exists until the end

    kept: list[Any] = []
    assert in_fork(process) == 0
    assert read_netcdf(path)["step"].values.tolist() == list(range(7))


# -- found by review -----------------------------------------------------------------------------------------------


class Unrolled(nn.Module):
    """A model that calls its cell once for each position of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(2, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.head(h)


def test_a_layer_called_more_often_on_one_split_is_read_at_each_call() -> None:
    torch.manual_seed(0)
    model, x, y = Unrolled(), torch.randn(20, 12, 2), torch.arange(20) % 2
    data = {"train": (x[:, :4], y), "test": (x, y)}
    alone = MutualInfoProbe(layers="cell").fit(model, data).series_["total_variance"].squeeze("step")
    with torch.no_grad():
        h = torch.zeros(20, 4)
        for t in range(12):
            h = model.cell(x[:, t], h)
            if t == 3:
                early = h.var(0, correction=0).sum().item()
    assert alone.sel(layer="cell.4", split="test").item() == pytest.approx(early, rel=1e-5)
    assert alone.sel(split="test", layer="cell.12").item() == pytest.approx(
        h.var(0, correction=0).sum().item(), rel=1e-5
    )
    assert np.isnan(alone.sel(split="train", layer="cell.12"))


class Sometimes(nn.Module):
    """A model that runs ``rare`` only if the first input of a batch is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.often, self.rare = nn.Linear(2, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.often(x)
        return self.rare(z) if x[0, 0] > 0 else z


def test_a_layer_that_fires_for_some_inputs_only_is_not_measured_and_named() -> None:
    x = torch.randn(8, 2)
    x[0, 0], x[4, 0] = 1.0, -1.0
    probe = MutualInfoProbe(layers=["often", "rare"])
    probe.attach(Sometimes(), (x, torch.arange(8) % 2), batch_size=4).observe(0)
    with pytest.warns(ProbeWarning, match="got no or partial output of rare"):
        probe.detach()
    assert np.isnan(probe.series_["information_x"].values.squeeze()).tolist() == [False, True]
    assert probe.series_["information_nonfinite"].values.squeeze().tolist() == [0, -1]


def test_resuming_a_training_drops_what_came_after_the_checkpoint(path: Path) -> None:
    model = net()
    optimizer = trained(model)
    first = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(2), path=path)
    train(model, optimizer, 10)
    first.detach()
    assert load(path)["step"].values.tolist() == [0, 2, 4, 6, 8, 10]
    again = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(3), path=path, mode="resume", step=4)
    train(model, optimizer, 3)
    assert load(path)["step"].values.tolist() == [0, 2, 4, 6]
    assert len(json.loads(load(path).attrs["provenance"])["resumed"]) == 1
    again.detach()
    assert read_netcdf(path)["step"].values.tolist() == [0, 2, 4, 6]


def test_resume_refuses_other_data_of_the_same_size(path: Path) -> None:
    Echo().attach(net(), DATA, path=path).observe(0).detach()
    other = {split: (x + 1, y) for split, (x, y) in DATA.items()}
    with pytest.raises(ValueError, match=r"another configuration .*data\.train"):
        Echo().attach(net(), other, path=path, mode="resume")


def test_the_first_observation_replaces_the_old_files(path: Path) -> None:
    class Raising(Probe):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            raise RuntimeError("no")

    Echo().attach(net(), DATA, path=path).observe(0).observe(7).detach()
    with pytest.raises(RuntimeError, match="no"):
        Raising().attach(net(), DATA, path=path, mode="overwrite").observe(0)
    assert load(path)["step"].values.tolist() == [0, 7]
    Echo().attach(net(), DATA, path=path, mode="overwrite").observe(3).detach()
    assert load(path)["step"].values.tolist() == [3]
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.journal"]


def test_the_first_observation_raises_and_a_later_one_is_flagged() -> None:
    with pytest.raises(RuntimeError):
        Echo(fails=(0,)).attach(net(), DATA).observe(0)
    probe = Echo(fails=(1,)).attach(net(), DATA).observe(0)
    with pytest.warns(ProbeWarning, match="an error of Echo at step 1, which is flagged"):
        probe.observe(1)


def test_the_last_state_is_observed_at_detach_on_the_default_schedule() -> None:
    for schedule, last in ((None, 13), (every(5), 10)):
        model = net()
        optimizer = trained(model)
        probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=schedule)
        train(model, optimizer, 13)
        assert steps(probe.detach())[-1] == last


def test_scalars_of_half_precision_are_numbers() -> None:
    probe = Echo().attach(net(), DATA).observe(0, loss=torch.tensor(0.5, dtype=torch.bfloat16))
    assert probe.series_["loss"].item() == 0.5


def test_saving_over_a_recording_is_refused(path: Path) -> None:
    probe = Echo().attach(net(), DATA, path=path).observe(0).detach()
    with pytest.raises(FileExistsError, match="Expected a path without a journal"):
        save(probe.series_, path)


@pytest.mark.parametrize(("schedule", "message"), [(100, r"every\(100\)"), ([1, 2], r"at\(\[")])
def test_a_schedule_that_is_no_function_is_refused_with_an_example(schedule: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Echo().attach(net(), DATA, schedule=schedule)


def test_a_single_probe_in_place_of_a_list_is_refused_with_an_example() -> None:
    with pytest.raises(TypeError, match=r"ProbeSet\(\[Echo\(\)\]\)"):
        ProbeSet(Echo()).attach(net(), DATA)  # type: ignore[arg-type]


def test_functional_activations_are_the_default_layers_as_modules_are() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x)))

    functional = Functional()
    modules = nn.Sequential(functional.a, nn.ReLU(), functional.b)
    one, other = (MutualInfoProbe().fit(model, DATA).series_ for model in (functional, modules))
    assert one["layer"].values.tolist() == [":relu->"]
    np.testing.assert_array_equal(one["information_x"], other["information_x"])


def test_a_full_disk_at_detach_is_a_warning_and_nothing_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Echo().attach(net(), DATA, path=path).observe(0).observe(1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "write_netcdf", full)
        with pytest.warns(ProbeWarning, match=r"Expected to write .*probe.save"):
            probe.detach()
    assert steps(probe) == [0, 1]
    assert load(path)["step"].values.tolist() == [0, 1]


def test_a_mode_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected a path for mode='resume'"):
        Echo().attach(net(), DATA, mode="resume")


def test_weights_loaded_after_the_last_update_are_not_observed() -> None:
    model = net()
    optimizer = trained(model)
    probe = Echo().attach(model, DATA, optimizer=optimizer)
    best = copy.deepcopy(model.state_dict())
    train(model, optimizer, 13)
    model.load_state_dict(best)
    assert steps(probe.detach())[-1] == 12


def test_a_relative_path_is_that_of_the_folder_at_attach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    probe = Echo().attach(net(), DATA, path="run.nc").observe(0)
    monkeypatch.chdir(elsewhere)
    probe.observe(1).detach()
    assert load(tmp_path / "run.nc")["step"].values.tolist() == [0, 1]
    assert not list(elsewhere.iterdir())


# -- where a warning points --------------------------------------------------------------------------------------------


def here() -> int:
    """Return the line of the caller."""
    return sys._getframe(1).f_lineno


def test_a_warning_points_at_the_line_of_the_user() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = net()
        model.register_buffer("count", torch.zeros(()))
        model.register_forward_hook(lambda module, *_: module.count.add_(1) and None)
        lines = [here() + 1]
        probe = Echo(fails=(1,)).attach(model, DATA).observe(0)
        lines.append(here() + 1)
        probe.observe(1)
        optimizer = trained(model)
        probe.attach(model, DATA, optimizer=optimizer, schedule=every(1))
        optimizer.zero_grad()
        lines.append(here() + 1)
        optimizer.step()
        lines.append(here() + 1)
        Echo().attach(net(), DATA).detach()
    found = [(warning.filename, warning.lineno) for warning in caught]
    assert {Path(name).name for name, _ in found} == {Path(__file__).name}
    assert [line for _, line in found if line in lines] == lines


def test_a_second_attachment_in_a_notebook_goes_on_after_the_first_is_collected() -> None:
    """The hook of the first one must not change the hooks while PyTorch iterates over them."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other: list[int] = []
    optimizer.register_step_post_hook(lambda *_: other.append(1))
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(1))
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(1))
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the second one observes, so there is nothing to warn of
        for _ in range(3):
            optimizer.step()
    assert steps(probe) == [0, 1, 2, 3]
    assert len(other) == 3
    probe = Echo().attach(model, DATA, optimizer=optimizer, schedule=every(1))
    gc.collect()
    probe.detach()
    Echo().attach(model, DATA, optimizer=optimizer).detach()
    assert len(optimizer._optimizer_step_post_hooks) == 1, "only the hook of the user is left"
