"""Weights & Biases: CSV exported from a chart, history as JSON lines, and the binary file of a run on disk.

A chart's CSV has a column for each run, "<run> - <metric>", with "__MIN" and "__MAX" beside it. The binary file of an
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

from probe.readers.formats.csv import columns_of, names_in
from probe.readers.formats.jsonl import lines
from probe.readers.log import Log, Points
from probe.readers.names import guess_axis
from probe.readers.table import TableColumns, table_log
from probe.readers.wire.protobuf import fields, varint

NAME = "wandb"
_BLOCK = 2**15
_HEAD = b":W&B"


def claims(path: Path) -> bool:
    """A history, a binary file, or the CSV of a chart."""
    if path.name == "wandb-history.jsonl" or path.suffix == ".wandb":
        return True
    return path.suffix.lower() == ".csv" and any(name.endswith("__MAX") for name in names_in(path))


def run_of(path: Path) -> Path:
    """The folder of the run; charts of one folder belong together, since they name their runs."""
    return path.parent.parent if path.parent.name == "files" else path.parent


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """The runs of all charts in a folder, or the one run of a history."""
    charts = [file for file in files if file.suffix.lower() == ".csv"]
    if charts:
        return _charts(charts, axis)
    binary = [file for file in files if file.suffix == ".wandb"] or files  # complete; a history may be an older copy
    return {file.stem if len(binary) > 1 else "": _run(file, axis) for file in binary}


def _run(file: Path, axis: str | None) -> Log:
    said: list[str] = []
    columns = TableColumns()
    for entry in _history(file, said) if file.suffix == ".wandb" else lines(file, said):
        columns.add(entry)
    points = {name: column for name, column in columns.points().items() if not name.startswith("_wandb")}
    if not points:
        raise ValueError(f"no history in {file.name}; was anything logged?")
    return table_log(points, columns.n_rows, axis, said)


def _charts(files: Sequence[Path], axis: str | None) -> dict[str, Log]:
    runs: dict[str, dict[str, Points]] = {}
    said: list[str] = []
    for file in sorted(files):
        columns, n_rows, told = columns_of(file)
        said += told
        bands = [name for name in columns if name.endswith(("__MIN", "__MAX"))]
        steps = guess_axis([name for name in columns if " - " not in name], axis)
        for name in (name for name in columns if " - " in name and name not in bands):
            run, metric = name.split(" - ", 1)
            one = table_log({steps: columns[steps], metric: columns[name]}, n_rows, steps)
            runs.setdefault(run, {})[metric] = one.points[metric]
    said.append(
        f"columns of {len(files)} charts, __MIN and __MAX left out" if len(files) > 1 else "__MIN and __MAX left out"
    )
    return {run: Log(points, said if i == 0 else []) for i, (run, points) in enumerate(runs.items())}


def _history(file: Path, said: list[str]) -> Iterator[Mapping[str, Any]]:
    for record in _logged(file, said):
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


def _logged(file: Path, said: list[str]) -> Iterator[bytes]:
    """Records of a LevelDB log: blocks of 32 KiB, chunks with checksum (4), length (2), type (1: whole, 2-4: parts)."""
    damaged = 0
    with open(file, "rb") as stream:
        block, at = stream.read(_BLOCK), 7
        parts: bytes | None = None  # of the present record; None once one of them is damaged
        if block[:4] != _HEAD:
            raise ValueError(f"{file.name} does not begin as files of W&B do; export the run's history as CSV instead")
        while block:
            while at + 7 <= len(block) and (kind := block[at + 6]):
                end = at + 7 + int.from_bytes(block[at + 4 : at + 6], "little")
                if end > len(block):
                    said.append(f"{file.name}: cut off, or still being written; its last record is left out")
                    block = b""
                    break
                whole = crc32(block[at + 6 : end]) == int.from_bytes(block[at : at + 4], "little")
                damaged += not whole
                before = b"" if kind in (1, 2) else parts
                parts = before + block[at + 7 : end] if whole and before is not None else None
                if kind in (1, 4) and parts is not None:
                    yield parts
                at = end
            block, at = (stream.read(_BLOCK), 0) if block else (b"", 0)
    if damaged:
        said.append(f"{file.name}: {damaged} damaged records left out")
