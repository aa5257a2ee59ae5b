import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from probe import LocalComplexityProbe
from probe.measures.local_complexity import orthonormal_frame, sign_changes


def points(n: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(n, *shape, generator=seeded(seed), dtype=torch.float64)


def frame(n_directions: int, dimension: int, random_state: int = 0) -> Tensor:
    return orthonormal_frame(n_directions, dimension, generator=seeded(random_state))


def measured(model: nn.Module, x: Any, **parameters: Any) -> xr.Dataset:
    return LocalComplexityProbe(**parameters).fit(model, (x, None)).series_.isel(step=0, split=0, drop=True)


def each_point(model: nn.Module, x: Tensor, **parameters: Any) -> xr.DataArray:
    """The probe's count at each single point: a split for each, that holds it twice. (point, layer)"""
    data = {str(i): (torch.stack([row, row]), None) for i, row in enumerate(x)}
    probe = LocalComplexityProbe(**parameters, max_rows=10**6).fit(model, data)
    return probe.series_["local_complexity"].isel(step=0, drop=True)


def mlp(width: int = 40, activation: type[nn.Module] = nn.ReLU, inputs: int = 12) -> Any:
    return built(
        lambda: nn.Sequential(
            *(nn.Linear(inputs, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 3))
        ).double()
    )


def naive(model: nn.Module, x: Tensor, layers: list[nn.Module], vertices: Tensor) -> list[list[int]]:
    """Hooks on the layers that make pre-activations; vertex by vertex, unit by unit. (point, layer)"""
    counts = []
    for row in x:
        signs: list[list[list[float]]] = [[] for _ in layers]
        for offset in vertices:
            seen: list[Tensor] = []
            handles = [layer.register_forward_hook(lambda m, a, out, seen=seen: seen.append(out)) for layer in layers]
            with torch.no_grad():
                model((row + offset)[None])
            for handle in handles:
                handle.remove()
            for k, out in enumerate(seen):
                signs[k].append([math.copysign(1, v) if v else 0.0 for v in out.flatten().tolist()])
        counts.append([sum(len(set(unit)) > 1 for unit in zip(*layer, strict=True)) for layer in signs])
    return counts


@pytest.mark.parametrize("radius", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("n_directions", [1, 4, 12])
def test_first_layer_counts_the_hyperplanes_that_the_neighbourhood_meets(n_directions: int, radius: float) -> None:
    model, x = mlp(), points(60, 12)
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    reach = radius * (weight @ frame(n_directions, 12, 3).T).abs().amax(1)  # of each unit's form over the vertices
    expected = ((x @ weight.T + bias).abs() < reach).sum(1)
    found = each_point(model, x, radius=radius, relative=False, n_directions=n_directions, random_state=3)
    assert found.sel(layer="1:relu").values.tolist() == expected.tolist()
    assert 0 < expected.double().mean() < 40


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
def test_counts_agree_with_a_naive_twin_at_every_point(activation: type[nn.Module]) -> None:
    model, x = mlp(20, activation), points(25, 12)
    directions = frame(5, 12)
    vertices = 0.7 * torch.cat([directions, -directions])
    found = each_point(model, x, radius=0.7, relative=False, n_directions=5)
    assert found.values.tolist() == naive(model, x, [model[0], model[2]], vertices)


@pytest.mark.parametrize(("n_directions", "radius"), [(1, 0.5), (2, 0.5), (16, 0.5), (16, 0.05)])
def test_random_first_layer_at_the_origin_has_the_gaussian_share_of_crossings(n_directions: int, radius: float) -> None:
    units, d = 20_000, 16
    first = nn.Linear(d, units)
    with torch.no_grad():
        first.weight.normal_(generator=seeded(1))
        first.bias.normal_(generator=seeded(2))

    def missed(b: float) -> float:  # density of the bias, times the chance that no direction reaches it
        return 2 * norm.pdf(b) * (2 * norm.cdf(b / radius) - 1) ** n_directions

    expected = 1 - quad(missed, 0, 12)[0]
    if n_directions == 1:
        assert expected == pytest.approx(2 / math.pi * math.atan(radius), abs=1e-6)
    x = torch.zeros(2, d)
    series = measured(nn.Sequential(first, nn.ReLU()), x, radius=radius, relative=False, n_directions=n_directions)
    share = series["local_complexity"].item() / units
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / units)


@pytest.mark.parametrize("n_directions", [1, 3])
@pytest.mark.parametrize("radius", [1e-4, 10.0])
def test_linear_network_finds_every_hyperplane_at_the_origin(n_directions: int, radius: float) -> None:
    layers = built(lambda: [nn.Linear(20, 20, bias=False) for _ in range(12)])
    found = measured(
        nn.Sequential(*layers),
        torch.zeros(3, 20),
        layers=nn.Linear,
        radius=radius,
        relative=False,
        n_directions=n_directions,
    )
    assert found["local_complexity"].values.tolist() == [20] * 12
    assert found["local_complexity_total"].item() == 240
    assert found["local_complexity_total_se"].item() == 0


class Hat(nn.Module):
    """x -> 2 relu(x) - 4 relu(x - 1/2), folded: 2^depth linear pieces on [0, 1] of 2 units each layer."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.depth):
            units = F.relu(torch.cat([x, x - 0.5], 1))
            x = 2 * units[:, :1] - 4 * units[:, 1:]
        return x


@pytest.mark.parametrize(
    ("centre", "radius", "expected"),
    [
        (0.5, 0.49, [1, 0, 0]),  # 7 breakpoints, but only the ends are seen: folds are invisible
        (0.25, 0.2, [0, 1, 0]),
        (0.125, 0.1, [0, 0, 1]),
        (0.3, 0.01, [0, 0, 0]),
    ],
)
def test_hat_network_counts_units_not_folds(centre: float, radius: float, expected: list[int]) -> None:
    x = torch.full((2, 1), centre)
    found = measured(Hat(3), x, radius=radius, relative=False)
    assert found["layer"].values.tolist() == [":relu", ":relu.2", ":relu.3"]
    assert found["local_complexity"].values.tolist() == expected


def test_never_more_than_the_units_whose_zero_set_meets_the_neighbourhood() -> None:
    model, x = mlp(30, inputs=2), points(20, 2)
    radius, directions = 0.8, frame(2, 2)
    found = each_point(model, x, radius=radius, relative=False, n_directions=2)
    share = torch.linspace(0, 1, 81, dtype=torch.float64)
    a, b = torch.meshgrid(share, share, indexing="ij")
    signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    inside = torch.cat(
        [(s * a[a + b <= 1])[:, None] * directions[0] + (t * b[a + b <= 1])[:, None] * directions[1] for s, t in signs]
    )
    for row, counts in zip(x, found.values, strict=True):
        z1 = model[0](row + radius * inside)
        z2 = model[2](model[1](z1))
        meeting = [int((z.amin(0) * z.amax(0) < 0).sum()) for z in (z1, z2)]
        assert (counts <= meeting).all()
        assert counts[0] == meeting[0]  # nothing bends before the first layer
    assert found.sum() > 0


@pytest.mark.parametrize("radius", [1e-3, 1.0, 1e6])
def test_never_more_than_the_number_of_units(radius: float) -> None:
    found = measured(mlp(), points(40, 12), radius=radius, relative=False)
    assert (found["local_complexity"] <= 40).all()
    assert found["local_complexity_total"].item() == pytest.approx(found["local_complexity"].sum().item())


def test_copies_of_units_double_the_count() -> None:
    model, x = mlp(), points(40, 12)
    double = nn.Sequential(nn.Linear(12, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 3)).double()
    with torch.no_grad():
        double[0].weight.copy_(model[0].weight.repeat(2, 1))
        double[0].bias.copy_(model[0].bias.repeat(2))
        double[2].weight.copy_(model[2].weight.repeat(2, 2) / 2)  # the same function
        double[2].bias.copy_(model[2].bias.repeat(2))
    one, two = measured(model, x, n_directions=6), measured(double, x, n_directions=6)
    np.testing.assert_array_equal(two["local_complexity"], 2 * one["local_complexity"])
    assert one["local_complexity"].min() > 0


def test_exact_zeros_are_a_sign_of_their_own() -> None:
    z = torch.tensor(
        [  # one point, units: positive, negative, changes, zero, touches from above, from below
            [[1.0, -1.0, 1.0, 0.0, 0.0, 0.0], [2.0, -1.0, -1.0, -0.0, 3.0, -3.0], [3.0, -2.0, 2.0, 0.0, 1.0, -1.0]],
        ]
    )
    assert sign_changes(z).tolist() == [3]
    assert [sign_changes(z[..., k : k + 1]).item() for k in range(6)] == [0, 0, 1, 0, 1, 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_points_without_finite_numbers_have_no_count(bad: float) -> None:
    z = points(3, 4, 5, 2)
    z[1, 2, 3, 1] = bad
    assert sign_changes(z).isnan().tolist() == [False, True, False]


def test_pre_activations_may_have_any_shape_after_the_vertices() -> None:
    z = points(3, 4, 6)
    assert sign_changes(z.view(3, 4, 2, 3)).tolist() == sign_changes(z).tolist()
    assert sign_changes(z[:, :, 0]).tolist() == sign_changes(z[:, :, :1]).tolist()


# -- the frame -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "d"), [(1, 1), (3, 3), (25, 784)])
def test_frame_is_orthonormal_and_reproducible(p: int, d: int) -> None:
    state = torch.get_rng_state()
    directions = frame(p, d, 5)
    assert directions.shape == (p, d)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(directions @ directions.T, torch.eye(p, dtype=torch.float64), atol=1e-12, rtol=0)
    assert torch.equal(directions, frame(p, d, 5))
    assert d == 1 or not torch.equal(directions, frame(p, d, 6))


def test_frame_is_uniform_over_rotations() -> None:
    frames = torch.stack([frame(2, 2, seed) for seed in range(400)])
    assert abs((torch.linalg.det(frames) > 0).double().mean() - 0.5) < 4 * 0.5 / 20  # rotations and reflections
    assert frames.mean(0).abs().max() < 4 * math.sqrt(0.5) / 20


@pytest.mark.parametrize("n_directions", [13, 10**4, 0, -1])
def test_more_directions_than_dimensions_are_refused(n_directions: int) -> None:
    with pytest.raises(ValueError, match=f"{n_directions} directions .* from 1 to 12"):
        orthonormal_frame(n_directions, 12)
    with pytest.raises(ValueError, match=f"{n_directions} directions .* from 1 to 12"):
        measured(mlp(), points(5, 12), n_directions=n_directions)


@pytest.mark.parametrize("radius", [0, -1.0, math.nan])
def test_radius_that_is_not_positive_is_an_error(radius: float) -> None:
    with pytest.raises(ValueError, match="radius must be positive"):
        measured(mlp(), points(5, 12), radius=radius)


def test_relative_radius_of_points_at_the_origin_is_an_error() -> None:
    with pytest.raises(ValueError, match="mean norm 0"):
        measured(mlp(), torch.zeros(5, 12, dtype=torch.float64))


@pytest.mark.parametrize("factor", [2.0**-20, 8.0, 2.0**20])
def test_relative_radius_follows_the_scale_of_the_input(factor: float) -> None:
    model, x = built(lambda: nn.Sequential(nn.Linear(12, 60, bias=False), nn.ReLU())), points(50, 12).float()
    one, other = measured(model, x), measured(model, factor * x)
    assert one["local_complexity"].item() == other["local_complexity"].item() > 0
    assert other["local_complexity_radius"].item() == pytest.approx(factor * one["local_complexity_radius"].item())
    fixed = [measured(model, c * x, radius=0.3, relative=False)["local_complexity"].item() for c in (1, factor)]
    assert fixed[0] != fixed[1]


def test_radius_is_a_share_of_the_mean_norm_of_the_measured_points() -> None:
    x = points(30, 12)
    found = measured(mlp(), x, radius=0.2)
    assert found["local_complexity_radius"].item() == pytest.approx(0.2 * x.norm(dim=1).mean().item())


# -- models --------------------------------------------------------------------------------------------------------


class Tokens(nn.Module):
    """Two tokens -> embeddings, side by side -> hidden units, by a functional activation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.first = nn.Linear(10, 30)
        self.head = nn.Linear(30, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.first(self.embed(x).flatten(1))))


def test_neighbourhood_of_tokens_lies_in_the_embedding() -> None:
    model, x = built(Tokens).double(), torch.randint(7, (20, 2), generator=seeded(1))
    centres = model.embed(x).flatten(1).detach()
    radius = 0.1 * centres.norm(dim=1).mean()
    weight = model.first.weight.detach()
    reach = radius * (weight @ frame(10, 10).T).abs().amax(1)
    expected = (model.first(centres).abs() < reach).double().sum(1).mean().item()
    found = measured(model, x)
    assert found["layer"].values.tolist() == [":gelu"]
    assert found["local_complexity"].item() == pytest.approx(expected)
    assert found["local_complexity_radius"].item() == pytest.approx(radius.item())


def test_each_position_of_a_convolution_is_a_unit() -> None:
    model = built(lambda: nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)))
    found = measured(model, torch.zeros(4, 1, 8, 8), relative=False, n_directions=2)
    assert found["local_complexity"].item() == 4 * 6 * 6  # all hyperplanes pass through the origin


def test_functions_and_modules_count_alike() -> None:
    model, x = mlp(), points(20, 12)

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = model[0], model[2], model[4]

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.second(F.relu(self.first(x)))))

    found, expected = measured(Functional(), x), measured(model, x)
    assert found["layer"].values.tolist() == [":relu", ":relu.2"]
    assert expected["layer"].values.tolist() == ["1:relu", "3:relu"]
    np.testing.assert_array_equal(found["local_complexity"], expected["local_complexity"])


def test_named_layers_are_counted_by_their_activations_or_else_by_their_output() -> None:
    model, x = mlp(), points(20, 12)
    everything, by_module = measured(model, x), measured(model, x, layers=["3", "4"])
    assert by_module["layer"].values.tolist() == ["3:relu", "4"]
    by_output = measured(model, x, layers=["0", "2"])  # what goes into the activations
    np.testing.assert_array_equal(by_output["local_complexity"], everything["local_complexity"])
    assert by_module["local_complexity"][0] == everything["local_complexity"][1]


def test_layer_does_not_claim_the_activations_of_one_whose_name_begins_like_its_own() -> None:
    model = built(lambda: nn.Sequential(*(nn.Linear(12, 12) if k % 2 == 0 else nn.ReLU() for k in range(12)))).double()
    assert measured(model, points(20, 12), layers="1")["layer"].values.tolist() == ["1:relu"]


def test_twenty_five_directions_or_as_many_as_there_are() -> None:
    for inputs, expected in ((40, 25), (9, 9)):
        model, x = mlp(inputs=inputs), points(40, inputs)
        default, given, fewer = (measured(model, x, n_directions=p) for p in (None, expected, expected - 1))
        np.testing.assert_array_equal(default["local_complexity"], given["local_complexity"])
        assert (default["local_complexity"] != fewer["local_complexity"]).any()


def test_outputs_without_a_feature_axis_are_one_unit() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Flatten(0))
    assert measured(model, torch.zeros(3, 4), layers="1", relative=False)["local_complexity"].item() == 1


def test_model_without_activations_needs_layers() -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 3)).double()
    with pytest.raises(ValueError, match=r"no activation function .*layers=\.\.\."):
        measured(model, points(5, 12))
    assert measured(model, points(5, 12), layers="0")["local_complexity"].item() >= 0


class Positions(nn.Module):
    """The first layer with floating-point output is the table of positions, the same for all inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.position, self.embed, self.mlp = nn.Embedding(3, 4), nn.Embedding(7, 4), nn.Linear(4, 9)

    def forward(self, x: Tensor) -> Tensor:
        h = self.position(torch.arange(3)) + self.embed(x)
        return F.relu(self.mlp(h))


def test_a_table_of_positions_is_no_stem() -> None:
    model, x = built(Positions), torch.randint(7, (20, 3), generator=seeded(1))
    with pytest.raises(ValueError, match=r"'position' has shape .*stem="):
        measured(model, x, stem="position")
    named = measured(model, x, stem="embed")["local_complexity"]
    assert named.item() > 0
    assert measured(model, x)["local_complexity"].item() == named.item()


class Flattened(nn.Module):
    """Positions become rows inside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(4, 9)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.mlp(x.flatten(0, 1))).view(*x.shape[:2], 9)


def test_activations_without_a_row_for_each_input_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"':relu' has shape \(6, 9\) for 2 inputs"):
        measured(Flattened(), torch.randn(20, 3, 4))


@pytest.mark.parametrize("stem", ["nowhere", "<input>"])
def test_stem_that_cannot_be_moved_is_an_error(stem: str) -> None:
    with pytest.raises(ValueError, match=f"stem='{stem}' is not .* 'embed' is one"):
        measured(built(Tokens), torch.randint(7, (20, 2)), stem=stem)


def test_layer_before_the_stem_is_an_error_and_default_layers_come_after_it() -> None:
    model, x = mlp(), points(20, 12)
    with pytest.raises(ValueError, match=r"'1:relu' comes before the stem '2'"):
        measured(model, x, stem="2", layers="1")
    assert measured(model, x, stem="2")["layer"].values.tolist() == ["3:relu"]


class Silent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 9), nn.Linear(4, 9)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.used(x) * x.sum(1, keepdim=True))


def test_layers_that_do_not_fire_and_numbers_that_are_not_finite_are_flagged() -> None:
    x = torch.randn(20, 4, generator=seeded(1))
    with pytest.warns(RuntimeWarning, match="never fired for all inputs, and hold no numbers: unused"):
        found = measured(built(Silent), x, layers=["used", "unused"]).sel(layer=["used", "unused"])
    assert found["local_complexity_nonfinite"].values.tolist() == [0, -1]
    assert np.isfinite(found["local_complexity"].values).tolist() == [True, False]
    assert np.isfinite(found["local_complexity_total"])
    model = built(Silent)
    with torch.no_grad():
        model.used.weight[0] = math.nan
    broken = measured(model, x)
    assert broken["local_complexity_nonfinite"].values.tolist() == [1]
    assert np.isnan(broken["local_complexity"]).all()
    assert np.isnan(broken["local_complexity_total"])


# -- the series ----------------------------------------------------------------------------------------------------


def test_means_and_errors_are_those_of_the_points() -> None:
    model, x = mlp(), points(30, 12)
    single, found = (
        each_point(model, x, n_directions=5, radius=0.4, relative=False),
        measured(model, x, n_directions=5, radius=0.4, relative=False),
    )
    np.testing.assert_allclose(found["local_complexity"], single.mean("split"))
    np.testing.assert_allclose(found["local_complexity_se"], single.std("split", ddof=1) / math.sqrt(30))
    total = single.sum("layer")
    np.testing.assert_allclose(found["local_complexity_total"], total.mean())
    np.testing.assert_allclose(found["local_complexity_total_se"], total.std(ddof=1) / math.sqrt(30))
    assert found["local_complexity"].attrs["n_points"] == 30


@pytest.mark.parametrize(("max_rows", "n_points"), [(400, 10), (1000, 25), (10**6, 60)])
def test_forward_rows_stay_within_the_budget(max_rows: int, n_points: int) -> None:
    model, x, rows = mlp(), points(60, 12), []
    data = {"train": (x, None), "test": (-x, None)}
    probe = LocalComplexityProbe(max_rows=max_rows, n_directions=10).attach(model, data, batch_size=64)
    handle = model[0].register_forward_hook(lambda m, a, out: rows.append(len(out)))
    probe.observe(0)
    handle.remove()
    assert sum(rows) == 2 * n_points * 2 * 10 <= max_rows
    assert probe.series_["local_complexity"].attrs["n_points"] == n_points


def test_budget_that_leaves_no_points_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_rows=30 leaves 1 points"):
        measured(mlp(), points(60, 12), max_rows=30)


def test_same_points_and_directions_at_every_step_and_from_every_copy() -> None:
    model, x = mlp(), points(60, 12)
    probe = LocalComplexityProbe(max_rows=500).attach(model, (x, None)).observe(0).observe(1)
    series = probe.detach().series_.drop_vars("seconds")
    xr.testing.assert_equal(series.isel(step=0, drop=True), series.isel(step=1, drop=True))
    other = measured(model, x, max_rows=500, random_state=1)
    assert (other["local_complexity"].values != series["local_complexity"].values).any()
    assert other["local_complexity_radius"].item() != series["local_complexity_radius"][0].item()  # other points too


def test_batches_of_the_passes_do_not_matter() -> None:
    model, x = mlp(), points(30, 12)
    one, other = (
        LocalComplexityProbe().attach(model, (x, None), batch_size=size).observe(0).detach().series_
        for size in (1, 10**5)
    )
    xr.testing.assert_equal(one.drop_vars("seconds"), other.drop_vars("seconds"))
