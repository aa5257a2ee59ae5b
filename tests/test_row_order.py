"""Layers whose rows are not those of the inputs, in their order: the model sorts its inputs and puts them back."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, ProbeSet
from probe.errors import ProbeWarning

Sort = Callable[[Tensor], Tensor]


class Sorting(nn.Module):
    """The inner layers receive the inputs in another order. The outputs are in order."""

    def __init__(self, order: Sort) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.head, self.order = nn.Linear(4, 2), order

    def forward(self, x: Tensor) -> Tensor:
        order = self.order(x)
        return self.head(self.inner(x[order])[order.argsort()])


class Expert(nn.Module):
    """The rows are grouped by expert for the matrices, and have one activation function together."""

    def __init__(self, keeps_order: bool) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])
        self.activation, self.head, self.keeps_order = nn.ReLU(), nn.Linear(4, 2), keeps_order

    def forward(self, x: Tensor) -> Tensor:
        of, all_ = x[:, 0] > 0, torch.stack([expert(x) for expert in self.experts])
        order = torch.arange(len(x)) if self.keeps_order else of.long().argsort(stable=True)
        return self.head(self.activation(all_[of.long(), torch.arange(len(x))][order])[order.argsort()])


def said(model: nn.Module, n: int = 9) -> list[str]:
    data = torch.randn(n, 3, generator=torch.Generator().manual_seed(1)), None
    probes = ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ProbeWarning)
        probes.attach(model, data).detach()
    return [str(warning.message) for warning in caught if "belong to input i alone" in str(warning.message)]


@pytest.mark.parametrize(
    "order",
    [
        lambda x: x[:, 0].argsort(),
        lambda x: x[:, 1].argsort(descending=True),
        lambda x: torch.arange(len(x)).flip(0),
        lambda x: torch.arange(len(x)).roll(1),
    ],
)
@pytest.mark.parametrize("n", [2, 9])
def test_a_layer_that_receives_the_inputs_in_another_order_is_said(order: Sort, n: int) -> None:
    found = said(Sorting(order), n)
    assert len(found) == 1
    assert "inner.1" in found[0]


def test_a_layer_that_receives_the_inputs_by_expert_is_said() -> None:
    assert "activation:relu" in said(Expert(False))[0]


@pytest.mark.parametrize("model", [Expert(True), Sorting(lambda x: torch.arange(len(x)))])
def test_a_layer_in_order_is_not_said(model: nn.Module) -> None:
    assert not said(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_rounding_and_random_layers_are_no_other_order(dtype: torch.dtype) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act, self.head = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.linear(x.to(dtype)))
            return self.head(h) + 0 * torch.relu(h + torch.rand_like(h)).mean()

    assert not said(Noisy().to(dtype))
