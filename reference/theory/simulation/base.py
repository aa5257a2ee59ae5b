"""What batched networks of both tasks share: random numbers, steps and state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from reference.theory.langevin import Langevin


class Networks(ABC):
    """Several networks as one batched model, whose parameters are sampled by `Langevin`.

    Data and initial parameters of a network depend on its seed alone. The noise of the dynamics depends on the first
    seed of the batch.
    """

    optimizer: Langevin
    parameters: dict[str, Tensor]

    def __init__(self, seeds: Sequence[int]) -> None:
        if not seeds:
            raise ValueError("Expected one seed or more, got none; give a seed for each network.")
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(self, *shape: int) -> Tensor:
        """Return normal numbers (networks, *shape), from the generator of each network."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self.generators])

    def step(self) -> None:
        """Make one step of all networks."""
        self.gradient()
        self.optimizer.step()

    @abstractmethod
    def gradient(self) -> None:
        """Set the gradients of the sum over data of (f - y)^2 / (2 s^2) of each network."""

    @abstractmethod
    def observe(self) -> dict[str, Tensor]:
        """Return numbers of each network, (networks,)."""

    @abstractmethod
    def snapshot(self) -> dict[str, Tensor]:
        """Return numbers of each neuron, (networks, N)."""

    def virials(self) -> dict[str, Tensor]:
        """Return the mean of x . grad L over the parameters of each layer, (networks,).

        At equilibrium the expectation is the temperature, 1. A step size with an error moves it away.
        """
        self.gradient()
        found = {}
        for name, x in self.parameters.items():
            decay = next(group["weight_decay"] for group in self.optimizer.param_groups if group["params"][0] is x)
            found[f"virial_{name}"] = (x * (x.grad + decay * x)).flatten(1).mean(1)
        return found

    def state(self) -> dict[str, Any]:
        """Return all that a resumed sampling needs."""
        generators = [generator.get_state() for generator in self.generators]
        return {"parameters": self.parameters, "optimizer": self.optimizer.state_dict(), "generators": generators}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        for name, parameter in self.parameters.items():
            parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        for generator, one in zip(self.generators, state["generators"], strict=True):
            generator.set_state(one)


def whole(task: object, name: str) -> int:
    """Return a parameter of a task that is a whole number. Raise ValueError for others."""
    value = getattr(task, name)
    if value != math.floor(value):
        raise ValueError(f"Expected a whole number {name}, got {value}; round it.")
    return int(value)


def largest_curvature(product: Callable[[Tensor], Tensor], start: Tensor, iterations: int = 30) -> float:
    """Return the largest eigenvalue of batched positive matrices, by power iteration from ``start`` (networks, n)."""
    norm = torch.ones(len(start))
    for _ in range(iterations):
        start = product(start / start.norm(dim=1, keepdim=True))
        norm = start.norm(dim=1)
    return norm.max().item()
