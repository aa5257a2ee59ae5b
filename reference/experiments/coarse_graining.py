"""Runs and controls whose weight matrices are followed, for section 4.3 of arXiv:2504.12700.

Each run has a control with permuted answers, the same recipe and the same number of steps. `RUNS` holds the recipes. A
run is a function of its recipe and its seed. Its weights at the observed steps can be kept in a folder. Later calls
then read them and do not train again.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from probe import log_spaced
from probe.recording import atomic_write
from reference.runs.job import torch_threads
from reference.training import DEMO, TaskConfig, TrainConfig, Trainer
from reference.training.perceptron import PERCEPTRONS, Data, PerceptronConfig, train_perceptron

SEEDS = tuple(range(6))
Recipe = TrainConfig | PerceptronConfig
RUNS: dict[str, Recipe] = {
    "demo": DEMO,
    # One block and batches of 256: fits and generalises within 1,400 steps, 15 CPU seconds.
    "division-97": replace(
        DEMO,
        task=TaskConfig(operation="division", size=97, fraction=0.4),
        model=replace(DEMO.model, n_blocks=1),
        batch_size=256,
        steps=2_500,
    ),
    # Some seeds reach their last accuracy after step 4,000, where the recipe ends else.
    "perceptron": replace(PERCEPTRONS["division"], steps=6_000),
    "perceptron-wide": replace(PERCEPTRONS["division"], steps=6_000, hidden=(256, 256)),
    "digits": PERCEPTRONS["digits"],
}
_EVERY = {TrainConfig: 50, PerceptronConfig: 100}  # steps between observations, besides the log-spaced ones
_LEARNT, _N_LEARNT = 1e-3, 240  # a transformer ends once its batch loss (nats) was below this for so many steps


def recipe_of(name: str, *, control: bool = False, steps: int | None = None) -> Recipe:
    """Return a recipe of `RUNS` or of its control, with another number of steps if it is given.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in RUNS:
        raise ValueError(f"Expected a name among {', '.join(RUNS)}, got {name!r}; choose one.")
    recipe = RUNS[name]
    if control and isinstance(recipe, TrainConfig):
        recipe = replace(recipe, task=replace(recipe.task, shuffled=True))
    elif control and isinstance(recipe, PerceptronConfig):
        recipe = replace(recipe, shuffled=True)
    return recipe if steps is None else replace(recipe, steps=steps)


def observed_steps(recipe: Recipe) -> list[int]:
    """Return the steps of the observations: 12 in each factor of ten, and steps at equal distances, to the last."""
    log = filter(log_spaced(per_decade=12), range(recipe.steps + 1))
    return sorted({*log, *range(0, recipe.steps + 1, _EVERY[type(recipe)]), recipe.steps})


def splits(recipe: Recipe, seed: int) -> dict[str, Data]:
    """Return inputs and answers of the splits ``train`` and ``test``."""
    if isinstance(recipe, PerceptronConfig):
        return recipe.data(seed)
    task = recipe.task.make(seed)
    return {"train": task.train_data, "test": task.test_data}


def observed_training(recipe: Recipe, seed: int, *, early: bool) -> Iterator[tuple[int, nn.Module]]:
    """Train, and yield the step and the network, always the same object, at each observed step.

    A transformer ends early if ``early``: once the loss of its batches has stayed below .001 nats for 240 steps. Later,
    weight decay makes its training unstable. This last step is observed too.
    """
    if isinstance(recipe, PerceptronConfig):
        yield from train_perceptron(recipe, seed, observed_steps(recipe))
        return
    trainer, observed, n_below = Trainer(recipe, seed), set(observed_steps(recipe)), 0
    yield 0, trainer.model
    while trainer.step < recipe.steps and n_below < _N_LEARNT:
        trainer.advance(1)
        n_below = n_below + 1 if early and trainer.loss < _LEARNT else 0
        if trainer.step in observed or n_below == _N_LEARNT:
            yield trainer.step, trainer.model


@torch_threads(1)
def keep_weights(recipe: Recipe, seed: int, path: Path, *, early: bool) -> None:
    """Train and write the weights of all observed steps to ``path`` at the end. An existing file is left unchanged."""
    if path.exists():
        return
    kept = {
        step: {name: value.detach().clone() for name, value in network.state_dict().items()}
        for step, network in observed_training(recipe, seed, early=early)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        torch.save(kept, file)
