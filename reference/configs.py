"""Named configurations: what `python -m reference run NAME` trains, and the demo's recipe."""

from reference.model import Config
from reference.tasks import TaskConfig
from reference.train import TrainConfig

CONFIGS = {
    # What arXiv:2504.12700 calls division modulo 96, and is not: see `reference.tasks.division`.
    "paper-division": TrainConfig(
        task=TaskConfig(operation="division", size=96, table="paper", fraction=0.4), steps=111_200, every=200
    ),
    "paper-s5": TrainConfig(task=TaskConfig(operation="composition", size=5, fraction=0.5), steps=604_000, every=500),
    # Tables that are division: modulo a prime, by the invertible divisors of 96, and, renamed by logarithms, of the
    # nonzero residues modulo 97.
    "division-97": TrainConfig(task=TaskConfig(operation="division", size=97, fraction=0.4), steps=111_200, every=200),
    "division-96": TrainConfig(task=TaskConfig(operation="division", size=96, fraction=0.4), steps=111_200, every=200),
    "subtraction-96": TrainConfig(
        task=TaskConfig(operation="subtraction", size=96, fraction=0.4), steps=111_200, every=200
    ),
}

# True division modulo a prime, by a recipe that shows both phases within minutes on a CPU. Small embeddings and strong
# weight decay are what makes it quick: with embeddings N(0, 1) and no decay the same model does not generalise within
# thousands of steps.
DEMO = TrainConfig(
    task=TaskConfig(operation="division", size=59, fraction=0.5),
    model=Config(dropout=0.0, token_std=0.02, position_std=0.02, token_scale=1.0),
    steps=2_000,
    weight_decay=1.0,
    every=40,
    per_decade=24,
)
