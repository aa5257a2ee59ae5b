"""Runs and controls whose weight matrices are followed, for section 4.3 of arXiv:2504.12700.

Each run has a control with permuted answers, the same recipe and the same number of steps. `RUNS` holds the recipes. A
run is a function of its recipe and its seed. Its weights at the observed steps can be kept in a folder. Later calls
then read them and do not train again.
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe import FisherProbe, ProbeSet, WeightModesProbe, concat, log_spaced
from probe.recording import atomic_write
from probe.workers import in_parallel
from reference.experiments.demo import Demo
from reference.experiments.whole_runs import read_finished, write_finished
from reference.runs.job import torch_threads
from reference.runs.launch import count_workers
from reference.training import DEMO, TaskConfig, TrainConfig, Trainer
from reference.training.perceptron import PERCEPTRONS, Data, PerceptronConfig, train_perceptron

SEEDS = tuple(range(6))
Recipe = TrainConfig | PerceptronConfig
RUNS: dict[str, Recipe] = {
    "demo": DEMO,
    # One block and batches of 256: fits and generalises within 1,400 steps, 15 CPU seconds.
    "division-97": replace(
        DEMO,
        task=TaskConfig(operation="division", size=97, fraction=0.4),
        model=replace(DEMO.model, n_blocks=1),
        batch_size=256,
        steps=2_500,
    ),
    # Some seeds reach their last accuracy after step 4,000, where the recipe ends else.
    "perceptron": replace(PERCEPTRONS["division"], steps=6_000),
    "perceptron-narrow": replace(PERCEPTRONS["division"], steps=7_000, hidden=(64, 64)),
    "digits": PERCEPTRONS["digits"],
}
_EVERY = {TrainConfig: 50, PerceptronConfig: 100}  # steps between observations, besides the log-spaced ones
_N_MODES = 128  # all modes of each matrix
_N_FISHER = 64  # training examples


def recipe_of(name: str) -> Recipe:
    """Return a recipe of `RUNS`.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in RUNS:
        raise ValueError(f"Expected a name among {', '.join(RUNS)}, got {name!r}; choose one.")
    return RUNS[name]


def control_of(recipe: Recipe, steps: int) -> Recipe:
    """Return the recipe with permuted answers, and with so many steps."""
    if isinstance(recipe, PerceptronConfig):
        return replace(recipe, shuffled=True, steps=steps)
    return replace(recipe, task=replace(recipe.task, shuffled=True), steps=steps)


def observed_steps(recipe: Recipe) -> list[int]:
    """Return the steps of the observations: 12 in each factor of ten, and steps at equal distances, to the last."""
    log = filter(log_spaced(per_decade=12), range(recipe.steps + 1))
    return sorted({*log, *range(0, recipe.steps + 1, _EVERY[type(recipe)]), recipe.steps})


def splits(recipe: Recipe, seed: int) -> dict[str, Data]:
    """Return inputs and answers of the splits ``train`` and ``test``."""
    if isinstance(recipe, PerceptronConfig):
        return recipe.data(seed)
    task = recipe.task.make(seed)
    return {"train": task.train_data, "test": task.test_data}


def observed_training(recipe: Recipe, seed: int, *, early: bool) -> Iterator[tuple[int, nn.Module]]:
    """Train, and yield the step and the network, always the same object, at each observed step.

    A transformer ends as the demo does if ``early``. This last step is observed too.
    """
    if isinstance(recipe, PerceptronConfig):
        yield from train_perceptron(recipe, seed, observed_steps(recipe))
        return
    observed = set(observed_steps(recipe))
    for trainer in Demo(seed=seed, training=recipe).updates(early=early):
        if trainer.step in observed:
            yield trainer.step, trainer.model
    if trainer.step not in observed:
        yield trainer.step, trainer.model


@torch_threads(1)
def keep_weights(recipe: Recipe, seed: int, path: Path, *, early: bool) -> None:
    """Train and write the weights of all observed steps to ``path`` at the end. An existing file is left unchanged."""
    if path.exists():
        return
    kept = {
        step: {name: value.detach().clone() for name, value in network.state_dict().items()}
        for step, network in observed_training(recipe, seed, early=early)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        torch.save(kept, file)


def kept_training(recipe: Recipe, seed: int, path: Path) -> Iterator[tuple[int, nn.Module]]:
    """Yield the same as `observed_training`, with weights that `keep_weights` wrote."""
    one = recipe.network(seed) if isinstance(recipe, PerceptronConfig) else Trainer(recipe, seed).model
    for step, state in torch.load(path, mmap=True, weights_only=True).items():
        one.load_state_dict(state)
        yield step, one


def observe_all(states: Iterator[tuple[int, nn.Module]], data: dict[str, Data]) -> xr.Dataset:
    """Observe all singular modes, losses and accuracies at each step, and the Fisher matrix at some of them.

    The Fisher matrix is that of 64 training examples, at 6 steps in each factor of ten and at the last one.
    """
    modes = ProbeSet([WeightModesProbe(share=1.0, max_modes=_N_MODES)])
    fisher = ProbeSet([FisherProbe(splits=["train"], max_samples=_N_FISHER)])
    some, step = log_spaced(per_decade=6), 0
    for step, network in states:
        for probes in (modes, fisher):
            if step == 0:
                probes.attach(network, data, on_error="raise")
            if probes is modes or some(step):
                probes.observe(step)
    if fisher.series_["step"].values[-1] < step:
        fisher.observe(step)
    series, numbers = (probes.detach().series_ for probes in (modes, fisher))
    own = [name for name in numbers if str(name).startswith("fisher_")]
    return series.merge(numbers[own].reindex(step=series["step"], fill_value=_unmeasured(numbers[own])))


def _unmeasured(series: xr.Dataset) -> dict[Hashable, float]:
    """Return the value of each variable where it was not measured: -1 for flags, else NaN."""
    return {name: np.nan if array.dtype.kind == "f" else -1 for name, array in series.items()}


@torch_threads(1)
def record_coarse_seed(
    recipe: Recipe, seed: int, path: Path, *, early: bool = False, weights: Path | None = None
) -> xr.Dataset:
    """Train a network with probes, and write its series to ``path`` at the end. A finished run is only read.

    Parameters
    ----------
    recipe, seed
        The run.
    path
        The recording.
    early : bool
        Whether a transformer ends early, see `observed_training`.
    weights : Path, optional
        File with the weights of this run, see `keep_weights`. A missing file is written.

    Raises
    ------
    ValueError
        If the recording holds a run of another configuration or seed.
    """
    identity = {"config": json.loads(json.dumps(asdict(recipe))), "seed": seed, "early": early}
    if path.exists():
        return read_finished(path, identity)
    if weights is None:
        states = observed_training(recipe, seed, early=early)
    else:
        keep_weights(recipe, seed, weights, early=early)
        states = kept_training(recipe, seed, weights)
    return write_finished(observe_all(states, splits(recipe, seed)), path, identity)


def record_coarse(
    name: str,
    folder: Path,
    *,
    seeds: Sequence[int] = SEEDS,
    weights: Path | None = None,
    n_jobs: int | None = None,
    recipe: Recipe | None = None,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Record the runs of a recipe and their controls to ``folder``. Finished runs are only read.

    Parameters
    ----------
    name : str
        Name of a recipe of `RUNS`.
    folder
        Folder of the recordings, which gets ``seed-N.nc`` and ``control-seed-N.nc``.
    seeds
        The seeds.
    weights
        Folder of kept weights. None: they are not kept.
    n_jobs : int, optional
        Number of seeds in parallel. None: the setting of `joblib.parallel_config`, else one for each core.
    recipe : optional
        Another recipe.

    Returns
    -------
    xarray.Dataset, xarray.Dataset
        Runs and controls, with a dimension ``run`` and its coordinate ``seed``.
    """
    chosen, one = list(dict.fromkeys(seeds)), recipe_of(name) if recipe is None else recipe
    jobs = min(count_workers(n_jobs), len(chosen))
    pairs = list(in_parallel(_record_pair, [(one, seed, folder, weights) for seed in chosen], jobs))
    runs, controls = (
        concat(list(found), chosen).assign_coords(seed=("run", np.array(chosen, np.int32)))
        for found in zip(*pairs, strict=True)
    )
    return runs, controls


def _record_pair(recipe: Recipe, seed: int, folder: Path, weights: Path | None) -> tuple[xr.Dataset, xr.Dataset]:
    """Record a run, and its control to the last step of the run."""
    files = [None if weights is None else weights / f"{kind}seed-{seed}.pt" for kind in ("", "control-")]
    run = record_coarse_seed(recipe, seed, folder / f"seed-{seed}.nc", early=True, weights=files[0])
    control = control_of(recipe, steps=int(run["step"].values[-1]))
    path = folder / f"control-seed-{seed}.nc"
    return run, record_coarse_seed(control, seed, path, weights=files[1])
