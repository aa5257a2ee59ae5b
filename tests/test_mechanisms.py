"""Tests of the attribution of changes of the number of regions, of merged boundaries, and of decision boundaries."""

import itertools

import numpy as np
import piecewise_cases as cases
import pytest
import torch
from scipy import ndimage

from probe.geometry import (
    BoundaryGraph,
    Partition,
    RegionChanges,
    boundary_graph,
    decision_segments,
    distance_to_segments,
    input_plane,
    merged_boundaries,
    partition_slice,
    perceptron,
    region_changes,
    square,
)
from probe.geometry.regions.mechanisms import MECHANISMS, graph_changes

Layers = list[tuple[np.ndarray, np.ndarray]]


def lines(*rows: tuple[float, float, float]) -> Layers:
    """Return one layer whose units are zero on the lines a x + b y + c = 0."""
    table = np.array(rows, float)
    return [(table[:, :2], table[:, 2])]


def partition(layers: Layers, half_side: float = 1.0) -> Partition:
    return partition_slice(perceptron(layers, last=True), input_plane(square(half_side)))


def changes(before: Layers, after: Layers) -> RegionChanges:
    """Return the changes, after a check of what holds for all of them."""
    one, two = partition(before), partition(after)
    found, reverse = region_changes(one, two), region_changes(two, one)
    assert found.change == two.n_regions - one.n_regions
    np.testing.assert_allclose(sum(found.parts.values()), found.after - found.before, atol=1e-9)
    assert [1 + found.before.sum(), 1 + found.after.sum()] == [one.n_regions, two.n_regions]
    for loss, gain in (("disappearance", "appearance"), ("merging", "splitting"), ("alignment", "crossing")):
        np.testing.assert_allclose(found.parts[loss], -reverse.parts[gain], atol=1e-9)
    assert found.parts["folding"][0] == 0
    return found


def parts(found: RegionChanges) -> dict[str, float]:
    """Return the parts that are not 0."""
    return {name: total for name in MECHANISMS if (total := round(found.total(name), 9))}


UP, DOWN = (0.0, 1.0, 0.3), (0.0, 1.0, -0.3)  # horizontal lines
ACROSS = (1.0, 0.1, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "regions", "expected"),
    [  # figure 6 of arXiv:2504.12700
        (lines((1, 2, 0), (-1, 2, 0)), lines(UP, DOWN), (4, 3), {"alignment": -1}),
        (lines(UP, DOWN), lines((0, 1, 3), DOWN), (3, 2), {"disappearance": -1}),
        (lines(UP, DOWN), lines((0, 1, -0.3), DOWN), (3, 2), {"merging": -1}),
    ],
)
def test_figure_6(before: Layers, after: Layers, regions: tuple[int, int], expected: dict[str, float]) -> None:
    found = changes(before, after)
    assert (1 + found.before.sum(), 1 + found.after.sum()) == regions
    assert parts(found) == expected


def arrangement(rows: np.ndarray) -> cases.Lines:
    """Return the closed form of one layer in the square."""
    return cases.arrangement(rows[:, :2], rows[:, 2], cases.square())


@pytest.fixture
def many() -> np.ndarray:
    """Return eight lines that all cross the square."""
    angles = np.random.default_rng(5).uniform(0, np.pi, 8)
    return np.column_stack([np.cos(angles), np.sin(angles), np.random.default_rng(6).uniform(-0.6, 0.6, 8)])


@pytest.mark.parametrize("unit", [0, 3, 7])
def test_one_of_many_lines_leaves(many: np.ndarray, unit: int) -> None:
    after = many.copy()
    after[unit, 2] = 5.0
    expected = arrangement(after).regions - arrangement(many).regions
    found = changes(lines(*many), lines(*after))
    assert parts(found) == {"disappearance": expected}
    assert expected < -1
    assert found.boundaries["disappearance"] == (("0", unit, 0),)


@pytest.mark.parametrize("factor", [1.0, 2.5, -0.7])
@pytest.mark.parametrize(("mover", "target"), [(0, 3), (3, 0), (6, 7)])
def test_one_of_many_lines_merges_with_another(many: np.ndarray, mover: int, target: int, factor: float) -> None:
    """Which unit moves does not depend on its index: the line that stays has the same crossings as before."""
    after = many.copy()
    after[mover] = factor * many[target]
    expected = arrangement(after).regions - arrangement(many).regions
    found = changes(lines(*many), lines(*after))
    assert parts(found) == {"merging": expected}
    assert expected < -1
    assert found.boundaries["merging"] == (("0", mover, 0),)


def test_lines_turn_parallel(many: np.ndarray) -> None:
    """One line turns until it does not meet a second one in the square; its crossings with the others stay."""
    pencil = [(np.sin(a), np.cos(a), 0.0) for a in (0.9, 1.2, 1.5)]
    found = changes(lines((1, 1.2, 0.1), (0.2, 1, 0.1), *pencil), lines((0.2, 1, 0.6), (0.2, 1, 0.1), *pencil))
    assert parts(found) == {"alignment": -1}
    assert found.pairs["alignment"] == ((("0", 0, 0), ("0", 1, 0)),)


def test_three_lines_become_concurrent() -> None:
    found = changes(lines((1, 0, 0.1), (0, 1, 0), (1, 1, 0)), lines((1, 0, 0), (0, 1, 0), (1, 1, 0)))
    assert parts(found) == {"alignment": -1}


def test_a_common_point_moves_onto_the_border() -> None:
    """Three lines through a point make six regions inside the window, and four if the point is on its border."""
    slopes = [(0, 1), (1, 1), (1, 2)]
    before, after = (lines(*[(a, b, -a * x) for a, b in slopes]) for x in (0.5, 1.0))
    assert parts(changes(before, after)) == {"alignment": -2}


def test_two_lines_merge_with_one_that_stays() -> None:
    """Meetings within the group do not count: both lines that move met the one that stays, and it met each."""
    movers, stays, other = [(1, -0.1, 0.5), (1, -0.1, 0.2)], (0, 1, 0), (1, 0, -0.8)
    found = changes(lines(*movers, stays, other), lines(stays, stays, stays, other))
    assert parts(found) == {"merging": -4}
    assert found.boundaries["merging"] == (("0", 0, 0), ("0", 1, 0))


def test_many_lines_become_concurrent() -> None:
    """32 lines through one point make 64 regions."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(32, 2))
    moved = np.column_stack([normals, rng.uniform(-0.1, 0.1, 32)])
    apart = cases.arrangement(normals, moved[:, 2], cases.square()).regions
    found = changes(lines(*moved), lines(*np.column_stack([normals, np.zeros(32)])))
    assert 1 + found.after.sum() == 64
    assert found.change == 64 - apart == found.total("alignment") + found.total("crossing")


def test_no_change_by_scaling_negating_or_moving_without_crossings(many: np.ndarray) -> None:
    scale = np.array([1, 2, -1, 0.5, -3, 1, 1, 9.0])[:, None]
    found = changes(lines(*many), lines(*many * scale))
    assert parts(found) == {}
    assert not any(found.boundaries.values())
    assert not any(found.pairs.values())
    assert parts(changes(lines(UP, DOWN), lines((0, 1, 0.5), (0.1, 1, -0.1)))) == {}


def test_copies_cost_nothing() -> None:
    """Lines that coincide before and after, and copies that leave together, are one line."""
    assert parts(changes(lines(UP, UP, ACROSS), lines(DOWN, DOWN, ACROSS))) == {}
    assert parts(changes(lines(UP, UP, ACROSS), lines((0, 1, 3), UP, ACROSS))) == {}
    assert parts(changes(lines(UP, UP, ACROSS), lines((0, 1, 3), (0, 1, 4), ACROSS))) == {"disappearance": -2}


def test_a_crossing_of_a_line_that_leaves_with_one_that_merges_counts_half_for_each() -> None:
    """Before: two horizontal lines, and one that crosses both. It leaves, and the horizontal ones merge."""
    found = changes(lines(UP, DOWN, ACROSS), lines(UP, UP, (1, 0, 5)))
    assert parts(found) == {"disappearance": -2.5, "merging": -1.5}
    assert found.change == 2 - 6


def test_first_layer_agrees_with_closed_forms_of_subsets() -> None:
    """Random first layers: losses by removal are those of the closed form, in both orders."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        before, after = (np.column_stack([rng.normal(size=(12, 2)), rng.normal(size=12)]) for _ in range(2))
        inside = [[arrangement(row[None]).segments == 1 for row in rows] for rows in (before, after)]
        both = np.logical_and(*inside)
        crossings = [pairs_inside(rows[both]) for rows in (before, after)]
        expected = {
            "disappearance": arrangement(before[both]).regions - arrangement(before).regions,
            "appearance": arrangement(after).regions - arrangement(after[both]).regions,
            "alignment": -len(crossings[0] - crossings[1]),
            "crossing": len(crossings[1] - crossings[0]),
        }
        assert parts(changes(lines(*before), lines(*after))) == {name: n for name, n in expected.items() if n}


def pairs_inside(rows: np.ndarray) -> set[tuple[int, int]]:
    """Return the pairs of lines that cross within the square."""
    return {
        (i, j)
        for i, j in itertools.combinations(range(len(rows)), 2)
        if np.abs(np.linalg.solve(rows[[i, j], :2], -rows[[i, j], 2])).max() < 1
    }


def deep(seed: int, noise: float = 0.0, widths: tuple[int, ...] = (2, 9, 8, 7)) -> Layers:
    rng, shift = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    return [
        tuple(rng.normal(size=shape) + noise * shift.normal(size=shape) for shape in ((b, a), (b,)))  # type: ignore[misc]
        for a, b in itertools.pairwise(widths)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_deep_networks_add_up(seed: int) -> None:
    found = changes(deep(seed), deep(seed, 0.2))
    for name in ("disappearance", "merging", "alignment"):
        assert (found.parts[name] <= 0).all()
    for name in ("appearance", "splitting", "crossing"):
        assert (found.parts[name] >= 0).all()
    assert found.total("alignment")
    assert found.total("crossing")


@pytest.mark.parametrize("unit", range(7))
def test_a_unit_of_the_last_layer_is_all_that_changes(unit: int) -> None:
    """The regions that it takes with it, when it leaves or merges, are those of the network without it."""
    before = deep(6)
    weight, bias = before[-1]
    without = partition([*before[:-1], (np.delete(weight, unit, 0), np.delete(bias, unit))]).n_regions
    expected = without - partition(before).n_regions
    assert expected < 0
    leaves = bias + 1e6 * (np.arange(7) == unit)
    found = changes(before, [*before[:-1], (weight, leaves)])
    assert parts(found) == {"disappearance": expected}
    assert found.parts["disappearance"][:2].tolist() == [0, 0]
    moves = np.arange(7)
    moves[unit] = (unit + 1) % 7
    found = changes(before, [*before[:-1], (weight[moves] * 2, bias[moves] * 2)])
    assert parts(found) == {"merging": expected}


def components_on_a_grid(layers: Layers, kept: np.ndarray, n: int = 400) -> int:
    """Return the number of connected sets of pixels on which the kept units do not switch, without specks."""
    line = (np.arange(n) + 0.5) / n * 2 - 1
    rows = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    signs = []
    for weight, bias in layers:
        signs.append(rows @ weight.T + bias > 0)
        rows = np.maximum(rows @ weight.T + bias, 0)
    code = np.concatenate(signs, 1)[:, kept] @ (1 << np.arange(kept.sum()))
    sizes = [np.bincount(ndimage.label(code.reshape(n, n) == k)[0].ravel())[1:] for k in np.unique(code)]
    return int((np.concatenate(sizes) >= 8).sum())


@pytest.mark.parametrize("seed", [0, 4, 19, 22, 24, 26])
def test_regions_of_a_drawing_of_some_boundaries(seed: int) -> None:
    """Deep networks whose regions all have 40 pixels or more: connected sets of a grid, for random sets of units."""
    layers = deep(seed, widths=(2, 5, 4, 3))
    found = partition(layers)
    assert found.areas.min() > 40 * (2 / 400) ** 2
    graph = boundary_graph(found)
    for kept in np.random.default_rng(seed).random((2, 12)) < 0.6:
        assert 1 + graph.added(kept).sum() == components_on_a_grid(layers, kept)


def test_order_and_copies_of_units_do_not_matter() -> None:
    """Both networks with their units in another order, and with scaled copies of every unit of the first layer."""
    before, after = deep(6), deep(6, 0.2)
    before[0][0][3], before[0][1][3] = before[0][0][5], before[0][1][5]  # so that a pair splits
    expected = {name: part.tolist() for name, part in changes(before, after).parts.items()}
    assert expected["splitting"][0] > 0
    order, scale = np.random.default_rng(0).permutation(9), np.linspace(0.5, 2, 9)

    def permuted(layers: Layers) -> Layers:
        (w1, b1), (w2, b2), *rest = layers
        return [(w1[order], b1[order]), (w2[:, order], b2), *rest]

    def doubled(layers: Layers) -> Layers:
        (w1, b1), (w2, b2), *rest = layers
        copies = np.vstack([w1, w1 * scale[:, None]]), np.r_[b1, b1 * scale]
        return [copies, (np.hstack([w2 / 2, w2 / 2 / scale]), b2), *rest]

    for change in (permuted, doubled):
        found = changes(change(before), change(after))
        for name, part in expected.items():
            np.testing.assert_allclose(found.parts[name], part, atol=1e-9)


def test_a_line_of_the_first_layer_that_leaves_takes_its_crossings_with_later_layers() -> None:
    """The second layer is zero on x + y = 0.2 whatever the first unit does, as long as the unit does not feed it."""
    first = np.array([[1, 0], [1, 0], [-1, 0], [0, 1], [0, -1.0]])
    second = [([[0, 1, -1, 1, -1.0]], [-0.2])]
    before = [(first, np.array([0.4, 0, 0, 0, 0])), *second]
    after = [(first, np.array([4.0, 0, 0, 0, 0])), *second]
    found = changes(before, after)
    assert found.parts["disappearance"].tolist() == [-2, -1]  # it crossed one axis, and one later line
    assert parts(found) == {"disappearance": -3}


def test_layers_align_with_each_other() -> None:
    """A line of the second layer moves until it does not meet a line of the first: alignment, not folding."""
    first = np.array([[1, 0], [-1, 0], [0, 1], [0, -1.0]]), np.array([5, 5, 5, 5.0])
    layers = [(np.vstack([first[0], [[1, 0]]]), np.r_[first[1], 0.0])]
    before = [*layers, (np.array([[1, 0, 1, 0, 0.0]]), np.array([-10.0]))]  # x + y = 0 meets x = 0
    after = [*layers, (np.array([[1, 0, 0, 0, 0.0]]), np.array([-5.5]))]  # x = 0.5 does not
    found = changes(before, after)
    assert parts(found) == {"alignment": -1}
    assert found.parts["alignment"].tolist() == [0, -1]


def test_a_line_moves_onto_one_of_a_later_layer() -> None:
    """The boundary of the later layer counts as merged, and the line has moved."""
    on = [[1, 0], [-1, 0], [0, 1], [0, -1.0]]
    static = np.array([[0, 0, 0.5, -0.5, 0, 0]]), np.array([-0.4])  # y = 0.4, of units that are always on
    before = np.array([*on, [1, 0], [1, 0]]), np.array([5, 5, 5, 5, 0.5, -0.2])
    after = np.array([*on, [0, 1], [1, 0]]), np.array([5, 5, 5, 5, -0.4, -0.2])
    found = changes([before, static], [after, static])
    assert parts(found) == {"merging": -3, "crossing": 1}
    assert found.parts["merging"].tolist() == [0, -3]
    assert found.parts["crossing"].tolist() == [1, 0]
    assert found.boundaries["merging"] == (("1", 0, 0),)


def test_a_boundary_that_breaks_into_pieces_folds() -> None:
    """y = c - |x| is one piece, and two pieces where its tip is outside. It then does not meet x = 0, and R stays 4."""
    first = np.array([[1, 0], [-1, 0.0]]), np.array([0.0, 0.0])
    level = np.array([[0, 1], [0, -1.0]]), np.array([5.0, 5.0])
    hidden = np.vstack([first[0], level[0]]), np.r_[first[1], level[1]]
    hat = np.array([[-1, -1, -0.5, 0.5]])
    found = changes([hidden, (hat, np.array([0.2]))], [hidden, (hat, np.array([1.5]))])
    assert parts(found) == {"alignment": -1, "folding": 1}
    assert 1 + found.before.sum() == 4


@pytest.mark.parametrize("tolerance", [None, 0])
def test_packed_graphs_are_the_same(tolerance: int | None) -> None:
    one, two = (boundary_graph(partition(deep(0, noise)), tolerances=[0.1]) for noise in (0, 0.2))
    copies = [BoundaryGraph.unpack(graph.pack(), graph.sites) for graph in (one, two)]
    assert parts(graph_changes(one, two, tolerance)) == parts(graph_changes(*copies, tolerance)) != {}


def test_lines_merge_up_to_a_tolerance() -> None:
    """Two lines approach each other up to 0.01: one region less with a tolerance, and none without."""
    before, after = lines(UP, DOWN, ACROSS), lines(UP, (0, 1, 0.29), ACROSS)
    one, two = partition(before), partition(after)
    assert parts(region_changes(one, two)) == {}
    found = region_changes(one, two, tolerance=0.05)
    assert parts(found) == {"merging": -2}
    assert found.boundaries["merging"] == (("0", 1, 0),)
    assert (1 + found.before.sum(), 1 + found.after.sum()) == (6, 4)
    assert parts(region_changes(two, one, tolerance=0.05)) == {"splitting": 2}


@pytest.mark.parametrize("tolerance", [0.05, 0.2])
def test_changes_up_to_a_tolerance_add_up(tolerance: float) -> None:
    """With noise of the size of the tolerance, first layers are those with one line of each group."""
    before, after = deep(6), deep(6, 0.2)
    before[0] = tuple(np.repeat(part, 2, 0) for part in before[0])  # type: ignore[assignment]
    before[1] = np.repeat(before[1][0], 2, 1) / 2, before[1][1]
    rng = np.random.default_rng(0)
    after[0] = tuple(np.repeat(part, 2, 0) * (1 + 0.02 * rng.normal(size=(18, *part.shape[1:]))) for part in after[0])  # type: ignore[assignment]
    after[1] = np.repeat(after[1][0], 2, 1) / 2, after[1][1]
    one, two = partition(before), partition(after)
    found = region_changes(one, two, tolerance=tolerance)
    np.testing.assert_allclose(sum(found.parts.values()), found.after - found.before, atol=1e-9)
    assert found.parts["folding"][0] == 0
    graph = boundary_graph(two, tolerances=[tolerance])
    first = np.unique(graph.groups(0)[:18][graph.drawn[:18]], return_index=True)[1]
    assert len(first) < graph.drawn[:18].sum()
    exact = region_changes(one, two)
    assert 1 + found.after.sum() < 1 + exact.after.sum() == two.n_regions


def test_what_cannot_be_compared() -> None:
    one = partition(lines(UP, DOWN))
    with pytest.raises(ValueError, match="different slices"):
        region_changes(one, partition(lines(UP, DOWN), 2.0))
    with pytest.raises(ValueError, match="one architecture"):
        region_changes(one, partition(lines(UP, DOWN, ACROSS)))
    with pytest.warns(UserWarning, match="lower bounds"):
        stopped = partition_slice(one.network, one.slice, max_regions=2)
    with pytest.raises(ValueError, match="complete"):
        region_changes(one, stopped)


@pytest.mark.parametrize(
    ("apart", "merged"), [(0.0, [1, 1, 1]), (0.004, [0, 1, 1]), (0.05, [0, 0, 1]), (0.3, [0, 0, 0])]
)
def test_boundaries_merge_up_to_an_area(apart: float, merged: list[int]) -> None:
    """Lines x = 0 and x = a: the area between is a height, the smaller sides are (1 + 1 - a) heights."""
    layers = lines((1, 0, 0), (-2, 0, 2 * apart), (0, 1, 0.2))
    found = merged_boundaries(partition(layers), [1e-9, 0.01, 0.1])
    assert found["0"].tolist() == merged
    exact = apart / (2 - apart)
    near = [merged_boundaries(partition(layers), [exact * share])["0"][0] for share in (0.999, 1.001)]
    assert near == ([0, 1] if apart else [1, 1])


def test_small_corners_are_not_alike() -> None:
    """Two units that are on in two different corners agree on 98 % of the area, and are not one boundary."""
    corner = lines((1, 1, -1.8), (-1, -1, -1.8))
    assert merged_boundaries(partition(corner), [0.05])["0"].tolist() == [0]


def test_decision_boundary_of_a_linear_map() -> None:
    """Three outputs whose largest changes on three rays from the origin: total length in the square by hand."""
    network = perceptron([([[0, 1.0], [1, -1], [-1, -1]], [0, 0, 0])])
    segments = decision_segments(partition_slice(network, input_plane(square(1.0))))
    lengths = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    # f2 = f3 on x = 0 below 0; f1 = f2 on 2 y = x for x > 0; f1 = f3 on 2 y = -x for x < 0
    np.testing.assert_allclose(sorted(lengths), [1, 1.25**0.5, 1.25**0.5])
    grid = np.stack(np.meshgrid(*[np.linspace(-0.99, 0.99, 12)] * 2), -1).reshape(-1, 2)
    distance = distance_to_segments(grid, segments)
    dense = np.concatenate([s[0] + np.linspace(0, 1, 1500)[:, None] * (s[1] - s[0]) for s in segments])
    brute = np.sqrt(((grid[:, None] - dense[None]) ** 2).sum(-1)).min(1)
    np.testing.assert_allclose(distance, brute, atol=1e-3)


@pytest.mark.parametrize(("seed", "widths"), [(3, (2, 9, 8, 7, 5)), (27, (2, 12))])
def test_decision_boundary_of_many_outputs(seed: int, widths: tuple[int, ...]) -> None:
    """At the segments the two largest outputs are equal, and a dense grid finds no change of the class elsewhere."""
    network = perceptron(deep(seed, widths=widths))
    found = partition_slice(network, input_plane(square(1.0)))
    segments = decision_segments(found)
    top = network(torch.from_numpy(segments.reshape(-1, 2))).topk(2, dim=1).values
    assert (top[:, 0] - top[:, 1]).abs().max() < 1e-9
    assert len(segments) > 3
    line = np.linspace(-1, 1, 301)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1)
    winner = network(torch.from_numpy(grid.reshape(-1, 2))).argmax(1).reshape(301, 301).numpy()
    between = (grid[1:] + grid[:-1])[winner[1:] != winner[:-1]] / 2
    assert len(between) > 50
    assert distance_to_segments(between, segments).max() <= line[1] - line[0]
    middles = segments.mean(1)
    assert distance_to_segments(middles, between[:, None].repeat(2, 1)).max() < 0.3


def test_one_output_decides_at_zero() -> None:
    network = perceptron([([[1.0, 1.0]], [0.5])])
    segments = decision_segments(partition_slice(network, input_plane(square(1.0))))
    np.testing.assert_allclose(segments.sum(2), [[-0.5, -0.5]])
    np.testing.assert_allclose(sorted(segments[0, :, 0]), [-1, 0.5])
    assert np.isnan(distance_to_segments([[0.0, 0.0]], np.empty((0, 2, 2)))).all()
