"""ReLU perceptrons on division modulo a prime and on handwritten digits: data, recipes and training.

`PERCEPTRONS` holds one recipe for each task. With both, a network fits its training set first, and generalises much
later. The control of a task has the same recipe, length and inputs, and randomly permuted answers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from reference.training.tasks import division

Data = tuple[Tensor, Tensor]
_LOSSES = ("cross entropy", "squared error")


@dataclass(frozen=True, kw_only=True)
class PerceptronConfig:
    """Task, network and recipe of a perceptron. With a seed, it determines the run.

    Attributes
    ----------
    task : {"division", "digits"}
        Division modulo 59, both numbers as one-hot vectors; or the 8 x 8 images of scikit-learn, pixels in [0, 1].
    n_train : int
        Number of training examples; all others are test examples.
    shuffled : bool
        Permute the answers randomly, with the seed. This is the control: a network can only memorise them.
    hidden : tuple of int
        Widths of the hidden layers, each followed by ReLU.
    init_scale : float
        Factor of all initial parameters over those of torch. A large one delays generalisation (arXiv:2210.01117).
    loss : {"cross entropy", "squared error"}
        Loss of the training; the squared error is the mean over one-hot answers.
    lr, betas, weight_decay : float
        Parameters of AdamW. A step is an update on the whole training set.
    steps : int
        Optimiser steps.

    Raises
    ------
    ValueError
        If the task or the loss is unknown, or the number of training examples leaves an empty split.
    """

    task: str
    n_train: int
    shuffled: bool = False
    hidden: tuple[int, ...] = (128, 128)
    init_scale: float = 1.0
    loss: str = "cross entropy"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1.0
    steps: int = 4_000

    def __post_init__(self) -> None:
        if self.task not in _TABLES:
            raise ValueError(f"Expected a task among {', '.join(_TABLES)}, got {self.task!r}; choose one.")
        if self.loss not in _LOSSES:
            raise ValueError(f"Expected a loss among {', '.join(_LOSSES)}, got {self.loss!r}; choose one.")
        n = len(_TABLES[self.task]()[1])
        if not 0 < self.n_train < n:
            raise ValueError(f"Expected n_train from 1 to {n - 1}, got {self.n_train}; give such a number.")

    def data(self, seed: int) -> dict[str, Data]:
        """Return inputs (n, features) and answers (n,) of the splits ``train`` and ``test``, drawn by ``seed``."""
        x, y = _TABLES[self.task]()
        order = _order(len(y), seed)
        if self.shuffled:
            y = y[_order(len(y), seed + 1)]  # the split uses the seed itself
        train, test = order[: self.n_train], order[self.n_train :]
        return {"train": (x[train], y[train]), "test": (x[test], y[test])}

    def network(self, seed: int) -> nn.Sequential:
        """Return the network with its initial parameters. The global random state is neither read nor changed."""
        x, y = _TABLES[self.task]()
        widths = (x.shape[1], *self.hidden, int(y.max()) + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        network = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(self.init_scale)
        return network

    def training_loss(self, outputs: Tensor, answers: Tensor) -> Tensor:
        """Return the mean loss of the training."""
        if self.loss == "cross entropy":
            return F.cross_entropy(outputs, answers)
        return F.mse_loss(outputs, F.one_hot(answers, outputs.shape[1]).to(outputs))


def train_perceptron(config: PerceptronConfig, seed: int, steps: Sequence[int]) -> Iterator[tuple[int, nn.Sequential]]:
    """Train and yield the step and the network, always the same object, at each of the ascending steps.

    The training is a function of configuration and seed: on one machine, two calls give the same parameters.
    """
    (x, y), network = config.data(seed)["train"], config.network(seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
    )
    at = 0
    for step in steps:
        for _ in range(step - at):
            optimizer.zero_grad(set_to_none=True)
            config.training_loss(network(x), y).backward()
            optimizer.step()
        at = step
        yield step, network


def _one_hot_division() -> Data:
    task = division(59)
    numbers = [F.one_hot(task.inputs[:, column], task.n_classes) for column in (0, 2)]
    return torch.cat(numbers, 1).float(), task.targets


@lru_cache(maxsize=1)
def digits() -> Data:
    """Return all images of scikit-learn (1797, 64), with pixels in [0, 1], and their answers."""
    images = load_digits()
    return torch.from_numpy(images.data / images.data.max()).float(), torch.from_numpy(images.target).long()


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")


_TABLES = {"division": lru_cache(maxsize=1)(_one_hot_division), "digits": digits}

PERCEPTRONS = {
    # The whole table has 3,422 pairs.
    "division": PerceptronConfig(task="division", n_train=1_711, lr=2e-3, steps=4_000),
    # Initial parameters eight times as large as usual: the network fits 200 images long before it generalises.
    "digits": PerceptronConfig(
        task="digits", n_train=200, init_scale=8.0, loss="squared error", weight_decay=0.5, steps=5_000
    ),
}
