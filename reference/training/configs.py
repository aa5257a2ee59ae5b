"""Named configurations: what `python -m reference run NAME` trains."""

from dataclasses import replace

from reference.training.model import Config
from reference.training.tasks import TaskConfig
from reference.training.trainer import TrainConfig

# What arXiv:2504.12700 calls division modulo 96, and is not: see `reference.training.tasks.division`.
_PAPER = TrainConfig(
    task=TaskConfig(operation="division", size=96, table="paper", fraction=0.4), steps=111_200, every=200
)
_S5 = TaskConfig(operation="composition", size=5, fraction=0.5)
_SHORT = replace(_PAPER, steps=20_000)
# Small embeddings: with N(0, 1) and no weight decay, a model does not generalise within thousands of steps.
_SMALL = Config(dropout=0.0, token_std=0.02, position_std=0.02, token_scale=1.0)
_S5_FAST = TrainConfig(task=_S5, model=_SMALL, steps=20_000, every=100, weight_decay=1.0)

# True division modulo a prime, by a recipe that shows both phases within minutes on a CPU: small embeddings and strong
# weight decay are what makes it quick.
DEMO = TrainConfig(
    task=TaskConfig(operation="division", size=59, fraction=0.5),
    model=_SMALL,
    steps=2_000,
    weight_decay=1.0,
    every=40,
    per_decade=24,
)

CONFIGS = {
    "paper-division": _PAPER,
    "paper-s5": TrainConfig(task=_S5, steps=604_000, every=500),
    # Tables that are division: modulo a prime, by the invertible divisors of 96, and, renamed by logarithms, of the
    # nonzero residues modulo 97.
    "division-97": replace(_PAPER, task=TaskConfig(operation="division", size=97, fraction=0.4)),
    "division-96": replace(_PAPER, task=TaskConfig(operation="division", size=96, fraction=0.4)),
    "subtraction-96": replace(_PAPER, task=TaskConfig(operation="subtraction", size=96, fraction=0.4)),
    # S5 that generalises within thousands of steps; with dropout, it does so while it fits.
    "s5-fast": _S5_FAST,
    "s5-fast-dropout": replace(_S5_FAST, model=replace(_SMALL, dropout=0.1)),
    "division-59": DEMO,  # four minutes a seed on a CPU core
    # The paper's table, one setting changed.
    "paper-beta2": replace(_SHORT, betas=(0.9, 0.999)),
    "paper-epochs": replace(_SHORT, replacement=False),
    "paper-post-norm": replace(_SHORT, model=Config(norm="post")),
    "paper-decay-.01": replace(_SHORT, weight_decay=0.01),
    "paper-decay-1": replace(_SHORT, weight_decay=1.0),
    "paper-no-dropout": replace(_SHORT, model=Config(dropout=0.0)),
    "paper-relu": replace(_SHORT, model=Config(activation="relu")),
    "paper-depth-1": replace(_SHORT, model=Config(n_blocks=1)),
    "paper-depth-4": replace(_SHORT, model=Config(n_blocks=4)),
    # Controls that cannot generalise: answers dealt out by chance, and too few examples.
    "control-shuffled": replace(_SHORT, task=replace(_PAPER.task, shuffled=True)),
    "control-few": replace(_SHORT, task=TaskConfig(operation="division", size=97, fraction=0.15)),
    "control-59": replace(DEMO, task=replace(DEMO.task, shuffled=True)),
}
