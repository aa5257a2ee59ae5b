"""What all adapters share, without a trainer: attach, count, log, and detach."""

import re
from pathlib import Path
from typing import Any

import pytest
from cases import splits
from setups import DATA, X, Y, adam, net, update
from torch.nn import functional as F

import probe
from probe import PerformanceProbe, ProbeSet, every
from probe.adapters import checks
from probe.adapters.attachment import Attachment
from probe.errors import ProbeWarning
from probe.forward import TrainingContext


def made(probes: Any = None, **options: Any) -> Attachment:
    usual = {"path": None, "mode": None, "log": True, "schedule": every(1), **options}
    return Attachment(probes or PerformanceProbe(), splits(DATA), **usual)


def test_numbers_are_returned_once_with_labels_in_safe_characters() -> None:
    model = net()
    optimizer, one = adam(model), made(log=["train_loss", "seconds"], schedule=every(2))
    one.start(model, optimizer, 0)
    first = one.numbers()
    assert set(first) == {"probe/train_loss", "probe/seconds/shared pass", "probe/seconds/PerformanceProbe"}
    assert one.numbers() == {}
    update(model, optimizer)
    assert one.numbers() == {}
    update(model, optimizer)
    assert one.numbers()["probe/train_loss"] == one.probes.series_["train_loss"].values[-1] != first["probe/train_loss"]


def test_a_training_that_continues_resumes_its_recording(tmp_path: Path) -> None:
    model = net()
    optimizer, path = adam(model), tmp_path / "run.nc"
    for start, mode in ((0, None), (1, None), (0, "overwrite")):
        one = made(path=path, mode=mode)
        one.start(model, optimizer, start)
        update(model, optimizer)
        assert one.step == start + 1
        one.stop()
        assert one.step == start + 1
        assert probe.load(path)["step"].values.tolist() == list(range(start + 2))
    late = made()
    with pytest.warns(ProbeWarning, match="so the series starts at this step"):
        late.start(model, optimizer, 5)
    late.start(model, optimizer, 0)  # the earlier training has ended by an error
    late.stop()
    assert late.stop() == {}


def test_a_training_context_can_be_made_from_the_optimizer_of_the_trainer() -> None:
    seen: list[Any] = []

    def training(model: Any, optimizer: Any) -> TrainingContext:
        seen.append(optimizer)
        return TrainingContext.usual(optimizer, F.cross_entropy, (X, Y), batch_size=4)

    model = net()
    one = made(training=training)
    one.start(model, optimizer := adam(model), 0)
    one.stop()
    assert seen == [optimizer]


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"give ProbeSet\(\[...\]\)"):
        made([PerformanceProbe()])
    with pytest.raises(TypeError, match="got optimiser; leave these out"):
        made(optimiser=1)
    with pytest.raises(TypeError, match=r"give \['train_loss'\]"):
        made(log="train_loss")
    with pytest.raises(ValueError, match="Expected an optimizer, got None"):
        made().start(net(), None, 0)
    model, probes = net(), ProbeSet()
    one, two = made(probes), made(probes, log=["train_los"])
    one.start(model, adam(model), 0)
    with pytest.raises(ValueError, match="give each callback its own probes"):
        two.start(model, adam(model), 0)
    one.stop()
    two.start(model, adam(model), 0)
    with pytest.warns(ProbeWarning, match="got train_los; give names among"):
        assert two.numbers() == {}
    two.stop()


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "version", lambda _: "2.10.3")
    checks.require("some", "2.4")
    with pytest.raises(ImportError, match=r"Expected some >= 2.11 for this adapter, got 2.10.3"):
        checks.require("some", "2.11")
    monkeypatch.undo()
    with pytest.raises(ImportError, match=r"got none; pip install -U not-installed"):
        checks.require("not-installed", "1.0")


def test_the_lowest_versions_are_the_same_everywhere() -> None:
    """In the adapters, in the list that .ci/full tests, in the extra, and on the page."""
    root = Path(__file__).parent.parent
    tested = dict(re.findall(r"^(\S+)==(\d+\.\d+)", (root / ".ci" / "trainers.txt").read_text(), re.M))
    assert tested.pop("pytorch-lightning") == tested["lightning"]
    adapters = "".join(file.read_text() for file in (root / "probe" / "adapters").glob("*.py"))
    required = dict(re.findall(r'require\("?(\w+)"?, "([\d.]+)"\)', adapters))
    required["lightning"] = required.pop("name")
    assert {**required, "peft": tested["peft"]} == tested
    extra = (root / "pyproject.toml").read_text()
    page = (root / "docs" / "trainers.md").read_text()
    page = page.split("The lowest accepted versions are tested too: ")[1].split("|")[0]
    for name, lowest in tested.items():
        assert f'"{name}>={lowest}"' in extra
        assert name == "peft" or f"{name} {lowest}" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
def test_page_on_trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each snippet runs and records its training."""
    for name in ("lightning", "transformers", "accelerate", "skorch"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    page = (Path(__file__).parent.parent / "docs" / "trainers.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.S)), {"__name__": "page"})
    last = {file.stem: int(probe.load(file)["step"].values[-1]) for file in tmp_path.glob("*.nc")}
    assert last == {"lightning": 8, "huggingface": 8, "accelerate": 4, "skorch": 8}
