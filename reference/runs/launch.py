"""Train a configuration for many seeds, by one call that can be stopped and repeated at any time."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from joblib.parallel import get_active_backend

from probe.workers import in_parallel
from reference.runs.job import Job
from reference.runs.options import check_seeds, choose_device, find_config
from reference.runs.recorder import Outcome, steps_to_store
from reference.runs.storage import RunFolder, RunState, stored_steps
from reference.runs.worker import work
from reference.training.model import Transformer
from reference.training.train_config import PRECISIONS, TrainConfig


def run(
    name_or_config: str | Path | TrainConfig,
    seeds: Iterable[int] | str,
    *,
    out: str | Path = "runs",
    device: str = "auto",
    n_jobs: int | None = None,
    threads: int = 1,
    steps: int | None = None,
    precision: str | None = None,
    compiled: bool | None = None,
    ensemble: bool | None = None,
    store_weights: str = "all",
    checkpoint_seconds: float = 60.0,
) -> list[Outcome]:
    """Train a configuration for some seeds. Finished seeds are skipped, others continue from their checkpoints.

    Parameters
    ----------
    name_or_config
        A name of `reference.training.CONFIGS`, the path of a JSON file, or a configuration.
    seeds
        Such as ``[3]``, ``range(8)``, or ``"0-7"``.
    out
        Folder of all runs. A run is written to ``<out>/<name>/seed-<n>``.
    device : {"auto", "cpu", "cuda"}
        The device; ``"auto"`` is the GPU if there is one.
    n_jobs : int, optional
        Number of parallel jobs. None: the setting of `joblib.parallel_config`, else one for each core or each GPU.
    threads : int
        Threads of torch in each job.
    steps, precision
        Values that replace those of the configuration.
    compiled : bool, optional
        Compile the model. None: only an ensemble on a GPU.
    ensemble : bool, optional
        Train the seeds of a job as one `Ensemble`. None: only on a GPU.
    store_weights : {"all", "log", "none"}
        Evaluations whose weights are stored: all, the log-spaced ones, or none.
    checkpoint_seconds : float
        A kill loses at most this much work, in s.

    Returns
    -------
    list of Outcome
        The outcome of each seed: done, skipped (finished before), or failed.

    Raises
    ------
    ValueError
        If the options are not valid or a folder holds another run. Nothing is changed then.
    RuntimeError
        If a worker process was killed.
    """
    name, config = find_config(name_or_config)
    seeds, device = check_seeds(seeds), choose_device(device)
    config = _with_overrides(config, steps, precision, device)
    folder = Path(out).absolute() / name
    _check(folder, n_jobs, threads)
    folders = {seed: RunFolder(folder / f"seed-{seed}") for seed in seeds}
    states = {seed: replace(one.run_state(config, seed), state=None) for seed, one in folders.items()}
    to_train = {seed: states[seed].step for seed in seeds if not states[seed].finished}
    to_store = steps_to_store(config, store_weights)
    print(_announcement(name, config, to_train, to_store, folder, device), flush=True)
    _print_missing_weights(name, [(folders[seed], states[seed]) for seed in seeds], to_store)
    ensemble = device == "cuda" if ensemble is None else ensemble
    groups, n_jobs = _groups(list(to_train), n_jobs, device, ensemble)
    common: dict[str, Any] = {
        "name": name, "config": config, "folder": folder, "device": device, "ensemble": ensemble,
        "compiled": compiled, "threads": threads, "store_weights": store_weights,
        "checkpoint_seconds": checkpoint_seconds, "bar": len(groups) == 1 and sys.stderr.isatty(),
    }  # fmt: skip
    outcomes = _work([Job(seeds=tuple(group), number=i, **common) for i, group in enumerate(groups)], n_jobs)
    outcomes += [_skip(seed, folders[seed], config.steps) for seed in seeds if states[seed].finished]
    return sorted(outcomes, key=lambda outcome: outcome.seed)


def _skip(seed: int, folder: RunFolder, steps: int) -> Outcome:
    """Return the outcome of a finished run."""
    folder.failure.unlink(missing_ok=True)  # left by a kill just before its removal
    return Outcome(seed, "skipped", steps, folder.path)


def _work(jobs: Sequence[Job], n_jobs: int) -> list[Outcome]:
    """Run the jobs in parallel."""
    found = in_parallel(work, [(job,) for job in jobs], n_jobs)
    return [outcome for outcomes in found for outcome in outcomes]


def _with_overrides(config: TrainConfig, steps: int | None, precision: str | None, device: str) -> TrainConfig:
    config = config if steps is None else replace(config, steps=steps)
    config = config if precision is None else replace(config, precision=precision)
    if config.precision == "tf32" and device == "cpu":
        raise ValueError(
            f"Expected a precision that a CPU has, got tf32; give --precision float32 (all: {', '.join(PRECISIONS)}), "
            "or --device cuda."
        )
    return config


def _check(folder: Path, n_jobs: int | None, threads: int) -> None:
    for name, value in {"jobs": n_jobs, "threads": threads}.items():
        if value is not None and (value == 0 or (name == "threads" and value < 0)):
            raise ValueError(f"Expected --{name} of at least 1, got {value}; leave it out, or give a larger number.")
    existing = _existing(folder)
    if not existing.is_dir():
        raise ValueError(f"Expected --out FOLDER to be a folder, got the file {existing}; give another path.")


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _print_missing_weights(name: str, runs: Sequence[tuple[RunFolder, RunState]], to_store: Sequence[int]) -> None:
    """Print the number of past evaluations whose weights should be stored and are not."""
    missing = 0
    for folder, state in runs:
        past = {step for step in to_store if step < state.step + state.finished}
        missing += len(past - set(stored_steps(folder.path)))
    if missing:
        print(f"{name}: the weights of {missing} earlier evaluations were not stored and stay missing", flush=True)


def _groups(seeds: Sequence[int], n_jobs: int | None, device: str, ensemble: bool) -> tuple[list[list[int]], int]:
    """Return the seeds of each job, and the number of parallel jobs."""
    workers = count_workers(n_jobs, device)
    n = min(workers, len(seeds)) if ensemble else len(seeds)
    groups = [[int(seed) for seed in part] for part in np.array_split(seeds, n)] if n else []
    return groups, min(workers, max(1, n))


def count_workers(n_jobs: int | None, device: str = "cpu") -> int:
    """Return ``n_jobs``, else the setting of `joblib.parallel_config`, else the number of cores or of GPUs."""
    chosen = get_active_backend()[1] if n_jobs is None else n_jobs
    if chosen is None:
        chosen = torch.cuda.device_count() if device == "cuda" else joblib.cpu_count()
    return int(joblib.effective_n_jobs(chosen))


def _announcement(
    name: str, config: TrainConfig, to_train: dict[int, int], to_store: Sequence[int], folder: Path, device: str
) -> str:
    """Return a line about the training and its disk space; raise ValueError if the space is not free.

    ``to_train`` maps each seed to the step that it has reached.
    """
    task = config.task.make(0)
    model = Transformer(config.model, task.n_tokens, task.n_classes)
    size = 4 * sum(parameter.numel() for parameter in model.parameters()) + 20_000  # names and headers
    curves = 800 * len(config.evaluations())
    needed = sum(6 * size + curves + size * sum(step >= at for step in to_store) for at in to_train.values())
    free = shutil.disk_usage(_existing(folder)).free
    if needed > free:
        raise ValueError(
            f"Expected {_bytes(needed)} of free disk space for {len(to_train)} runs, got {_bytes(free)}; give --out "
            "FOLDER on another disk, or store fewer weights by --store-weights log or --store-weights none."
        )
    if not to_train:
        return f"{name}: all seeds are finished"
    return (
        f"{name}: {len(to_train)} of the seeds to train to step {config.steps:,} on {device}; disk: {_bytes(needed)} "
        f"(weights of {len(to_store)} steps for each seed, {_bytes(size)} each), {_bytes(free)} free"
    )


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.3g} GB"
