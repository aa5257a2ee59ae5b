"""Write the logs in this folder with the libraries themselves: ``python make.py`` (README.md has the versions).

One planted run, logged by each: fitting ends at step 300, the test loss turns at 3,000, test accuracy is complete
at 30,000. The numbers are those of ``curves()``, in float32 where the library stores no more.
"""

import contextlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def curves(seed: int = 0, n: int = 60) -> dict[str, np.ndarray]:
    """Planted curves over ``step``, log-spaced; accuracies as shares."""
    rng = np.random.default_rng(seed)
    step = np.unique(np.geomspace(1, 1e5, n).astype(int))
    x = np.log10(step)

    def ramp(start: float, stop: float) -> np.ndarray:
        return np.clip((x - np.log10(start)) / (np.log10(stop) - np.log10(start)), 0, 1)

    noise = 0.05 * rng.standard_normal(len(step))
    return {
        "step": step,
        "train_loss": 4 * np.exp(-3 * ramp(1, 1000)) + 0.01 * rng.random(len(step)),
        "train_accuracy": 0.01 + 0.99 * ramp(10, 300),
        "test_loss": 4 + 2 * ramp(10, 3_000) - 5.9 * ramp(3_000, 30_000) + noise,
        "test_accuracy": 0.01 + 0.99 * ramp(3_000, 30_000),
    }


def rows(seed: int = 0):
    """Yield each step with its four numbers."""
    columns = curves(seed)
    for values in zip(*columns.values(), strict=True):
        step, *rest = (value.item() for value in values)
        yield step, dict(zip(list(columns)[1:], rest, strict=True))


def tensorboard() -> None:
    """torch.utils.tensorboard: simple_value, the tensor field (new_style), a resumed run, subfolders."""
    from torch.utils.tensorboard import SummaryWriter

    tags = {
        "train_loss": "Loss/train",
        "test_loss": "Loss/val",
        "train_accuracy": "Acc/train",
        "test_accuracy": "Acc/val",
    }
    for folder, options in (("plain", {}), ("tensor", {"new_style": True})):
        with contextlib.closing(SummaryWriter(HERE / "tensorboard" / folder)) as writer:
            writer.add_text("config", "lr 0.001")
            for step, values in rows():
                for role, value in values.items():
                    writer.add_scalar(tags[role], value, step, **options)
                if step in (7, 8, 1013):
                    writer.add_histogram("weights", np.arange(5.0), step)
    for i, part in enumerate((slice(0, 60), slice(50, None))):  # the second goes on from a checkpoint
        with contextlib.closing(SummaryWriter(HERE / "tensorboard" / "resumed", filename_suffix=f".{i}")) as writer:
            for step, values in list(rows())[part]:
                writer.add_scalar("loss", values["train_loss"] + i, step)
                writer.add_scalar("val_loss", values["test_loss"] + i, step)
    for seed in range(3):
        with contextlib.closing(SummaryWriter(HERE / "tensorboard" / "seeds" / f"seed{seed}")) as writer:
            for step, values in rows(seed):
                writer.add_scalar("test/loss", values["test_loss"], step)
    with contextlib.closing(SummaryWriter(HERE / "tensorboard" / "scalars")) as writer:
        for step, values in rows():
            writer.add_scalars("loss", {"train": values["train_loss"], "val": values["test_loss"]}, step)


def keras() -> None:
    """tensorboard.summary, which stores tensors as tf.summary does, with the folders of Keras."""
    from tensorboard.summary import Writer

    for split, role in (("train", "train"), ("validation", "test")):
        with contextlib.closing(Writer(str(HERE / "keras" / split))) as writer:
            for step, values in rows():
                writer.add_scalar("epoch_loss", values[f"{role}_loss"], step)
                writer.add_scalar("epoch_accuracy", values[f"{role}_accuracy"], step)


def lightning() -> None:
    """CSVLogger with separate rows for training and validation, as a Trainer calls it."""
    from lightning.pytorch.loggers import CSVLogger

    for version in range(2):
        logger = CSVLogger(HERE / "lightning", name="lightning_logs", version=version)
        for epoch, (step, values) in enumerate(rows(version)):
            training = {"train_loss_step": values["train_loss"], "train_acc": values["train_accuracy"], "epoch": epoch}
            logger.log_metrics(training, step)
            tested = {"val_loss": values["test_loss"], "val_acc": values["test_accuracy"], "epoch": epoch}
            logger.log_metrics(tested, step)
        logger.save()


def huggingface() -> None:
    """TrainerState.save_to_json, in two checkpoints."""
    from transformers.trainer_callback import TrainerState

    history = []
    for step, values in rows():
        entry = {
            "loss": values["train_loss"],
            "grad_norm": 1.0,
            "learning_rate": 1e-4,
            "epoch": step / 100,
            "step": step,
        }
        history.append(entry)
        evaluated = {"eval_loss": values["test_loss"], "eval_accuracy": values["test_accuracy"], "eval_runtime": 0.5}
        history.append({**evaluated, "epoch": step / 100, "step": step})
    for count in (60, len(history)):
        entries, last = history[:count], history[count - 1]["step"]
        if count == len(history):
            entries = [*entries, {"train_loss": 1.0, "train_runtime": 9.0, "epoch": last / 100, "step": last}]
        folder = HERE / "huggingface" / f"checkpoint-{last}"
        folder.mkdir(parents=True)
        TrainerState(global_step=last, log_history=entries).save_to_json(str(folder / "trainer_state.json"))


def wandb() -> None:
    """The binary file of an offline run."""
    import wandb as client

    scratch = HERE / "scratch"
    scratch.mkdir()
    settings = client.Settings(x_disable_stats=True, x_disable_meta=True, console="off", disable_git=True, silent=True)
    run = client.init(mode="offline", project="planted", dir=scratch, id="planted1", settings=settings)
    for step, values in rows():
        run.log({"train/loss": values["train_loss"], "train/acc": values["train_accuracy"], "global_step": step})
        run.log({"val": {"loss": values["test_loss"], "acc": values["test_accuracy"]}, "global_step": step})
    run.finish()
    client.teardown()  # waits for the process that writes
    (HERE / "wandb").mkdir()
    (found,) = scratch.rglob("run-planted1.wandb")
    shutil.copy(found, HERE / "wandb" / found.name)
    shutil.rmtree(scratch)


def mlflow() -> None:
    """The file store of MLflow, two runs."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.entities import Metric
    from mlflow.store.tracking.file_store import FileStore

    store = FileStore(str(HERE / "mlruns"), "")
    for seed in range(2):
        run = store.create_run("0", "tester", 0, [], f"seed{seed}")
        for step, values in rows(seed):
            for role, value in values.items():
                store.log_metric(run.info.run_id, Metric(role.replace("_", "/"), value, 0, step))
        (HERE / "mlruns" / "0" / run.info.run_id).rename(HERE / "mlruns" / "0" / f"seed{seed}")
    for empty in ("models", ".trash"):
        shutil.rmtree(HERE / "mlruns" / empty, ignore_errors=True)
    for meta in HERE.glob("mlruns/**/meta.yaml"):  # it has the path of this folder
        meta.write_text(re.sub(r"file:\S*mlruns", "mlruns", meta.read_text()))


def mlflow_database() -> None:
    """The database of MLflow, its default: a dump of the tables ``runs`` and ``metrics`` (the whole is 0.7 MB)."""
    import sqlite3

    from mlflow.entities import Metric
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"sqlite:///{HERE / 'mlflow.db'}", "mlruns")
    for seed in range(2):
        run = store.create_run("0", "tester", 0, [], f"seed{seed}")
        for step, values in rows(seed):
            entries = [Metric(role.replace("_", "/"), value, 0, step) for role, value in values.items()]
            store.log_batch(run.info.run_id, entries, [], [])
    with contextlib.closing(sqlite3.connect(HERE / "mlflow.db")) as database:
        lines = [
            line for line in database.iterdump() if re.match(r'(CREATE TABLE|INSERT INTO) "?(runs|metrics)\b', line)
        ]
    (HERE / "mlflow.sql").write_text("\n".join(lines).replace(f"{HERE}/", "") + "\n")
    (HERE / "mlflow.db").unlink()


def exports() -> None:
    """Exports of W&B by its documentation: a chart as CSV, a history as JSON lines."""
    folder = HERE / "wandb_csv"
    folder.mkdir()
    for role, name in (("train_accuracy", "train/acc"), ("test_loss", "val/loss")):
        columns = [curves(seed)[role] for seed in range(2)]
        head = ["Step"] + [f"seed-{s} - {name}{end}" for s in range(2) for end in ("", "__MIN", "__MAX")]
        lines = [",".join(f'"{entry}"' for entry in head)]
        for step, *values in zip(curves()["step"], *columns, strict=True):
            lines.append(",".join([f'"{step}"', *(f'"{value:.6g}"' for value in values for _ in range(3))]))
        (folder / f"{role}.csv").write_text("\n".join(lines) + "\n")
    with open(HERE / "wandb-history.jsonl", "w") as file:
        for step, values in rows():
            file.write(json.dumps({"_step": step, "_runtime": 0.1, "_timestamp": 1.7e9, **values}) + "\n")


if __name__ == "__main__":
    os.chdir(HERE)
    for write in (tensorboard, keras, lightning, huggingface, wandb, mlflow, mlflow_database, exports):
        if len(sys.argv) < 2 or write.__name__ in sys.argv[1:]:
            write()
    for file in HERE.rglob("*tfevents*"):  # events.out.tfevents.<seconds>.<host>.<process>.<number>
        _, seconds, number = re.split(r"tfevents\.(\d+)\.[^.]+\.\d+", file.name)
        file.rename(file.with_name(f"events.out.tfevents.{seconds}.host.1{number}"))
