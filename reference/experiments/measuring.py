"""Measure the stored weights of runs by probes, during or after training."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import xarray as xr

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, ProbeSet, WeightsProbe, concat
from probe.recording import journal_of
from probe.workers import in_parallel
from reference.runs.collection import seed_folders
from reference.runs.job import torch_threads
from reference.runs.launch import count_workers
from reference.runs.storage import load_model, load_weights, stored_steps


def all_probes() -> ProbeSet:
    """Return probes of mutual information (three noises, other estimators), local complexity, linearity and weights."""
    estimators = ("coding_rate", "renyi", "binned")
    return ProbeSet(
        [
            MutualInfoProbe(noise_factors=(0.5, 2), compare=estimators, max_samples=1024),
            LocalComplexityProbe(),
            LMNProbe(),
            WeightsProbe(histogram=True),
        ]
    )


def measure(
    folder: str | Path,
    *,
    probes: Callable[[], ProbeSet] = all_probes,
    seeds: Iterable[int] | None = None,
    n_jobs: int | None = None,
) -> xr.Dataset:
    """Measure all stored weights of the runs in a folder. Measured steps are not measured again.

    Parameters
    ----------
    folder
        Folder of a configuration, such as ``runs/division-97``. Each run records to ``seed-<n>/probes.nc`` in it.
    probes : callable
        Return the probe set. It must be a function of a module, so that worker processes can import it.
    seeds
        Seeds to measure. None: all seeds in the folder.
    n_jobs : int, optional
        Number of seeds that are measured in parallel. None: the setting of `joblib.parallel_config`, else one for each
        core.

    Returns
    -------
    xarray.Dataset
        The series of all seeds, with a dimension ``run`` and its coordinate ``seed``.

    Raises
    ------
    FileNotFoundError
        If no weights are stored.
    ValueError
        If a folder holds measurements by other probes.
    """
    folders = seed_folders(folder)
    chosen = list(folders) if seeds is None else sorted(set(seeds))
    without = [seed for seed in chosen if not (seed in folders and stored_steps(folders[seed]))]
    if without or not chosen:
        missing = f"none of seed {without[0]}" if without else "no seeds"
        raise FileNotFoundError(
            f"Expected stored weights in {folder}, got {missing}; train with --store-weights log or all."
        )
    jobs = min(count_workers(n_jobs), len(chosen))
    found = list(in_parallel(measure_run, [(folders[seed], probes) for seed in chosen], jobs))
    return concat(found, chosen).assign_coords(seed=("run", np.array(chosen, np.int32)))


@torch_threads(1)
def measure_run(path: Path, probes: Callable[[], ProbeSet] = all_probes) -> xr.Dataset:
    """Measure the stored weights in the folder of one seed, also while this seed is trained."""
    out = path / "probes.nc"
    resumes = out.exists() or journal_of(out).exists()
    steps = stored_steps(path)
    model, task = load_model(path, steps[0])
    data = {"train": task.train_data, "test": task.test_data}
    attached = probes().attach(model, data, path=out, mode="resume" if resumes else None)
    last = max(attached.series_["step"].values, default=-1) if resumes else -1
    for step in steps:
        if step > last:
            model.load_state_dict(load_weights(path, step))
            attached.observe(step)
    attached.detach()
    return probe.load(out)
