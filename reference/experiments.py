"""Named experiments: the figures of the paper, questions it leaves open, and the demo under the probes."""

from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from tqdm import tqdm

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PhaseDetector, ProbeSet, at, log_spaced, plots
from probe.schedule import Schedule
from reference.configs import CONFIGS, DEMO
from reference.train import TrainConfig, Trainer


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A run that shows both phases within minutes on a CPU: a seed and a recipe, see `reference.configs.DEMO`."""

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


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A figure of arXiv:2504.12700, or a question that it leaves open: what is trained for it, and for how many seeds.

    Attributes
    ----------
    figure : str
        Of the paper; "-" if it has none.
    question : str
        What it shows, or does not.
    configs : tuple of str
        Names in `reference.configs`; their results lie in `reference/results`, see `reference.evidence`.
    seeds : int
        Of each.
    """

    figure: str
    question: str
    configs: tuple[str, ...]
    seeds: int

    def commands(self) -> list[str]:
        """What trains it."""
        return [f"python -m reference run {name} --seeds {self.seeds}" for name in self.configs]

    def training(self) -> dict[str, TrainConfig]:
        """The configurations, by name."""
        return {name: CONFIGS[name] for name in self.configs}


EXPERIMENTS = {
    "fig3": Experiment(
        figure="3",
        question="the paper's table, which it calls division modulo 96",
        configs=("paper-division",),
        seeds=8,
    ),
    "fig3-true": Experiment(
        figure="-",
        question="division modulo a prime; the same table renamed",
        configs=("division-97", "subtraction-96"),
        seeds=8,
    ),
    "fig3-units": Experiment(
        figure="-", question="division modulo 96 by its invertible divisors", configs=("division-96",), seeds=8
    ),
    "fig4": Experiment(figure="4", question="S5 as in the paper", configs=("paper-s5",), seeds=6),
    "s5-fast": Experiment(
        figure="-", question="S5 that generalises on a CPU", configs=("s5-fast", "s5-fast-dropout"), seeds=4
    ),
    "fig5": Experiment(figure="5", question="depth", configs=("paper-depth-1", "paper-depth-4"), seeds=4),
    "activation": Experiment(figure="-", question="ReLU in place of GELU", configs=("paper-relu",), seeds=4),
    "dropout": Experiment(figure="-", question="none in place of .1", configs=("paper-no-dropout",), seeds=4),
    "decay": Experiment(figure="-", question="weight decay 1 in place of 0", configs=("paper-decay-1",), seeds=4),
    "controls": Experiment(
        figure="-", question="fitted, not to be generalised", configs=("control-shuffled", "control-few"), seeds=4
    ),
    "estimators": Experiment(
        figure="3",
        question="every estimator, all inputs, weight histograms (with 3 seeds of the paper's table)",
        configs=("division-59", "control-59"),
        seeds=6,
    ),
    "settings": Experiment(
        figure="3", question="which settings the paper used", configs=("paper-beta2", "paper-decay-.01"), seeds=8
    ),
    "settings-rivals": Experiment(
        figure="3",
        question="the same, on a CPU: 2 seeds to 10,000, 1 to 3,200 steps",
        configs=("paper-epochs", "paper-post-norm"),
        seeds=2,
    ),
}


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
