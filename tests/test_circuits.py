"""Circuits by hand, against products of masked weights, against models in float64, and against derivatives."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from piecewise_cases import MODELS, in_float64, made, patterns
from torch import Tensor, nn

from probe import CircuitsProbe
from probe.forward import read_data
from probe.geometry import Maximum, PiecewiseLinear, perceptron
from probe.measures import circuit
from probe.measures.circuits.patterns import nearest_pairs


def chain(*sizes: int, activation: type[nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    parts = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return built(lambda: nn.Sequential(*parts[:-1]).apply(_reset), seed)


def _reset(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.reset_parameters()


def measured(model: nn.Module, x: Any, **parameters: Any) -> xr.Dataset:
    return CircuitsProbe(**parameters).fit(model, (x, None)).series_.isel(step=0, split=0, drop=True)


def line(*units: tuple[float, float]) -> nn.Sequential:
    """Return a layer with units w x + b of one number, and ReLU."""
    model = nn.Sequential(nn.Linear(1, len(units)), nn.ReLU())
    for parameter, numbers in zip(model[0].parameters(), zip(*units, strict=True), strict=True):
        parameter.data = torch.tensor(numbers, dtype=torch.float32).view_as(parameter)
    return model


# -- the circuit of an input -------------------------------------------------------------------------------------------


def test_the_map_is_the_product_of_the_weights_between_active_units() -> None:
    model, x = chain(5, 8, 7, 3), torch.randn(20, 5, generator=seeded())
    found = circuit(model, x)
    assert found.matrix is not None
    assert found.offset is not None
    assert found.exact
    for row in range(20):
        matrix, offset, z = torch.eye(5).double(), torch.zeros(5).double(), x[row].double()
        for number, site in ((0, "1:relu"), (2, "3:relu"), (4, None)):
            weight, bias = (part.detach().double() for part in model[number].parameters())
            matrix, offset, z = weight @ matrix, weight @ offset + bias, weight @ z + bias
            if site is not None:
                mask = (z > 0).double()
                assert found.active[site][row].tolist() == (z > 0).tolist()
                matrix, offset, z = mask[:, None] * matrix, mask * offset, mask * z
        torch.testing.assert_close(found.matrix[row], matrix, rtol=0, atol=1e-14)
        torch.testing.assert_close(found.offset[row], offset, rtol=0, atol=1e-14)
    for weight, linear in zip(found.weights(), model[::2], strict=True):
        torch.testing.assert_close(weight, linear.weight.double(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", MODELS)
def test_maps_and_patterns_of_models(name: str) -> None:
    """The map at an input holds at another input of its region, up to 1e-10."""
    model, shape = made(name, 1)
    x = 2 * torch.randn(6, *shape, generator=seeded(), dtype=torch.float64)
    near = x + 1e-4 * torch.randn(6, *shape, generator=seeded(1), dtype=torch.float64)
    found, double = circuit(model, x), in_float64(model)
    one, other = (patterns(double, points)[0] for points in (x, near))
    np.testing.assert_array_equal(torch.cat(list(found.patterns.values()), 1), one)
    same = (one == other).all(1)
    assert same.sum() >= 4
    assert found.matrix is not None
    values = torch.einsum("noi,ni->no", found.matrix.flatten(2), near.flatten(1)) + found.offset
    error = (values - double(near).flatten(1)).abs().amax(1)
    assert error[torch.from_numpy(same)].max() < 1e-10
    assert not found.on_boundary.any()


def test_an_input_on_a_boundary_is_flagged() -> None:
    network = perceptron([([[1.0], [0.0]], [-0.5, 0.0]), ([[1.0, 1.0]], [0.0])])  # the second unit is zero everywhere
    assert circuit(network, torch.tensor([[0.5], [0.5 + 1e-6], [2.0]])).on_boundary.tolist() == [True, False, False]


def test_a_tie_of_a_maximum_is_a_boundary_unless_the_candidates_are_equal_nearby() -> None:
    def candidates(hidden: Tensor, rows: Tensor) -> Tensor:
        return torch.stack([hidden[:, :1], hidden[:, 1:], rows - 1], -1)

    layer = perceptron([([[1.0], [2.0]], [0.0, 0.0])], last=True)
    maximum = Maximum((2, 0), 3, lambda *read: candidates(*read).amax(-1), candidates, "max")
    found = circuit(PiecewiseLinear((*layer.operations, maximum), (1,), 3), torch.tensor([[-1.0], [1.0]]))
    assert found.on_boundary.tolist() == [False, False]
    assert found.patterns["max"].tolist() == [[0], [1]]
    assert list(found.active) == ["0"]
    assert found.matrix is not None
    assert found.matrix.flatten().tolist() == [0, 2]

    def pair(rows: Tensor) -> Tensor:
        return torch.stack([rows, -rows], -1)

    crossing = Maximum((0,), 1, lambda rows: pair(rows).amax(-1), pair, "max")
    assert circuit(PiecewiseLinear((crossing,), (1,), 1), torch.tensor([[0.0], [1.0]])).on_boundary.tolist() == [1, 0]


class Detached(nn.Module):
    """A part of the function has no derivatives."""

    def forward(self, x: Tensor) -> Tensor:
        return (2 * x.detach()).relu() + x


def test_operations_without_derivatives() -> None:
    found = circuit(Detached(), torch.tensor([[1.0, -1.0]]))
    assert found.matrix is not None
    assert found.matrix.tolist() == [[[3.0, 0.0], [0.0, 1.0]]]


def test_integer_inputs_start_at_the_stem() -> None:
    model = built(lambda: nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))
    tokens = torch.tensor([3, 5, 0])
    found = circuit(model, tokens)
    assert found.matrix is not None
    rows = model[0].weight[tokens].double()
    values = torch.einsum("noi,ni->no", found.matrix, rows) + found.offset
    torch.testing.assert_close(values, in_float64(model)(tokens), rtol=0, atol=1e-12)
    assert list(found.patterns) == ["2:relu"]


def test_other_models_have_signs_alone() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.randn(5, 3, generator=seeded())
    model.train()
    found = circuit(model, x)
    assert (found.exact, found.matrix, model.training) == (False, None, True)
    assert "tanh" in found.reason
    assert found.active["1:tanh"].tolist() == (model[0](x) > 0).tolist()
    assert "signs only" in repr(found)
    with pytest.raises(ValueError, match="not piecewise linear"):
        found.weights()
    tangent = circuit(model, x, jacobian=True)
    assert tangent.matrix is not None
    slope = 1 - model(x).detach().square()  # the derivative of tanh
    torch.testing.assert_close(tangent.matrix, (slope[:, :, None] * model[0].weight).double(), rtol=0, atol=1e-6)
    assert not tangent.exact
    assert all(parameter.grad is None for parameter in model.parameters())


def test_matrices_that_are_too_large_and_numbers_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain(6, 5, 4), torch.randn(3, 6)
    whole, alone = circuit(model, x), circuit(model, x, matrix=False)
    assert alone.matrix is alone.offset is None
    assert alone.exact
    assert torch.equal(alone.outputs, whole.outputs)
    assert all(torch.equal(alone.patterns[site], whole.patterns[site]) for site in whole.patterns)
    monkeypatch.setattr("probe.measures.circuits.exact._MAX_BYTES", 8 * 3 * 4 * 6 - 1)
    with pytest.raises(ValueError, match=r"for 3 inputs with 4 outputs; pass fewer inputs at a time, or matrix=False"):
        circuit(model, x)
    circuit(model, x[:2])
    with pytest.raises(ValueError, match="Expected finite outputs, got NaN"):
        circuit(model, torch.full((2, 6), torch.nan))


def test_one_input_and_several_regions() -> None:
    model = line((1.0, 0.0), (1.0, -1.0))
    assert repr(circuit(model, torch.tensor([[2.0]]))) == "Circuit(1 input; active 1:relu 2/2; exact)"
    several = circuit(model, torch.tensor([[-1.0], [0.5], [2.0], [3.0]]))
    assert several.n_distinct == 3
    assert repr(several) == "Circuit(4 inputs; active 1:relu 1.2/2; exact)"
    with pytest.raises(ValueError, match="another graph"):
        circuit(made("residual", 0)[0], torch.ones(1, 5)).weights()
    with pytest.raises(ValueError, match=r"shape \(n, 1\), got \(1,\)"):
        circuit(perceptron([([[1.0]], [0.0])]), torch.ones(1))


# -- the probe ---------------------------------------------------------------------------------------------------------


def test_every_number_by_hand() -> None:
    """Units: x > 0; its negative; always on; always off; x > 3/2. The inputs 2 and 4 have one circuit."""
    model = line((1, 0), (-2, 0), (1, 10), (1, -10), (1, -1.5))
    found = measured(model, torch.tensor([[-1.0], [1.0], [2.0], [4.0]])).isel(layer=0)
    assert found["circuits_distinct"] == 3
    assert found["circuits_inputs"] == 4
    assert found["circuits_saturated"] == 0
    assert found["circuits_near"] == pytest.approx((2 + 1 + 1 + 0) / 4 / 5)
    assert found["circuits_near_se"] == pytest.approx(np.std([2, 1, 1, 0], ddof=1) / 2 / 5)
    assert found["circuits_always_on"] == pytest.approx(1 / 5)
    assert found["circuits_always_off"] == pytest.approx(1 / 5)
    assert found["circuits_copies"] == pytest.approx(1 / 3)
    assert found["circuits_units"] == 5
    assert found["circuits_constant_bound"] == 3 / 4
    for name in ("distinct", "near", "always_on", "always_off", "copies", "units", "saturated"):
        assert found[f"circuits_{name}_total"] == pytest.approx(found[f"circuits_{name}"])
    assert found.attrs == {} or "n_rows" not in found.attrs
    assert found["circuits_distinct"].attrs["n_rows"] == 4


def test_copies_in_another_layer_count_over_the_network_only() -> None:
    """The unit of the second layer is positive where that of the first one is."""
    model = nn.Sequential(*line((1, 0)), *line((2, 0)))
    found = measured(model, torch.tensor([[-1.0], [1.0], [2.0]]))
    assert found["circuits_copies"].values.tolist() == [0, 0]
    assert found["circuits_copies_total"] == 1 / 2
    assert found["circuits_units_total"] == 2


def test_equal_inputs_are_no_neighbours_and_lower_the_ceiling() -> None:
    found = measured(line((1, 0)), torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]))
    assert found["circuits_inputs"] == 2
    assert found["circuits_distinct_total"] == 2
    assert found["circuits_saturated_total"] == 1
    assert found["circuits_near_total"] == 1
    assert math.isnan(measured(line((1, 0)), torch.ones(3, 1))["circuits_near_total"])


def test_random_pairs_estimate_the_mean_over_all_pairs() -> None:
    model, x = chain(6, 32, 32, 2), torch.randn(1000, 6, generator=seeded())
    found = measured(model, x)
    signs = torch.cat([model[:k](x) > 0 for k in (1, 3)], 1).double()
    share = signs.mean(0)
    expected = (2 * share * (1 - share)).mean().item() * 1000 / 999  # of a pair of different inputs, over all pairs
    assert abs(found["circuits_random_total"] - expected) < 4 * found["circuits_random_se_total"]
    assert found["circuits_near_total"] < 0.7 * found["circuits_random_total"]
    assert 0.001 < found["circuits_random_se_total"] < 0.01


@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_nearest_inputs(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    monkeypatch.setattr("probe.measures.circuits.patterns._COLUMNS", 3)
    x = scale * torch.randn(300, 4, generator=seeded())
    chosen = torch.randperm(300, generator=seeded(1))
    pairs = nearest_pairs(read_data((x, None))["all"], chosen)
    assert len(pairs) == 256
    distance = torch.cdist(x[chosen].double(), x[chosen].double()).fill_diagonal_(torch.inf)
    assert pairs[:, 1].tolist() == distance.argmin(1)[:256].tolist()


def test_nearest_tokens_differ_in_the_fewest_places() -> None:
    tokens = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    chosen = torch.randperm(36, generator=seeded())
    pairs = nearest_pairs(read_data((tokens, None))["all"], chosen)
    differing = (tokens[chosen][pairs[:, 0]] != tokens[chosen][pairs[:, 1]]).sum(1)
    assert differing.tolist() == [1] * 36
    assert len({(a, b) for a, b in pairs.tolist()}) == 36


def test_distinct_circuits_are_the_patterns_of_the_model() -> None:
    model, x = chain(3, 6, 5, 2), torch.rand(400, 3, generator=seeded())
    found = measured(model, x)
    signs = [(model[:k](x) > 0).tolist() for k in (1, 3)]
    for layer, rows in zip(("1:relu", "3:relu"), signs, strict=True):
        assert found["circuits_distinct"].sel(layer=layer) == len(set(map(tuple, rows)))
    whole = {(*map(tuple, rows),) for rows in zip(*signs, strict=True)}
    assert found["circuits_distinct_total"] == len(whole)
    assert len(whole) < 400
    assert measured(model, x, max_samples=50)["circuits_distinct"].attrs["n_rows"] == 50


def test_a_subset_of_the_units() -> None:
    model, x = chain(8, 400, 2), torch.randn(500, 8, generator=seeded())
    whole, part = measured(model, x), measured(model, x, max_units=100)
    assert part["circuits_units"].item() == 100
    assert part["circuits_random_total"] == pytest.approx(whole["circuits_random_total"].item(), abs=0.05)
    assert part["circuits_random_total"] != whole["circuits_random_total"]


def test_pixels_positions_and_both_bends_are_units() -> None:
    model = built(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(12, 2)))
    found = measured(model, torch.randn(6, 1, 4, 4, generator=seeded()))
    assert found["circuits_units"].values.tolist() == [12, 12]
    assert found["circuits_units_total"] == 24


def test_a_named_layer_without_activation_function_has_the_signs_of_its_output() -> None:
    model, x = chain(4, 6, 3), torch.randn(30, 4, generator=seeded())
    found = measured(model, x, layers=["2"])
    assert found["circuits_distinct"].item() == len(set(map(tuple, (model(x) > 0).tolist())))


def test_numbers_that_are_not_finite_are_flagged() -> None:
    model, x = chain(4, 6, 6, 3), torch.randn(30, 4, generator=seeded())
    with torch.no_grad():
        model[2].weight[0, 0] = torch.inf
        model[2].bias[0] = -torch.inf
    found = measured(model, x)
    assert found["circuits_nonfinite"].values.tolist() == [0, 1]
    assert found["circuits_incomplete"] == 1
    assert np.isnan(found["circuits_distinct"].values).tolist() == [False, True]
    assert found["circuits_units_total"] == 6


def test_wrong_parameters() -> None:
    for wrong in ({"max_samples": 1}, {"max_units": 0}, {"max_gradients": -1}):
        with pytest.raises(ValueError, match=f"Expected {next(iter(wrong))} >="):
            measured(line((1, 0)), torch.randn(4, 1), **wrong)
    with pytest.raises(ValueError, match="Expected an activation function"):
        measured(nn.Linear(1, 1), torch.randn(4, 1))
    with pytest.raises(ValueError, match="real numbers"):
        measured(nn.Sequential(nn.Linear(1, 1, dtype=torch.complex64), nn.Tanh()), torch.randn(4, 1) + 0j)


# -- centroid alignment ------------------------------------------------------------------------------------------------


def test_the_alignment_of_a_linear_map() -> None:
    """The rows of the identity add up to (1, 1, 1), also through a ReLU that is always on."""
    x = torch.rand(40, 3, generator=seeded()) + 0.1
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU())
    torch.nn.init.eye_(model[0].weight)
    cosine = (x.sum(1) / x.norm(dim=1) / 3**0.5).double()
    found = measured(model, x)
    assert found["circuits_alignment"] == pytest.approx(cosine.mean().item(), abs=1e-6)
    assert found["circuits_alignment_se"] == pytest.approx(cosine.std().item() / 40**0.5, abs=1e-6)
    assert found["circuits_alignment_undefined"] == 0


@pytest.mark.parametrize("activation", [nn.GELU, nn.ReLU])
def test_the_alignment_of_a_network_is_that_of_its_jacobian(activation: type[nn.Module]) -> None:
    model, x = chain(5, 16, 4, activation=activation), torch.randn(10, 5, generator=seeded())
    jacobian = torch.stack([torch.autograd.functional.jacobian(model, row) for row in x])  # (n, 4, 5)
    expected = F.cosine_similarity(jacobian.sum(1), x).mean().item()
    assert measured(model, x)["circuits_alignment"] == pytest.approx(expected, abs=1e-6)


def test_the_alignment_of_tokens_is_at_the_embedding() -> None:
    model = built(lambda: nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2), nn.ReLU()))
    with torch.no_grad():
        model[1].bias += 10  # all units are on
        tokens = torch.tensor([0, 1, 2, 3])
        expected = F.cosine_similarity(model[0](tokens), model[1].weight.sum(0)[None]).mean().item()
    assert measured(model, tokens)["circuits_alignment"] == pytest.approx(expected, abs=1e-6)


class Rounded(nn.Module):
    """No derivatives."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return x.detach() if self.mode == "detach" else x.round() if self.mode == "round" else (x > 0).long()


@pytest.mark.parametrize("mode", ["detach", "round", "integers"])
def test_without_derivatives_there_is_no_alignment(mode: str) -> None:
    found = measured(Rounded(mode), torch.randn(6, 2, generator=seeded()))
    assert math.isnan(found["circuits_alignment"])
    assert found["circuits_alignment_undefined"] == 1
    assert found["circuits_distinct_total"] > 1


def test_the_alignment_can_be_left_out() -> None:
    found = measured(chain(4, 6, 3), torch.randn(9, 4, generator=seeded()), max_gradients=0)
    assert math.isnan(found["circuits_alignment"])
    assert found["circuits_alignment_undefined"] == -1


def test_hooks_and_gradients_of_the_training_are_untouched() -> None:
    model, x = chain(4, 6, 3), torch.randn(9, 4, generator=seeded())
    calls: list[Sequence[Any]] = []
    model[0].register_full_backward_hook(lambda *given: calls.append(given))
    model[2].register_full_backward_pre_hook(lambda *given: calls.append(given))
    model[2].weight.register_post_accumulate_grad_hook(lambda *given: calls.append(given))
    model(x.clone().requires_grad_()).sum().backward()
    before, n_calls = [parameter.grad.clone() for parameter in model.parameters()], len(calls)
    found = measured(model, x)
    assert found["circuits_alignment_undefined"] == 0
    assert len(calls) == n_calls == 3
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.grad, gradient)
    model(x.clone().requires_grad_()).sum().backward()
    assert len(calls) == 2 * n_calls  # the hooks are there again


def test_modules_that_write_to_their_input() -> None:
    x = torch.randn(9, 4, generator=seeded())
    model = nn.Sequential(nn.ReLU(inplace=True), built(lambda: nn.Linear(4, 3)))
    kept = x.clone()
    found = measured(model, x)
    assert found["circuits_alignment_undefined"] == 0
    assert torch.equal(x, kept)
