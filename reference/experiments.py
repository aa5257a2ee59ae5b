"""Named experiments: the reference model, trained under the probes. The only place here that knows of ``probe``."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr
from tqdm import tqdm

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PhaseDetector, ProbeSet, at, log_spaced, plots
from probe.schedule import Schedule
from reference.model import Config, Transformer
from reference.tasks import division
from reference.train import TrainConfig, make_optimizer, train


@dataclass(frozen=True, kw_only=True)
class Demo:
    """True division modulo a prime, by a recipe that shows both phases within minutes on a CPU.

    Small embeddings and strong weight decay are what makes it quick: with embeddings N(0, 1) and no decay the same
    model does not generalise within thousands of steps.
    """

    p: int = 59
    fraction: float = 0.5
    seed: int = 0
    training: TrainConfig = field(default_factory=TrainConfig)

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
    task = division(demo.p, fraction=demo.fraction, seed=demo.seed)
    model = Transformer(Config(n_tokens=task.n_tokens, n_classes=task.n_classes), seed=demo.seed)
    optimizer, scheduler = make_optimizer(model, demo.training)
    probes = ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])
    probes.attach(
        model,
        {"train": task.train_data, "test": task.test_data},
        optimizer=optimizer,
        schedule=demo.schedule(),
        path=path,
        mode=mode,
    )
    steps: Iterable[tuple[int, float]] = train(model, task, optimizer, scheduler, demo.training)
    done = 0
    interval = 0.1 if progress else 15  # a line now and then where the output is no terminal
    with tqdm(steps, total=demo.training.steps, mininterval=interval, unit="step", desc="training") as bar:
        try:
            for done, loss in bar:  # noqa: B007
                bar.set_postfix_str(f"batch loss {loss:.2g}", refresh=False)
        except KeyboardInterrupt:
            pass
        finally:
            probes.detach()
    return probe.load(path), done


def judge(series: xr.Dataset, figure: Path, *, title: str = "") -> PhaseDetector:
    """Fit PhaseDetector to a recorded run, and draw the run with its phases."""
    detector = PhaseDetector().fit(series)
    plots.overview(series, detector, title=title).savefig(figure, dpi=110)
    return detector
