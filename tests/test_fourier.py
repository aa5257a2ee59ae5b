import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn

from probe import FourierProbe
from probe.measures import fourier_norms, gini


def waves(p: int, frequencies: list[int], d: int = 6) -> Tensor:
    """Each frequency as a circle of radius 1 in a random plane; planes do not meet."""
    planes = torch.linalg.qr(torch.randn(d, d, generator=seeded(3), dtype=torch.float64))[0]
    angles = 2 * math.pi * torch.arange(p, dtype=torch.float64)[:, None] * torch.tensor(frequencies) / p  # (p, F)
    return torch.cat([angles.cos(), angles.sin()], 1) @ planes[: 2 * len(frequencies)]


def embedded(rows: Tensor) -> nn.Module:
    return nn.Sequential(nn.Embedding.from_pretrained(rows.float()))


def measured(model: nn.Module, **parameters: Any) -> xr.Dataset:
    return FourierProbe(**parameters).fit(model, (torch.zeros(2, dtype=torch.long), None)).series_.isel(step=0)


@pytest.mark.parametrize("p", [12, 13])
@pytest.mark.parametrize("chosen", [[1], [2, 5], [1, 3, 4]])
def test_planted_circles_are_found_alone(p: int, chosen: list[int]) -> None:
    found = measured(embedded(waves(p, chosen)), top=len(chosen))
    n, k = p // 2, len(chosen)
    expected = np.zeros(n)
    expected[np.array(chosen) - 1] = math.sqrt(p)  # p rows at distance 1 from the centre of their circle
    np.testing.assert_allclose(found["fourier_norm"], expected, atol=1e-5)
    assert found["frequency"].values.tolist() == list(range(1, n + 1))
    assert found["fourier_inverse_participation_ratio"].item() == pytest.approx(1 / k)
    assert found["fourier_top_share"].item() == pytest.approx(1)
    assert found["fourier_gini"].item() == pytest.approx(1 - k / n, abs=1e-6)
    assert found["fourier_undefined"].item() == 0


def test_a_strong_and_a_weak_frequency() -> None:
    """Norms 2, 0, 1, 0, 0, 0 times the root of 12; shares of the power 4/5 and 1/5."""
    found = measured(embedded(torch.cat([2 * waves(12, [1]), waves(12, [3])], 1)), top=1)
    np.testing.assert_allclose(found["fourier_norm"] / math.sqrt(12), [2, 0, 1, 0, 0, 0], atol=1e-5)
    assert found["fourier_inverse_participation_ratio"].item() == pytest.approx(0.68)
    assert found["fourier_top_share"].item() == pytest.approx(0.8)
    assert found["fourier_gini"].item() == pytest.approx(13 / 18, abs=1e-6)


def test_one_hot_rows_hold_all_frequencies_alike() -> None:
    found = measured(embedded(torch.eye(31)), top=3)
    assert found["fourier_gini"].item() == pytest.approx(0, abs=1e-6)
    assert found["fourier_inverse_participation_ratio"].item() == pytest.approx(1 / 15)
    assert found["fourier_top_share"].item() == pytest.approx(3 / 15)


@pytest.mark.parametrize("p", [4, 5, 16, 31])
def test_norms_agree_with_an_explicit_basis_of_cosines_and_sines(p: int) -> None:
    rows = torch.randn(p, 7, generator=seeded(), dtype=torch.float64) + 3
    expected = []
    for k in range(1, p // 2 + 1):
        angles = [2 * math.pi * k * t / p for t in range(p)]
        basis = np.array([np.cos(angles), np.sin(angles)][: 1 if 2 * k == p else 2])
        basis = basis / np.linalg.norm(basis, axis=1, keepdims=True)
        expected.append(np.linalg.norm(basis @ rows.numpy()))
    np.testing.assert_allclose(fourier_norms(rows), expected, rtol=1e-10)
    total = (rows - rows.mean(0)).square().sum().item()
    assert fourier_norms(rows).square().sum().item() == pytest.approx(total)


def test_norms_see_neither_where_the_cycle_begins_nor_the_basis() -> None:
    rows = torch.randn(17, 5, generator=seeded(), dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=seeded(1), dtype=torch.float64))[0]
    for other in (rows.roll(4, 0), rows @ rotation, rows + 9, rows.flip(0)):
        torch.testing.assert_close(fourier_norms(other), fourier_norms(rows))


@pytest.mark.parametrize("n", [1, 2, 9])
def test_gini_is_the_mean_difference_of_two_over_twice_the_mean(n: int) -> None:
    values = torch.rand(n, generator=seeded(), dtype=torch.float64)
    pairs = sum(abs(a - b) for a in values.tolist() for b in values.tolist())
    assert gini(values).item() == pytest.approx(pairs / (2 * n * values.sum().item()))


@pytest.mark.parametrize("tokens", [13, slice(0, 13), list(range(13))])
def test_some_tokens_of_a_vocabulary(tokens: Any) -> None:
    rows = torch.cat([waves(13, [4]), torch.randn(3, 6, generator=seeded(), dtype=torch.float64)])
    assert measured(embedded(rows), tokens=tokens, top=1)["fourier_top_share"].item() == pytest.approx(1)
    assert measured(embedded(rows), top=1)["fourier_top_share"].item() < 0.9


def test_powers_of_a_primitive_root_order_a_multiplicative_task() -> None:
    """3 generates the units modulo 17."""
    order = [3**k % 17 for k in range(16)]
    rows = torch.zeros(17, 6, dtype=torch.float64)
    rows[order] = waves(16, [5])
    assert measured(embedded(rows), tokens=order, top=1)["fourier_top_share"].item() == pytest.approx(1)
    assert measured(embedded(rows), top=1)["fourier_top_share"].item() < 0.6


class OneHot(nn.Module):
    """Reads numbers as one-hot vectors of a linear layer; has other matrices too."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.read, self.head = nn.Linear(*rows.shape), nn.Linear(rows.shape[1], 2)
        self.read.weight.data = rows.T.clone().float()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(nn.functional.one_hot(x, self.read.in_features).float()))


def test_weights_of_a_linear_layer_that_reads_one_hot_inputs() -> None:
    rows = torch.randn(11, 4, generator=seeded(), dtype=torch.float64)
    found = measured(OneHot(rows), weight="read.weight", axis=1)
    xr.testing.assert_allclose(found.drop_vars("seconds"), measured(embedded(rows)).drop_vars("seconds"))


class TwoEmbeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(9, 4), nn.Embedding(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x) + self.positions.weight[0]


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        (TwoEmbeddings, {}, r"2 embeddings; .* one of tokens\.weight, positions\.weight"),
        (TwoEmbeddings, {"weight": "token"}, r"got 'token'.* one of tokens\.weight, positions\.weight"),
        (lambda: OneHot(torch.zeros(5, 3)), {}, r"0 embeddings; .* one of read\.weight, head\.weight"),
        (TwoEmbeddings, {"weight": "positions.weight"}, "Expected 4 or more tokens, got 2 rows of positions.weight"),
        (TwoEmbeddings, {"weight": "tokens.weight", "tokens": 10}, "Expected tokens <= 9, .* got 10"),
        (TwoEmbeddings, {"weight": "tokens.weight", "top": 0}, "Expected top >= 1, got 0"),
    ],
)
def test_what_cannot_be_read_is_an_error_when_attaching(model: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FourierProbe(**parameters).attach(built(model), (torch.zeros(2, dtype=torch.long), None))


@pytest.mark.parametrize("value", [0.1, 0.1 + 1e-8, math.nan, math.inf])
def test_rows_without_a_spectrum_are_flagged(value: float) -> None:
    """Alike, alike but for the rounding of float32, or not finite."""
    rows = torch.full((6, 3), 0.1)
    rows[2, 1] = value
    found = measured(embedded(rows))
    assert found["fourier_undefined"].item() == 1
    assert found[["fourier_gini", "fourier_inverse_participation_ratio", "fourier_top_share"]].to_array().isnull().all()
