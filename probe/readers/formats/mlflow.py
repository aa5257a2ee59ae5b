"""MLflow: its database ``mlflow.db`` (SQLite), or a folder with ``<run>/metrics/<key>``.

The files have lines "timestamp value step". Keys with slashes are folders. The database has the tables ``runs``
(run_uuid, name, lifecycle_stage) and ``metrics`` (key, value, run_uuid, step, is_nan).
"""

import sqlite3
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probe.readers.log import Log, Points
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.text import TextFile
from probe.readers.wire.database import columns_of, has_columns, open_database
from probe.series import MAX_STEP

_RUNS = {"run_uuid", "name", "lifecycle_stage", "start_time"}
_METRICS = {"run_uuid", "key", "step", "value", "is_nan"}
_NAN = float("nan")


def matches(candidate: Candidate) -> bool:
    """Return whether the file is the database, or is below the ``metrics`` of a folder with a ``meta.yaml``."""
    if candidate.path.name == "mlflow.db" or _run_folder(candidate.path) is not None:
        return True
    return has_columns(candidate.path, candidate.start, "metrics", _METRICS)


def _run_folder(path: Path) -> Path | None:
    above = (folder for folder in path.parents if folder.name == "metrics")
    return next((folder.parent for folder in above if (folder.parent / "meta.yaml").exists()), None)


def run_path(path: Path) -> Path:
    """Return the folder of the run, or the database, which holds several runs."""
    return _run_folder(path) or path


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one run from its files, one for each metric, or all runs of a database that were not deleted."""
    options.check_no_columns("an MLflow run")
    if run_path(files[0]) == files[0]:
        return _database(files[0])
    metrics = run_path(files[0]) / "metrics"
    damage: list[str] = []
    points = {file.relative_to(metrics).as_posix(): _metric(file, damage) for file in sorted(files)}
    return {"": Log(points, damage=damage)}


def _database(file: Path) -> dict[str, Log]:
    """Return the runs by name; by name and id where two runs have the same name."""
    with open_database(file, "MLflow") as database:
        if not columns_of(database, "runs") >= _RUNS or not columns_of(database, "metrics") >= _METRICS:
            raise ValueError(f"Expected a database of MLflow in {file.name}, got no tables of runs; check the file")
        query = "SELECT run_uuid, name, lifecycle_stage FROM runs ORDER BY start_time, rowid"
        runs = {str(run): (str(name or "run"), stage) for run, name, stage in database.execute(query)}
        damage: list[str] = []
        points = _points(database, {run for run, (_, stage) in runs.items() if stage != "deleted"}, damage)
    counts = Counter(name for name, _ in runs.values())
    logs = {
        name if counts[name] == 1 else f"{name} {run[:8]}": Log(points[run])
        for run, (name, _) in runs.items()
        if run in points
    }
    if not logs:
        raise ValueError(f"Expected a run with a metric in {file.name}, got none; check the file")
    first = next(iter(logs.values()))
    deleted = sum(stage == "deleted" for _, stage in runs.values())
    first.notes += [f"{deleted} deleted runs were ignored"] if deleted else []
    first.damage += [f"{file.name}: {note}" for note in damage]
    return logs if len(logs) > 1 else {"": first}


def _points(database: sqlite3.Connection, runs: set[str], damage: list[str]) -> dict[str, dict[str, Points]]:
    """Return the points by run and key. One pass over the table reads all runs."""
    columns: dict[tuple[str, str], tuple[array[int], array[float]]] = {}
    n_damaged = 0
    for run, key, step, value, is_nan in database.execute(
        "SELECT run_uuid, key, step, value, is_nan FROM metrics ORDER BY rowid"
    ):
        try:
            steps, values = columns[run, key]
        except KeyError:
            if run not in runs:
                continue
            steps, values = columns[run, key] = array("q"), array("d")
        if type(step) is int and type(value) in (int, float):
            steps.append(step)
            values.append(_NAN if is_nan else value)
        else:
            n_damaged += 1
    if n_damaged:
        damage.append(f"{n_damaged} rows without a number or a step were ignored")
    points: dict[str, dict[str, Points]] = {}
    for (run, key), (steps, values) in columns.items():
        points.setdefault(run, {})[str(key)] = (np.array(steps), np.array(values))
    return points


def _metric(file: Path, damage: list[str]) -> Points:
    steps, values, n_damaged, width = array("q"), array("d"), 0, 0
    with TextFile(file) as text:
        for line in text:
            words = line.split()
            width = width or len(words)  # two words before MLflow had steps, else three; an incomplete line has fewer
            try:
                step, value = int(words[2]) if width > 2 else 0, float(words[1])
            except (ValueError, IndexError):
                n_damaged += 1
                continue
            if abs(step) > MAX_STEP:
                n_damaged += 1
                continue
            steps.append(step)
            values.append(value)
    if n_damaged:
        damage.append(f"{file.name}: {n_damaged} damaged lines were ignored")
    damage += text.damage + text.cut_off()
    return np.array(steps), np.array(values)


READER = Reader("mlflow", "mlflow.db, mlruns/*/*/metrics/*", matches, read, run_path)
