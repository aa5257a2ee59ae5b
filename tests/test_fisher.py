"""Tests of the empirical Fisher matrix: closed form, explicit matrices in float64, invariances, memory, bad input."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from probe import FisherProbe
from probe.forward import example_gradients
from probe.geometry import fisher_numbers

NUMBERS = "fisher_rank", "fisher_determined", "fisher_participation_ratio", "fisher_trace"


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def examples(n: int = 20, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (n,), generator=generator)


def explicit(model: nn.Module, x: Tensor, y: Tensor, names: list[str]) -> np.ndarray:
    """Return the eigenvalues of n F from the matrix (P, P), with the analytic gradient of each example."""
    total: np.ndarray | float = 0.0
    for row, target in zip(x, y, strict=True):
        model.zero_grad()
        F.cross_entropy(model(row[None]), target[None]).backward()
        parts = dict(model.named_parameters())
        gradient = np.concatenate([parts[name].grad.numpy().ravel() for name in names])  # type: ignore[union-attr]
        total = total + np.outer(gradient, gradient)
    model.zero_grad()
    return np.linalg.eigvalsh(np.asarray(total))


def numbers(eigenvalues: np.ndarray, level: float, n: int) -> list[float]:
    e = eigenvalues
    return [float((e > level).sum()), (e / (e + level)).sum(), e.sum() ** 2 / (e**2).sum(), e.sum() / n]


def evidence_level(eigenvalues: np.ndarray, norm2: float) -> float:
    """Return the level at which the evidence of MacKay (1992) has its maximum, by his iteration."""
    gamma = 1.0
    for _ in range(2000):
        gamma = (gamma + (eigenvalues * norm2 / (eigenvalues * norm2 + gamma)).sum()) / 2
    return float(gamma / norm2)


@pytest.mark.parametrize("group", [example_gradients.GROUP, 200, 1])
def test_explicit_matrices_of_a_small_network(group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_gradients, "GROUP", group)
    (x, y), model = examples(6 if group == 1 else 20), network()
    series = FisherProbe().fit(model, (x, y)).series_.isel(step=0, split=0)
    assert series["layer"].values.tolist() == ["0", "2", "<all>"]
    parts = {"0": ["0.weight", "0.bias"], "2": ["2.weight", "2.bias"]}
    parts["<all>"] = parts["0"] + parts["2"]
    for layer, names in parts.items():
        leaves = [dict(model.named_parameters())[name].detach() for name in names]
        norm2 = sum(float(leaf.square().sum()) for leaf in leaves)
        found, expected = series.sel(layer=layer), explicit(model, x, y, names)
        level = evidence_level(expected, norm2)
        assert found["fisher_level"].item() == pytest.approx(level, rel=1e-6)
        assert found["fisher_parameter_norm"].item() == pytest.approx(math.sqrt(norm2))
        for name, value in zip(NUMBERS, numbers(expected, level, len(x)), strict=True):
            assert found[name].item() == pytest.approx(value, rel=1e-6), (layer, name)


def test_closed_form_of_linear_regression() -> None:
    """The gradient of an example is its residual times its input, over the variance of the residuals."""
    generator = np.random.default_rng(0)
    x, noise, w = generator.normal(size=(40, 3)), generator.normal(size=40), np.array([2.0, -1.0, 0.5])
    model = nn.Linear(3, 1, bias=False).double()
    model.weight.data = torch.tensor(w[None])
    series = FisherProbe(level=5.0).fit(model, (torch.tensor(x), torch.tensor((x @ w + noise)[:, None]))).series_
    scaled = (noise / (noise**2).mean())[:, None] * x
    expected = numbers(np.linalg.eigvalsh(scaled.T @ scaled), 5.0, 40)
    assert [series[name].sel(layer="<all>").item() for name in NUMBERS] == pytest.approx(expected, rel=1e-9)


def test_directions_that_the_data_determine_are_counted() -> None:
    """Inputs span 4 of 30 directions, so 4 of the weights of a linear model are determined, however many examples."""
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(100, 4, generator=generator) @ torch.linalg.qr(torch.randn(30, 4, generator=generator))[0].T
    model = nn.Linear(30, 1, bias=False)
    series = FisherProbe().fit(model, (x, model(x).detach() + torch.randn(100, 1, generator=generator))).series_
    assert series["fisher_rank"].sel(layer="<all>").item() == 4
    assert series["fisher_saturated"].sel(layer="<all>").item() == 0


def test_scales_that_cancel_change_nothing() -> None:
    """A ReLU network computes the same if one layer grows and the next shrinks by a factor."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    data = examples(30)
    first = FisherProbe().fit(model, data).series_
    with torch.no_grad():
        model[0].weight *= 7  # type: ignore[operator]
        model[2].weight /= 7  # type: ignore[operator]
    second = FisherProbe().fit(model, data).series_
    for name in ("fisher_rank", "fisher_determined", "fisher_participation_ratio"):
        xr.testing.assert_allclose(first[name].sel(layer=["0", "2"]), second[name].sel(layer=["0", "2"]))


def test_few_examples_are_flagged_and_frozen_parameters_do_not_count() -> None:
    x, y = examples(3)
    model = network()
    model[0].weight.requires_grad_(False)  # type: ignore[union-attr]
    series = FisherProbe(level=1e-9).fit(model, (x, y)).series_.isel(step=0, split=0)
    assert series["fisher_rank"].values.tolist() == [3, 3, 3]
    assert series["fisher_saturated"].values.tolist() == [1, 1, 1]
    assert series["fisher_parameter_norm"].sel(layer="0").item() == pytest.approx(model[0].bias.norm().item())  # type: ignore[operator, union-attr]


def test_no_gradient_and_no_norm_are_flagged() -> None:
    x, y = examples(8)
    model = network()
    nn.init.zeros_(model[0].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model[0].bias)  # type: ignore[arg-type]
    series = FisherProbe().fit(model, (x, y)).series_.isel(step=0, split=0)
    assert series["fisher_undefined"].values.tolist() == [1, 0, 0]
    assert series["fisher_saturated"].values.tolist() == [-1, 0, 0]
    assert np.isnan(series["fisher_rank"].values[0])
    exact = nn.Linear(5, 1).double()
    fitted = FisherProbe().fit(exact, (x, exact(x).detach()))
    assert fitted.series_["fisher_undefined"].values.ravel().tolist() == [1, 1]


class Tokens(nn.Module):
    """A causal model with one row of outputs for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.read = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.embed(x).cumsum(1))


def test_the_loss_of_a_sequence_is_the_sum_over_its_targets() -> None:
    torch.manual_seed(0)
    x = torch.randint(7, (9, 5))
    y = torch.randint(7, (9, 5))
    y[:, 3:] = -100
    model = Tokens().double()
    series = FisherProbe().fit(model, (x, y)).series_
    gradients = []
    for row, targets in zip(x, y, strict=True):
        loss = F.cross_entropy(model(row[None])[0], targets, reduction="sum")
        parts = torch.autograd.grad(loss, list(model.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    trace = torch.stack(gradients).square().sum(1).mean().item()
    assert series["fisher_trace"].sel(layer="<all>").item() == pytest.approx(trace, rel=1e-9)


def test_the_level_is_not_below_rounding() -> None:
    gram = torch.diag(torch.tensor([1e6, 1.0, 1e-6], dtype=torch.float64))
    assert fisher_numbers(gram, 1e6).rank == 3
    rounded = fisher_numbers(gram, 1e6, rounding=1e-5)
    assert rounded.rank == 1
    assert rounded.level == pytest.approx(10.0, rel=1e-5)


@pytest.mark.parametrize(
    ("gram", "keywords", "message"),
    [
        (torch.ones(2, 3), {}, r"Expected a square matrix, got shape \(2, 3\)"),
        (torch.eye(2), {"level": 0.0}, "Expected a positive level, got 0.0"),
    ],
)
def test_bad_arguments(gram: Tensor, keywords: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fisher_numbers(gram, 1.0, **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_samples": 1}, "max_samples"),
        ({"splits": ["nothing"]}, "Expected splits among all, got nothing"),
        ({"level": -1.0}, "Expected a positive level"),
    ],
)
def test_bad_parameters(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FisherProbe(**keywords).fit(network(), examples())  # type: ignore[arg-type]
