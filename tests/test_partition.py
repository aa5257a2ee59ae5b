"""Partitions of slices: known counts, identities, maps, limits and refusals. See also test_partition_truth.py."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from probe.errors import ProbeWarning
from probe.geometry import (
    Affine,
    Bend,
    Maximum,
    Partition,
    PiecewiseLinear,
    Slice,
    boundary_graph,
    counts_by_width,
    decision_segments,
    input_plane,
    merged_boundaries,
    partition_slice,
    perceptron,
    region_changes,
    slice_through,
    square,
)

SQUARE = input_plane(square(1.0))


def layers(*sizes):
    torch.manual_seed(0)
    made = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return [(layer.weight.detach().double(), layer.bias.detach().double()) for layer in made]


def network(*sizes, last=True):
    return perceptron(layers(*sizes), last=last)


def counts(found: Partition):
    return [site.n_regions for site in found.arrangements]


def check(found: Partition):
    """Areas fill the window, and both counts of each site agree: regions, and edges with their points."""
    assert found.complete
    assert math.isclose(found.areas.sum(), found.slice.area, rel_tol=1e-12)
    assert found.areas.min() > 0
    before = 1
    for site in found.arrangements:
        assert site.n_before == before
        assert site.n_regions == before + site.segments + site.crossings
        assert site.crossing + site.always_on + site.always_off == site.units
        assert np.bincount(site.parents, minlength=before).min() >= 1
        before = site.n_regions
    assert before == found.n_regions


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "half_side", "known"),
    [
        ((2, 16, 16), 1, [27, 127]),
        ((2, 32, 32, 32), 1, [166, 795, 1180]),
        ((2, 64, 64, 64), 3, [1557, 6082, 14439]),
        pytest.param((2, 200, 200, 200), 1, [5687, 25142, 53325], marks=pytest.mark.slow),
        pytest.param((2, 200, 200, 200), 3, [14580, 57321, 124986], marks=pytest.mark.slow),
    ],
)
def test_known_counts(sizes, half_side, known):
    """Two other programs found the same (regioncam, relu_edge_subdivision)."""
    found = partition_slice(network(*sizes), input_plane(square(half_side)))
    assert counts(found) == known
    check(found)


@pytest.mark.parametrize(("half_side", "known"), [(1, 743), (4, 7576), pytest.param(16, 63383, marks=pytest.mark.slow)])
def test_known_counts_in_a_plane_through_three_images(half_side, known):
    torch.manual_seed(0)
    points = torch.rand(3, 784)
    made = [nn.Linear(*sizes) for sizes in ((784, 200), (200, 200), (200, 200))]
    images = perceptron([(layer.weight.detach(), layer.bias.detach()) for layer in made], last=True)
    found = partition_slice(images, slice_through(points, half_side=half_side))
    assert found.n_regions == known
    check(found)


SCALES = np.random.default_rng(0).uniform(0.1, 3.1, 32)


@pytest.mark.parametrize("factors", [np.ones(32), SCALES, -np.ones(32), -SCALES])
def test_copies_of_units_add_no_region(factors):
    ((weight, bias),), factors = layers(2, 32), torch.as_tensor(factors)
    doubled = torch.cat([weight, weight * factors[:, None]]), torch.cat([bias, bias * factors])
    found = partition_slice(perceptron([doubled], last=True), SQUARE)
    assert counts(found) == [166]
    site = found.arrangements[0]
    assert (site.segments, site.crossings, site.merged, site.crossing) == (27, 138, 27, 54)
    check(found)


def test_copies_in_the_first_of_two_layers():
    (weight, bias), (second, shift) = layers(2, 32, 32)
    scales = torch.as_tensor(SCALES)
    doubled = torch.cat([weight, weight * scales[:, None]]), torch.cat([bias, bias * scales])
    merged = perceptron([doubled, (torch.cat([second / 2, second / 2 / scales], 1), shift)], last=True)
    found = partition_slice(merged, SQUARE)
    assert counts(found) == counts(partition_slice(network(2, 32, 32), SQUARE)) == [166, 795]
    check(found)


@pytest.mark.parametrize("point", [(0.0, 0.0), (0.31, -0.17)])
def test_concurrent_lines(point):
    ((weight, _),) = layers(2, 32)
    found = partition_slice(perceptron([(weight, -weight @ torch.tensor(point).double())], last=True), SQUARE)
    site = found.arrangements[0]
    assert (site.n_regions, site.segments, site.crossings) == (64, 32, 31)
    check(found)


def test_a_boundary_on_one_of_an_earlier_site():
    """The second site repeats the first: its unit is z = max(0, x) - max(0, -x) = x."""
    again = perceptron([([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0]), ([[1.0, -1.0]], [0.0])], last=True)
    found = partition_slice(again, SQUARE)
    assert counts(found) == [2, 2]
    assert [site.merged for site in found.arrangements] == [1, 1]
    check(found)


def test_states_of_units():
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = partition_slice(perceptron([(weight, [0.5, 2.0, -2.0, 0.0, 1.0])], last=True), SQUARE)
    site = found.arrangements[0]
    assert (site.crossing, site.always_on, site.always_off, site.zero) == (1, 2, 2, 1)
    assert found.patterns()["0"][:, 1:].tolist() == [[1, 0, 0, 1]] * 2


def test_a_unit_that_cancels_up_to_rounding_is_zero():
    """The second layer adds copies with opposite weights: what is left are rounding errors, no boundaries."""
    ((weight, bias),) = layers(2, 16)
    out = layers(16, 4)[0][0]
    second = torch.cat([torch.cat([out, -out / 3], 1), torch.ones(1, 32)])
    found = partition_slice(
        perceptron(
            [(torch.cat([weight, 3 * weight]), torch.cat([bias, 3 * bias])), (second, torch.zeros(5))], last=True
        ),
        SQUARE,
    )
    assert found.arrangements[1].zero == 4
    assert counts(found) == [27, 27]
    assert not found.patterns()["1"][:, :4].any()


def test_counts_by_width():
    """A copy that is shifted by 1e-8 is a boundary of its own only if the width is smaller."""
    shifted = perceptron([([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, 1e-8, 0.0])], last=True)
    assert counts_by_width(shifted, SQUARE) == {1e-7: 4, 1e-9: 6, 1e-11: 6}
    assert counts_by_width(network(2, 16, 16), SQUARE, widths=[1e-6]) == {1e-6: 127}


# -- functions ---------------------------------------------------------------------------------------------------------


def bend(breakpoints, slopes, function, weight, bias):
    """One affine layer with one output for each row of ``weight``, and a function."""
    weight, bias = torch.as_tensor(weight).double(), torch.as_tensor(bias).double()
    made = torch.as_tensor(breakpoints).double(), torch.as_tensor(slopes).double()
    first = Affine((0,), 1, lambda rows: rows @ weight.T + bias)
    return PiecewiseLinear((first, Bend((1,), 2, function, "bend", *made)), (2,), 2)


def test_several_breakpoints():
    """ReLU6 of 10 x bends at 0 and 0.6."""
    found = partition_slice(
        bend([[0.0], [6.0]], [[0.0], [1.0], [0.0]], nn.functional.relu6, [[10.0, 0.0]], [0.0]), SQUARE
    )
    assert found.n_regions == 3
    assert sorted(found.patterns()["bend"][:, 0].tolist()) == [0, 1, 2]
    np.testing.assert_allclose(sorted(found.areas), [0.8, 1.2, 2.0])
    site = found.arrangements[0]
    assert (site.crossing, site.segments, site.crossings) == (1, 2, 0)
    check(found)


def test_a_breakpoint_between_equal_slopes_is_no_boundary():
    slopes = torch.tensor([1.0, 0.2, 1.0])

    def function(rows):
        return torch.where(rows > 0, rows, slopes * rows)

    made = bend(
        [[0.0]], torch.stack([slopes, torch.ones(3)]), function, [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.0] * 3
    )
    found = partition_slice(made, SQUARE)
    assert found.n_regions == 2
    assert found.arrangements[0].always_on == 2
    check(found)


def test_residual_sums_and_concatenations():
    """x + |x| has the boundary of |x|; a later site reads the input, the sum and the absolute value."""
    (weight, bias), (join, shift) = layers(2, 2, 5)[0], layers(4, 5)[0]
    operations = (
        Affine((0,), 1, lambda rows: rows @ weight.T + bias),
        Bend((1,), 2, torch.abs, "abs", torch.zeros(1, 1).double(), torch.tensor([[-1.0], [1.0]]).double()),
        Affine((0, 2), 3, lambda rows, values: rows + values),
        Affine((3, 0), 4, lambda a, b: torch.cat([a, b], 1) @ join.T + shift),
        Bend((4,), 5, torch.relu, "relu", torch.zeros(1, 1).double(), torch.tensor([[0.0], [1.0]]).double()),
    )
    found = partition_slice(PiecewiseLinear(operations, (2,), 5), SQUARE)
    check(found)
    assert found.n_regions > 8
    check_maps(found)


def pooled(groups, weight, bias, after=()):
    """Maxima over groups of the outputs of an affine layer."""
    weight, bias = torch.as_tensor(weight).double(), torch.as_tensor(bias).double()

    def candidates(rows):
        return rows.unflatten(1, (groups, -1))

    operations = (
        Affine((0,), 1, lambda rows: rows @ weight.T + bias),
        Maximum((1,), 2, lambda rows: candidates(rows).amax(2), candidates, "max"),
        *after,
    )
    return PiecewiseLinear(operations, (2,), operations[-1].output)


def test_maximum_of_three():
    """Three directions at 120 degrees: three regions that meet in one point, no region where two losers are equal."""
    angles = torch.arange(3).double() * 2 * torch.pi / 3
    found = partition_slice(pooled(1, torch.stack([angles.cos(), angles.sin()], 1), [0.0] * 3), SQUARE)
    assert found.n_regions == 3
    site = found.arrangements[0]
    assert (site.segments, site.crossings) == (2, 0)  # one line passes through the point, one ends there
    assert len(found.vertices) == 4 + 3 + 1
    check(found)
    check_maps(found)


def test_candidates_that_never_win_leave_no_trace():
    """The third candidate is the largest: the line of the first two disappears, with its vertices."""
    found = partition_slice(pooled(1, [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], [0.0, 0.0, 5.0]), SQUARE)
    assert (found.n_regions, len(found.vertices)) == (1, 4)
    found = partition_slice(pooled(1, [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5]], [0.0, 0.0, 0.25]), SQUARE)
    assert found.n_regions == 3
    check(found)


def test_equal_candidates_count_as_one():
    weight = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    found = partition_slice(pooled(1, weight, [0.0] * 4), SQUARE)
    assert found.n_regions == 2
    assert sorted(found.patterns()["max"][:, 0].tolist()) == [0, 2]
    found = partition_slice(pooled(1, torch.zeros(4, 2), [0.0] * 4), SQUARE)
    assert (found.n_regions, found.arrangements[0].zero) == (1, 1)


@pytest.mark.parametrize("seed", range(2))
def test_maxima_are_those_of_a_fine_grid(seed):
    """All winners on a grid occur, each set of winners is one region, and sizes agree."""
    torch.manual_seed(seed)
    weight, bias = torch.randn(24, 2), torch.randn(24) / 2
    found = partition_slice(pooled(6, weight, bias), SQUARE)
    check(found)
    check_maps(found)
    patterns = found.patterns()["max"]
    assert len(np.unique(patterns, axis=0)) == found.n_regions
    side = (torch.arange(200).double() + 0.5) / 100 - 1
    winners = (torch.cartesian_prod(side, side) @ weight.double().T + bias).unflatten(1, (6, 4)).argmax(2)
    number = {tuple(row): place for place, row in enumerate(patterns.tolist())}
    seen = np.bincount([number[tuple(row)] for row in winners.tolist()], minlength=len(number))
    np.testing.assert_allclose(seen / 100**2, found.areas, atol=0.03)


# -- maps, neighbours, slices ------------------------------------------------------------------------------------------


def check_maps(found: Partition):
    """The maps give the outputs of the network inside the regions, and those at the corners."""
    matrix, offset = found.affine_maps()
    rng = np.random.default_rng(0)
    weights = [rng.dirichlet(np.ones(count)) for count in found.counts]
    inside = np.stack([part @ found.polygon(place) for place, part in enumerate(weights)])
    truth = found.network(found.slice.points(inside)).flatten(1).numpy()
    scale = np.abs(truth).max()
    np.testing.assert_allclose(np.einsum("rod,rd->ro", matrix, inside) + offset, truth, rtol=0, atol=1e-10 * scale)
    owner, corners = np.repeat(np.arange(found.n_regions), found.counts), found.vertices[found.loops]
    values = np.einsum("eod,ed->eo", matrix[owner], corners) + offset[owner]
    np.testing.assert_allclose(values, found.outputs[found.loops], rtol=0, atol=1e-9 * scale)


def test_affine_maps():
    check_maps(partition_slice(network(2, 32, 32, 32, last=False), SQUARE))


def test_affine_maps_in_a_plane_far_from_the_origin():
    plane = slice_through(100 + torch.rand(3, 6, generator=torch.Generator().manual_seed(1)), half_side=1.0)
    (weight, bias), second = layers(6, 20, 3)
    moved = perceptron([(weight, bias - weight @ plane.origin), second])
    found = partition_slice(moved, plane)
    assert found.n_regions > 20
    check_maps(found)


def test_neighbours_differ_in_the_units_of_one_line():
    found = partition_slice(network(2, 32), SQUARE)
    pairs, ends = found.neighbours()
    pattern = found.patterns()["0"]
    assert ((pattern[pairs[:, 0]] != pattern[pairs[:, 1]]).sum(1) == 1).all()
    site = found.arrangements[0]
    assert len(pairs) == site.segments + 2 * site.crossings  # each point divides two lines
    assert (np.abs(found.vertices[ends].mean(1)) < 1).all()  # none is an edge of the window


def test_any_convex_window():
    angles = torch.arange(7) * 2 * torch.pi / 7
    window = torch.stack([angles.cos(), angles.sin()], 1) + 0.1
    found = partition_slice(network(2, 20, 20), input_plane(window))
    check(found)
    whole = partition_slice(network(2, 20, 20), input_plane(square(1.2)))
    assert found.n_regions < whole.n_regions
    tiny = input_plane(window.double() * 2.0**-20 + 1)  # rounding errors are 1e-10 of its size
    assert math.isclose(tiny.area, input_plane(window).area * 2.0**-40, rel_tol=1e-8)


def test_slice_through_three_points():
    points = torch.tensor([[[0.0, 1.0], [2.0, 0.0]], [[3.0, 1.0], [2.0, 0.0]], [[0.0, 1.0], [2.0, 4.0]]])
    plane = slice_through(points)
    assert plane.origin.shape == (2, 2)
    np.testing.assert_allclose(plane.points(plane.anchors), points, atol=1e-15)
    np.testing.assert_allclose(plane.coordinates(points), plane.anchors, atol=1e-15)
    assert plane.anchors_inside.all()
    distances = torch.cdist(plane.anchors, plane.anchors)
    np.testing.assert_allclose(distances[[0, 0, 1], [1, 2, 2]], [3, 4, 5])
    assert slice_through(points, half_side=0.1).anchors_inside.tolist() == [False] * 3


# -- limits and refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{"max_regions": 500}, {"max_bytes": 100_000}])
def test_limits(limit):
    with pytest.warns(ProbeWarning, match="lower bounds"):
        found = partition_slice(network(2, 32, 32, 32), SQUARE, **limit)
    assert not found.complete
    assert 166 <= found.n_regions <= limit.get("max_regions", 1179)
    assert counts(found)[0] == 166
    assert math.isclose(found.areas.sum(), 4, rel_tol=1e-12)
    np.testing.assert_allclose(found.outputs, found.network(found.slice.points(found.vertices)))
    assert list(found.patterns()) == [site.site for site in found.arrangements]
    for function in (Partition.affine_maps, merged_boundaries, decision_segments):
        with pytest.raises(ValueError, match="Expected a complete partition"):
            function(found)


def test_a_limit_within_a_maximum_leaves_no_cell_that_disappears():
    """The first three candidates have three cells; the fourth is larger except in a corner, where the third wins."""
    made = pooled(1, [[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0], [2.6, 2.6]], [0.0, 0.0, 0.0, 5.0])
    assert partition_slice(made, SQUARE).n_regions == 2
    with pytest.warns(ProbeWarning, match="lower bounds"):
        found = partition_slice(made, SQUARE, max_regions=2)
    assert (found.n_regions, found.complete, len(found.vertices)) == (1, False, 4)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (torch.zeros(3, 4), "fix a plane"),
        (torch.tensor([[0.0, 0], [1, 1], [1, 1]]), "fix a plane"),
        (torch.tensor([[0.1, 0.3], [0.2, 0.6], [0.3, 0.9]]).double(), "fix a plane"),
        (torch.rand(2, 4), "three points"),
        (torch.tensor([[0.0, 0], [1, math.nan], [0, 1]]), "finite"),
    ],
)
def test_points_without_a_plane(points, expected):
    with pytest.raises(ValueError, match=expected):
        slice_through(points)


@pytest.mark.parametrize(
    "window",
    [
        [[0, 0], [0, 1], [1, 1], [1, 0]],  # clockwise
        [[0, 0], [2, 0], [0.5, 0.5], [0, 2]],  # not convex
        [[0, 0], [1, 0], [2, 0]],
        [[0, 0], [1, 0], [1, 0], [0, 1]],
        [[0, 0], [1, 0]],
        [[0, 0, 0]] * 3,
        [[math.cos(4 * k * math.pi / 5), math.sin(4 * k * math.pi / 5)] for k in range(5)],  # a star
    ],
)
def test_windows_that_are_not_convex(window):
    with pytest.raises(ValueError, match="window"):
        input_plane(window)


def test_refusals():
    with pytest.raises(ValueError, match="half side"):
        square(0)
    with pytest.raises(ValueError, match="orthonormal"):
        Slice(torch.zeros(2), torch.ones(2, 2), square(1))
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2,\)"):
        partition_slice(network(3, 4), SQUARE)
    (weight, bias), second = layers(2, 4, 3)
    with pytest.raises(ValueError, match="NaN or infinity before the first site"):
        partition_slice(perceptron([(weight * math.nan, bias), second]), SQUARE)
    with pytest.raises(ValueError, match="NaN or infinity behind site '0'"):
        partition_slice(perceptron([(weight, bias), (second[0] * math.inf, second[1])]), SQUARE)
    for option in ({"snap": 0}, {"snap": math.nan}, {"max_regions": 0}, {"max_bytes": 1.5}):
        with pytest.raises(ValueError, match=next(iter(option))):
            partition_slice(network(2, 4), SQUARE, **option)
    with pytest.raises(TypeError, match="Expected a PiecewiseLinear, got Linear"):
        partition_slice(nn.Linear(2, 3), SQUARE)


def test_text_is_one_line_with_the_counts():
    found = partition_slice(perceptron([(torch.eye(2), [0.0, 0.0]), ([[1.0, 1.0]], [-1.0])], last=True), SQUARE)
    assert repr(found) == "Partition(5 regions; after 0 4, after 1 5; complete)"
    borders = len(boundary_graph(found).pairs)
    assert repr(boundary_graph(found)) == f"BoundaryGraph(5 regions, {borders} borders, sites 0, 1)"
    assert repr(found.network) == "PiecewiseLinear(inputs of shape (2,); sites 0, 1)"
    assert repr(found.slice) == "Slice(inputs of shape (2,); window of 4 corners, area 4)"
    assert repr(found.arrangements[0]).endswith("n_before=1, n_regions=4, segments=2, crossings=1, merged=0)")
    assert repr(region_changes(found, found)).startswith("RegionChanges(change +0: disappearance +0, ")
