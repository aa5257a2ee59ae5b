import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from cases import complex_numbers
from helpers import built, seeded
from torch import Tensor, nn

from probe import LMNProbe
from probe.geometry import PairwiseLinearity, linear_mapping_number, linearity, pairwise_linearity
from probe.layer_probe import random_rows

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
    """Pair by pair and output by output, with numpy's correlation coefficient and eigenvalues; 1 for what stays."""
    matrix = np.eye(len(h))
    for i in range(len(h)):
        for j in range(i + 1, len(h)):
            lam = np.linspace(0, 1, n_points)
            with torch.no_grad():
                y = np.stack([tail(h[i] + float(share) * (h[j] - h[i])).numpy() for share in lam])
            matrix[i, j] = matrix[j, i] = np.mean(
                [1.0 if np.ptp(column) == 0 else np.corrcoef(column, lam)[0, 1] ** 2 for column in y.T]
            )
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


def pairwise(function: Callable[[Tensor], Tensor], h: Tensor, n_points: int = 21, **kwargs: Any) -> PairwiseLinearity:
    lam = torch.linspace(0, 1, n_points, dtype=torch.float64)
    return pairwise_linearity(lambda points, first: function(points), h, function(h), lam, **kwargs)


def bent(h: Tensor) -> Tensor:
    """Four outputs with offsets: one nearly straight, one bent, one that hardly moves, one constant."""
    return torch.stack(
        [5 * h[:, 0] + 0.1 * h[:, 1].sin(), h[:, 1].abs() + 30, 1e-3 * h[:, 2].cos() + 1, 0 * h[:, 0]], 1
    )


def test_weighted_linearity_is_the_share_of_the_whole_variance() -> None:
    straight, tent = 3 - 2 * LAM, (2 * LAM - 1).abs()  # the correlation of a tent with lam is 0
    y = torch.stack([straight, 5 * tent, torch.full_like(LAM, 7.0)], 1)[None]
    variance = np.var(straight.numpy()), np.var(5 * tent.numpy())
    assert linearity(y, LAM, weighted=True).item() == pytest.approx(variance[0] / sum(variance))
    assert linearity(y[..., :1], LAM, weighted=True).item() == pytest.approx(1)
    assert linearity(y[..., 2:], LAM, weighted=True).item() == 1


def test_rotations_of_the_output_leave_the_weighted_number_alone() -> None:
    h = samples(20, 3)
    turn = torch.linalg.qr(samples(4, 4, seed=2)).Q
    one, other = pairwise(bent, h), pairwise(lambda points: bent(points) @ turn, h)
    torch.testing.assert_close(one.weighted, other.weighted, atol=1e-12, rtol=0)
    assert abs(linear_mapping_number(one.mean) - linear_mapping_number(other.mean)) > 0.1


@pytest.mark.parametrize("rows", [1, 50, 10**6])
@pytest.mark.parametrize("n_points", [3, 5, 21])
def test_pairs_agree_with_the_correlation_coefficient(rows: int, n_points: int) -> None:
    h, lam = samples(7, 3), torch.linspace(0, 1, n_points, dtype=torch.float64)
    found = pairwise(lambda points: bent(points)[:, :3], h, n_points, batch_size=rows).mean
    for i in range(7):
        for j in range(i):
            y = bent(h[i] + lam[:, None] * (h[j] - h[i])).numpy()[:, :3]
            expected = np.mean([np.corrcoef(column, lam)[0, 1] ** 2 for column in y.T])
            assert found[i, j].item() == found[j, i].item() == pytest.approx(expected, abs=1e-9)
    assert found.diagonal().tolist() == [1] * 7


def test_float32_agrees_with_float64() -> None:
    net = built(lambda: nn.Sequential(nn.Linear(10, 40), nn.SiLU(), nn.Linear(40, 7)))
    h = 5 * samples(40, 10)
    with torch.no_grad():
        single = pairwise(net, h.float())
        double = pairwise(net.double(), h)
    assert single.mean.min() < 0.5
    torch.testing.assert_close(single.mean, double.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(single.weighted, double.weighted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_size_of_the_outputs_does_not_matter_in_float32(size: float) -> None:
    h, scale = samples(10, 3).float(), torch.tensor([1, size])
    plain = pairwise(lambda points: bent(points)[:, :2], h).mean
    torch.testing.assert_close(pairwise(lambda points: bent(points)[:, :2] * scale, h).mean, plain, atol=1e-5, rtol=0)


def test_way_that_an_output_moves() -> None:
    h = torch.tensor([[0.0], [1.0], [5.0]])
    assert pairwise(lambda points: 3 * points + 1, h).max_change == pytest.approx(15)
    assert pairwise(lambda points: 0 * points + 1, h).max_change == 0


@pytest.mark.parametrize(("pieces", "expected"), [(1, 1.00), (2, 5.83), (4, 12.0), (8, 24.5), (16, 46.0)])
def test_number_does_not_count_the_pieces_of_a_hat(pieces: int, expected: float) -> None:
    def hats(h: Tensor) -> Tensor:
        return 1 - (torch.remainder(h * pieces, 2) - 1).abs()

    found = pairwise(hats, torch.linspace(0, 1, 257, dtype=torch.float64)[:, None]).mean
    assert linear_mapping_number(found).item() == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize(("function", "expected"), [(torch.relu, 2.11), (torch.abs, 5.35)])
def test_two_regions_have_the_recorded_number(function: Callable[[Tensor], Tensor], expected: float) -> None:
    found = pairwise(function, torch.linspace(-1, 1, 41, dtype=torch.float64)[:, None]).mean
    assert linear_mapping_number(found).item() == pytest.approx(expected, abs=0.005)


def test_output_of_the_first_sample_stays_where_there_are_other_ways() -> None:
    h = samples(6, 2)
    lam = torch.linspace(0, 1, 5, dtype=torch.float64)

    def tail(points: Tensor, first: Tensor) -> Tensor:
        kept = h[first].repeat(len(points) // len(first), 1)
        return points.sin() * kept

    found = pairwise_linearity(tail, h, tail(h, torch.arange(6)), lam, depends_on_first=True, batch_size=12).mean
    for i in range(6):
        for j in range(i + 1, 6):
            y = torch.stack([(h[i] + share * (h[j] - h[i])).sin() * h[i] for share in lam]).numpy()
            expected = np.mean([np.corrcoef(column, lam)[0, 1] ** 2 for column in y.T])
            assert found[i, j].item() == pytest.approx(expected, abs=1e-9)


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
    series = measured(model, samples(40, 6).float(), n_points=n_points, max_samples=20, max_rows=10**5)
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
    found = [number(model, 3 * samples(64, 6).float(), max_samples=n, max_rows=10**5) for n in (8, 16, 32, 64)]
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


def test_input_can_be_the_layer() -> None:
    model, x = built(lambda: nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))).double(), 3 * samples(9, 6)
    assert number(model, x, layers="<input>") == pytest.approx(naive(model, x, 5), abs=1e-9)
    assert number(nn.Linear(6, 3), x.float()) == pytest.approx(1, abs=1e-5)  # a bare layer is all tail


def four() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 9), nn.SiLU(), nn.Linear(9, 5), nn.Tanh())


@pytest.mark.parametrize(("layer", "output"), [("0", "1"), ("0", "3"), ("1", "3:silu"), ("2", "5"), ("0:", "3")])
def test_lines_between_any_two_layers(layer: str, output: str) -> None:
    model, x = built(four).double(), 3 * samples(9, 6)
    layer = "1:tanh->" if layer == "0:" else layer
    first, last = int(layer[0]), int(output[0]) - (":" in output)
    expected = naive(model[first + 1 : last + 1], model[: first + 1](x).detach(), 5)
    series = measured(model, x, layers=layer, output=output)
    assert series["linear_mapping_number"].item() == pytest.approx(expected, abs=1e-9)
    assert series["linear_mapping_number"].attrs["output"] == output


@pytest.mark.parametrize(("layer", "output"), [("3", "1"), ("3", "3"), ("<output>", "<output>"), ("5", "<input>")])
def test_layers_in_the_wrong_order_are_an_error(layer: str, output: str) -> None:
    with pytest.raises(ValueError, match=f"got layer '{layer}', which does not come before output='{output}'"):
        measured(built(four), samples(9, 6).float(), layers=layer, output=output)


def test_output_that_does_not_fire_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Expected output= to name one of <input>, 0, .* got '6'"):
        measured(built(four), samples(9, 6).float(), output="6")


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


@pytest.mark.parametrize("reduce", [None, "flatten"])
def test_convolutional_network_agrees_with_a_naive_pair_loop(reduce: str | None) -> None:
    model, x = built(convolutional).double(), 3 * samples(7, 2, 6, 6)
    h = model[:2](x).detach()
    expected = naive(lambda row: model[2:](row[None])[0], h, 5)
    assert number(model, x, reduce=reduce) == pytest.approx(expected, abs=1e-9)
    between = measured(model, x, output="3", reduce=reduce)
    rows = (lambda y: y.flatten(1)) if reduce else (lambda y: y.mean((2, 3)))
    expected = naive(lambda row: rows(model[2:4](row[None]))[0], h, 5)
    assert between["linear_mapping_number"].item() == pytest.approx(expected, abs=1e-9)
    assert "1 (4, 4, 4)" in between["linear_mapping_number"].attrs["lines"]


def test_reduction_that_splits_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected one row for each of 25 outputs, got 100 rows from reduce='tokens'"):
        measured(built(convolutional), samples(25, 2, 6, 6).float(), output="2", reduce="tokens")


def counted(module: nn.Module) -> list[int]:
    """The rows of each pass through a module from now on."""
    seen: list[int] = []
    module.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


@pytest.mark.parametrize(("max_rows", "splits", "n"), [(4096, 1, 45), (4096, 2, 31), (10**6, 2, 50), (100, 1, 6)])
@pytest.mark.parametrize("around", [False, True])
def test_forward_rows_stay_within_the_budget(max_rows: int, splits: int, n: int, around: bool) -> None:
    early, late = nn.Identity(), nn.Identity()
    tail = [nn.Linear(6, 9), nn.Tanh(), late, nn.Linear(9, 3)]
    model = built(lambda: Skip(nn.Sequential(*tail)) if around else nn.Sequential(nn.Linear(6, 6), early, *tail))
    data = {f"split {k}": (samples(60, 6, seed=k).float(), None) for k in range(splits)}
    parameters: dict[str, Any] = {"max_samples": 50, "max_rows": max_rows, "layers": "branch" if around else "1"}
    probe = LMNProbe(**parameters).attach(model, data, batch_size=64, on_error="raise")
    before, behind = counted(early), counted(late)
    probe.observe(0)
    pairs = n * (n - 1) // 2
    points = 4 if around else 3  # both ends are known where there is one way only, and nothing but the tail runs
    assert 0 <= sum(behind) - splits * (2 * n - 1 + pairs * points) <= 40 * splits  # those that try the model
    if not around:
        assert 0 <= sum(before) - splits * n <= 40 * splits
    most = [splits * (3 * k + k * (k - 1) // 2 * 4) for k in (n, n + 1)]
    assert most[0] <= max_rows
    assert n == 50 or most[1] > max_rows  # one more would not fit
    assert probe.series_["linear_mapping_number"].attrs["n_rows"] == n
    assert probe.series_["linear_mapping_number"].attrs["n_points"] == 5


def test_all_splits_use_as_many_samples_as_the_smallest_has() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)))
    data = {"train": (samples(60, 6).float(), None), "test": (samples(11, 6).float(), None)}
    series = LMNProbe().fit(model, data).series_
    assert series["linear_mapping_number"].attrs["n_rows"] == 11
    assert series["linear_mapping_number"].dims == ("step", "split", "layer")


def test_same_samples_at_every_step_and_others_for_another_random_state() -> None:
    model, x = built(Functional), 3 * samples(60, 6).float()
    probe = LMNProbe(max_samples=10).attach(model, (x, None)).observe(0).observe(1)
    one, two = probe.series_["linear_mapping_number"].values.ravel()
    assert one == two
    assert number(model, x, max_samples=10, random_state=1) != one


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
    assert np.isnan(series["linear_mapping_number_weighted"].item())
    assert series["linear_mapping_number_still"].item() == -1
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
        ("aside", "got 'aside', which changes nothing in the output"),
        ("unused", "a layer that fires for the first 2 inputs of a split, got 'unused', which does not"),
        ("rounded", "floating-point numbers in layer 'rounded', got a layer that holds integers"),
        ("turned", r"Expected one row for each of 2 inputs, got layer 'turned' of shape \(6, 2\)"),
    ],
)
def test_layer_that_no_line_goes_through_is_an_error(layer: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(built(Odd), samples(12, 6).float(), layers=layer)


def test_complex_numbers_are_named_as_the_reason() -> None:
    model, (x, _) = complex_numbers()
    with pytest.raises(ValueError, match="numbers in layer 'second', got a layer that holds complex numbers"):
        measured(model, x, layers="second")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_points": 2}, "Expected n_points >= 3, got 2"),
        ({"max_samples": 1}, "2 or more samples .* with max_samples=1 "),
        ({"max_rows": 5}, "got 1 with .* max_rows=5"),
        ({"max_rows": 0}, "got 0 with .* max_rows=0"),
        ({"layers": "nowhere"}, "selects no layer"),
    ],
)
def test_parameters_that_leave_nothing_to_measure_are_errors(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(built(Functional), samples(12, 6).float(), **parameters)


class Twice(nn.Module):
    """The value of the layer goes through an affine layer, and another way as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.first(x))
        return self.second(h) * h


def test_affine_layer_is_not_gone_through_where_the_value_is_used_twice() -> None:
    model, x = built(Twice).double(), 3 * samples(9, 6)
    series = measured(model, x)
    h = model.act(model.first(x)).detach()
    expected = naive(lambda h: model.second(h) * h, h, 5)
    assert series["layer"].values.tolist() == ["act"]
    assert series["linear_mapping_number"].item() == pytest.approx(expected, abs=1e-9)
    assert series["linear_mapping_number_around"].item() == 0


@pytest.mark.parametrize("after", [False, True])
def test_affine_layer_with_a_hook_is_not_gone_through(after: bool) -> None:
    model, x = built(four).double(), 3 * samples(9, 6)
    h = model[:2](x).detach()
    if after:
        model[2].register_forward_hook(lambda module, args, output: output.sin())
    else:
        model[2].register_forward_pre_hook(lambda module, args: (3 * args[0]).sin())
    assert number(model, x) == pytest.approx(naive(model[2:], h, 5), abs=1e-9)


def test_affine_layer_runs_once_for_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = built(four), samples(40, 6).float()
    probe, seen, forward = LMNProbe(max_samples=40).attach(model, (x, None), on_error="raise"), [], nn.Linear.forward

    def counting(self: nn.Linear, x: Tensor) -> Tensor:
        seen.append(len(x) if self is model[2] else 0)
        return forward(self, x)

    monkeypatch.setattr(nn.Linear, "forward", counting)  # a hook would have it looked upon as no longer affine
    probe.observe(0)
    assert 40 <= sum(seen) <= 80  # of 40 samples and of what tries the model, not of 780 lines


def test_other_ways_around_the_layer_are_flagged() -> None:
    model = built(lambda: Skip(nn.Linear(6, 3)))
    x = samples(20, 6).float()
    assert measured(model, x, layers="branch")["linear_mapping_number_around"].item() == 1
    assert measured(model, x, layers="tail")["linear_mapping_number_around"].item() == 0


class Noisy(nn.Module):
    """Dropout that ignores evaluation mode, before or after the layer."""

    def __init__(self, before: float, after: float) -> None:
        super().__init__()
        self.one, self.act, self.two = nn.Linear(6, 50), nn.Tanh(), nn.Linear(50, 3)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(F.dropout(self.one(x), self.before, training=True))
        return self.two(F.dropout(h, self.after, training=True))


@pytest.mark.parametrize(("before", "after", "flag"), [(0, 0, 0), (0.1, 0, 1), (0, 0.1, 1)])
def test_model_that_is_not_repeatable_is_flagged(before: float, after: float, flag: int) -> None:
    series = measured(built(lambda: Noisy(before, after)), samples(20, 6).float())
    assert series["linear_mapping_number_unrepeatable"].item() == flag


def test_dropout_in_training_is_measured_in_evaluation_mode_and_left_in_training() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 9), nn.ReLU())

    model, x = built(make).double().train(), 3 * samples(12, 6)
    series = measured(model, x)
    assert all(module.training for module in model.modules())
    expected = naive(lambda h: model[4](model[3](h)), model[:2](x).detach(), 5)
    assert series["linear_mapping_number"].item() == pytest.approx(expected, abs=1e-9)
    assert series["linear_mapping_number_unrepeatable"].item() == 0


def test_weighted_number_of_the_probe_is_that_of_a_rotated_output() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 4))

    model, x = built(make).double(), 5 * samples(15, 6)
    one = measured(model, x)
    turn = torch.linalg.qr(samples(4, 4, seed=3)).Q
    with torch.no_grad():
        model[4].weight.copy_(turn @ model[4].weight)
    other = measured(model, x)
    name = "linear_mapping_number_weighted"
    assert one[name].item() == pytest.approx(other[name].item(), abs=1e-9)
    assert abs(one["linear_mapping_number"].item() - other["linear_mapping_number"].item()) > 1e-3


def test_series_states_that_all_positions_move_together() -> None:
    attrs = measured(built(transformer), samples(8, 3, 8).float())["linear_mapping_number"].attrs
    assert "all positions, move together: layers.0 (3, 8)" in attrs["lines"]
    assert attrs["output"] == "<output>"


# -- layers with several calls -------------------------------------------------------------------------------------


def naive_around(tail: Callable[[Tensor, int], Tensor], h: Tensor, n_points: int = 5) -> float:
    """Pair by pair, where ``tail(point, first)`` also depends on the first sample of a pair."""
    matrix = np.eye(len(h))
    lam = np.linspace(0, 1, n_points)
    for i in range(len(h)):
        for j in range(i + 1, len(h)):
            with torch.no_grad():
                y = np.stack([tail(h[i] + float(share) * (h[j] - h[i]), i).numpy() for share in lam])
            matrix[i, j] = matrix[j, i] = np.mean([np.corrcoef(column, lam)[0, 1] ** 2 for column in y.T])
    share = np.abs(np.linalg.eigvalsh(matrix))
    return float(2 ** -(share / share.sum() * np.log2(share / share.sum())).sum())


class Bent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(2 * self.up(x)))


class Universal(nn.Module):
    """One block that is called four times."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Bent(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = self.block(x)
        return self.head(x)


def test_lines_in_one_call_go_through_the_later_calls() -> None:
    model, x = built(Universal).double(), 3 * samples(12, 6)
    series = measured(model, x, layers="block", max_rows=10**5)
    h, expected = x, []
    for remaining in (3, 2, 1, 0):
        with torch.no_grad():
            h = model.block(h)

        def tail(point: Tensor, remaining: int = remaining) -> Tensor:
            for _ in range(remaining):
                point = model.block(point)
            return model.head(point)

        expected.append(naive(tail, h, 5))
    assert series["layer"].values.tolist() == ["block", "block.2", "block.3", "block.4"]
    assert series["linear_mapping_number"].values.tolist() == pytest.approx(expected, abs=1e-9)
    assert expected[0] > expected[2] + 0.5
    assert series["linear_mapping_number_around"].values.tolist() == [0] * 4


class Siamese(nn.Module):
    """Compares the encodings of two inputs, from two calls or from one call of the stacked pair."""

    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.encoder, self.head, self.stacked = Bent(), nn.Linear(6, 4), stacked

    def forward(self, x: Tensor) -> Tensor:
        encoded = self.encoder(x) if self.stacked else torch.stack([self.encoder(x[:, 0]), self.encoder(x[:, 1])], 1)
        return self.head((encoded[:, 0] - encoded[:, 1]).abs())


def test_lines_of_a_siamese_network_lie_in_one_branch_unless_the_pair_is_stacked() -> None:
    x = 3 * samples(10, 2, 6)
    two, one = built(lambda: Siamese(False)).double(), built(lambda: Siamese(True)).double()
    order = random_rows(10, 10, 0)  # which sample of a pair is the first one
    with torch.no_grad():
        a, b = two.encoder(x)[order].unbind(1)
    branches = [
        naive_around(lambda point, first: two.head((point - b[first]).abs()), a),
        naive_around(lambda point, first: two.head((a[first] - point).abs()), b),
    ]
    series = measured(two, x, layers="encoder", max_rows=10**5)
    assert series["linear_mapping_number"].values.tolist() == pytest.approx(branches, abs=1e-9)
    assert series["linear_mapping_number_around"].values.tolist() == [1, 1]
    both = naive(lambda point: two.head((point[0] - point[1]).abs()), torch.stack([a, b], 1), 5)
    assert number(one, x, layers="encoder") == pytest.approx(both, abs=1e-9)
    assert min(*branches, both) > 1.3
    assert series["layer"].values.tolist() == ["encoder", "encoder.2"]


class Oscillator(nn.Module):
    """Integrates a differential equation in fixed steps. The value also passes around each call of the field."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + 0.7 * self.field(x)
        return x


def test_lines_in_one_step_of_an_integrator_leave_the_other_steps_in_place() -> None:
    model, x = built(Oscillator).double(), 3 * samples(9, 3)
    order = random_rows(9, 9, 0)
    with torch.no_grad():
        start = x[order] + 0.7 * model.field(x[order])
        values = model.field(start)

    def tail(point: Tensor, first: int) -> Tensor:
        state = start[first] + 0.7 * point
        return state + 0.7 * model.field(state)

    found = measured(model, x, layers="field#2", max_rows=10**5)
    assert found["linear_mapping_number"].item() == pytest.approx(naive_around(tail, values), abs=1e-9)
    assert found["linear_mapping_number_around"].item() == 1
    assert measured(model, x)["layer"].values.tolist() == ["field"]


def test_output_can_be_a_later_call() -> None:
    model, x = built(Universal).double(), 3 * samples(9, 6)
    with torch.no_grad():
        h = model.block(x)
    series = measured(model, x, layers="block.1", output="block.3")
    expected = naive(lambda point: model.block(model.block(point)), h, 5)
    assert series["linear_mapping_number"].item() == pytest.approx(expected, abs=1e-9)
