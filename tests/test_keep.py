"""Tests of kept values after a resume, a crash or a damaged file, which must never give a wrong number."""

import json
import os
import signal
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from probe import Measured, Probe, ProbeSet, Snapshot, check_probe, every, load
from probe.errors import DuplicateNameError, ProbeWarning
from probe.recording import Journal, journal_of
from probe.recording.state import GENERATIONS, MAX_KEPT_BYTES, State, checksum, state_of
from probe.testing import check_same_twice

X, Y = torch.linspace(-2, 2, 36).reshape(12, 3), torch.tensor([0, 1, 1] * 4)
DATA = (X, Y)


class Moved(Probe):
    """Measure the distance of the weights from those of the previous observation and of the first one."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        weights = nn.utils.parameters_to_vector(snapshot.model.parameters())
        first, previous = snapshot.kept("first"), snapshot.kept("weights")
        found = {
            "moved": Measured(np.nan if previous is None else float((weights - torch.tensor(previous)).norm())),
            "travelled": Measured(np.nan if first is None else float((weights - torch.tensor(first)).norm())),
            "weights": Measured(weights, keep=True),
        }
        return found if first is not None else {**found, "first": Measured(weights, keep=True)}


class Keeps(Probe):
    """A probe that keeps one value."""

    def __init__(self, value: Any = 1.0, name: str = "value") -> None:
        self.value, self.name = value, name

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        return {"number": Measured(0.0), self.name: Measured(self.value, keep=True)}


class Counts(Probe):
    """Measure the number of earlier observations, which is no property of the model."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        before = snapshot.kept("n")
        n = 0.0 if before is None else before.item() + 1
        return {"number": Measured(n), "n": Measured(n, keep=True)}


class At(nn.Linear):
    """A layer whose weights all equal a number that a test sets."""

    def __init__(self, at: float = 0.0) -> None:
        super().__init__(3, 2, bias=False)
        self.move(at)

    def move(self, at: float) -> "At":
        with torch.no_grad():
            self.weight.fill_(at)
        return self


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.nc"


def observed(path: Path | None, steps: Any, mode: str | None = None, probe: Probe | None = None) -> Any:
    """Observe at these steps a model whose weights are the step."""
    model = At()
    probes = (probe or Moved()).attach(model, DATA, path=path, mode=mode, on_error="raise")
    for step in steps:
        model.move(step)
        probes.observe(step)
    return probes


def moved(series: Any) -> list[float]:
    """Return the steps since the previous observation by the weights; NaN where they were not known."""
    return (series["moved"].values / 6**0.5).round(3).tolist()  # type: ignore[no-any-return]


def resumed(path: Path, step: int, last: int) -> Any:
    """Resume from the checkpoint of a step with an optimizer that adds 1 to the weights at each update."""
    model = At(step)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    probes = Moved().attach(
        model, DATA, optimizer=optimizer, schedule=every(1), path=path, mode="resume", step=step, on_error="raise"
    )
    for _ in range(step, last):
        model.weight.grad = -torch.ones_like(model.weight)
        optimizer.step()
    return probes.detach().series_


# -- within one process ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [False, True])
def test_a_kept_value_is_that_of_the_observation_before(recorded: bool, path: Path) -> None:
    series = observed(path if recorded else None, [0, 1, 3, 7]).detach().series_
    assert moved(series) == pytest.approx([np.nan, 1, 2, 4], nan_ok=True)
    assert (series["travelled"].values[1:] / 6**0.5).round(3).tolist() == [1, 3, 7]
    assert not {"weights", "first"} & set(series.data_vars), "kept values are no columns"
    assert sorted(file.name for file in path.parent.iterdir()) == (
        ["run.nc", "run.nc.journal", "run.nc.state"] if recorded else []
    )


def test_a_repeated_step_sees_what_came_before_it() -> None:
    assert moved(observed(None, [0, 4, 4, 5]).series_) == pytest.approx([np.nan, 4, 1], nan_ok=True)


def test_a_probe_that_keeps_values_can_keep_the_contract() -> None:
    check_probe(Moved())
    with pytest.raises(AssertionError, match="number"):
        check_same_twice(Counts())


def test_a_failed_observation_keeps_nothing_and_the_next_goes_on_from_the_one_before() -> None:
    class Fails(Moved):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            found = super().measure(snapshot)
            if snapshot.step == 1:
                raise RuntimeError("asked to fail")
            return found

    model = At()
    probe = Fails().attach(model, DATA).observe(0)
    with pytest.warns(ProbeWarning, match="asked to fail"):
        probe.observe(1)
    model.move(5)
    assert moved(probe.observe(5).series_) == pytest.approx([np.nan, np.nan, 5], nan_ok=True)


def test_a_probe_may_write_to_kept_and_returned_values() -> None:
    class Writes(Probe):
        given = np.zeros(3)

        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            old = snapshot.kept("value")
            if old is not None:
                assert old.tolist() == [snapshot.step - 1] * 3
                old += 100
                assert snapshot.kept("value").tolist() == [snapshot.step - 1] * 3  # type: ignore[union-attr]
            self.given[:] = snapshot.step
            return {"value": Measured(self.given, keep=True)}

    observed(None, range(5), probe=Writes())


VALUES = [
    np.arange(6, dtype=np.int64).reshape(2, 3),
    np.float32(2.5),
    np.empty((0, 4)),
    np.array([True, False]),
    np.array([1 + 2j]),
    torch.arange(4, dtype=torch.float16),
    torch.tensor([0.5, 3.0], dtype=torch.bfloat16),
    torch.ones(2, 2, requires_grad=True),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    [1.0, np.nan, np.inf],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(getattr(value, "dtype", type(value).__name__)))
def test_all_numeric_types_are_restored_exactly(value: Any, path: Path) -> None:
    expected = value.detach().float().numpy() if isinstance(value, torch.Tensor) else np.array(value)

    class Checks(Keeps):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            found = snapshot.kept("value")
            assert (found is None) == (snapshot.step == 0)
            if found is not None:
                np.testing.assert_array_equal(found, expected)
                assert isinstance(value, torch.Tensor) or found.dtype == expected.dtype
            return {"value": Measured(value, keep=True)}

    observed(path, [0, 1], probe=Checks()).detach()
    observed(path, [2], "resume", Checks()).detach()


def test_names_in_a_set_are_those_of_the_probe() -> None:
    """Kept values have the prefix of the probe, so two probes of one class do not share them."""
    model = At()
    probes = ProbeSet([Moved(), ("second", Moved())]).attach(model, DATA, on_error="raise").observe(0)
    model.move(2)
    series = probes.observe(1).series_
    assert moved(series) == pytest.approx([np.nan, 2], nan_ok=True)
    np.testing.assert_array_equal(series["moved"], series["second_moved"])
    twice = ProbeSet(
        [Keeps(), type("Other", (Keeps,), {"measure": lambda self, s: {"value": Measured(1, keep=True)}})()]
    )
    with pytest.raises(DuplicateNameError, match="'value'"):
        twice.attach(model, DATA).observe(0)


# -- limits and bad values -------------------------------------------------------------------------------------------


def test_the_newest_generations_only_are_held_of_large_values(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.recording.state.MAX_OLD_BYTES", 0)
    probes = observed(path, range(3))
    size = state_of(path).stat().st_size
    model = At()
    for step in range(3, 40):
        model.move(step)
        probes.observe(step)
    assert state_of(path).stat().st_size <= size + 20, "digits of the steps"
    with np.load(state_of(path)) as file:
        entries = json.loads(file["index"].tobytes())
    assert [step for name, step in entries if name == "weights"] == list(range(40 - GENERATIONS, 40))
    assert [step for name, step in entries if name == "first"] == [0]


def test_too_many_bytes_are_an_error_that_names_the_limit(path: Path) -> None:
    n = MAX_KEPT_BYTES // 8
    with pytest.raises(
        ValueError, match=rf"Expected Keeps to keep at most {MAX_KEPT_BYTES:,} bytes .*, got 67,108,872"
    ):
        observed(path, [0], probe=Keeps(np.zeros(n + 1)))
    assert not list(path.parent.iterdir())
    observed(None, [0], probe=Keeps(np.zeros(n)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"values": [1.0], "dims": ("k",), "coords": {"k": "a"}}, ValueError, "without dims, coords and flag"),
        ({"values": 1, "flag": True}, ValueError, "without dims, coords and flag"),
        ({"values": "text"}, TypeError, "Expected numbers to keep as 'v'"),
        ({"values": [None]}, TypeError, "Expected numbers to keep as 'v', got object"),
    ],
)
def test_what_cannot_be_kept_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Measured(**options, keep=True).kept_array("v")


# -- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_a_resumed_recording_goes_on_with_the_value_before(path: Path) -> None:
    observed(path, [0, 2, 5]).detach()
    series = observed(path, [9, 10], "resume").detach().series_
    assert moved(series) == pytest.approx([np.nan, 2, 3, 4, 1], nan_ok=True)
    assert series["travelled"].values[-1] == pytest.approx(10 * 6**0.5)
    assert "weights" not in load(path)


class Earlier(Moved):
    """Measure the last of its own earlier steps."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        last = max(snapshot.history("at"), default=np.nan)
        return {"at": Measured(float(snapshot.step)), "last": Measured(float(last))}


def test_the_history_has_earlier_steps_only_when_a_checkpoint_is_observed_again(path: Path) -> None:
    observed(path, [0, 2, 5], probe=Earlier()).detach()
    series = observed(path, [5, 9, 9], "resume", Earlier()).detach().series_
    assert series["last"].values == pytest.approx([np.nan, 0, 2, 5], nan_ok=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("checkpoint", [6, 5, 4])
def test_a_checkpoint_among_the_newest_generations_goes_on_exactly(checkpoint: int, path: Path) -> None:
    """The step of the checkpoint is observed again, which needs the value before it."""
    observed(path, range(7)).detach()
    series = resumed(path, checkpoint + (checkpoint == 4), 9)
    assert series["step"].values.tolist() == list(range(10))
    assert moved(series) == pytest.approx([np.nan, *[1] * 9], nan_ok=True)
    assert (series["travelled"].values[1:] / 6**0.5).round(3).tolist() == list(range(1, 10))


@pytest.mark.parametrize("checkpoint", [1, 2, 3, 4])
def test_a_checkpoint_before_the_newest_generations_starts_anew_and_warns(
    checkpoint: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probe.recording.state.MAX_OLD_BYTES", 0)
    observed(path, range(7)).detach()
    with pytest.warns(ProbeWarning, match=rf"'weights' that was kept at step {checkpoint - 1} .*'weights' starts anew"):
        series = resumed(path, checkpoint, 7)
    expected = [np.nan, *[1] * 7]
    expected[checkpoint] = np.nan
    assert moved(series) == pytest.approx(expected, nan_ok=True)
    assert (series["travelled"].values[1:] / 6**0.5).round(3).tolist() == list(range(1, 8)), "kept once, and held"


@pytest.mark.parametrize("checkpoint", [1, 4, 40])
def test_small_values_outlive_a_long_gap_between_checkpoints(checkpoint: int, path: Path) -> None:
    observed(path, range(60)).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series = resumed(path, checkpoint, 60)
    assert moved(series) == pytest.approx([np.nan, *[1] * 60], nan_ok=True)


def test_the_number_of_old_generations_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.recording.state.MAX_GENERATIONS", 16)
    observed(path, range(30)).detach()
    with np.load(state_of(path)) as file:
        entries = json.loads(file["index"].tobytes())
    assert sum(name == "weights" for name, _ in entries) == 16


def test_a_file_in_the_place_of_the_state_is_not_overwritten(path: Path) -> None:
    state_of(path).write_text("mine")
    with pytest.raises(FileExistsError, match=r"Expected a path without a file, got .*state, which exists already"):
        observed(path, [0])
    assert state_of(path).read_text() == "mine"


def test_a_checkpoint_before_anything_was_kept_has_nothing_to_lose(path: Path) -> None:
    observed(path, range(3, 7)).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series = resumed(path, 2, 4)
    assert moved(series) == pytest.approx([np.nan, 1, 1], nan_ok=True)


def test_values_after_the_checkpoint_take_no_place_of_later_ones(path: Path) -> None:
    """A second crash goes back to the same checkpoint, after observations at other steps."""
    observed(path, [0, 1, 2, 10]).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert moved(resumed(path, 2, 3)) == pytest.approx([np.nan, 1, 1, 1], nan_ok=True)
        assert moved(resumed(path, 2, 4)) == pytest.approx([np.nan, 1, 1, 1, 1], nan_ok=True)


def damage(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "half":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "text":
        file.write_text("not an archive")
    else:
        state = State(file)
        state.put(int(how), {"weights": np.full(6, 77.0, np.float32)})
        state.write()


@pytest.mark.parametrize("how", ["missing", "empty", "half", "text", "6", "5"])
def test_a_state_that_is_damaged_or_of_another_recording_is_a_warning_and_no_wrong_number(how: str, path: Path) -> None:
    observed(path, range(7)).detach()
    damage(state_of(path), how)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        series = observed(path, [7, 8], "resume").detach().series_
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert all(issubclass(warning.category, ProbeWarning) for warning in caught)
    assert "'first' starts anew" in messages[0]
    assert "'weights' starts anew" in messages[1]
    assert moved(series) == pytest.approx([np.nan, *[1] * 6, np.nan, 1], nan_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert moved(observed(path, [10], "resume").detach().series_)[-1] == 2, "it goes on from here"


def test_every_flipped_bit_is_detected_or_harmless(path: Path) -> None:
    observed(path, range(4)).detach()
    whole = state_of(path).read_bytes()
    truth = np.full(6, 3.0, np.float32)
    wanted = checksum(truth)
    lost = 0
    for place in range(0, len(whole), 7):
        state_of(path).write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        state = State(state_of(path))
        state.read(last=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbeWarning)
            found = state.get("weights", 3, wanted)
        lost += found is None
        assert found is None or np.array_equal(found, truth)
    assert lost > 10, "the damage is there"


def test_overwriting_removes_it_with_the_first_observation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.attach.observation.MAX_KEPT_BYTES", 1000)
    observed(path, range(3)).detach()
    old = state_of(path).read_bytes()
    with pytest.raises(ValueError, match="to keep at most"):
        observed(path, [0], "overwrite", Keeps(np.zeros(1000)))
    assert state_of(path).read_bytes() == old
    observed(
        path, [0], "overwrite", type("Plain", (Probe,), {"measure": lambda self, s: {"n": Measured(0.0)}})()
    ).detach()
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.nc", "run.nc.journal"]


# -- the file system and the end of the process ----------------------------------------------------------------------


def test_a_full_disk_is_a_warning_and_the_value_is_written_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = observed(path, [0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(State, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.warns(ProbeWarning, match="Expected to write kept values to .*No space left"):
            probes.observe(2)
    assert load(path)["step"].values.tolist() == [0, 1, 2], "the series is written all the same"
    probes.detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observed(path, [3], "resume").detach()


def test_a_value_that_was_never_written_is_reported_after_a_crash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = observed(path, [0, 1])
    monkeypatch.setattr(State, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.warns(ProbeWarning, match="Expected to write kept values"):
        probes.observe(2)
    crashed = path.with_name("crashed.nc")
    for of in (journal_of, state_of):
        of(crashed).write_bytes(of(path).read_bytes())
    monkeypatch.undo()
    with pytest.warns(ProbeWarning, match="'weights' that was kept at step 2 .*got values of steps 0, 1"):
        series = observed(crashed, [3], "resume").detach().series_
    assert moved(series) == pytest.approx([np.nan, 1, 0, np.nan], nan_ok=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this test forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_writes_nothing(path: Path) -> None:
    probes = observed(path, [0, 1])
    before = state_of(path).read_bytes()
    if not (pid := os.fork()):
        warnings.simplefilter("ignore")
        probes.observe(2)
        os._exit(0)
    os.waitpid(pid, 0)
    assert state_of(path).read_bytes() == before


def dying_after(path: Path, left: int) -> None:
    """Record three steps in this process, which kills itself before or after the given call that writes."""

    def killing(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            for place in range(2):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                if place == 0:
                    found = function(*args, **kwargs)
            return found

        return call

    recording = Journal(path, HEADER, mode="resume")
    os.fsync, os.replace, np.savez = killing(os.fsync), killing(os.replace), killing(np.savez)
    for step in range(2, 5):
        recording.record(step, {}, {"v": np.full(1000, step)})
        path.with_suffix(".finished").write_text(str(step))
    recording.close()


HEADER: dict[str, Any] = {"configuration": {}, "order": {}, "provenance": "{}"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this test forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Expected a complete last line:probe.errors.ProbeWarning")
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_kill_9_in_any_phase_leaves_the_old_or_the_new_value(stride: int, tmp_path: Path) -> None:
    tries, status = 0, -1
    while status != 0:
        path = tmp_path / f"{tries}.nc"
        first = Journal(path, HEADER)
        for step in range(2):
            first.record(step, {}, {"v": np.full(1000, step)})
        first.close()
        if not (pid := os.fork()):
            failed = 1
            try:
                dying_after(path, tries * stride)
                failed = 0
            finally:
                os._exit(failed)
        status = os.waitpid(pid, 0)[1]
        assert status in (0, signal.SIGKILL)
        finished = path.with_suffix(".finished")
        known = int(finished.read_text()) if finished.exists() else 1
        again = Journal(path, HEADER, mode="resume")
        last = again.records.steps[-1]
        assert last in (known, known + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = again.kept("v", 99)
        assert found is not None
        assert set(found.tolist()) == {last}, "the value of the last observation, whole"
        again.close()
        tries += 1
    assert tries * stride > 20, "there are more phases than that"
