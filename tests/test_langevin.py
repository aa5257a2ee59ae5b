"""The optimiser `Langevin`: its stationary law by linear algebra and by sampling, resuming, limit of stability."""

import doctest
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from torch import Tensor

import reference.theory.langevin as module
from reference.theory import Langevin, UnstableStepError


def linear_map(
    stiffness: np.ndarray, groups: list[dict[str, Any]], temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B of a step (x, p) <- A (x, p) + B xi on the target x' K x / 2, read off from the optimiser."""
    n = len(stiffness)

    def stepped(start: np.ndarray, noise: np.ndarray) -> np.ndarray:
        x = [torch.tensor([one], dtype=torch.float64, requires_grad=True) for one in start[:n]]
        optimizer = Langevin([{"params": [one], **group} for one, group in zip(x, groups, strict=True)], lr=1.0,
                             temperature=temperature, check_every=0)  # fmt: skip
        numbers = iter(noise)
        optimizer._noise = lambda x: torch.full_like(x, next(numbers))  # type: ignore[method-assign]
        gradient = stiffness @ start[:n]
        for one, p, g in zip(x, start[n:], gradient, strict=True):
            optimizer.state[one]["momentum"] = torch.tensor([p])
            one.grad = torch.tensor([g])
        optimizer.step()
        return np.array([one.item() for one in x] + [optimizer.state[one]["momentum"].item() for one in x])

    columns = [stepped(one, np.zeros(n)) for one in np.eye(2 * n)]
    noises = [stepped(np.zeros(2 * n), one) for one in np.eye(n)]
    return np.stack(columns, 1), np.stack(noises, 1)


def stationary(stiffness: np.ndarray, groups: list[dict[str, Any]], temperature: float = 1.0) -> np.ndarray:
    a, b = linear_map(stiffness, groups, temperature)
    n = len(stiffness)
    return solve_discrete_lyapunov(a, b @ b.T)[:n, :n]


@pytest.mark.parametrize("curvature", [0.01, 1, 300])
@pytest.mark.parametrize("share", [0.01, 0.999])
@pytest.mark.parametrize("friction", [0.05, 1, math.inf])
def test_the_stationary_variance_is_exact_at_each_stable_step(curvature: float, share: float, friction: float) -> None:
    group = {"lr": share * 2 / curvature, "friction": friction}
    found = stationary(np.array([[curvature]]), [group], temperature=3)
    assert found.item() == pytest.approx(3 / curvature, rel=1e-6)


def test_it_is_exact_for_correlated_parameters_with_steps_of_their_own() -> None:
    stiffness = np.array([[2.0, 1.5], [1.5, 40]])
    groups = [{"lr": 0.5, "friction": 0.3}, {"lr": 0.02, "friction": 0.3}]
    np.testing.assert_allclose(stationary(stiffness, groups), np.linalg.inv(stiffness), rtol=1e-9)
    decayed = [{**group, "weight_decay": 3.0} for group in groups]
    np.testing.assert_allclose(stationary(stiffness, decayed), np.linalg.inv(stiffness + 3 * np.eye(2)), rtol=1e-9)


def test_different_frictions_cost_less_than_a_percent_for_half_the_limit() -> None:
    """Groups whose frictions differ are no longer exact, as the page says."""
    stiffness = np.array([[2.0, 1.5], [1.5, 40]])
    groups = [{"lr": 0.25, "friction": 0.1}, {"lr": 0.0125, "friction": 1.0}]
    found = stationary(stiffness, groups)
    assert 0 < np.abs(found / np.linalg.inv(stiffness) - 1).max() < 0.01


def test_without_a_force_the_momentum_is_an_exact_ornstein_uhlenbeck_process() -> None:
    """Its law after time t: mean p exp(-friction t), variance T (1 - exp(-2 friction t)); also after many steps."""
    a, b = linear_map(np.zeros((1, 1)), [{"lr": 0.5, "friction": 0.4}], temperature=2)
    assert a[1].tolist() == pytest.approx([0, math.exp(-0.4)])
    variance = 0.0
    for _ in range(5):
        variance = a[1, 1] ** 2 * variance + b[1, 0] ** 2
    assert variance == pytest.approx(2 * (1 - math.exp(-2 * 0.4 * 5)))


@pytest.mark.parametrize("friction", [0.3, math.inf])
def test_samples_have_the_variance_of_the_target(friction: float) -> None:
    """To 1 %, at 97 % of the largest stable step for one half of the parameters."""
    curvature = torch.tensor([1.0, 4.0]).repeat(8000)
    x = torch.zeros(16_000, requires_grad=True)
    optimizer = Langevin([x], lr=0.97 * 2 / 4, friction=friction, weight_decay=0.5)
    total, n = torch.zeros(16_000), 0
    for step in range(200):
        x.grad = (curvature - 0.5) * x.detach()
        optimizer.step()
        if step >= 50:
            total, n = total + x.detach() ** 2, n + 1
    np.testing.assert_allclose((total / n).view(-1, 2).mean(0), [1, 0.25], rtol=0.01)


def test_a_quartic_target_has_an_error_of_the_order_of_the_step() -> None:
    def second_moment(lr: float) -> float:
        x = torch.randn(20_000, generator=torch.Generator().manual_seed(1), requires_grad=True)
        optimizer = Langevin([x], lr=lr, friction=1, seed=3)
        total, n = 0.0, 0
        for step in range(300):
            x.grad = x.detach() ** 3
            optimizer.step()
            if step >= 40:
                total, n = total + (x.detach() ** 2).mean().item(), n + 1
        return total / n

    exact = 2 * math.gamma(0.75) / math.gamma(0.25)  # <x^2> under exp(-x^4 / 4)
    assert second_moment(0.05) == pytest.approx(exact, rel=0.01)


def test_temperature_0_is_gradient_descent() -> None:
    x = torch.tensor([3.0, -1.0], requires_grad=True)
    optimizer = Langevin([x], lr=0.3, temperature=0, friction=math.inf)
    optimizer.step(lambda: (x**2).sum().backward())
    assert x.tolist() == pytest.approx([3 - 0.3 * 6, -1 + 0.3 * 2])


# -- state ---------------------------------------------------------------------------------------------------------


def walked(optimizer: Langevin, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        x.grad = 2 * x.detach() ** 3
        optimizer.step()


def test_a_resumed_run_is_bit_equal() -> None:
    x = torch.ones(50, requires_grad=True)
    optimizer = Langevin([x], lr=0.01, seed=4)
    walked(optimizer, x, 7)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    y = x.detach().clone().requires_grad_()
    resumed = Langevin([y], lr=0.5, seed=0)
    resumed.load_state_dict(torch.load(file))
    walked(optimizer, x, 30)
    walked(resumed, y, 30)
    assert torch.equal(x, y)
    assert resumed.param_groups[0]["lr"] == 0.01


def test_the_global_generator_is_not_used_and_seeds_differ() -> None:
    before = torch.get_rng_state()
    found = []
    for seed in (1, 1, 2):
        x = torch.ones(9, requires_grad=True)
        walked(Langevin([x], lr=0.01, seed=seed), x, 3)
        found.append(x.detach())
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


# -- stability -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [1.02, 1.5, 30, 1e6])
def test_a_step_beyond_stability_raises_before_it_diverges(beyond: float) -> None:
    """One parameter in 500 is too stiff. It is found while its size is below 1e4 times that at equilibrium."""
    curvature = torch.ones(500)
    curvature[3] = beyond * 2 / 0.1
    x, y = torch.zeros(500, requires_grad=True), torch.zeros(7, requires_grad=True)
    optimizer = Langevin([{"params": [y]}, {"params": [x]}], lr=0.1)
    with pytest.raises(UnstableStepError, match="in group 1 at step") as error:  # noqa: PT012
        for _ in range(2000):
            x.grad, y.grad = curvature * x.detach(), y.detach().clone()
            optimizer.step()
    assert x.abs().max() < 1e4
    suggested = float(str(error.value).rpartition("at most ")[2].rstrip("."))
    assert suggested > 0.95 * 0.1 / beyond
    assert beyond > 100 or suggested == pytest.approx(0.1 / beyond, rel=0.15)


@pytest.mark.parametrize("friction", [0.1, math.inf])
def test_a_stable_step_never_raises(friction: float) -> None:
    curvature = torch.logspace(-3, math.log10(0.99 * 2 / 0.1), 500)
    x = torch.zeros(500, requires_grad=True)
    optimizer = Langevin([x], lr=0.1, friction=friction, check_every=1)
    for _ in range(500):
        x.grad = curvature * x.detach()
        optimizer.step()
    assert x.isfinite().all()


def test_a_coupling_of_two_groups_is_found() -> None:
    """Each group alone is stable; both together are not."""
    x, y = torch.zeros(20, requires_grad=True), torch.zeros(20, requires_grad=True)
    optimizer = Langevin([{"params": [x]}, {"params": [y]}], lr=1.0)
    with pytest.raises(UnstableStepError, match="give at most"):  # noqa: PT012
        for _ in range(300):
            x.grad, y.grad = 1.5 * x.detach() + y.detach(), x.detach() + 1.5 * y.detach()
            optimizer.step()
    assert x.abs().max() < 1e3


def test_a_gradient_that_is_not_finite_raises() -> None:
    x = torch.zeros(3, requires_grad=True)
    optimizer = Langevin([x], lr=0.1)
    with pytest.raises(UnstableStepError, match="a gradient of group 0 that is not finite"):  # noqa: PT012
        for value in (1.0, math.nan):
            x.grad = torch.full((3,), value)
            optimizer.step()


@pytest.mark.parametrize(("steps", "temperature"), [(2, 0.0), (1, 1.0)])
def test_it_raises_without_a_step_to_compare_with(steps: int, temperature: float) -> None:
    x = torch.zeros(3, requires_grad=True)
    optimizer = Langevin([x], lr=0.1, temperature=temperature)
    for _ in range(steps - 1):
        x.grad = torch.ones(3)
        optimizer.step()
    x.grad = torch.full((3,), math.inf)
    with pytest.raises(UnstableStepError, match="not finite"):
        optimizer.step()
    assert x.isfinite().all()


def test_float16_does_not_overflow_in_the_comparison() -> None:
    x = torch.zeros(100_000, dtype=torch.float16, requires_grad=True)  # |x|^2 is above the largest float16
    optimizer = Langevin([x], lr=0.4)
    for _ in range(60):
        x.grad = x.detach().clone()
        optimizer.step()
    assert x.double().var().item() == pytest.approx(1, abs=0.02)


def test_a_refused_group_is_not_added_and_a_foreign_state_not_loaded() -> None:
    x = torch.zeros(3, requires_grad=True)
    optimizer = Langevin([x], lr=0.1)
    for group in ({"params": [torch.zeros(2)], "lr": -1}, {"params": [torch.zeros(2, dtype=torch.complex64)]}):
        with pytest.raises(ValueError, match=r"^Expected"):
            optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1
    x.grad = torch.ones(3)
    optimizer.step()
    other = Langevin([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ValueError, match=r"momentum of parameter 0 of shape \(1,\), got \(3,\)"):
        other.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="another optimiser"):
        other.load_state_dict(torch.optim.SGD([x], lr=0.1).state_dict())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "Expected a finite number above 0 for lr of group 0, got 0"),
        ({"lr": 0.1, "temperature": -1}, "for temperature of group 0, got -1"),
        ({"lr": 0.1, "friction": 0}, "Expected a number above 0 for friction of group 0, got 0"),
        ({"lr": 0.1, "weight_decay": math.inf}, "for weight_decay of group 0, got inf"),
        ({"lr": 0.1, "check_every": -1}, "Expected an integer check_every of 0 or more, got -1"),
        ({"lr": 0.1, "check_every": 1.5}, "got 1.5"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Langevin([torch.zeros(1, requires_grad=True)], **values)  # type: ignore[arg-type]


def test_the_example_runs() -> None:
    assert doctest.testmod(module).failed == 0
