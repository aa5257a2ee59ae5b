"""Measure how fast tables are read, and compare with pandas.

    python docs/benchmarks/read_tables.py [--megabytes 200] [--curves 7] [--out read_tables.json]

The script writes a CSV and a JSONL of one run: increasing steps, and curves with 6 decimals. Each reader reads them in
its own process, after a small table, and prints its CPU time and its peak memory. ``pandas`` is ``read_csv`` or
``read_json(lines=True)`` up to a DataFrame. ``probe`` is ``read`` up to a series with roles and increasing steps.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

ROWS = 20_000  # written at a time


def write(path: Path, size: int, curves: int) -> int:
    """Write a table of about ``size`` bytes, and return the number of rows."""
    rng = np.random.default_rng(0)
    names = ["step", "train_loss", "val_loss", "train_acc", "val_acc", *(f"metric_{i}" for i in range(curves - 4))]
    row = ",".join(["%d"] + ["%.6f"] * curves) + "\n"
    if path.suffix == ".jsonl":
        entries = [f'"{name}": {form}' for name, form in zip(names, ["%d"] + ["%.6f"] * curves, strict=True)]
        row = "{" + ", ".join(entries) + "}\n"
    step = written = 0
    with open(path, "w") as file:
        if path.suffix == ".csv":
            file.write(",".join(names) + "\n")
        while written < size:
            block = np.column_stack([np.arange(step, step + ROWS), rng.random((ROWS, curves))])
            written += file.write("".join([row % tuple(values) for values in block.tolist()]))
            step += ROWS
    return step


def read_probe(path: str) -> int:
    """Read with probe, and return the number of values."""
    from probe.readers import read

    return sum(array.size for array in read(path).data_vars.values())


def read_pandas(path: str) -> int:
    """Read with pandas, and return the number of values without the steps."""
    import pandas as pd

    frame = pd.read_csv(path) if path.endswith(".csv") else pd.read_json(path, lines=True)
    return frame.size - len(frame)


READERS = {"pandas": read_pandas, "probe": read_probe}


def main() -> None:
    """Write both tables, read each with each reader, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--curves", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3, help="the least CPU time of so many is taken")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--only", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        return _one(args.only, args.file)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".csv", ".jsonl"):
            path = Path(folder, f"log{suffix}")
            rows = write(path, int(args.megabytes * 1e6), args.curves)
            for name in READERS:
                results = [_measured(name, path) for _ in range(args.repeats)]
                best = min(results, key=lambda result: result["cpu_s"])
                found.append({"format": suffix[1:], "reader": name, "rows": rows, **best})
                print("{format:6} {reader:8} {rows:>10,} rows {cpu_s:7.2f} s CPU {peak_mb:7.0f} MB".format(**found[-1]))
            ratio = found[-1]["cpu_s"] / found[-2]["cpu_s"]
            print(f"{suffix[1:]:6} probe / pandas: {ratio:.2f}", flush=True)
    if args.out:
        args.out.write_text(json.dumps({"megabytes": args.megabytes, "results": found}, indent=1) + "\n")
    return None


def _measured(name: str, path: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, __file__, "--only", name, "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def _one(name: str, path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # whatever is imported late is imported now
        small = Path(folder, f"log{Path(path).suffix}")
        write(small, 1, 7)
        READERS[name](str(small))
    start, wall = process_time(), perf_counter()
    count = READERS[name](path)
    spent, wall = process_time() - start, perf_counter() - wall
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3  # Linux
    print(json.dumps({"values": count, "cpu_s": spent, "wall_s": wall, "peak_mb": peak}))


if __name__ == "__main__":
    main()
