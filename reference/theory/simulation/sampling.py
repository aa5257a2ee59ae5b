"""Sampling of many networks in blocks that resume: `Sampling` has the settings, `sample` runs them."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.recording import atomic_write, provenance_json
from probe.workers import in_parallel
from reference.theory.first_order.modular import ModularAddition
from reference.theory.first_order.teacher import CubicTeacher
from reference.theory.simulation.base import Networks
from reference.theory.simulation.modular import ModularNetworks
from reference.theory.simulation.teacher import TeacherNetworks

Task = CubicTeacher | ModularAddition


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of a sweep over noises. They determine all numbers.

    Attributes
    ----------
    task : CubicTeacher or ModularAddition
        The parameters; its noise is replaced by each of ``noises``.
    noises : tuple of float
        The noises s^2.
    n_networks : int
        Networks at each noise, with a data set and a seed each.
    steps : int
        Steps of the dynamics. The first half is left out of all means.
    observations : int
        Observations at equal distances, the last one at the end.
    snapshots : int
        Last observations at which the numbers of each neuron are kept.
    block : int
        Networks of one batched model. The noise of the dynamics depends on it.
    seed : int
        The first seed.
    """

    task: Task
    noises: tuple[float, ...]
    n_networks: int = 50
    steps: int = 2000
    observations: int = 100
    snapshots: int = 2
    block: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_networks", "steps", "observations", "snapshots", "block"):
            value = getattr(self, name)
            if not value >= 1 or value % 1:
                raise ValueError(f"Expected an integer {name} of 1 or more, got {value}; give a positive integer.")
        if self.n_networks < 2:
            raise ValueError("Expected 2 networks or more, got 1; errors are those over networks.")
        if not self.noises or len({f"{noise:.6g}" for noise in self.noises}) < len(self.noises):
            raise ValueError(
                f"Expected at least one noise, and noises that differ in six digits, got {self.noises}; give other "
                "values of s^2."
            )
        if self.steps % self.observations or self.snapshots > self.observations:
            raise ValueError(
                f"Expected steps that are a multiple of {self.observations} observations, and at most as many "
                f"snapshots, got {self.steps} steps and {self.snapshots} snapshots; change one of them."
            )

    def blocks(self) -> list[tuple[float, list[int]]]:
        """Return noise and seeds of each block."""
        seeds = range(self.seed, self.seed + self.n_networks)
        parts = [list(seeds[i : i + self.block]) for i in range(0, self.n_networks, self.block)]
        return [(noise, part) for noise in self.noises for part in parts]


def networks(task: Task, seeds: list[int]) -> Networks:
    """Return the batched networks of a task, at the start."""
    return TeacherNetworks(task, seeds) if isinstance(task, CubicTeacher) else ModularNetworks(task, seeds)


def sample(
    sampling: Sampling, folder: Path, *, n_jobs: int = 1, on_block: Callable[[], object] = lambda: None,
    checkpoint_seconds: float = 60.0,
) -> xr.Dataset:  # fmt: skip
    """Run all blocks, and return their numbers. The same call resumes; finished blocks are only read.

    Parameters
    ----------
    sampling
        The settings.
    folder
        Folder of the checkpoints. A kill loses at most ``checkpoint_seconds`` of each running block.
    n_jobs
        Blocks that run at the same time, with one thread each.
    on_block
        Called after each block.
    checkpoint_seconds
        Seconds between checkpoints.

    Returns
    -------
    xarray.Dataset
        Numbers of each network over (noise, run, step), and of each neuron over (noise, run, snapshot, neuron).

    Raises
    ------
    ValueError
        If the folder holds other settings.
    UnstableStepError
        If a step is beyond the limit of stability.
    """
    _check_folder(folder, sampling)
    found = []
    run = partial(run_block, checkpoint_seconds=checkpoint_seconds)
    tasks = [
        (replace(sampling.task, noise=noise), seeds, sampling, _path(folder, noise, seeds))
        for noise, seeds in sampling.blocks()
    ]
    for block in in_parallel(run, tasks, n_jobs):
        found.append(block)
        on_block()
    return _joined(sampling, found)


def run_block(
    task: Task, seeds: list[int], sampling: Sampling, path: Path, *, checkpoint_seconds: float = 60.0
) -> dict[str, Any]:
    """Run the networks of a block to the end, from the checkpoint at ``path`` if there is one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        block = networks(task, seeds)
        done: dict[str, Any] = {"step": 0, "series": {}, "neurons": {}, "cpu_seconds": 0.0}
        if path.exists():
            done = torch.load(path, map_location="cpu", weights_only=True)
            block.load(done["networks"])
        _advance(block, done, sampling, path, checkpoint_seconds)
        return {name: done[name] for name in ("series", "neurons", "cpu_seconds")}
    finally:
        torch.set_num_threads(threads)


def _advance(block: Networks, done: dict[str, Any], sampling: Sampling, path: Path, seconds: float) -> None:
    every, saved, started = sampling.steps // sampling.observations, time.monotonic(), time.process_time()
    for step in range(done["step"] + 1, sampling.steps + 1):
        block.step()
        if step % every == 0:
            _append(done["series"], {**block.observe(), **block.virials()})
            if step > sampling.steps - sampling.snapshots * every:
                _append(done["neurons"], block.snapshot())
        if step == sampling.steps or time.monotonic() - saved > seconds:
            now = time.process_time()
            done["cpu_seconds"] += now - started
            done["step"], done["networks"] = step, block.state()
            with atomic_write(path) as file:
                torch.save(done, file)
            saved, started = time.monotonic(), now


def _append(series: dict[str, list[Tensor]], numbers: Mapping[str, Tensor]) -> None:
    for name, values in numbers.items():
        series.setdefault(name, []).append(values)


def _path(folder: Path, noise: float, seeds: list[int]) -> Path:
    return folder / f"noise-{noise:.6g}-seeds-{seeds[0]}-{seeds[-1]}.pt"


def settings(sampling: Sampling) -> dict[str, Any]:
    """Return all settings as values of JSON."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(sampling)))
    return {"kind": type(sampling.task).__name__, **values}


def _check_folder(folder: Path, sampling: Sampling) -> None:
    path, expected = folder / "settings.json", settings(sampling)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write_text(json.dumps(expected), encoding="utf-8")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if different := [name for name in expected if found.get(name) != expected[name]]:
        name = different[0]
        raise ValueError(
            f"Expected the settings of this command in {folder}, got {name} {found.get(name)} in place of "
            f"{expected[name]}; give another folder by --out."
        )


def _joined(sampling: Sampling, found: list[dict[str, Any]]) -> xr.Dataset:
    """Return all blocks in one dataset."""
    every, n = sampling.steps // sampling.observations, len(sampling.noises)
    steps = np.arange(1, sampling.observations + 1) * every
    data: dict[str, Any] = {}
    for kind, dims in (("series", ("noise", "run", "step")), ("neurons", ("noise", "run", "snapshot", "neuron"))):
        for name in found[0][kind]:
            values = torch.cat([torch.stack(block[kind][name], 1) for block in found]).numpy()
            data[name] = (dims, values.reshape(n, sampling.n_networks, *values.shape[1:]))
    coords = {"noise": list(sampling.noises), "run": np.arange(sampling.n_networks), "step": steps,
              "snapshot": steps[-sampling.snapshots :]}  # fmt: skip
    description = {"estimator": "Langevin", "parameters": settings(sampling)}
    return xr.Dataset(data, coords).assign_attrs(
        provenance=provenance_json([description], device="cpu"),
        configuration=json.dumps(settings(sampling)),
        cost_cpu_seconds=round(sum(block["cpu_seconds"] for block in found), 1),
    )
