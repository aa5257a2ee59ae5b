"""Weights & Biases: CSV exported from a chart, history as JSON lines, and the binary file of a run.

A chart's CSV has the columns "<run> - <metric>" of each run, also with "__MIN" and "__MAX". The binary file of an
offline run (``run-<id>.wandb``) is a LevelDB log (wandb/sdk/internal/datastore.py) of protobuf records
(wandb_internal.proto: Record.history = 2, HistoryRecord.item = 1; of an item key = 1, nested_key = 2,
boolean = 4, integer = 5, number = 6, json = 8, value_json = 16).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from struct import unpack_from
from typing import Any
from zlib import crc32

from probe.readers.formats.csv import column_names, read_columns
from probe.readers.formats.jsonl import json_lines
from probe.readers.log import Log, Points
from probe.readers.names import guess_axis
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import Table, TableColumns, table_log
from probe.readers.text import open_bytes
from probe.readers.wire.protobuf import fields, varint

_BLOCK = 2**15
_HEAD = b":W&B"


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a history, a binary file, or the CSV of a chart."""
    path = candidate.path
    if path.name == "wandb-history.jsonl" or path.suffix == ".wandb":
        return True
    return path.suffix.lower() == ".csv" and any(name.endswith("__MAX") for name in column_names(candidate))


def run_path(path: Path) -> Path:
    """Return the folder of the run. All charts of a folder are read together, because they name their runs."""
    return path.parent.parent if path.parent.name == "files" else path.parent


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read the runs of all charts in a folder, or the one run of a history."""
    charts = [file for file in files if file.suffix.lower() == ".csv"]
    if charts:
        return _charts(charts, options.axis)
    binary = [
        file for file in files if file.suffix == ".wandb"
    ] or files  # it is complete, and a history may be an older copy
    return {file.stem if len(binary) > 1 else "": _run(file, options.axis) for file in binary}


def _run(file: Path, axis: str | None) -> Log:
    table = Table({}, 0)
    columns = TableColumns()
    for entry in _history(file, table.damage) if file.suffix == ".wandb" else json_lines(file, table):
        columns.add(entry)
    table.n_rows = columns.n_rows
    table.columns = {name: column for name, column in columns.points().items() if not name.startswith("_wandb")}
    if not table.columns:
        raise ValueError(f"Expected a history with numbers in {file.name}, got none; check that the run logged metrics")
    return table_log(table, axis)


def _charts(files: Sequence[Path], axis: str | None) -> dict[str, Log]:
    runs: dict[str, dict[str, Points]] = {}
    notes: list[str] = []
    damage: list[str] = []
    for file in sorted(files):
        table = read_columns(file)
        columns = table.columns
        notes += table.notes
        damage += table.damage
        bands = [name for name in columns if name.endswith(("__MIN", "__MAX"))]
        steps = guess_axis([name for name in columns if " - " not in name], axis)
        for name in (name for name in columns if " - " in name and name not in bands):
            run, metric = name.split(" - ", 1)
            one = table_log(Table({steps: columns[steps], metric: columns[name]}, table.n_rows), steps)
            runs.setdefault(run, {})[metric] = one.points[metric]
    charts = f"{len(files)} charts were joined; " if len(files) > 1 else ""
    notes.append(f"{charts}columns __MIN and __MAX were ignored")
    return {run: Log(points, *((notes, damage) if i == 0 else ())) for i, (run, points) in enumerate(runs.items())}


def _history(file: Path, damage: list[str]) -> Iterator[Mapping[str, Any]]:
    for record in _records(file, damage):
        for number, start, end in fields(record, 0, len(record)):
            if number == 2:
                yield dict(_item(record, a, b) for n, a, b in fields(record, start, end) if n == 1)


def _item(record: bytes, start: int, end: int) -> tuple[str, Any]:
    keys: list[str] = []
    value: Any = None
    for number, a, b in fields(record, start, end):
        if number in (1, 2):
            keys.append(record[a:b].decode())
        elif number in (4, 5):
            value = varint(record, a)[0]
            value -= (value >> 63) << 64  # 64 bits with a sign
        elif number == 6:
            (value,) = unpack_from("<d", record, a)
        elif number in (8, 16):
            value = json.loads(record[a:b])
    return "/".join(keys), value


def _records(file: Path, damage: list[str]) -> Iterator[bytes]:
    """Yield the records of a LevelDB log.

    It has blocks of 32 KiB and chunks with checksum (4 bytes), length (2) and type (1: whole record, 2-4: parts).
    """
    n_damaged = 0
    with open_bytes(file) as stream:
        block, at = stream.read(_BLOCK), 7
        parts: bytes | None = None  # of the present record; None if one of them is damaged
        if block[:4] != _HEAD:
            raise ValueError(
                f"Expected {_HEAD!r} at the start of {file.name}, got {block[:4]!r}; export the run's history as CSV"
            )
        while block:
            while at + 7 <= len(block) and (kind := block[at + 6]):
                end = at + 7 + int.from_bytes(block[at + 4 : at + 6], "little")
                if end > len(block):
                    damage.append(f"{file.name}: cut off, or still being written; its last record was ignored")
                    block = b""
                    break
                whole = crc32(block[at + 6 : end]) == int.from_bytes(block[at : at + 4], "little")
                n_damaged += not whole
                before = b"" if kind in (1, 2) else parts
                parts = before + block[at + 7 : end] if whole and before is not None else None
                if kind in (1, 4) and parts is not None:
                    yield parts
                at = end
            block, at = (stream.read(_BLOCK), 0) if block else (b"", 0)
    if n_damaged:
        damage.append(f"{file.name}: {n_damaged} damaged records were ignored")


READER = Reader("wandb", "*.wandb, wandb-history.jsonl, CSV of a chart", matches, read, run_path)
