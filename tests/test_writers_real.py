"""Writers with the real packages: what their stores hold equals the series, bit by bit or in float32."""

import json
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xarray as xr
from cases import splits
from setups import DATA, adam, net, update

from probe import MutualInfoProbe, ProbeSet, ProbeWarning, every
from probe.readers.formats import wandb as wandb_files
from probe.writers import send
from probe.writers.numbers import PREFIX

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]
STEPS = [0, 1, 2, 3]


def package(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


def trained(write_to: Any, *, log: Any = lambda step: None, start: int = 0, **options: Any) -> xr.Dataset:
    model = net()
    optimizer = adam(model)
    probes = ProbeSet([MutualInfoProbe()]).attach(
        model, splits(DATA), optimizer=optimizer, schedule=every(1), step=start, write_to=write_to, **options
    )
    for step in range(start, 3):
        update(model, optimizer)
        log(step)
    return probes.detach().series_


def rows_of(series: xr.Dataset) -> dict[int, dict[str, float]]:
    """Return what a function receives for the same series."""
    found: dict[int, dict[str, float]] = {}
    send(series, lambda numbers, step: found.update({step: numbers}))
    return found


def test_tensorboard(tmp_path: Path) -> None:
    package("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(tmp_path / "runs")
    expected = rows_of(trained(writer, path=tmp_path / "run.nc"))
    stored = EventAccumulator(str(tmp_path / "runs")).Reload()  # without a close: detach has flushed
    assert set(expected[1]) <= set(stored.Tags()["scalars"])
    for name in expected[1]:
        events = stored.Scalars(name)
        assert [event.step for event in events] == [step for step in STEPS if name in expected[step]]
        assert [event.value for event in events] == [np.float32(expected[event.step][name]) for event in events]
    text = stored.Tensors("probe/variables/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| probe/information_x | bits | I(T+n;X) |" in text
    writer.close()
    with SummaryWriter(tmp_path / "runs") as second, pytest.warns(ProbeWarning, match="not written again"):
        trained(second, start=1, path=tmp_path / "run.nc", mode="resume")
    events = EventAccumulator(str(tmp_path / "runs")).Reload().Scalars("probe/train_loss")
    assert [event.step for event in events] == STEPS


def history(file: Path, name: str, n: int) -> list[Any]:
    """Return the rows of a run. Another process completes the file, after ``finish`` too."""
    for _ in range(300):
        stored = list(wandb_files._history(file, []))
        if sum(name in row for row in stored) >= n:
            break
        time.sleep(0.1)
    return stored


@pytest.mark.parametrize("kind", ["steps of the user", "steps of the run", "module", "no log"])
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    wandb = package("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="probe", mode="offline", dir=tmp_path)
    steps = {"user_step": True} if kind == "steps of the user" else {}
    log = (lambda step: None) if kind == "no log" else lambda i: run.log({"loss": i}, **({"step": i} if steps else {}))
    expected = rows_of(trained(wandb if kind == "module" else run, log=log))
    folder = Path(run.dir).parent
    assert run.config["probe_variables"]["probe/information_x"]["units"] == "bits"
    run.finish()
    stored = history(next(folder.glob("*.wandb")), "probe/step", len(STEPS))
    rows = [row for row in stored if "probe/step" in row]
    assert [row["probe/step"] for row in rows] == STEPS
    for row in rows:
        assert {name: row[name] for name in row if name.startswith(PREFIX) and name != "probe/step"} == expected[
            int(row["probe/step"])
        ]
    assert [row["loss"] for row in stored if "loss" in row] == ([] if kind == "no log" else [0, 1, 2])


def mlflow_in(tmp_path: Path) -> Any:
    mlflow = package("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("probe", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("probe")
    return mlflow


@pytest.mark.parametrize("kind", ["module", "client"])
def test_mlflow(tmp_path: Path, kind: str) -> None:
    mlflow = mlflow_in(tmp_path)
    client = mlflow.MlflowClient()
    with mlflow.start_run() as run:
        expected = rows_of(trained(mlflow if kind == "module" else (client, run), path=tmp_path / "run.nc"))
        with pytest.warns(ProbeWarning, match="not written again"):
            trained(mlflow if kind == "module" else (client, run), start=1, path=tmp_path / "run.nc", mode="resume")
    for name in expected[1]:
        history = client.get_metric_history(run.info.run_id, name)
        assert {one.step: one.value for one in history} == {
            step: row[name] for step, row in expected.items() if name in row
        }
        assert len(history) == len({one.step for one in history})
    facts = json.loads(next((tmp_path / "artifacts").rglob("probe_variables.json")).read_text())
    assert facts["probe/information_x"] == {"units": "bits", "description": "I(T+n;X)"}


def use_trackio_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trackio import utils

    for module in [one for name, one in list(sys.modules.items()) if name.startswith("trackio")]:
        if isinstance(module, ModuleType) and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", folder)
    assert folder == utils.TRACKIO_DIR


@pytest.mark.parametrize("kind", ["run", "module"])
def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    trackio = package("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    use_trackio_in(tmp_path, monkeypatch)
    run = trackio.init(project="probe", name="one", embed=False)
    expected = rows_of(trained(run if kind == "run" else trackio))
    trackio.finish()
    rows = SQLiteStorage.get_logs("probe", "one")
    assert [row["step"] for row in rows] == STEPS
    for row in rows:
        assert {name: row[name] for name in row if name.startswith(PREFIX)} == expected[row["step"]]


def test_loggers_and_trackers_of_trainers(tmp_path: Path) -> None:
    """A logger of Lightning and an Accelerator are writers too."""
    package("lightning")
    accelerate = package("accelerate")
    from lightning.pytorch.loggers import CSVLogger

    logger, accelerator = CSVLogger(tmp_path), accelerate.Accelerator(cpu=True)
    rows: dict[int, Any] = {}

    class Tracker(accelerate.tracking.GeneralTracker):  # type: ignore[name-defined, misc]
        name, requires_logging_directory, tracker = "rows", False, None

        def store_init_configuration(self, values: Any) -> None:
            pass

        def log(self, values: Any, step: int | None = None, **_: Any) -> None:
            rows[int(step or 0)] = values

    accelerator.trackers = [Tracker()]
    expected = rows_of(trained([logger, accelerator]))
    assert rows == expected
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("probe/train_loss")
    assert [float(line.split(",")[place]) for line in lines[1:]] == [expected[s]["probe/train_loss"] for s in STEPS]


def test_the_bar_of_tqdm() -> None:
    tqdm = package("tqdm").tqdm
    bar = tqdm(total=3)
    trained(None, progress=bar, log=lambda step: bar.update())
    assert "step 3: train loss " in bar.postfix
    assert ". So far: Too short to tell" in bar.postfix
    bar.close()


def test_the_bar_of_the_trainer_of_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package("transformers")
    from test_adapters_huggingface import callback, trainer

    steps: list[int] = []
    one = callback(progress=True, write_to=lambda numbers, step: steps.append(step))
    trainer(tmp_path, one, disable_tqdm=False).train()
    assert steps == list(range(7))
    shown = capsys.readouterr().err
    assert "step 6: train loss" in shown
    assert "So far: " in shown


@pytest.mark.parametrize("bar", ["TQDMProgressBar", "RichProgressBar"])
def test_the_bar_of_lightning(tmp_path: Path, capsys: pytest.CaptureFixture[str], bar: str) -> None:
    package("lightning")
    if bar == "RichProgressBar":
        package("rich")
    import lightning.pytorch.callbacks
    from test_adapters_lightning import Module, callback, loader, trainer

    steps: list[int] = []
    one = callback(progress=True, write_to=lambda numbers, step: steps.append(step))
    shown = getattr(lightning.pytorch.callbacks, bar)()
    used = trainer(tmp_path, shown, one, enable_progress_bar=True)
    texts: list[str] = []
    log = shown.get_metrics
    shown.get_metrics = lambda *given: (found := log(*given), texts.append(str(found.get("probe"))))[0]
    used.fit(Module(), loader())
    assert texts[-1].startswith("step 6: train loss")
    assert steps == list(range(7))


def test_page_on_dashboards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each snippet runs, and the values in comments are right."""
    for name in ("tensorboard", "wandb", "mlflow", "trackio"):
        package(name)
    monkeypatch.chdir(tmp_path)
    use_trackio_in(tmp_path, monkeypatch)
    names: dict[str, Any] = {"__name__": "page"}
    page = (Path(__file__).parent.parent / "docs" / "writers.md").read_text()
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.S)), names)
    assert set(names["losses"][30]) == {"probe/train_loss", "probe/test_loss"}
    assert max(names["losses"][30].values()) < 0.5
    assert names["lost"].size == 0
    assert {"runs", "wandb", "mlflow.db", "run.nc"} <= {file.name for file in tmp_path.iterdir()}
