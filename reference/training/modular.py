"""Two-layer networks on modular addition, the setting of arXiv:2310.03789 with a training set and AdamW.

The paper trains on all pairs, to equilibrium, so it has no test set and no time. Here a part of the pairs is held back.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Data = tuple[Tensor, Tensor]


class Square(nn.Module):
    """The square of each input, the activation of arXiv:2310.03789 for modular addition."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the squares."""
        return x * x


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"square": Square, "relu": nn.ReLU}


@dataclass(frozen=True, kw_only=True)
class ModularConfig:
    """Task, network and recipe of a two-layer network on modular addition. With a seed, it determines the run.

    Attributes
    ----------
    modulus : int
        Both numbers are one-hot vectors of this length. There are ``modulus ** 2`` pairs.
    share : float
        Share of the pairs that is trained, in (0, 1); all others are test pairs.
    shuffled : bool
        Permute the answers randomly, with the seed. This is the control: a network can only memorise them.
    hidden : int
        Number of hidden units, without biases.
    activation : {"square", "relu"}
        Activation of the hidden units.
    lr, betas, weight_decay : float
        Parameters of AdamW. A step is an update on the whole training set. The loss is the squared error, summed over
        the outputs, against one-hot answers minus ``1 / modulus``.
    steps : int
        Optimiser steps.

    Raises
    ------
    ValueError
        If the activation is unknown, or a number is outside its range.
    """

    modulus: int = 29
    share: float = 0.5
    shuffled: bool = False
    hidden: int = 256
    activation: str = "square"
    lr: float = 5e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1.0
    steps: int = 4_000

    def __post_init__(self) -> None:
        if self.activation not in _ACTIVATIONS:
            names = ", ".join(_ACTIVATIONS)
            raise ValueError(f"Expected an activation among {names}, got {self.activation!r}; choose one.")
        if self.modulus < 3 or not 0 < self.share < 1 or self.weight_decay < 0:
            found = f"{self.modulus}, {self.share} and {self.weight_decay}"
            raise ValueError(
                f"Expected modulus >= 3, share in (0, 1) and weight_decay >= 0, got {found}; change the configuration."
            )

    def data(self, seed: int) -> dict[str, Data]:
        """Return inputs (n, 2 modulus) and answers (n,) of the splits ``train`` and ``test``, drawn by ``seed``."""
        p = self.modulus
        first, second = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(1)
        x, y = torch.cat([F.one_hot(first, p), F.one_hot(second, p)], 1).float(), (first + second) % p
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(p**2, generator=generator)
        if self.shuffled:
            y = y[torch.randperm(p**2, generator=generator)]
        train, test = order.tensor_split([round(self.share * p**2)])
        return {"train": (x[train], y[train]), "test": (x[test], y[test])}

    def network(self, seed: int) -> nn.Sequential:
        """Return the network with its initial parameters. The global random state is neither read nor changed."""
        first, second = (nn.Linear(a, b, bias=False) for a, b in self._shapes())
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in (first, second):
                layer.weight.normal_(0, layer.in_features**-0.5, generator=generator)
        return nn.Sequential(first, _ACTIVATIONS[self.activation](), second)

    def _shapes(self) -> list[tuple[int, int]]:
        return [(2 * self.modulus, self.hidden), (self.hidden, self.modulus)]


def squared_errors(outputs: Tensor, answers: Tensor) -> Tensor:
    """Return for each row its squared error, whether it is right, and 1: the score of a `probe.PerformanceProbe`.

    The squared error is summed over the outputs. The targets are one-hot vectors minus one over their length.
    """
    targets = F.one_hot(answers, outputs.shape[1]) - 1 / outputs.shape[1]
    errors = ((outputs - targets) ** 2).sum(1)
    return torch.stack([errors, (outputs.argmax(1) == answers).to(errors), torch.ones_like(errors)], 1)


@contextmanager
def flushed() -> Iterator[None]:
    """Set subnormal numbers to zero inside the block. Vanishing weights make the training ten times slower else."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def train_modular(
    config: ModularConfig, seed: int, steps: Sequence[int], decay: Callable[[int], float] | None = None
) -> Iterator[tuple[int, nn.Sequential]]:
    """Train and yield the step and the network, always the same object, at each of the ascending steps.

    Parameters
    ----------
    config
        The configuration.
    seed
        Seed of the initial parameters, the split and shuffled answers.
    steps
        Steps at which to yield; 0 is before the first update.
    decay : callable, optional
        Return the weight decay of the update that follows a step. None: that of the configuration, for all steps.
    """
    (x, y), network = config.data(seed)["train"], config.network(seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
    )
    at = 0
    for step in steps:
        for now in range(at, step):
            if decay is not None:
                optimizer.param_groups[0]["weight_decay"] = decay(now)
            optimizer.zero_grad(set_to_none=True)
            squared_errors(network(x), y)[:, 0].mean().backward()
            optimizer.step()
        at = step
        yield step, network
