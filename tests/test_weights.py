import copy
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from probe import WeightsProbe
from probe.geometry import effective_rank, spectra, spectral_entropy, squared_singular_values, stable_rank
from probe.information import weight_histogram
from probe.measures import weight_matrices, weight_summary

X = torch.zeros(2, 6)


def measured(model: nn.Module, x: Tensor = X, **parameters: Any) -> xr.Dataset:
    return WeightsProbe(**parameters).fit(model, (x, None)).series_.isel(step=0)


def with_singular_values(values: list[float], m: int, n: int) -> Tensor:
    """Singular vectors are random."""
    u = torch.linalg.qr(torch.randn(m, m, generator=seeded(1), dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn(n, n, generator=seeded(2), dtype=torch.float64))[0]
    k = len(values)
    return u[:, :k] @ torch.tensor(values, dtype=torch.float64).diag() @ v[:k]


@pytest.mark.parametrize(
    ("values", "norm", "stable", "effective", "bits"),
    [
        ([3.0], 3, 1, 1, 0),
        ([2, 2, 2, 2, 2, 2, 2, 2], math.sqrt(32), 8, 8, 3),
        ([2, 1, 1], math.sqrt(6), 1.5, 2**1.5, 1.5),
        ([4, 2, 1, 1], math.sqrt(22), 22 / 16, 2**1.75, 1.75),
    ],
)
@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_known_singular_values(
    shape: tuple[int, int], values: list[float], norm: float, stable: float, effective: float, bits: float
) -> None:
    found = weight_summary(with_singular_values(values, *shape))
    assert found[:4] == pytest.approx((norm, stable, effective, bits), rel=1e-6, abs=1e-6)
    assert found.undefined == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("shape", [(7, 50), (50, 7), (1, 9), (9, 9)])
def test_spectrum_agrees_with_numpy_also_in_blocks(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = torch.randn(shape, generator=seeded(), dtype=dtype)
    exact = matrix.to(torch.complex128 if dtype.is_complex else torch.float64).numpy()
    expected = np.linalg.svd(exact, compute_uv=False) ** 2
    for block in (1, 40, 10**6):
        monkeypatch.setattr(spectra, "BLOCK", block)
        found = squared_singular_values(matrix)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * expected[0])


def test_ranks_see_neither_scale_nor_orientation() -> None:
    w = torch.randn(12, 20, generator=seeded(), dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(20, 20, generator=seeded(1), dtype=torch.float64))[0]
    for other in (1e-12 * w, w.T, w @ q, w.flip(0)):
        assert weight_summary(other)[1:4] == pytest.approx(weight_summary(w)[1:4], rel=1e-9)


@pytest.mark.parametrize("function", [effective_rank, stable_rank, spectral_entropy])
@pytest.mark.parametrize("spectrum", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_a_spectrum_of_nothing_has_no_rank(function: Any, spectrum: list[float]) -> None:
    with pytest.raises(ValueError, match="not all 0"):
        function(torch.tensor(spectrum))


@pytest.mark.parametrize("matrix", [torch.zeros(3), torch.zeros(0, 4), torch.tensor([[1.0, math.nan]])])
def test_what_is_no_matrix_has_no_spectrum(matrix: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Expected a matrix .*got"):
        squared_singular_values(matrix)


class Many(nn.Module):
    """A convolution, a stack, tied layers, a frozen matrix, a vector of its own, in one model."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.full((2,), 2.0))
        self.conv = nn.Conv2d(3, 4, 2, bias=False)
        self.attention = nn.MultiheadAttention(4, 2, bias=False)
        self.read = nn.Linear(4, 5, bias=False)
        self.tied = nn.Linear(4, 5, bias=False)
        self.tied.weight = self.read.weight
        self.frozen = nn.Linear(4, 4, bias=False).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_each_matrix_is_measured_once_under_its_own_name() -> None:
    model = built(Many)
    matrices = weight_matrices(model)
    assert {name: tuple(w.shape) for name, w in matrices.items()} == {
        "conv.weight": (4, 3, 2, 2),
        "attention.in_proj_weight": (12, 4),
        "attention.out_proj.weight": (4, 4),
        "read.weight": (5, 4),
        "frozen.weight": (4, 4),
    }
    found = measured(model)
    assert found["parameter"].values.tolist() == list(matrices)
    kernels = model.conv.weight.detach().double().reshape(4, 12).numpy()
    s = np.linalg.svd(kernels, compute_uv=False)
    assert found["weight_stable_rank"].sel(parameter="conv.weight").item() == pytest.approx((s**2).sum() / s[0] ** 2)


def test_total_norm_counts_each_trainable_number_once() -> None:
    model = built(Many)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    numbers = 2 + 4 * 12 + 12 * 4 + 4 * 4 + 5 * 4  # not the tied weight again, not the frozen one
    assert measured(model)["weight_norm_total"].item() == pytest.approx(2 * math.sqrt(numbers))


def test_parametrised_weights_are_measured_as_they_compute() -> None:
    layer = built(lambda: parametrizations.orthogonal(nn.Linear(6, 4)))
    found = measured(nn.Sequential(layer))
    assert found["parameter"].values.tolist() == ["0.weight"]
    assert found["weight_effective_rank"].item() == pytest.approx(4, rel=1e-5)
    assert found["weight_norm"].item() == pytest.approx(2, rel=1e-5)


def test_power_iterations_of_a_spectral_norm_do_not_advance() -> None:
    model = built(lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4)))).train()
    before = copy.deepcopy(model.state_dict())
    found = measured(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found["weight_norm"].item() == pytest.approx(model.eval()[0].weight.norm().item(), rel=1e-5)


def test_what_has_no_rank_is_flagged() -> None:
    model = built(lambda: nn.Sequential(*(nn.Linear(6, 6) for _ in range(4))))
    with torch.no_grad():
        model[0].weight.zero_()
        model[1].weight[0, 0] = math.nan
        model[2].weight[0, 0] = math.inf
    found = measured(model)
    assert found["weight_rank_undefined"].values.tolist() == [1, 1, 1, 0]
    assert found["weight_effective_rank"].isnull().values.tolist() == [True, True, True, False]
    assert found["weight_norm"].values[0] == 0
    large = measured(model[3:], max_side=5)
    assert large["weight_rank_undefined"].item() == -1
    assert large["weight_stable_rank"].isnull().item()
    assert large["weight_norm"].item() == found["weight_norm"].values[3]


def test_a_model_without_matrices_is_an_error() -> None:
    with pytest.raises(ValueError, match="two or more dimensions, got a model without any"):
        WeightsProbe().fit(nn.LayerNorm(6), (X, None))


def test_histogram_entropy_is_that_of_numpy_bin_by_bin() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 40), nn.Linear(40, 6)))
    with torch.no_grad():
        model[0].weight.mul_(3)  # some of them outside
        model[1].weight[0, 0] = math.nan
    assert "weight_histogram_entropy" not in measured(model)
    found = measured(model, histogram=True)["weight_histogram_entropy"]
    counts = np.histogram(model[0].weight.detach().numpy(), np.linspace(-1, 1, 30))[0].tolist()
    assert sum(counts) < 240
    expected = scipy.stats.entropy([*counts, 240 - sum(counts)], base=2)
    assert found.values.tolist() == [pytest.approx(expected, abs=1e-9), pytest.approx(math.nan, nan_ok=True)]
    assert found.attrs["units"] == "bits"


def test_histogram_in_blocks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(7, 11, generator=seeded())
    whole = weight_histogram.weight_histogram_entropy(weights)
    monkeypatch.setattr(weight_histogram, "_BLOCK", 10)
    assert weight_histogram.weight_histogram_entropy(weights) == pytest.approx(whole, abs=1e-12)
