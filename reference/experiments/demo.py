"""The demo: a run that shows both phases within minutes on a CPU, under the probes."""

from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from tqdm import tqdm

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PhaseDetector, ProbeSet, at, log_spaced, plots
from probe.schedule import Schedule
from reference.training.configs import DEMO
from reference.training.trainer import TrainConfig, Trainer


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A run that shows both phases within minutes on a CPU: a seed and a recipe, see `reference.training.configs.DEMO`."""

    seed: int = 0
    training: TrainConfig = DEMO

    @property
    def p(self) -> int:
        """The modulus."""
        return self.training.task.size

    def schedule(self) -> Schedule:
        """Log-spaced, and every 40 steps from 400 on: the loss spikes of this recipe are shorter than that."""
        log = filter(log_spaced(per_decade=24), range(self.training.steps + 1))
        return at([*log, *range(400, self.training.steps + 1, 40)])


def run_demo(demo: Demo, path: Path, *, mode: str | None = None, progress: bool = True) -> tuple[xr.Dataset, int]:
    """Train under the probes and record to ``path``.

    Returns
    -------
    The series, and the number of steps made: fewer than asked for if interrupted (Ctrl-C); what was recorded is kept.
    """
    trainer = Trainer(demo.training, demo.seed)
    probes = ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])
    probes.attach(
        trainer.model,
        {"train": trainer.task.train_data, "test": trainer.task.test_data},
        optimizer=trainer.optimizer,
        schedule=demo.schedule(),
        path=path,
        mode=mode,
    )
    interval = 0.1 if progress else 15  # a line now and then where the output is no terminal
    with tqdm(range(demo.training.steps), mininterval=interval, unit="step", desc="training") as bar:
        try:
            for _ in bar:
                trainer.advance(1)
        except KeyboardInterrupt:
            pass
        finally:
            probes.detach()
    return probe.load(path), trainer.step


def judge(series: xr.Dataset, figure: Path, *, title: str = "") -> PhaseDetector:
    """Fit PhaseDetector to a recorded run, and draw the run with its phases."""
    detector = PhaseDetector().fit(series)
    plots.overview(series, detector, title=title).savefig(figure, dpi=110)
    return detector
