"""Layout of tables: runs, splits and steps in columns, the same from every format; numbers as people write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probe import PhaseDetector, concat, load, save
from probe.errors import ProbeWarning
from probe.readers import read
from probe.readers.numerals import is_decimal_comma, number_of

N = 24


def rows(axis: str = "step", steps: Any = range(N), shift: float = 0, **settings: Any) -> pd.DataFrame:
    """Return one run: a falling loss, and settings that are constant or given for each row."""
    steps = np.array(steps)
    return pd.DataFrame(
        {**settings, axis: steps, "loss": 2 + shift - steps / 1000, "val_loss": 3 + shift - steps / 1000}
    )


def runs(*settings: dict[str, Any], **options: Any) -> pd.DataFrame:
    """Return several runs, one after the other. The losses of run i are higher by i."""
    frames = [rows(shift=i, **{**options, **own}) for i, own in enumerate(settings)]
    return pd.concat(frames, ignore_index=True)


def interleaved(frame: pd.DataFrame, axis: str = "step") -> pd.DataFrame:
    return frame.sort_values(axis, kind="stable", ignore_index=True)


def split_rows(words: tuple[str, ...], column: str = "phase", every: int = 1) -> pd.DataFrame:
    """Return rows of several splits; those after the first have a row at every so many steps."""
    found = [
        {"step": step, column: word, "loss": i + step / 1000, "lr": 0.1}
        for step in range(N)
        for i, word in enumerate(words)
        if i == 0 or step % every == 0
    ]
    return pd.DataFrame(found)


HALF = pd.concat([rows(), rows(shift=1)], ignore_index=True)
SEEDS = runs({"seed": 7}, {"seed": 8}, {"seed": 9})
GRID = runs(*({"seed": s, "lr": lr} for s in (1, 2) for lr in (0.1, 0.01)))
DECAY = np.where(np.arange(N) < 10, 0.1, 0.01)
LAYOUTS: dict[str, tuple[pd.DataFrame, list[str] | None]] = {
    "seeds": (SEEDS, ["seed 7", "seed 8", "seed 9"]),
    "interleaved seeds": (interleaved(SEEDS), ["seed 7", "seed 8", "seed 9"]),
    "grid": (GRID, ["seed 1, lr 0.01", "seed 1, lr 0.1", "seed 2, lr 0.01", "seed 2, lr 0.1"]),
    "interleaved grid": (interleaved(GRID), ["seed 1, lr 0.01", "seed 1, lr 0.1", "seed 2, lr 0.01", "seed 2, lr 0.1"]),
    "widths over epochs": (runs({"width": 8}, {"width": 64}, axis="epoch"), ["width 8", "width 64"]),
    "unequal lengths": (runs({"seed": 1}, {"seed": 2, "steps": range(9)}), ["seed 1", "seed 2"]),
    "epochs from 0 and from 1": (
        runs({"trial": 1}, {"trial": 2, "steps": range(1, N + 1)}, axis="epoch"),
        ["trial 1", "trial 2"],
    ),
    "other steps": (runs({"seed": 1}, {"seed": 2, "steps": np.arange(N) + 0.5}, axis="time"), ["seed 1", "seed 2"]),
    "floats": (runs({"weight decay": 0.5}, {"weight decay": 0.001}), ["weight decay 0.001", "weight decay 0.5"]),
    "words": (runs({"model": "mlp"}, {"model": "cnn"}), ["mlp", "cnn"]),
    "words of any name": (runs({"optimizer": "sgd"}, {"optimizer": "adam"}), ["sgd", "adam"]),
    "names and settings": (runs({"name": "a", "lr": 0.1}, {"name": "b", "lr": 0.1}), ["a", "b"]),
    "folds": (runs({"fold": 0}, {"fold": 1}, {"fold": 2}), ["fold 0", "fold 1", "fold 2"]),
    "a schedule in each run": (runs({"seed": 1}, {"seed": 2}, lr=DECAY), ["seed 1", "seed 2"]),
    "a resumed run beside another": (
        runs({"seed": 1, "steps": [*range(12), *range(8, N)]}, {"seed": 2}),
        ["seed 1", "seed 2"],
    ),
    "runs at different times": (
        runs({"run": "x", "steps": range(9)}, {"run": "y", "steps": range(9, 20)}),
        ["x", "y"],
    ),
    # one run
    "a schedule": (rows(lr=DECAY), None),
    "a schedule in a resumed run": (rows(steps=[*range(12), *range(8, N)], lr=0.1), None),
    "a batch size that changes": (rows(batch_size=np.where(np.arange(N) < 9, 32, 64)), None),
    "epochs beside steps": (rows(epoch=np.arange(N) // 6), None),
    "a constant fold": (rows(fold=3), None),
    "a constant word": (rows(dataset="mnist"), None),
    "a flag": (rows(skipped=np.arange(N) % 5 == 0), None),
    "a false start": (rows(steps=[0, 1, *range(N)], lr=0.1), None),
    "a resumed run with a seed": (rows(steps=[*range(12), *range(8, N)], seed=5), None),
}


def written(frame: pd.DataFrame, kind: str, folder: Path) -> Any:
    """Return a path to the frame in a format, or the frame itself."""
    path = folder / f"log.{kind}"
    if kind in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind in ("json", "jsonl"):
        frame.to_json(path, orient="records", lines=kind == "jsonl", double_precision=15)
    return frame if kind == "frame" else path


@pytest.mark.parametrize("name", LAYOUTS)
def test_runs_are_found_and_schedules_are_none(name: str, tmp_path: Path) -> None:
    frame, labels = LAYOUTS[name]
    series = {kind: read(written(frame, kind, tmp_path)) for kind in ("frame", "csv", "tsv", "jsonl", "json")}
    first = series["frame"]
    assert (first["run"].values.tolist() if "run" in first.dims else None) == labels
    for other in series.values():
        xr.testing.assert_allclose(other, first, rtol=1e-14)
        assert set(other.coords) == set(first.coords)
    if labels:
        assert "the rows among" in first.attrs["reading"]
        assert len({*np.round(first["train_loss"].sel(step=4, method="nearest").values, 1).tolist()}) == len(labels)


def test_settings_of_runs_are_coordinates(tmp_path: Path) -> None:
    series = read(GRID)
    assert series["seed"].dims == series["lr"].dims == ("run",)
    assert series["seed"].values.tolist() == [1, 1, 2, 2]
    assert series.isel(run=series["seed"].values == 2)["lr"].values.tolist() == [0.01, 0.1]
    loaded = load(save(series, tmp_path / "run.nc"))
    assert loaded["lr"].values.tolist() == series["lr"].values.tolist()
    words = read(runs({"seed": 1, "model": "mlp"}, {"seed": 2, "model": "cnn"}))
    assert words["model"].values.tolist() == ["mlp", "cnn"]
    one = read(rows(seed=7))
    assert one["seed"].item() == 7
    joined = concat([one, read(rows(seed=9, lr=0.1)).drop_vars("lr"), read(rows())], ["a", "b", "c"])
    np.testing.assert_equal(joined["seed"].values, [7, 9, np.nan])
    assert "seed" not in joined.data_vars
    curve = read(rows()).assign(seed=("step", np.arange(float(N))))
    assert concat([one, curve])["seed"].isel(run=0).values.tolist() == [7] * N


WITH_LAST_TEST = split_rows(("train", "val", "test"))[lambda f: (f["phase"] != "test") | (f["step"] == N - 1)]
FLAGGED = split_rows(("test", "train"))
FLAGGED = FLAGGED.assign(is_train=(FLAGGED["phase"] == "train").astype(int)).drop(columns="phase")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "frame"])
@pytest.mark.parametrize(
    ("frame", "roles"),
    [
        (split_rows(("train", "val")), "train_loss test_loss"),
        (split_rows(("Train", "Validation"), "mode"), "train_loss test_loss"),
        (split_rows(("train", "test"), "anything", every=5), "train_loss test_loss"),
        (split_rows(("train", "val"))[lambda f: f["phase"] == "val"], "test_loss"),
        (split_rows(("train", "val", "warmup"), "stage"), "train_loss test_loss"),
        (split_rows(("train", "test", "ood"), "dist"), "train_loss test_loss"),
        (WITH_LAST_TEST, "train_loss test_loss"),
        (FLAGGED, "train_loss test_loss"),
    ],
)  # fmt: skip
def test_splits_are_found(frame: pd.DataFrame, roles: str, kind: str, tmp_path: Path) -> None:
    series = read(written(frame, kind, tmp_path))
    assert {*roles.split()} == {"train_loss", "test_loss"} & {*map(str, series.data_vars)}
    column = next(name for name in frame if name not in ("step", "loss", "lr"))
    for role in roles.split():
        name = series[role].attrs["logged_as"].split("/")[0]
        own = frame[frame[column].isin([name, name == "train"] if column == "is_train" else [name])]
        assert series[role].dropna("step").values.tolist() == own["loss"].tolist()
    assert (series["lr"].dropna("step") == 0.1).all()  # equal in both splits: one curve
    assert f"the column {column!r} divides the rows among the splits" in series.attrs["reading"]


def test_runs_and_splits_in_epochs_that_count_again() -> None:
    """The iteration starts again with each epoch, the epochs with each phase and seed."""
    found = [
        {"seed": s, "phase": p, "epoch": e, "iter": i, "loss": 100 * s + 10 * e + i + (p == "val") / 2}
        for s in (1, 2) for e in range(4) for p in ("train", "val") for i in range(1, 6)
    ]  # fmt: skip
    series = read(pd.DataFrame(found))
    assert series["run"].values.tolist() == ["seed 1", "seed 2"]
    assert series["step"].values.tolist() == list(range(1, 21))
    assert series["train_loss"].isel(run=1).values.tolist() == [200 + 10 * e + i for e in range(4) for i in range(1, 6)]
    assert (series["test_loss"] - series["train_loss"] == 0.5).all()
    assert "made one count, 5 x (epoch - 0) + iter; --axis epoch takes the epochs" in series.attrs["reading"]
    by_epoch = read(pd.DataFrame(found), axis="epoch")
    assert by_epoch["train_loss"].isel(run=0).values.tolist() == [105, 115, 125, 135]  # the last of each


def test_a_batch_number_is_no_run() -> None:
    table = pd.DataFrame({"epoch": np.repeat(range(6), 5), "batch": [*range(5)] * 6, "loss": np.arange(30.0)})
    assert read(table)["train_loss"].values.tolist() == list(range(30))
    assert read(table, axis="row").sizes == {"step": 30}
    first = read(table.assign(epoch=table["epoch"] + 1))  # epochs from 1
    assert first["step"].values.tolist() == list(range(30))


def test_options_decide(tmp_path: Path) -> None:
    path = written(SEEDS.assign(lr=0.1), "csv", tmp_path)
    assert read(path, run="seed")["run"].values.tolist() == ["seed 7", "seed 8", "seed 9"]
    one = read(path, run="none")
    assert one["train_loss"].values.tolist() == SEEDS["loss"].values[-N:].tolist()
    assert "resumed at 0, 0: 48 older points" in one.attrs["reading"]
    blocks = read(HALF, run="block")
    assert blocks["run"].values.tolist() == ["block 1", "block 2"]
    assert blocks["train_loss"].diff("run").values == pytest.approx(1)
    odd = split_rows(("seen", "unseen"), "subset")
    assert {*map(str, read(odd, split="subset", train_loss="seen/loss").data_vars)} >= {"train_loss", "unseen_loss"}
    assert "phase" not in read(split_rows(("train", "val")), split="none", run="phase").data_vars
    assert read(runs({"a": 1, "b": 1}, {"a": 1, "b": 2}), run=["a", "b"])["b"].values.tolist() == [1, 2]
    widths = read(runs({"width": 2}, {"width": 4}, axis="epoch"), axis="width")
    assert widths.sizes == {"run": N, "step": 2}
    numbered = read(runs({"run": "p"}, {"run": "q"}), axis="row")
    assert numbered["step"].values.tolist() == list(range(N))


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (HALF, {}, r"'step' starting again once at row 25; make each block a run with --run block"),
        (HALF.assign(note=[*"ab"] * N), {}, r"run= \(--run note\), make each block"),
        (runs({"seed": 1}, {"seed": 2}, {"seed": 1}), {}, "starting again 2 times, first at row 25; .*--run seed"),
        (runs({"seed": 1}, {"seed": 2}, {"seed": 1}), {"run": "seed"}, "again within seed once at row 49"),
        (GRID, {"run": "seed"}, r"within seed once .* run= \(--run seed --run lr\)"),
        (runs({"seed": 1}, {"seed": 2, "steps": range(15, 40)}), {}, "going back where 'seed' changes; .*--run seed"),
        (HALF.assign(subset=["id"] * N + ["ood"] * N), {}, "--split subset"),
        (split_rows((0, 1), "phase"), {}, "--split phase"),
        (split_rows(("T", "V"), "kind"), {}, "T/loss, V/loss"),
        (split_rows(("train", "ood"), "dist"), {}, "--split dist"),
        (pd.DataFrame({"epoch": np.repeat(range(9), 5), "loss": np.arange(45.0)}), {}, "80% of the rows repeating"),
        (pd.DataFrame({"seed": [1, 2, 3], "epochs": 100, "test_acc": [0.1, 0.2, 0.3]}), {}, "epochs = 100 in all"),
        (pd.DataFrame({"seed": [1, 2, 3], "epochs": [90, 50, 70], "test_acc": 0.5}), {}, "another 'seed' in each"),
        (SEEDS, {"run": "sede"}, "Expected a column of the table as run, got 'sede'; near names: seed"),
        (SEEDS, {"split": "phase"}, "Expected a column of the table as split, got 'phase'"),
        (SEEDS.assign(x=np.linspace(0, 1, 3 * N)), {"run": "x"}, "few different values as run, got 'x' with many"),
        (split_rows(("train", "val")).assign(mode=["train", "eval", "eval", "train"] * 12), {}, "one column of splits"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_an_error_with_the_choices(
    frame: pd.DataFrame, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    for where in (frame, written(frame, "csv", tmp_path)):
        with pytest.raises(ValueError, match=message):
            read(where, **options)


@pytest.mark.parametrize("make", [lambda: SEEDS, lambda: SEEDS.set_index(["seed", "step"]), lambda: interleaved(SEEDS)])
def test_a_detector_reads_a_frame_as_a_log(make: Callable[[], pd.DataFrame], tmp_path: Path) -> None:
    frame, log = PhaseDetector().fit(make()), PhaseDetector().fit(written(SEEDS, "csv", tmp_path))
    assert frame.markers_["run"].values.tolist() == ["seed 7", "seed 8", "seed 9"]
    xr.testing.assert_equal(*(one.markers_.drop_vars(["seed", "curve"], errors="ignore") for one in (frame, log)))
    split = PhaseDetector().fit(split_rows(("train", "val")))
    assert "test_loss is 'val_loss'" in str(split.notes_)
    with pytest.raises(ValueError, match=r"run block.*; probe.read\(frame, ...\) takes these options"):
        PhaseDetector().fit(HALF)


# Numbers and forms of text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234", 1234), ("1,234,567.5", 1234567.5), ("1 234", 1234), ("1\u202f234", 1234), ("-1'234", -1234),
        (" 0.5 ", 0.5), ("98.5%", 98.5), ("98.5 %", 98.5), ("1e-3", 1e-3), ("NaN", np.nan), ("-inf", -np.inf),
        ("1,23", None), ("1,234 5", None), ("12,34,567", None), ("1_0", None), ("", None), ("0x1", None), ("%", None),
    ],
)  # fmt: skip
def test_numbers_as_text(text: str, number: float | None) -> None:
    np.testing.assert_equal(number_of(text), number)


def test_decimal_commas() -> None:
    assert number_of("1.234,5", comma=True) == 1234.5
    assert number_of("0,5", comma=True) == 0.5
    assert [is_decimal_comma(text) for text in ("0,5", "0,123", "1,234", "1.234,5", "5", "1,5%")] == [1, 1, 0, 1, 0, 1]


TEXTS = {
    "quoted thousands": (
        '"step","loss","val_acc"\n"998","2","10%"\n"999","1.5","20%"\n"1,000","1","30%"\n"1,001","0.5","40%"\n'
    ),
    "blanks": "step   loss  val_acc\n 998   2     10%\n 999   1.5   20%\n1000   1     30%\n1001   .5    40%\n",
    "comment": "# wd 1.0, seed 0\nstep,loss,val_acc\n998,2,10%\n999,1.5,20%\n1 000,1,30%\n1001,0.5,40%\n",
    "names in a comment": "# step loss val_acc\n998 2 10\n999 1.5 20\n1000 1 30\n1001 .5 40\n",
    "wide blanks": "Step  Loss  Val Acc\n998   2     10\n999   1.5   20\n1000  1     30\n1001  .5    40\n",
    "bars": (
        "| step | loss | val_acc |\n|------|------|---------|\n| 998 | 2 | 10 |\n| 999 | 1.5 | 20 |\n"
        "| 1,000 | 1 | 30 |\n| 1,001 | .5 | 40 |\n"
    ),
    "padded": " step , loss ,  val_acc \n 998 ,  2, 10% \n 999, 1.5 , 20%\n 1000, 1, 30%\n 1001, .5, 40%\n",
    "semicolons": "Step;Loss;Val Acc\n998;2,0;10,0\n999;1,5;20,0\n1000;1,0;30,0\n1001;0,5;40,0\n",
    "decimal commas in quotes": 'step,loss,val_acc\n998,"2,0",10\n999,"1,5",20\n1000,"1,0",30\n1001,"0,5",40\n',
    "index of a frame": ",step,loss,val_acc\n0,998,2,10\n1,999,1.5,20\n2,1000,1,30\n3,1001,.5,40\n",
    "byte order mark": "\ufeffstep\tloss\tval_acc\t\n998\t2\t10\t\n999\t1.5\t20\t\n1000\t1\t30\t\n1001\t.5\t40\t\n",
    "titles": "Run 3, wd 1, seed 0\n\nstep,loss,val_acc\n998,2,10\n999,1.5,20\n1000,1,30\n1001,.5,40\n",
    "first line for Excel": "sep=;\nstep;loss;val_acc\n998;2;10\n999;1.5;20\n1000;1;30\n1001;.5;40\n",
    "printed frame": "  step  loss  val_acc\n0  998  2.0  10\n1  999  1.5  20\n2  1000  1.0  30\n3  1001  0.5  40\n",
    "units in names": "step [steps],loss (nats),val acc [%]\n998,2,10\n999,1.5,20\n1000,1,30\n1001,.5,40\n",
    "units in a second line": "step,loss,val_acc\n-,nats,-\n998,2,10\n999,1.5,20\n1000,1,30\n1001,.5,40\n",
    "three decimals": (
        "step\tloss\tval_acc\n998\t2,000\t10,000\n999\t1,500\t20,000\n1000\t1,000\t30,000\n1001\t,500\t40,000\n"
    ),
    "points as thousands": "step;loss;val_acc\n998;2,0;10,0\n999;1,5;20,0\n1.000;1,0;30,0\n1.001;0,5;40,0\n",
    "a column twice": "step,loss,val_acc,loss\n998,2,10,2\n999,1.5,20,1.5\n1000,1,30,1\n1001,.5,40,.5\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_tables_as_people_write_them(name: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(TEXTS[name], encoding="utf-8")
    series = read(tmp_path / "log.csv")
    assert series["step"].values.tolist() == [998, 999, 1000, 1001]
    assert series["train_loss"].values.tolist() == [2, 1.5, 1, 0.5]
    assert series["test_accuracy"].values.tolist() == [10, 20, 30, 40]
    assert series["test_accuracy"].attrs["units"] == ("%" if "%" in TEXTS[name] else "1")
    assert not {*series.data_vars} - {"train_loss", "test_accuracy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss,val_loss\n", "rows below the names .* got only step, loss, val_loss"),
        ("loss,acc,loss,acc\ntrain,train,val,val\n1,.1,2,.1\n.5,.2,1,.2\n", "got '(loss|acc)' 2 times"),
    ],
)
def test_tables_without_rows_and_with_a_name_twice_are_errors(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "log.csv", axis="row")


def test_accuracies_below_one_percent_are_percent(tmp_path: Path) -> None:
    """A percent sign is the unit, also where no value is above 1. A note is enough where the log states the unit."""
    table = "step,train_acc,val_acc\n" + "".join(f"{i},0.{i}%,0.5%\n" for i in range(9))
    (tmp_path / "log.csv").write_text(table)
    assert "divided by 100" in str(PhaseDetector().fit(tmp_path / "log.csv").notes_)
    (tmp_path / "log.csv").write_text(table.replace("%,", ","))  # one of the two
    with pytest.warns(ProbeWarning, match="got percent"):
        PhaseDetector().fit(tmp_path / "log.csv")


def test_long_tables_of_names_and_values() -> None:
    found = [
        {"seed": s, "step": i, "metric": m, "value": s + k + i}
        for s in (1, 2) for i in range(5) for k, m in enumerate(("loss", "val_loss"))
    ]  # fmt: skip
    series = read(pd.DataFrame(found))
    assert series["test_loss"].isel(run=1).values.tolist() == [3, 4, 5, 6, 7]


def test_lines_of_json_with_words_and_nesting(tmp_path: Path) -> None:
    """Fast and slow ways of reading agree: rows with equal keys, with others, damaged lines, large integers."""
    found: list[Any] = [{"step": i, "mode": "train", "loss": i / 7} for i in range(3000)]
    found[5:5] = [{"step": 4, "eval": {"loss": 1.5, "acc": "98.5%"}, "mode": "val"}, [1], 3]
    found += [{"step": i, "mode": "train", "loss": None if i % 2 else 10**400} for i in range(3000, 3004)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, found)) + "\n{rubbish\n")
    series = read(tmp_path / "log.jsonl", strict=False)
    assert series["train_loss"].values.tolist() == [i / 7 for i in range(3000)]
    assert series["eval_acc"].sel(step=4) == 98.5
    assert series["eval_acc"].attrs["units"] == "%"
    assert "3 lines are no JSON objects" in series.attrs["reading"]
