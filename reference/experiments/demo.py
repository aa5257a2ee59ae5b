"""The demo: a run with probes that shows both phases within minutes on a CPU."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import xarray as xr
from torch import Tensor
from tqdm import tqdm

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PhaseDetector, ProbeSet, at, log_spaced, plots
from probe.schedule import Schedule
from probe.workers import in_parallel
from reference.experiments.demo_story import Story
from reference.training import DEMO, TrainConfig, Trainer

_AT_ONCE = 3  # seeds that are trained at the same time on any machine: each needs some 400 MB


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Seed and configuration of the demo.

    Attributes
    ----------
    seed : int
        Seed of the run.
    training : TrainConfig
        Configuration of the run, by default `reference.training.DEMO`.
    threshold, n_steps : float, int
        The demo ends early once the loss of the training batch (nats) has stayed below the threshold for this number of
        steps. Some 290 steps after all pairs are learnt, weight decay has made the training unstable, and the loss
        jumps.
    """

    seed: int = 0
    training: TrainConfig = DEMO
    threshold: float = 1e-3
    n_steps: int = 240

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.training.task.make(self.seed).name

    def task_data(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return inputs and answers of the training pairs, and those of the test pairs."""
        task = self.training.task.make(self.seed)
        return task.train_data, task.test_data

    def schedule(self) -> Schedule:
        """Return log-spaced steps, the last one, and every 40 steps from 400 on, to resolve the descent."""
        log = filter(log_spaced(per_decade=24), range(self.training.steps + 1))
        return at([*log, *range(400, self.training.steps + 1, 40), self.training.steps])

    def updates(self, *, early: bool = True) -> Iterator[Trainer]:
        """Train, and yield the trainer before the first update and after each. End early only if ``early``."""
        trainer, n_below = Trainer(self.training, self.seed), 0
        yield trainer
        while trainer.step < self.training.steps and n_below < self.n_steps:
            trainer.advance(1)
            n_below = n_below + 1 if early and trainer.loss < self.threshold else 0
            yield trainer


def run_demo(
    demo: Demo,
    path: Path,
    *,
    mode: str | None = None,
    progress: bool = True,
    probes: ProbeSet | None = None,
    on_step: Callable[[Trainer], None] | None = None,
    label: str | None = None,
) -> tuple[xr.Dataset, bool]:
    """Train with probes and record to ``path``.

    Parameters
    ----------
    demo
        Seed and configuration.
    path
        NetCDF file to write.
    mode
        None, ``"overwrite"`` or ``"resume"``, as in `probe.ProbeSet.attach`.
    progress
        Show a progress bar.
    probes
        The probes. None: information, local complexity and linear mapping number.
    on_step
        Called after each update.
    label
        Begins each line about the training. None: print no lines.

    Returns
    -------
    xarray.Dataset, bool
        The series, and whether the training was completed. An interruption by Ctrl-C ends it early, and the recorded
        series stays complete until then.
    """
    updates = demo.updates()
    trainer = next(updates)
    if probes is None:
        probes = ProbeSet([MutualInfoProbe(max_samples=1024), LocalComplexityProbe(), LMNProbe()])
    probes.attach(
        trainer.model,
        {"train": trainer.task.train_data, "test": trainer.task.test_data},
        optimizer=trainer.optimizer,
        schedule=demo.schedule(),
        path=path,
        mode=mode,
        write_to=[] if label is None else Story(_print, label),
    )
    completed = False
    with tqdm(updates, total=demo.training.steps, disable=not progress, unit="step", desc="training") as bar:
        try:
            for _ in bar:
                if on_step is not None:
                    on_step(trainer)
            completed = True
        except KeyboardInterrupt:
            pass
        finally:
            probes.detach()
    return probe.load(path), completed


def _print(line: str) -> None:
    """Print a line beside the progress bar, at once."""
    tqdm.write(line)
    sys.stdout.flush()


def run_demos(demo: Demo, seeds: Sequence[int], folder: Path, *, mode: str | None = None) -> xr.Dataset:
    """Train several seeds at the same time, at most one for each core but up to three, and record each to a file.

    Parameters
    ----------
    demo
        Configuration.
    seeds
        Seeds of the runs.
    folder
        Folder of the files seed-N.nc.
    mode
        As in `run_demo`.

    Returns
    -------
    xarray.Dataset
        The series of all seeds, with a dimension ``run``.
    """
    tasks = [(replace(demo, seed=seed), folder / f"seed-{seed}.nc", mode, f"seed {seed}, ") for seed in seeds]
    series = list(in_parallel(_run_one, tasks, min(len(tasks), max(_AT_ONCE, joblib.cpu_count()))))
    return probe.concat(series, runs=list(seeds))


def _run_one(demo: Demo, path: Path, mode: str | None, label: str) -> xr.Dataset:
    series, completed = run_demo(demo, path, mode=mode, progress=False, label=label)
    if not completed:
        raise KeyboardInterrupt
    return series


def find_phases(series: xr.Dataset, figure: Path, *, title: str = "") -> PhaseDetector:
    """Fit PhaseDetector to a recorded run, and draw the run with its phases into the file ``figure``."""
    detector = PhaseDetector().fit(series)
    plots.overview(series, detector, title=title).savefig(figure, dpi=110)
    return detector
