"""The two command lines: what they print, write and return."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from probe import MutualInfoProbe, ProbeSet, load, save
from probe.__main__ import main as probe_main
from reference.__main__ import main as reference_main
from reference.configs import DEMO
from reference.experiments import Demo, run_demo
from reference.train import Trainer


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    x = torch.randn(12, 3)
    data = {split: (x, torch.arange(12) % 2) for split in ("train", "test")}
    probes = ProbeSet([MutualInfoProbe()]).attach(torch.nn.Linear(3, 2), data, path=tmp_path / "run.nc")
    for step in range(10):
        probes.observe(step)
    probes.detach()
    return tmp_path / "run.nc"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Curves that no probe recorded, without a word beside the numbers."""
    values = np.linspace(0, 1, 30)
    return save(xr.Dataset({"train_accuracy": ("step", values)}, {"step": np.arange(30)}), tmp_path / "plain.nc")


@pytest.mark.parametrize("command", ["info", "detect", "plot"])
@pytest.mark.parametrize("which", ["recorded", "plain"])
def test_commands_read_recordings_and_plain_curves(
    command: str, which: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    path = request.getfixturevalue(which)
    assert probe_main([command, str(path)]) == 0
    told = capsys.readouterr().out
    assert {"info": "steps 0 to", "detect": "One run, descriptive", "plot": "written:"}[command] in told
    assert path.with_suffix(".png").exists() == (command == "plot")


def test_missing_and_foreign_files_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_main(["detect", str(tmp_path / "none.nc")]) == 2
    assert "no series at" in capsys.readouterr().err
    xr.Dataset({"a": ("epoch", [1.0, 2.0])}).to_netcdf(tmp_path / "other.nc", engine="scipy")
    assert probe_main(["info", str(tmp_path / "other.nc")]) == 2
    assert "has no 'step'" in capsys.readouterr().err


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_demo_is_the_same_for_a_seed_and_another_for_another(tmp_path: Path, one_thread: None) -> None:
    series = []
    for i, seed in enumerate((3, 3, 4)):
        demo = Demo(seed=seed, training=replace(DEMO, steps=3))
        found, done = run_demo(demo, tmp_path / f"{i}.nc", progress=False)
        assert done == 3
        series.append(found.drop_vars("seconds"))
    xr.testing.assert_equal(series[0], series[1])
    assert not series[0]["train_loss"].equals(series[2]["train_loss"])


def test_demo_observes_log_spaced_and_then_often() -> None:
    schedule = Demo().schedule()
    observed = [step for step in range(3000) if schedule(step)]
    log = {0, *(round(10 ** (i / 24)) for i in range(80))}
    assert observed == sorted(step for step in {*log, *range(400, 2001, 40)} if step <= 2000)
    assert len(observed) == 106


def test_demo_keeps_what_was_recorded_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    whole = Trainer.advance

    def until_five(trainer: Trainer, n: int) -> None:
        for _ in range(n):
            if trainer.step == 5:
                raise KeyboardInterrupt
            whole(trainer, 1)

    monkeypatch.setattr(Trainer, "advance", until_five)
    assert reference_main(["demo", "--out", str(tmp_path / "demo"), "--steps", "50"]) == 130
    told = capsys.readouterr().out
    assert "interrupted after step 5; what was recorded until then is kept" in told
    assert "fit_end" in told
    assert load(tmp_path / "demo" / "run.nc")["step"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "demo" / "phases.png").exists()
    assert reference_main(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
