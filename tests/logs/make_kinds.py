"""Write the logs in ``kinds`` with the libraries themselves: ``python make_kinds.py [NAME ...]``.

README.md has the versions.

Keras, fastai, LightGBM, XGBoost and CatBoost train small models; the numbers that their own Python objects hold become
``kinds/expected.json``. DVCLive, trackio and TensorBoard log the planted curves of ``make.curves``.
"""

import contextlib
import io
import json
import os
import re
import shutil
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from make import rows

HERE = Path(__file__).parent / "kinds"
EXPECTED = HERE / "expected.json"


def data(n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return two overlapping classes: inputs and labels for training and testing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2 * n)
    inputs = rng.normal(size=(2 * n, 6)).astype(np.float32) + 0.7 * labels[:, None].astype(np.float32)
    return inputs[:n], labels[:n], inputs[n:], labels[n:]


def expect(**values: dict) -> None:
    """Add to the expected numbers: by file, the steps and the values of each role."""
    known = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    EXPECTED.write_text(json.dumps(known | values, indent=1, default=float) + "\n")


def keras() -> None:
    """CSVLogger, the history as JSON and as Python prints it, and what fit prints."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras as client

    client.utils.set_random_seed(0)
    x, y, x_test, y_test = data()
    model = client.Sequential([client.layers.Input((6,)), client.layers.Dense(2)])
    loss = client.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    (HERE / "keras").mkdir()
    csv = client.callbacks.CSVLogger(str(HERE / "keras" / "training.log"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        fit = model.fit(x, y, epochs=12, verbose=2, validation_data=(x_test, y_test), callbacks=[csv])
    (HERE / "keras" / "stdout.txt").write_text(printed.getvalue())
    (HERE / "keras" / "history.json").write_text(json.dumps(fit.history))
    as_text = {name: [np.float32(value) for value in values] for name, values in fit.history.items()}
    (HERE / "keras" / "history_text.json").write_text(json.dumps(as_text, default=str))
    (HERE / "keras" / "history_repr.txt").write_text(repr(as_text) + "\n")
    history = fit.history
    expect(keras={
        "train_loss": history["loss"], "train_accuracy": history["accuracy"],
        "test_loss": history["val_loss"], "test_accuracy": history["val_accuracy"],
    })  # fmt: skip


def fastai() -> None:
    """The CSVLogger of fastai, with an accuracy and with an error rate."""
    import torch
    from fastai.callback.progress import CSVLogger, ProgressCallback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.metrics import accuracy, error_rate

    torch.manual_seed(0)
    x, y, x_test, y_test = map(torch.as_tensor, data())
    sets = [list(zip(*pair, strict=True)) for pair in ((x, y), (x_test, y_test))]
    (HERE / "fastai").mkdir()
    for name, metric in (("history", accuracy), ("error_rate", error_rate)):
        loaders = DataLoaders(*(DataLoader(one, bs=50) for one in sets))
        model = torch.nn.Linear(6, 2)
        learner = Learner(loaders, model, loss_func=torch.nn.CrossEntropyLoss(), metrics=metric, path=HERE / "fastai")
        learner.remove_cbs([ProgressCallback])
        with learner.no_logging():
            learner.fit(8, cbs=[CSVLogger(fname=f"{name}.csv")])
        table = np.array([list(row) for row in learner.recorder.values])
        expect(**{f"fastai/{name}": {
            "train_loss": table[:, 0].tolist(), "test_loss": table[:, 1].tolist(),
            "test_accuracy": table[:, 2].tolist(),
        }})  # fmt: skip


def lightgbm() -> None:
    """The evaluations of LightGBM as JSON and as lines."""
    import lightgbm as client

    x, y, x_test, y_test = data()
    found: dict = {}
    printed: list[str] = []

    class Printer:
        """Logger of LightGBM."""

        def info(self, message: str) -> None:
            printed.append(message)

        warning = info

    client.register_logger(Printer())
    train = client.Dataset(x, y)
    callbacks = [client.log_evaluation(1), client.record_evaluation(found)]
    parameters = {
        "objective": "binary",
        "metric": ["binary_logloss", "binary_error"],
        "verbosity": -1,
        "num_threads": 1,
    }
    client.train(parameters, train, 15, [train, client.Dataset(x_test, y_test, train)], callbacks=callbacks)
    (HERE / "lightgbm").mkdir()
    (HERE / "lightgbm" / "train.log").write_text("\n".join(printed) + "\n")
    (HERE / "lightgbm" / "evals_result.json").write_text(json.dumps(found))
    expect(lightgbm={
        "train_loss": found["training"]["binary_logloss"], "test_loss": found["valid_1"]["binary_logloss"],
        "train_accuracy": found["training"]["binary_error"], "test_accuracy": found["valid_1"]["binary_error"],
    })  # fmt: skip


def xgboost() -> None:
    """The evaluations of XGBoost as JSON and as lines, and those of its classifier for scikit-learn."""
    import xgboost as client

    x, y, x_test, y_test = data()
    train, test = client.DMatrix(x, y), client.DMatrix(x_test, y_test)
    found: dict = {}
    printed = io.StringIO()
    parameters = {"objective": "multi:softprob", "num_class": 2, "eval_metric": ["mlogloss", "merror"], "nthread": 1}
    with contextlib.redirect_stdout(printed):
        client.train(parameters, train, 15, evals=[(train, "train"), (test, "eval")], evals_result=found)
    classifier = client.XGBClassifier(n_estimators=15, n_jobs=1, eval_metric="logloss")
    classifier.fit(x, y, eval_set=[(x, y), (x_test, y_test)], verbose=False)
    (HERE / "xgboost").mkdir()
    (HERE / "xgboost" / "train.log").write_text(printed.getvalue())
    (HERE / "xgboost" / "evals_result.json").write_text(json.dumps(found))
    (HERE / "xgboost" / "sklearn.json").write_text(json.dumps(classifier.evals_result()))
    both = classifier.evals_result()
    expect(xgboost={
        "train_loss": found["train"]["mlogloss"], "test_loss": found["eval"]["mlogloss"],
        "train_accuracy": found["train"]["merror"], "test_accuracy": found["eval"]["merror"],
    }, **{"xgboost/sklearn": {
        "train_loss": both["validation_0"]["logloss"], "test_loss": both["validation_1"]["logloss"],
    }})  # fmt: skip


def catboost() -> None:
    """The files of CatBoost."""
    import catboost as client

    x, y, x_test, y_test = data()
    scratch = HERE / "scratch"
    model = client.CatBoostClassifier(
        iterations=15, train_dir=str(scratch), custom_metric=["Accuracy"], thread_count=1, verbose=False
    )
    model.fit(x, y, eval_set=(x_test, y_test))
    (HERE / "catboost").mkdir()
    for name in ("learn_error.tsv", "test_error.tsv"):
        shutil.copy(scratch / name, HERE / "catboost" / name)
    shutil.rmtree(scratch)
    found = model.evals_result_
    expect(catboost={
        "train_loss": found["learn"]["Logloss"], "test_loss": found["validation"]["Logloss"],
        "train_accuracy": found["learn"]["Accuracy"], "test_accuracy": found["validation"]["Accuracy"],
    })  # fmt: skip


def dvclive() -> None:
    """A run of DVCLive."""
    from dvclive import Live

    names = {
        "train_loss": "train/loss",
        "test_loss": "val/loss",
        "train_accuracy": "train/acc",
        "test_accuracy": "val/acc",
    }
    with Live(str(HERE / "dvclive"), save_dvc_exp=False, dvcyaml=None, report=None) as live:
        for step, values in rows():
            live.step = step
            for role, value in values.items():
                live.log_metric(names[role], value)


def trackio() -> None:
    """A project of trackio with two runs: a dump of the table ``metrics`` of its database."""
    import sqlite3

    scratch = HERE / "scratch"
    os.environ["TRACKIO_DIR"] = str(scratch)
    import trackio as client

    for seed in range(2):
        client.init(project="planted", name=f"seed{seed}", auto_log_gpu=False)
        for step, values in rows(seed):
            client.log({f"{role.replace('_', '/')}": value for role, value in values.items()}, step=step)
        client.finish()
    with contextlib.closing(sqlite3.connect(scratch / "planted.db")) as database:
        lines = [line for line in database.iterdump() if re.match(r'(CREATE TABLE|INSERT INTO) "?metrics\b', line)]
    (HERE / "trackio.sql").write_text("\n".join(lines) + "\n")
    shutil.rmtree(scratch)


def tensorboard_export() -> None:
    """CSV and JSON from a running TensorBoard, under the names that its page gives to downloads."""
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(argv=[None, "--logdir", str(HERE.parent / "tensorboard"), "--port", "0", "--load_fast=false"])
    address = board.launch()
    (HERE / "tensorboard_export").mkdir()

    def ask(path: str, **query: str) -> str:
        with urllib.request.urlopen(f"{address}data/{path}?{urllib.parse.urlencode(query)}") as answer:
            return answer.read().decode()

    while len(json.loads(ask("plugin/scalars/tags")).get("plain", {})) < 4:
        pass
    for tag in json.loads(ask("plugin/scalars/tags"))["plain"]:
        for kind in ("csv", "json"):
            if (kind == "csv") == tag.startswith("Loss"):
                name = f"run-plain-tag-{tag}.{kind}".replace("/", "_")  # a browser replaces the slashes
                text = ask("plugin/scalars/scalars", run="plain", tag=tag, format=kind)
                (HERE / "tensorboard_export" / name).write_text(text)


if __name__ == "__main__":
    for write in (keras, fastai, lightgbm, xgboost, catboost, dvclive, trackio, tensorboard_export):
        if len(sys.argv) < 2 or write.__name__ in sys.argv[1:]:
            HERE.mkdir(exist_ok=True)
            shutil.rmtree(HERE / write.__name__, ignore_errors=True)
            write()
