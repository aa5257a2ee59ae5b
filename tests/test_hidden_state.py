"""State of a model that nothing can restore is reported; state that can be restored, and randomness, are not."""

import itertools
import random
import warnings
from array import array
from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probe import ActivationsProbe

COUNTS = UserDict({"passes": 0})
Number = Callable[[nn.Module], float]


class Slots:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Counting(nn.Module):
    """The output depends on a number that each pass changes, or only each pass in training mode."""

    def __init__(self, number: Number, only_training: bool = False) -> None:
        super().__init__()
        self.linear, self.number, self.only_training = nn.Linear(3, 4), number, only_training
        self.count, self.numbers = itertools.count(), [0.0]
        self.slots, self.array = Slots(), array("d", [0.0])

    def forward(self, x: Tensor) -> Tensor:
        output = torch.relu(self.linear(x))
        if self.training or not self.only_training:
            output = output + self.number(self)
        return output


def of_a_global(module: Any) -> float:
    COUNTS["passes"] += 1
    return float(COUNTS["passes"])


def of_slots(module: Any) -> float:
    module.slots.n += 1
    return float(module.slots.n)


def of_an_array(module: Any) -> float:
    module.array[0] += 1
    return float(module.array[0])


def of_a_list(module: Any) -> float:
    module.numbers.append(module.numbers[-1] + 1)
    return float(module.numbers[-1])


def warned(model: nn.Module) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ActivationsProbe().fit(model, (torch.ones(6, 3), None))
    return any("two forward passes from the same state" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("only_training", [False, True])
@pytest.mark.parametrize("number", [of_a_global, of_slots, of_an_array, lambda module: float(next(module.count))])
def test_a_state_that_cannot_be_restored_is_said(number: Number, only_training: bool) -> None:
    assert warned(Counting(number, only_training))


@pytest.mark.parametrize(
    "number",
    [
        of_a_list,
        lambda module: torch.rand(()).item(),
        lambda module: random.random(),
        lambda module: np.random.rand(),  # noqa: NPY002
    ],
)
def test_a_state_that_is_restored_is_not_said(number: Number) -> None:
    assert not warned(Counting(number))


def test_layers_that_differ_between_modes_are_not_said() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout())
    before = [torch.get_rng_state(), *(value.clone() for value in model.state_dict().values())]
    assert not warned(model)
    after = [torch.get_rng_state(), *model.state_dict().values()]
    assert all(map(torch.equal, before, after))
    assert model.training
