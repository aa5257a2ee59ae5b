"""JSON: one object per line (JSONL), a list of such objects, or an object of lists (a Keras history)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.readers.log import Log
from probe.readers.reader import Reader
from probe.readers.table import Table, TableColumns, table_log


def matches(path: Path) -> bool:
    """Return whether the file is a log in JSON lines, by its name."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """Read one file as one run."""
    table = Table({}, 0)
    columns = TableColumns()
    for entry in _entries(files[0], table):
        columns.add(entry)
    table.columns, table.n_rows = columns.points(), columns.n_rows
    if text := sorted(columns.text - {*table.columns}):
        table.notes.append(
            f"columns without numbers were ignored: {', '.join(text[:8])}{', ...' if len(text) > 8 else ''}"
        )
    if not table.columns:
        raise ValueError(f"Expected one JSON object with numbers in each line of {files[0].name}, got no number")
    return {"": table_log(table, axis)}


def _entries(path: Path, table: Table) -> Iterator[Mapping[str, Any]]:
    if path.suffix.lower() == ".json":
        yield from _whole(path)
    else:
        yield from json_lines(path, table)


def json_lines(path: Path, table: Table) -> Iterator[Mapping[str, Any]]:
    """Yield the objects line by line. Add notes about lines that cannot be read to ``table``."""
    n_other, cut_off = 0, False
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if isinstance(entry, dict):
                yield entry
            elif line.endswith("\n"):
                n_other += 1
            else:
                cut_off = True
    if n_other:
        table.notes.append(f"{path.name}: {n_other} lines are no JSON objects and were ignored")
    if cut_off:
        table.damage.append(f"{path.name}: the last line is cut off, or still being written, and was ignored")


def _whole(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a list of objects, or of an object of lists."""
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        yield from content
        return
    columns = {k: v for k, v in content.items() if isinstance(v, list)} if isinstance(content, dict) else {}
    if not columns or len({len(column) for column in columns.values()}) > 1:
        raise ValueError(
            f"Expected a list of objects, or an object of lists of one length, in {path.name}, got "
            f"{type(content).__name__}; convert it"
        )
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


READER = Reader("json", "*.jsonl, *.ndjson", matches, read, suffixes=(".json",))
