"""Curves downloaded from the page of TensorBoard: one tag in each file, as CSV or JSON.

A CSV has the columns "Wall time,Step,Value". A JSON document is a list of [wall time, step, value]. The name of the
file holds those of the run and of the tag, ``run-<run>-tag-<tag>.csv``, with underscores for slashes.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probe.readers.delimited import read_delimited
from probe.readers.formats.csv import column_names
from probe.readers.log import Log, Points
from probe.readers.names import role_of
from probe.readers.phrases import split_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import Table
from probe.readers.text import parse_json, read_text

_COLUMNS = ["Wall time", "Step", "Value"]
_NAME = re.compile(r"run-(?P<run>.*)-tag-(?P<tag>.+)")
_TRIPLE = re.compile(r"\[\s*\[\s*-?[\d.eE+]+,\s*-?\d+,\s*(?:-?[\d.eE+-]+|NaN|-?Infinity|\"\w+\")\s*\]")


def matches(candidate: Candidate) -> bool:
    """Return whether the file has the three columns, or is a list of lists of three numbers."""
    head = candidate.head.lstrip("\ufeff \n")
    return (head.startswith("Wall time,") and column_names(candidate) == _COLUMNS) or _TRIPLE.match(head) is not None


def run_path(path: Path) -> Path:
    """Return the folder. All files of a folder are read together, because each has one tag of one run."""
    return path.parent


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read the runs in a folder. Runs called train and validation, as Keras names them, are splits of one run."""
    options.check_no_columns("a download of TensorBoard")
    logs: dict[str, Log] = {}
    unnamed: list[str] = []
    for file in sorted(files):
        run, tag = _run_and_tag(file, unnamed)
        log = logs.setdefault(run, Log({}))
        table = Table({}, 0)
        points = _points(file, table)
        log.points[tag if tag not in log.points else f"{tag} ({file.name})"] = points
        log.notes += table.notes
        log.damage += table.damage
    if unnamed:
        note = f"named after the files, because these name no run and tag: {', '.join(unnamed[:8])}"
        next(iter(logs.values())).notes.append(note)
    return logs if len(logs) > 1 else {"": next(iter(logs.values()))}


def _run_and_tag(file: Path, unnamed: list[str]) -> tuple[str, str]:
    """Return the run and the tag that the name of a file gives."""
    stem = re.sub(r"( ?\(\d+\))?\.(csv|json)(\.\w+)?$", "", file.name, flags=re.IGNORECASE)  # "... (1).csv" in browsers
    found = _NAME.fullmatch(stem)
    if not found:
        unnamed.append(file.name)
        return "", stem
    run, tag = found["run"], found["tag"]
    above, _, last = run.rpartition("_")
    if split_of([last]) and not split_of(re.split(r"[^A-Za-z]+", tag)) and role_of(tag.removeprefix("epoch_")):
        return above, f"{last}/{tag.removeprefix('epoch_')}"
    return run, tag


def _points(file: Path, table: Table) -> Points:
    if not read_text(file).lstrip("\ufeff \n").startswith("["):
        found = read_delimited(file)
        table.notes, table.damage = found.notes, found.damage
        rows, values = found.columns.get("Value", (np.arange(0), np.arange(0.0)))
        steps = np.full(found.n_rows, np.nan)
        own, numbers = found.columns.get("Step", (np.arange(0), np.arange(0.0)))
        steps[own] = numbers
        return steps[rows], values
    try:
        entries = np.array([[float(entry) for entry in row[1:3]] for row in parse_json(read_text(file))], dtype=float)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(
            f"Expected a list of [wall time, step, value] in {file.name}, got {error}; download it again"
        ) from error
    return entries.reshape(-1, 2)[:, 0], entries.reshape(-1, 2)[:, 1]


READER = Reader("tensorboard-export", "CSV or JSON downloaded from TensorBoard", matches, read, run_path)
