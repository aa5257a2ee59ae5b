import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn

from probe import LMNProbe
from probe.measures.linear_mapping import linear_mapping_number, linearity

LAM = torch.linspace(0, 1, 21, dtype=torch.float64)
TWO_CLUSTERS = {  # along one line from -1 to +1, 21 points; recorded with an independent program
    "abs": (torch.abs, 2.0),
    "square": (torch.square, 2.0),
    "relu": (torch.relu, 1.385797),
    "sign": (torch.sign, 1.405650),
    "cube": (lambda h: h**3, 1.317374),
    "gelu": (F.gelu, 1.257538),
}


def samples(n: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(n, *shape, generator=seeded(seed), dtype=torch.float64)


def blocks(*sizes: int) -> Tensor:
    return torch.block_diag(*(torch.ones(n, n, dtype=torch.float64) for n in sizes))


class Tail(nn.Module):
    """A first layer where lines are drawn, and a function from there to the output."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


def measured(model: nn.Module, x: Any, **parameters: Any) -> xr.Dataset:
    return LMNProbe(**parameters).fit(model, (x, None)).series_.isel(step=0, split=0, drop=True)


def number(model: nn.Module, x: Any, **parameters: Any) -> float:
    return measured(model, x, **parameters)["linear_mapping_number"].item()


def naive(tail: Callable[[Tensor], Tensor], h: Tensor, n_points: int) -> float:
    """Pair by pair and output by output, with numpy's correlation coefficient and eigenvalues."""
    matrix = np.eye(len(h))
    for i in range(len(h)):
        for j in range(i + 1, len(h)):
            lam = np.linspace(0, 1, n_points)
            with torch.no_grad():
                y = np.stack([tail(h[i] + float(share) * (h[j] - h[i])).numpy() for share in lam])
            matrix[i, j] = matrix[j, i] = np.mean([np.corrcoef(column, lam)[0, 1] ** 2 for column in y.T])
    share = np.abs(np.linalg.eigvalsh(matrix))
    share = share[share > 0] / share.sum()
    return float(2 ** -(share * np.log2(share)).sum())


# -- the functions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((60,), 1), ((30, 30), 2), ((20,) * 3, 3), ((4,) * 5, 5), ((6,) * 10, 10), ((5, 10, 45), 2.057442)],
)
def test_blocks_of_samples_are_counted(sizes: tuple[int, ...], expected: float) -> None:
    assert linear_mapping_number(blocks(*sizes)).item() == pytest.approx(expected, abs=1e-6)
    order = torch.randperm(sum(sizes), generator=seeded())
    assert linear_mapping_number(blocks(*sizes)[order][:, order]).item() == pytest.approx(expected, abs=1e-6)


def test_number_lies_between_one_and_the_number_of_samples() -> None:
    assert linear_mapping_number(torch.eye(50, dtype=torch.float64)).item() == pytest.approx(50)
    for seed in range(5):
        half = torch.rand(50, 50, generator=seeded(seed), dtype=torch.float64).triu(1)
        assert 1 <= linear_mapping_number(half + half.T + torch.eye(50)).item() <= 50


def test_negative_eigenvalues_count_by_their_size() -> None:
    # eigenvalues 3, -1: shares 3/4 and 1/4
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    matrix = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    assert linear_mapping_number(matrix).item() == pytest.approx(2**entropy)


def test_equal_correlation_of_all_pairs_has_the_closed_form() -> None:
    # outputs without end that know nothing of lam: every entry is 1/20, with eigenvalues .05 n + .95 and .95
    n, floor = 200, 1 / 20
    p = np.array([floor * n + 1 - floor] + [1 - floor] * (n - 1)) / n
    matrix = torch.full((n, n), floor, dtype=torch.float64).fill_diagonal_(1)
    assert linear_mapping_number(matrix).item() == pytest.approx(2 ** -(p * np.log2(p)).sum())


def test_white_noise_has_the_recorded_number() -> None:
    n = 200
    i, j = torch.triu_indices(n, n, 1)
    y = torch.randn(len(i), 21, 31, generator=seeded(1))
    share = linearity(y, LAM)
    assert share.mean().item() == pytest.approx(1 / 20, rel=0.01)
    matrix = torch.eye(n, dtype=torch.float64)
    matrix[i, j] = matrix[j, i] = share
    assert linear_mapping_number(matrix).item() == pytest.approx(181.5, abs=0.5)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
def test_matrix_that_is_not_square_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="square"):
        linear_mapping_number(torch.ones(shape))


@pytest.mark.parametrize("name", TWO_CLUSTERS)
def test_linearity_along_one_line_is_the_squared_correlation(name: str) -> None:
    function, _ = TWO_CLUSTERS[name]
    y = function(2 * LAM - 1)
    expected = np.corrcoef(y.numpy(), LAM.numpy())[0, 1] ** 2
    assert linearity(y[None, :, None], LAM).item() == pytest.approx(expected, abs=1e-12)


def test_linearity_is_the_mean_over_outputs_and_one_for_constant_ones() -> None:
    outputs = torch.stack([3 - 2 * LAM, (2 * LAM - 1).abs(), torch.full_like(LAM, 7.0), torch.zeros(21)], 1)
    assert linearity(outputs[None], LAM).tolist() == pytest.approx([3 / 4])


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e10])
def test_rounding_around_a_constant_is_no_bend(size: float) -> None:
    rounding = 1 + 2.0**-24 * torch.randn(100, 21, 4, generator=seeded())
    assert linearity((size * rounding).float(), LAM).tolist() == [1.0] * 100
    assert linearity(size * (1 + 1e-5 * torch.randn(100, 21, 4, generator=seeded())), LAM).max() < 0.9


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
def test_offset_of_an_output_costs_its_rounding_only(offset: float) -> None:
    y = torch.randn(50, 21, 4, generator=seeded())
    torch.testing.assert_close(linearity(y + offset, LAM), linearity(y, LAM), atol=1e-6 * (1 + offset), rtol=0)


# -- the probe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWO_CLUSTERS)
def test_two_clusters_have_the_recorded_number(name: str) -> None:
    function, expected = TWO_CLUSTERS[name]
    x = torch.tensor([-1.0, 1.0]).repeat(6)[:, None]
    found = number(Tail(function), x, layers="first", n_points=21, max_rows=10**5)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n_points", [3, 5, 21])
def test_affine_tail_is_one_piece(n_points: int) -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 30), nn.Linear(30, 8)))
    series = measured(model, samples(40, 6).float(), n_points=n_points, n_samples=20, max_rows=10**5)
    assert series["layer"].values.tolist() == ["1"]
    assert series["linear_mapping_number"].item() == pytest.approx(1, abs=1e-4)


def test_constant_map_is_one_piece() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 4)))
    nn.init.zeros_(model[2].weight)
    assert number(model, samples(40, 6).float()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("n_points", [3, 5, 21])
def test_number_agrees_with_a_naive_pair_loop(n_points: int) -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 30), nn.SiLU(), nn.Linear(30, 20), nn.SiLU(), nn.Linear(20, 5)))
    model.double()
    with torch.no_grad():
        model[2].weight.mul_(4)
    x = 3 * samples(14, 6)
    h = model[1](model[0](x)).detach()
    found = number(model, x, n_points=n_points, max_rows=10**5)
    assert found == pytest.approx(naive(model[2:], h, n_points), abs=1e-9)
    assert found > 1.5


@pytest.mark.parametrize("batch_size", [1, 7, 10**5])
def test_batches_of_the_passes_do_not_matter(batch_size: int) -> None:
    model, x = built(lambda: nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 9), nn.ReLU())), samples(12, 6)
    probe = LMNProbe().attach(model.double(), (x, None), batch_size=batch_size, on_error="raise").observe(0)
    assert probe.series_["linear_mapping_number"].item() == pytest.approx(number(model, x), abs=1e-9)


def test_number_grows_with_the_number_of_samples() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)))
    with torch.no_grad():
        model[2].weight.mul_(5)
    found = [number(model, 3 * samples(64, 6).float(), n_samples=n, max_rows=10**5) for n in (8, 16, 32, 64)]
    assert found == sorted(found)
    assert all(1 < value < n for value, n in zip(found, (8, 16, 32, 64), strict=True))
    assert found[-1] > 1.5 * found[0]


class Skip(nn.Module):
    """A branch and a way around it."""

    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.branch, self.tail = nn.Linear(6, 6), tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(x + self.branch(x))


def test_way_around_the_layer_keeps_the_first_sample_on_the_whole_line() -> None:
    x = samples(20, 6)
    assert number(built(lambda: Skip(nn.Linear(6, 3))).double(), x, layers="branch") == pytest.approx(1, abs=1e-9)
    tail = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 3))
    assert number(built(lambda: Skip(tail)).double(), 5 * x, layers="branch") > 1.01


class FirstPosition(nn.Module):
    """What comes out is read from the first of three positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(2, 1)
        with torch.no_grad():
            self.embed.weight.copy_(torch.tensor([[-1.0], [1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)[:, 0].abs()


def test_all_positions_are_interpolated() -> None:
    x = torch.tensor([[0, 1, 0], [1, 1, 0]]).repeat(5, 1)
    assert number(FirstPosition(), x, layers="embed") == pytest.approx(2, abs=1e-6)


def transformer() -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def test_transformer_is_cut_after_its_first_block_and_agrees_with_a_naive_pair_loop() -> None:
    model, x = built(transformer).double().eval(), samples(8, 3, 8)
    series = measured(model, x)
    assert series["layer"].values.tolist() == ["layers.0"]
    with torch.no_grad():
        h = model.layers[0](x)
    expected = naive(lambda row: model.layers[1](row[None])[0, -1], h, 5)
    assert series["linear_mapping_number"].item() == pytest.approx(expected, abs=1e-9)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 20), nn.Linear(20, 20), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(F.silu(self.two(F.silu(self.one(x)))))


def test_functional_network_is_cut_after_its_first_activation() -> None:
    model, x = built(Functional).double(), samples(10, 6)
    series = measured(model, x)
    assert series["layer"].values.tolist() == [":silu->"]
    expected = naive(lambda h: model.three(F.silu(model.two(h))), F.silu(model.one(x)).detach(), 5)
    assert series["linear_mapping_number"].item() == pytest.approx(expected, abs=1e-9)


def test_first_block_comes_before_an_activation_in_the_stem() -> None:
    def make() -> nn.Module:
        block = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2)]
        return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Sequential(*block))

    assert measured(built(make), samples(10, 6).float())["layer"].values.tolist() == ["2.0"]


def test_network_without_activations_is_cut_after_its_first_layer() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)))
    assert measured(model, samples(10, 6).float())["layer"].values.tolist() == ["0"]


def test_input_and_output_can_be_the_layer() -> None:
    model, x = built(lambda: nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))).double(), 3 * samples(9, 6)
    found = measured(model, x, layers=["<input>", "<output>"])["linear_mapping_number"]
    assert found.sel(layer="<input>").item() == pytest.approx(naive(model, x, 5), abs=1e-9)
    assert found.sel(layer="<output>").item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("max_rows", "splits", "n"), [(4096, 1, 45), (4096, 2, 32), (10**6, 2, 50), (100, 1, 7)])
def test_forward_rows_stay_within_the_budget(max_rows: int, splits: int, n: int) -> None:
    model, rows = built(lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))), []
    data = {f"split {k}": (samples(60, 6, seed=k).float(), None) for k in range(splits)}
    probe = LMNProbe(n_samples=50, max_rows=max_rows).attach(model, data, batch_size=64, on_error="raise")
    handle = model[0].register_forward_hook(lambda m, a, out: rows.append(len(out)))
    probe.observe(0)
    handle.remove()
    assert sum(rows) == splits * (n + n * (n - 1) // 2 * 4) <= max_rows
    assert n == 50 or splits * (n + 1 + (n + 1) * n // 2 * 4) > max_rows  # one more would not fit
    assert probe.series_["linear_mapping_number"].attrs["n_samples"] == n
    assert probe.series_["linear_mapping_number"].attrs["n_points"] == 5


def test_all_splits_use_as_many_samples_as_the_smallest_has() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)))
    data = {"train": (samples(60, 6).float(), None), "test": (samples(11, 6).float(), None)}
    series = LMNProbe().fit(model, data).series_
    assert series["linear_mapping_number"].attrs["n_samples"] == 11
    assert series["linear_mapping_number"].dims == ("step", "split", "layer")


def test_same_samples_at_every_step_and_others_for_another_random_state() -> None:
    model, x = built(Functional), 3 * samples(60, 6).float()
    probe = LMNProbe(n_samples=10).attach(model, (x, None)).observe(0).observe(1)
    one, two = probe.series_["linear_mapping_number"].values.ravel()
    assert one == two
    assert number(model, x, n_samples=10, random_state=1) != one


def test_half_precision_network_is_measured_nearly_as_the_full_one() -> None:
    model, x = built(Functional), 3 * samples(20, 6).float()
    with torch.no_grad():
        model.two.weight.mul_(4)
    full = number(model, x)
    assert number(model.bfloat16(), x.bfloat16()) == pytest.approx(full, rel=0.05)


@pytest.mark.parametrize("bad", [torch.log, lambda h: h / 0, lambda h: torch.exp(1e5 * h)])
def test_outputs_that_are_not_finite_are_flagged(bad: Callable[[Tensor], Tensor]) -> None:
    series = measured(Tail(bad), samples(10, 3), layers="first")
    assert series["linear_mapping_number_nonfinite"].item() == 1
    assert np.isnan(series["linear_mapping_number"].item())
    assert measured(Tail(torch.sin), samples(10, 3), layers="first")["linear_mapping_number_nonfinite"].item() == 0


class Odd(nn.Module):
    """Layers that no line can be drawn through."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.aside, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.rounded, self.turned = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.used(x))
        self.aside(h)
        self.rounded(h.long())
        return self.turned(h.T).T


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("aside", "'aside' changes nothing in the output"),
        ("unused", "'unused' does not fire"),
        ("rounded", "'rounded' does not fire, or returns integers"),
        ("turned", r"'turned' has shape \(6, 12\) for 12 inputs"),
    ],
)
def test_layer_that_no_line_goes_through_is_an_error(layer: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(built(Odd), samples(12, 6).float(), layers=layer)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_points": 2}, "n_points must be at least 3"),
        ({"n_samples": 1}, "n_samples=1 .* at least 2"),
        ({"max_rows": 5}, "max_rows=5 leave 1 samples"),
        ({"layers": "nowhere"}, "selects no layer"),
    ],
)
def test_parameters_that_leave_nothing_to_measure_are_errors(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(built(Functional), samples(12, 6).float(), **parameters)
