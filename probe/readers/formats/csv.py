"""Tables as text: one row per step, columns with names, any of the usual delimiters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from probe.readers.log import Log, Points
from probe.readers.names import guess_axis
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import Table, table_log
from probe.readers.text import TextFile, text_head

_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_ROWS = 100_000  # read at a time


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a table, by its name."""
    return candidate.path.name.lower().removesuffix(candidate.compression).endswith((".csv", ".tsv"))


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one file as one run, or as the runs that the column ``run`` names."""
    column = options.run[0] if options.run else "run"
    runs: dict[str, int] = {}
    table = read_columns(files[0], runs, column)
    if options.run and not runs:
        guess_axis(table.columns, column)  # raises, with near names
    if not runs or options.axis == column:
        return {"": table_log(table, options.axis)}
    rows, codes = table.columns.pop(column)
    run = np.full(table.n_rows, -1)
    run[rows] = codes
    logs = {}
    for label, code in runs.items():
        own = {name: (at[run[at] == code], values[run[at] == code]) for name, (at, values) in table.columns.items()}
        points = {name: column for name, column in own.items() if len(column[0])}
        logs[label] = table_log(Table(points, table.n_rows), options.axis, int((run == code).sum()))
    first = next(iter(logs.values()))
    first.notes += [*table.notes, f"the column {column!r} divides the rows among {len(logs)} runs"]
    first.damage += table.damage
    return logs


def _header(head: str, name: str) -> tuple[list[str], str]:
    """Return the names of the columns and the delimiter, which is the most frequent one in the first line."""
    first = head.split("\n", 1)[0]
    if not first.strip():
        raise ValueError(f"Expected names of columns in the first line of {name}, got an empty line; add the names")
    delimiter = max(_DELIMITERS, key=first.count)
    names = [entry.strip().strip('"') for entry in first.split(delimiter)]
    if all(_is_number(entry) for entry in names):
        raise ValueError(f"Expected names of columns in the first line of {name}, got numbers; add a line of names")
    return names, delimiter


def column_names(candidate: Candidate) -> list[str]:
    """Return the names of the columns; an empty list if there are none."""
    try:
        return _header(candidate.head, candidate.path.name)[0]
    except ValueError:
        return []


def read_columns(path: Path, runs: dict[str, int] | None = None, run: str = "run") -> Table:
    """Return the columns that hold numbers.

    If there is a column ``run``, its labels are added to ``runs`` with consecutive numbers, and the column holds these
    numbers.
    """
    head = text_head(path)
    _, delimiter = _header(head, path.name)
    notes = [] if delimiter == "," else [f"{path.name}: the delimiter of the columns is a {_DELIMITERS[delimiter]}"]
    comma = delimiter == ";" and _decimal_comma(head)
    notes += ["numbers have a decimal comma"] if comma else []
    parts: dict[str, list[Points]] = {}
    n_text: dict[str, int] = {}
    n_rows = 0
    options = {"sep": delimiter, "decimal": "," if comma else ".", "skipinitialspace": True}
    text = TextFile(path)
    try:
        with text, pd.read_csv(text, chunksize=_ROWS, low_memory=False, **options) as chunks:
            for chunk in chunks:
                chunk.columns = [str(name).strip() for name in chunk.columns]
                if runs is not None and run in chunk:
                    chunk[run] = [runs.setdefault(str(label), len(runs)) for label in chunk[run]]
                _add(chunk, n_rows, parts, n_text)
                n_rows += len(chunk)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"Expected a table in {path.name}, got {error}; correct the file") from error
    notes += text.notes + _drop_text(parts, n_text)
    columns = {name: _joined(some) for name, some in parts.items()}
    return Table(columns, n_rows, notes, text.damage + text.cut_off())


def _add(chunk: pd.DataFrame, offset: int, parts: dict[str, list[Points]], n_text: dict[str, int]) -> None:
    for name in chunk.columns:
        numbers = pd.to_numeric(chunk[name], errors="coerce").to_numpy(dtype=float)
        rows = np.flatnonzero(~np.isnan(numbers))
        if lost := int(chunk[name].notna().sum()) - len(rows):
            n_text[name] = n_text.get(name, 0) + lost
        if len(rows):
            parts.setdefault(name, []).append((rows + offset, numbers[rows]))


def _drop_text(parts: dict[str, list[Points]], n_text: dict[str, int]) -> list[str]:
    """Drop columns with more text than numbers, and return notes about all columns with text."""
    notes = []
    for name, lost in n_text.items():
        if lost > sum(len(rows) for rows, _ in parts.get(name, [])):
            parts.pop(name, None)
            notes.append(f"columns without numbers were ignored: {name}")
        else:
            notes.append(f"{name}: {lost} entries are no numbers and were ignored")
    return notes


def _joined(some: list[Points]) -> Points:
    return np.concatenate([rows for rows, _ in some]), np.concatenate([values for _, values in some])


def _decimal_comma(head: str) -> bool:
    second = head.split("\n", 2)[1:2]
    return any(_is_number(entry.replace(",", ".", 1)) and "," in entry for entry in "".join(second).split(";"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


READER = Reader("csv", "*.csv, *.tsv", matches, read, suffixes=(".txt", ".dat"))
