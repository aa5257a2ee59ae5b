"""Tables as text: one row for each step, columns with names, any of the usual delimiters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from probe.readers.log import Log, Points
from probe.readers.table import table_log

NAME = "csv"
_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_ROWS = 100_000  # read at a time


def claims(path: Path) -> bool:
    """Whether this is a table, by its name."""
    return path.suffix.lower() in (".csv", ".tsv")


def run_of(path: Path) -> Path:
    """Each file is a run."""
    return path


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """One file as one run; with a column ``run``, as many as it names."""
    runs: dict[str, int] = {}
    columns, n_rows, said = columns_of(files[0], runs)
    if not runs or axis == "run":
        return {"": table_log(columns, n_rows, axis, said)}
    at, codes = columns.pop("run")
    run = np.full(n_rows, -1)
    run[at] = codes
    logs = {}
    for label, code in runs.items():
        own = {name: (rows[run[rows] == code], values[run[rows] == code]) for name, (rows, values) in columns.items()}
        logs[label] = table_log({k: v for k, v in own.items() if len(v[0])}, n_rows, axis, of=int((run == code).sum()))
    next(iter(logs.values())).said.extend([*said, f"the column 'run' divides the rows among {len(logs)} runs"])
    return logs


def header(path: Path) -> tuple[list[str], str]:
    """Names of the columns, and the delimiter: the one that the first line has most of."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(2**20).strip("\r\n")
    if not first.strip():
        raise ValueError(f"{path.name} is empty, or its first line is; expected the names of columns")
    delimiter = max(_DELIMITERS, key=first.count)
    names = [name.strip().strip('"') for name in first.split(delimiter)]
    if all(_is_number(name) for name in names):
        raise ValueError(
            f"expected names of columns in the first line of {path.name}, got numbers; add a line of names"
        )
    return names, delimiter


def names_in(path: Path) -> list[str]:
    """Names of the columns, none if there is no such line."""
    try:
        return header(path)[0]
    except (OSError, ValueError):
        return []


def columns_of(path: Path, runs: dict[str, int] | None = None) -> tuple[dict[str, Points], int, list[str]]:
    """Rows and values of each column that holds numbers, the number of rows, and what was guessed.

    If there is a column ``run``, ``runs`` gets its labels, numbered as they come, and the column holds the numbers.
    """
    _, delimiter = header(path)
    said = [] if delimiter == "," else [f"{path.name}: columns are divided by a {_DELIMITERS[delimiter]}"]
    comma = delimiter == ";" and _decimal_comma(path)
    said += ["numbers have a decimal comma"] if comma else []
    parts: dict[str, list[Points]] = {}
    words: dict[str, int] = {}
    n_rows = 0
    options = {"sep": delimiter, "decimal": "," if comma else ".", "encoding": "utf-8-sig", "skipinitialspace": True}
    try:
        with pd.read_csv(path, chunksize=_ROWS, low_memory=False, **options) as chunks:
            for chunk in chunks:
                chunk.columns = [str(name).strip() for name in chunk.columns]
                if runs is not None and "run" in chunk:
                    chunk["run"] = [runs.setdefault(str(label), len(runs)) for label in chunk["run"]]
                _add(chunk, n_rows, parts, words)
                n_rows += len(chunk)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no table that can be read: {error}") from error
    said += _left_out(parts, words) + _torn(path, delimiter)
    return {name: _joined(some) for name, some in parts.items()}, n_rows, said


def _add(chunk: pd.DataFrame, offset: int, parts: dict[str, list[Points]], words: dict[str, int]) -> None:
    for name in chunk.columns:
        numbers = pd.to_numeric(chunk[name], errors="coerce").to_numpy(dtype=float)
        rows = np.flatnonzero(~np.isnan(numbers))
        if lost := int(chunk[name].notna().sum()) - len(rows):
            words[name] = words.get(name, 0) + lost
        if len(rows):
            parts.setdefault(name, []).append((rows + offset, numbers[rows]))


def _left_out(parts: dict[str, list[Points]], words: dict[str, int]) -> list[str]:
    """Say which columns are words; one with more words than numbers is none of numbers."""
    said = []
    for name, lost in words.items():
        if lost > sum(len(rows) for rows, _ in parts.get(name, [])):
            parts.pop(name, None)
            said.append(f"left out, for it holds no numbers: {name}")
        else:
            said.append(f"{name}: {lost} entries are no numbers, and are left out")
    return said


def _joined(some: list[Points]) -> Points:
    return np.concatenate([rows for rows, _ in some]), np.concatenate([values for _, values in some])


def _torn(path: Path, delimiter: str) -> list[str]:
    """Whether the last line was cut off: it has no end, and fewer fields than the first."""
    names, _ = header(path)
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16))
        last = file.read().split(b"\n")[-1]
    if last and last.count(delimiter.encode()) < len(names) - 1:
        return [f"{path.name}: the last line is cut off, or still being written; its last number may be wrong"]
    return []


def _decimal_comma(path: Path) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        file.readline()
        return any(_is_number(entry.replace(",", ".", 1)) and "," in entry for entry in file.readline().split(";"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
