"""Ctrl-C at random lines of attach, observations and detach: the loop goes on, and the training is unchanged."""

import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

import probe
from probe import (
    ActivationsProbe,
    LMNProbe,
    LocalComplexityProbe,
    Measured,
    Probe,
    ProbeSet,
    Snapshot,
    Tap,
    every,
    load,
)
from probe.interrupts import interruptible, uninterrupted
from probe.testing import state_of

FOLDER = str(Path(probe.__file__).parent)
X, Y = torch.linspace(-2, 2, 48).reshape(12, 4), torch.tensor([0, 1, 1] * 4)
DATA = {"train": (X, Y)}
STEPS = 2


@pytest.fixture(autouse=True)
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handler of Python, which a background process lacks; and no provenance, which takes most of the time."""
    monkeypatch.setattr("probe.attach.prepare.provenance_json", lambda *_, **__: "{}")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupter:
    """Trace function that counts the lines of this package that run inside, and interrupts at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.lines, self.where = at, 0, ""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> "Interrupter | None":
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                self.where = f"{frame.f_code.co_filename.removeprefix(FOLDER)}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self

    def __enter__(self) -> "Interrupter":
        sys.settrace(self)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.settrace(None)


class Net(nn.Module):
    """A model with all that an interrupted observation can leave changed, which also writes to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.scaled = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.scaled == self.training:
            self.last.weight.data.mul_(2.0 if self.training else 0.5)
            self.scaled = not self.training
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


class Passes(Probe):
    """Use the shared pass, a pass with an edit and a functional activation, and the random generators."""

    def taps(self, snapshot: Snapshot) -> list[Tap]:
        return [Tap("last")]

    def measure(self, snapshot: Snapshot) -> dict[str, Measured]:
        shared = snapshot.outputs("train", ["last"])["last"]
        edited = snapshot.outputs("train", [":relu->"], edit={"first": lambda z, positions: 2 * z})[":relu->"]
        return {"sum": Measured(float(shared.sum() + edited.sum())), "draw": Measured(torch.rand(1).item())}


def every_probe() -> ProbeSet:
    return ProbeSet([ActivationsProbe(), LocalComplexityProbe(random_state=0), LMNProbe(random_state=0)])


class Run:
    """A training that goes on after an interrupt, which comes at a line of one of its stages."""

    def __init__(
        self, make: Callable[[], Any] | None, stage: str = "", at: int | None = None, path: Any = None
    ) -> None:
        torch.manual_seed(0)
        random.seed(0)
        self.model = Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.stage, self.path = stage, path
        self.interrupter, self.interrupted, self.attached = Interrupter(at), False, False
        self.probes = make and make()
        self.by_hook = stage != "observe"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._train()

    def _train(self) -> None:
        if self.probes is not None:
            self._do("attach", self._attach)
            self.attached = "_session" in vars(self.probes) and self.probes._session is not None
        for step in range(1, STEPS + 1):
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(X), Y).backward()
            self._do("step" if step == 1 else "", self.optimizer.step)
            if self.attached and not self.by_hook:
                self._do("observe" if step == 1 else "", lambda step=step: self.probes.observe(step))
        self.state = state_of(self.model, None)
        entries = self.optimizer.state.values()
        self.moments = [{name: value.tolist() for name, value in entry.items()} for entry in entries]
        self.grads = [parameter.grad.tolist() for parameter in self.model.parameters()]
        if self.attached:
            self._do("detach", self.probes.detach)

    def _attach(self) -> None:
        optimizer = self.optimizer if self.by_hook else None
        self.probes.attach(self.model, DATA, optimizer=optimizer, schedule=every(1), path=self.path, on_error="raise")

    def _do(self, stage: str, action: Callable[[], Any]) -> None:
        if stage != self.stage:
            action()
            return
        try:
            with self.interrupter:
                action()
        except KeyboardInterrupt:
            self.interrupted = True


def check(run: Run, without: Run) -> None:
    """Check all that an interrupt must not change."""
    where = run.interrupter.where
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, where
    different = [key for key in without.state if without.state[key] != run.state.get(key)]
    assert different == [], where
    assert (run.moments, run.grads) == (without.moments, without.grads), where
    assert state_of(run.model, None) == run.state, where
    assert torch.is_grad_enabled(), where
    assert torch.overrides._get_current_function_mode_stack() == [], where
    if not run.attached:
        assert run.stage == "attach", where
        assert run.path is None or not list(run.path.parent.iterdir()), where
        assert not run.optimizer._optimizer_step_post_hooks, where
        return
    expected = set(range(0 if run.by_hook else 1, STEPS + 1))
    session = vars(run.probes)["_session"]
    if session is not None:  # detach was interrupted before it began
        assert run.stage == "detach", where
        run.probes.detach()
    found = run.probes.series_["step"].values.tolist()
    assert found == sorted(found), where
    assert set(found) <= expected, where
    assert expected - set(found) <= ({1} if run.interrupted and run.stage in ("step", "observe") else set()), where
    assert not run.optimizer._optimizer_step_post_hooks, where
    if run.path is not None:
        assert load(run.path)["step"].values.tolist() == found, where


STAGES = ["attach", "step", "observe", "detach"]


def interrupt(make: Callable[[], Any], stage: str, n: int, folder: Path | None, seed: int) -> None:
    """Interrupt n runs at random lines of a stage, and check each of them."""
    generator, without, total = random.Random(seed), Run(None), 0
    for i in range(n + 1):
        path = None if folder is None else folder / str(i) / "run.nc"
        if path is not None:
            path.parent.mkdir()
        run = Run(make, stage, generator.randint(1, total) if total else None, path)
        total = total or run.interrupter.lines  # the first run counts the lines
        assert run.interrupted is (i > 0), run.interrupter.where
        check(run, without)


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_at_any_line_loses_one_observation_at_most(stage: str) -> None:
    interrupt(Passes, stage, 20, None, seed=0)


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_at_any_line_leaves_the_recording_whole(stage: str, tmp_path: Path) -> None:
    interrupt(lambda: ProbeSet([Passes()]), stage, 5, tmp_path, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("recorded", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize(("make", "n"), [(Passes, 200), (every_probe, 50)], ids=["one probe", "a set"])
def test_many_interrupts(make: Any, n: int, stage: str, recorded: bool, tmp_path: Path) -> None:
    interrupt(make, stage, n, tmp_path if recorded else None, seed=1)


def test_an_interrupted_fit_leaves_the_model_as_it_was() -> None:
    generator, model = random.Random(0), Net()
    before = state_of(model, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Interrupter() as counter:
            Passes().fit(model, DATA)
        for _ in range(10):
            probes = Passes()
            with pytest.raises(KeyboardInterrupt), Interrupter(generator.randint(1, counter.lines)) as interrupter:
                probes.fit(model, DATA)
            assert state_of(model, None) == before, interrupter.where
            assert probes.__sklearn_is_fitted__() in (False, "_series" in vars(probes)), interrupter.where
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, interrupter.where


# -- the deferral alone ------------------------------------------------------------------------------------------------


def test_an_interrupt_waits_for_the_end_of_what_must_run_as_a_whole() -> None:
    done = []

    def run() -> None:
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                done.append(1)
            done.append(2)
        done.append(3)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert done == [1, 2]


def test_an_interruptible_part_is_interrupted_at_once_and_its_way_out_is_not() -> None:
    done = []

    def run() -> None:
        try:
            with interruptible():
                try:
                    signal.raise_signal(signal.SIGINT)
                    done.append("not reached")
                finally:
                    signal.raise_signal(signal.SIGINT)  # impatience
                    done.append("inner")
        finally:
            done.append("outer")

    with pytest.raises(KeyboardInterrupt), uninterrupted():
        run()
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_pending_interrupt_is_delivered_where_the_next_interruptible_part_begins() -> None:
    done = []

    def run() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(1)
        with interruptible():
            done.append(2)

    with pytest.raises(KeyboardInterrupt), uninterrupted():
        run()
    assert done == [1]


def test_a_handler_of_the_user_is_called_later_and_need_not_raise() -> None:
    calls: list[Any] = []

    def note(*_: Any) -> None:
        calls.append(list(done))

    done: list[int] = []
    before = signal.signal(signal.SIGINT, note)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
            with interruptible():
                signal.raise_signal(signal.SIGINT)
                done.append(2)
                signal.raise_signal(signal.SIGINT)
        assert calls == [[1], [1], [1, 2]]
        assert signal.getsignal(signal.SIGINT) is note
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_handler_outside_of_python_is_left_alone(handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with uninterrupted(), interruptible():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_observes_without_a_handler() -> None:
    found: list[Any] = []

    def observe() -> None:
        with uninterrupted(), interruptible():
            found.append(signal.getsignal(signal.SIGINT))
        found.append(ProbeSet([]).fit(nn.Linear(4, 2), DATA).series_.sizes["step"])

    thread = threading.Thread(target=observe)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler, 1]


def test_a_scalar_of_the_loop_can_be_interrupted() -> None:
    probes: Probe | ProbeSet = ProbeSet([]).attach(nn.Linear(4, 2), DATA)
    with pytest.raises(KeyboardInterrupt):
        probes.observe(0, cost=lambda: signal.raise_signal(signal.SIGINT) or 1 / 0)
    assert probes.observe(1).detach().series_["step"].values.tolist() == [1]
