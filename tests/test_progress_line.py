"""The line of progress: what it shows, where, how often, and at which cost."""

import builtins
import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cases import splits
from setups import DATA, adam, net, update

from probe import MutualInfoProbe, PhaseDetector, ProbeSet, WeightsProbe, every
from probe.errors import ProbeWarning
from probe.writers import displays, progress
from probe.writers.displays import InBar, display_of


class Clock:
    """A clock that an observation moves by ``pace`` seconds, and a verdict by ``cost``."""

    def __init__(self, pace: float, cost: float) -> None:
        self.now, self.pace, self.cost, self.verdicts = 0.0, pace, cost, list[int]()

    def monotonic(self) -> float:
        return self.now

    def sentence(self, records: Any) -> str:
        self.now += self.cost
        self.verdicts.append(records.steps[-1])
        return f"Judged at {records.steps[-1]}"


def trained(n: int, probes: Any = (), **options: Any) -> Any:
    model = net()
    optimizer = adam(model)
    probes = ProbeSet(probes).attach(
        model, splits(DATA), optimizer=optimizer, **{"schedule": every(1), "progress": True, **options}
    )
    for _ in range(n):
        update(model, optimizer)
    return probes.detach().series_


def test_numbers_units_and_the_verdict_at_the_end() -> None:
    lines: list[str] = []
    series = trained(5, [MutualInfoProbe(), WeightsProbe()], progress=lines.append)
    assert len(lines) == 7  # the last state twice: without and with its verdict
    last = series.isel(step=-1)
    layer, parameter = series["layer"].values[-1], series["parameter"].values[-1]
    information = float(last["information_x"].sel(split="test", layer=layer))
    verdict = PhaseDetector().fit(series).verdict_["sentence"].item()
    assert lines[-1] == (
        f"step 5: train loss {float(last['train_loss']):.3g} nats, "
        f"train accuracy {float(last['train_accuracy']):.3g}, test loss {float(last['test_loss']):.3g} nats, "
        f"test accuracy {float(last['test_accuracy']):.3g}, information_x[test, {layer}] {information:.3g} bits, "
        f"weight_norm[{parameter}] {float(last['weight_norm'].sel(parameter=parameter)):.3g}. So far: {verdict}"
    )
    assert lines[-2] == lines[-1].split(". So far")[0]


def test_verdicts_take_a_bounded_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(pace=1.0, cost=0.3), list[str]()
    monkeypatch.setattr(progress, "time", clock)
    line = progress.Progress(lines.append, clock.sentence, 0.01)
    for step in range(300):
        clock.now += clock.pace
        records: Any = SimpleNamespace(steps=[step], variables={}, at=lambda step: {})
        line.observed(step, records)
    assert clock.verdicts[:3] == [9, 40, 70]  # .1 s are expected of the first verdict, .3 s of the others
    assert 0.3 * len(clock.verdicts) <= 0.01 * clock.now + 0.3
    assert lines[50] == "step 50: no numbers. So far (step 40): Judged at 40"


def test_a_budget_lowers_the_share() -> None:
    for budget, share in ((None, 0.01), (0.5, 0.01), (0.02, 0.002)):
        found = ProbeSet(budget=budget)._outputs(None, print)._progress
        assert found is not None
        assert found._share == share


def test_places(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A log file has lines 5 s apart and the last one; a terminal and a notebook have one line, which ends whole."""
    trained(4)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 0", "step 4"]

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(displays.Terminal, "seconds", 0.0)
    monkeypatch.setenv("COLUMNS", "60")
    trained(4)
    rows = terminal.getvalue().split("\r")
    assert len(rows) == 8
    assert rows[-2].endswith("...")
    assert rows[-1].startswith("step 4: ")
    assert rows[-1].endswith("train for longer.\n")
    assert max(map(len, rows[:-1])) <= 60

    shown: list[Any] = []

    def display(*objects: Any, raw: bool = False, display_id: bool = False) -> Any:
        shown.append(objects[0])
        return SimpleNamespace(update=lambda content, raw: shown.append(content))

    module: Any = ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(builtins, "get_ipython", lambda: SimpleNamespace(kernel=1), raising=False)
    monkeypatch.setattr(displays.Notebook, "seconds", 0.0)
    trained(4)
    assert len(shown) == 6
    assert "So far: " in shown[-1]["text/plain"]


def test_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar of tqdm; and the bar of a trainer, which exists at times."""
    texts: list[str] = []
    trained(2, progress=SimpleNamespace(set_postfix_str=texts.append))
    assert len(texts) == 3  # three observations are too few for a verdict
    found: list[Any] = [None]
    bar = InBar(lambda: found[0])
    assert display_of(bar) is bar
    bar.show("printed")
    assert bar.seconds == 5
    found[0] = texts.append
    bar.show("in the bar")
    assert bar.seconds == 0
    assert capsys.readouterr().err == "printed\n"
    assert texts[-1] == "in the bar"


def test_an_error_ends_the_line_and_not_the_training() -> None:
    with pytest.warns(ProbeWarning, match="Expected a line of progress, got OSError: closed; it ends here") as caught:
        series = trained(3, progress=lambda line: (_ for _ in ()).throw(OSError("closed")))
    assert len(caught) == 1
    assert series.sizes["step"] == 4
    with pytest.raises(TypeError, match="Expected progress to be True, a bar with set_postfix_str"):
        trained(0, progress="bar")
