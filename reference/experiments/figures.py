"""Experiments: the configurations and seeds for each figure of arXiv:2504.12700 and for open questions."""

from dataclasses import dataclass

from reference.training import CONFIGS, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Configurations and seeds for a figure of arXiv:2504.12700, or for a question that the paper leaves open.

    Attributes
    ----------
    figure : str
        Number of the figure in the paper; "-" if there is none.
    question : str
        The question of the experiment.
    configs : tuple of str
        Names in `reference.training.CONFIGS`. The recorded runs are in `reference/results`.
    seeds : int
        Number of seeds of each configuration.
    """

    figure: str
    question: str
    configs: tuple[str, ...]
    seeds: int

    def commands(self) -> list[str]:
        """Return the commands that train the configurations."""
        return [f"python -m reference run {name} --seeds {self.seeds}" for name in self.configs]

    def training(self) -> dict[str, TrainConfig]:
        """Return the configurations by name."""
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
        question="division modulo a prime; the same table with other names of the numbers",
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
    "dropout": Experiment(figure="-", question="no dropout in place of .1", configs=("paper-no-dropout",), seeds=4),
    "decay": Experiment(figure="-", question="weight decay 1 in place of 0", configs=("paper-decay-1",), seeds=4),
    "controls": Experiment(
        figure="-",
        question="tables that a model fits and cannot generalise",
        configs=("control-shuffled", "control-few"),
        seeds=4,
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
        question="which settings the paper used, on a CPU: 2 seeds to 10,000 steps, 1 seed to 3,200 steps",
        configs=("paper-epochs", "paper-post-norm"),
        seeds=2,
    ),
}
