"""Breakpoints along segments: hand-made networks, closed forms, and a walk with derivatives of the model itself."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import seeded
from piecewise_cases import MODELS, arrays, in_float64, knots, linears, made, patterns
from torch import Tensor

import probe.geometry.segments.blocks as blocks
from probe.forward import piecewise_linear
from probe.geometry import (
    Affine,
    Bend,
    LineBreakpoints,
    Maximum,
    PiecewiseLinear,
    line_breakpoints,
    partition_slice,
    perceptron,
    segment_regions,
    slice_through,
)


def hat(depth: int) -> PiecewiseLinear:
    """Return the hat function composed with itself, which has 2^depth pieces on [0, 1]."""
    inner = ([[2.0, -4.0], [2.0, -4.0]], [0.0, -0.5])
    return perceptron([([[1.0], [1.0]], [0.0, -0.5]), *[inner] * (depth - 1), ([[2.0, -4.0]], [0.0])])


def on_unit_interval(network: PiecewiseLinear, **parameters: float) -> LineBreakpoints:
    return line_breakpoints(network, torch.zeros(1, 1), torch.ones(1, 1), **parameters)  # type: ignore[arg-type]


def random_ends(shape: Sequence[int], count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    one, two = 2 * torch.randn(2, count, *shape, generator=seeded(seed), dtype=torch.float64)
    return one, two


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8])
def test_the_hat_of_each_depth_has_two_to_the_power_of_it_pieces(depth: int) -> None:
    found = on_unit_interval(hat(depth))
    assert found.n_regions.tolist() == [2**depth]
    np.testing.assert_allclose(found.position, np.arange(1, 2**depth) / 2**depth, rtol=0, atol=1e-15)
    assert found.by_site().tolist() == [[2**site for site in range(depth)]]
    np.testing.assert_allclose(found.outputs[:, 0], np.arange(1, 2**depth) % 2, rtol=0, atol=1e-12)


def test_one_layer_in_closed_form() -> None:
    (weight, bias), head = arrays(linears([20, 64, 3]))
    start, end = random_ends((20,), 30)
    found = line_breakpoints(perceptron([(weight, bias), head]), start, end)
    for number in range(30):
        low, high = weight @ start[number].numpy() + bias, weight @ end[number].numpy() + bias
        expected = low / (low - high)
        units = np.flatnonzero((expected > 0) & (expected < 1))
        rows = slice(*found.starts[number : number + 2])
        np.testing.assert_allclose(found.position[rows], np.sort(expected[units]), rtol=0, atol=1e-13)
        assert found.event_unit[rows].tolist() == units[np.argsort(expected[units])].tolist()


@pytest.mark.parametrize("factor", [1.0, 3.1, -1.0, -0.07])
def test_copies_scaled_and_negated_units_share_their_knots(factor: float) -> None:
    (weight, bias), (second, shift) = arrays(linears([6, 32, 32]))
    start, end = random_ends((6,), 8)
    alone = line_breakpoints(perceptron([(weight, bias)], last=True), start, end)
    doubled = np.concatenate([weight, factor * weight]), np.concatenate([bias, factor * bias])
    both = line_breakpoints(perceptron([doubled], last=True), start, end)
    np.testing.assert_allclose(both.position, alone.position, rtol=0, atol=1e-12)
    assert set(both.multiplicity.tolist()) == {2}
    assert set(alone.multiplicity.tolist()) == {1}
    if factor > 0:  # a second layer to which the copies make no difference
        halves = np.concatenate([second / 2, second / 2 / factor], 1), shift
        expected = line_breakpoints(perceptron([(weight, bias), (second, shift)], last=True), start, end)
        found = line_breakpoints(perceptron([doubled, halves], last=True), start, end)
        assert found.n_regions.tolist() == expected.n_regions.tolist()
        np.testing.assert_allclose(found.position, expected.position, rtol=0, atol=1e-10)


def test_boundaries_through_one_point_of_the_segment_make_one_knot() -> None:
    weight = np.random.default_rng(0).normal(size=(32, 2))
    point = np.array([0.31, -0.17])
    network = perceptron([(weight, -weight @ point)], last=True)
    towards = np.array([0.6, 0.8])
    ends = torch.tensor(np.stack([point - 0.3 * towards, point + 0.7 * towards]))
    found = line_breakpoints(network, ends[:1], ends[1:])
    assert found.multiplicity.tolist() == [32]
    assert found.position == pytest.approx(0.3, abs=1e-12)


def test_units_of_two_layers_at_one_knot() -> None:
    """The second unit is relu(x) - relu(-x) = x: it changes where the units of the first layer do."""
    network = perceptron([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, -1.0]], [0.0])], last=True)
    found = line_breakpoints(network, torch.tensor([[-1.0]]), torch.tensor([[3.0]]))
    assert found.position.tolist() == [0.25]
    assert (found.event_site.tolist(), found.event_unit.tolist()) == ([0, 0, 1], [0, 1, 0])
    assert found.by_site().tolist() == [[1, 0]]
    assert found.events_by_site().tolist() == [[2, 1]]


def test_a_unit_that_touches_zero_does_not_change() -> None:
    """The second layer reads abs(x), whose zero is no change of sign, and abs(x) - 1, which changes twice."""
    network = perceptron([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0], [1.0, 1.0]], [0.0, -1.0])], last=True)
    found = line_breakpoints(network, torch.tensor([[-2.0]]), torch.tensor([[2.0]]))
    assert found.position.tolist() == [0.25, 0.5, 0.75]
    assert found.events_by_site().tolist() == [[2, 2]]


def test_a_unit_that_is_zero_everywhere_changes_nowhere() -> None:
    network = perceptron([([[0.0], [1.0]], [0.0, -0.5]), ([[1.0, 0.0]], [0.0])], last=True)
    assert on_unit_interval(network).position.tolist() == [0.5]


def test_rounding_makes_no_knots() -> None:
    """The first unit of the second layer is the difference of equal units, which is 0 up to rounding."""
    first = np.random.default_rng(0).normal(size=(5, 3))
    twice = np.repeat(first, 2, 0) * np.tile([1.0, 0.7], 5)[:, None]
    layers = [(twice, np.zeros(10)), (np.array([[0.7, -1.0] * 5, [1.0, 1.0] * 5]), [0.0, -4.0])]
    found = line_breakpoints(perceptron(layers, last=True), *random_ends((3,), 20))
    assert set(found.event_unit[found.event_site == 1].tolist()) == {1}


def test_ends_and_segments_without_length() -> None:
    ends = torch.tensor([[0.0], [0.5], [0.25], [0.0]])
    found = line_breakpoints(hat(2), ends, torch.tensor([[0.5], [1.0], [0.25], [0.0]]))
    assert found.n_regions.tolist() == [2, 2, 1, 1]
    assert line_breakpoints(hat(2), ends[:0], ends[:0]).n_regions.tolist() == []


def test_the_maximum_of_three_numbers() -> None:
    """max(-x, x, 1/2) bends at -1/2 and 1/2, and x alone is never passed by the constant there."""

    def candidates(rows: Tensor) -> Tensor:
        return torch.stack([-rows, rows, torch.full_like(rows, 0.5), torch.full_like(rows, -torch.inf)], -1)

    maximum = Maximum((0,), 1, lambda rows: candidates(rows).amax(-1), candidates, "max")
    found = line_breakpoints(PiecewiseLinear((maximum,), (1,), 1), torch.tensor([[-2.0]]), torch.tensor([[2.0]]))
    assert found.position.tolist() == [0.375, 0.625]
    assert found.outputs.tolist() == [[0.5], [0.5]]
    together = line_breakpoints(PiecewiseLinear((maximum,), (1,), 1), torch.tensor([[-0.4]]), torch.tensor([[0.4]]))
    assert together.n_regions.tolist() == [1]


def test_a_breakpoint_between_equal_slopes_is_no_knot() -> None:
    breakpoints, slopes = torch.tensor([[0.25], [0.5]]).double(), torch.tensor([[0.0], [1.0], [1.0]]).double()
    bend = Bend((0,), 1, lambda rows: (rows - 0.25).relu(), "0", breakpoints, slopes)
    found = on_unit_interval(PiecewiseLinear((bend,), (1,), 1))
    assert (found.position.tolist(), found.event_breakpoint.tolist()) == ([0.25], [0])


def test_the_width_of_zero_joins_near_knots() -> None:
    """Two boundaries at a distance of 1e-6, where each unit is at most 1 on the segment."""
    network = perceptron([([[1.0], [1.0]], [-0.5, -0.5 - 1e-6])], last=True)
    assert on_unit_interval(network).n_regions.tolist() == [3]
    assert on_unit_interval(network, snap=1e-5).n_regions.tolist() == [2]


@pytest.mark.parametrize("name", MODELS)
def test_knots_of_models_are_those_of_a_walk_with_derivatives(name: str) -> None:
    model, shape = made(name, 0)
    start, end = random_ends(shape, 3)
    found = line_breakpoints(piecewise_linear(model, start.float()), start, end)
    model, atol = in_float64(model), 1e-6 if "Hardtanh" in name else 1e-12  # its bounds are float32 numbers in ours
    for number in range(3):
        truth = knots(model, start[number], end[number])
        rows = range(*found.starts[number : number + 2])
        np.testing.assert_allclose(found.position[rows], [place for place, _ in truth], rtol=0, atol=atol)
        for row, (_, who) in zip(rows, truth, strict=True):
            here = found.event_knot == row
            events = set(zip(found.event_site[here].tolist(), found.event_unit[here].tolist(), strict=True))
            if (
                name == "max-pool after ReLU"
            ):  # the number of the first winner changes among zeros, the maximum does not
                who = who - {event for event in who - events if event[0] == 1}
            assert events == who


def test_a_dense_grid_sees_the_same_regions() -> None:
    """The patterns of the model at 20,000 points of a segment change as often as there are knots."""
    model, shape = made("max-pool after ReLU", 1)
    start, end = random_ends(shape, 1, seed=5)
    found = line_breakpoints(piecewise_linear(model, start.float()), start, end)
    assert np.diff(found.position, prepend=0, append=1).min() > 1 / 10_000  # otherwise the grid is too coarse
    points = torch.lerp(start, end, torch.linspace(0, 1, 20_000, dtype=torch.float64).view(-1, *[1] * len(shape)))
    signs, units = patterns(in_float64(model), points)
    bends = np.delete(signs, range(units[0], units[0] + units[1]), 1)  # winners among zeros change where nothing bends
    changes = np.flatnonzero((bends[1:] != bends[:-1]).any(1))
    ours = found.position[np.unique(found.event_knot[found.event_site != 1])]
    np.testing.assert_allclose(ours, (changes + 0.5) / 19_999, rtol=0, atol=0.51 / 19_999)


def test_outputs_at_knots_are_those_of_the_model() -> None:
    model, shape = made("residual", 2)
    start, end = random_ends(shape, 4)
    network = piecewise_linear(model, start.float())
    found = line_breakpoints(network, start, end)
    at = torch.from_numpy(found.segment)
    points = start[at] + torch.from_numpy(found.position)[:, None] * (end - start)[at]
    torch.testing.assert_close(found.outputs, in_float64(model)(points), rtol=0, atol=1e-12)


def test_blocks_do_not_change_the_knots(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, bias), second, third = arrays(linears([4, 16, 16, 2]))
    both = np.concatenate([first, -first]), np.concatenate([bias, -bias])
    same = np.concatenate(
        [np.eye(16), -np.eye(16)], 1
    )  # gives back what the first layer reads: 2 more units at its knots
    layers = [both, (np.concatenate([second[0] @ same, same]), np.concatenate([second[1], np.zeros(16)]))]
    network = perceptron([*layers, (np.concatenate([third[0], third[0]], 1), third[1])])
    start, end = random_ends((4,), 17)
    whole = line_breakpoints(network, start, end)
    monkeypatch.setattr(blocks, "_NUMBERS", 100)  # a few segments, then parts of segments
    parts = line_breakpoints(network, start, end)
    assert len(whole.position) > 100
    assert set(whole.multiplicity.tolist()) == {1, 3}
    for name in ("segment", "position", "site", "event_knot", "event_site", "event_unit", "starts", "outputs"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-12)


def test_segments_with_too_many_knots_are_flagged_and_stopped() -> None:
    short = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [0.001]])
    found = line_breakpoints(hat(8), *short, max_knots=20)
    assert found.complete.tolist() == [False, True]
    assert found.n_knots.tolist() == [31, 0]  # those of 5 layers
    assert found.outputs.isnan().all()
    assert "1 stopped" in repr(found)


def test_wrong_ends() -> None:
    with pytest.raises(ValueError, match=r"shape \(segments, 1\), got \(2,\)"):
        line_breakpoints(hat(1), torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="finite"):
        line_breakpoints(hat(1), torch.zeros(1, 1), torch.full((1, 1), torch.nan))
    with pytest.raises(ValueError, match="n_segments from 1"):
        segment_regions(hat(1), torch.rand(7, 1), n_segments=4)


def test_regions_between_random_points() -> None:
    """Points uniform in [-1/2, 1/2], a boundary at 0: half of the pairs cross it, at a mean distance of 1/3."""
    unit = perceptron([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    points = torch.rand(4000, 1, generator=seeded()) - 0.5
    found = segment_regions(unit, points, generator=seeded(1), level=0.99)
    assert found.knots.n == 2000
    assert found.knots.lower < 1 / 2 < found.knots.upper
    assert found.density.lower < 3 / 2 < found.density.upper
    assert found.complete
    few = segment_regions(unit, points, n_segments=10, generator=seeded(1), level=0.99)
    assert few.knots.upper - few.knots.lower > 5 * (found.knots.upper - found.knots.lower)


def test_pairs_are_disjoint_and_sites_add_up() -> None:
    network = perceptron(arrays(linears([3, 8, 8, 1])))
    corners = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).repeat_interleave(2, 0) * 4 - 2
    found = segment_regions(network, corners, generator=seeded())
    assert len(found.counts) == 8
    assert sum(site.value for site in found.by_site.values()) == pytest.approx(found.knots.value)
    alike = segment_regions(network, torch.ones(6, 3))
    assert alike.knots[:3] == (0, 0, 0)
    assert np.isnan(alike.density.value)  # no length


def clipped(polygon: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[float, float]:
    """Return the part of a segment inside a convex polygon, as positions from 0 to 1; empty if the first is larger."""
    edges = np.roll(polygon, -1, 0) - polygon
    inward = np.stack([-edges[:, 1], edges[:, 0]], 1)
    low, high = ((inward * (point - polygon)).sum(1) for point in (start, end))
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = low / (low - high)
    entering, leaving = crossing[high > low], crossing[high < low]
    return max(0.0, *entering), min(1.0, *leaving)


@pytest.mark.parametrize("name", ["residual", "max-pool", "PReLU, LeakyReLU, dropout"])
def test_knots_are_the_edges_of_the_polygons_of_a_slice(name: str) -> None:
    model, shape = made(name, 3)
    window = slice_through(torch.randn(3, *shape, generator=seeded()), half_side=3.0)
    network = piecewise_linear(model, torch.zeros(1, *shape))
    partition = partition_slice(network, window)
    ends = torch.tensor([[[-2.0, 1.3], [1.7, -2.5]], [[-2.9, -2.1], [2.2, 2.6]]]).double()
    found = line_breakpoints(network, window.points(ends[:, 0]), window.points(ends[:, 1]))
    for number, (start, end) in enumerate(ends.numpy()):
        parts = np.array([clipped(partition.polygon(region), start, end) for region in range(partition.n_regions)])
        inside = parts[parts[:, 1] - parts[:, 0] > 1e-9]
        inside = inside[np.argsort(inside[:, 0])]
        assert len(inside) == found.n_regions[number] > 5
        mine = found.position[found.starts[number] : found.starts[number + 1]]
        np.testing.assert_allclose(inside[1:, 0], mine, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_intervals_cover_the_mean_as_often_as_they_claim() -> None:
    network = perceptron(arrays(linears([5, 16, 16, 1])))
    points = torch.randn(60_000, 5, generator=seeded())
    truth = segment_regions(network, points, generator=seeded(1))
    covered = np.zeros(2)
    for run in range(500):
        points = torch.randn(48, 5, generator=seeded(100 + run))
        found = segment_regions(network, points, generator=seeded(run), level=0.95)
        pairs = (found.knots, truth.knots), (found.density, truth.density)
        covered += [mine.lower < true.value < mine.upper for mine, true in pairs]
    assert (covered >= 0.92 * 500).all(), covered
    assert (covered <= 0.98 * 500).all(), covered


def test_a_sum_and_a_chain_of_the_same_values() -> None:
    """abs(x) as relu(x) + relu(-x) by two branches that are added bends once."""
    column = torch.tensor([[0.0]]).double()
    slopes = torch.tensor([[0.0], [1.0]]).double()
    network = PiecewiseLinear(
        (
            Bend((0,), 1, torch.relu, "right", column, slopes),
            Affine((0,), 2, torch.neg),
            Bend((2,), 3, torch.relu, "left", column, slopes),
            Affine((1, 3), 4, torch.add),
        ),
        (1,),
        4,
    )
    found = line_breakpoints(network, torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    assert (found.position.tolist(), found.event_site.tolist()) == ([0.5], [0, 1])


def test_segments_with_many_knots_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the knots of one segment have values at one time, and those of a segment that stops have none."""
    rows: list[int] = []
    units = perceptron([(torch.ones(50, 1), -torch.arange(50.0)), (torch.ones(1, 50), [0.0])])
    bend = units.operations[1]
    seen = replace(bend, function=lambda z: rows.append(len(z)) or torch.relu(z))
    network = replace(units, operations=(units.operations[0], seen, units.operations[2]))
    starts, ends = torch.full((8, 1), -0.5), torch.arange(10.0, 90.0, 10)[:, None]
    expected = [min(50, 10 * i) for i in range(1, 9)]
    assert line_breakpoints(network, starts, ends).n_knots.tolist() == expected
    assert max(rows) > 200
    monkeypatch.setattr("probe.geometry.segments.segments._MOST_NUMBERS", 60 * 50)
    rows.clear()
    assert line_breakpoints(network, starts, ends).n_knots.tolist() == expected
    assert max(rows) < 70
    rows.clear()
    found = line_breakpoints(network, starts, ends, max_knots=25)
    assert found.n_knots.tolist() == expected
    assert found.complete.tolist() == [True, True] + 6 * [False]
    assert max(rows) < 40


def test_segments_between_outputs_of_a_layer_and_text():
    unit = perceptron([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    points = torch.tensor([[-1.0], [1.0]] * 4, requires_grad=True)  # as the output of an embedding
    found = segment_regions(unit, points, generator=seeded(0))
    assert found.lengths.tolist() == (2.0 * found.counts).tolist()  # the only boundary lies between -1 and 1
    assert repr(found).startswith(f"SegmentRegions(4 segments; {found.counts.mean():.1f} (")
    assert len(repr(found)) < 80


def test_a_model_is_refused_with_advice():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(TypeError, match=r"got Linear; make it with piecewise_linear\(model, inputs\)"):
        segment_regions(model, torch.rand(4, 1))  # type: ignore[arg-type]
