"""Probes over the weights that runs have kept: what was not thought of while they trained can still be measured."""

from collections.abc import Callable, Iterable
from pathlib import Path

import joblib
import numpy as np
import xarray as xr

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, ProbeSet, WeightsProbe, concat
from probe.recording import journal_of
from reference.runs.launch import seed_folders, workers_for
from reference.runs.storage import kept, load_model, load_weights
from reference.runs.worker import threads


def everything() -> ProbeSet:
    """Information at three noises and by other estimators, complexity, linearity, and weights with their histograms."""
    estimators = ("coding_rate", "renyi", "binned")
    return ProbeSet(
        [
            MutualInfoProbe(noise_factors=(0.5, 2), compare=estimators),
            LocalComplexityProbe(),
            LMNProbe(),
            WeightsProbe(histogram=True),
        ]
    )


def measure(
    folder: str | Path,
    *,
    probes: Callable[[], ProbeSet] = everything,
    seeds: Iterable[int] | None = None,
    n_jobs: int | None = None,
) -> xr.Dataset:
    """Measure all kept weights of the runs in a folder; steps that were measured before are not measured again.

    Parameters
    ----------
    folder
        Of a configuration, such as ``runs/division-97``; a run records to ``seed-<n>/probes.nc`` in it.
    probes : callable
        Makes the probe set; a function of a module, so that worker processes find it.
    seeds
        Some of those there. None: all.
    n_jobs : int, optional
        Seeds at a time. None: what `joblib.parallel_config` says, else one for each core.

    Returns
    -------
    xarray.Dataset
        The series of all seeds, with a dimension ``run`` and its coordinate ``seed``.

    Raises
    ------
    FileNotFoundError
        If no weights were kept.
    ValueError
        If a folder holds measurements by other probes.
    """
    there = seed_folders(folder)
    chosen = list(there) if seeds is None else sorted(set(seeds))
    bare = [seed for seed in chosen if not (seed in there and kept(there[seed]))]
    if bare or not chosen:
        raise FileNotFoundError(
            f"Expected kept weights in {folder}, came none{f' of seed {bare[0]}' if bare else ', nor any seed'}. Train "
            "with --keep log or --keep all."
        )
    jobs = min(workers_for(n_jobs), len(chosen))
    found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(measure_run)(there[seed], probes) for seed in chosen)
    return concat(found, chosen).assign_coords(seed=("run", np.array(chosen, np.int32)))


@threads(1)
def measure_run(path: Path, probes: Callable[[], ProbeSet] = everything) -> xr.Dataset:
    """The same for the folder of one seed, whether or not it is still in training."""
    out = path / "probes.nc"
    begun = out.exists() or journal_of(out).exists()
    steps = kept(path)
    model, task = load_model(path, steps[0])
    data = {"train": task.train_data, "test": task.test_data}
    attached = probes().attach(model, data, path=out, mode="resume" if begun else None)
    last = max(attached.series_["step"].values, default=-1) if begun else -1
    for step in steps:
        if step > last:
            model.load_state_dict(load_weights(path, step))
            attached.observe(step)
    attached.detach()
    return probe.load(out)
