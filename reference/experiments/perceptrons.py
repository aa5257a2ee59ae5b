"""Perceptrons on division and on digits, with all measures of their linear regions.

Runs and controls have the same recipe and length. Each run is a function of its configuration and its seed.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probe import (
    INPUT,
    CircuitsProbe,
    LinearRegionsProbe,
    LMNProbe,
    LocalComplexityProbe,
    ProbeSet,
    RobustnessProbe,
    concat,
    log_spaced,
)
from probe.workers import in_parallel
from reference.experiments.whole_runs import read_finished, write_finished
from reference.runs.job import torch_threads
from reference.runs.launch import count_workers
from reference.training.perceptron import PERCEPTRONS, PerceptronConfig, train_perceptron

MIDPOINT = "midpoint"
_N_MIDPOINTS = 512
_LATE = 12  # equal distances over the training, besides the log-spaced steps
_SLICES = ("train", "test", "random")


def perceptron_name(task: str, *, control: bool = False) -> str:
    """Return the name of the runs of a task, or of its control."""
    return f"perceptrons-{task}{'-control' if control else ''}"


def perceptron_config(task: str, *, control: bool = False, steps: int | None = None) -> PerceptronConfig:
    """Return the configuration of a task or its control, with another number of steps if it is given."""
    if task not in PERCEPTRONS:
        raise ValueError(f"Expected a task among {', '.join(PERCEPTRONS)}, got {task!r}; choose one.")
    config = replace(PERCEPTRONS[task], shuffled=control)
    return config if steps is None else replace(config, steps=steps)


def observed_steps(config: PerceptronConfig) -> list[int]:
    """Return the steps of the observations: 4 in each factor of ten, and 12 at equal distances."""
    log = filter(log_spaced(per_decade=4), range(config.steps + 1))
    return sorted({*log, *(round(k * config.steps / _LATE) for k in range(_LATE + 1))})


def observed_data(config: PerceptronConfig, seed: int) -> dict[str, Any]:
    """Return the splits ``train``, ``test`` and ``midpoint``: midpoints of random pairs of training inputs."""
    data: dict[str, Any] = dict(config.data(seed))
    x = data["train"][0]
    first, second = np.random.default_rng(seed).integers(len(x), size=(2, 4 * _N_MIDPOINTS))
    pairs = np.stack([first, second])[:, first != second][:, :_N_MIDPOINTS]
    return {**data, MIDPOINT: (x[pairs[0]] / 2 + x[pairs[1]] / 2, None)}


def perceptron_probes() -> ProbeSet:
    """Return the probes of regions, circuits, local complexity, linear mapping number and robustness."""
    return ProbeSet(
        [
            LinearRegionsProbe(splits=_SLICES, snaps=(1e-7,)),
            CircuitsProbe(),
            LMNProbe(layers=INPUT, max_samples=48, max_rows=16_384),
            LocalComplexityProbe(n_random=256, max_rows=32_768),
            RobustnessProbe(epsilon=0.3, max_rows=16_384),
        ]
    )


@torch_threads(1)
def record_perceptron(
    config: PerceptronConfig, seed: int, path: Path, probes: Callable[[], ProbeSet] = perceptron_probes
) -> xr.Dataset:
    """Train a perceptron with probes, and write its series to ``path`` at the end. A finished run is only read.

    The series has the loss of the training as ``training_loss``, besides the cross-entropies of all splits.

    Raises
    ------
    ValueError
        If the file holds a run of another configuration or seed.
    """
    identity = {"config": json.loads(json.dumps(asdict(config))), "seed": seed}
    if path.exists():
        return read_finished(path, identity)
    attached, (x, y) = None, config.data(seed)["train"]
    for step, network in train_perceptron(config, seed, observed_steps(config)):
        if attached is None:
            attached = probes().attach(network, observed_data(config, seed), on_error="raise")
        attached.observe(step, training_loss=lambda network=network: config.training_loss(network(x), y).item())
    assert attached is not None  # step 0 is always observed
    return write_finished(attached.detach().series_, path, identity)


def record_perceptrons(
    config: PerceptronConfig,
    seeds: Iterable[int],
    folder: Path,
    *,
    probes: Callable[[], ProbeSet] = perceptron_probes,
    n_jobs: int | None = None,
) -> xr.Dataset:
    """Record the run of each seed to ``folder/seed-N.nc``, and return all of them. Finished seeds are only read.

    Parameters
    ----------
    config
        The configuration of all runs.
    seeds
        The seeds.
    folder
        The folder of the configuration.
    probes : callable
        Return the probe set. It must be a function of a module, so that worker processes can import it.
    n_jobs : int, optional
        Number of seeds that are trained in parallel. None: the setting of `joblib.parallel_config`, else one for each
        core.

    Returns
    -------
    xarray.Dataset
        The series of all seeds, with a dimension ``run`` and its coordinate ``seed``.
    """
    chosen = list(dict.fromkeys(seeds))
    jobs = min(count_workers(n_jobs), len(chosen))
    tasks = [(config, seed, folder / f"seed-{seed}.nc", probes) for seed in chosen]
    found = list(in_parallel(record_perceptron, tasks, jobs))
    return concat(found, chosen).assign_coords(seed=("run", np.array(chosen, np.int32)))
