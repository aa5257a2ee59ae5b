"""Train configurations for many seeds, by one command that can be stopped and given again at any moment."""

import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
import xarray as xr
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import get_active_backend

from probe import concat
from reference.runs.options import check_seeds, find_config, pick_device
from reference.runs.recorder import Outcome, kept_steps
from reference.runs.storage import RunFolder, RunLockedError, RunState, in_words, kept, load_model, origin
from reference.runs.worker import Job, work
from reference.training.model import Transformer
from reference.training.trainer import PRECISIONS, TrainConfig

__all__ = ["Outcome", "collect", "kept", "load_model", "run", "survey"]


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
    together: bool | None = None,
    keep: str = "all",
    checkpoint_seconds: float = 60.0,
) -> list[Outcome]:
    """Train a configuration for some seeds; those that are finished are skipped, others go on where they were.

    Parameters
    ----------
    name_or_config
        One of `reference.training.configs.CONFIGS`, the path of a JSON file, or a configuration.
    seeds
        Such as ``[3]``, ``range(8)``, or ``"0-7"``.
    out
        Folder of the runs; a run writes to ``<out>/<name>/seed-<n>``.
    device : {"auto", "cpu", "cuda"}
        Where; auto is the GPU if there is one.
    n_jobs : int, optional
        Jobs at a time. None: what `joblib.parallel_config` says, else one for each core, or for each GPU.
    threads : int
        Of torch, for each job.
    steps, precision
        In place of those of the configuration.
    compiled : bool, optional
        None: an ensemble on a GPU is compiled, nothing else.
    together : bool, optional
        The seeds of a job as one `Ensemble`. None: on a GPU.
    keep : {"all", "log", "none"}
        Evaluation steps whose weights are kept.
    checkpoint_seconds : float
        At most this much work is lost by a kill.

    Returns
    -------
    list of Outcome
        For each seed: done, skipped (it was), or failed.

    Raises
    ------
    ValueError
        If something cannot be done as asked; nothing has been changed then.
    RuntimeError
        If a worker process was killed.
    """
    name, config = find_config(name_or_config)
    seeds, device = check_seeds(seeds), pick_device(device)
    config = _overridden(config, steps, precision, device)
    folder = Path(out).absolute() / name
    _check(folder, n_jobs, threads)
    folders = {seed: RunFolder(folder / f"seed-{seed}") for seed in seeds}
    standings = {seed: replace(one.standing(config, seed), state=None) for seed, one in folders.items()}
    todo = [seed for seed in seeds if not standings[seed].finished]
    together = device == "cuda" if together is None else together
    print(_needs(name, config, {seed: standings[seed].step for seed in todo}, keep, folder, device), flush=True)
    lost = sum(len(_not_kept(folders[seed], standings[seed], kept_steps(config, keep))) for seed in seeds)
    if lost:
        print(f"{name}: the weights of {lost} earlier evaluations were not kept, and are not made now", flush=True)
    groups, n_jobs = _groups(todo, n_jobs, device, together)
    common: dict[str, Any] = {
        "name": name, "config": config, "folder": folder, "device": device, "together": together,
        "compiled": compiled, "threads": threads, "keep": keep, "checkpoint_seconds": checkpoint_seconds,
        "bar": len(groups) == 1 and sys.stderr.isatty(),
    }  # fmt: skip
    jobs = [Job(seeds=tuple(group), number=i, **common) for i, group in enumerate(groups)]
    try:
        found = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(work)(job) for job in jobs)
    except TerminatedWorkerError as error:
        raise RuntimeError(
            "Expected all worker processes to live, came the death of one: killed, perhaps for want of memory. The "
            "same command goes on from the last checkpoints; fewer --jobs take less memory."
        ) from error
    except KeyboardInterrupt:
        for one in folders.values():
            if one.lock.exists():  # of a worker that was killed, unless it is held
                with suppress(RunLockedError, OSError), one.locked():
                    pass
        raise
    outcomes = [outcome for group in found for outcome in group]
    for seed in seeds:
        if standings[seed].finished:
            folders[seed].failure.unlink(missing_ok=True)  # killed just before that was done
            outcomes.append(Outcome(seed, "skipped", config.steps, folders[seed].path))
    return sorted(outcomes, key=lambda one: one.seed)


def _overridden(config: TrainConfig, steps: int | None, precision: str | None, device: str) -> TrainConfig:
    config = config if steps is None else replace(config, steps=steps)
    config = config if precision is None else replace(config, precision=precision)
    if config.precision == "tf32" and device == "cpu":
        raise ValueError(
            f"Expected a precision of CPUs, came tf32, which only GPUs have. Give --precision float32 (all: "
            f"{', '.join(PRECISIONS)}), or --device cuda."
        )
    return config


def _check(folder: Path, n_jobs: int | None, threads: int) -> None:
    for name, value in {"jobs": n_jobs, "threads": threads}.items():
        if value is not None and (value == 0 or (name == "threads" and value < 0)):
            raise ValueError(f"Expected --{name} of at least 1, came {value}. Leave it out, or give a larger number.")
    there = _there(folder)
    if not there.is_dir():
        raise ValueError(f"Expected --out FOLDER to be a folder, came the file {there}. Give another.")


def _there(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _not_kept(folder: RunFolder, standing: RunState, steps: Iterable[int]) -> set[int]:
    """Steps whose weights are asked for, but were not kept when training came by."""
    return {step for step in steps if step < standing.step + standing.finished} - set(kept(folder.path))


def _groups(
    seeds: Sequence[int], n_jobs: int | None, device: str, together: bool
) -> tuple[list[list[int]], int | None]:
    """Seeds of each job, and how many jobs at a time."""
    workers = workers_for(n_jobs, device)
    n = min(workers, len(seeds)) if together else len(seeds)
    groups = [[int(seed) for seed in part] for part in np.array_split(seeds, n)] if n else []
    return groups, min(workers, max(1, n))


def workers_for(n_jobs: int | None, device: str = "cpu") -> int:
    """Jobs at a time: as asked for, else as `joblib.parallel_config` says, else one for each core, or each GPU."""
    chosen = get_active_backend()[1] if n_jobs is None else n_jobs
    if chosen is None:
        chosen = torch.cuda.device_count() if device == "cuda" else joblib.cpu_count()
    return joblib.effective_n_jobs(chosen)


def _needs(name: str, config: TrainConfig, todo: dict[int, int], keep: str, folder: Path, device: str) -> str:
    """What will be trained, and how much disk it takes; an error if there is not so much."""
    task = config.task.make(0)
    model = Transformer(config.model, task.n_tokens, task.n_classes)
    size = 4 * sum(parameter.numel() for parameter in model.parameters()) + 20_000  # and names
    steps = kept_steps(config, keep)
    curves = 800 * len(config.evaluations())
    needed = sum(6 * size + curves + size * sum(step >= at for step in steps) for at in todo.values())
    free = shutil.disk_usage(_there(folder)).free
    if needed > free:
        raise ValueError(
            f"Expected {_bytes(needed)} of free disk for {len(todo)} runs, came {_bytes(free)}. Give --out FOLDER on "
            "another disk, or keep fewer weights by --keep log or --keep none."
        )
    if not todo:
        return f"{name}: all seeds are finished"
    return (
        f"{name}: {len(todo)} of the seeds to train to step {config.steps:,} on {device}; disk: {_bytes(needed)} "
        f"(weights of {len(steps)} steps for each seed, {_bytes(size)} each), {_bytes(free)} free"
    )


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:,.3g} GB"


def survey(folder: str | Path) -> dict[int, str]:
    """How each seed in the folder of a configuration stands, in words; ``"finished"`` if it is."""
    found = {}
    for seed, path in seed_folders(folder).items():
        one = RunFolder(path)
        recorded = one.recorded()
        told = "nothing recorded yet"
        if recorded is not None and recorded.sizes["step"]:
            at, total = int(recorded["step"][-1]), origin(recorded)["config"]["steps"]
            told = "finished" if at == total else f"unfinished, recorded until step {at:,} of {total:,}"
        if one.failure.exists():
            told += f"; {one.failure.read_text(encoding='utf-8').splitlines()[0]}"
        found[seed] = told
    return found


def collect(folder: str | Path) -> xr.Dataset:
    """The curves of all seeds in the folder of a configuration as one series with a dimension ``run``.

    Returns
    -------
    xarray.Dataset
        As `probe.concat` makes it: steps are united, and what a run lacks is NaN. The coordinates of ``run``
        say how much that is: `seed`; `observations`, the number of steps recorded; `finished`, 1 or 0.

    Raises
    ------
    FileNotFoundError
        If nothing is recorded there.
    ValueError
        If the seeds are not of one configuration.
    """
    found = {}
    for seed, path in seed_folders(folder).items():
        recorded = RunFolder(path).recorded()
        if recorded is not None and recorded.sizes["step"]:
            found[seed] = recorded
    if not found:
        raise FileNotFoundError(
            f"Expected recorded runs in {folder}, came none. Give the folder of a configuration, with seed-0 and such."
        )
    configs = {seed: origin(recorded)["config"] for seed, recorded in found.items()}
    first = next(iter(configs))
    for seed, config in configs.items():
        told = in_words(configs[first], config)
        if told:
            raise ValueError(f"Expected runs of one configuration, came seed {first} and seed {seed}: {told}.")
    ends = [recorded["step"].values[-1] == configs[seed]["steps"] for seed, recorded in found.items()]
    counts = [recorded.sizes["step"] for recorded in found.values()]
    seeds = np.array(list(found), np.int32)  # which NetCDF 3 holds as they are
    return concat(list(found.values()), list(seeds)).assign_coords(
        seed=("run", seeds),
        observations=("run", np.array(counts, np.int32), {"units": "1", "long_name": "steps recorded; others are NaN"}),
        finished=("run", np.array(ends, np.int8), {"units": "1", "long_name": "trained to the last step"}),
    )


def seed_folders(folder: str | Path) -> dict[int, Path]:
    """The folders of the seeds of a configuration."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"Expected a folder of runs, came {folder}, which there is not. Try runs/NAME.")
    found = {path.name.removeprefix("seed-"): path for path in Path(folder).glob("seed-*")}
    return {int(seed): found[seed] for seed in sorted(filter(str.isdigit, found), key=int)}
