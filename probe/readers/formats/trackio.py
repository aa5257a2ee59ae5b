"""trackio: a database (SQLite) for each project, with the table ``metrics`` (run_name, step, metrics as JSON)."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from probe.readers.log import Log
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import Table, TableColumns, table_log
from probe.readers.text import parse_json
from probe.readers.wire.database import columns_of, has_columns, open_database

_COLUMNS = {"id", "run_name", "step", "metrics"}


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a database with the table that trackio writes."""
    return has_columns(candidate.path, candidate.start, "metrics", _COLUMNS)


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read the runs of one project by name; by name and id where two runs have the same name."""
    columns: dict[tuple[str, str], TableColumns] = {}
    n_damaged = 0
    with open_database(files[0], "trackio") as database:
        for run, name, step, metrics in database.execute(_query(database, files[0].name)):
            try:
                row = parse_json(metrics)
            except (ValueError, TypeError):
                row = None
            if isinstance(row, dict):
                columns.setdefault((str(run), str(name)), TableColumns()).add({**row, "step": step})
            else:
                n_damaged += 1
    if not columns:
        raise ValueError(f"Expected a run with a metric in {files[0].name}, got none; check the file")
    names = [name for _, name in columns]
    logs = {
        name if names.count(name) == 1 else f"{name} {run[:8]}": table_log(own.fill(Table({}, 0)), options.axis)
        for (run, name), own in columns.items()
    }
    if n_damaged:
        next(iter(logs.values())).damage.append(f"{files[0].name}: {n_damaged} damaged rows were ignored")
    return logs if len(logs) > 1 else {"": next(iter(logs.values()))}


def _query(database: sqlite3.Connection, where: str) -> str:
    """Return the query of all rows. Old versions of trackio gave runs no id."""
    names = columns_of(database, "metrics")
    if not names >= _COLUMNS:
        raise ValueError(f"Expected a database of trackio in {where}, got no table of metrics; check the file")
    run = "run_id" if "run_id" in names else "run_name"
    return f"SELECT {run}, run_name, step, metrics FROM metrics ORDER BY id"


READER = Reader("trackio", "*.db of a project", matches, read)
