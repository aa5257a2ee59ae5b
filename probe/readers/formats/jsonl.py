"""JSON: a line for each step (JSONL), a list of such entries, or a mapping of lists (a Keras history)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.readers.log import Log
from probe.readers.table import TableColumns, table_log

NAME = "json"


def claims(path: Path) -> bool:
    """Whether this is a log in JSON, by its name."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def run_of(path: Path) -> Path:
    """Each file is a run."""
    return path


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """One file as one run."""
    said: list[str] = []
    columns = TableColumns()
    for entry in _entries(files[0], said):
        columns.add(entry)
    points = columns.points()
    if words := sorted(columns.words - {*points}):
        said.append(f"left out, for they hold no numbers: {', '.join(words[:8])}{', ...' if len(words) > 8 else ''}")
    if not points:
        raise ValueError(f"no numbers in {files[0].name}; expected one JSON object in each line")
    return {"": table_log(points, columns.n_rows, axis, said)}


def _entries(path: Path, said: list[str]) -> Iterator[Mapping[str, Any]]:
    if path.suffix.lower() == ".json":
        yield from _whole(path)
    else:
        yield from lines(path, said)


def lines(path: Path, said: list[str]) -> Iterator[Mapping[str, Any]]:
    """Objects line by line; damaged lines are counted, and said."""
    damaged, torn = 0, False
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
                damaged += 1
            else:
                torn = True
    if damaged:
        said.append(f"{path.name}: {damaged} lines are no JSON objects, and are left out")
    if torn:
        said.append(f"{path.name}: the last line is cut off, or still being written, and is left out")


def _whole(path: Path) -> Iterator[Mapping[str, Any]]:
    """A list of objects, or an object of lists, as rows."""
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        yield from content
        return
    columns = {k: v for k, v in content.items() if isinstance(v, list)} if isinstance(content, dict) else {}
    if not columns or len({len(column) for column in columns.values()}) > 1:
        raise ValueError(
            f"expected a list of objects, or an object of lists of one length, in {path.name}; "
            f"got {type(content).__name__}"
        )
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))
