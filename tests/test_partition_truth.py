"""Partitions against other algorithms, see tests/piecewise_cases.py, and against planted cases."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from probe.forward import piecewise_linear
from probe.geometry import Partition, Slice, input_plane, partition_slice, perceptron
from tests.piecewise_cases import (
    ABS,
    HARDTANH,
    LEAKY_HALF,
    MODELS,
    RELU,
    Counts,
    Lines,
    Plane,
    Walk,
    area,
    arrangement,
    arrays,
    exact,
    exact_maxima,
    in_float64,
    linears,
    made,
    patterns,
    polygon,
    quadtree,
    square,
    walk,
    with_statistics,
)

SQUARE = square()
SKEW = np.array([[-2.0, -2], [3, -1], [2, 3], [-1, 2]])


def cut(layers: Iterable[tuple[Any, Any]], window: Any = SQUARE, **options: Any) -> Partition:
    """Return the partition of a perceptron with two inputs and a ReLU after each layer."""
    layers = [(np.asarray(weight, float), np.asarray(bias, float)) for weight, bias in layers]
    return partition_slice(perceptron(layers, last=True), input_plane(np.array(window, float)), **options)


def counts(found: Partition) -> list[Counts]:
    return [Counts(part.n_regions, part.segments, part.crossings) for part in found.arrangements]


def lines(found: Partition) -> Lines:
    """Return the counts of the first site."""
    part = found.arrangements[0]
    at = part.crossing, part.always_on, part.always_off, part.zero
    return Lines(part.n_regions, part.segments, part.crossings, *at)


def check_shape(found: Partition) -> None:
    """The polygons are convex, counterclockwise, and fill the window."""
    window = np.asarray(found.slice.window)
    polygons = [found.polygon(number) for number in range(found.n_regions)]
    size = np.abs(window - window.mean(0)).max()
    for corners in polygons:
        edges = np.roll(corners, -1, 0) - corners
        after = np.roll(edges, -1, 0)
        assert (edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0] >= -1e-9 * size**2).all()
    np.testing.assert_allclose(found.areas, [area(corners) for corners in polygons], atol=1e-12 * size**2)
    assert math.isclose(found.areas.sum(), area(window), rel_tol=1e-12)
    assert found.complete
    before = 1
    for part in found.arrangements:
        assert part.n_regions == before + part.segments + part.crossings
        before = part.n_regions
    assert before == found.n_regions


# -- one layer ---------------------------------------------------------------------------------------------------------


def concurrent(point: tuple[float, float], n: int = 32) -> tuple[np.ndarray, np.ndarray]:
    weight = arrays(linears([2, n]))[0][0]
    return weight, -weight @ np.array(point)


def random_lines(seed: int = 0, n: int = 32) -> tuple[np.ndarray, np.ndarray]:
    return arrays(linears([2, n], seed))[0]


def repeated(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = random_lines()
    return np.r_[weight, weight * factors[:, None]], np.r_[bias, bias * factors]


def many_kinds() -> tuple[np.ndarray, np.ndarray]:
    """Lines through corners and along edges of the square, constants, zeros, parallels, doubles, a fan."""
    rows = [
        *([1, 1, 2], [1, -1, 0], [1, 2, 3], [-3, 3, 0]),  # a corner from outside, both diagonals' corners, a corner
        *([1, 0, 1], [0, 1, -1], [0, -2, 2], [1, 0, -1]),  # edges
        *([0, 0, 1], [0, 0, -2], [0, 0, 0], [0, 0, 0]),  # constants
        *([1, 3, 0.5], [1, 3, 0.25], [2, 6, 1], [-1, -3, 0.75]),  # parallels, the first one twice
        *([2, 1, 0], [1, 4, 0], [0, 1, 0], [1, 0, 0.5], [2, 2, 1]),
    ]
    table = np.array(rows, float)
    return table[:, :2], table[:, 2]


FACTORS = np.random.default_rng(0).uniform(0.1, 3.1, 32)
ONE_LAYER = {
    "random": random_lines(),
    "copies": repeated(np.ones(32)),
    "scaled": repeated(FACTORS),
    "negated": repeated(-np.ones(32)),
    "negated and scaled": repeated(-FACTORS),
    "scaled by 1e-4 and 1e4": repeated(np.where(np.arange(32) % 2, 1e-4, 1e4)),
    "through the origin": concurrent((0.0, 0.0)),
    "through a point": concurrent((0.31, -0.17)),
    "through a corner": concurrent((1.0, 1.0)),
    "through a point of an edge": concurrent((1.0, 0.3)),
    "through a point outside": concurrent((1.4, 0.3)),
    "many kinds": many_kinds(),
}
WINDOWS = {"square": SQUARE, "triangle": polygon(3, 1.2), "pentagon": polygon(5, 1.5), "40 corners": polygon(40)}


@pytest.mark.parametrize(
    "window", ["square", *[pytest.param(name, marks=pytest.mark.slow) for name in list(WINDOWS)[1:]]]
)
@pytest.mark.parametrize("name", ONE_LAYER)
def test_one_layer_has_the_counts_of_the_closed_form(name, window):
    found = cut([ONE_LAYER[name]], WINDOWS[window])
    truth = arrangement(*ONE_LAYER[name], WINDOWS[window])
    assert lines(found) == truth
    assert found.arrangements[0].merged == truth.merged
    check_shape(found)


def test_known_counts_of_lines():
    for name in ("random", "copies", "scaled", "negated", "negated and scaled"):
        part = cut([ONE_LAYER[name]]).arrangements[0]
        assert (part.n_regions, part.segments, part.crossings) == (166, 27, 138)
        assert part.merged == (0 if name == "random" else 27)
    for name in ("through the origin", "through a point"):
        part = cut([ONE_LAYER[name]]).arrangements[0]
        assert (part.n_regions, part.segments, part.crossings, part.merged) == (64, 32, 31, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_arrangements(seed):
    rng = np.random.default_rng(seed)
    weight, bias = random_lines(seed, int(rng.integers(1, 40)))
    chosen = rng.integers(len(bias), size=rng.integers(0, 20))
    factors = rng.choice([-2.3, -1, 0.37, 1, 7.1], size=len(chosen))
    point = rng.uniform(-1, 1, 2)
    fan = rng.normal(size=(rng.integers(0, 9), 2))
    weight = np.r_[weight, weight[chosen] * factors[:, None], fan]
    bias = np.r_[bias, bias[chosen] * factors, -fan @ point]
    order = rng.permutation(len(bias))
    window = polygon(int(rng.integers(3, 9)), rng.uniform(0.3, 3), rng.uniform(0, 6)) + rng.normal(size=2) / 3
    found = cut([(weight[order], bias[order])], window)
    assert lines(found) == arrangement(weight, bias, window)
    check_shape(found)


# -- perceptrons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "side", "regions"),
    [
        ([2, 16, 16], 1, [27, 127]),
        ([2, 32, 32, 32], 1, [166, 795, 1180]),
        pytest.param([2, 64, 64, 64], 3, [1557, 6082, 14439], marks=pytest.mark.slow),
        pytest.param([2, 200, 200, 200], 1, [5687, 25142, 53325], marks=pytest.mark.slow),
        pytest.param([2, 200, 200, 200], 3, [14580, 57321, 124986], marks=pytest.mark.slow),
    ],
)
def test_counts_on_which_two_other_programs_agree(sizes, side, regions):
    found = cut(arrays(linears(sizes)), square(side))
    assert [part.n_regions for part in found.arrangements] == regions
    assert math.isclose(found.areas.sum(), 4 * side**2, rel_tol=1e-12)
    assert found.areas.min() > 0


@pytest.mark.slow
@pytest.mark.parametrize(("half_side", "regions"), [(1, 743), (4, 7576), (16, 63383)])
def test_counts_of_a_plane_through_three_images(half_side, regions):
    torch.manual_seed(0)
    images = torch.rand(3, 784).double()
    layers = arrays([nn.Linear(784, 200), nn.Linear(200, 200), nn.Linear(200, 200)])
    axes = torch.linalg.qr((images[1:] - images[0]).T)[0].T
    plane = Slice(images.mean(0), axes, torch.as_tensor(square(half_side)))
    assert partition_slice(perceptron(layers, last=True), plane).n_regions == regions


def short(layers: Iterable[tuple[Any, Any]], digits: int = 64) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the layers with rounded numbers, for rational arithmetic."""
    return [(np.round(weight * digits) / digits, np.round(bias * digits) / digits) for weight, bias in layers]


def test_two_layers_with_merged_units():
    """The first layer twice, scaled and negated, with the function unchanged."""
    (weight, bias), (second, shift) = short(arrays(linears([2, 8, 8])))
    truth = exact([(weight, bias), (second, shift)], SQUARE)
    scaled = np.r_[weight, 3 * weight], np.r_[bias, 3 * bias]
    found = cut([scaled, (np.c_[second / 4, second / 4], shift)])
    assert counts(found) == truth
    negated = np.r_[weight, -weight], np.r_[bias, -bias]
    assert counts(cut([negated, (np.c_[second, 0 * second], shift)])) == truth
    doubled = cut([(weight, bias), (np.r_[second, -0.7 * second], np.r_[shift, -0.7 * shift])])
    assert counts(doubled) == truth
    part = doubled.arrangements[1]
    assert part.merged == part.crossing // 2 > 0


def whole(sizes: list[int], seed: int, bound: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return layers with small whole numbers: many lines coincide, many points lie on several lines."""
    rng = np.random.default_rng(seed)
    shapes = itertools.pairwise(sizes)
    draw = [(rng.integers(-bound, bound + 1, (b, a)), rng.integers(-bound, bound + 1, b)) for a, b in shapes]
    return [(weight.astype(float), bias.astype(float)) for weight, bias in draw]


@pytest.mark.parametrize("seed", [*range(4), *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60)]])
def test_perceptrons_of_whole_numbers_in_rational_arithmetic(seed):
    """Half of the layers have no bias, so that units are zero on whole regions."""
    layers = whole([2, 6, 5, 4], seed)
    if seed % 2:
        layers = [(weight, 0 * bias) for weight, bias in layers]
    found = cut(layers, SKEW)
    assert counts(found) == exact(layers, SKEW)
    check_shape(found)


def test_close_copies_are_apart_if_the_width_is_smaller():
    """Each line twice, at a distance of 1.5e-8."""
    (weight, bias), *_ = short(arrays(linears([2, 12], 1)))
    twice = [(np.r_[weight, weight], np.r_[bias, bias + 2.0**-26])]
    apart, merged = exact(twice, SQUARE)[0].regions, exact([(weight, bias)], SQUARE)[0].regions
    assert apart > 2 * merged
    assert [cut(twice, snap=snap).n_regions for snap in (1e-6, 1e-10, 1e-12)] == [merged, apart, apart]


class Absolute(nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.abs()


class Maxima(nn.Module):
    """The maxima of groups of numbers in a row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d((1, width))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.pool(rows[:, None, None]).flatten(1)


def perceptron_of(parts: Iterable[tuple[Any, Any, nn.Module]]) -> nn.Module:
    """Return a model of affine layers and functions."""
    found: list[nn.Module] = []
    for weight, bias, function in parts:
        layer = nn.Linear(*weight.shape[::-1]).double()
        with torch.no_grad():
            layer.weight.copy_(torch.as_tensor(weight))
            layer.bias.copy_(torch.as_tensor(bias))
        found += [layer, function]
    return nn.Sequential(*found)


FUNCTIONS = {
    "abs": (Absolute, ABS),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.5), LEAKY_HALF),
    "Hardtanh": (nn.Hardtanh, HARDTANH),
    "ReLU": (nn.ReLU, RELU),
}


@pytest.mark.parametrize("seed", [*range(4), *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60)]])
def test_other_functions_of_whole_numbers_in_rational_arithmetic(seed):
    rng = np.random.default_rng(seed)
    layers = whole([2, 5, 5, 3], seed, bound=1 + seed % 3)
    chosen = [list(FUNCTIONS.values())[place] for place in rng.integers(4, size=3)]
    model = perceptron_of([(*layer, make()) for layer, (make, _) in zip(layers, chosen, strict=True)])
    found = partition_slice(piecewise_linear(model, torch.ones(1, 2).double()), input_plane(SKEW))
    assert counts(found) == exact(layers, SKEW, *[bends for _, bends in chosen])
    check_shape(found)


@pytest.mark.parametrize("seed", [*range(4), *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60)]])
def test_maxima_of_whole_numbers_in_rational_arithmetic(seed):
    """Equal candidates, candidates that never win, and points where several maxima change."""
    width = 2 + seed % 2
    layers = whole([2, 4 * width, 3 * width], seed)
    layers[1] = layers[1][0][:, :4], layers[1][1]
    pools = [(*layer, Maxima(width)) for layer in layers]
    network = piecewise_linear(perceptron_of(pools), torch.ones(1, 2).double())
    found = partition_slice(network, input_plane(SKEW))
    assert [part.n_regions for part in found.arrangements] == exact_maxima(layers, SKEW, width)
    check_shape(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_windows_far_from_the_origin_and_tiny(seed):
    """A network is moved by 1,024, or shrunk to a window of 1e-6; the counts stay."""
    (weight, bias), *others = short(arrays(linears([2, 10, 8], seed)))
    truth = exact([(weight, bias), *others], SQUARE)
    moved = (weight, bias - weight @ np.array([1024.0, -2048.0]))
    assert counts(cut([moved, *others], square(1, (1024, -2048)))) == truth
    assert counts(cut([(weight * 2.0**20, bias), *others], square(2.0**-20))) == truth
    both = (weight * 2.0**20, bias - weight @ np.array([1024.0, -2048.0]))
    centre = (1024 * 2.0**-20, -2048 * 2.0**-20)
    assert counts(cut([both, *others], square(2.0**-20, centre))) == truth
    tripled = (np.r_[both[0], 3 * both[0]], np.r_[both[1], 3 * both[1]])
    halves = [(np.c_[others[0][0] / 2, others[0][0] / 6], others[0][1]), *others[1:]]
    assert counts(cut([tripled, *halves], square(2.0**-20, centre))) == truth


def test_copies_in_tiny_windows_far_from_the_origin():
    """The window shrinks with the distances of the lines from its centre, while rounding errors stay."""
    rng = np.random.default_rng(0)
    weight, offset, factor = rng.normal(size=(12, 64)), rng.normal(size=12) / 2, rng.uniform(0.1, 3, (6, 1))
    centre, axes = 10 * rng.random(64), np.linalg.qr(rng.normal(size=(64, 2)))[0].T

    def copied(rows, numbers):
        return np.r_[rows, rows[:6] * factor], np.r_[numbers, numbers[:6] * factor[:, 0]]

    truth = arrangement(*copied(weight @ axes.T, offset), SQUARE)
    assert truth.merged > 3
    for radius in (1e-3, 1e-6, 1e-8, 1e-10):
        layer = copied(weight, radius * offset - weight @ centre)
        where = Slice(torch.as_tensor(centre), torch.as_tensor(axes), radius * torch.as_tensor(SQUARE))
        found = partition_slice(perceptron([layer, (np.eye(18) + 0.1, np.ones(18))], last=True), where)
        first, second = found.arrangements
        assert (first.segments, first.crossings, first.merged) == (truth.segments, truth.crossings, truth.merged)
        assert second.n_regions == truth.regions  # all on


# -- any model ---------------------------------------------------------------------------------------------------------


def found_and_walked(model: nn.Module, plane: Plane, step: float = 1e-7) -> tuple[Partition, Walk, nn.Module]:
    example = plane.origin[None].to(next(model.parameters()).dtype)
    network = piecewise_linear(model, example)
    where = Slice(plane.origin, plane.axes, torch.as_tensor(plane.window))
    double = in_float64(model)
    return partition_slice(network, where), walk(double, plane, step), double


def compare(found: Partition, walked: Walk, model: nn.Module, plane: Plane) -> None:
    """Counts, areas, pieces and affine maps are those of the walk from region to region."""
    for site, (part, truth) in enumerate(zip(found.arrangements, walked.counts(), strict=True)):
        assert part.n_regions == truth.regions
        if walked.breaks[site] is not None:  # a line between two winners can end at a third one
            assert (part.segments, part.crossings) == (truth.segments, truth.crossings)
            assert (part.crossing, part.merged) == (walked.crossing(site), walked.merged(site))
    here, _ = patterns(model, plane.points(found.centroids))
    number = {row.tobytes(): place for place, row in enumerate(walked.pieces)}
    order = [number[row.tobytes()] for row in here]
    assert sorted(order) == list(range(len(walked)))
    total = area(plane.window)
    np.testing.assert_allclose(found.areas, walked.areas[order], rtol=1e-7, atol=1e-9 * total)
    matrix, offset = found.affine_maps()
    np.testing.assert_allclose(matrix, walked.matrices[order], atol=1e-9 * (1 + np.abs(matrix).max()))
    np.testing.assert_allclose(offset, walked.offsets[order], atol=1e-9 * (1 + np.abs(offset).max()))
    touching = {tuple(sorted((order[i], order[j]))) for i, j in np.asarray(found.neighbours()[0])}
    assert set(walked.edges) <= touching
    parts = np.split(here, np.cumsum(walked.units)[:-1], axis=1)
    for rows, truth, breaks in zip(found.patterns().values(), parts, walked.breaks, strict=True):
        assert rows.shape == truth.shape
        assert breaks is None or (rows == truth).all()


def check_maps(found: Partition, model: nn.Module, plane: Plane, tolerance: float = 1e-10) -> None:
    """f(x) = A x + b at random points of each region, and the outputs at the vertices."""
    matrix, offset = found.affine_maps()
    generator = np.random.default_rng(0)
    inside = []
    for number in range(found.n_regions):
        corners = found.polygon(number)
        inside.append(generator.dirichlet(np.ones(len(corners)), 2) @ corners)
    with torch.no_grad():
        for points in np.stack(inside, 1):
            truth = model(plane.points(points)).flatten(1).numpy()
            mine = np.einsum("rod,rd->ro", matrix, points) + offset
            np.testing.assert_allclose(mine, truth, rtol=tolerance, atol=tolerance * np.abs(truth).max())
        truth = model(plane.points(found.vertices)).flatten(1).numpy()
    np.testing.assert_allclose(found.outputs, truth, rtol=tolerance, atol=tolerance * np.abs(truth).max())


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_regions_of_a_walk(name):
    model, shape = made(name, 1)
    plane = Plane.random(shape, 2.0, seed=1)
    found, walked, double = found_and_walked(model, plane)
    check_shape(found)
    compare(found, walked, double, plane)
    check_maps(found, double, plane)


LARGE = {  # seeds with which the smallest region is much larger than the last cells of the quadtree
    "convolution": 1,
    "max-pool": 3,
    "max-pool after ReLU": 3,
    "batch norm, average pool": 3,
    "residual": 1,
    "concatenation, absolute value": 7,
    "ReLU6, Hardtanh": 1,
    "PReLU, LeakyReLU, dropout": 7,
}


SHORT = ["max-pool", "residual"]
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in SHORT]


@pytest.mark.parametrize("name", [*SHORT, *LONG])
def test_models_have_the_patterns_of_a_fine_grid(name):
    model, shape = made(name, LARGE[name])
    plane = Plane.random(shape, 1.0, seed=LARGE[name])
    found, walked, double = found_and_walked(model, plane)
    assert walked.radius > math.sqrt(0.5) * 2 / 512  # so the grid cannot miss a region
    grid = quadtree(double, plane, cells=16, depth=5)
    assert found.n_regions == len(grid)
    here, _ = patterns(double, plane.points(found.centroids))
    assert {row.tobytes() for row in here} == grid


@pytest.mark.parametrize("name", ["residual", pytest.param("convolution", marks=pytest.mark.slow)])
def test_areas_are_shares_of_random_points(name):
    model, shape = made(name, LARGE[name])
    plane = Plane.random(shape, 1.0, seed=LARGE[name])
    found, _, double = found_and_walked(model, plane)
    points = np.random.default_rng(0).uniform(-1, 1, (10_000, 2))
    here, _ = patterns(double, plane.points(points))
    names, drawn = np.unique(here, axis=0, return_counts=True)
    number = {row.tobytes(): n for row, n in zip(names, drawn, strict=True)}
    at, _ = patterns(double, plane.points(found.centroids))
    shares = np.array([number.get(row.tobytes(), 0) for row in at]) / len(points)
    assert math.isclose(shares.sum(), 1)  # every random point lies in a region that was found
    true = found.areas / 4
    assert (np.abs(shares - true) <= 5 * np.sqrt(true / len(points))).all()


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_float32_models_with_awkward_scales(scale):
    """Scales that float32 cannot hold exactly: the network is the float64 copy of the float32 weights."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2))
    with torch.no_grad():
        model[0].weight *= scale
        model[0].bias *= scale
        model[2].weight /= scale / 3.3
        model[4].weight *= scale
    plane = Plane.random((3,), 2.0, seed=5)
    found, walked, double = found_and_walked(model, plane)
    compare(found, walked, double, plane)
    check_maps(found, double, plane)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("offset", "half_side"), [(1e3, 1), (1e5, 1), (1e3, 1e-3), (1e5, 1e-3), (0, 1e-6), (1e3, 1e-6)]
)
def test_models_far_from_the_origin_and_close_up(offset, half_side):
    """The biases move with the window, so that lines meet it at every size and place."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    plane = Plane.random((6,), half_side, seed=2, offset=offset)
    with torch.no_grad():
        model[0].bias.copy_(half_side * model[0].bias - model[0].weight @ plane.origin)
        model[2].bias *= half_side
        model[4].bias.zero_()
    rounding = 1e-15 * (1 + offset / half_side)  # of the inputs, as part of the window
    found, walked, double = found_and_walked(model, plane, step=max(1e-7, 30 * rounding))
    assert len(walked) > 20
    assert counts(found) == walked.counts()
    check_maps(found, double, plane, tolerance=max(1e-10, 100 * rounding))


# -- random models -----------------------------------------------------------------------------------------------------


class Steps(nn.Module):
    """Layers one after the other; before some, the rows before are added or joined."""

    def __init__(self, layers: list[nn.Module], joins: list[str]) -> None:
        super().__init__()
        self.layers, self.joins = nn.ModuleList(layers), joins

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        for layer, join in zip(self.layers, self.joins, strict=True):
            after = layer(rows)
            if join == "sum":
                after = after + rows
            elif join == "joined":
                after = torch.cat([rows, after], 1)
            elif join == "abs":
                after = after.abs()
            elif join == "larger":
                after = torch.maximum(after, 0.3 * rows)
            rows = after
        return rows


def activation(rng: np.random.Generator, width: int) -> nn.Module:
    kinds = [nn.ReLU(), nn.ReLU(), nn.LeakyReLU(0.1), nn.PReLU(), nn.PReLU(width), nn.ReLU6(), nn.Hardtanh(-0.4, 0.5)]
    return kinds[rng.integers(len(kinds))]


def random_rows(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    width = first = int(rng.integers(2, 6))
    layers: list[nn.Module] = []
    joins: list[str] = []
    for _ in range(rng.integers(1, 4)):
        after = int(rng.integers(3, 8))
        parts = nn.Linear(width, after, bias=bool(rng.random() < 0.8)), activation(rng, after), nn.Dropout(0.3)
        layers.append(nn.Sequential(*parts))
        joins.append("joined" if rng.random() < 0.3 else "")
        width = after + width * (joins[-1] == "joined")
        if rng.random() < 0.5:
            layers.append(nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), activation(rng, width)))
            joins.append(str(rng.choice(["sum", "abs", "larger"])))
    return Steps([*layers, nn.Linear(width, 2)], [*joins, ""]), (first,)


def random_images(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    channels, side = int(rng.integers(1, 3)), int(rng.integers(4, 7))
    shape = (channels, side, side)
    parts: list[nn.Module] = []
    for _ in range(rng.integers(1, 3)):
        kept = 2 if channels % 2 == 0 and rng.random() < 0.3 else 1
        parts.append(nn.Conv2d(channels, 2, int(rng.integers(2, 4)), padding=1, groups=kept))
        channels = 2
        if rng.random() < 0.4:
            parts.append(nn.BatchNorm2d(channels))
        options = [activation(rng, channels), nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1), nn.AvgPool2d(2)]
        parts += [options[rng.integers(4)], activation(rng, channels)]
    parts.append(nn.Flatten())
    flat_size = nn.Sequential(*parts).eval()(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(*parts, nn.Linear(flat_size, 4), activation(rng, 4), nn.Linear(4, 2)), shape


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_models(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model, shape = (random_images if seed % 2 else random_rows)(rng)
    with_statistics(model, shape).eval()
    plane = Plane.random(shape, rng.choice([0.5, 1.5, 4.0]), seed)
    found, walked, double = found_and_walked(model, plane)
    check_shape(found)
    compare(found, walked, double, plane)
    check_maps(found, double, plane)


# -- symmetries --------------------------------------------------------------------------------------------------------


def changed_by_symmetry(layers: list[tuple[Any, Any]], rng: np.random.Generator) -> list[tuple[Any, Any]]:
    """Return the perceptron with units permuted and scaled by powers of two, and the same function."""
    layers = [(weight.copy(), bias.copy()) for weight, bias in layers]
    for (weight, bias), (following, _) in itertools.pairwise(layers):
        order = rng.permutation(len(bias))
        factors = 2.0 ** rng.integers(-4, 5, len(bias))
        weight[:], bias[:] = weight[order] * factors[:, None], bias[order] * factors
        following[:] = following[:, order] / factors
    return layers


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 30)]])
def test_counts_do_not_depend_on_the_description(seed):
    """Not on the order and scale of units, the axes of the plane, and the place of the origin."""
    rng = np.random.default_rng(seed)
    layers = arrays(linears([2, 14, 12, 8], seed))
    found = cut(layers)
    assert counts(cut(changed_by_symmetry(layers, rng))) == counts(found)
    angle = rng.uniform(0, 2 * np.pi)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    origin = rng.normal(size=2)
    plane = Slice(torch.tensor(origin), torch.tensor(axes), torch.tensor((SQUARE - origin) @ axes.T))
    turned = partition_slice(found.network, plane)
    assert counts(turned) == counts(found)
    np.testing.assert_allclose(np.sort(turned.areas), np.sort(found.areas), atol=1e-11)


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 30)]])
def test_two_halves_have_the_regions_of_the_whole_with_one_more_line(seed):
    rng = np.random.default_rng(seed)
    layers = arrays(linears([2, 14, 12, 8], seed))
    height = rng.uniform(-0.8, 0.8)
    low, high = (np.array([[-1, a], [1, a], [1, b], [-1, b]]) for a, b in ((-1, height), (height, 1)))
    weight, bias = layers[0]
    second, shift = layers[1]
    more = [(np.r_[weight, [[0, 1]]], np.r_[bias, -height]), (np.c_[second, 0 * second[:, 0]], shift), *layers[2:]]
    whole_count = [part.n_regions for part in cut(more).arrangements]
    halves = [[part.n_regions for part in cut(layers, window).arrangements] for window in (low, high)]
    assert [sum(pair) for pair in zip(*halves, strict=True)] == whole_count


def test_a_layer_of_lines_that_are_all_constant_or_zero_leaves_one_region():
    found = cut([([[0, 0], [0, 0], [0, 0]], [1, -1, 0])])
    assert lines(found) == Lines(1, 0, 0, 0, 1, 2, 1)
    assert found.n_regions == 1
    assert found.areas.tolist() == [4.0]
