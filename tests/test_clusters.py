"""Clusters: runs and checkpoints on workers of Dask and Ray, some of which are killed."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
import xarray as xr
from torch import nn

import probe
from probe import ActivationsProbe, WeightsProbe, load, over_checkpoints
from probe.workers import in_parallel
from reference.runs import run, stored_steps
from reference.training import ModelConfig, TaskConfig, TrainConfig, train

ROOT = Path(__file__).parent.parent
ANY_PORT = {"dashboard_address": ":0"}
TINY = TrainConfig(
    task=TaskConfig(size=7),
    model=ModelConfig(d_model=16, n_heads=2, d_mlp=32),
    steps=60,
    every=2,
    per_decade=0,
    batch_size=16,
)
CURVES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "train_batch_loss", "train_batch_accuracy")
X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
DATA = {"train": (X[:30], (X[:30, 0] > 0).long()), "test": (X[30:], (X[30:, 0] > 0).long())}
PROBES = [WeightsProbe(), ActivationsProbe()]
STEPS = tuple(range(10))


def made(step: int) -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    return model


def made_or_killed(folder: Path, caller: int, deaths: int, step: int) -> nn.Module:
    """Return the model of a step. At step 5, the first processes that come there die, the caller excepted."""
    if step == 5 and os.getpid() != caller and (n := len(list(folder.iterdir()))) < deaths:
        (folder / f"{n}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return made(step)


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_equal(found.drop_vars("seconds"), expected.drop_vars("seconds"))


@pytest.fixture
def expected() -> xr.Dataset:
    return over_checkpoints(made, PROBES, DATA, steps=STEPS, n_jobs=1)


@pytest.fixture
def deaths(tmp_path: Path) -> Path:
    """Return a folder with a file for each killed worker."""
    (tmp_path / "deaths").mkdir()
    return tmp_path / "deaths"


# -- without a cluster ------------------------------------------------------------------------------------------------


def _tenfold(i: int, offset: int) -> int:
    return 10 * i + offset


@pytest.mark.parametrize("backend", ["threading", "multiprocessing", "sequential"])
def test_results_have_the_order_of_the_tasks(backend: str) -> None:
    with joblib.parallel_config(backend):
        assert list(in_parallel(_tenfold, [(i, 1) for i in range(5)], 2)) == [1, 11, 21, 31, 41]
        assert list(in_parallel(_tenfold, [], 2)) == []


def test_threads_measure_checkpoints_one_after_the_other(expected: xr.Dataset) -> None:
    """Dask gives its workers several threads by default."""
    with joblib.parallel_config("threading", n_jobs=3):
        assert_same(over_checkpoints(made, PROBES, DATA, steps=STEPS[:4]), expected.isel(step=slice(4)))


@pytest.mark.slow
def test_threads_train_several_seeds(tmp_path: Path) -> None:
    short = replace(TINY, steps=20)
    with joblib.parallel_config("threading", n_jobs=2):
        outcomes = run(short, [0, 1], out=tmp_path, device="cpu")
    assert [one.status for one in outcomes] == ["done"] * 2
    for one in outcomes:
        assert_curves(one.folder, dict(train(short, one.seed)))


def assert_curves(folder: Path, whole: dict[int, dict[str, float]]) -> None:
    """Assert that a run has each evaluation once, bit for bit, with its weights."""
    for series in (load(folder / "run.nc"), probe.recording.read_netcdf(folder / "run.nc")):
        assert series["step"].values.tolist() == list(whole)
        for name in CURVES:
            assert series[name].values.tolist() == [curves[name] for curves in whole.values()], name
    assert stored_steps(folder) == list(whole)
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.slow
def test_a_killed_process_is_an_error_and_the_same_call_continues(
    deaths: Path, expected: xr.Dataset, tmp_path: Path
) -> None:
    models = partial(made_or_killed, deaths, os.getpid(), 1)
    path = tmp_path / "run.nc"
    with pytest.raises(RuntimeError, match=r"got one that was killed.*give the same command again"):
        over_checkpoints(models, PROBES, DATA, steps=STEPS, n_jobs=2, path=path)
    there = load(path)
    assert_same(there, expected.sel(step=there["step"]))
    assert_same(over_checkpoints(models, PROBES, DATA, steps=STEPS, n_jobs=2, path=path), expected)
    joblib.externals.loky.get_reusable_executor().shutdown()


# -- Dask -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Return a client of a Dask cluster with two workers."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
def test_checkpoints_on_dask_with_two_killed_workers(
    dask: Any, deaths: Path, expected: xr.Dataset, tmp_path: Path
) -> None:
    lines: list[str] = []
    models, path = partial(made_or_killed, deaths, os.getpid(), 2), tmp_path / "run.nc"
    with joblib.parallel_config("dask"):
        found = over_checkpoints(models, PROBES, DATA, steps=STEPS, path=path, report=lines.append)
    assert len(list(deaths.iterdir())) == 2
    assert_same(found, expected)
    assert_same(load(path), expected)
    assert [line.split(":")[0] for line in lines] == [f"step {step}" for step in STEPS]


@pytest.mark.slow
def test_runs_on_dask_with_killed_workers(dask: Any, tmp_path: Path) -> None:
    """Kill the worker that trains seed 3 after its first evaluations, twice."""
    folder = tmp_path / "custom" / "seed-3"
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        before = 0
        while len(killed) < 2 and not ended.wait(0.001):
            journal = folder / "run.nc.journal"
            if journal.exists() and journal.stat().st_size > before + 500:
                pid = int((folder / "lock").read_text())
                if pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    before = journal.stat().st_size

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with joblib.parallel_config("dask"):
            outcomes = run(TINY, [3, 4], out=tmp_path, device="cpu", checkpoint_seconds=0)
    finally:
        ended.set()
        killer.join()
    assert len(killed) == 2
    assert {one.status for one in outcomes} <= {"done", "skipped"}
    for one in outcomes:
        assert_curves(one.folder, dict(train(TINY, one.seed)))


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_an_error(dask: Any, deaths: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask.cluster.scheduler, "allowed_failures", 0)  # default: 3
    with joblib.parallel_config("dask"), pytest.raises(RuntimeError, match="got one that was killed"):
        over_checkpoints(partial(made_or_killed, deaths, os.getpid(), 99), PROBES, DATA, steps=STEPS)
    assert len(list(deaths.iterdir())) == 1


@pytest.mark.slow
def test_the_example_of_the_page(tmp_path: Path) -> None:
    """The script runs as a file of its own, as Dask needs it."""
    pytest.importorskip("distributed")
    page = (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    script = tmp_path / "example.py"
    script.write_text(re.findall(r"```python\n(.*?)```", page, re.S)[0], encoding="utf-8")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "4", done.stdout + done.stderr
    assert load(tmp_path / "run.nc")["step"].values.tolist() == [0, 1, 10, 100]


@pytest.mark.slow
def test_the_job_script_of_the_page() -> None:
    """dask-jobqueue writes the options of the page into the script that SLURM receives."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    page = (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    options = re.search(r"with SLURMCluster\((.*?)\n    \) as cluster", page, re.S)
    assert options is not None
    with eval(f"make({options[1]})", {"make": partial(jobqueue.SLURMCluster, scheduler_options=ANY_PORT)}) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -t 12:00:00", "#SBATCH --cpus-per-task=1", "export OMP_NUM_THREADS=1", "--lifetime 11h45m"):
        assert line in script
