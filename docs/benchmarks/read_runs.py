"""Measure how fast a folder of runs and a database of runs are read, and compare with the usual readers.

    python docs/benchmarks/read_runs.py [--runs 1000] [--points 200] [--against SITE_PACKAGES]

The script writes runs of 4 curves: a CSV file for each run, an event file for each run, and a database with the tables
of MLflow. Each reader reads them in its own process, which prints its CPU time (imports included) and its peak memory:
``probe`` up to one Dataset over (run, step), and beside it pandas.read_csv for each file, TensorBoard's
EventAccumulator for each file with all points (``--against`` names a site-packages folder with tensorboard) and
pandas.read_sql for the whole table.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from read_events import write

NAMES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def curves(seed: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (points,) and values (points, 4) of one run."""
    rng = np.random.default_rng(seed)
    steps = 10 * np.arange(points)
    decay = np.exp(-np.linspace(0, 4, points))[:, None] * [3.0, -0.9, 2.0, -0.8] + [0, 1, 0.5, 0.9]
    return steps, decay + 0.01 * rng.standard_normal((points, 4))


def write_tables(folder: Path, runs: int, points: int) -> None:
    """Write a CSV file in a folder for each run."""
    for run in range(runs):
        steps, values = curves(run, points)
        rows = (f"{step},{','.join(f'{value:.6g}' for value in row)}" for step, row in zip(steps, values, strict=True))
        path = folder / f"seed{run}" / "log.csv"
        path.parent.mkdir()
        path.write_text("\n".join([f"step,{','.join(NAMES)}", *rows, ""]))


def write_events(folder: Path, runs: int, points: int) -> None:
    """Write an event file in a folder for each run. The runs have the same curves."""
    first = folder / "first"
    write(first, 1, len(NAMES), points)
    content = first.read_bytes()
    first.unlink()
    for run in range(runs):
        path = folder / f"seed{run}" / "events.out.tfevents.1700000000.host.1.0"
        path.parent.mkdir()
        path.write_bytes(content)


def write_database(folder: Path, runs: int, points: int) -> None:
    """Write a database with the tables of MLflow."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE runs (run_uuid TEXT, name TEXT, lifecycle_stage TEXT, start_time INT)")
        database.execute(
            "CREATE TABLE metrics (key TEXT, value REAL, timestamp INT, run_uuid TEXT, step INT, is_nan INT)"
        )
        names = [(f"{run:032x}", f"seed{run}", "active", run) for run in range(runs)]
        database.executemany("INSERT INTO runs VALUES (?, ?, ?, ?)", names)
        for run, (uuid, *_) in enumerate(names):
            database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, 0)", _metrics(uuid, run, points))


def _metrics(uuid: str, run: int, points: int) -> Iterator[tuple[str, float, int, str, int]]:
    steps, values = curves(run, points)
    for step, row in zip(steps.tolist(), values.tolist(), strict=True):
        yield from ((name, value, 1_700_000_000_000 + step, uuid, step) for name, value in zip(NAMES, row, strict=True))


def read_probe(folder: Path) -> int:
    """Read everything with probe, and return the number of values."""
    from probe.readers import read

    return int(read(folder, strict=False).to_array().count())


def read_csv(folder: Path) -> int:
    """Read each file with pandas, and join the runs."""
    import pandas as pd

    frames = {path.parent.name: pd.read_csv(path, index_col="step") for path in folder.glob("*/log.csv")}
    return int(pd.concat(frames).count().sum())


def read_accumulators(folder: Path) -> int:
    """Read each file with TensorBoard's EventAccumulator, which keeps all points."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    kept = []
    for path in folder.glob("*/*tfevents*"):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        kept.append({tag: events.Scalars(tag) for tag in events.Tags()["scalars"]})
    return sum(len(points) for run in kept for points in run.values())


def read_sql(folder: Path) -> int:
    """Read the table of metrics with pandas."""
    import pandas as pd

    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return len(pd.read_sql("SELECT run_uuid, key, step, value, is_nan FROM metrics", database))


KINDS: dict[str, tuple[Callable[[Path, int, int], None], dict[str, Callable[[Path], int]]]] = {
    "tables": (write_tables, {"probe": read_probe, "pandas.read_csv": read_csv}),
    "events": (write_events, {"probe": read_probe, "EventAccumulator": read_accumulators}),
    "database": (write_database, {"probe": read_probe, "pandas.read_sql": read_sql}),
}


def main() -> None:
    """Write the runs, read them with each reader, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--against", help="site-packages with tensorboard")
    parser.add_argument("--only", nargs=3, metavar=("KIND", "READER", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        return _one(*args.only)
    print(f"{args.runs:,} runs of {len(NAMES)} curves with {args.points:,} points")
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            KINDS[kind][0](Path(folder), args.runs, args.points)
            for name in KINDS[kind][1]:
                paths = [str(Path(__file__).parents[2]), *([args.against] if name == "EventAccumulator" else [])]
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
                command = [sys.executable, __file__, "--only", kind, name, folder]
                done = subprocess.run(command, capture_output=True, text=True, env=environment)
                print(done.stdout.strip() or f"{kind} {name}: {done.stderr.strip().splitlines()[-1]}", flush=True)
    return None


def _one(kind: str, name: str, folder: str) -> None:
    start, wall = process_time(), perf_counter()
    count = KINDS[kind][1][name](Path(folder))
    spent, wall = process_time() - start, perf_counter() - wall
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3  # Linux
    print(f"{kind:10} {name:18} {count:12,} values  {spent:8.1f} s CPU  {wall:8.1f} s  {peak:6.0f} MB")


if __name__ == "__main__":
    main()
