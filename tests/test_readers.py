"""Logs of other libraries as series. Those libraries wrote the files in tests/logs from known curves."""

import json
import os
import shutil
import sqlite3
import struct
import warnings
from collections.abc import Sequence
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probe import PhaseDetector, load, save
from probe.errors import ProbeWarning
from probe.readers import READERS, guess_roles, read, role_of
from probe.readers.discovery import run_labels
from probe.readers.log import Log, increasing_points, to_series
from probe.readers.reader import Reader, ReadOptions
from probe.readers.wire import tfrecord as records
from probe.readers.wire.events import Scalars, read_scalars

LOGS = Path(__file__).parent / "logs"
_spec = spec_from_file_location("make_logs", LOGS / "make.py")
assert _spec is not None
assert _spec.loader is not None
make = module_from_spec(_spec)
_spec.loader.exec_module(make)
ROLES = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
EVENTS = next((LOGS / "tensorboard" / "plain").glob("*tfevents*"))


def agrees(series: xr.Dataset, roles: list[str], seed: int = 0, rtol: float = 1e-6) -> None:
    """Assert that the series has exactly the planted numbers."""
    truth = make.curves(seed)
    assert series["step"].values.tolist() == truth["step"].tolist()
    assert series["step"].dtype == np.int64
    for role in roles:
        np.testing.assert_allclose(series[role].values, truth[role], rtol=rtol)


@pytest.mark.parametrize(
    ("where", "roles", "rtol"),
    [
        ("tensorboard/plain", ROLES, 1e-6),
        ("tensorboard/tensor", ROLES, 1e-6),
        ("tensorboard/scalars", ["train_loss", "test_loss"], 1e-6),
        ("keras", ROLES, 1e-6),
        ("huggingface", ["train_loss", "test_loss", "test_accuracy"], 0),
        ("huggingface/checkpoint-100000/trainer_state.json", ["train_loss", "test_loss", "test_accuracy"], 0),
        ("wandb", ROLES, 0),
        ("wandb-history.jsonl", ROLES, 0),
        ("mlruns/0/seed0", ROLES, 0),
        ("lightning/lightning_logs/version_0", ROLES, 0),
        ("lightning/lightning_logs/version_0/metrics.csv", ROLES, 0),
    ],
)
def test_one_run_has_the_numbers_that_were_logged(where: str, roles: list[str], rtol: float) -> None:
    series = read(LOGS / where)
    agrees(series, roles, rtol=rtol)
    assert series.attrs["reading"]


@pytest.mark.parametrize(
    ("where", "labels", "roles"),
    [
        ("tensorboard/seeds", ["seed0", "seed1", "seed2"], ["test_loss"]),
        ("lightning", ["version_0", "version_1"], ROLES),
        ("mlruns", ["seed0", "seed1"], ROLES),
        ("wandb_csv", ["seed-0", "seed-1"], ["train_accuracy", "test_loss"]),
    ],
)
def test_a_folder_of_runs(where: str, labels: list[str], roles: list[str]) -> None:
    series = read(LOGS / where)
    assert series["run"].values.tolist() == labels
    for seed in range(len(labels)):
        agrees(series.isel(run=seed), roles, seed, rtol=1e-5)


def test_a_resumed_run_goes_on_where_it_was_resumed() -> None:
    """Its second file begins five observations before the end of the first, and is 1 higher."""
    series = read(LOGS / "tensorboard" / "resumed")
    truth = make.curves()
    assert series["step"].values.tolist() == truth["step"].tolist()
    shift = np.arange(len(truth["step"])) >= 50
    np.testing.assert_allclose(series["train_loss"].values, truth["train_loss"] + shift, rtol=1e-6)
    assert "resumed at 45815: 5 older points were dropped" in series.attrs["reading"]


def test_the_database_of_mlflow(tmp_path: Path) -> None:
    def database(*changes: str) -> Path:
        (tmp_path / "mlflow.db").unlink(missing_ok=True)
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
            script = (LOGS / "mlflow.sql").read_text() + ";\n".join(changes)
            connection.executescript(f"BEGIN;\n{script};\nCOMMIT;")
        return tmp_path / "mlflow.db"

    series = read(database().parent)
    assert series["run"].values.tolist() == ["seed0", "seed1"]
    for seed in range(2):
        agrees(series.isel(run=seed), ROLES, seed)
    assert read(database("UPDATE runs SET name = 'same'"))["run"].values.tolist() == ["same 1", "same 2"]
    one = read(database("UPDATE runs SET lifecycle_stage = 'deleted' WHERE name = 'seed0'"))
    agrees(one, ROLES, 1)
    assert "1 deleted runs were ignored" in one.attrs["reading"]
    with pytest.raises(ValueError, match=r"Expected a run with a metric in mlflow\.db"):
        read(database("DELETE FROM metrics"))
    with pytest.raises(ValueError, match="Expected a database of MLflow"):
        read(database("DROP TABLE metrics"))


# Event files


def test_checksums_are_those_of_the_standard() -> None:
    """RFC 3720, B.4: 32 bytes of zeros, ones, rising, falling; and "123456789", of odd length."""
    known = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E, b"123456789": 0xE3069283}
    known[bytes(range(31, -1, -1))] = 0x113FDB5C
    for data, expected in known.items():
        masked = int(records.checksums(np.frombuffer(data, np.uint8)[None])[0])
        rotated = (masked - 0xA282EAD8) % 2**32
        assert (rotated >> 17 | rotated << 15) % 2**32 == expected


def events(path: Path) -> tuple[Scalars, list[str]]:
    notes: list[str] = []
    bad: list[int] = []
    found: dict[str, list] = {}
    for block in records.read_frames(path, notes):
        for tag, points in read_scalars(block, bad).items():
            found.setdefault(tag, []).append(points)
    notes += ["damaged records"] if sum(bad) else []
    return {
        tag: tuple(np.concatenate(column) for column in zip(*some, strict=True)) for tag, some in found.items()
    }, notes


def pairs(found: Scalars) -> set[tuple[str, int, float]]:
    return {
        (tag, int(s), float(v)) for tag, (steps, values) in found.items() for s, v in zip(steps, values, strict=True)
    }


def ends(data: bytes) -> set[int]:
    """Return the positions after records, at which a cut leaves no trace."""
    at, found = 0, {0}
    while at < len(data):
        at += struct.unpack_from("<Q", data, at)[0] + 16
        found.add(at)
    return found


def test_cut_files_give_a_prefix_and_say_so(tmp_path: Path) -> None:
    data, whole = EVENTS.read_bytes(), events(EVENTS)[0]
    counts = []
    for cut in [*range(len(data) - 130, len(data), 7), 300, 24, 5]:
        (tmp_path / "tfevents").write_bytes(data[:cut])
        found, notes = events(tmp_path / "tfevents")
        assert len(notes) == (cut not in ends(data))
        assert all("cut off" in note for note in notes)
        for tag, (steps, values) in found.items():
            assert steps.tolist() == whole[tag][0][: len(steps)].tolist()
            assert values.tolist() == whole[tag][1][: len(steps)].tolist()
        counts.append(len(pairs(found)))
    assert counts[:-3] == sorted(counts[:-3])
    assert max(counts) == len(pairs(whole)) - 1


def test_no_flipped_bit_makes_a_wrong_number_or_goes_unsaid(tmp_path: Path) -> None:
    path = next((LOGS / "tensorboard" / "resumed").glob("*.0"))  # scalars only; other records are not checked
    data, truth = path.read_bytes(), pairs(events(path)[0])
    rng = np.random.default_rng(0)
    counts = []
    for at in rng.integers(100, len(data), 150):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "tfevents").write_bytes(flipped)
        found, notes = events(tmp_path / "tfevents")
        assert pairs(found) < truth
        assert any("damaged" in note for note in notes)
        counts.append(len(pairs(found)))
    assert np.median(counts) == len(truth) - 1  # most flips damage one record; a flip in a length ends the file


def test_blocks_do_not_matter_and_long_records_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = events(EVENTS)
    for block, longest in ((64, 2**20), (1000, 100), (333, 400)):
        monkeypatch.setattr(records, "_BLOCK", block)
        monkeypatch.setattr(records, "_LONGEST", longest)
        found, notes = events(EVENTS)
        assert not notes
        assert pairs(found) == pairs(whole)


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def nested(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def event(step: int, *values: bytes) -> bytes:
    record = b"\x09" + struct.pack("<d", step * 0.1) + (b"\x10" + varint(step) if step else b"")
    return record + nested(5, b"".join(nested(1, value) for value in values))


def framed(record: bytes) -> bytes:
    def crc(data: bytes) -> bytes:
        return records.checksums(np.frombuffer(data, np.uint8)[None]).tobytes()

    head = struct.pack("<Q", len(record))
    return head + crc(head) + record + crc(record)


KINDS = {
    "simple_value": lambda x: b"\x15" + struct.pack("<f", x),
    "float": lambda x: nested(8, b"\x08\x01" + nested(2, b"") + nested(5, struct.pack("<f", x))),
    "float, not packed": lambda x: nested(8, b"\x08\x01" + b"\x2d" + struct.pack("<f", x)),
    "double": lambda x: nested(8, b"\x08\x02" + nested(6, struct.pack("<d", x))),
    "content float": lambda x: nested(8, b"\x08\x01" + nested(4, struct.pack("<f", x))),
    "content double": lambda x: nested(8, b"\x08\x02" + nested(4, struct.pack("<d", x))),
    "content half": lambda x: nested(8, b"\x08\x13" + nested(4, struct.pack("<e", x))),
    "content bfloat16": lambda x: nested(8, b"\x08\x0e" + nested(4, struct.pack("<f", x)[2:])),
    "content int64": lambda x: nested(8, b"\x08\x09" + nested(4, struct.pack("<q", int(x)))),
    "int64": lambda x: nested(8, b"\x08\x09" + nested(10, varint(int(x)))),
    "int": lambda x: nested(8, b"\x08\x03\x38" + varint(int(x))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_scalar(kind: str, tmp_path: Path) -> None:
    """Steps of 0 to 6 bytes, several tags, several values in one event, and values that are no scalars."""
    steps = [0, 1, 5, 127, 128, 5000, 2**21, 2**40]
    values = [float(i % 5) * 64 for i in range(len(steps))]  # exact in every kind
    picture = nested(1, b"img") + nested(8, b"\x08\x07" + nested(8, b"12345678"))
    several = nested(1, b"many") + nested(8, b"\x08\x01" + nested(5, struct.pack("<2f", 1, 2)))
    data = framed(b"\x09" + bytes(8) + nested(3, b"brain.Event:2"))
    for step, value in zip(steps, values, strict=True):
        a, b = (nested(1, tag) + KINDS[kind](v) for tag, v in ((b"a", value), (b"b", value + 64)))
        data += framed(event(step, a)) + framed(event(step, picture)) + framed(event(step, several))
        data += framed(event(step, b)) + framed(
            event(step, nested(1, b"c") + KINDS[kind](value), nested(1, b"d") + b[3:])
        )
    (tmp_path / "tfevents").write_bytes(data)
    found, notes = events(tmp_path / "tfevents")
    assert not notes
    assert set(found) == {"a", "b", "c", "d"}
    for tag, shift in (("a", 0), ("b", 64), ("c", 0), ("d", 64)):
        assert found[tag][0].tolist() == steps
        assert found[tag][1].tolist() == [value + shift for value in values]


def test_many_tags_keep_their_order_and_their_points(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    steps, tags, values = rng.integers(2**16, size=900), rng.integers(40, size=900), rng.random(900).astype(np.float32)
    data = [
        framed(event(int(s), nested(1, f"layer{t:02}".encode()) + KINDS["simple_value"](float(v))))
        for s, t, v in zip(steps, tags, values, strict=True)
    ]
    (tmp_path / "tfevents").write_bytes(b"".join(data))
    found, _ = events(tmp_path / "tfevents")
    for tag in range(40):
        assert found[f"layer{tag:02}"][0].tolist() == steps[tags == tag].tolist()
        assert found[f"layer{tag:02}"][1].tolist() == values[tags == tag].tolist()


def test_a_damaged_event_file_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / EVENTS.name).write_bytes(EVENTS.read_bytes()[:-500])
    with pytest.warns(ProbeWarning, match="cut off, or still being written"):
        series = read(tmp_path)
    assert series.sizes["step"] > 40
    assert "cut off" in series.attrs["reading"]


def test_event_files_above_runs_do_not_join_them(tmp_path: Path) -> None:
    """Only folders of add_scalars belong to the run above. A run without scalars is ignored."""
    source = next((LOGS / "tensorboard" / "seeds" / "seed0").glob("*"))
    above = next((LOGS / "tensorboard" / "scalars").glob("*tfevents*"))
    for folder, file in (("", above), ("run_1", source), ("run_2", source)):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / folder)
    series = read(tmp_path)
    assert series["run"].values.tolist() == ["run_1", "run_2"]
    assert "runs without points were ignored: ." in series.attrs["reading"]


# Steps


@pytest.mark.parametrize(
    ("steps", "kept", "note"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], ""),
        ([0, 1, 1, 2], [0, 2, 3], "1 repeated steps"),
        ([0, 10, 20, 30, 15, 25, 35], [0, 1, 4, 5, 6], "resumed at 15: 2 older points were dropped"),
        ([0, 10, 20, 10, 20, 30], [0, 3, 4, 5], "resumed at 10: 2 older"),
        ([0, 10, 20, 0, 10], [3, 4], "resumed at 0: 3 older"),
        ([0, 10, 20, 30, 12, 14, 25, 5, 6], [0, 7, 8], "resumed at 12, 5: 6 older"),
        ([0, 10, 20, 5], [0, 3, 1, 2], ""),  # a single point with an earlier step is no resumption
        ([50, 40, 30, 20, 10, 0], [5, 4, 3, 2, 1, 0], "in no order"),
        ([], [], ""),
    ],
)
def test_steps_that_repeat_and_go_back(steps: list[int], kept: list[int], note: str) -> None:
    values = np.arange(len(steps))
    found_steps, found_values, found_note = increasing_points(np.array(steps, dtype=float), values)
    assert found_values.tolist() == kept
    assert found_steps.tolist() == [steps[i] for i in kept]
    assert (note in found_note) if note else not found_note


# Names


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("loss", "train_loss"), ("train/loss", "train_loss"), ("Loss/train", "train_loss"),
        ("training_loss", "train_loss"), ("trainLoss", "train_loss"),
        ("train_loss_epoch", "train_loss"), ("acc", "train_accuracy"),
        ("Accuracy", "train_accuracy"), ("val_loss", "test_loss"), ("eval/loss", "test_loss"),
        ("valid loss", "test_loss"),
        ("validation.loss", "test_loss"), ("dev_acc", "test_accuracy"), ("eval_accuracy", "test_accuracy"),
        ("valAcc", "test_accuracy"), ("aux_loss", None), ("train_val_gap", None), ("train_val_loss", None),
        ("eval_top1", "test_accuracy"), ("test_acc1", "test_accuracy"), ("val_acc_top1", "test_accuracy"),
        ("metrics/accuracy_top1", "train_accuracy"), ("acc@1", "train_accuracy"), ("val_prec1", "test_accuracy"),
        ("sparse_categorical_accuracy", "train_accuracy"), ("val_binary_accuracy", "test_accuracy"),
        ("eval_mean_token_accuracy", "test_accuracy"), ("val_error_rate", "test_accuracy"),
        ("top1_err", "train_accuracy"), ("test_error", None), ("squared_error_rate", None), ("top10_acc", None),
        ("val_acc_top5", None), ("loss_2", None), ("lr", None), ("accumulate", None), ("eval_loss_gap", None),
    ],
)  # fmt: skip
def test_usual_spellings(name: str, role: str | None) -> None:
    assert role_of(name) == role


def test_which_name_is_chosen() -> None:
    assert guess_roles({"loss": 9, "train_loss": 1}, {})[0] == {"train_loss": "loss"}  # a summary at the end
    assert guess_roles({"loss": 9, "train_loss": 9}, {})[0] == {"train_loss": "train_loss"}
    both = {"val_top1": 9, "val_accuracy": 9, "val_error_rate": 9}
    assert guess_roles(both, {})[0] == {"test_accuracy": "val_accuracy"}
    assert guess_roles({"train_loss_step": 90, "train_loss_epoch": 9}, {})[0] == {"train_loss": "train_loss_epoch"}
    chosen, unclear = guess_roles({"val_loss": 9, "valid/loss": 9}, {})
    assert not chosen
    assert unclear == [("test_loss", ["val_loss", "valid/loss"])]
    assert guess_roles({"val_loss": 9, "valid/loss": 9}, {"test_loss": "valid/loss"}) == (
        {"test_loss": "valid/loss"},
        [],
    )


def test_curves_that_probes_wrote_to_a_logger_take_the_free_roles() -> None:
    ours = {"probe/test_loss": 30, "probe/train_accuracy": 30, "probe/loss_gap": 30}
    train = {"train_accuracy": "probe/train_accuracy"}
    assert guess_roles(ours, {}) == (train | {"test_loss": "probe/test_loss"}, [])
    assert guess_roles(ours | {"val_loss": 9}, {}) == (train | {"test_loss": "val_loss"}, [])
    assert guess_roles(ours | {"val_loss": 9, "valid/loss": 9}, {})[0] == train
    detector = PhaseDetector().fit({"step": np.arange(1, 31), "probe/test_loss": np.linspace(2, 1, 30)})
    assert "in the curves, test_loss is 'probe/test_loss'" in detector.notes_


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("train_loss valid_loss accuracy", "test"), ("val_loss acc", "test"),
        ("train_loss valid_loss error_rate", "test"),
        ("loss accuracy", "train"), ("loss val_loss accuracy", "train"), ("accuracy val_accuracy", "train"),
        ("train_loss accuracy", None), ("accuracy", None),
    ],
)  # fmt: skip
def test_an_accuracy_without_a_split_belongs_where_the_losses_show_it(names: str, split: str | None) -> None:
    """Keras logs training without a split; fastai and Hugging Face log the validation accuracy without one."""
    bare = next(name for name in names.split() if name in ("accuracy", "acc", "error_rate"))
    chosen, unclear = guess_roles(dict.fromkeys(names.split(), 9), {})
    assert [role for role, name in chosen.items() if name == bare] == ([f"{split}_accuracy"] if split else [])
    assert unclear == ([] if split else [("train_accuracy", [bare])])
    if not split:
        with pytest.raises(ValueError, match=f"its split in x, got '{bare}'; pass it as train_accuracy= "):
            to_series(log(**dict.fromkeys(names.split(), 9)), {}, source="x", format="csv")


def log(**columns: int) -> Log:
    return Log({name: (np.arange(n), np.linspace(0, 1, n)) for name, n in columns.items()})


def test_unclear_and_unknown_names_are_errors_that_list_names() -> None:
    with pytest.raises(
        ValueError, match="Expected one name for test_loss in x, got val_loss and eval_loss; choose one"
    ):
        to_series(log(val_loss=9, eval_loss=9), {}, source="x", format="csv")
    with pytest.raises(ValueError, match="Expected a name of a loss or an accuracy in x, got reward, lr; give yours"):
        to_series(log(reward=9, lr=9), {}, source="x", format="csv")
    with pytest.raises(ValueError, match="a logged name for test_loss in x, got 'val_los'; near names: val_loss"):
        to_series(log(val_loss=9), {"test_loss": "val_los"}, source="x", format="csv")
    with pytest.raises(ValueError, match="Expected a number with a step in x"):
        to_series(Log({}), {}, source="x", format="csv")
    series = to_series(log(val_loss=9, eval_loss=9), {}, source="x", format="csv", strict=False)
    assert set(series) == {"val_loss", "eval_loss"}
    assert series.attrs["reading"] == "test_loss is unclear: one of val_loss, eval_loss"


def test_names_of_variables_stay_apart() -> None:
    points = {name: (np.arange(5), np.full(5, float(i))) for i, name in enumerate(["a/b", "a_b", "test_loss", "mine"])}
    series = to_series(Log(points), {"test_loss": "mine"}, source="x", format="csv")
    assert {name: (a.attrs["logged_as"], float(a[0])) for name, a in series.items()} == {
        "a_b": ("a/b", 0), "a_b_2": ("a_b", 1), "test_loss_2": ("test_loss", 2), "test_loss": ("mine", 3),
    }  # fmt: skip


def test_labels_of_runs_are_short() -> None:
    paths = [Path(f"/logs/exp/{name}/version_0/files") for name in ("a", "b")]
    assert run_labels(paths) == ["a", "b"]
    assert run_labels([Path("/logs/a"), Path("/logs/a/b")]) == [".", "b"]
    assert run_labels([Path("/logs/a")]) == [""]


# Tables


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("step,loss,val_acc\n0,2,0.1\n1,1.5,0.2\n2,1,0.3\n3,.5,0.4\n", ""),
        ("step\tloss\tval_acc\n0\t2\t0.1\n1\t1.5\t0.2\n2\t1\t0.3\n3\t.5\t0.4\n", "delimiter of the columns is a tab"),
        ("\ufeffStep; loss; val_acc\n0;2;0,1\n1;1,5;0,2\n2;1;0,3\n3;0,5;0,4\n", "decimal comma"),
        ('"step","loss","val_acc"\n0,2,0.1\n1,1.5,\n1,,0.2\n2,1,0.3\n3,.5,0.4\n', ""),
        (
            "epoch,loss,val_acc,who\n0,2,0.1,me\n1,1.5,0.2,me\n2,1,0.3,me\n3,.5,0.4,\n",
            "columns without numbers were ignored: who",
        ),
        (
            "step,loss,val_acc,x\n0,2,0.1,1\n1,1.5,0.2,1\n2,1,0.3,1\n3,.5,0.4,1\n4,.2,0.5,1",
            "cut off, or still being written",
        ),
    ],
)
def test_tables_as_they_come(text: str, notes: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        series = read(written(tmp_path / "log.csv", text))
    assert len(caught) == ("cut off" in notes)
    assert series["step"].values.tolist() == [0, 1, 2, 3]
    assert series["train_loss"].values.tolist() == [2, 1.5, 1, 0.5]
    assert series["test_accuracy"].values.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert notes in series.attrs["reading"]


def test_the_column_of_steps_is_named_or_missed(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "t,loss\n5,1\n6,2\n7,3\n8,4\n")
    with pytest.raises(
        ValueError, match=r"Expected a column of steps named step, steps, .*, got t, loss; .* axis='row'"
    ):
        read(path)
    assert read(path, axis="t")["step"].values.tolist() == [5, 6, 7, 8]
    assert read(path, axis="row")["step"].values.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="as axis, got 'tt'"):
        read(path, axis="tt")


@pytest.mark.parametrize("labels", [("3", "7"), ("b", "a")])
def test_a_column_run_divides_the_rows(labels: tuple[str, str], tmp_path: Path) -> None:
    rows = "".join(f"{run},{step},{n + step}\n" for run, n in zip(labels, (3, 7), strict=True) for step in range(4 + n))
    series = read(written(tmp_path / "log.csv", f"run,step,loss\n{rows}"))
    assert series["run"].values.tolist() == list(labels)
    assert series["train_loss"].isel(run=1).values.tolist() == list(range(7, 18))
    assert series["train_loss"].isel(run=0).count() == 7  # shorter, the rest missing
    assert "have no" not in series.attrs["reading"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("1,2\n3,4\n", "Expected names of columns in the first line .* got numbers"),
        ("step,loss\n1,2\n3,4,5\n", "Expected a table in"),
        ("step,loss\na,b\n", "a column of steps|a number with a step"),
    ],
)
def test_what_is_no_table_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path / "log.csv", text))


def test_lines_of_json(tmp_path: Path) -> None:
    good = [
        {"global_step": i, "train": {"loss": 4 - i, "note": "x"}, "eval_loss": "NaN" if i == 1 else i} for i in range(5)
    ]
    text = (
        '{"config": 1}\n' + "\n".join(map(json.dumps, good[:3])) + "\nrubbish\n" + "\n".join(map(json.dumps, good[3:]))
    )
    with pytest.warns(ProbeWarning, match="cut off"):
        series = read(written(tmp_path / "log.jsonl", text + '\n{"global_step": 5, "tr'))
    assert series["train_loss"].values.tolist() == [4, 3, 2, 1, 0]
    np.testing.assert_equal(series["test_loss"].values, [0, np.nan, 2, 3, 4])
    notes = series.attrs["reading"]
    assert "1 lines are no JSON objects" in notes
    assert "1 of 6 rows have no 'global_step'" in notes
    assert "train/note" in notes


def test_json_lists_and_histories(tmp_path: Path) -> None:
    rows = [{"step": i, "loss": i / 2} for i in range(5)]
    assert read(written(tmp_path / "a.json", json.dumps(rows)))["train_loss"].values.tolist() == [0, 0.5, 1, 1.5, 2]
    history = {"loss": [3, 2, 1, 0], "val_loss": [4, 3, 2, 1]}
    path = written(tmp_path / "b.json", json.dumps(history))
    assert read(path, axis="row")["test_loss"].values.tolist() == [4, 3, 2, 1]
    with pytest.raises(ValueError, match="Expected lists of one length, or a list of steps"):
        read(written(tmp_path / "c.json", json.dumps({"a": [1, 2], "b": [1]})))


# Files and folders


def test_runs_of_different_lengths_and_formats(tmp_path: Path) -> None:
    for name, n in (("a", 5), ("b", 9)):
        written(tmp_path / f"{name}.csv", "step,loss\n" + "".join(f"{i},{i}\n" for i in range(n)))
    written(tmp_path / "c.jsonl", '{"step": 0, "loss": 1}\n')
    series = read(tmp_path)
    assert series["run"].values.tolist() == ["a", "b", "c"]
    assert series["train_loss"].count("step").values.tolist() == [5, 9, 1]
    assert "files of other formats were ignored: 1 of json" in read(tmp_path, format="csv").attrs["reading"]
    assert read(tmp_path, format="json").sizes == {"step": 1}
    with pytest.raises(ValueError, match="Expected one of the formats probe, tensorboard"):
        read(tmp_path, format="excel")
    with pytest.raises(FileNotFoundError, match="Expected a log of the format mlflow in the folder"):
        read(tmp_path, format="mlflow")
    with pytest.raises(ValueError, match="Expected a log of a known format"):
        read(written(tmp_path / "d.xyz", ""))
    with pytest.raises(TypeError, match="Expected roles among"):
        read(tmp_path, test_los="x")


def test_a_new_format_is_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
        steps, losses = np.loadtxt(files[0]).T
        return {"": Log({"loss": (steps, losses)}, damage=[f"{files[0].name}: cut off"])}

    mine = Reader("mine", "*.mine", lambda candidate: candidate.head.startswith("0 3"), rows, suffixes=(".own",))
    monkeypatch.setitem(READERS, "mine", mine)
    path = written(tmp_path / "run.mine", "0 3\n5 2\n9 1\n")
    for where in (path, tmp_path):
        with pytest.warns(ProbeWarning, match=r"got a damaged one; run\.mine: cut off"):
            series = read(where)
        assert series["train_loss"].sel(step=[0, 5, 9]).values.tolist() == [3, 2, 1]
        assert json.loads(series.attrs["provenance"])["format"] == "mine"


def test_damaged_files_of_other_libraries(tmp_path: Path) -> None:
    data = (LOGS / "wandb" / "run-planted1.wandb").read_bytes()
    (tmp_path / "cut.wandb").write_bytes(data[:30_000])
    with pytest.warns(ProbeWarning, match="cut off"):
        series = read(tmp_path / "cut.wandb")
    n = series["train_loss"].count().item()
    assert 20 < n < 55
    assert series["train_loss"].values[:n].tolist() == make.curves()["train_loss"][:n].tolist()
    one, other = tmp_path / "flipped" / "one.wandb", tmp_path / "flipped" / "other.wandb"
    one.parent.mkdir()
    one.write_bytes(data)
    other.write_bytes(data[:20_000] + bytes([data[20_000] ^ 4]) + data[20_001:])
    with pytest.warns(ProbeWarning, match="1 damaged records were ignored"):
        series = read(one.parent)
    assert series["run"].values.tolist() == ["one", "other"]
    assert series["train_loss"].count("step").values[0] == 55
    assert series[["train_loss", "test_loss"]].to_array().isel(run=1).count() in (109, 110)
    agrees(series.isel(run=0), ROLES, rtol=0)
    (tmp_path / "other.wandb").write_bytes(b"SQLite")
    with pytest.raises(ValueError, match="export the run's history as CSV"):
        read(tmp_path / "other.wandb")
    written(tmp_path / "trainer_state.json", '{"log_history": [')
    with pytest.raises(ValueError, match="damaged or still being written"):
        read(tmp_path / "trainer_state.json")
    metrics = tmp_path / "mlruns" / "metrics"
    metrics.mkdir(parents=True)
    written(tmp_path / "mlruns" / "meta.yaml", "")
    written(metrics / "loss", "0 3.5 0\n0 2.5 1\n0 1.5 2\nx\n0 0.5 3\n0 .2")
    with pytest.warns(ProbeWarning, match="1 damaged lines|the last line is cut off"):
        assert read(tmp_path / "mlruns")["train_loss"].values.tolist() == [3.5, 2.5, 1.5, 0.5]


def test_a_log_is_saved_and_loaded_as_a_series(tmp_path: Path) -> None:
    series = read(LOGS / "keras")
    loaded = load(save(series, tmp_path / "run.nc"))
    xr.testing.assert_equal(loaded, series)
    assert read(tmp_path / "run.nc").equals(loaded)
    assert loaded["test_loss"].attrs["logged_as"] == "validation/loss"


@pytest.fixture
def fitted() -> PhaseDetector:
    return PhaseDetector().fit(make.curves())


@pytest.mark.parametrize(
    "where", ["tensorboard/plain", "keras", "huggingface", "wandb", "lightning/lightning_logs/version_0"]
)
def test_phases_of_a_log_are_those_of_its_curves(where: str, fitted: PhaseDetector) -> None:
    found = PhaseDetector().fit(LOGS / where)
    for name in ("status", "step"):
        of_probes = ["compression_onset", "chaos_end", "cone_entry"]
        known = fitted.markers_[name].drop_sel(marker=of_probes)
        other = found.markers_[name].drop_sel(marker=of_probes)
        if where == "huggingface":  # it logs no train accuracy
            known, other = known.drop_sel(marker="fit_end"), other.drop_sel(marker="fit_end")
        if name == "status":
            assert (known.values == other.values).all()
            assert (known == "found").all()
        else:
            np.testing.assert_allclose(other.values, known.values, rtol=1e-3)


def test_roles_and_axis_of_a_detector_are_names_in_the_log() -> None:
    detector = PhaseDetector(test_loss="Acc/val").fit(str(LOGS / "tensorboard" / "plain"))
    assert detector.curves_["test_loss"].attrs["logged_as"] == "Acc/val"
    with pytest.raises(ValueError, match="near names: Acc/val"):
        PhaseDetector(test_accuracy="acc/vall").fit(LOGS / "tensorboard" / "plain")
    by_epoch = PhaseDetector(axis="epoch").fit(LOGS / "huggingface")
    by_step = PhaseDetector().fit(LOGS / "huggingface")
    np.testing.assert_allclose(by_epoch.markers_["step"] * 100, by_step.markers_["step"], rtol=0.05)
    assert "at epoch" in by_epoch.summary()


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "loss.csv")
    with pytest.raises(OSError, match=r"Expected a file at .*loss.csv, got a pipe"):
        read(tmp_path / "loss.csv")
    (tmp_path / "run.csv").write_text("step,train_loss\n0,2\n10,1\n")
    assert read(tmp_path)["train_loss"].values.ravel().tolist() == [2, 1]
