"""What happens to a recording when the machine, the file system or the model fails, as docs/compatibility.md says."""

import ast
import builtins
import errno
import gc
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import parsed
from setups import FAULTS, X, Y, adam, fault_row, net, update

from probe import Measured, PerformanceProbe, Probe, ProbeSet, Snapshot, every, load
from probe.errors import ProbeWarning
from probe.recording import Journal, journal_file, journal_of, lock as lock_module, read_netcdf
from probe.series import Variable

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="these tests fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
HEADER = {"configuration": {}, "order": {}, "provenance": "{}"}
resource = pytest.importorskip("resource")  # not on Windows
PAGE = (Path(__file__).parent.parent / "docs" / "compatibility.md").read_text()
DATA = {"train": (X, Y)}
ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.nc"


class Child:
    """A forked process that runs a function, and what it says."""

    def __init__(self, function: Callable[[Callable[[str], None]], None]) -> None:
        self.heard, says = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(says)
            return
        try:
            function(lambda text: os.write(says, f"{text}\n".encode()) and None)
        except BaseException:
            os.write(says, traceback.format_exc().encode())
        finally:
            os._exit(0)

    def hear(self) -> str:
        """Up to the end of a line, if the process still lives."""
        return os.read(self.heard, 100_000).decode()

    def end(self) -> list[str]:
        """What it said until it ended, line by line."""
        said = b""
        while part := os.read(self.heard, 100_000):
            said += part
        os.waitpid(self.pid, 0)
        os.close(self.heard)
        return said.decode().splitlines()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def recorded(
    path: Path, steps: range, mode: str | None = None, done: Callable[[str], None] = lambda text: None
) -> None:
    """A recording of so many steps; says each when it is over."""
    journal = Journal(path, HEADER, mode=mode)
    journal.declare(Variable("v"))
    for step in steps:
        journal.record(step, {"v": np.array(step / 3)})
        done(str(step))
    journal.annotate(steps[-1], {"v": np.array(steps[-1] / 3)})
    journal.close()
    done("closed")


# -- the process ends ------------------------------------------------------------------------------------------------


class KilledAt:
    """Kills this process at the n-th call of anything that touches a file."""

    def __init__(self, n: int) -> None:
        self.left = n

    def tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            result = function(*args, **kwargs)
            self.tick()
            return result

        return call

    def plant(self) -> None:
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (xr.Dataset, "to_netcdf")):
            setattr(owner, name, self.around(getattr(owner, name)))
        journal_file.open = self.opened  # type: ignore[attr-defined]

    def opened(self, *args: Any, **kwargs: Any) -> "Ticking":
        return Ticking(builtins.open(*args, **kwargs), self)


class Ticking:
    """A file each of whose verbs may be the last; a write may end in the middle of a line."""

    def __init__(self, file: Any, killer: KilledAt) -> None:
        self.file, self.killer = file, killer

    def __enter__(self) -> "Ticking":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def writelines(self, lines: list[bytes]) -> None:
        for line in lines:
            for part in (line[: len(line) // 2], line[len(line) // 2 :]):
                self.killer.tick()
                self.file.write(part)
                self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return self.killer.around(getattr(self.file, name))


@pytest.mark.filterwarnings(r"ignore:Expected a complete last line in \d+.nc.journal:probe.errors.ProbeWarning")
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("mode", ["overwrite", "resume"])
def test_kill_9_in_any_phase_loses_at_most_the_observation_that_is_written(
    mode: str, stride: int, tmp_path: Path
) -> None:
    first, steps, ends = range(0, 2), range(2, 4), []
    while "closed" not in ends:
        path = tmp_path / f"{len(ends)}.nc"
        recorded(path, first)

        def killed(say: Callable[[str], None], path: Path = path) -> None:
            KilledAt(len(ends) * stride).plant()
            recorded(path, steps, mode, say)

        said = Child(killed).end()
        ends.append(said[-1] if said else "nothing")
        finished = [int(word) for word in said if word.isdigit()]
        assert len(finished) + ("closed" in said) == len(said), said
        old = list(first) if mode == "resume" else []
        if finished or mode == "resume":
            check(path, old + finished)
        else:  # what was to be overwritten is there until the first observation is
            assert load(path)["step"].values.tolist() in (list(first), list(steps)[:1])
    assert len(ends) * stride > 60, "there are more phases than that"


def check(path: Path, finished: list[int]) -> None:
    """The file opens with all that was finished and at most one more, and recording goes on."""
    found = load(path)
    steps = found["step"].values.tolist()
    assert steps[: len(finished)] == finished
    assert len(steps) <= len(finished) + 1
    np.testing.assert_array_equal(found["v"], np.array(steps) / 3)
    journal = Journal(path, HEADER, mode="resume")
    journal.record(99, {"v": np.array(33.0)})
    journal.close()
    assert read_netcdf(path)["step"].values.tolist() == [*steps, 99]


# -- the file system -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_is_told_training_goes_on_and_the_file_opens(path: Path) -> None:
    """A real limit of the operating system on the size of files, in a process of its own."""

    def run(say: Callable[[str], None]) -> None:
        model = net()
        optimizer = adam(model)
        probes = ProbeSet().attach(model, DATA, optimizer=optimizer, schedule=every(1), path=path)
        size = journal_of(path).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(30):
                update(model, optimizer)
        say(str(sum("Expected to write step" in str(warning.message) for warning in caught)))
        say(str(load(path).sizes["step"]))
        say(str(probes.series_.sizes["step"]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        probes.detach()

    told, on_disk, in_memory = map(int, Child(run).end())
    assert (told + on_disk, in_memory) == (31, 31)
    assert 1 < on_disk < 31
    assert load(path).sizes["step"] == read_netcdf(path).sizes["step"] == 31, "space is there again: all is written"


def test_a_read_only_folder_is_an_error_at_attach_and_nothing_is_left(tmp_path: Path) -> None:
    PerformanceProbe().attach(net(), DATA, path=tmp_path / "run.nc")  # whoever is nobody cannot import
    folder = tmp_path / "folder"
    folder.mkdir()
    for one in (folder, *list(folder.parents)[:-2]):
        one.chmod(0o755)

    def run(say: Callable[[str], None]) -> None:
        if os.getuid() == 0:
            os.setuid(65534)  # root may write anywhere
        try:
            PerformanceProbe().attach(net(), DATA, path=folder / "run.nc")
        except OSError as error:
            say(f"{type(error).__name__}: {error}")

    said = "\n".join(Child(run).end())
    assert said.startswith("PermissionError"), said
    assert "run.nc.journal" in said
    assert not list(folder.iterdir())


def test_slow_writes_come_once_or_twice_for_an_observation(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def slow(handle: int, real: Callable[[int], None] = os.fsync) -> None:
        calls.append(handle)
        time.sleep(0.01)
        real(handle)

    monkeypatch.setattr(os, "fsync", slow)
    model = net()
    optimizer = adam(model)
    probe = PerformanceProbe().attach(model, DATA, optimizer=optimizer, schedule=every(1), path=path)
    for _ in range(20):
        update(model, optimizer)
    before_the_end = len(calls)
    probe.detach()
    assert 21 <= before_the_end <= 2 * 21 + 1
    assert load(path).sizes["step"] == 21


# -- two at one file -------------------------------------------------------------------------------------------------


def holding(path: Path, fork: bool = False) -> Child:
    """A process that records to the file and waits; with ``fork`` it has a child that outlives it."""

    def run(say: Callable[[str], None]) -> None:
        journal = Journal(path, HEADER)
        journal.declare(Variable("v"))
        journal.record(0, {"v": np.array(0.0)})
        if fork and (pid := os.fork()):
            say(str(pid))
        elif not fork:
            say("ready")
        time.sleep(60)

    return Child(run)


@pytest.mark.parametrize("mode", [None, "resume", "overwrite"])
def test_a_second_process_is_refused_until_the_first_has_ended(path: Path, mode: str | None) -> None:
    child = holding(path)
    assert child.hear() == "ready\n"
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(OSError, match="another process holds; wait for its end" if mode else "exists already"):
        Journal(path, HEADER, mode=mode)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    child.kill()
    journal = Journal(path, HEADER, mode=mode or "resume")
    journal.declare(Variable("v"))
    journal.record(1, {"v": np.array(1.0)})
    assert load(path)["step"].values.tolist() == ([1] if mode == "overwrite" else [0, 1])


def test_a_worker_that_outlives_its_process_does_not_hold_the_file(path: Path) -> None:
    child = holding(path, fork=True)
    worker = int(child.hear())
    child.kill()
    try:
        os.kill(worker, 0)  # it lives
        Journal(path, HEADER, mode="resume").close()
    finally:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_two_probes_of_one_process_are_refused_until_the_first_is_detached(path: Path, mode: str) -> None:
    first = PerformanceProbe().attach(net(), DATA, path=path).observe(0)
    for _ in range(2):
        with pytest.raises(BlockingIOError, match=r"this process holds; detach\(\) the probe"):
            PerformanceProbe().attach(net(), DATA, path=path, mode=mode)
    first.observe(1).detach()
    PerformanceProbe().attach(net(), DATA, path=path, mode=mode).observe(2).detach()
    assert load(path)["step"].values.tolist() == ([2] if mode == "overwrite" else [0, 1, 2])


def test_an_attachment_that_fails_lets_go_of_the_file(path: Path) -> None:
    PerformanceProbe().attach(net(), DATA, path=path).observe(0).detach()
    with pytest.raises(ValueError, match="another configuration") as kept:  # an error that is kept keeps its frames
        PerformanceProbe().attach(net(), {"other": DATA["train"]}, path=path, mode="resume")
    PerformanceProbe().attach(net(), DATA, path=path, mode="resume").observe(1).detach()
    model = net()
    with pytest.raises(RuntimeError, match="asked to fail") as also:
        Failing(at=(1,)).attach(model, DATA, path=path, mode="overwrite", optimizer=adam(model), step=1)
    PerformanceProbe().attach(net(), DATA, path=path, mode="resume").observe(2).detach()
    assert load(path)["step"].values.tolist() == [0, 1, 2]
    del kept, also


def test_a_file_system_without_locks_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module, "_lock", none)
    with pytest.warns(ProbeWarning, match="file system with locks.*No locks available"):
        recorded(path, range(3))
    assert load(path).sizes["step"] == 3


# -- a fork ----------------------------------------------------------------------------------------------------------


def test_a_forked_process_writes_nothing(path: Path) -> None:
    probe = PerformanceProbe().attach(net(), DATA, path=path).observe(0)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def run(say: Callable[[str], None]) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            probe.observe(1)
            probe.detach()
        for warning in caught:
            say(str(warning.message))

    said = Child(run).end()
    assert len(said) == 2
    assert all("got a process forked from it" in text for text in said)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    probe.observe(1).detach()
    assert load(path)["step"].values.tolist() == [0, 1]


def test_a_fork_that_drops_its_copy_neither_writes_nor_warns(path: Path) -> None:
    probes = [PerformanceProbe().attach(net(), DATA, path=path).observe(0)]
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    if not (process := os.fork()):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            probes.clear()
            gc.collect()
        os._exit(len(caught))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    probes[0].detach()


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt, signal.SIGKILL])
@pytest.mark.parametrize("counted", [True, False])
def test_a_recording_stays_until_an_observation_replaces_it(path: Path, how: Any, counted: bool) -> None:
    recorded(path, range(5))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    model = net()
    options = {"optimizer": adam(model)} if counted else {}

    def ended(say: Callable[[str], None]) -> None:
        warnings.simplefilter("ignore")
        try:
            probe = Ending(how).attach(model, DATA, path=path, mode="overwrite", **options)
            say("attached")
            probe.observe(0)
        except (RuntimeError, KeyboardInterrupt) as raised:
            say(type(raised).__name__)

    name = [how.__name__] if isinstance(how, type) else []
    assert Child(ended).end() == ([] if counted else ["attached"]) + name
    assert {name: (path.parent / name).read_bytes() for name in before} == before
    PerformanceProbe().attach(net(), DATA, path=path, mode="overwrite").observe(7).detach()
    assert load(path)["step"].values.tolist() == [7]
    assert {file.name for file in path.parent.iterdir()} == set(before)


class Ending(Probe):
    """Ends the observation by an error or a signal."""

    def __init__(self, how: Any = RuntimeError) -> None:
        self.how = how

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        if isinstance(self.how, type):
            raise self.how("asked to fail")
        os.kill(os.getpid(), self.how)
        return {}


def test_files_that_are_removed_are_written_again(path: Path) -> None:
    probe = PerformanceProbe().attach(net(), DATA, path=path).observe(0).observe(1)
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.warns(ProbeWarning, match="it is written again with all observations"):
        probe.observe(2)
    assert load(path)["step"].values.tolist() == [0, 1, 2]
    probe.observe(3).detach()
    xr.testing.assert_identical(read_netcdf(path), load(path))


def test_another_recording_in_the_place_of_the_files_is_left_alone(path: Path) -> None:
    probe = PerformanceProbe().attach(net(), DATA, path=path).observe(0)
    for file in path.parent.iterdir():
        file.unlink()
    recorded(path, range(5))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.warns(ProbeWarning, match="got another file; put its files back, or save the series elsewhere"):
        probe.observe(1).detach()
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    assert probe.series_["step"].values.tolist() == [0, 1]


def test_a_link_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "latest.nc").symlink_to(tmp_path / "first.nc")
    probe = PerformanceProbe().attach(net(), DATA, path=tmp_path / "latest.nc").observe(0)
    assert load(tmp_path / "latest.nc").sizes["step"] == 1
    (tmp_path / "latest.nc").unlink()
    (tmp_path / "latest.nc").symlink_to(tmp_path / "second.nc")
    probe.observe(1).detach()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first.nc", "first.nc.journal", "latest.nc"]
    assert load(tmp_path / "first.nc").sizes["step"] == 2


@pytest.mark.parametrize("which", ["journal", "file"])
def test_a_damaged_file_is_an_error(path: Path, which: str) -> None:
    """One bit; see test_fuzz.py for the rest."""
    recorded(path, range(5))
    damaged = journal_of(path) if which == "journal" else path
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    if which == "file":
        journal_of(path).unlink()
    with pytest.raises(
        ValueError, match="got a damaged line; keep" if which == "journal" else "another one by its dig"
    ):
        load(path)


class Failing(Probe):
    """Fails at some steps; measures them otherwise."""

    def __init__(self, at: tuple[int, ...] = ()) -> None:
        self.at = at

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        if snapshot.step in self.at:
            raise RuntimeError("asked to fail")
        return {"number": Measured(float(snapshot.step))}


class Fragile(torch.nn.Module):
    """Fails in the middle of a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.error = torch.nn.Linear(6, 4), torch.nn.Linear(4, 3), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.body(x))
        if self.error is not None:
            raise self.error
        return self.head(x)


@pytest.mark.parametrize("error", [RuntimeError("asked to fail"), MemoryError("asked to fail")])
def test_an_exception_in_the_model_is_flagged_in_the_file_and_training_goes_on(path: Path, error: Exception) -> None:
    model = Fragile()
    probes = ProbeSet([Failing()]).attach(model, DATA, path=path)
    probes.observe(0)
    model.error = error  # type: ignore[assignment]
    with pytest.warns(ProbeWarning, match=r"an error of shared pass, PerformanceProbe at step 1.* asked to fail"):
        probes.observe(1)
    model.error = None
    probes.observe(2).detach()
    found = load(path)
    assert found["failed"].max("probe").values.tolist() == [0, 1, 0]
    assert found["train_loss"].isnull().values.tolist() == [False, True, False]
    assert found["number"].values.tolist() == [0, 1, 2], "the others are measured"


def test_an_interrupt_in_the_model_gets_through_and_the_file_opens(path: Path) -> None:
    model = Fragile()
    probes = ProbeSet().attach(model, DATA, path=path)
    probes.observe(0)
    model.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        probes.observe(1)
    assert load(path)["step"].values.tolist() == [0]
    model.error = None
    probes.observe(1).detach()
    assert load(path)["step"].values.tolist() == [0, 1]


# -- what is read ----------------------------------------------------------------------------------------------------


def unsafe_calls(source: str) -> Iterator[str]:
    """Calls that run code from a file that they read."""
    for node in ast.walk(parsed(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in ("torch.load", "load") and name == "torch.load" and options.get("weights_only") != "True":
            yield name
        if name.split(".")[0] in ("pickle", "marshal", "shelve", "dill", "cloudpickle") and "load" in name:
            yield name
        if name in ("joblib.load", "pd.read_pickle", "pandas.read_pickle", "eval", "exec", "yaml.load"):
            yield name
        if options.get("allow_pickle", "False") != "False":
            yield name


def test_nothing_that_is_read_can_run_code() -> None:
    files = [file for package in ("probe", "reference") for file in (ROOT / package).rglob("*.py")]
    assert len(files) > 40
    allowed = {"testing.py"}  # it pickles what it has just made
    found = {file.name: list(unsafe_calls(file.read_text())) for file in files if file.name not in allowed}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source", ["torch.load(f)", "pickle.loads(b)", "np.load(f, allow_pickle=True)", "torch.load(f, weights_only=False)"]
)
def test_a_call_that_can_is_seen(source: str) -> None:
    assert list(unsafe_calls(source))


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_lists_the_faults_and_each_has_its_test() -> None:
    here = sys.modules[__name__]
    assert [name for _, _, name in FAULTS if not hasattr(here, name)] == []
    missing = [fault_row(*fault) for fault in FAULTS if fault_row(*fault) not in PAGE]
    assert missing == [], "the page is out of date: python docs/benchmarks/compatibility.py"
