"""The demo with probes of the phase of the weights and of features, and its controls of the same length."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import xarray as xr

from probe import FeatureLearningProbe, MutualInfoProbe, ProbeSet, WeightPhaseProbe, concat, log_spaced
from reference.experiments.demo import Demo
from reference.experiments.first_order_grokking import compact
from reference.experiments.whole_runs import read_finished, write_finished
from reference.runs.job import torch_threads
from reference.training import DEMO, TrainConfig

LAYERS = ("blocks.0.up", "blocks.1.up")  # 512 units each: with fewer than 200, one peak is no verdict
N_SEEDS = 6


def demo_probes() -> ProbeSet:
    """Return the probes: directions are leading eigenvectors of the average gradient outer product."""
    return ProbeSet([WeightPhaseProbe(layers=LAYERS), FeatureLearningProbe(), MutualInfoProbe(max_samples=512)])


@torch_threads(1)
def record_demo_seed(
    seed: int, path: Path, *, control_of: xr.Dataset | None = None, training: TrainConfig = DEMO
) -> xr.Dataset:
    """Train the demo with probes, and write its series to ``path`` at the end. A finished run is only read.

    Observations are 12 in each factor of ten, every 100 steps from 400 on, and the last step. The control has permuted
    answers, and the steps of the run of the same seed.

    Raises
    ------
    ValueError
        If the file holds a run of another configuration or seed.
    """
    if control_of is not None:
        task = replace(training.task, shuffled=True)
        training = replace(training, task=task, steps=int(control_of.step[-1]))
    demo = Demo(seed=seed, training=training)
    identity = {"config": json.loads(json.dumps(asdict(demo))), "seed": seed}
    if path.exists():
        return read_finished(path, identity)
    return write_finished(compact(_observe(demo, early=control_of is None)), path, identity)


def _observe(demo: Demo, early: bool) -> xr.Dataset:
    """Train and observe, and return the series."""
    probes, log, step = demo_probes(), log_spaced(per_decade=12), 0
    for trainer in demo.updates(early=early):
        step = trainer.step
        if step == 0:
            data = {"train": trainer.task.train_data, "test": trainer.task.test_data}
            probes.attach(trainer.model, data, on_error="raise")
        if log(step) or (step >= 400 and step % 100 == 0):
            probes.observe(step)
    if probes.series_.step[-1] < step:
        probes.observe(step)
    return probes.detach().series_


def record_demos(folder: Path, n_seeds: int = N_SEEDS) -> dict[str, xr.Dataset]:
    """Record runs of the demo and their controls to ``folder``, and return both by name. A kill loses one run."""
    runs, controls = [], []
    for seed in range(n_seeds):
        runs.append(record_demo_seed(seed, folder / f"demo-seed-{seed}.nc"))
        controls.append(record_demo_seed(seed, folder / f"control-seed-{seed}.nc", control_of=runs[-1]))
    return {name: concat(found, list(range(n_seeds))) for name, found in (("demo", runs), ("demo-control", controls))}
