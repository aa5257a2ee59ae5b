import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn

from probe import ActivationsProbe
from probe.measures import activation_summary


def measured(model: nn.Module, x: Tensor, **parameters: Any) -> xr.Dataset:
    return ActivationsProbe(**parameters).fit(model, (x, None)).series_.isel(step=0, split=0, drop=True)


def only(model: nn.Module, x: Tensor, **parameters: Any) -> xr.Dataset:
    return measured(model, x, **parameters).isel(layer=0, drop=True)


def test_one_unit_at_a_time_is_as_sparse_as_can_be() -> None:
    found = activation_summary(3 * torch.eye(8))
    assert found["activation_sparsity"] == 7 / 8
    assert found["activation_sparseness"] == pytest.approx(1 - 1 / 8)
    assert found["activation_norm"] == pytest.approx(3 / math.sqrt(8))
    signs = activation_summary(torch.tensor([[2.0, -2, 2], [-2, 2, 2]]))
    assert signs["activation_sparseness"] == pytest.approx(0)
    assert signs["activation_sparsity"] == 0


def test_inputs_weigh_by_their_power() -> None:
    """Mean sizes of the inputs 1 and 0, their squares 1/2 on average; the mean square is 1."""
    assert activation_summary(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))["activation_sparseness"] == 0.5


def test_sparseness_of_gaussian_activations_is_one_minus_two_over_pi() -> None:
    z = torch.randn(400, 500, generator=seeded())
    assert activation_summary(z)["activation_sparseness"] == pytest.approx(1 - 2 / math.pi, abs=0.003)


@pytest.mark.parametrize(("tau", "expected"), [(0.0, 1 / 4), (0.025, 2 / 4), (0.5, 3 / 4)])
def test_dormant_units_are_small_on_average_over_inputs(tau: float, expected: float) -> None:
    """Mean sizes 0, 0.02, 0.4 and 3.58: the layer's is 1. The last but one is silent but for one input, and counts."""
    z = torch.tensor([[0, 0.02, 0.0, 3.58], [0, -0.02, 0.8, -3.58]])
    assert activation_summary(z, tau=tau)["dormant_fraction"] == expected


def test_signs() -> None:
    """Dead, always on, then a pattern, its copy, its complement, and another pattern."""
    z = torch.tensor([[-1, 2, 1, 3, -1, 1], [0, 1, -1, -2, 2, 1], [-3, 1, -1, 0, 1, -1.0]])
    found = activation_summary(z)
    assert found["constant_sign_fraction"] == pytest.approx(2 / 6)
    assert found["sign_pattern_fraction"] == 2 / 4


def test_sign_patterns_agree_with_comparing_all_pairs_of_units() -> None:
    z = torch.randn(9, 60, generator=seeded())  # 2^8 patterns up to the sign: some meet
    signs = [tuple(row) for row in (z.T > 0).tolist()]
    seen: list[tuple[bool, ...]] = []
    for unit in signs:
        if 0 < sum(unit) < 9 and unit not in seen and tuple(not s for s in unit) not in seen:
            seen.append(unit)
    active = sum(0 < sum(unit) < 9 for unit in signs)
    found = activation_summary(z)
    assert found["sign_pattern_fraction"] == pytest.approx(len(seen) / active)
    assert len(seen) < active


@pytest.mark.parametrize(
    ("variances", "effective", "stable"), [([5.0], 1, 1), ([1, 1, 1, 1], 4, 4), ([4, 2, 1, 1], 2**1.75, 2)]
)
def test_ranks_of_a_known_covariance(variances: list[float], effective: float, stable: float) -> None:
    """Rows +-s_i along axes of a rotated frame, about a mean that does not count."""
    axes = torch.linalg.qr(torch.randn(6, 6, generator=seeded(), dtype=torch.float64))[0][: len(variances)]
    arms = torch.tensor(variances, dtype=torch.float64).sqrt()[:, None] * axes
    found = activation_summary(torch.cat([arms, -arms]) + 7)
    assert found["activation_effective_rank"] == pytest.approx(effective, rel=1e-6)
    assert found["activation_stable_rank"] == pytest.approx(stable, rel=1e-6)


def test_only_the_norm_depends_on_scale_and_nothing_on_order_or_repeats() -> None:
    z = torch.randn(20, 12, generator=seeded(), dtype=torch.float64).relu()
    one = activation_summary(z)
    for other, scale in ((5 * z, 5), (z.flip(0), 1), (z.flip(1), 1), (torch.cat([z, z]), 1)):
        expected = {**one, "activation_norm": scale * one["activation_norm"]}
        assert activation_summary(other) == pytest.approx(expected, rel=1e-9)


def test_a_relu_layer_with_known_dead_units() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(4, 10), nn.ReLU()))
    with torch.no_grad():
        model[0].bias[:3] = -100
        model[0].bias[3] = 100
    x = torch.randn(200, 4, generator=seeded(5))
    found = only(model, x)
    assert found["constant_sign_fraction"].item() == pytest.approx(0.4)
    assert found["sign_pattern_fraction"].item() == 1
    zeros = (x.numpy() @ model[0].weight.detach().numpy().T + model[0].bias.detach().numpy() <= 0).mean()
    assert found["activation_sparsity"].item() == pytest.approx(zeros)
    assert found["activation_sparsity"].attrs["n_rows"] == 200


@pytest.mark.parametrize("activation", [F.relu, F.gelu, F.silu, torch.tanh])
def test_signs_of_outputs_are_those_of_pre_activations(activation: Any) -> None:
    z = torch.randn(7, 50, generator=seeded())
    names = ("constant_sign_fraction", "sign_pattern_fraction")
    assert [activation_summary(activation(z))[n] for n in names] == [activation_summary(z)[n] for n in names]


def test_a_channel_of_an_image_is_zero_if_it_is_so_everywhere() -> None:
    model = built(lambda: nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU()))
    with torch.no_grad():
        model[0].bias[:2] = -100
    found = only(model, torch.randn(30, 1, 6, 6, generator=seeded()))
    assert found["activation_sparsity"].item() == pytest.approx(2 / 5)
    assert found["dormant_fraction"].item() == pytest.approx(2 / 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float64(dtype: torch.dtype) -> None:
    z = (200 * torch.randn(40, 12, generator=seeded())).to(dtype)  # squares overflow float16
    assert activation_summary(z) == activation_summary(z.double())


def test_more_rows_than_max_samples_are_a_fixed_subset() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    x = torch.randn(500, 6, generator=seeded())
    found = only(model, x, max_samples=50)
    assert found["activation_norm"].attrs["n_rows"] == 50
    rows = [torch.randperm(500, generator=seeded(0))[:50], torch.randperm(500, generator=seeded(1))[:50]]
    for state, chosen in enumerate(rows):
        norm = only(model, x, max_samples=50, random_state=state)["activation_norm"].item()
        assert norm == pytest.approx(x[chosen].relu().square().mean().sqrt().item(), rel=1e-6)


class Sometimes(nn.Module):
    """Its second layer does not fire for the split that is called "off"; the third has constant rows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.c(0 * (self.b(y) if (x > 0).any() else y) + 1)


def test_what_cannot_be_measured_is_flagged() -> None:
    on, off = torch.rand(5, 3, generator=seeded()), -torch.rand(5, 3, generator=seeded())
    off[1, 1] = -math.inf
    probe = ActivationsProbe(layers=["a", "b", "c"]).attach(Sometimes(), {"on": (on, None), "off": (off, None)})
    found = probe.observe(0).detach().series_.isel(step=0)
    expected: dict[str, Any] = {"activations_nonfinite": [[0, 0, 0], [1, -1, 1]]}
    expected["activations_alike"] = [[0, 0, 1], [-1, -1, -1]]
    for name, flags in expected.items():
        assert found[name].values.tolist() == flags
    known = np.isfinite(found["activation_effective_rank"].values)
    assert known.tolist() == [[True, True, False], [False, False, False]]
    assert found["activation_norm"].values[0, 2] == 1


def test_ranks_can_be_left_out() -> None:
    """All other variables stay the same. The flag of equal rows goes with the ranks."""
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(20, 4, generator=seeded())
    whole, few = measured(model, x), measured(model, x, ranks=False)
    gone = {"activation_effective_rank", "activation_stable_rank", "activations_alike"}
    assert set(whole) - set(few) == gone
    assert set(few) < set(whole)
    for name in set(few) - {"seconds"}:
        np.testing.assert_array_equal(few[name], whole[name])
    assert not gone & set(activation_summary(x, ranks=False))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tau": -0.1}, "Expected 0 <= tau < 1, got -0.1"),
        ({"tau": 1.0}, "Expected 0 <= tau < 1, got 1.0"),
        ({"max_samples": 1}, "Expected max_samples >= 2, got 1"),
    ],
)
def test_invalid_parameters_are_an_error(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        only(nn.ReLU(), torch.eye(3), layers="<output>", **parameters)
