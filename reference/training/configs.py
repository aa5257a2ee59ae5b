"""Named configurations for `python -m reference run NAME`."""

from dataclasses import replace

from reference.training.model import ModelConfig
from reference.training.tasks import TaskConfig
from reference.training.train_config import TrainConfig

# arXiv:2504.12700 calls this table division modulo 96. It is not: see `reference.training.tasks.division`.
_PAPER = TrainConfig(
    task=TaskConfig(operation="division", size=96, table="paper", fraction=0.4), steps=111_200, every=200
)
_S5 = TaskConfig(operation="composition", size=5, fraction=0.5)
_SHORT = replace(_PAPER, steps=20_000)
# Small embeddings: with N(0, 1) and no weight decay, a model does not generalise within thousands of steps.
_SMALL = ModelConfig(dropout=0.0, token_std=0.02, position_std=0.02, token_scale=1.0)
_S5_FAST = TrainConfig(task=_S5, model=_SMALL, steps=20_000, every=100, weight_decay=1.0)

# True division modulo a prime. Small embeddings and strong weight decay show both phases within minutes on a CPU.
_DIVISION_59 = TrainConfig(
    task=TaskConfig(operation="division", size=59, fraction=0.5),
    model=_SMALL,
    steps=2_000,
    weight_decay=1.0,
    every=40,
    per_decade=24,
)

# Without clipping, the loss jumps every few hundred steps. With it, the first jump comes after all pairs are learnt.
DEMO = replace(_DIVISION_59, clip_norm=0.25)

CONFIGS = {
    "paper-division": _PAPER,
    "paper-s5": TrainConfig(task=_S5, steps=604_000, every=500),
    # Tables that are division: modulo a prime; by the invertible divisors of 96; and division of the nonzero residues
    # modulo 97, with numbers replaced by their logarithms.
    "division-97": replace(_PAPER, task=TaskConfig(operation="division", size=97, fraction=0.4)),
    "division-96": replace(_PAPER, task=TaskConfig(operation="division", size=96, fraction=0.4)),
    "subtraction-96": replace(_PAPER, task=TaskConfig(operation="subtraction", size=96, fraction=0.4)),
    # S5 that generalises within thousands of steps. With dropout, it generalises while it fits.
    "s5-fast": _S5_FAST,
    "s5-fast-dropout": replace(_S5_FAST, model=replace(_SMALL, dropout=0.1)),
    "demo": DEMO,  # two minutes for each seed on a CPU core
    "division-59": _DIVISION_59,  # the demo without clipping
    # The paper's table with one setting changed.
    "paper-beta2": replace(_SHORT, betas=(0.9, 0.999)),
    "paper-epochs": replace(_SHORT, replacement=False),
    "paper-post-norm": replace(_SHORT, model=ModelConfig(norm="post")),
    "paper-decay-.01": replace(_SHORT, weight_decay=0.01),
    "paper-decay-1": replace(_SHORT, weight_decay=1.0),
    "paper-no-dropout": replace(_SHORT, model=ModelConfig(dropout=0.0)),
    "paper-relu": replace(_SHORT, model=ModelConfig(activation="relu")),
    "paper-depth-1": replace(_SHORT, model=ModelConfig(n_blocks=1)),
    "paper-depth-4": replace(_SHORT, model=ModelConfig(n_blocks=4)),
    # Controls that cannot generalise: randomly permuted answers, and too few examples.
    "control-shuffled": replace(_SHORT, task=replace(_PAPER.task, shuffled=True)),
    "control-few": replace(_SHORT, task=TaskConfig(operation="division", size=97, fraction=0.15)),
    "control-demo": replace(DEMO, task=replace(DEMO.task, shuffled=True)),
    "control-59": replace(_DIVISION_59, task=replace(_DIVISION_59.task, shuffled=True)),
}
