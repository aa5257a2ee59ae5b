"""Weights & Biases: CSV exported from a chart, history as JSON lines, and the binary file of a run.

A chart's CSV has the columns "<run> - <metric>" of each run, or the metric alone for one run, also with "__MIN" and
"__MAX", and the run's own "_step". The binary file of an offline run (``run-<id>.wandb``) is a LevelDB log
(wandb/sdk/internal/datastore.py) of protobuf records (wandb_internal.proto: Record.history = 2, HistoryRecord.item = 1;
of an item key = 1, nested_key = 2, boolean = 4, integer = 5, number = 6, json = 8, value_json = 16).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from struct import unpack_from
from typing import Any
from zlib import crc32

from probe.readers.delimited import read_delimited
from probe.readers.formats.csv import column_names
from probe.readers.formats.jsonl import json_lines
from probe.readers.log import Log, Points
from probe.readers.names import guess_axis
from probe.readers.phrases import split_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import CLOCKS, Table, TableColumns, table_log
from probe.readers.text import open_bytes
from probe.readers.wire.protobuf import fields, varint

_BLOCK = 2**15
_HEAD = b":W&B"
_BANDS = ("__MIN", "__MAX")


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a history, a binary file, or the CSV of a chart."""
    path = candidate.path
    if path.name == "wandb-history.jsonl" or path.suffix == ".wandb":
        return True
    return path.suffix.lower() == ".csv" and _is_chart(column_names(candidate))


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
    axes: set[str] = set()
    for file in sorted(files):
        table = read_delimited(file)
        notes += table.notes
        damage += table.damage
        steps = _chart_axis(table.columns, axis)
        axes.add(steps)
        has_runs = any(_run_and_metric(name)[0] for name in table.columns)
        for name in table.columns:
            run, metric = _run_and_metric(name)
            if name.endswith(_BANDS) or metric in CLOCKS or metric in (axis, steps, "Step") or (has_runs and not run):
                continue
            own = f"{run} - {steps}" if f"{run} - {steps}" in table.columns else steps
            one = table_log(Table({own: table.columns[own], name: table.columns[name]}, table.n_rows), own)
            runs.setdefault(run, {})[metric] = one.points[name]
    if len(axes) > 1:
        raise ValueError(
            f"Expected charts over one axis, got {' and '.join(sorted(axes))}; export them over the same axis, or read "
            "each file for itself"
        )
    charts = f"{len(files)} charts were joined; " if len(files) > 1 else ""
    notes.append(f"{charts}columns __MIN, __MAX and _step were ignored")
    common = axes.pop() if axes else "step"
    logs = {run: Log(points, axis=common) for run, points in runs.items()}
    for log in list(logs.values())[:1]:
        log.notes, log.damage = notes, damage
    return logs


def _is_chart(names: Sequence[str]) -> bool:
    """Return whether a table has the columns of a chart: bands, or "<run> - <metric>" beside at most two axes."""
    if any(name.endswith("__MAX") for name in names):
        return True
    parts = [_run_and_metric(name) for name in names]
    metrics = [metric for run, metric in parts if run]
    return len(parts) - len(metrics) in (1, 2) and bool(metrics) and not all(split_of([metric]) for metric in metrics)


def _run_and_metric(name: str) -> tuple[str, str]:
    """Return the run, "" for none, and the metric of a column. Names of runs may contain " - ", metrics do not."""
    run, _, metric = name.rpartition(" - ")
    return run, metric


def _chart_axis(names: Iterable[str], axis: str | None) -> str:
    """Return the column of steps, or the metric that holds the steps of each run."""
    parts = [_run_and_metric(name) for name in names if not name.endswith(_BANDS)]
    if axis in {metric for _, metric in parts}:
        return str(axis)
    return guess_axis([metric for run, metric in parts if not run], axis)


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
