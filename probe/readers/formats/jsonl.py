"""JSON: one object per line (JSONL), a list of such objects, or an object of lists (a Keras history)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.names import role_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.spelling import like_accuracies, like_losses
from probe.readers.table import Table, TableColumns, as_number
from probe.readers.text import TextFile, parse_json, read_json, text_head

_LINES = 200  # by which the format is recognised
_BATCH = 2**20  # characters that are parsed at once


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a log in JSON lines, by its name, or by lines with a loss or an accuracy."""
    if candidate.path.name.lower().removesuffix(candidate.compression).endswith((".jsonl", ".ndjson")):
        return True
    if not candidate.head.lstrip().startswith("{"):
        return False
    rows = [row for line in candidate.head.split("\n")[:_LINES] if (row := _object(line)) is not None]
    names = {name for row in rows for name in _names(row)}
    return len(rows) > 1 and (any(map(role_of, names)) or bool(like_losses(names) or like_accuracies(names)))


def _names(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of numbers in an object, and in the objects inside of it."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from (f"{key}/{inner}" for inner, number in value.items() if as_number(number) is not None)
        elif as_number(value) is not None:
            yield key


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one file as one run, or as the runs that its columns name."""
    table = Table({}, 0)
    columns = TableColumns()
    for rows in _batches(files[0], table):
        columns.add_many(rows)
    if not columns.fill(table).columns:
        raise ValueError(
            f"Expected one JSON object with numbers in each line of {files[0].name}, got no number; check it"
        )
    return table_logs(table, options, files[0].name)


def _batches(path: Path, table: Table) -> Iterator[Sequence[Mapping[str, Any]]]:
    first = text_head(path).lstrip().partition("\n")
    if path.suffix.lower() == ".json" and not (_object(first[0]) and first[2].strip()):
        yield list(_whole(path))
    else:
        yield from json_batches(path, table)


def json_lines(path: Path, table: Table) -> Iterator[Mapping[str, Any]]:
    """Yield the objects line by line. Add notes about lines that cannot be read to ``table``."""
    for rows in json_batches(path, table):
        yield from rows


def json_batches(path: Path, table: Table) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Yield the objects of many lines at once, which is three times as fast as line by line."""
    n_other = 0
    with TextFile(path) as text:
        lines = iter(text)
        while batch := _some(lines):
            rows = _objects(batch)
            n_other += len(batch) - len(rows)
            yield rows
    last = _object(text.torn)  # a complete object needs no line end
    if last is not None:
        yield [last]
    if n_other:
        table.notes.append(f"{path.name}: {n_other} lines are no JSON objects and were ignored")
    table.notes += text.notes
    table.damage += text.damage + (text.cut_off() if last is None else [])


def _some(lines: Iterator[str]) -> list[str]:
    """Return the next lines that are not empty, about a million characters."""
    found, size = [], 0
    for line in lines:
        if line != "\n" and not line.isspace():
            found.append(line)
            size += len(line)
            if size > _BATCH:
                break
    return found


def _objects(lines: list[str]) -> list[dict[str, Any]]:
    """Return the objects in lines. Lines that hold anything else are left out."""
    try:
        rows = parse_json(f"[{','.join(lines)}]")
        if len(rows) == len(lines) and all(type(row) is dict for row in rows):
            return rows
    except ValueError:
        pass
    return [row for line in lines if (row := _object(line)) is not None]


def _object(line: str) -> dict[str, Any] | None:
    try:
        entry = parse_json(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _whole(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a list of objects, or of an object of lists."""
    content = read_json(path)
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


READER = Reader("json", "*.jsonl, *.ndjson", matches, read)
