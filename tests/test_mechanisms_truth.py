"""Attribution of changes of the number of regions: planted cases by hand, and random ones by another count."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from probe.geometry import Partition, RegionChanges, input_plane, partition_slice, perceptron, region_changes
from tests.piecewise_cases import Plane, Walk, arrangement, arrays, linears, square, walk

X, Y = (1.0, 0.0), (0.0, 1.0)


def lines(*rows: tuple[float, float, float]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return one layer of the lines a x + b y + c = 0."""
    table = np.array(rows)
    return [(table[:, :2], table[:, 2])]


def cut(layers: Any, half_side: float = 1.0) -> Partition:
    return partition_slice(perceptron(layers, last=True), input_plane(square(half_side)))


def changed(before: Any, after: Any) -> RegionChanges:
    found = region_changes(cut(before), cut(after))
    total = sum(found.parts[name] for name in found.parts)
    np.testing.assert_allclose(total, found.after - found.before, atol=1e-9)
    return found


def parts(found: RegionChanges) -> dict[str, float]:
    """Return the mechanisms that are not 0."""
    totals = {name: round(found.total(name), 9) for name in found.parts}
    return {name: total for name, total in totals.items() if total}


OPPOSITE = {"disappearance": "appearance", "merging": "splitting", "alignment": "crossing", "folding": "folding"}
ONE_LAYER = {
    "nothing: scaled and negated": (
        lines((*X, 0.0), (*Y, 0.5), (1, 1, 0.2)),
        lines((-2, 0, 0.0), (0, 1e-3, 0.5e-3), (-1, -1, -0.2)),
        {},
    ),
    "a dead unit is always on": (lines((*X, 0.0), (*Y, -5.0)), lines((*X, 0.0), (*Y, 5.0)), {}),
    "one leaves": (lines((*X, 0.0), (*Y, 0.0)), lines((*X, 0.0), (*Y, 5.0)), {"disappearance": -2}),
    "all leave": (lines((*X, 0.0), (*Y, 0.0)), lines((*X, 2.0), (*Y, 5.0)), {"disappearance": -3}),
    "two merge": (
        lines((*X, 0.0), (*X, -0.5), (*Y, 0.0)),
        lines((*X, 0.0), (-2, 0, 0.0), (*Y, 0.0)),
        {"merging": -2},
    ),
    "three merge": (
        lines((*X, 0.5), (*X, 0.0), (*X, -0.5), (*Y, 0.0)),
        lines((*X, 0.1), (2, 0, 0.2), (-3, 0, -0.3), (*Y, 0.0)),
        {"merging": -4},
    ),
    "two turn parallel": (lines((*Y, 0.0), (-0.5, 1, 0)), lines((*Y, 0.0), (*Y, -0.3)), {"alignment": -1}),
    "three become concurrent": (
        lines((*X, 0.0), (*Y, 0.0), (1, 1, -0.5)),
        lines((*X, 0.0), (*Y, 0.0), (1, 1, 0.0)),
        {"alignment": -1},
    ),
    "their crossing leaves": (  # from (.75, -.5) to (1.5, -.5)
        lines((1, 1, -0.25), (*Y, 0.5)),
        lines((1, 1, -1.0), (*Y, 0.5)),
        {"alignment": -1},
    ),
    "one crosses another": (
        lines((*Y, 0.0), (*X, 0.0), (*Y, -0.5)),
        lines((*Y, 0.0), (*Y, 0.5), (*X, 0.0)),
        {"alignment": -1, "crossing": 1},
    ),
    "one leaves, two others merge": (
        lines((*X, 0.5), (*X, 0.0), (*X, -0.5), (*Y, 0.0)),
        lines((*X, 2.0), (*X, 0.0), (*X, 0.0), (*Y, 0.0)),
        {"disappearance": -2, "merging": -2},
    ),
    "one leaves, two that it crosses merge": (  # the region at one of the crossings counts half for each
        lines((*X, 0.0), (*X, -0.5), (*Y, 0.0), (*Y, -0.5)),
        lines((*X, 0.0), (*X, 0.0), (*Y, 0.0), (*Y, -5.0)),
        {"disappearance": -2.5, "merging": -2.5},
    ),
    "one leaves, one comes": (
        lines((*X, 0.0), (*Y, 0.0), (1, 1, 9.0)),
        lines((*X, 0.0), (*Y, 9.0), (1, 1, 0.0)),
        {"disappearance": -2, "appearance": 2},
    ),
    "one moves from one copy to another": (
        lines((*X, 0.0), (*X, 0.0), (*X, 0.5)),
        lines((*X, 0.0), (*X, 0.5), (*X, 0.5)),
        {"merging": -1, "splitting": 1},
    ),
}


@pytest.mark.parametrize("name", ONE_LAYER)
def test_planted_changes_of_one_layer(name):
    before, after, expected = ONE_LAYER[name]
    assert parts(changed(before, after)) == expected


@pytest.mark.parametrize("name", [name for name in ONE_LAYER if len(ONE_LAYER[name][2]) <= 1 or "merge" in name])
def test_the_reverse_has_the_reverse_mechanisms(name):
    before, after, expected = ONE_LAYER[name]
    assert parts(changed(after, before)) == {OPPOSITE[part]: -total for part, total in expected.items()}


def test_names_of_units():
    found = changed(*ONE_LAYER["one leaves, two others merge"][:2])
    assert found.boundaries["disappearance"] == (("0", 0, 0),)
    (merged,) = found.boundaries["merging"]
    assert merged in {("0", 1, 0), ("0", 2, 0)}
    found = changed(*ONE_LAYER["one crosses another"][:2])
    assert found.pairs["alignment"] == ((("0", 0, 0), ("0", 1, 0)),)
    assert found.pairs["crossing"] == ((("0", 0, 0), ("0", 2, 0)),)
    found = changed(*ONE_LAYER["three become concurrent"][:2])
    assert len(found.pairs["alignment"]) == 3


# -- two layers --------------------------------------------------------------------------------------------------------

AXES = lines((*X, 0.0), (*Y, 0.0))
SIGNED = lines((*X, 0.0), (-1, 0, 0.0), (*Y, 0.0), (0, -1, 0.0))  # so that sums are |x| and |y|


def second(*rows: tuple[float, ...], first: Any = AXES) -> Any:
    """Return a perceptron whose second layer has these weights and biases."""
    table = np.array(rows)
    return [*first, (table[:, :-1], table[:, -1])]


HALF = (1, 1, -0.5)  # max(0, x) + max(0, y) = 1/2: an L with three pieces
LONG = lines((*X, 5.0), (*Y, 0.0))  # the first unit is on in the whole window
TWO_LAYERS = {
    "a bent line leaves": (second(HALF), second((1, 1, -9)), [{}, {"disappearance": -3}]),
    "two bent lines merge": (
        second(HALF, (1, 1, -0.8)),
        second(HALF, (-2, -2, 1.0)),
        [{}, {"merging": -3}],
    ),
    "a bent line no longer meets a fold": (second(HALF), second((1, 0, -0.5)), [{}, {"alignment": -1}]),
    "a fold leaves": (  # with it goes the place where the bent line meets it
        second(HALF),
        second((1, 1, -5.5), first=LONG),
        [{"disappearance": -2}, {"disappearance": -1}],
    ),
    "a diamond opens to four corners": (
        second((1, 1, 1, 1, -0.5), first=SIGNED),
        second((1, 1, 1, 1, -1.5), first=SIGNED),
        [{}, {"alignment": -4, "folding": 4}],
    ),
    "a diamond leaves": (
        second((1, 1, 1, 1, -0.5), first=SIGNED),
        second((1, 1, 1, 1, -2.5), first=SIGNED),
        [{}, {"disappearance": -4}],
    ),
    "one leaves, two others merge": (
        second(HALF, (1, 1, -0.8), (1, 1, -0.2)),
        second(HALF, (2, 2, -1), (1, 1, -9)),
        [{}, {"disappearance": -3, "merging": -3}],
    ),
}


@pytest.mark.parametrize("name", TWO_LAYERS)
def test_planted_changes_of_two_layers(name):
    before, after, expected = TWO_LAYERS[name]
    found = changed(before, after)
    for site, truth in enumerate(expected):
        totals = {part: round(float(numbers[site]), 9) for part, numbers in found.parts.items()}
        assert {part: total for part, total in totals.items() if total} == truth


# -- random changes ----------------------------------------------------------------------------------------------------


def moved(seed: int, sizes: tuple[int, ...], far: float) -> tuple[Any, Any]:
    """Return a random perceptron before and after a random step."""
    rng = np.random.default_rng(seed)
    before = arrays(linears(sizes, seed))
    after = [
        (weight + far * rng.normal(size=weight.shape), bias + far * rng.normal(size=bias.shape))
        for weight, bias in before
    ]
    return before, after


def crossing_pairs(layer: tuple[np.ndarray, np.ndarray]) -> set[tuple[int, int]]:
    """Return the pairs of lines that cross in the open square, by their equations."""
    weight, bias = layer
    found = set()
    for i in range(len(bias)):
        for j in range(i):
            point = np.linalg.solve(weight[[i, j]], -bias[[i, j]])
            if np.abs(point).max() < 1:
                found.add((j, i))
    return found


def in_window(layer: tuple[np.ndarray, np.ndarray]) -> set[int]:
    weight, bias = layer
    return set(np.flatnonzero(np.abs(bias) < np.abs(weight).sum(1)).tolist())


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 30)]])
def test_random_changes_of_one_layer(seed):
    before, after = moved(seed, (2, 16), 0.5)
    found = changed(before, after)
    common = in_window(before[0]) & in_window(after[0])
    kept = sorted(common)
    one, two = (arrangement(weight[kept], bias[kept], square()).regions for ((weight, bias),) in (before, after))
    whole = [arrangement(*layer, square()).regions for (layer,) in (before, after)]
    pairs = [{pair for pair in crossing_pairs(layer) if set(pair) <= common} for (layer,) in (before, after)]
    expected = {
        "disappearance": one - whole[0],
        "appearance": whole[1] - two,
        "alignment": -len(pairs[0] - pairs[1]),
        "crossing": len(pairs[1] - pairs[0]),
    }
    assert parts(found) == {name: total for name, total in expected.items() if total}
    assert {unit for _, unit, _ in found.boundaries["disappearance"]} == in_window(before[0]) - common
    assert {unit for _, unit, _ in found.boundaries["appearance"]} == in_window(after[0]) - common
    named = {tuple(sorted((one[1], two[1]))) for one, two in found.pairs["alignment"]}
    assert named == pairs[0] - pairs[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_copies_do_not_change_what_happens(seed):
    """Every unit twice, in both networks: the same attribution, without merging."""
    before, after = moved(seed, (2, 12), 0.5)
    doubled = [
        [(np.r_[weight, -1.7 * weight], np.r_[bias, -1.7 * bias]) for weight, bias in side] for side in (before, after)
    ]
    assert parts(changed(*doubled)) == parts(changed(before, after))


def modules(layers: Any) -> nn.Module:
    found: list[nn.Module] = []
    for weight, bias in layers:
        found += [nn.Linear(weight.shape[1], weight.shape[0]).double(), nn.ReLU()]
        with torch.no_grad():
            found[-2].weight.copy_(torch.as_tensor(weight))
            found[-2].bias.copy_(torch.as_tensor(bias))
    return nn.Sequential(*found)


def drawn(walked: Walk, kept: set[int], sites: int) -> int:
    """Return the number of regions if only these units of the first sites are drawn."""
    columns = sorted(unit for unit in kept if unit < sum(walked.units[:sites]))
    label = list(range(len(walked)))

    def root(place: int) -> int:
        while label[place] != place:
            place = label[place]
        return place

    for i, j in walked.edges:
        if (walked.pieces[i, columns] == walked.pieces[j, columns]).all():
            label[root(i)] = root(j)
    return sum(label[place] == place for place in range(len(walked)))


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20)]])
def test_random_changes_of_three_layers(seed):
    """Without merged units, losses and gains are differences of the regions that the common units draw."""
    before, after = moved(seed, (2, 8, 7, 5), 0.2)
    plane = Plane(torch.zeros(2).double(), torch.eye(2).double(), square())
    walks = [walk(modules(side), plane) for side in (before, after)]
    meeting = [{int(unit) for unit in np.flatnonzero((w.pieces != w.pieces[:1]).any(0))} for w in walks]
    common = meeting[0] & meeting[1]
    added = [
        [np.diff([1, *(drawn(w, kept, sites) for sites in (1, 2, 3))]) for kept in (own, common)]
        for w, own in zip(walks, meeting, strict=True)
    ]
    found = changed(before, after)
    np.testing.assert_allclose(found.parts["disappearance"], added[0][1] - added[0][0], atol=1e-9)
    np.testing.assert_allclose(found.parts["appearance"], added[1][0] - added[1][1], atol=1e-9)
    rest = found.parts["alignment"] + found.parts["crossing"] + found.parts["folding"]
    np.testing.assert_allclose(rest, added[1][1] - added[0][1], atol=1e-9)
    assert not found.parts["merging"].any()
    assert not found.parts["splitting"].any()


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 100)]])
def test_lawful_changes_of_whole_numbers(seed):
    """Boundaries of one and of several layers coincide. The reverse has the reverse parts; totals have their signs."""
    rng = np.random.default_rng(seed)
    sizes = [2, *rng.integers(2, 8, rng.integers(1, 4)).tolist()]
    before = [(rng.integers(-2, 3, (b, a)), rng.integers(-2, 3, b)) for a, b in itertools.pairwise(sizes)]
    after = [(w + rng.integers(-1, 2, w.shape) * (rng.random(w.shape) < 0.2), b) for w, b in before]
    found, reverse = changed(before, after), changed(after, before)
    for part, opposite in OPPOSITE.items():
        np.testing.assert_allclose(found.parts[part], -reverse.parts[opposite], atol=1e-9)
        assert part == "folding" or found.total(part) < 1e-9 > -found.total(opposite)
    assert abs(found.parts["folding"][0]) < 1e-9
