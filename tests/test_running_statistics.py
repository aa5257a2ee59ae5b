"""The derivative of outputs contains that of running statistics: against twins in float64, and what is refused."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from probe import ChaosProbe
from probe.errors import ProbeWarning
from probe.forward import TrainingContext
from probe.forward.window_statistics import BuffersError
from probe.forward.window_tangent import tangent
from probe.forward.windows import Window, gaussian

X, Y = torch.randn(32, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 3
Step = Callable[[nn.Module, torch.optim.Optimizer, Any], Any]


class Block(nn.Module):
    def __init__(self, width: int, momentum: float | None) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm, self.other = (nn.BatchNorm2d(width, momentum=momentum) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x + self.other(self.two(torch.tanh(self.norm(self.one(x))))))


class Called(nn.Module):
    """A linear layer and a norm in a function of it."""

    def __init__(self, norm: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.norm, self.two, self.call = nn.Linear(16, 5), nn.BatchNorm1d(5), nn.Linear(5, 3), norm

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.call(self, self.one(x.flatten(1)))))


def residual(width: int, momentum: float | None) -> nn.Module:
    stem = nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, momentum=momentum), nn.Tanh()
    blocks = Block(width, momentum), Block(width, momentum)
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


def window_of(model: nn.Module, n: int, step: Step | None = None, before: int = 3) -> Window:
    """A window of a training that has begun, which reads outputs in evaluation mode."""
    x = X.to(next(model.parameters()).dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    usual = TrainingContext.usual(optimizer, F.cross_entropy, (x, Y), batch_size=8)
    training = TrainingContext(optimizer, step or usual.step_fn, usual.batches)
    for batch in training.batches(0, before):
        training.step_fn(model, optimizer, batch)

    def read(copied: nn.Module) -> Tensor:
        return evaluated(copied, x)

    return Window(training, model, training.batches(before, n), 0, read)


def evaluated(model: nn.Module, x: Tensor) -> Tensor:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    found: Tensor = model(x)
    for module in training:
        module.training = True
    return found


def direction_of(window: Window) -> Tensor:
    return gaussian(list(window.model.parameters()), torch.Generator().manual_seed(0))


def twins(window: Window, direction: Tensor, size: float = 1e-6) -> Tensor:
    """Derivative of the final outputs by a central difference."""
    one, other = (window.run(sign * size * direction) for sign in (1, -1))
    return (one.outputs_end - other.outputs_end) / (2 * size)


def error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(
    ("width", "n"), [(4, 4), (8, 4), *(pytest.param(width, 20, marks=pytest.mark.slow) for width in (4, 16))]
)
def test_outputs_of_residual_networks_equal_twins_in_float64(width: int, n: int, momentum: float | None) -> None:
    """In float32, whose starts are those of the twins. Constant statistics are wrong by 1 to 30 % here."""
    torch.manual_seed(0)
    window = window_of(residual(width, momentum), n)
    direction = direction_of(window)
    double = deepcopy(window.model).double()
    optimizer = torch.optim.SGD(double.parameters(), 0.05, momentum=0.9)
    optimizer.load_state_dict(deepcopy(window.training.optimizer.state_dict()))
    usual = TrainingContext.usual(optimizer, F.cross_entropy, (X.double(), Y), batch_size=8)
    batches = [(x.double(), y) for x, y in window.batches]
    truth = Window(usual, double, batches, 0, lambda copied: evaluated(copied, X.double()))
    expected = twins(truth, direction)
    for route in ("reverse", "forward"):
        assert error(tangent(window, direction, route)[3].double(), expected) < 1e-3


def accumulated(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    """Two passes, whose gradients are computed in the other order."""
    optimizer.zero_grad()
    losses = [F.cross_entropy(model(batch[0][k::2]), batch[1][k::2]) for k in range(2)]
    losses[1].backward()
    losses[0].backward()
    optimizer.step()
    return losses[0]


def standard(model: Any, x: Tensor) -> Tensor:
    return model.norm(x)  # type: ignore[no-any-return]


def with_instance_norm() -> nn.Module:
    norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
    mixed = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(16, 3)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), norm, nn.Tanh(), *mixed)


CASES: dict[str, tuple[Callable[[], nn.Module], Step | None]] = {
    "instance norm, no affine": (with_instance_norm, None),
    "norm of the inputs": (lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3)), None),
    "accumulated": (lambda: Called(standard), accumulated),
    "one norm twice": (lambda: Called(lambda m, x: m.norm(torch.tanh(m.norm(x)))), None),  # type: ignore[operator]
    "evaluation mode": (lambda: Called(lambda m, x: m.norm.eval()(x)), None),  # type: ignore[operator, union-attr]
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_twins(name: str) -> None:
    torch.manual_seed(0)
    window = window_of(CASES[name][0]().double(), 5, CASES[name][1])
    direction = direction_of(window)
    expected = twins(window, direction)
    assert [error(tangent(window, direction, each)[3], expected) < 1e-6 for each in ("reverse", "forward")] == [
        True
    ] * 2


def test_outputs_without_forward_derivatives_equal_twins() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.two = nn.LSTM(4, 5, batch_first=True), nn.BatchNorm1d(5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.norm(self.one(x[:, 0])[0][:, -1]))

    torch.manual_seed(0)
    window = window_of(Recurrent().double(), 4)
    direction = direction_of(window)
    assert error(tangent(window, direction, "reverse")[3], twins(window, direction)) < 1e-6


def extra_pass(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    with torch.no_grad():
        model(2 * batch[0])
    optimizer.zero_grad()
    loss = F.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss


def observed(model: nn.Module, step: Step | None) -> Any:
    window = window_of(model, 5, step)
    probe = ChaosProbe(window=5, sizes=[1e-3], n_products=0, quadratic=False)
    return probe.fit(model, (X, Y), training=window.training).series_.isel(step=0)


def test_passes_without_gradients_are_differentiated_by_dual_numbers() -> None:
    torch.manual_seed(0)
    window = window_of(Called(standard), 5, extra_pass)
    with pytest.raises(BuffersError, match="got a pass in training mode without gradients; read the growth"):
        tangent(window, direction_of(window), "reverse")
    found = observed(Called(standard), extra_pass)
    assert found["chaos_tangent_output_growth"].item() == pytest.approx(found["chaos_output_growth"].item(), abs=1e-2)
    assert found["chaos_not_differentiable"] == 0


def unseen(model: Any, x: Tensor) -> Tensor:
    """Batch norm by a function that no mode replaces."""
    norm = model.norm
    numbers = norm.running_mean, norm.running_var, norm.training, 0.1, 1e-5, False
    return torch.batch_norm(x, norm.weight, norm.bias, *numbers)


@pytest.mark.parametrize(
    ("call", "cause"),
    [(unseen, "changes of norm.running_mean"), (lambda m, x: checkpoint(m.norm, x, use_reentrant=False), "other")],
    ids=["unseen", "checkpoint"],
)
def test_unknown_changes_of_statistics_give_nan_with_a_reason(call: Any, cause: str) -> None:
    """The growth of parameters does not depend on them."""
    torch.manual_seed(0)
    with pytest.warns(ProbeWarning, match=f"got .*{cause}.*; read the growth of outputs from the twins"):
        found = observed(Called(call), None)
    assert found["chaos_tangent_output_growth"].isnull().all()
    assert found["chaos_not_differentiable"] == 1
    assert found["chaos_tangent_growth"].item() == pytest.approx(found["chaos_growth"].item(), abs=1e-2)
