"""Files and folders of logs: encodings, compression, torn ends, files that cannot be read."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from probe.errors import ProbeWarning
from probe.readers import read
from probe.readers.reader import Candidate
from probe.readers.text import TextFile, parse_json, read_text

LINES = [f"{i},{1 / (i + 1)}" for i in range(4_000)]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("encoding", "suffix"),
    [*(("utf-8", suffix) for suffix in COMPRESS), ("utf-8-sig", ".gz"), ("utf-16", ""), ("utf-32", ".xz")],
)
def test_text_in_any_encoding_is_given_in_complete_lines(encoding: str, suffix: str, end: str, tmp_path: Path) -> None:
    data = COMPRESS[suffix](end.join(["step,loss", *LINES[:3_000], "7,0.1"]).encode(encoding))
    path = written(tmp_path / "log", data)  # its kind is found by its content
    text = TextFile(path)
    assert list(text) == ["step,loss\n", *(f"{line}\n" for line in LINES[:3_000])]
    assert text.torn == "7,0.1"
    assert text.notes + text.damage == []
    assert "the last line is cut off" in text.cut_off()[0]
    assert len(pd.read_csv(TextFile(path))) == 3_000
    assert Candidate(path).head.splitlines()[:200] == ["step,loss", *LINES[:199]]


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
    monkeypatch.setattr("probe.readers.text._ALWAYS_EXPANDED", 2**20)
    monkeypatch.setattr("probe.readers.text._LONGEST_LINE", 2**21)
    monkeypatch.setattr("probe.readers.text._LARGEST_DOCUMENT", 2**22)
    for bomb in (gzip.compress(bytes(2**23)), bz2.compress(b"\n" * 2**23), lzma.compress(b"\n" * 2**23)):
        with pytest.raises(ValueError, match="expands more than 100 times"):
            list(TextFile(written(tmp_path / "log", bomb)))
    long = written(tmp_path / "log", b"[1,2]" + b" " * 2**21)
    with pytest.raises(ValueError, match="Expected lines in log, got one without an end"):
        list(TextFile(long))
    assert read_text(long).strip() == "[1,2]"  # a document has no lines
    with pytest.raises(ValueError, match="Expected at most 4 MB of JSON in log, got more"):
        read_text(written(tmp_path / "log", b"1\r\n" * 2**22))
    assert Candidate(written(tmp_path / "log", bytes(2**20))).head == ""
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)


# Folders


def test_a_bad_file_in_a_folder_is_left_out_and_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        written(tmp_path / f"{name}.csv", "step,loss\n0,2\n1,1\n2,.5\n")
    bad = written(tmp_path / "c.csv", "step,loss\n0,2\n1,1,1,1\n")
    with pytest.warns(ProbeWarning, match=r"run c could not be read and was left out: Expected a table in c\.csv"):
        series = read(tmp_path)
    assert series["run"].values.tolist() == ["a", "b"]
    assert "run c could not be read and was left out" in series.attrs["reading"]
    with pytest.raises(ValueError, match=r"Expected a table in c\.csv"):
        read(bad)
    for name in ("a", "b"):
        written(tmp_path / f"{name}.csv", "")
    with pytest.raises(ValueError, match=r"got an empty line"):
        read(tmp_path)
