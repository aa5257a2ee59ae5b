"""The demo: a run with probes that shows both phases within minutes on a CPU."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from tqdm import tqdm

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PhaseDetector, ProbeSet, at, log_spaced, plots
from probe.schedule import Schedule
from reference.training import DEMO, TrainConfig, Trainer


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
        Update the progress bar often. False: every 15 s, for an output that is not a terminal.
    probes
        The probes. None: information, local complexity and linear mapping number.
    on_step
        Called after each update.

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
    )
    interval, completed = 0.1 if progress else 15, False
    with tqdm(updates, total=demo.training.steps, mininterval=interval, unit="step", desc="training") as bar:
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


def find_phases(series: xr.Dataset, figure: Path, *, title: str = "") -> PhaseDetector:
    """Fit PhaseDetector to a recorded run, and draw the run with its phases into the file ``figure``."""
    detector = PhaseDetector().fit(series)
    plots.overview(series, detector, title=title).savefig(figure, dpi=110)
    return detector
