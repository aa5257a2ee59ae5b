"""The output, files and exit codes of the two command lines."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from helpers import seeded

from probe import MutualInfoProbe, PhaseDetector, ProbeSet, load, read, save
from probe.__main__ import main as probe_main
from probe.phases import MARKERS
from probe.readers import READERS
from probe.writers import send
from reference.__main__ import main as reference_main
from reference.experiments.demo import Demo, run_demo
from reference.experiments.demo_story import Story
from reference.training.configs import CONFIGS, DEMO
from reference.training.train_config import TrainConfig
from reference.training.trainer import Trainer

LOGS = Path(__file__).parent / "logs"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "run.nc"
    x = torch.randn(12, 3, generator=seeded())
    data = {split: (x, torch.arange(12) % 2) for split in ("train", "test")}
    probes = ProbeSet([MutualInfoProbe()]).attach(torch.nn.Linear(3, 2), data, path=path)
    for step in range(10):
        probes.observe(step)
    probes.detach()
    return path


@pytest.fixture
def recorded(recording: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(recording, tmp_path))


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """Curves that no probe recorded, without attributes."""
    values = np.linspace(0, 1, 30)
    return save(xr.Dataset({"train_accuracy": ("step", values)}, {"step": np.arange(30)}), tmp_path / "unlabelled.nc")


@pytest.mark.parametrize("command", ["info", "detect", "plot"])
@pytest.mark.parametrize("which", ["recorded", "unlabelled"])
def test_commands_read_recordings_and_unlabelled_curves(
    command: str, which: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    path = request.getfixturevalue(which)
    assert probe_main([command, str(path)]) == 0
    printed = capsys.readouterr().out
    assert {"info": "steps 0 to", "detect": "One run; another seed", "plot": "written:"}[command] in printed
    assert path.with_suffix(".png").exists() == (command == "plot")


def test_missing_and_foreign_files_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_main(["detect", str(tmp_path / "none.nc")]) == 2
    assert "Expected a log or a recording at" in capsys.readouterr().err
    xr.Dataset({"a": ("epoch", [1.0, 2.0])}).to_netcdf(tmp_path / "other.nc", engine="scipy")
    assert probe_main(["info", str(tmp_path / "other.nc")]) == 2
    assert "Expected a series with a coordinate 'step'" in capsys.readouterr().err


# Logs of other libraries


def test_detect_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, out = str(LOGS / "tensorboard" / "plain"), tmp_path / "found"
    assert probe_main(["detect", log, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Delayed generalisation (grokking): the train accuracy passes 0.95 at step 286, but")
    assert (
        "\nOne run; another seed may give other steps.\n- fit end: fitting ends at step 348 (286 to 348): " in printed
    )
    assert "train_accuracy is 'Acc/train'" in printed
    assert (out / "verdict.txt").read_text() in printed
    assert (out / "phases.png").stat().st_size > 10_000
    table = pd.read_csv(out / "markers.csv").set_index("marker")
    assert table.loc["end", "step"] == 31011
    assert probe_main(["detect", log, "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed == (out / "verdict.json").read_text()
    verdict = json.loads(printed)
    assert [run["class"] for run in verdict["verdict"]] == ["delayed generalisation"]
    assert verdict["verdict"][0]["delay"] > 1
    assert verdict["summary"].startswith(verdict["verdict"][0]["sentence"])
    found = {entry["marker"]: entry for entry in verdict["markers"]}
    assert found["fit_end"]["upper"] == 348
    assert found["compression_onset"]["step"] is None
    assert found["compression_onset"]["status"] == "undefined"


def test_several_paths_are_runs(unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    epochs = pd.DataFrame({"epoch": np.arange(1, 31), "val_mse": np.geomspace(1, 0.1, 30)})
    paths = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    for path in paths:
        epochs.to_csv(path, index=False)
    assert probe_main(["detect", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["source"], found["axis"]) == ("a.csv, b.csv", "epoch")
    assert [run["run"] for run in found["verdict"]] == ["a.csv", "b.csv"]
    assert probe_main(["plot", *paths]) == 0
    assert (tmp_path / "a.png").stat().st_size > 10_000
    capsys.readouterr()
    assert probe_main(["detect", str(unlabelled), str(tmp_path / "none.csv")]) == 0
    printed = capsys.readouterr()
    assert "none.csv could not be read and was left out" in printed.err
    assert "One run; another seed may give other steps." in printed.out


def test_detect_over_runs_and_over_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_main(["detect", str(LOGS / "lightning"), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert {entry["run"] for entry in verdict["markers"]} == {"version_0", "version_1"}
    assert [entry["marker"] for entry in verdict["across"]] == [kind.name for kind in MARKERS]
    assert probe_main(["detect", str(LOGS / "huggingface"), "--axis", "epoch", "--chance", "0.01"]) == 0
    assert "test accuracy reaches its threshold at epoch 310" in capsys.readouterr().out


def test_the_curve_of_information_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = np.arange(200)
    bits = 8 * np.exp(-(((np.log(steps + 1) - np.log(30)) / 1.2) ** 2))  # a hump with its top at step 29
    log = tmp_path / "log.csv"
    usual = {f"{split}_accuracy": steps / 200 for split in ("train", "test")} | {"test_loss": 2 - steps / 200}
    pd.DataFrame({"step": steps, **usual, "mi_of_mine": bits}).to_csv(log, index=False)
    assert probe_main(["detect", str(log)]) == 0
    assert "- not recorded: information; pass information= (--information) with the name" in capsys.readouterr().out
    for command in ("detect", "plot", "report"):
        output = ["-o", str(tmp_path / f"{command}.html")] if command == "report" else []
        assert probe_main([command, str(log), *output, "--information", "mi_of_mine"]) == 0
    (found,) = re.findall(r"^0 +compression_onset +(\d+) .* found ", capsys.readouterr().out, re.M)
    assert int(found) == pytest.approx(29, abs=4)
    assert probe_main(["detect", str(log), "--information", "mi"]) == 2
    assert "Expected a variable of" in capsys.readouterr().err


def test_names_are_given_and_missed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = str(LOGS / "tensorboard" / "plain")
    assert probe_main(["detect", log, "--test-accuracy", "Acc/vall"]) == 2
    assert (
        "Expected a logged name for test_accuracy in plain, got 'Acc/vall'; near names: Acc/val"
        in capsys.readouterr().err
    )
    assert probe_main(["detect", log, "--test-loss", "Acc/train"]) == 0
    assert "test_loss is 'Acc/train'" in capsys.readouterr().out
    unclear = tmp_path / "log.csv"
    unclear.write_text("step,val_loss,eval_loss\n" + "".join(f"{i},{i},{i}\n" for i in range(9)))
    assert probe_main(["detect", str(unclear)]) == 2
    assert (
        "Expected one name for test_loss in log.csv, got val_loss and eval_loss; choose one" in capsys.readouterr().err
    )
    assert probe_main(["info", str(unclear)]) == 0
    assert "Note: test_loss is unclear: one of val_loss, eval_loss" in capsys.readouterr().out


def test_damage_is_said_on_stderr_and_in_the_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = next((LOGS / "tensorboard" / "plain").glob("*tfevents*"))
    (tmp_path / whole.name).write_bytes(whole.read_bytes()[:-100])
    assert probe_main(["detect", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "probe detect: warning: Expected complete files, got a damaged one; events.out" in printed.err
    assert "cut off, or still being written" in printed.err
    assert "Note: events.out" in printed.out


RESULTS = LOGS.parents[1] / "reference" / "results"


def test_score_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, controls = (str(RESULTS / f"{name}-probes.nc") for name in ("s5-fast", "variants/control-few"))
    options = [
        "--measures",
        "embedding_rms",
        "local_complexity_total",
        "--at",
        "2000",
        "--out",
        str(tmp_path / "a.json"),
    ]
    assert probe_main(["score", runs, "--controls", controls, *options]) == 0
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "a.json").read_text())
    assert [row["measure"] for row in written["scores"]] == [
        "embedding_rms", "local_complexity_total[train]", "local_complexity_total[test]", "train_loss", "test_loss"
    ]  # fmt: skip
    one = written["scores"][0]
    assert (one["n_runs"], one["n_controls"], one["separates_value"]) == (4, 4, 1)
    assert one["auc_value"] in (0, 1)  # S5 has another embedding
    assert one["auc_value_p"] == pytest.approx(2 / 70)
    assert f"{one['auc_value']:.2f} (p 0.029)" in printed
    assert one["error"] is None
    assert len(written["runs"]) == 5 * 8
    assert all(f"Note: {note}" in printed for note in written["notes"])
    assert probe_main(["score", runs, "--measures", "embedding_rms", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| measure | runs |")


def test_score_of_logs_and_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_main(["score", str(LOGS / "lightning"), "--chance", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "test_loss (baseline)" in printed
    assert "Note: no controls" in printed
    assert "test_accuracy is 'val_acc'" in printed
    assert probe_main(["score", str(LOGS / "huggingface"), "--axis", "epoch"]) == 0
    assert "train_loss (baseline)" in capsys.readouterr().out
    assert probe_main(["score", str(LOGS / "lightning"), "--measures", "tran_loss"]) == 2
    assert "a measure in the curves, got 'tran_loss'; near names: train_loss, test_loss" in capsys.readouterr().err
    assert probe_main(["score", str(LOGS / "lightning"), "--test-loss", "val_los"]) == 2
    assert "near names: val_loss" in capsys.readouterr().err


def test_convert_and_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "run.nc"
    assert probe_main(["convert", str(LOGS / "keras"), str(target)]) == 0
    save(load(target)[["train_loss"]].rename(train_loss="reward"), tmp_path / "other.nc")
    assert probe_main(["detect", str(tmp_path / "other.nc")]) == 2  # no loss and no accuracy
    assert load(target)["train_loss"].attrs["logged_as"] == "train/loss"
    assert probe_main(["convert", str(LOGS / "keras"), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert probe_main(["detect", str(target), "--test-loss", "validation/loss"]) == 0
    assert "test loss has a hump at step" in capsys.readouterr().out
    assert probe_main(["detect", str(target), "--test-loss", "nothing"]) == 2
    assert "got 'nothing'; there are" in capsys.readouterr().err
    assert probe_main(["info", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["variables"]["test_loss"]["observed"] == 55


def grid() -> str:
    """Table with two runs and two splits in columns."""
    rows = ["seed,phase,epoch,loss,accuracy"]
    for seed, late in ((7, 30), (8, 36)):
        for epoch in range(1, 51):
            for phase, middle in (("train", 8), ("val", late)):
                share = 1 / (1 + np.exp(middle - epoch))
                rows.append(f"{seed},{phase},{epoch},{2.3 * (1 - share):.4f},{0.1 + 0.9 * share:.4f}")
    return "\n".join([*rows, ""])


def test_the_page_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(LOGS / "tensorboard" / "plain", tmp_path / "runs")
    shutil.copytree(LOGS / "lightning" / "lightning_logs", tmp_path / "lightning_logs")
    (tmp_path / "grid.csv").write_text(grid())
    monkeypatch.chdir(tmp_path)
    page = (LOGS.parents[1] / "docs" / "logs.md").read_text()
    shown = re.findall(r"^\$ probe (.*)\n((?:(?!\$ |```).*\n)*)", page, re.M)
    assert len(shown) >= 9
    assert "\n    ".join(["", *grid().splitlines()[:3]]) in page
    for command, output in shown:
        probe_main(shlex.split(command))
        printed = capsys.readouterr()
        assert printed.err + printed.out == output, command
    exec("".join(re.findall(r"```python\n(.*?)```", page, re.S)), {})


def test_formats_lists_every_reader(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_main(["formats"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(READERS)


def test_a_verdict_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, out = str(LOGS / "tensorboard" / "plain"), tmp_path / "found"
    assert probe_main(["detect", log, "--out", str(out)]) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert probe_main(["detect", log, "--chance", "0.2", "--out", str(out), "--overwrite"]) == 2
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe_main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("detect", "measure", "score", "controls", "test-accuracy", "state-key"))
    if shell == "bash":
        asks = "COMP_WORDS=(probe detect --test-a); COMP_CWORD=2; _probe; echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", f"{script}\n{asks}"], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["--test-accuracy"]


# Checkpoints

FACTORIES = """
import torch

def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

def data():
    import of_mine_too  # in the same folder
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    return {"train": (x, torch.arange(12) % 2), "test": (x + 1, torch.arange(12) % 2)}
"""


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factories_of_mine.py").write_text(FACTORIES)
    (tmp_path / "of_mine_too.py").write_text("")
    names: dict[str, Any] = {}
    exec(FACTORIES, names)
    model = names["model"]()
    for step in (0, 5, 20):
        with torch.no_grad():
            model[2].bias += step
        wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
        content = {0: model.state_dict(), 5: {"state_dict": wrapped, "step": 5}, 20: {"model": model.state_dict()}}[
            step
        ]
        torch.save(content, tmp_path / f"run1-step{step}.pt")
    yield ["*.pt", "--model", "factories_of_mine:model", "--data", "factories_of_mine:data", "--probes", "WeightsProbe"]
    for name in ("factories_of_mine", "of_mine_too"):
        sys.modules.pop(name, None)


def test_measure_over_checkpoints(checkpoints: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of the saved models."""
    assert probe_main(["measure", *checkpoints, "--out", "run.nc"]) == 0
    series = load("run.nc")
    assert series["step"].values.tolist() == [0, 5, 20]
    names: dict[str, Any] = {}
    exec(FACTORIES, names)
    model, (x, y) = names["model"](), names["data"]()["test"]
    for i, moved in enumerate((0, 5, 25)):
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(model(x) + moved, y)
        assert series["test_loss"].values[i] == pytest.approx(float(loss), rel=1e-4)
    assert series["weight_norm_total"].diff("step").min() > 0 if "weight_norm_total" in series else True
    printed = capsys.readouterr()
    assert printed.out.startswith("3 checkpoints, step 0 to 20: steps from the name\n")
    assert "step 5: run1-step5.pt (the name)" in printed.err
    Path("run1-step5.pt").unlink()
    assert probe_main(["measure", *checkpoints, "--out", "run.nc"]) == 0  # measured already
    assert load("run.nc")["step"].values.tolist() == [0, 5, 20]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["none*.pt"], "Expected checkpoints that match none"),
        (["*.pt", "--step-key", "step"], "Expected an entry 'step' in run1-step0.pt"),
        (["*.pt", "--probes", "Weights"], "Expected the name of a probe, got 'Weights'; there are"),
        (["*.pt", "--probes", "LayerProbe"], "Expected the name of a probe, got 'LayerProbe'; there are"),
        (["*.pt", "--data", "factories_of_mine"], "Expected module:factory"),
        (
            ["*.pt", "--data", "factories_of_yours:data"],
            "in the working folder, got 'factories_of_yours'; give its name",
        ),
        (["*.pt", "--data", "/elsewhere/factories.py:data"], "in the working folder, got '.elsewhere.factories'"),
        (["*.pt", "--model", "./factories_of_mine.py:nothing"], "Expected a function 'nothing' in module factories_of"),
        (["*.pt", "--model", "factories_of_mine:nothing"], "Expected a function 'nothing' in module factories_of_mine"),
        (["*.pt", "--model", "factories_of_mine:data"], "to return a torch.nn.Module, got dict"),
    ],
)
def test_measure_says_what_is_wrong(
    options: list[str], message: str, checkpoints: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe_main(["measure", options[0], *checkpoints[1:], *options[1:]]) == 2
    assert message in capsys.readouterr().err
    assert not Path("probe.nc").exists()


SMALL = replace(DEMO, task=replace(DEMO.task, size=13))  # the demo in every respect but the number of inputs


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """Folder, exit code and output of a demo of seed 3 that is interrupted after step 3."""
    folder, printed, whole = tmp_path_factory.mktemp("demo"), io.StringIO(), Trainer.advance

    def until_three(trainer: Trainer, n: int) -> None:
        if trainer.step == 3:
            raise KeyboardInterrupt
        whole(trainer, n)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(Trainer, "advance", until_three)
        patch.setattr("reference.experiments.demo_command.DEMO", SMALL)
        code = reference_main(["demo", "--out", str(folder), "--steps", "50", "--seed", "3"])
    return folder, code, printed.getvalue()


def test_demo_keeps_what_was_recorded_when_interrupted(
    interrupted: tuple[Path, int, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, code, printed = interrupted
    assert code == 130
    assert "interrupted; recorded until step 3" in printed
    assert printed.startswith(
        "A small transformer learns division modulo 13, seed 3.\nOf its 156 pairs of numbers, 78 "
    )
    assert re.search(r"^step     0: \d+ % of the training answers are right, .*: the network guesses$", printed, re.M)
    verdict, files = printed.index("\n\nToo short to tell: "), printed.index(f"\n\nfigure:   {folder / 'phases.png'}\n")
    assert printed.index("\n- ") < verdict < files < printed.index("docs/results.md")
    assert f"\nreport:   {folder / 'report.html'} (open it" in printed
    assert "Too short to tell" in (folder / "report.html").read_text()
    assert load(folder / "run.nc")["step"].values.tolist() == [0, 1, 2, 3]
    assert (folder / "phases.png").exists()
    assert reference_main(["demo", "--out", str(folder)]) == 2
    assert "--overwrite to replace it" in capsys.readouterr().err


def test_demo_is_the_same_for_a_seed_and_another_for_another(
    interrupted: tuple[Path, int, str], tmp_path: Path
) -> None:
    first = load(interrupted[0] / "run.nc").drop_vars(["seconds", "unwritten"])
    same, completed = run_demo(Demo(seed=3, training=replace(SMALL, steps=1)), tmp_path / "same.nc", progress=False)
    assert completed
    xr.testing.assert_equal(same.drop_vars("seconds"), first.isel(step=[0, 1]))
    other, _ = run_demo(Demo(seed=4, training=replace(SMALL, steps=0)), tmp_path / "other.nc", progress=False)
    assert not other["train_loss"].equals(first["train_loss"].isel(step=[0]))


def test_the_control_of_the_demo_has_permuted_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs: list[TrainConfig] = []

    def without_training(demo: Demo, *_: Any, **options: Any) -> tuple[xr.Dataset, bool]:
        configs.append(demo.training)
        return xr.Dataset(coords={"step": [0]}), True

    monkeypatch.setattr("reference.experiments.demo_command.run_demo", without_training)
    assert reference_main(["demo", "--out", str(tmp_path), "--control"]) == 0
    assert configs == [CONFIGS["control-demo"]] == [replace(DEMO, task=replace(DEMO.task, shuffled=True))]
    printed = capsys.readouterr().out
    assert "learns division modulo 59, answers shuffled, seed 0.\nOf its 3,422 pairs of numbers, 1,711 train" in printed
    assert "for at most 2,000 steps" in printed


def test_demo_of_several_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reference.experiments.demo_command.DEMO", SMALL)
    monkeypatch.setitem(sys.modules, "bokeh", None)  # as if it were not installed
    with joblib.parallel_config(backend="sequential"):
        assert reference_main(["demo", "--out", str(tmp_path), "--steps", "3", "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert [line[:13] for line in printed.splitlines() if line.startswith("seed ")] == [
        "seed 0, step ",
        "seed 1, step ",
    ]
    assert "\n2 of 2 runs: too short to tell. Run 0: " in printed
    assert f"missing; run pip install 'bokeh>=3.4', then: probe report {tmp_path}\n" in printed
    assert sorted(path.name for path in tmp_path.glob("*[!l]")) == ["phases.png", "seed-0.nc", "seed-1.nc"]
    assert read(tmp_path)["run"].values.tolist() == ["seed-0", "seed-1"]


def test_the_story_of_a_demo_in_five_lines() -> None:
    lines: list[str] = []
    send(load(Path(__file__).parents[1] / "reference" / "results" / "demo.nc"), Story(lines.append, "seed 0, "))
    assert [line[:19] for line in lines] == [f"seed 0, step {step:>5}:" for step in ("0", "133", "640", "920", "1,212")]
    assert lines[1].endswith("2 % of the test answers: the network has learnt the training pairs by heart")
    assert lines[2].endswith("the test loss falls: 5.9 nats now, 6.5 at step 511")
    assert lines[4].endswith("the network generalises; I(T+n;X) of its last block has fallen from 9.2 to 7.7 bits")


def test_demo_ends_once_the_training_loss_stays_low(tmp_path: Path) -> None:
    losses = [0.5, 2.0, 0.5, 0.5, 0.5, 0.5]
    trained = []

    def fake(trainer: Trainer, n: int) -> None:
        trainer.loss = losses[len(trained)]
        trained.append(n)

    probes = ProbeSet([])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "advance", fake)
        demo = Demo(training=replace(SMALL, steps=6), threshold=1.0, n_steps=3)
        assert run_demo(demo, tmp_path / "run.nc", progress=False, probes=probes)[1]
    assert len(trained) == 5


def test_demo_observes_log_spaced_and_then_often() -> None:
    schedule = Demo().schedule()
    observed = [step for step in range(3000) if schedule(step)]
    log = {0, *(round(10 ** (i / 24)) for i in range(80))}
    assert observed == sorted(step for step in {*log, *range(400, 2001, 40)} if step <= 2000)
    assert len(observed) == 106


def test_all_markers_of_the_bundled_demo_are_found() -> None:
    """The true steps were read off the curves."""
    series = load(Path(__file__).parents[1] / "reference" / "results" / "demo.nc")
    markers = PhaseDetector().fit(series).markers_.isel(run=0)
    markers = markers.drop_sel(marker=["chaos_end", "cone_entry"])  # their probes were not attached
    assert set(markers["status"].values) == {"found"}
    first = {"fit_end": 133, "generalisation_onset": 600, "descent_onset": 383, "compression_onset": 75, "end": 1_200}
    last = {"fit_end": 147, "generalisation_onset": 750, "descent_onset": 511, "compression_onset": 178, "end": 1_212}
    for name, step in zip(markers["marker"].values, markers["step"].values, strict=True):
        assert first[name] <= step <= last[name], name
    for name, curve in (("test_loss", series["test_loss"]), ("information", series["information_x"][:, 0, -1])):
        after = curve.sel(step=slice(75, None))
        assert after.max() - after[-1] > 0.8 * (after.max() - after.min()), name


# -- names of others ---------------------------------------------------------------------------------------------------

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eabc"


def printed(captured: Any) -> str:
    text = captured.out + captured.err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text), repr(text)
    return str(text)


@pytest.mark.parametrize("command", ["info", "detect", "score", "convert"])
def test_escape_sequences_in_a_log_are_printed_as_text(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "\n".join(f"{step},{step / 30},{step / 40}" for step in range(30))
    path = tmp_path / "log.csv"
    path.write_text(f'step,train_accuracy,"{ESCAPES}"\n{rows}\n{rows[:5]}')
    more = [str(tmp_path / "out.nc")] if command == "convert" else []
    probe_main([command, str(path), *more])
    assert "\\x1b" in printed(capsys.readouterr()) or command in ("detect", "score")
    assert probe_main([command, str(tmp_path / f"{ESCAPES}.csv"), *more]) == 2
    assert "\\x1b]0;title\\x07" in printed(capsys.readouterr())


def test_names_that_the_terminal_cannot_show_are_printed_in_ascii(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    path = tmp_path / "log.csv"
    path.write_text("step,train_accuracy,損失\n1,.5,3\n2,.6,2\n")
    assert probe_main(["info", str(path)]) == 0
    out.flush()
    assert b"\\u640d\\u5931" in out.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")
@pytest.mark.parametrize(
    "name",
    [
        "$a_{b$\\\n",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("$x$^_", "_" + "x" * 200, "two\nlines", "😀", "שלום")),
    ],
)
def test_any_file_name_is_plotted(name: str, unlabelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = unlabelled.rename(unlabelled.with_name(f"{name}.nc"))
    assert probe_main(["plot", str(path)]) == 0, capsys.readouterr().err
    assert path.with_suffix(".png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["$a_{b", "$x$^_"])
def test_any_name_of_a_run_is_plotted(name: str, unlabelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for run in (name, "b"):
        (folder / run).mkdir(parents=True)
        shutil.copy(unlabelled, folder / run / "run.nc")
    assert probe_main(["plot", str(folder)]) == 0


def test_plot_draws_chosen_panels_and_replaces_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from probe import plots

    steps = range(1, 30)
    rows = "".join(f"{step},{1 / step},{2 / step},0.1\n" for step in steps)
    path = tmp_path / "log.csv"
    path.write_text(f"step,train_loss,test_loss,lr\n{rows}")
    labels: list[list[str]] = []
    draw = plots.overview

    def overview(*args: object, **options: object) -> object:
        figure = draw(*args, **options)
        labels.append([ax.get_ylabel() for ax in figure.axes])
        return figure

    monkeypatch.setattr(plots, "overview", overview)
    assert probe_main(["plot", str(path), "--panels", "lr", "train_loss,test_loss"]) == 0, capsys.readouterr().err
    assert labels == [["lr", "loss"]]
    assert probe_main(["plot", str(path)]) == 2
    assert "exists already; choose another name with --output, or pass --overwrite" in capsys.readouterr().err
    assert probe_main(["plot", str(path), "--overwrite", "--panels", "lrate"]) == 2
    assert "near names: lr" in capsys.readouterr().err
    assert probe_main(["plot", str(path), "--overwrite", "--panels", "lr"]) == 0


def test_a_demo_that_cannot_write_its_files_ends_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "demo" / "report.html").mkdir(parents=True)
    assert reference_main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "Expected a folder to write to, got " in capsys.readouterr().err
    assert reference_main(["demo", "--out", str(tmp_path / "demo"), "--overwrite"]) == 2
    assert "report.html as a file to write, got a folder" in capsys.readouterr().err
