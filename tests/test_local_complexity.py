import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from cases import complex_numbers
from helpers import built, seeded
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from probe import LocalComplexityProbe, Snapshot
from probe.errors import ProbeWarning
from probe.forward import read_data, trace
from probe.forward.call_graph import affine_prefix
from probe.geometry import (
    boundary_density,
    boundary_distance,
    effective_share,
    orthonormal_frame,
    sign_changes,
    slice_slope,
)
from probe.measures.local_complexity import sweep
from probe.measures.local_complexity.sweep import uniform_in_box
from probe.testing import check_recording, check_same_twice, check_series


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
    model, x = mlp(), points(20, 12)
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
    with pytest.raises(ValueError, match=f"from 1 to 12, got {n_directions} directions"):
        orthonormal_frame(n_directions, 12)
    with pytest.raises(ValueError, match=f"from 1 to 12, got {n_directions} directions"):
        measured(mlp(), points(5, 12), n_directions=n_directions)


@pytest.mark.parametrize("radius", [0, -1.0, math.nan])
def test_radius_that_is_not_positive_is_an_error(radius: float) -> None:
    with pytest.raises(ValueError, match="Expected a positive and finite radius"):
        measured(mlp(), points(5, 12), radius=radius)


def test_relative_radius_of_points_at_the_origin_is_an_error() -> None:
    with pytest.raises(ValueError, match="positive mean norm, got 0"):
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
    with pytest.raises(ValueError, match=r"Expected a counted activation .* got none .*layers=\.\.\."):
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
    with pytest.raises(ValueError, match=r"one row for each of .* got 'position' of shape .*stem="):
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
    with pytest.raises(ValueError, match=r"got other rows .* at :relu;"):
        measured(Flattened(), torch.randn(20, 3, 4))


@pytest.mark.parametrize(("stem", "reason"), [("nowhere", "does not fire"), ("<input>", "holds integers")])
def test_stem_that_cannot_be_moved_is_an_error(stem: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"got '{stem}', which {reason}; pass stem='embed'"):
        measured(built(Tokens), torch.randint(7, (20, 2)), stem=stem)


def test_complex_numbers_are_no_stem_and_what_comes_before_the_first_other_ones_is_not_counted() -> None:
    model, (x, _) = complex_numbers()
    with pytest.raises(ValueError, match=r"got 'first', which holds complex numbers; pass stem='head'"):
        measured(model, x, stem="first")
    with pytest.raises(ValueError, match=r"after the stem 'head', got only earlier ones \(:tanh, :tanh.2\)"):
        measured(model, x)
    assert measured(model, x, stem=":tanh.2")["layer"].values.tolist() == [":tanh.2"]


def test_layer_before_the_stem_is_an_error_and_default_layers_come_after_it() -> None:
    model, x = mlp(), points(20, 12)
    with pytest.raises(ValueError, match=r"after the stem '2', got '1:relu', which comes before it"):
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
    with pytest.warns(ProbeWarning, match="got no or partial output of unused"):
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
    probe.observe(0)  # looks once for activation functions that only some points reach
    handle = model[2].register_forward_hook(lambda m, a, out: rows.append(len(out)))
    probe.observe(1)
    handle.remove()
    few = sum(n for n in rows if n <= 5)  # for trying out
    assert sum(rows) - few == 2 * n_points * 2 * 10 <= max_rows
    assert few < 2 * 20
    assert probe.series_["local_complexity"].attrs["n_points"] == n_points


def test_budget_that_leaves_no_points_is_an_error() -> None:
    with pytest.raises(ValueError, match="got 30, enough for 1"):
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


# -- the first affine map, computed once ---------------------------------------------------------------------------


class Skipping(nn.Module):
    """The sum of branches goes into the second activation; the input goes past the first layer."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        self.act, self.functional = nn.ReLU(), functional

    def forward(self, x: Tensor) -> Tensor:
        act = F.relu if self.functional else self.act
        return self.head(F.relu(x + self.second(act(self.first(x)))))


class Holding(nn.Sequential):
    """Looks like a chain; the last part adds the input, which no argument shows."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 12), nn.Tanh(), Adds())

    def forward(self, x: Tensor) -> Tensor:
        self[2].held = x  # type: ignore[assignment]
        return super().forward(x)


class Adds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.held)


def pre_activations(model: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    """What goes into each activation, by replacing the functions themselves."""

    def run(x: Tensor) -> list[Tensor]:
        seen: list[Tensor] = []
        functions = {name: getattr(F, name) for name in ("relu", "gelu")} | {"tanh": torch.tanh}

        def spied(name: str) -> Callable[..., Tensor]:
            def call(z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                seen.append(z)
                return functions[name](z, *args, **kwargs)

            return call

        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            for name in functions:
                patch.setattr(torch if name == "tanh" else F, name, spied(name))
            model(x)
        return seen

    return run


def convolutions() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.BatchNorm2d(3), nn.GELU(), nn.Conv2d(3, 4, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 2)),
    )


def flattened() -> nn.Module:
    return nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(72, 20), nn.ReLU(), nn.Linear(20, 9), nn.ReLU())


SHARED: list[tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = [
    (mlp, (12,), ["0"]),
    (flattened, (2, 6, 6), ["0", "1", "2"]),
    (convolutions, (2, 6, 6), ["0"]),
    (lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU()), (2, 9), ["0"]),
    (lambda: Skipping(True), (12,), ["first"]),
    (lambda: Skipping(False), (12,), ["first"]),
    (Holding, (12,), ["0"]),
]


@pytest.mark.parametrize(("make", "shape", "names"), SHARED)
@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_counts_are_those_of_every_vertex_sent_through_the_model(
    make: Callable[[], nn.Module], shape: tuple[int, ...], names: list[str], radius: float
) -> None:
    model, x = built(make).double().eval(), points(12, *shape)
    directions = frame(7, x[0].numel())
    run, counts = pre_activations(model), []
    for row in x:
        z = run(row + radius * torch.cat([directions, -directions]).view(-1, *shape))
        counts.append([(site.flatten(1) > 0).double().mean(0).frac().bool().sum().item() for site in z])
    found = each_point(model, x, radius=radius, relative=False, n_directions=7)
    assert found.values.tolist() == counts
    shot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2]))
    shares = isinstance(model, nn.Sequential) and not isinstance(model, Holding)
    assert affine_prefix(shot.trace.links, shot.trace.entries, shot.modules, "<input>") == names
    assert shot.has_suffix("all", names[-1], ["<output>"]) == shares


def test_the_first_layer_sees_points_and_directions_instead_of_vertices() -> None:
    model, x, rows = mlp(), points(50, 12), []
    linear = F.linear

    def spied(z: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
        rows.append(len(z) if weight is model[0].weight else 0)
        return linear(z, weight, bias)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", spied)
        measured(model, x, n_directions=10)
    assert 2 * 50 + 10 <= sum(rows) < 2 * 50 + 10 + 60  # the first pass over the points, and a few rows for trying out


class Shift(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(1)


def test_what_a_later_layer_writes_into_the_first_is_seen() -> None:
    model, x = nn.Sequential(nn.Linear(3, 2), Shift(), nn.ReLU()).double(), torch.zeros(2, 3, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2, 3))
        model[0].bias.copy_(torch.tensor([0.0, 5.0]))
    found = measured(model, x, layers=["0", "1", "2"], radius=0.5, relative=False)
    assert found["layer"].values.tolist() == ["0", "1", "2:relu"]
    assert found["local_complexity"].values.tolist() == [1, 0, 0]


def test_a_dead_unit_is_counted_nowhere_and_zeros_alike_on_both_ways() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 0]]))
        model[0].bias.copy_(torch.tensor([0, 0, -8, 1]))
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([0, 1]))
    x = torch.tensor([[0, 4, 0], [1, 1, 1]], dtype=torch.float64)
    found = each_point(model, x, radius=0.5, relative=False)
    assert found.values.tolist() == [[2, 0], [0, 0]]
    model[0].register_forward_hook(lambda m, a, out: None)  # hooks on the first layer keep it from being shared
    assert each_point(model, x, radius=0.5, relative=False).values.tolist() == [[2, 0], [0, 0]]


def test_published_number_at_initialisation() -> None:
    """3.07 over ten seeds, from 2.83 to 3.29: the authors' code, 784-200-200-200-10, uniform points, r = 0.05."""
    found = []
    for seed in range(3):
        model = built(published, seed)
        x = torch.rand(150, 784, generator=seeded(100 + seed))
        series = measured(model, x, radius=0.05, relative=False, max_rows=7500, layers=nn.Linear)
        found.append(series["local_complexity_total"].item())
    assert abs(np.mean(found) - 3.07) < 0.3, found


def published() -> nn.Module:
    layers = [nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(200, 10))


# -- radii ---------------------------------------------------------------------------------------------------------


def test_several_radii_in_one_pass_are_as_each_alone() -> None:
    model, x, radii = mlp(), points(20, 12), [0.02, 0.1, 0.7]
    found = measured(model, x, radius=radii)
    assert found["radius"].values.tolist() == radii
    assert found["local_complexity"].dims == ("layer", "radius")
    for radius in radii:
        one = measured(model, x, radius=radius)
        assert "radius" not in one.dims
        for name in one.data_vars:
            if str(name).startswith("local_complexity"):
                here = found[name]
                here = here.sel(radius=radius, drop=True) if "radius" in here.dims else here
                np.testing.assert_allclose(here, one[name], err_msg=str(name))
    assert (np.diff(found["local_complexity_total"]) > 0).all()


@pytest.mark.parametrize(("p", "share"), [(2, 0.040), (10, 0.065), (25, 0.079), (200, 0.106), (784, 0.120)])
def test_share_of_the_radius_that_the_frame_sees(p: int, share: float) -> None:
    assert effective_share(p, 784) == pytest.approx(share, rel=0.04)  # measured on 200 units and one frame


@pytest.mark.parametrize(("p", "d"), [(1, 1), (1, 2), (2, 2), (1, 784), (3, 5)])
def test_share_of_the_radius_is_the_mean_over_random_weights(p: int, d: int) -> None:
    w = torch.randn(4_000, d, generator=seeded(1), dtype=torch.float64)
    seen = (w @ frame(p, d).T).abs().amax(1) / w.norm(dim=1)
    error = seen.std().item() / math.sqrt(len(w))
    assert abs(seen.mean().item() - effective_share(p, d)) < 4 * error + 1e-6
    closed = {(1, 1): 1, (1, 2): 2 / math.pi, (2, 2): 2 * math.sqrt(2) / math.pi}
    assert effective_share(p, d) == pytest.approx(closed.get((p, d), effective_share(p, d)), abs=1e-6)


def test_effective_radius_is_in_the_series() -> None:
    found = measured(mlp(), points(20, 12), radius=[0.1, 0.3], n_directions=4)
    expected = effective_share(4, 12) * found["local_complexity_radius"]
    np.testing.assert_allclose(found["local_complexity_radius_effective"], expected)


@pytest.mark.parametrize("radius", [[], [0.1, 0], [0.1, -1], [math.nan], 0.0, math.inf])
def test_each_radius_must_be_positive_and_finite(radius: Any) -> None:
    with pytest.raises(ValueError, match="Expected a positive and finite radius"):
        measured(mlp(), points(5, 12), radius=radius)


# -- the integral over the box of the inputs -----------------------------------------------------------------------


def test_integral_over_the_box_is_the_mean_of_random_points() -> None:
    """Units relu(x - t) on [0, 10] x [0, 1] are met within r of t: a share 2 r / 10 of the box for each."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0], [2, 0], [1, 0]]))
        model[0].bias.copy_(torch.tensor([-3.0, -10, -50]))  # at 3, at 5, and far away
    x = torch.tensor([[0.0, 0], [10, 1], [4, 0.5], [3, 0.2]], dtype=torch.float64)
    data = {"train": (x[:2], None), "test": (x[2:], None)}
    probe = LocalComplexityProbe(radius=[0.2, 0.4], relative=False, n_random=2000, max_rows=10**5, random_state=2)
    found = probe.fit(model, data).series_.isel(step=0)
    assert found["split"].values.tolist() == ["train", "test", "random"]
    reach = frame(2, 2, 2)[:, 0].abs().max().item()  # along the first axis
    for radius, mean, error in zip(
        (0.2, 0.4), found["local_complexity_integral"], found["local_complexity_integral_se"], strict=True
    ):
        share = 2 * radius * reach / 10
        assert abs(mean - 2 * share) < 4 * error
        assert error == pytest.approx(math.sqrt(2 * share * (1 - 2 * share) / 2000), rel=0.2)
    random = found["local_complexity_total"].sel(split="random")
    np.testing.assert_array_equal(random, found["local_complexity_integral"])
    assert "local_complexity_integral" not in measured(model, x)


def test_random_points_fill_the_box_of_the_others() -> None:
    some = [points(5, 2, 3), 3 + points(9, 2, 3, seed=4)]
    together = torch.cat(some)
    found = uniform_in_box(some, 4000, seeded(1))
    assert found.shape == (4000, 2, 3)
    assert (found >= together.amin(0)).all()
    assert (found <= together.amax(0)).all()
    place = (found - together.amin(0)) / (together.amax(0) - together.amin(0))
    assert (place.mean(0) - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / 4000)
    with pytest.raises(ValueError, match="splits of one shape"):
        uniform_in_box([points(5, 2), points(5, 3)], 4, seeded(1))


def test_random_points_at_an_embedding_lie_between_the_embeddings() -> None:
    model, x = built(Tokens), torch.randint(7, (20, 2), generator=seeded(1))
    found = LocalComplexityProbe(n_random=30).fit(model, {"train": (x, None)}).series_
    assert np.isfinite(found["local_complexity"].sel(split="random")).all()
    assert found["local_complexity_unrepeatable"].item() == 0


@pytest.mark.parametrize(("n", "split"), [(1, "train"), (-3, "train"), (5, "random")])
def test_random_points_need_two_and_a_name(n: int, split: str) -> None:
    with pytest.raises(ValueError, match="n_random"):
        LocalComplexityProbe(n_random=n).fit(mlp(), {split: (points(9, 12), None)})


# -- units, fractions, distances, densities ------------------------------------------------------------------------


def test_fractions_are_counts_over_units() -> None:
    model, x = built(convolutions).double().eval(), points(9, 2, 6, 6)
    found = measured(model, x)
    assert found["local_complexity_units"].values.tolist() == [27, 16, 5]
    np.testing.assert_allclose(
        found["local_complexity_fraction"] * found["local_complexity_units"], found["local_complexity"]
    )


def test_distances_in_the_first_layer_are_those_to_the_hyperplanes_within_the_slice() -> None:
    model, x, radius = mlp(), points(40, 12), 0.6
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    inside = (weight @ frame(4, 12).T).norm(dim=1)  # of the weights, within the slice
    distance = (x @ weight.T + bias).abs() / inside
    found = measured(
        model, x, variants=("distance", "count"), radius=radius, relative=False, n_directions=4, layers="1"
    )
    assert found["local_complexity_near"].item() == pytest.approx((distance < radius).double().sum(1).mean().item())
    assert found["local_complexity_distance"].item() == pytest.approx(distance.amin(1).median().item())
    counts = measured(model, x, radius=radius, relative=False, n_directions=4, layers="1")
    assert counts["local_complexity"].item() == found["local_complexity"].item()
    full = (x @ weight.T + bias).abs() / weight.norm(dim=1)
    all_directions = measured(model, x, variants=["distance"], radius=radius, relative=False, layers="1")
    assert all_directions["local_complexity_distance"].item() == pytest.approx(full.amin(1).median().item())
    assert "local_complexity" not in all_directions


def test_density_sums_to_the_number_of_boundaries_along_a_line() -> None:
    """In one dimension a boundary is a point: the mean density times the length is how often units cross zero."""
    model, x = mlp(inputs=1), torch.linspace(-4, 4, 8001, dtype=torch.float64)[:, None]
    found = measured(model, x, variants=("density",), radius=2e-3, relative=False, max_rows=10**5)
    zeros = [(z.sign().diff(dim=0) != 0).sum().item() for z in pre_activations(model)(x)]
    assert min(zeros) > 10
    np.testing.assert_allclose(found["local_complexity_density"] * 8, zeros, rtol=0.02)
    assert found["local_complexity_density_total"].item() * 8 == pytest.approx(sum(zeros), rel=0.02)


def test_density_in_the_first_layer_is_a_sum_of_gaussians() -> None:
    model, x, radius = mlp(), points(40, 12), 0.6
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    inside = (weight @ frame(4, 12).T).norm(dim=1)
    distance = ((x @ weight.T + bias) / inside).numpy()
    found = measured(model, x, variants=["density"], radius=radius, relative=False, n_directions=4, layers="1")
    expected = norm.pdf(distance, scale=radius).sum(1).mean()
    assert found["local_complexity_density"].item() == pytest.approx(expected)


@pytest.mark.parametrize("spatial", [True, False])
def test_density_can_be_differentiated(spatial: bool) -> None:
    directions = frame(3, 4)
    x = points(2, 4)

    def density(weight: Tensor, bias: Tensor, second: Tensor) -> Tensor:
        def z(at: Tensor) -> Tensor:
            return torch.tanh(at @ weight + bias) @ second

        offsets = 0.3 * directions
        slope = slice_slope(z(x[:, None] + offsets), z(x[:, None] - offsets), 0.3)
        return boundary_density(z(x), slope, width=0.4, spatial=spatial)

    leaves = [points(4, 5, seed=2), points(5, seed=3), points(5, 6, seed=4)]
    assert torch.autograd.gradcheck(density, [leaf.requires_grad_() for leaf in leaves])


def test_units_that_do_not_move_have_no_boundary_and_finite_gradients() -> None:
    z = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([[0.0, 0.0, 4.0]], dtype=torch.float64, requires_grad=True)
    assert boundary_distance(z, slope).tolist() == [[math.inf, math.inf, 0.5]]
    density = boundary_density(z, slope, width=0.5)
    assert density.item() == pytest.approx(norm.pdf(0.5, scale=0.5))
    for one in torch.autograd.grad(density.sum(), [z, slope]):
        assert torch.isfinite(one).all()
    assert boundary_density(z, slope, width=0.5, spatial=False).item() == pytest.approx(4 * norm.pdf(2, scale=0.5))
    with pytest.raises(ValueError, match="Expected width > 0"):
        boundary_density(z, slope, width=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_distances_and_densities_of_what_is_not_finite_are_nan(bad: float) -> None:
    z, slope = torch.ones(2, 3), torch.ones(2, 3)
    z[0, 0], slope[1, 1] = bad, bad
    assert boundary_distance(z, slope).isnan().tolist() == [[True, False, False], [False, True, False]]
    assert boundary_density(z, slope, width=1.0).isnan().all()


def test_density_does_not_depend_on_the_scale_of_a_unit() -> None:
    z, slope, scale = points(3, 4), points(3, 4, seed=2).abs(), torch.tensor([1.0, 5, 0.1, 30])
    one, other = (boundary_density(c * z, c * slope, width=0.7) for c in (1, scale))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("variants", [(), ("counts",), "count"])
def test_variants_are_named(variants: Any) -> None:
    with pytest.raises(ValueError, match="Expected variants among"):
        measured(mlp(), points(5, 12), variants=variants)


# -- models that do not say the same twice -------------------------------------------------------------------------


class Noisy(nn.Module):
    def __init__(self, noise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.noise = nn.Linear(12, 20), noise

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.first(x) + self.noise(x))


@pytest.mark.parametrize(
    "noise",
    [
        lambda x: F.dropout(x[:, :1], 0.5, training=True),
        lambda x: torch.randn(len(x), 20).to(x),
        lambda x: float(np.random.rand()),  # noqa: NPY002
        lambda x: random.random(),
    ],
)
def test_noise_that_is_drawn_in_evaluation_mode_too_is_flagged(noise: Callable[[Tensor], Tensor]) -> None:
    states = torch.get_rng_state(), random.getstate()
    found = measured(built(lambda: Noisy(noise)).double(), points(20, 12))
    assert found["local_complexity_unrepeatable"].item() == 1
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_dropout_in_training_mode_is_measured_in_evaluation_mode() -> None:
    model, x = mlp(), points(20, 12)
    dropping = nn.Sequential(model[0], model[1], nn.Dropout(0.5), *model[2:]).train()
    found, expected = measured(dropping, x), measured(model, x)
    assert found["local_complexity_unrepeatable"].item() == 0
    np.testing.assert_array_equal(found["local_complexity"], expected["local_complexity"])
    assert all(module.training for module in dropping.modules())


def test_half_precision_is_measured() -> None:
    model, x = mlp(), points(30, 12)
    exact = measured(model, x, radius=0.5)["local_complexity_total"].item()
    rough = measured(model.bfloat16(), x.bfloat16(), radius=0.5, variants=("count", "distance"))
    assert rough["local_complexity_total"].item() == pytest.approx(exact, rel=0.1)
    assert np.isfinite(rough["local_complexity_distance"]).all()


def test_all_that_can_be_asked_for_keeps_the_contract() -> None:
    probe = LocalComplexityProbe(
        radius=(0.05, 0.3), n_random=5, variants=("count", "distance", "density"), max_rows=999
    )
    for check in (check_series, check_same_twice, check_recording):
        check(probe)


@pytest.mark.parametrize("points_at_once", [1, 3, 7])
@pytest.mark.parametrize("variants", [("count",), ("count", "distance", "density")])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, points_at_once: int, variants: tuple[str, ...]) -> None:
    """Neither their size nor a last one that is smaller, where the first map runs once and where it does not."""
    for model in (mlp(), nn.Sequential(nn.Tanh(), mlp())):
        parameters = {"n_directions": 4, "radius": 0.5, "relative": False, "variants": variants, "max_rows": 10**6}
        whole = measured(model, points(17, 12), **parameters).drop_vars("seconds")
        vertices = 8 + (len(variants) > 1)
        monkeypatch.setattr(sweep, "_BLOCK", {"cpu": points_at_once * vertices * 40 * 8})
        found = measured(model, points(17, 12), **parameters).drop_vars("seconds")
        xr.testing.assert_allclose(found, whole)
        monkeypatch.undo()


def test_an_activation_function_that_was_exchanged_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    probe = LocalComplexityProbe().attach(model, (torch.eye(3), None), on_error="raise").observe(0)
    model[1] = nn.GELU()
    with pytest.raises(ValueError, match=r"got no call of 1:relu; .*attach again if the model has changed"):
        probe.observe(1)
