"""MLflow: its database ``mlflow.db`` (SQLite), or a folder with ``<run>/metrics/<key>``.

The files have lines "timestamp value step". Keys with slashes are folders. The database has the tables ``runs``
(run_uuid, name, lifecycle_stage) and ``metrics`` (key, value, run_uuid, step, is_nan).
"""

import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from probe.readers.log import Log, Points
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.text import TextFile


def matches(candidate: Candidate) -> bool:
    """Return whether the file is the database, or is below the ``metrics`` of a folder with a ``meta.yaml``."""
    return candidate.path.name == "mlflow.db" or _run_folder(candidate.path) is not None


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
        raise ValueError(f"Expected a database of MLflow in {file.name}, got {error}; check the file") from error
    if not logs:
        raise ValueError(f"Expected a run with a metric in {file.name}, got none; check the file")
    deleted = sum(stage == "deleted" for *_, stage in runs)
    next(iter(logs.values())).notes.extend([f"{deleted} deleted runs were ignored"] if deleted else [])
    return logs if len(logs) > 1 else {"": next(iter(logs.values()))}


def _points(database: sqlite3.Connection, run: str) -> dict[str, Points]:
    columns: dict[str, tuple[array[int], array[float]]] = {}
    query = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY rowid"
    for key, step, value, is_nan in database.execute(query, (run,)):
        steps, values = columns.setdefault(key, (array("q"), array("d")))
        steps.append(step)
        values.append(float("nan") if is_nan else value)
    return {key: (np.array(steps), np.array(values)) for key, (steps, values) in columns.items()}


def _metric(file: Path, damage: list[str]) -> Points:
    steps, values, n_damaged, width = array("q"), array("d"), 0, 0
    with TextFile(file) as text:
        for line in text:
            words = line.split()
            width = width or len(words)  # two words before MLflow had steps, else three; an incomplete line has fewer
            try:
                step = int(words[2]) if width > 2 else 0
                values.append(float(words[1]))
                steps.append(step)
            except (ValueError, IndexError):
                n_damaged += 1
    if n_damaged:
        damage.append(f"{file.name}: {n_damaged} damaged lines were ignored")
    damage += text.damage + text.cut_off()
    return np.array(steps), np.array(values)


READER = Reader("mlflow", "mlflow.db, mlruns/*/*/metrics/*", matches, read, run_path)
