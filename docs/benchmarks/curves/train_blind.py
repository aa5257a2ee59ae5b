"""Train the small networks of the blind set, and save their curves in blind.npz.

    python docs/benchmarks/curves/train_blind.py             train all runs that `build` lacks, then write blind.npz
    python docs/benchmarks/curves/train_blind.py NAME ...    train these runs again, and write only `build`
    python docs/benchmarks/curves/train_blind.py --list      print the table of runs in Markdown

A run takes at most 30 CPU seconds on one thread. The name of a run determines its seed. The runs were chosen before any
was trained, and no run was left out afterwards.
"""

import argparse
import os
import zlib
from pathlib import Path
from time import process_time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from blind_runs import RUNS
from trainer import train

HERE = Path(__file__).parent
KEPT = HERE / "build"  # ignored by git


def curves_of(name: str) -> dict[str, np.ndarray]:
    """Train a run, and return its curves by name; curves without a value are left out."""
    seed = zlib.crc32(name.encode()) % 10_000
    torch.manual_seed(seed)
    rows = train(RUNS[name][1](seed), seed)
    names = ("step", "train_loss", "test_loss", "train_accuracy", "test_accuracy")
    curves = dict(zip(names, rows.astype(np.float32).T, strict=True))
    curves["step"] = rows[:, 0].astype(np.int32)
    return {key: curve for key, curve in curves.items() if not np.isnan(curve).all()}


def train_and_keep(name: str) -> None:
    start = process_time()
    curves = curves_of(name)
    KEPT.mkdir(exist_ok=True)
    np.savez(KEPT / f"{name}.npz", **curves)
    print(f"{name}: {len(curves['step'])} rows, {process_time() - start:.1f} CPU s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("| run | what it is |", "|---|---|", *(f"| {name} | {RUNS[name][0]} |" for name in RUNS), sep="\n")
        return
    torch.set_num_threads(1)
    for name in arguments.names or [name for name in RUNS if not (KEPT / f"{name}.npz").exists()]:
        train_and_keep(name)
    if not arguments.names:
        kept = {name: np.load(KEPT / f"{name}.npz") for name in RUNS}
        flat = {f"{name}/{key}": curve for name, curves in kept.items() for key, curve in curves.items()}
        np.savez_compressed(HERE / "blind.npz", **flat)


if __name__ == "__main__":
    main()
