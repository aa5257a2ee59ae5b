# ruff: noqa: E501
"""Neighbours of the common kinds of logs: other names of files, other shapes of documents, lines among other text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from probe.errors import ProbeWarning
from probe.phases.detector import PhaseDetector
from probe.readers import read
from probe.readers.columns import columns_log
from probe.readers.formats import lines
from probe.readers.phrases import numbers_in, split_of
from probe.readers.reader import Candidate

N = 8
LOSS = [round(4 - 0.3 * i, 3) for i in range(N)]
VALIDATION = [round(4.1 - 0.2 * i, 3) for i in range(N)]
STEPS = [10 * i for i in range(N)]
ROWS: list[dict[str, float]] = [
    {"step": s, "train_loss": a, "val_loss": b} for s, a, b in zip(STEPS, LOSS, VALIDATION, strict=True)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def has_curves(series: xr.Dataset, steps: list[int] = STEPS) -> None:
    assert series["step"].values.tolist() == steps
    assert series["train_loss"].values.tolist() == LOSS
    assert series["test_loss"].values.tolist() == VALIDATION


# JSON


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", LINES), ("log.txt", LINES), ("20240101.log.json", LINES), ("train_log", LINES),
        ("stdout.out", f"Loading data 3 of 4\n{LINES}done\n"), ("x.log", f'{{"config": {{"lr": 0.1}}}}\n{LINES}'),
        ("run.log", LINES.replace("{", "2024-01-01 10:00:00,123 INFO {")),
        ("python.log", LINES.replace('"', "'")), ("as_text.json", LINES.replace(": ", ': "').replace(",", '",').replace("}", '"}')),
    ],
)  # fmt: skip
def test_objects_in_lines_whatever_the_file_is_called(name: str, text: str, tmp_path: Path) -> None:
    has_curves(read(written(tmp_path / name, text)))
    has_curves(read(tmp_path))


def columns(rows: list[dict[str, float]] = ROWS) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        {"config": {"p": 59, "layers": [1, 2]}, "grokked": True, "history": ROWS},
        {"results": {"log": ROWS}},
        [{"step": r["step"], "train": {"loss": r["train_loss"]}, "val": {"loss": r["val_loss"]}} for r in ROWS],
        columns(),
        {"history": columns(), "params": {"epochs": 8}},
        {"steps": STEPS, "train_losses": LOSS, "test_losses": VALIDATION},
        {"step": STEPS, "train_loss": [str(value) for value in LOSS], "val_loss": VALIDATION},
        {"steps": STEPS, "metrics": {"train": {"loss": LOSS}, "val": {"loss": VALIDATION}}},
        {"train": [{"step": r["step"], "loss": r["train_loss"]} for r in ROWS],
         "val": [{"step": r["step"], "loss": r["val_loss"]} for r in ROWS]},
        {"train_history": [{"step": r["step"], "loss": r["train_loss"]} for r in ROWS],
         "val_history": [{"step": r["step"], "loss": r["val_loss"]} for r in ROWS]},
        {str(row["step"]): {"train_loss": row["train_loss"], "val_loss": row["val_loss"]} for row in ROWS},
        {name: {str(i): value for i, value in enumerate(column)} for name, column in columns().items()},
        {"columns": ["step", "train_loss", "val_loss"], "index": list(range(N)), "data": [list(row.values()) for row in ROWS]},
        {"train_loss": list(zip(STEPS, LOSS, strict=True)), "test_loss": list(zip(STEPS, VALIDATION, strict=True))},
        str(columns()), str(columns()).replace("4.0", "np.float32(4.0)"),
        json.dumps({"history": ROWS, "note": "x"}, indent=2),
        json.dumps({"config": {f"k{i}": "x" * 50 for i in range(2000)}, "history": ROWS}, indent=2),
    ],
)  # fmt: skip
def test_documents_with_curves(content: Any, tmp_path: Path) -> None:
    has_curves(read(written(tmp_path / "results.json", content)))


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ({"seed0": {"history": ROWS}, "seed1": {"history": ROWS}}, ["seed0", "seed1"]),
        (
            {"config": {"p": 59}, "runs": [{"seed": 3, "history": ROWS}, {"seed": 4, "history": ROWS}]},
            ["seed 3", "seed 4"],
        ),
        ([{"name": "a", **columns()}, {"name": "b", **columns()}], ["a", "b"]),
        ({"step": STEPS, "train_loss": [LOSS, LOSS], "test_loss": [VALIDATION, VALIDATION]}, ["0", "1"]),
    ],
)
def test_documents_with_several_runs(content: Any, labels: list[str], tmp_path: Path) -> None:
    series = read(written(tmp_path / "results.json", content))
    assert series["run"].values.tolist() == labels
    for run in labels:
        has_curves(series.sel(run=run))


def test_folders_of_documents(tmp_path: Path) -> None:
    for seed in range(2):
        written(tmp_path / f"seed{seed}.json", {"history": ROWS})
    written(tmp_path / "vocabulary.json", {"a": 1, "b": [1, 2]})
    assert read(tmp_path)["run"].values.tolist() == ["seed0", "seed1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train_losses": LOSS, "test_losses": LOSS[::2]}, r"got train_losses \(8\), test_losses \(4\) and no list of steps"),
        ({"steps": STEPS, "train_losses": LOSS, "test_losses": LOSS[::2]}, r"the steps steps \(8\); add a list of 4 steps"),
        ({"epoch": 3.0, "eval_loss": 2.0}, r"one value of each name \(epoch, eval_loss, ...\), as in a summary at the end"),
        ({"model": "x"}, "Expected lists of numbers, or a list of objects, in x.json, got neither"),
        ('{"train_loss": [1, 2,', "the file is damaged or still being written"),
    ],
)  # fmt: skip
def test_documents_without_one_log_are_errors(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path / "x.json", content))


def test_lists_of_several_lengths_need_their_own_steps() -> None:
    arrays = {"train_losses": LOSS, "train_steps": STEPS, "test_losses": LOSS[::2], "eval_steps": STEPS[::2]}
    log = columns_log({name: np.array(values, dtype=float) for name, values in arrays.items()}, None, "x")
    assert log.points["test_losses"][0].tolist() == STEPS[::2]
    assert log.points["train_losses"][0].tolist() == STEPS
    numbered = columns_log({"loss": np.ones(3)}, None, "x")
    assert (numbered.axis, numbered.points["loss"][0].tolist()) == ("row", [0, 1, 2])
    with pytest.raises(ValueError, match="a list of x as axis, got 'stepp'; near names: step"):
        columns_log({"loss": np.ones(3), "step": np.ones(3)}, "stepp", "x")


# Lines


@pytest.mark.parametrize(
    "line",
    [
        lambda s, a, b: f"step {s}: train loss {a}, val loss {b}\n",
        lambda s, a, b: f"step={s} train_loss={a} val_loss={b} lr=1e-3\n",
        lambda s, a, b: f"step: {s}, train_loss: {a}, val_loss: {b}\n",
        lambda s, a, b: f"[2024-01-01 10:00:00] INFO Step {s} | loss {a} | val_loss {b} | 12.3 it/s\n",
        lambda s, a, b: f"\x1b[32mstep {s}\x1b[0m loss \x1b[1m{a}\x1b[0m val loss {b}\n",
        lambda s, a, b: f"Iteration {s:,}: Train Loss = {a}; Validation Loss = {b}\n",
        lambda s, a, b: f"global_step={s} {{'train/loss': {a}, 'eval/loss': {b}}}\n",
        lambda s, a, b: f"step {s}/70 (14%) train: loss {a} time 0.1s - val: loss {b} time 0.2s\n",
        lambda s, a, b: f"{s:5d}  Train Loss: {a:.3f}  Test Loss: {b:.3f}\n",
        lambda s, a, b: f"iter {s} [train] loss={a} [val] loss={b}\n",
        lambda s, a, b: f"step {s}\nTraining: loss {a}\nValidation: loss {b}\n",
        lambda s, a, b: f"step {s}: loss {a:.6e}, grad norm 1.2\nstep {s}: val loss {b:.6e}\n",
        lambda s, a, b: f"step {s} loss {a}\r\n\n== Evaluation ==\nTest Error: \n Avg loss: {b} \n",
        lambda s, a, b: f"step {s}/70\n----------\ntrain Loss: {a} Acc: 0.5\nval Loss: {b} Acc: 0.25\n",
        lambda s, a, b: f"step {s}: train loss {a:.3f}, val loss {b:.3f}\n".replace(".", ","),
        lambda s, a, b: f"2024-01-01 10:00:00,123 ep {s} tr_loss {a:.5f} te_loss {b:.5f}\n".replace(".", ","),
        lambda s, a, b: f"3: {{'step': {s}, 'train_loss': {a}, 'val_loss': {b}}}\n",
        lambda s, a, b: (
            f"step {s} loss tensor({a}, device='cuda:0', grad_fn=<NllLossBackward0>) val_loss tensor({b})\n"
        ),
        lambda s, a, b: f"epoch 1 step {s} loss {a}\nValidation loss at step {s} | loss value: {b}\n",
    ],
)
def test_lines_of_text(line: Callable[..., str], tmp_path: Path) -> None:
    text = "Using 4 GPUs\nlr: 0.1, batch size: 32, epochs: 10\n"
    text += "".join(line(*values) for values in zip(STEPS, LOSS, VALIDATION, strict=True)) + "Done in 12.3 s\n"
    has_curves(read(written(tmp_path / "train.log", text)))


def test_counts_inside_epochs_become_one_count(tmp_path: Path) -> None:
    text = "".join(
        "".join(f"\rEpoch {e}:  {i}%|###| {i}/100 [00:01<00:01, 10.0it/s, loss=0.{9 - e}, v_num=0]" for i in (50, 100))
        for e in range(4)
    )
    path = written(tmp_path / "tqdm.log", f"{text}\n")
    series = read(path)
    assert series["step"].values.tolist() == list(range(50, 401, 50))
    assert series["train_loss"].values.tolist() == [0.9, 0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6]
    assert read(path, axis="epoch")["step"].values.tolist() == [0, 1, 2, 3]


def test_shares_and_percent_in_lines(tmp_path: Path) -> None:
    text = "".join(f"Epoch {e}: val loss: 0.5, val correct: 3, val accuracy: {900 + e}/1000 (90%)\n" for e in range(5))
    series = read(written(tmp_path / "a.log", text))
    assert series["test_accuracy"].values.tolist() == [0.9, 0.901, 0.902, 0.903, 0.904]
    text = "".join(f"Epoch {e}: train loss: 0.5, train acc: {e}.5%\n" for e in range(5))
    series = read(written(tmp_path / "b.log", text))
    assert series["train_accuracy"].values.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


@pytest.mark.parametrize(
    "text",
    [
        "hello\nworld 3\nI trained with loss 3\n", "numpy==1.26\ntorch>=2.0\ntqdm\n", "", "1 2 3\n4 5 6\n7 8 9\n",
        "The loss is 3 at the end.\nSee figure 4.\nStep 1 is to install it.\n",
        "loss: cross_entropy\nlr: 0.1\nepochs: 100\nbatch_size: 32\n",
        "Epoch 1\nEpoch 2\nEpoch 3\n", "step 1 lr 0.1\nstep 2 lr 0.1\nstep 3 lr 0.1\n",
        "Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\n    loss.backward()\n",
    ],
)  # fmt: skip
def test_other_text_is_no_log(text: str, tmp_path: Path) -> None:
    assert not lines.matches(Candidate(written(tmp_path / "notes.txt", text)))
    with pytest.raises(FileNotFoundError, match=r"a log in the folder .*, got none; check the path"):
        read(tmp_path)


def test_numbers_in_lines_have_their_names() -> None:
    def names(line: str) -> list[tuple[str, float]]:
        return [(number.name, number.value) for number in numbers_in(line)]

    assert names("Acc@1 69.7 top-5: 89.1 layer3.weight 0.5 p97=2") == [
        ("Acc@1", 69.7), ("top-5", 89.1), ("layer3.weight", 0.5), ("p97", 2),
    ]  # fmt: skip
    assert names("torch 2.1.0 on cuda:0 3rd run v1") == [("torch 2.1.0 on cuda", 0)]
    assert names("loss 1,234.5 lr 1e-3 x nan y -inf") == [
        ("loss", 1234.5), ("lr", 0.001), ("x", pytest.approx(np.nan, nan_ok=True)), ("y", -np.inf),
    ]  # fmt: skip
    assert numbers_in("loss 2.1 (2.3)")[0].average == 2.3
    assert numbers_in("acc 41.2 %")[0].unit == "%"
    assert [split_of([part]) for part in ("Test set", "Val. results", "train test", "loss")] == ["test", "val", "", ""]


def test_a_torn_line_is_no_value(tmp_path: Path) -> None:
    text = "".join(f"step {s}: train loss {a:.4f}\n" for s, a in zip(STEPS, LOSS, strict=True))
    for cut in range(len(text) - 24, len(text)):
        with pytest.warns(ProbeWarning, match="cut off") if text[cut - 1] != "\n" else pytest.MonkeyPatch().context():
            found = read(written(tmp_path / "run.log", text[:cut]))["train_loss"].values.tolist()
        assert found == LOSS[: len(found)]


# Downloads


def export(path: Path, values: list[float] = LOSS) -> Path:
    rows = "".join(f"{1e9 + i},{step},{value}\n" for i, (step, value) in enumerate(zip(STEPS, values, strict=True)))
    return written(path, f"Wall time,Step,Value\n{rows}")


def test_downloads_of_tensorboard_are_joined_by_run(tmp_path: Path) -> None:
    for run in ("seed1", "seed2"):
        export(tmp_path / "runs" / f"run-{run}-tag-Loss_train.csv")
        export(tmp_path / "runs" / f"run-{run}-tag-Loss_val (1).csv", VALIDATION)
    series = read(tmp_path / "runs")
    assert series["run"].values.tolist() == ["seed1", "seed2"]
    has_curves(series.isel(run=1))
    for run, values in (("train", LOSS), ("validation", VALIDATION)):
        export(tmp_path / "keras" / f"run-{run}-tag-epoch_loss.csv", values)
    has_curves(read(tmp_path / "keras"))
    export(tmp_path / "renamed" / "train_loss.csv")
    export(tmp_path / "renamed" / "val_loss.csv", VALIDATION)
    series = read(tmp_path / "renamed")
    has_curves(series)
    assert "named after the files" in series.attrs["reading"]
    triples = [[1e9 + i, step, value] for i, (step, value) in enumerate(zip(STEPS, LOSS, strict=True))]
    series = read(written(tmp_path / "run-a_b-tag-loss.json", triples))
    assert series["train_loss"].values.tolist() == LOSS


def chart(path: Path, columns: list[str], axis: str = "Step") -> Path:
    head = ",".join(f'"{name}"' for name in [axis, *columns])
    rows = [
        ",".join([f'"{step}"', *[f'"{value}"'] * len(columns)]) for step, value in zip(STEPS, VALIDATION, strict=True)
    ]
    return written(path, "\n".join([head, *rows]) + "\n")


@pytest.mark.parametrize(
    ("columns", "runs"),
    [
        (["a - val/loss", "a - val/loss__MIN", "a - val/loss__MAX"], []),
        (["a - _step", "a - _step__MIN", "a - _step__MAX", "a - val/loss", "a - val/loss__MIN", "a - val/loss__MAX"], []),
        (["val/loss", "val/loss__MIN", "val/loss__MAX"], []),
        (["adamw - wd 0 - val/loss", "adamw - wd 1 - val/loss"], ["adamw - wd 0", "adamw - wd 1"]),
        (["a-1 - val/loss", "b-2 - val/loss"], ["a-1", "b-2"]),
        (["Group: x - val/loss", "Group: x - val/loss__MIN", "Group: x - val/loss__MAX"], []),
        (["a - val/loss", "a - epoch", "a - global_step", "b - val/loss", "b - epoch", "b - global_step"], ["a", "b"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("axis", ["Step", "epoch", "Relative Time (Process)"])
def test_charts_of_wandb(columns: list[str], runs: list[str], axis: str, tmp_path: Path) -> None:
    path = chart(tmp_path / "chart.csv", [name for name in columns if not name.endswith(f" - {axis}")], axis)
    if axis.startswith("Relative"):
        with pytest.raises(ValueError, match=r"got Relative Time \(Process\).*; name yours with axis="):
            read(path)
    series = read(path, axis=axis) if axis.startswith("Relative") else read(path)
    assert (series["run"].values.tolist() if "run" in series.dims else []) == runs
    one = series.isel(run=-1) if runs else series
    assert one["test_loss"].values.tolist() == VALIDATION
    assert one["step"].values.tolist() == STEPS


def test_a_table_with_dashes_in_its_names_is_no_chart(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "step,loss - train,loss - val\n" + "".join(f"{s},1,2\n" for s in STEPS))
    assert {"train_loss", "test_loss"} <= {*read(path)}


def test_verdicts_on_kinds_of_logs(tmp_path: Path) -> None:
    """Error rates become accuracies, whatever the format."""
    errors = {"train": {"merror": [0.5, 0.3, 0.1, 0.0, 0.0, 0.0]}, "eval": {"merror": [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]}}
    path = written(tmp_path / "evals_result.json", errors)
    detector = PhaseDetector().fit(path)
    assert "train_accuracy: 1 - train/merror, because 'train/merror' is the name of an error rate" in detector.notes_
    assert detector.markers_["status"].sel(marker="fit_end").item() == "found"


def table_of(losses: list[float]) -> str:
    return "step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in zip(STEPS, losses, strict=True))


def test_files_named_after_their_split_are_one_run(tmp_path: Path) -> None:
    """``train.csv`` and ``val.csv`` beside each other are no two runs, and ``val.csv`` alone is not the training."""
    for seed in ("a", "b"):
        written(tmp_path / seed / "train_log.csv", table_of(LOSS))
        written(tmp_path / seed / "val_log.csv", table_of(VALIDATION))
    series = read(tmp_path)
    assert series["run"].values.tolist() == ["a", "b"]
    has_curves(series.sel(run="b"))
    one = read(tmp_path / "a")
    has_curves(one)
    assert "train_log.csv, val_log.csv were read as the splits of one run" in one.attrs["reading"]
    alone = read(tmp_path / "a" / "val_log.csv")
    assert alone["test_loss"].values.tolist() == VALIDATION
    assert "the name gives the split" in alone.attrs["reading"]
    assert "train_loss" in read(tmp_path / "a" / "train_log.csv")


@pytest.mark.parametrize(
    "path", ["{seed}/{split}/log.csv", "{split}/{seed}.csv", "{seed}_{split}.csv", "{split}-{seed}.csv"]
)
def test_paths_that_differ_in_the_split_are_one_run(path: str, tmp_path: Path) -> None:
    for seed in ("s1", "s2"):
        for split, losses in (("train", LOSS), ("eval", VALIDATION)):
            written(tmp_path / path.format(seed=seed, split=split), table_of(losses))
    series = read(tmp_path)
    assert series["run"].values.tolist() == ["s1", "s2"]
    has_curves(series.sel(run="s2"))


def test_files_named_after_their_curve_are_one_run(tmp_path: Path) -> None:
    """``train_loss.csv`` and ``test_loss.csv`` hold values; ``loss.csv`` and ``acc.csv`` hold both splits."""
    for name, losses in (("train_loss", LOSS), ("test_loss", VALIDATION)):
        written(tmp_path / "a" / f"{name}.csv", table_of(losses).replace("loss", "value"))
    series = read(tmp_path / "a")
    has_curves(series)
    assert "train_loss.csv were read as the curves of one run" in series.attrs["reading"]
    rows = "".join(f"{step},{a},{b}\n" for step, a, b in zip(STEPS, LOSS, VALIDATION, strict=True))
    for name in ("loss", "acc"):
        written(tmp_path / "b" / f"{name}.csv", f"step,train,val\n{rows}")
    series = read(tmp_path / "b")
    has_curves(series)
    assert series["train_accuracy"].values.tolist() == LOSS
    alone = read(tmp_path / "a" / "test_loss.csv")
    assert alone["test_loss"].values.tolist() == VALIDATION
