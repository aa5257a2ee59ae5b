"""Runs on disk: killed, interrupted, repeated, in parallel; their files and their errors."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
import xarray as xr

import probe
from probe import MutualInfoProbe, PerformanceProbe, PhaseDetector, load
from probe.__main__ import main as probe_main
from probe.recording import read_checked
from probe.recording.lines import decoded_lines, with_checksums
from reference.__main__ import main
from reference.runs import (
    RunFolder,
    RunLockedError,
    collect,
    config_from_json,
    config_to_json,
    launch,
    load_model,
    parse_seeds,
    run,
    stored_steps,
    survey,
    training_loop,
    worker,
)
from reference.runs.job import Job
from reference.runs.recorder import Member, steps_to_store
from reference.training import CONFIGS, ModelConfig, TaskConfig, TrainConfig, Trainer, evaluations, train

ROOT = Path(__file__).parent.parent
TINY = TrainConfig(
    task=TaskConfig(size=7),
    model=ModelConfig(d_model=16, n_heads=2, d_mlp=32),
    steps=20,
    every=2,
    per_decade=0,
    batch_size=16,
)  # 11 evaluations; the journal writes no run.nc at the last one
LOG = replace(TINY, per_decade=5)
CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "train_batch_loss", "train_batch_accuracy")
FORKING = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # torch has one thread in the tests
OK, FAILED, BAD, INTERRUPTED = 0, 1, 2, 130
FILES = ["checkpoint.pt", "lock", "run.nc", "run.nc.journal", "weights"]


@pytest.fixture(scope="module")
def whole() -> dict[int, dict[str, float]]:
    """Curves of seed 3, trained without interruption and without files."""
    return dict(train(TINY, 3))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The configuration as a JSON file."""
    path = tmp_path / "tiny.json"
    path.write_text(config_to_json(TINY))
    return path


def same(folder: Path, whole: dict[int, dict[str, float]]) -> None:
    """Assert that the recorded curves equal these curves bit by bit."""
    for series in (load(folder / "run.nc"), probe.recording.read_netcdf(folder / "run.nc")):
        assert series["step"].values.tolist() == list(whole)
        for name in CURVES:
            assert series[name].values.tolist() == [curves[name] for curves in whole.values()], name


def start(tiny: Path, *options: str, seed: int = 3) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reference", "run", str(tiny), "--seed", str(seed), "--device", "cpu", *options]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # the reference is not installed
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.Popen(
        command, cwd=tiny.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def interrupted(out: Path, *, at: int, config: TrainConfig = TINY, **options: Any) -> None:
    """Interrupt a run between the evaluation at this step and the next one."""
    advance = Trainer.advance

    def stops(self: Trainer, n: int) -> None:
        if self.step == at and n:
            advance(self, 1)
            raise KeyboardInterrupt
        advance(self, n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "advance", stops)
        with pytest.raises(KeyboardInterrupt):
            run(config, [3], out=out, device="cpu", **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of seed 3: finished, and interrupted after the evaluation at step 10. Tests write to copies only."""
    path = tmp_path_factory.mktemp("made")
    run(TINY, [3], out=path / "finished", device="cpu")
    interrupted(path / "unfinished", at=10)
    return path


@pytest.fixture
def unfinished(made: Path, tmp_path: Path) -> Path:
    """Copy of the folder of seed 3, interrupted after the evaluation at step 10."""
    shutil.copytree(made / "unfinished", tmp_path, dirs_exist_ok=True)
    return tmp_path / "custom" / "seed-3"


# --- one run ---------------------------------------------------------------------------------------------------------


def test_a_run_records_what_training_yields(
    tmp_path: Path, whole: dict[int, dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    (outcome,) = run(TINY, [3], out=tmp_path, device="cpu")
    folder = tmp_path / "custom" / "seed-3"
    assert (outcome.status, outcome.step, outcome.folder) == ("done", 20, folder)
    assert "disk: 676 kB (weights of 11 steps for each seed" in capsys.readouterr().out
    same(folder, whole)
    assert sorted(file.name for file in folder.iterdir()) == FILES
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert 0.3e6 < size < 0.75e6  # the announced size


def test_a_finished_run_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(TINY, [3], out=tmp_path, device="cpu")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "custom").rglob("*") if file.is_file()}
    outcomes = run(TINY, [3, 4], out=tmp_path, device="cpu", n_jobs=1)
    assert [(one.seed, one.status) for one in outcomes] == [(3, "skipped"), (4, "done")]
    assert all(file.stat().st_mtime_ns == at for file, at in before.items())
    capsys.readouterr()
    run(TINY, [3], out=tmp_path, device="cpu")
    assert "all seeds are finished" in capsys.readouterr().out
    (tmp_path / "custom" / "seed-3" / "checkpoint.pt").unlink()  # to save disk
    assert run(TINY, [3], out=tmp_path, device="cpu")[0].status == "skipped"


def test_units_names_and_provenance(tmp_path: Path) -> None:
    run(TINY, [3], out=tmp_path, device="cpu", threads=1)
    series = load(tmp_path / "custom" / "seed-3" / "run.nc")
    model, task = load_model(tmp_path / "custom" / "seed-3", 20)
    by_probe = PerformanceProbe().fit(model, {"train": task.train_data, "test": task.test_data}).series_
    for name in CURVES[:4]:
        assert {**series[name].attrs, "estimator": "PerformanceProbe"} == by_probe[name].attrs, name
    assert series["train_batch_loss"].attrs["units"] == "nats"
    assert series["train_batch_accuracy"].attrs["units"] == "1"
    assert "dropout on" in series["train_batch_loss"].attrs["long_name"]
    assert (series["seconds"].sel(probe="evaluation") > 0).all()
    facts = json.loads(series.attrs["provenance"])
    assert config_from_json(json.dumps(facts["config"])) == TINY
    assert (facts["seed"], facts["device"], facts["threads"]) == (3, "cpu", 1)
    assert facts["engine"] == {"name": "solo", "compiled": False}
    assert facts["versions"]["torch"]
    assert "git" in facts


def test_phases_are_found_in_what_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(TINY, [3, 4], out=tmp_path, device="cpu", n_jobs=1)
    path = tmp_path / "custom" / "seed-3" / "run.nc"
    assert probe_main(["detect", str(path)]) == 0
    assert "fitting does not end within the record" in capsys.readouterr().out
    assert PhaseDetector().fit(load(path)).n_runs_ == 1
    assert PhaseDetector().fit(collect(tmp_path / "custom")).n_runs_ == 2


def test_stored_weights_give_the_recorded_curves(
    made: Path, tmp_path: Path, whole: dict[int, dict[str, float]]
) -> None:
    folder = made / "finished" / "custom" / "seed-3"
    assert stored_steps(folder) == TINY.evaluations()
    probes = probe.ProbeSet([MutualInfoProbe()])
    for step in stored_steps(folder):
        model, task = load_model(folder, step)
        assert not model.training
        logits = model(task.test_data[0])
        assert torch.nn.functional.cross_entropy(logits, task.test_data[1]).item() == whole[step]["test_loss"]
    model, task = load_model(folder, 0)
    probes.attach(model, {"train": task.train_data, "test": task.test_data})
    for step in (0, 10, 20):
        model.load_state_dict(load_model(folder, step)[0].state_dict())
        probes.observe(step)
    probes.detach()
    assert probes.series_["information_x"].sizes["step"] == 3
    with pytest.raises(FileNotFoundError, match=r"got 11; choose one of stored_steps\(folder\), nearest: 10, 12, 8"):
        load_model(folder, 11)
    with pytest.raises(FileNotFoundError, match=r"got no run\.nc"):
        load_model(tmp_path, 0)


@pytest.mark.parametrize(("store_weights", "steps"), [("log", steps_to_store(LOG, "log")), ("none", [])])
def test_fewer_weights(tmp_path: Path, store_weights: str, steps: list[int]) -> None:
    assert store_weights == "none" or steps == [0, 1, 2, 3, 4, 6, 10, 16, 20]
    run(LOG, [3], out=tmp_path, device="cpu", store_weights=store_weights)
    assert stored_steps(tmp_path / "custom" / "seed-3") == steps


# --- killed, interrupted, continued ----------------------------------------------------------------------------------


def until_done(tiny: Path, delays: Sequence[float], *options: str) -> int:
    """Kill after each delay from the first new evaluation, then let the run end; return the number of kills."""
    killed = 0
    journal = tiny.parent / "runs" / "tiny" / "seed-3" / "run.nc.journal"
    for delay in delays:
        before = journal.stat().st_size if journal.exists() else -1
        process = start(tiny, *options)
        while process.poll() is None and (journal.stat().st_size if journal.exists() else -1) == before:
            time.sleep(0.002)
        time.sleep(delay)
        killed += process.poll() is None
        process.kill()
        process.communicate()
    process = start(tiny, *options)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == OK, output
    return killed


@FORKING
def test_a_run_killed_again_and_again(tmp_path: Path) -> None:
    """Kill forks at random times, with a checkpoint at each evaluation."""
    longer, draw, killed = replace(TINY, steps=80), random.Random(2), 0
    for _ in range(8):
        process = multiprocessing.get_context("fork").Process(target=_going, args=(tmp_path, longer))
        process.start()
        process.join(draw.uniform(0.02, 0.3))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed >= 3
    assert run(longer, [3], out=tmp_path, device="cpu", checkpoint_seconds=0)[0].status in ("done", "skipped")
    trainer = Trainer(longer, 3)
    same(tmp_path / "custom" / "seed-3", {e.step: e.curves for (e,) in evaluations(trainer, longer)})
    model, _ = load_model(tmp_path / "custom" / "seed-3", 80)
    for (name, value), other in zip(model.state_dict().items(), trainer.model.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def _going(out: Path, config: TrainConfig) -> None:
    run(config, [3], out=out, device="cpu", checkpoint_seconds=0)


@pytest.mark.slow
def test_killed_commands_resume_bit_by_bit(tiny: Path) -> None:
    """With a checkpoint at each evaluation, many kills happen while a file is written."""
    longer = replace(TINY, steps=400)
    tiny.write_text(config_to_json(longer))
    delays = [0.0, 0.02, *(random.Random(1).uniform(0.1, 0.7) for _ in range(3))]
    assert until_done(tiny, delays, "--checkpoint-seconds", "0") >= 3
    trainer = Trainer(longer, 3)
    same(tiny.parent / "runs" / "tiny" / "seed-3", {e.step: e.curves for (e,) in evaluations(trainer, longer)})
    model, _ = load_model(tiny.parent / "runs" / "tiny" / "seed-3", 400)
    for (name, value), other in zip(model.state_dict().items(), trainer.model.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert not list(tiny.parent.glob("runs/tiny/seed-3/**/*.tmp"))


@pytest.mark.slow
def test_killed_before_the_first_checkpoint_starts_anew(tiny: Path) -> None:
    longer = replace(TINY, steps=400)
    tiny.write_text(config_to_json(longer))
    assert until_done(tiny, [0.0, 0.1]) == 2
    same(tiny.parent / "runs" / "tiny" / "seed-3", dict(train(longer, 3)))


@pytest.mark.parametrize(
    ("moment", "nth", "seconds"),
    [
        *[(moment, 4, 0.0) for moment in ("record", "store_weights", "save", "replace")],
        ("close", 1, 60.0),
        pytest.param("record", 11, 60.0, marks=pytest.mark.slow),  # the last evaluation, no checkpoint before
        pytest.param("save", 1, 60.0, marks=pytest.mark.slow),
        *[pytest.param(moment, 1, 0.0, marks=pytest.mark.slow) for moment in ("record", "save")],
        *[pytest.param(moment, 1, 0.0, marks=pytest.mark.slow) for moment in ("store_weights", "replace", "close")],
        pytest.param("store_weights", 11, 60.0, marks=pytest.mark.slow),
    ],
)
@FORKING
def test_stopped_in_the_middle_of_each_write(
    tmp_path: Path, whole: dict[int, dict[str, float]], moment: str, nth: int, seconds: float
) -> None:
    """A process kills itself at each kind of write, and the run resumes."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_dying, args=(tmp_path, moment, nth, seconds))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert run(TINY, [3], out=tmp_path, device="cpu")[0].status in ("done", "skipped")
    same(tmp_path / "custom" / "seed-3", whole)
    assert stored_steps(tmp_path / "custom" / "seed-3") == TINY.evaluations()


def _dying(out: Path, moment: str, nth: int, seconds: float) -> None:
    from probe.recording import Journal

    owner = {"record": Journal, "close": Journal, "store_weights": RunFolder, "save": RunFolder, "replace": os}[moment]
    original = getattr(owner, moment)
    calls = 0

    def dies(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, moment, dies)
    run(TINY, [3], out=out, device="cpu", checkpoint_seconds=seconds)


def test_an_incomplete_last_line_of_the_journal_is_trained_again(
    unfinished: Path, tmp_path: Path, whole: dict[int, dict[str, float]]
) -> None:
    with open(unfinished / "run.nc.journal", "ab") as file:
        file.write(b'{"kind": "record", "step": 12, "val')
    run(TINY, [3], out=tmp_path, device="cpu")
    same(tmp_path / "custom" / "seed-3", whole)


def test_an_interrupted_run_is_saved_and_continues(
    tmp_path: Path, whole: dict[int, dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, at=10)
    assert "seed 3: interrupted; saved at step 10" in capsys.readouterr().out
    folder = tmp_path / "custom" / "seed-3"
    assert stored_steps(folder)[-1] == 10
    assert probe.recording.read_netcdf(folder / "run.nc")["step"].values[-1] == 10
    with RunFolder(folder).locked():
        pass
    run(TINY, [3], out=tmp_path, device="cpu")
    assert "seed 3: continues after step 10" in capsys.readouterr().out
    same(folder, whole)


def test_a_recording_that_lacks_a_newer_field_continues(
    unfinished: Path, tmp_path: Path, whole: dict[int, dict[str, float]]
) -> None:
    """Fields of a configuration that were added later have their defaults."""
    folder = unfinished
    journal, checkpoint = folder / "run.nc.journal", folder / "checkpoint.pt"
    text = re.sub('"crc": "[0-9a-f]{8}", ', "", journal.read_text())
    for field in (', "norm": "pre"', ', "clip_norm": null'):
        assert field in text
        text = text.replace(field, "").replace(field.replace('"', '\\"'), "")
    journal.write_text(text)
    assert "norm" not in text
    saved = torch.load(checkpoint, weights_only=True)
    del saved["config"]["model"]["norm"], saved["config"]["clip_norm"], saved["digest"]
    torch.save(saved, checkpoint)
    assert run(TINY, [3], out=tmp_path, device="cpu")[0].status == "done"
    same(folder, whole)
    with pytest.raises(ValueError, match=r"config\.model\.norm is 'pre' there and 'post' here"):
        run(replace(TINY, model=replace(TINY.model, norm="post")), [3], out=tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"config\.clip_norm is None there and 0\.5 here"):
        run(replace(TINY, clip_norm=0.5), [3], out=tmp_path, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt_the_command(tiny: Path, number: signal.Signals) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("the tests run in the background of a shell, which makes their processes ignore SIGINT")
    tiny.write_text(config_to_json(replace(TINY, steps=100_000)))
    process = start(tiny)
    folder = tiny.parent / "runs" / "tiny" / "seed-3"
    try:
        while len(stored_steps(folder)) < 5:
            time.sleep(0.01)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED
    assert "the same command continues" in output
    assert (folder / "checkpoint.pt").exists()


def test_records_after_the_checkpoint_are_dropped(unfinished: Path, tmp_path: Path) -> None:
    folder = RunFolder(unfinished)
    folder.store_weights(16, {})
    journal = folder.path / "run.nc.journal"
    later = b'{"kind": "record", "step": 16, "values": {"test_loss": 0.0}}'
    *_, last = decoded_lines(journal)
    journal.write_bytes(journal.read_bytes() + with_checksums([later], last.checksum)[0][0])
    assert load(folder.series)["step"].values[-1] == 16
    interrupted(tmp_path, at=10)
    assert stored_steps(folder.path)[-1] == load(folder.series)["step"].values[-1] == 10


def test_without_weights_an_interrupted_run_continues_from_its_last_checkpoint(
    tmp_path: Path, whole: dict[int, dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(tmp_path, at=10, store_weights="none")
    assert "saved at step 0" in capsys.readouterr().out
    run(TINY, [3], out=tmp_path, device="cpu", store_weights="none")
    same(tmp_path / "custom" / "seed-3", whole)
    assert "not stored" not in capsys.readouterr().out
    run(TINY, [3], out=tmp_path, device="cpu")
    assert "the weights of 11 earlier evaluations were not stored" in capsys.readouterr().out


def test_changes_on_resumption_are_printed_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interrupted(tmp_path, at=16)
    run(TINY, [3], out=tmp_path, device="cpu", ensemble=True, threads=2)
    output = capsys.readouterr().out
    assert "the curve continues, but not bit by bit: engine was {'name': 'solo'" in output
    assert "threads was 1, is 2" in output
    (resumed,) = json.loads(load(tmp_path / "custom" / "seed-3" / "run.nc").attrs["provenance"])["resumed"]
    assert resumed["engine"]["seeds"] == [3]
    assert torch.get_num_threads() == 1


# --- many runs -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_of_processes(tmp_path: Path, whole: dict[int, dict[str, float]]) -> None:
    outcomes = run(TINY, "2-4", out=tmp_path, device="cpu", n_jobs=2)
    assert [(one.seed, one.status) for one in outcomes] == [(2, "done"), (3, "done"), (4, "done")]
    same(tmp_path / "custom" / "seed-3", whole)
    joblib.externals.loky.get_reusable_executor().shutdown()


@pytest.mark.slow
def test_jobs_on_dask(tmp_path: Path, whole: dict[int, dict[str, float]]) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        outcomes = run(TINY, [3, 4], out=tmp_path, device="cpu")
    assert [one.status for one in outcomes] == ["done", "done"]
    same(tmp_path / "custom" / "seed-3", whole)


def test_how_many_jobs() -> None:
    assert launch._groups([0, 1, 2], None, "cpu", False) == ([[0], [1], [2]], min(3, joblib.cpu_count()))
    assert launch._groups([0, 1, 2], 2, "cpu", False) == ([[0], [1], [2]], 2)
    assert launch._groups([0, 1, 2, 3, 4], 2, "cuda", True) == ([[0, 1, 2], [3, 4]], 2)
    assert launch._groups([], 2, "cpu", False) == ([], 1)
    with joblib.parallel_config(n_jobs=3):
        assert launch._groups([0, 1, 2, 3], None, "cpu", False)[1] == 3


def test_one_gpu_for_each_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    groups, n_jobs = launch._groups(range(5), None, "cuda", True)
    assert (groups, n_jobs) == ([[0, 1, 2], [3, 4]], 2)
    assert [a_job(number=number, device="cuda").torch_device().index for number in range(3)] == [0, 1, 0]


def a_job(**changes: Any) -> Job:
    default: dict[str, Any] = {
        "name": "custom", "config": TINY, "seeds": (0,), "folder": Path(), "device": "cpu", "number": 0,
        "ensemble": False, "compiled": None, "threads": 1, "store_weights": "all",
        "checkpoint_seconds": 60.0, "bar": False,
    }  # fmt: skip
    return Job(**{**default, **changes})


def test_an_ensemble_of_seeds_at_different_steps(tmp_path: Path) -> None:
    """Members that are behind are trained first, then all together; each is close to its run alone."""
    interrupted(tmp_path, at=10)  # seed 3, by the other engine
    outcomes = run(TINY, [3, 4, 5], out=tmp_path, device="cpu", ensemble=True, n_jobs=1, store_weights="none")
    assert [one.status for one in outcomes] == ["done"] * 3
    assert [load(one.folder / "run.nc")["step"].values.tolist() for one in outcomes] == [TINY.evaluations()] * 3
    alone = run(TINY, [4], out=tmp_path / "alone", device="cpu", ensemble=True)[0].folder
    a, b = (load(folder / "run.nc").drop_vars("seconds") for folder in (tmp_path / "custom" / "seed-4", alone))
    xr.testing.assert_allclose(a, b, rtol=1e-3)
    assert stored_steps(outcomes[1].folder) == []
    model, task = load_model(alone, 20)
    loss = torch.nn.functional.cross_entropy(model(task.test_data[0]), task.test_data[1]).item()
    assert loss == pytest.approx(b["test_loss"].values[-1].item(), rel=1e-5)


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_recorded_and_the_others_continue(
    tiny: Path,
    whole: dict[int, dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    advance = Trainer.advance

    def spoilt(self: Trainer, n: int) -> None:
        if self.seeds == [3] and self.step == 10:
            with torch.no_grad():
                self.model.head.weight.fill_(torch.nan)
        advance(self, n)

    out = tiny.parent / "runs"
    arguments = ["run", str(tiny), "--seeds", "3,4", "--jobs", "1", "--device", "cpu", "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", spoilt)
        assert main(arguments) == FAILED
    output = capsys.readouterr().out
    assert "seed 3: failed (step 10): FloatingPointError: Expected a finite loss" in output
    assert "1 done, 0 skipped, 1 failed" in output
    failure = out / "tiny" / "seed-3" / "failed.txt"
    assert failure.read_text().startswith("failed after step 10\n\nTraceback")
    assert survey(out / "tiny")[3] == "unfinished, recorded until step 10 of 20; failed after step 10"
    assert main(arguments) == OK
    assert "1 done, 1 skipped, 0 failed" in capsys.readouterr().out
    assert not failure.exists()
    same(failure.parent, whole)


def test_a_very_large_rate_fails(tmp_path: Path) -> None:
    (outcome,) = run(replace(TINY, lr=1e30), [3], out=tmp_path, device="cpu")
    assert outcome.status == "failed"
    assert "finite" in outcome.message
    assert (outcome.folder / "failed.txt").exists()


def test_one_member_of_an_ensemble_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reference.training.ensemble import Ensemble

    advance = Ensemble.advance

    def spoilt(self: Any, n: int) -> None:
        if self.step == 10:
            states = self.states()
            states[1].parameters["head.weight"].fill_(torch.nan)
            self.load(states)
        advance(self, n)

    monkeypatch.setattr(Ensemble, "advance", spoilt)
    outcomes = run(TINY, [3, 4, 5], out=tmp_path, device="cpu", ensemble=True, n_jobs=1)
    assert [one.status for one in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].step == 10
    series = load(outcomes[1].folder / "run.nc")
    assert series["step"].values[-1] == 10
    assert np.isfinite(series["train_loss"]).all()
    assert RunFolder(outcomes[1].folder).run_state(TINY, 4).step == 10
    for good in (outcomes[0], outcomes[2]):
        assert load(good.folder / "run.nc")["step"].values[-1] == 20
        assert not (good.folder / "failed.txt").exists()


def test_a_loss_that_was_not_finite_between_evaluations_fails_its_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reference.training.ensemble import Ensemble

    advance = Ensemble.advance

    def spiked(self: Any, n: int) -> None:
        advance(self, n)
        if self.step == 12:
            self.finite[0] = False

    monkeypatch.setattr(Ensemble, "advance", spiked)
    outcomes = run(TINY, [3, 4], out=tmp_path, device="cpu", ensemble=True, n_jobs=1)
    assert [one.status for one in outcomes] == ["failed", "done"]
    assert "got one that is not finite between the steps 10 and 12" in outcomes[0].message


@pytest.mark.parametrize(
    ("method", "step"), [pytest.param("store_weights", 10, marks=pytest.mark.slow), ("store_weights", 20), ("save", 20)]
)
def test_a_file_that_cannot_be_written_fails_its_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, step: int
) -> None:
    original = getattr(RunFolder, method)

    def full(self: RunFolder, *args: Any) -> None:
        at = args[0] if method == "store_weights" else args[2].step
        if self.path.name == "seed-3" and at == step:
            raise OSError(28, "No space left on device")
        original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, method, full)
        outcomes = run(TINY, [3, 4], out=tmp_path, device="cpu", ensemble=True, n_jobs=1)
    assert [one.status for one in outcomes] == ["failed", "done"]
    assert "No space left" in outcomes[0].message
    assert (outcomes[0].folder / "failed.txt").exists()
    assert run(TINY, [3], out=tmp_path, device="cpu", ensemble=True)[0].status in ("done", "skipped")
    assert (
        load(outcomes[0].folder / "run.nc")["step"].values.tolist()
        == stored_steps(outcomes[0].folder)
        == TINY.evaluations()
    )


def test_an_interruption_saves_all_that_can_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from reference.training.ensemble import Ensemble

    advance, save = Ensemble.advance, RunFolder.save

    def stops(self: Any, n: int) -> None:
        if self.step == 4:
            raise KeyboardInterrupt
        advance(self, n)

    def full(self: RunFolder, *args: Any) -> None:
        if self.path.name == "seed-3":
            raise OSError(28, "No space left on device")
        save(self, *args)

    monkeypatch.setattr(Ensemble, "advance", stops)
    monkeypatch.setattr(RunFolder, "save", full)
    with pytest.raises(KeyboardInterrupt):
        run(TINY, [3, 4], out=tmp_path, device="cpu", ensemble=True, n_jobs=1)
    output = capsys.readouterr().out
    assert "seed 3: interrupted; could not be saved ([Errno 28] No space" in output
    assert "seed 4: interrupted; saved at step 4" in output
    assert RunFolder(tmp_path / "custom" / "seed-4").run_state(TINY, 4).step == 4


def test_a_worker_without_a_gpu_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (outcome,) = worker.work(a_job(device="cuda", folder=tmp_path))
    assert (outcome.status, list(tmp_path.iterdir())) == ("failed", [])
    assert "Expected a GPU on the machine of this worker" in outcome.message


def test_the_checkpoint_is_never_ahead_of_the_journal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "seed-3")
    with folder.locked():
        member = Member(folder, TINY, 3, store_weights="none", job_provenance=a_job().provenance())
        trainer = Trainer(TINY, 3)
        member.write(0, trainer.states()[0], trainer.evaluate()[0], 0.1, checkpoint=False)
        trainer.advance(1)
        with pytest.raises(OSError, match="Expected the curves of step 1 in"):
            member._save(trainer.states()[0])


@pytest.mark.parametrize("compiling", [False, True])
def test_out_of_memory_reports_how_many_seeds_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiling: bool
) -> None:
    def crowded(*_: Any, **__: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def wrapped(*_: Any) -> Any:
        try:
            crowded()
        except RuntimeError:
            raise RuntimeError("the compiler failed") from None

    monkeypatch.setattr(training_loop, "make_engine", wrapped if compiling else crowded)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10_500, 20_000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 1_100)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    outcomes = run(TINY, range(3), out=tmp_path, device="cpu", ensemble=True, n_jobs=1)
    assert [one.status for one in outcomes] == ["failed"] * 3
    assert "Expected 3 seeds to fit in the memory of one GPU, got out of memory" in outcomes[0].message
    assert "about 10 would fit" in outcomes[0].message
    monkeypatch.setattr("reference.training.ensemble.Ensemble", crowded)
    assert worker.seeds_that_fit(TINY, torch.device("cpu")) == 0


# --- bad input -------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 2e-3}, "config.lr is 0.001 there and 0.002 here"),
        ({"steps": 70}, "config.steps is 20 there and 70 here"),
        ({"model": replace(TINY.model, d_mlp=64)}, "config.model.d_mlp is 32 there and 64 here"),
        ({"precision": "bfloat16"}, "config.precision is 'float32' there"),
    ],
)
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_another_configuration_is_refused(made: Path, tmp_path: Path, changed: Any, message: str, state: str) -> None:
    shutil.copytree(made / state, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        run(replace(TINY, **changed), [2, 3], out=tmp_path, device="cpu")
    assert "give --out FOLDER to train this configuration elsewhere, or give the recorded" in str(error.value)
    assert contents(tmp_path) == before


def test_a_folder_of_another_seed_is_refused(unfinished: Path, tmp_path: Path) -> None:
    unfinished.rename(tmp_path / "custom" / "seed-4")
    with pytest.raises(ValueError, match="seed is 3 there and 4 here"):
        run(TINY, [4], out=tmp_path, device="cpu")


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_one_flipped_bit_in_a_checkpoint_is_an_error(unfinished: Path, tmp_path: Path, place: float) -> None:
    path = unfinished / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"got a damaged or incomplete file \(ValueError\); restore it, or delete it"):
        run(TINY, [3], out=tmp_path, device="cpu")
    assert contents(tmp_path) == before


def test_a_checkpoint_without_digest_continues_and_says_so(
    unfinished: Path, tmp_path: Path, whole: dict[int, dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = unfinished / "checkpoint.pt"
    path.write_bytes(read_checked(path)[0])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        run(TINY, [3], out=tmp_path, device="cpu")
    saved = torch.load(path, weights_only=True)
    del saved["digest"]
    torch.save(saved, path)
    run(TINY, [3], out=tmp_path, device="cpu")
    assert "seed 3: checkpoint.pt has no digest, as of an older version; damage would not be" in capsys.readouterr().out
    same(unfinished, whole)


def test_one_flipped_bit_in_stored_weights_is_an_error(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "seed-3"
    shutil.copytree(made / "finished" / "custom" / "seed-3", folder)
    file = folder / "weights" / "10.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"Expected weights in .*10\.pt, got a damaged or incomplete file"):
        load_model(folder, 10)
    load_model(folder, 8)


def test_error_for_an_incomplete_checkpoint(unfinished: Path, tmp_path: Path) -> None:
    path = unfinished / "checkpoint.pt"
    complete = path.read_bytes()
    for share in (0.0, 0.5, 0.99):
        path.write_bytes(complete[: int(share * len(complete))])
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=r"restore it, or delete it to start this run anew\. Nothing was changed"):
            run(TINY, [3], out=tmp_path, device="cpu")
        assert contents(tmp_path) == before
    path.unlink()
    assert run(TINY, [3], out=tmp_path, device="cpu")[0].status == "done"


@pytest.mark.parametrize("lost", ["all", "last line"])
def test_error_for_a_journal_behind_the_checkpoint(unfinished: Path, tmp_path: Path, lost: str) -> None:
    path = unfinished / "run.nc.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    if lost == "all":
        path.unlink()
    with pytest.raises(ValueError, match=r"until step 10, the step of the checkpoint.*delete checkpoint.pt"):
        run(TINY, [3], out=tmp_path, device="cpu")


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "custom" / "seed-3")
    with folder.locked():
        assert folder.lock.read_text() == f"{os.getpid()}\n"
        with pytest.raises(RunLockedError), folder.locked():
            pass
        outcomes = run(TINY, [2, 3], out=tmp_path, device="cpu", n_jobs=1)
    assert [one.status for one in outcomes] == ["done", "failed"]
    assert f"no other process in custom/seed-3, got one that trains there (pid {os.getpid()})" in outcomes[1].message
    assert list(folder.path.iterdir()) == [folder.lock]
    folder.lock.write_text("1\n")  # left by a killed process; process 1 exists
    assert run(TINY, [3], out=tmp_path, device="cpu")[0].status == "done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "--seed", "0"], "choose one of: paper-division, paper-s5"),
        (["nothing.json", "--seed", "0"], "got no such file"),
        (["division-97", "--seeds", "7-3"], "0,3,5 or 0-7, got '7-3'"),
        (["division-97", "--seeds", "a"], "got 'a'"),
        (["division-97", "--seed", str(2**31)], "Expected seeds below 2**31"),
        (["division-97", "--seed", "0", "--jobs", "0"], "Expected --jobs of at least 1, got 0"),
        (["division-97", "--seed", "0", "--threads", "0"], "Expected --threads of at least 1, got 0"),
        (["division-97", "--seed", "0", "--out", __file__], "to be a folder, got the file"),
        (["division-97", "--seed", "-1"], "at least one seed, an integer from 0, got [-1]"),
        (["division-97", "--seed", "0", "--steps", "-1"], "Expected steps of at least 0, got -1"),
        (
            ["division-97", "--seed", "0", "--precision", "tf32", "--device", "cpu"],
            "Expected a precision that a CPU has, got tf32",
        ),
    ],
)
def test_bad_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", *arguments]) == BAD
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="Expected a GPU for device cuda, got a machine"):
        run(TINY, [0], out=tmp_path, device="cuda")
    with pytest.raises(ValueError, match="among auto, cpu, cuda, got 'tpu'"):
        run(TINY, [0], out=tmp_path, device="tpu")
    with pytest.raises(ValueError, match=r"Expected a list of seeds, got 3; give \[3\], or range\(3\)"):
        run(TINY, 3, out=tmp_path, device="cpu")  # type: ignore[arg-type]


def test_error_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 500_000})
    monkeypatch.setattr(launch.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        ValueError, match=r"Expected 676 kB of free disk space for 1 runs, got 500 kB.*--store-weights log"
    ):
        run(TINY, [0], out=tmp_path, device="cpu")
    assert run(TINY, [0], out=tmp_path, device="cpu", store_weights="none")[0].status == "done"


# --- configurations and seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [*CONFIGS.values(), TINY, replace(TINY, lr=1e30, betas=(0.0, 0.5))])
def test_configurations_survive_json(config: TrainConfig) -> None:
    assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize("shuffled", [True, False])
def test_shuffled_survives_json(shuffled: bool) -> None:
    word = str(shuffled).lower()
    config = config_from_json(f'{{"task": {{"shuffled": {word}}}}}')
    assert config.task.shuffled is shuffled
    assert f'"shuffled": {word}' in config_to_json(config)


def test_what_json_leaves_out_has_its_default() -> None:
    assert config_from_json('{"steps": 60, "lr": 1}') == TrainConfig(steps=60, lr=1.0)
    assert config_from_json('{"clip_norm": 1}') == TrainConfig(clip_norm=1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "as JSON, got a text that is not JSON"),
        ("[]", r"an object with fields as the configuration, got \[\]"),
        ('{"rate": 1}', r"Expected fields among task, model, .* got rate; correct or remove it"),
        ('{"model": {"width": 1}}', "got model.width"),
        ('{"model": 3}', "an object with fields as model, got 3"),
        ('{"steps": "60"}', "Expected an integer as steps, got '60'"),
        ('{"steps": true}', "Expected an integer as steps, got True"),
        ('{"lr": null}', "Expected a number as lr, got None"),
        ('{"clip_norm": true}', "Expected a number or null as clip_norm, got True"),
        ('{"betas": [0.9]}', r"Expected two numbers as betas, got \[0.9\]"),
        ('{"task": {"operation": "addition"}}', "Expected an operation among"),
        ('{"task": {"shuffled": 1}}', "Expected true or false as task.shuffled, got 1"),
        ('{"task": {"shuffled": 0.0}}', "Expected true or false as task.shuffled, got 0.0"),
        ('{"task": {"shuffled": "true"}}', "Expected true or false as task.shuffled, got 'true'"),
        ('{"task": {"shuffled": null}}', "Expected true or false as task.shuffled, got None"),
    ],
)
def test_bad_configurations(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_json(text)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("8", range(8)), ("0,3,5", [0, 3, 5]), ("0-7", range(8)), ("0-2, 7", [0, 1, 2, 7]), ("1", [0]), ("5,", None)],
)
def test_seeds(text: str, seeds: Sequence[int] | None) -> None:
    if seeds is None:
        with pytest.raises(ValueError, match="Expected seeds such as 8"):
            parse_seeds(text)
    else:
        assert parse_seeds(text) == list(seeds)


def test_the_documented_table() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    rows = re.findall(r"^\| `([\w.-]+)` \|.*\| ([\d,]+), ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.M)
    found = {name: [int(number.replace(",", "")) for number in numbers] for name, *numbers in rows}
    made = {name: (config, config.task.make(0)) for name, config in CONFIGS.items()}
    assert found == {
        name: [len(task.train), len(task.test), config.steps, len(config.evaluations())]
        for name, (config, task) in made.items()
    }


def test_the_documented_measuring(made: Path) -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {}
    exec(code.replace("runs/division-97/seed-3", str(made / "finished" / "custom" / "seed-3")), names)
    assert names["information"].sizes["step"] == len(TINY.evaluations())


# --- collect ---------------------------------------------------------------------------------------------------------


def test_collect_merges_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(TINY, [10, 2], out=tmp_path, device="cpu", n_jobs=1)
    interrupted(tmp_path, at=10)
    (tmp_path / "custom" / "seed-4").mkdir()
    merged = collect(tmp_path / "custom")
    assert merged["run"].values.tolist() == merged["seed"].values.tolist() == [2, 3, 10]
    assert merged["observations"].values.tolist() == [11, 6, 11]
    assert merged["finished"].values.tolist() == [1, 0, 1]
    assert merged["test_loss"].notnull().sum("step").values.tolist() == [11, 6, 11]
    alone = load(tmp_path / "custom" / "seed-10" / "run.nc")
    for name in CURVES:
        assert merged[name].sel(run=10).values.tolist() == alone[name].values.tolist()
    assert [json.loads(one)["seed"] for one in json.loads(merged.attrs["provenance"])] == [2, 3, 10]
    assert main(["collect", str(tmp_path / "custom")]) == OK
    output = capsys.readouterr().out
    assert "seed 3: unfinished, recorded until step 10 of 20" in output
    assert "seed 4: nothing recorded yet" in output
    assert "(3 runs, 2 of them finished, 11 steps)" in output
    again = load(tmp_path / "custom.nc")
    xr.testing.assert_equal(again, merged)
    assert again["run"].dtype.kind == again["seed"].dtype.kind == "i"


def test_collect_needs_runs_of_one_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", str(tmp_path / "none")]) == BAD
    assert "which does not exist" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "demo")]) == BAD
    assert "Not a directory" in capsys.readouterr().err
    assert main(["collect", str(tmp_path)]) == BAD
    assert "got none" in capsys.readouterr().err
    run(TINY, [3], out=tmp_path, device="cpu")
    run(replace(TINY, steps=2), [4], out=tmp_path, device="cpu")
    with pytest.raises(ValueError, match="got several: steps is 20 for seed 3 and 2 for seed 4"):
        collect(tmp_path / "custom")


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("reference.runs.progress_bar.time.monotonic", lambda: now[0])
    return now


def test_progress_in_lines(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    from reference.runs.progress_bar import Progress

    progress = Progress("tiny", 10_000, bar=False)
    for second in range(21):
        clock[0] = second
        progress.show(100 * second, [3, 4], [0.5, 0.7])
    assert capsys.readouterr().out == (
        "tiny 2 seeds: step 1,500/10,000, 100 steps/s, ETA 0:01:25, test accuracy 0.600\n"
    )


def test_progress_as_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    from reference.runs.progress_bar import Progress

    progress = Progress("tiny", 60, bar=True)
    progress.show(30, [3], [0.5])
    progress.show(60, [3], [0.75])
    progress.close()
    output = capsys.readouterr().err
    assert "tiny seed 3: 100%" in output
    assert "test accuracy 0.750" in output
