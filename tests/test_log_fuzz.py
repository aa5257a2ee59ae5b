"""Damaged and hostile logs of every format: a clear error or numbers, never a traceback, a hang or a full memory."""

import bz2
import gzip
import itertools
import json
import lzma
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("resource")  # not on Windows
import fuzz

from probe.readers import read
from probe.readers.discovery import find_logs
from probe.readers.folders import files_below
from probe.readers.text import text_head

TESTS = Path(__file__).parent
LARGEST = 40_000  # bytes of a sample
NUMBERS = [
    b"9" * 400,
    b"9" * 5000,
    b"1e999",
    b"-1e308",
    b"9223372036854775808",
    b"-5",
    b"0",
    b"NaN",
    b"null",
    b"",
    b"1e-400",
]
NUMBERS += [
    b"0x1p9",
    b"1_000",
    b"1,5",
    b"Infinity",
    b"true",
    b"{}",
    b"[1, [2]]",
    b'"1.5"',
    b"\xff\xfe",
    b"1" + b"0" * 70_000,
]
TEXTS = [
    b'"',
    b"'",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 60_000,
    b"\x1b]0;x\x07\x1b[2J",
    b"\n\n",
    b"\r",
    b"\t",
    b"," * 5000,
]
TEXTS += [
    b"step,step\n",
    b"# ",
    b"\xe2\x80\xa8",
    b"\x00",
    b"\\u0000",
    b"run,",
    b"\xef\xbb\xbf",
    b"%",
    b";",
    b"NaN,NaN\n",
]


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace one to three numbers."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    for i in sorted(rng.integers(len(found), size=rng.integers(1, 4)).tolist(), reverse=True) if found else ():
        data = data[: found[i].start()] + NUMBERS[rng.integers(len(NUMBERS))] + data[found[i].end() :]
    return data


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(data) + 1)) if rng.integers(2) else int(rng.integers(min(len(data), 80) + 1))
    return data[:place] + TEXTS[rng.integers(len(TEXTS))] + data[place:]


def _compressed(data: bytes, rng: np.random.Generator) -> bytes:
    compress = (partial(gzip.compress, mtime=0), bz2.compress, lzma.compress)[rng.integers(3)]
    packed = compress((data, b"0" * 2**24)[rng.integers(2)])
    return packed[: rng.integers(len(packed) // 2, len(packed) + 1)]


def _block(data: bytes, rng: np.random.Generator) -> bytes:
    """Repeat a piece many times."""
    start, end = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return data[:start] + data[start:end] * int(rng.integers(1, 30)) + data[end:]


DAMAGES: dict[str, fuzz.Damage] = {
    "number": _number, "another number": _number, "text": _insert, "another text": _insert,
    "compressed": _compressed, "block": _block,
    "separators": lambda data, rng: data.replace(b",", [b";", b"\t", b" ", b"|", b",,"][rng.integers(5)]),
    "names": lambda data, rng: data.replace(b"loss", [b"", b"step", b"l\x1b[0moss", b"a" * 10_000][rng.integers(4)]),
}  # fmt: skip


def found_samples(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield one file of each format and suffix in the folder of test logs, each with its format."""
    for script in sorted((TESTS / "logs").rglob("*.sql")):
        with closing(sqlite3.connect(folder / f"{script.stem}.db")) as connection:
            connection.executescript(f"BEGIN;\n{script.read_text()};\nCOMMIT;")
    shutil.copytree(TESTS / "logs", folder / "logs")
    for name in ("finished.nc", "killed.nc.journal"):
        shutil.copy(TESTS / "recordings" / name, folder)
    rows = [{"step": 10 * i, "loss": round(3 / (i + 1), 3), "val_acc": round(i / 30, 3)} for i in range(30)]
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "log.csv", index=False)
    frame.to_csv(folder / "log.tsv", index=False, sep="\t")
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "rows.json").write_text(json.dumps(rows))
    mm = [{"mode": "train", "epoch": 1 + i // 10, "iter": i % 10, "lr": 0.1, "loss": 3 / (i + 1)} for i in range(30)]
    (folder / "mm.log.json").write_text("".join(f"{json.dumps(row)}\n" for row in mm))
    np.savez(folder / "curves.npz", step=frame["step"], train_loss=frame["loss"], val_acc=frame["val_acc"])
    read(folder / "log.csv").probe.to_pandas(long=True).to_csv(folder / "long.csv", index=False)
    seen: set[tuple[str, str]] = set()
    for file in files_below(folder):
        if file.suffix == ".sql" or (file.stat().st_size > LARGEST and file.suffix not in (".db", ".wandb")):
            continue
        try:
            format = find_logs(file).runs[0].reader.name
            kind = (format, "" if "tfevents" in file.name else file.suffix)
            if kind not in seen and read(file, strict=False).sizes["step"]:
                seen.add(kind)
                yield format, file
        except (ValueError, OSError):  # no log
            continue


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    return list(found_samples(tmp_path_factory.mktemp("samples")))


def kind_of(format: str, file: Path, every: int) -> fuzz.Kind:
    """The file, read by its format and as whatever it looks like."""

    turns = itertools.cycle([None, format])

    def attempt() -> Any:
        return read(file, format=next(turns), strict=False)

    def judge(found: xr.Dataset, warnings: str) -> str:
        assert np.isfinite(found["step"]).all()
        assert (np.diff(found["step"]) > 0).all()
        return "accepted"

    own = {".nc": {"claims": fuzz.claims}, ".journal": {"hostile": fuzz.hostile, "hostile too": fuzz.hostile}}
    damages = {**DAMAGES, **own.get(file.suffix, {})}
    return fuzz.Kind(file, attempt, judge, damages, file, ("info", "detect"), every, 2**30)


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")
@pytest.mark.parametrize("n", [200, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_damaged_log_is_a_clear_error_or_numbers(n: int, samples: list[tuple[str, Path]]) -> None:
    assert len({format for format, _ in samples}) > 12
    counts, faults = Counter[str](), {}
    for i, (format, file) in enumerate(samples):
        kind = kind_of(format, file, 10 if n > 200 else 10_000)
        own, wrong = fuzz.run(kind, range(i, n, len(samples)))
        counts += own
        faults.update({f"{format} {file.name} {number}": fault for number, fault in wrong.items()})
    print(dict(counts))
    assert faults == {}
    assert counts["error"] > n / 10
    assert counts["accepted"] > n / 10


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")
@pytest.mark.parametrize("stride", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_a_torn_number_is_never_a_value(stride: int, samples: list[tuple[str, Path]]) -> None:
    """Text logs are cut at every byte of their last two lines. What is read is a part of the whole log."""
    cut_in, tried = set[str](), Counter[str]()
    for format, file in samples:
        whole = file.read_bytes()
        if not text_head(file) or file.suffix == ".db":
            continue
        series = read(file, format=format, strict=False)
        start = whole.rstrip().rfind(b"\n")
        start = whole.rfind(b"\n", max(0, start - 500), max(start, 0)) + 1
        try:
            for cut in range(max(start, len(whole) - 700) + 1, len(whole), stride):
                file.write_bytes(whole[:cut])
                tried[format] += 1
                if wrong := torn(file, format, series):
                    cut_in.add(f"{format} {file.name} cut at {cut} of {len(whole)}: {wrong}")
        finally:
            file.write_bytes(whole)
    print(dict(tried))
    assert not cut_in
    assert set(tried) >= {"csv", "json", "lightning", "mlflow", "wandb"}


def torn(file: Path, format: str, whole: xr.Dataset) -> str:
    """Return which value of a file that was cut is not in the whole log; "" for an error or none."""
    try:
        part = read(file, format=format, strict=False)
    except (ValueError, OSError) as error:
        return "" if fuzz.FORM.match(str(error)) else str(error)
    by_name = {array.attrs.get("logged_as", name): array for name, array in whole.data_vars.items()}
    for name, array in part.data_vars.items():
        known, found = by_name[array.attrs.get("logged_as", name)], array.notnull()
        if found.any() and set(array.dims) != set(known.dims):
            return f"{name} over {array.dims}"
        labels = {dim: array[dim] for dim in known.dims}
        wrong = found & (array != known.reindex(labels)) if found.any() else found  # NaN at labels of no value
        if wrong.any():
            return f"{name} {array.values[wrong.values].tolist()[:3]}"
    return ""
