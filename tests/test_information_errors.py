"""Standard errors, bounds and rounding of the estimates, against repeated sampling and exact values."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import seeded
from torch import Tensor

from probe.information import (
    channel_bits,
    channel_information,
    coding_rate,
    decodable_information,
    ksg_information,
    renyi_information,
    ross_information,
)

Source = Callable[[torch.Generator], Tensor]


def far_class(generator: torch.Generator) -> Tensor:
    """Return 512 rows, about 2 % of them in a distant class, which determines the variance."""
    far = torch.rand(512, 1, generator=generator) < 0.02
    return torch.randn(512, 16, generator=generator) + 25 * far


def lognormal_norms(spread: float) -> Source:
    def draw(generator: torch.Generator) -> Tensor:
        z = torch.nn.functional.normalize(torch.randn(512, 16, generator=generator))
        return z * (spread * torch.randn(512, 1, generator=generator)).exp()

    return draw


def relu_rows(generator: torch.Generator) -> Tensor:
    weight = torch.randn(16, 32, generator=seeded(5)) / 4
    return (torch.randn(512, 16, generator=generator) @ weight).relu()


@pytest.mark.parametrize(
    ("source", "noise", "convention"),
    [
        (far_class, 0.2, "relative"),
        (far_class, 3.0, "absolute"),
        (lognormal_norms(1), 0.2, "relative"),
        (lognormal_norms(1.5), 0.2, "relative"),
        (lognormal_norms(1), 0.5, "absolute"),
        (relu_rows, 0.2, "relative"),
    ],
)
def test_error_over_rows_covers_fresh_rows(source: Source, noise: float, convention: str) -> None:
    """Over 36 fresh samples; expected are 95 %, and the benchmark measures 300."""
    found = [
        channel_information(
            source(seeded(seed)), noise=noise, convention=convention, subsample_se=True, generator=seeded(99 + seed)
        ).x
        for seed in range(36)
    ]
    values, errors = (np.array([getattr(x, part) for x in found]) for part in ("value", "subsample_se"))
    coverage = (abs(values - values.mean()) < 2 * errors).mean()
    assert coverage >= 0.85
    assert 0.8 < np.median(errors) / values.std() < 1.6


@pytest.mark.parametrize("n", [2, 3, 8, 15])
def test_few_rows_have_no_error_over_rows(n: int) -> None:
    z = torch.randn(n, 3, generator=seeded(1))
    assert math.isnan(channel_information(z, subsample_se=True, generator=seeded()).x.subsample_se or 0)


NEAR_CEILING = torch.randn(512, 8, generator=seeded(1))


@pytest.mark.parametrize(
    ("z", "noise"),
    [
        (NEAR_CEILING[:4], 0.2),
        (NEAR_CEILING[:8], 0.2),
        (NEAR_CEILING[:16], 0.15),
        (NEAR_CEILING[:16], 0.4),
        (NEAR_CEILING, 0.1),
        (NEAR_CEILING, 0.06),
        ((torch.arange(501) == 0).float()[:, None], 9.5),
        ((torch.arange(510) < 10).float()[:, None], 2.0),
    ],
)
def test_error_over_noise_is_not_too_small_or_nan(z: Tensor, noise: float) -> None:
    generator = seeded(3)
    found = [channel_information(z, torch.arange(len(z)) % 2, noise=noise, generator=generator) for _ in range(40)]
    for name in ("x", "y"):
        values, errors = (np.array([getattr(getattr(f, name), part) for f in found]) for part in ("value", "se"))
        known = ~np.isnan(errors)
        assert (abs(values - values.mean()) > 3 * errors)[known].mean() < 0.05 if known.sum() > 10 else True


def test_error_over_noise_of_unequal_clusters_is_not_that_between_clusters() -> None:
    """A quarter of the rows in one cluster: the rows differ by 1.6 bits, and the noise moves them by less."""
    z = (torch.arange(400) < 100).float()[:, None]
    found = [channel_information(z, noise=1.0, generator=seeded(k)).x for k in range(100)]
    errors = np.nanmedian([x.se for x in found])
    assert 0.8 < errors / np.std([x.value for x in found]) < 1.6


@pytest.mark.parametrize("noise", [0.3, 9.5])
@pytest.mark.parametrize("repeats", [1, 2])
def test_values_lie_within_their_bounds(noise: float, repeats: int) -> None:
    y = (torch.arange(300) < 3).long()
    z = y[:, None].float() + 0.01 * torch.randn(300, 2, generator=seeded(1))
    inputs = torch.arange(300) // repeats
    for seed in range(20):
        found = channel_information(z[inputs], y[inputs], inputs=inputs, noise=noise, generator=seeded(seed))
        assert found.y is not None
        assert found.x_given_y is not None
        for part in (found.x, found.y, found.x_given_y):
            assert part.bracket[0] <= part.value <= part.bracket[1]
        assert found.x.value == pytest.approx(found.y.value + found.x_given_y.value, abs=1e-12)


# -- rounding ------------------------------------------------------------------------------------------------------


def beside_constants(dtype: torch.dtype, constant: float = 1e5) -> Tensor:
    signal = (torch.arange(64) % 2)[:, None].to(dtype)
    return torch.cat([torch.full((64, 63), constant, dtype=dtype), signal], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_constant_features_do_not_hide_a_signal(dtype: torch.dtype) -> None:
    z = beside_constants(dtype)
    found = channel_information(z, noise=0.01, generator=seeded())
    assert (found.collapsed, found.x.value) == (False, pytest.approx(1))
    assert channel_bits(z, noise=0.01, generator=seeded()).item() == pytest.approx(1, abs=1e-3)
    assert coding_rate(z).collapsed is False
    assert renyi_information(z, order=2, width=0.1).x.item() == pytest.approx(1)


def test_float64_rows_that_differ_by_less_than_float32_rounding_are_measured() -> None:
    z = 1 + 1e-9 * (torch.arange(64) % 2)[:, None].double()
    found = channel_information(z, noise=0.01, generator=seeded())
    assert (found.collapsed, found.x.value) == (False, pytest.approx(1))
    assert channel_information((1 + 1e-9 * torch.rand(64, 3)).float(), generator=seeded()).collapsed
    rounded = 1e3 + 1e-4 * torch.randn(64, 8, generator=seeded(1))  # about one rounding of float32
    assert channel_information(rounded, generator=seeded()).collapsed


# -- units, and repeated inputs in other estimators ----------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_neighbour_estimates_do_not_depend_on_the_units_of_one_coordinate(factor: float) -> None:
    x, noise = torch.randn(2, 400, 2, generator=seeded(1), dtype=torch.float64)
    y, scale = 0.9 * x + 0.19**0.5 * noise, torch.tensor([1, factor], dtype=torch.float64)
    assert ksg_information(x * scale, y).value == pytest.approx(ksg_information(x, y).value, abs=1e-9)
    assert ksg_information(x, y * scale).value == pytest.approx(ksg_information(x, y).value, abs=1e-9)
    labels = (x[:, 0] > 0).long()
    assert ross_information(y * scale, labels).value == pytest.approx(ross_information(y, labels).value, abs=1e-9)
    assert decodable_information(y * scale, labels).value == pytest.approx(
        decodable_information(y, labels).value, abs=1e-4
    )


def test_ceilings_of_repeated_inputs_are_their_entropy() -> None:
    inputs = torch.arange(300) % 30
    z = torch.randn(30, 4, generator=seeded(1))[inputs]
    assert coding_rate(z, inputs=inputs).x_ceiling == pytest.approx(math.log2(30))
    found = renyi_information(z, inputs=inputs, order=2, width=0.01)
    assert (found.x.item(), found.x_ceiling) == (pytest.approx(math.log2(30)), pytest.approx(math.log2(30)))
