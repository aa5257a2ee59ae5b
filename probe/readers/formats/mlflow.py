"""MLflow: its database ``mlflow.db`` (SQLite), or a folder with ``<run>/metrics/<key>``.

The files hold lines "timestamp value step"; keys with slashes are folders. The database has the tables ``runs``
(run_uuid, name, lifecycle_stage) and ``metrics`` (key, value, run_uuid, step, is_nan).
"""

import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from probe.readers.log import Log, Points

NAME = "mlflow"


def claims(path: Path) -> bool:
    """The database, by its name, or a file below the ``metrics`` of a folder that has a ``meta.yaml``."""
    return path.name == "mlflow.db" or _run(path) is not None


def _run(path: Path) -> Path | None:
    above = (folder for folder in path.parents if folder.name == "metrics")
    return next((folder.parent for folder in above if (folder.parent / "meta.yaml").exists()), None)


def run_of(path: Path) -> Path:
    """The folder of the run; a database holds several."""
    return _run(path) or path


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """One run from its files, one for each metric, or all runs of a database that were not deleted."""
    if axis not in (None, "step"):
        raise ValueError(f"expected axis 'step' for an MLflow run, got {axis!r}; it has no other")
    if run_of(files[0]) == files[0]:
        return _database(files[0])
    metrics = run_of(files[0]) / "metrics"
    said: list[str] = []
    return {"": Log({file.relative_to(metrics).as_posix(): _metric(file, said) for file in sorted(files)}, said)}


def _database(file: Path) -> dict[str, Log]:
    """Runs by name; by name and id where two have one name."""
    logs: dict[str, Log] = {}
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            runs = database.execute(
                "SELECT run_uuid, name, lifecycle_stage FROM runs ORDER BY start_time, rowid"
            ).fetchall()
            names = [name for _, name, _ in runs]
            for run, name, stage in runs:
                if stage != "deleted" and (points := _points(database, run)):
                    logs[name if name and names.count(name) == 1 else f"{name or 'run'} {run[:8]}"] = Log(points)
    except sqlite3.Error as error:
        raise ValueError(f"{file.name} is no database of MLflow that can be read: {error}") from error
    if not logs:
        raise ValueError(f"no run in {file.name} has logged a metric")
    deleted = sum(stage == "deleted" for *_, stage in runs)
    next(iter(logs.values())).said.extend([f"{deleted} deleted runs left out"] if deleted else [])
    return logs if len(logs) > 1 else {"": next(iter(logs.values()))}


def _points(database: sqlite3.Connection, run: str) -> dict[str, Points]:
    columns: dict[str, tuple[array, array]] = {}
    query = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY rowid"
    for key, step, value, is_nan in database.execute(query, (run,)):
        steps, values = columns.setdefault(key, (array("q"), array("d")))
        steps.append(step)
        values.append(float("nan") if is_nan else value)
    return {key: (np.array(steps), np.array(values)) for key, (steps, values) in columns.items()}


def _metric(file: Path, said: list[str]) -> Points:
    steps, values, damaged, width = array("q"), array("d"), 0, 0
    with open(file, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            words = line.split()
            width = width or len(words)  # two words before MLflow had steps, else three; fewer are a torn line
            try:
                step = int(words[2]) if width > 2 else 0
                values.append(float(words[1]))
                steps.append(step)
            except (ValueError, IndexError):
                damaged += 1
    if damaged:
        said.append(f"{file.name}: {damaged} damaged lines left out")
    return np.array(steps), np.array(values)
