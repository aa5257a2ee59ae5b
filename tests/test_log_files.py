"""Files and folders of logs: encodings, compression, torn ends, files that cannot be read."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import sqlite3
import warnings
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probe import save
from probe.__main__ import main
from probe.errors import ProbeWarning
from probe.readers import read, waiting
from probe.readers.folders import files_below
from probe.readers.reader import Candidate
from probe.readers.text import TextFile, parse_json, read_text
from probe.readers.wire.database import open_database

LINES = [f"{i},{1 / (i + 1)}" for i in range(2_000)]


def zipped(data: bytes) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", data)
    return file.getvalue()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zip": zipped,
}


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Text


@pytest.mark.parametrize(
    ("encoding", "suffix", "end"),
    [
        *(("utf-8", suffix, "\n") for suffix in COMPRESS),
        *(("utf-8-sig", ".gz", "\r\n"), ("utf-16", "", "\r"), ("utf-16", "", "\r\n"), ("utf-32", ".xz", "\n")),
    ],
)
def test_text_in_any_encoding_is_given_in_complete_lines(encoding: str, suffix: str, end: str, tmp_path: Path) -> None:
    data = COMPRESS[suffix](end.join(["step,loss", *LINES[:1_500], "7,0.1"]).encode(encoding))
    path = written(tmp_path / "log", data)  # its kind is found by its content
    text = TextFile(path)
    assert list(text) == ["step,loss\n", *(f"{line}\n" for line in LINES[:1_500])]
    assert text.torn == "7,0.1"
    assert text.notes + text.damage == []
    assert "the last line is cut off" in text.cut_off()[0]
    assert len(pd.read_csv(TextFile(path))) == 1_500
    assert Candidate(path).head.splitlines()[:200] == ["step,loss", *LINES[:199]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("runs.tar.gz", gzip.compress(bytes(1024), mtime=0), "unpack it, and name the folder"),
        ("a.xlsx", b"PK\3\4rubbish", "write it as CSV"),
        ("runs.zip", b"PK\3\4rubbish", "unpack it"),
        ("log.csv.zst", b"\x28\xb5\x2f\xfd\0", "unzstd"),
        ("loss.npy", b"\x93NUMPY\1\0", "numpy.savez"),
        ("a.unknown", bytes(9), "name its format"),
    ],
)
def test_files_of_other_kinds_are_errors_with_advice(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"Expected a log of a known format, got {name}; .*{message}"):
        read(written(tmp_path / name, content))
    with pytest.raises(ValueError, match=r"unpack it yourself|got binary data|an empty file"):
        read(written(tmp_path / "log.csv", content))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_compressed_file_that_is_cut_off_gives_a_prefix(suffix: str, tmp_path: Path) -> None:
    whole = "".join(f"{line}\n" for line in LINES)
    data = COMPRESS[suffix](whole.encode())
    for cut in (len(data) - 1, len(data) // 2, 40):
        text = TextFile(written(tmp_path / "log", data[:cut]))
        assert whole.startswith("".join(text) + text.torn)
        assert "the compressed file is cut off" in text.damage[0]
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 16
    with pytest.raises(ValueError, match="Expected a complete compressed file, got damage in log"):
        list(TextFile(written(tmp_path / "log", bytes(flipped))))


def test_text_that_is_not_utf8_and_characters_that_are_cut(tmp_path: Path) -> None:
    text = TextFile(written(tmp_path / "log", "step,Genauigkeit für Validierung\n1,2\n".encode("latin-1")))
    assert list(text) == ["step,Genauigkeit für Validierung\n", "1,2\n"]
    assert "was read as Latin-1" in text.notes[0]
    text = TextFile(written(tmp_path / "log", "step,für\n1,2\n3,ü".encode()[:-1]))
    assert list(text) == ["step,für\n", "1,2\n"]
    assert text.notes == []
    assert text.cut_off()


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.readers.text._ALWAYS_EXPANDED", 2**18)
    monkeypatch.setattr("probe.readers.text._LONGEST_LINE", 2**19)
    monkeypatch.setattr("probe.readers.text._LARGEST_DOCUMENT", 2**20)
    for bomb in (gzip.compress(bytes(2**20)), bz2.compress(b"\n" * 2**20), lzma.compress(b"\n" * 2**20)):
        with pytest.raises(ValueError, match="expands more than 100 times"):
            list(TextFile(written(tmp_path / "log", bomb)))
    long = written(tmp_path / "log", b"[1,2]" + b" " * 2**19 + b" ")
    with pytest.raises(ValueError, match="Expected lines in log, got one without an end"):
        list(TextFile(long))
    assert read_text(long).strip() == "[1,2]"  # a document has no lines
    with pytest.raises(ValueError, match="Expected at most 1 MB of JSON in log, got more"):
        read_text(written(tmp_path / "log", b"1\r\n" * 2**20))
    assert Candidate(written(tmp_path / "log", bytes(2**20))).head == ""
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)


# Folders


def table(shift: float = 0.0) -> str:
    rows = "".join(f"{i},{shift + 3 / (i + 1):.4f},{4 / (i + 1):.4f}\n" for i in range(8))
    return f"step,loss,val_loss\n{rows}"


TABLE = table()


def test_a_bad_file_in_a_folder_is_left_out_and_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / f"{name}.csv", TABLE)
    bad = written(tmp_path / "c.csv", "step,loss\n0,2\n1,1,1,1\n")
    with pytest.warns(ProbeWarning, match=r"run c could not be read and was left out: Expected a table in c\.csv"):
        series = read(tmp_path)
    assert series["run"].values.tolist() == ["a", "b"]
    assert "run c could not be read and was left out" in series.attrs["reading"]
    with pytest.raises(ValueError, match=r"Expected a table in c\.csv"):
        read(bad)
    for name in ("a", "b"):
        written(tmp_path / f"{name}.csv", "")
    with pytest.raises(ValueError, match=r"got an empty file"):
        read(tmp_path)


def test_many_bad_files_make_few_warnings(tmp_path: Path) -> None:
    written(tmp_path / "good.csv", TABLE)
    for i in range(9):
        written(tmp_path / f"bad{i}.csv", "step,loss\n0,2\n1,1,1,1\n")
    with pytest.warns(ProbeWarning) as caught:
        series = read(tmp_path)
    assert len(caught) == 6
    assert "4 more are listed" in str(caught[-1].message)
    assert series.attrs["reading"].count("could not be read") == 9


def project(folder: Path) -> Path:
    """Write what stands beside the logs in the folder of a project."""
    for name, content in {
        "README.md": "| step | loss |\n|---|---|\n| 0 | 1 |\n",
        "requirements.txt": "numpy==2.0\ntorch>=2.1\n",
        "train.py": "step, loss = 0, 1\n",
        "config.json": '{"lr": 0.1, "steps": [1, 2]}',
        "vocab.json": '{"a": 1, "b": 2}',
        "notes.txt": "step 1: buy milk, loss of time\n",
        "checkpoints/step=100.ckpt": b"PK\x03\x04" + bytes(5000),
        "checkpoints/model.bin": bytes(range(256)) * 20,
        ".hydra/config.yaml": "lr: 0.1\n",
        ".hydra/overrides.csv": TABLE,
        "__pycache__/log.csv": TABLE,
        "venv/pyvenv.cfg": "home = /usr\n",
        "venv/lib/data.csv": TABLE,
        "figure.png": b"\x89PNG\r\n" + bytes(100),
        "weights.npy": b"\x93NUMPY" + bytes(100),
    }.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True, parents=True)
        written(file, content)
    return folder


def test_the_other_files_of_a_project_are_no_logs(tmp_path: Path) -> None:
    project(tmp_path)
    with pytest.raises(FileNotFoundError, match="Expected a log in the folder"):
        read(tmp_path)
    written(tmp_path / "log.csv", TABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series = read(tmp_path)
    assert "run" not in series.dims
    assert series.sizes["step"] == 8


def test_links_are_followed_once(tmp_path: Path) -> None:
    for name in ("run-2", "run-10"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        written(tmp_path / "runs" / name / "log.csv", TABLE)
    (tmp_path / "elsewhere").mkdir()
    written(tmp_path / "elsewhere" / "log.csv", TABLE)
    for link, target in {
        "latest": "run-10",
        "up": "..",
        "loop": ".",
        "far": "../elsewhere",
        "again": "far",
        "gone": "x",
    }.items():
        (tmp_path / "runs" / link).symlink_to(target)
    (tmp_path / "runs" / "run-2" / "log2.csv").symlink_to("log.csv")
    assert [str(file.relative_to(tmp_path)) for file in files_below(tmp_path / "runs")] == [
        "runs/run-2/log.csv", "runs/run-10/log.csv", "runs/again/log.csv",
    ]  # fmt: skip
    assert read(tmp_path / "runs")["run"].values.tolist() == ["run-2", "run-10", "again"]


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name, kind in (("pipe.csv", "pipe"), ("zero.csv", "device")):
        for format in (None, "csv"):
            with pytest.raises(OSError, match=f"Expected a file at .*{name}, got a {kind}, which may have no end"):
                read(tmp_path / name, format=format)
    written(tmp_path / "run.csv", TABLE)
    assert read(tmp_path).sizes == {"step": 8}


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no streams as paths")
def test_a_stream_of_the_shell_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(content: bytes) -> xr.Dataset:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        try:
            return read(f"/dev/fd/{reading}")
        finally:
            os.close(reading)

    assert piped(gzip.compress(TABLE.encode())).sizes == {"step": 8}
    monkeypatch.setattr("probe.readers.streams._LARGEST", 100)
    with pytest.raises(ValueError, match="Expected at most 4 GiB from /dev/fd/"):
        piped(TABLE.encode())


def json_lines(shift: float = 0.0) -> str:
    rows = [
        {"step": i, "train_loss": round(3 / (i + 1), 4) + shift, "val_loss": round(4 / (i + 1), 4)} for i in range(8)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_formats_are_mixed_in_a_folder_and_a_run_in_two_formats_is_one(tmp_path: Path) -> None:
    """The same curves in two formats are one run, whatever the folders are called."""
    for name in ("csv/a.csv", "b.csv", "c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    written(tmp_path / "csv" / "a.csv", TABLE)
    written(tmp_path / "c.jsonl", json_lines(0.5))
    assert read(tmp_path)["run"].values.tolist() == ["c", "csv/a"]
    written(tmp_path / "d.jsonl", json_lines() + '{"step": 8, "train_loss": 0.1}\n')
    series = read(tmp_path)
    assert series["run"].values.tolist() == ["c", "d"]
    assert (
        "1 run is in files of json and of csv, with the same curves; those of json were read" in series.attrs["reading"]
    )
    assert read(tmp_path, format="csv").sizes == {"step": 8}
    written(tmp_path / "c.csv", table(1.0))
    assert read(tmp_path)["run"].values.tolist() == ["c.csv", "c.jsonl", "d"]


def test_lightning_with_two_loggers_is_one_run(tmp_path: Path) -> None:
    logs = Path(__file__).parent / "logs"
    shutil.copytree(logs / "lightning", tmp_path, dirs_exist_ok=True)
    events = next((logs / "tensorboard" / "plain").glob("*tfevents*"))
    shutil.copy(events, tmp_path / "lightning_logs" / "version_0")
    series = read(tmp_path)
    assert series["run"].values.tolist() == ["version_0", "version_1"]
    assert "1 run is in files of" in series.attrs["reading"]


def test_what_a_training_prints_beside_its_log_is_no_second_run(tmp_path: Path) -> None:
    """Printed lines are rounded, so that copies are known by the decimals, and by the folder."""
    printed = "".join(f"INFO epoch {i}: loss {3 / (i + 1):.2f} val_loss {4 / (i + 1):.2f}\n" for i in range(8))
    for run in ("a", "b"):
        (tmp_path / run / "csv").mkdir(parents=True)
        written(tmp_path / run / "csv" / "log.csv", table(float(run == "b")))
        written(tmp_path / run / "main.log", printed.replace("loss 3", "loss 7"))
    series = read(tmp_path)
    assert series["run"].values.tolist() == ["a", "b"]
    assert "2 files of printed lines beside other logs were ignored" in series.attrs["reading"]
    written(tmp_path / "console.txt", printed)
    (tmp_path / "b" / "main.log").rename(tmp_path / "c.log")
    shutil.move(tmp_path / "a" / "csv", tmp_path / "csv")
    series = read(tmp_path / "a")
    assert "run" not in series.dims


def test_a_folder_of_data_is_not_searched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.readers.discovery._MISSES", 5)
    (tmp_path / "data").mkdir()
    for i in range(8):
        written(tmp_path / "data" / f"{i}.txt", "some words\n")
        written(tmp_path / f"{i}.csv", table(i))
    series = read(tmp_path)
    assert series.sizes["run"] == 8
    assert "3 files *.txt in data/ were not looked at, because 5 before them were no logs" in series.attrs["reading"]


def test_runs_that_share_no_steps_are_refused_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        written(tmp_path / f"{i}.csv", TABLE.replace("\n", f"\n{i + 1}")[: -len(str(i))])
    monkeypatch.setattr("probe.readers.runs._LARGEST", 1000)
    with pytest.raises(ValueError, match="Expected runs with common steps, got 3 runs with 24 different steps"):
        read(tmp_path)


def test_runs_by_step_and_by_epoch_are_read_with_a_warning(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", TABLE)
    written(tmp_path / "b.csv", TABLE.replace("step", "epoch"))
    with pytest.warns(ProbeWarning, match="Expected runs with steps of one kind, got 1 by step, 1 by epoch"):
        assert "cannot be compared" in read(tmp_path).attrs["reading"]


def test_recordings_with_several_runs_are_read_beside_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / f"{name}.csv", TABLE)
    save(read(tmp_path), tmp_path / "more.nc")
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").unlink()
    written(tmp_path / "c.csv", table(0.5))
    assert read(tmp_path)["run"].values.tolist() == ["c", "more/a", "more/b"]


def test_a_line_on_the_terminal_counts_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.__stderr__", stream := Terminal())
    monkeypatch.setattr("sys.stderr", stream)
    assert list(waiting.counted(range(3), "runs", 3)) == [0, 1, 2]
    assert stream.getvalue() == ""
    times = iter(range(0, 90, 3))
    monkeypatch.setattr(waiting, "monotonic", lambda: next(times))
    assert list(waiting.counted(range(2), "reading", 2)) == [0, 1]
    assert stream.getvalue() == "\rreading: 0 of 2\rreading: 1 of 2\r" + " " * 15 + "\r"
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert list(waiting.counted(range(2), "reading", 2)) == [0, 1]


def test_escape_sequences_of_names_are_shown_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In names of curves, words of runs and names of files."""
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    rows = [{"step": i % 8, "loss": 3 / (i + 1), f"val{evil}": i, "run": f"{evil}{i // 8}"} for i in range(16)]
    pd.DataFrame(rows).to_csv(path := tmp_path / f"a{evil}.csv", index=False)
    (tmp_path / f"b{evil}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows[:8]))
    (tmp_path / "c.csv").write_text(f"step,{evil}\n0,1\n1,1,1\n")
    for command, where in (
        ("info", tmp_path),
        ("info --json", path),
        ("detect", path),
        ("detect --train-loss x", path),
    ):
        name, *options = command.split()
        main([name, str(where), *options])
    output = capsys.readouterr()
    assert "\\x1b" in output.out
    assert "\\x1b" in output.err
    assert not {"\x1b", "\x07", "\u202e"} & {*(output.out + output.err)}


# Databases


def database(path: Path, *statements: str) -> Path:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(";\n".join(statements))
    return path


RUNS = (
    "CREATE TABLE runs (run_uuid TEXT, name TEXT, lifecycle_stage TEXT, start_time INT)",
    "INSERT INTO runs VALUES ('x', 'seed', 'active', 1)",
)
METRICS = "CREATE TABLE metrics (key TEXT, value, run_uuid TEXT, step, is_nan INT)"
ROWS = [f"INSERT INTO metrics VALUES ('loss', {1 / (i + 1)}, 'x', {i}, 0)" for i in range(6)]


def test_databases_are_found_by_content_and_odd_values_are_ignored(tmp_path: Path) -> None:
    path = database(
        tmp_path / "x.sqlite", *RUNS, METRICS, *ROWS, "INSERT INTO metrics VALUES ('loss', 'much', 'x', NULL, 0)"
    )
    for where in (path, tmp_path):
        with pytest.warns(ProbeWarning, match="1 rows without a number or a step were ignored"):
            assert read(where)["train_loss"].values.tolist() == [1 / (i + 1) for i in range(6)]


@pytest.mark.parametrize(
    "view",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'loss' AS key, 1.0 AS value, 'x' AS "
        "run_uuid, i AS step, 0 AS is_nan FROM n",
        "SELECT * FROM metrics",
    ],
)
def test_views_in_databases_are_not_read(view: str, tmp_path: Path) -> None:
    path = database(tmp_path / "mlflow.db", *RUNS, f"CREATE VIEW metrics AS {view}")
    with pytest.raises(ValueError, match=r"Expected a database of MLflow in mlflow\.db, got no tables of runs"):
        read(path)


def test_a_database_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.readers.wire.database._SECONDS", 0.05)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    path = database(tmp_path / "mlflow.db", *RUNS)
    with pytest.raises(ValueError, match="got no end of its rows in time"), open_database(path, "MLflow") as connection:
        connection.execute(endless).fetchone()


@pytest.mark.parametrize("bit", [1, 32], ids=["password", "patched data"])
def test_an_archive_of_arrays_that_cannot_be_opened_is_an_error(bit: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "curves.npz", train_loss=np.arange(9.0), test_loss=np.arange(9.0))
    content = bytearray((tmp_path / "curves.npz").read_bytes())
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of the entry, and in the list of entries
        content[content.index(start) + flags] |= bit
    (tmp_path / "curves.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected arrays of NumPy in curves\.npz"):
        read(tmp_path / "curves.npz")
