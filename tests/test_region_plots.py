"""Plots of regions, circuits and mechanisms draw the right numbers. People judge how the plots look."""

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv, to_rgba
from matplotlib.text import Annotation
from piecewise_cases import arrays, linears

from probe import plots
from probe.geometry import (
    Partition,
    Slice,
    input_plane,
    partition_slice,
    perceptron,
    region_changes,
    slice_through,
    square,
)
from probe.measures import circuit
from probe.plots.regions.changes import MECHANISM_COLOURS
from probe.plots.regions.colours import CLASSES, circuit_colours, tint

AXES = [([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])]  # two units, zero on the axes


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def divided(layers: Any, half_side: float = 1.0, **limits: Any) -> Partition:
    return partition_slice(perceptron(layers), input_plane(square(half_side)), **limits)


def lines(*rows: tuple[float, float, float]) -> Partition:
    """Return the partition by the lines a x + b y + c = 0; the output is the sum of the units."""
    table = np.array(rows)
    return divided([(table[:, :2], table[:, 2]), (np.ones((1, len(rows))), [0.0])])


def drawn(ax: Axes, gid: str) -> Any:
    """Return the one artist of this kind, or None."""
    found = [artist for artist in ax.get_children() if artist.get_gid() == gid]
    assert len(found) <= 1
    return found[0] if found else None


def polygons(ax: Axes, gid: str = "regions") -> list[np.ndarray]:
    """Return the corners of filled polygons, each once."""
    paths = [path.vertices[:-1] for path in drawn(ax, gid).get_paths()]
    return [path[np.any(path != np.roll(path, 1, 0), axis=1)] for path in paths]


def area(corners: np.ndarray) -> float:
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def segments(ax: Axes, gid: str) -> np.ndarray:
    """Return the ends (S, 2, 2) of the lines of this kind."""
    artist = drawn(ax, gid)
    return np.concatenate([path.vertices.reshape(-1, 2, 2) for path in artist.get_paths()] if artist else [[]])


def length(ax: Axes, gid: str) -> float:
    ends = segments(ax, gid)
    return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum()) if len(ends) else 0.0


def chord(a: float, b: float, c: float) -> float:
    """Return the length of the line a x + b y + c = 0 in [-1, 1]^2: Liang and Barsky's clipping."""
    point, direction = -c * np.array([a, b]) / (a * a + b * b), np.array([-b, a]) / np.hypot(a, b)
    with np.errstate(divide="ignore"):
        ends = np.sort(np.stack([(-1 - point) / direction, (1 - point) / direction]), axis=0)
    return max(0.0, float(ends[1].min() - ends[0].max()))


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


# -- partitions ----------------------------------------------------------------------------------------------------


def test_a_panel_for_each_site_with_its_regions() -> None:
    layers = arrays(linears([2, 16, 16, 3]))
    found = divided(layers)
    axes = plots.partitions(found).axes
    assert [ax.get_title() for ax in axes] == ["after layer 0\n27 regions", "after layer 1\n127 regions"]
    for ax in axes:
        assert sorted(map(area, polygons(ax))) == pytest.approx(sorted(found.areas))
        assert (ax.get_xlim(), ax.get_ylim()) == ((-1.04, 1.04), (-1.04, 1.04))
        assert ax.get_aspect() == 1
    for ax, count in zip(axes, (27, 127), strict=True):  # one colour for each region after the site
        assert len({tuple(colour) for colour in drawn(ax, "regions").get_facecolor()}) == count


def test_lines_of_the_first_site_are_the_chords_of_its_units() -> None:
    layers = arrays(linears([2, 16, 16, 3]))
    expected = sum(chord(*row, bias) for row, bias in zip(*layers[0], strict=True))
    first, second = plots.partitions(divided(layers), decision=False).axes
    assert length(first, "boundaries of this layer") == pytest.approx(expected)
    assert length(second, "boundaries of earlier layers") == pytest.approx(expected)
    assert length(second, "boundaries of this layer") > 0


def test_a_colour_keeps_its_family_and_changes_with_each_unit() -> None:
    found = divided(arrays(linears([2, 32, 32, 32, 3])))
    patterns = found.patterns()
    by_depth = [circuit_colours(dict(list(patterns.items())[: k + 1])) for k in range(3)]
    pairs, _ = found.neighbours()
    one, other = by_depth[-1][pairs.T]
    assert np.abs(one - other).max(1).min() > 1 / 255  # levels of the screen
    hues = rgb_to_hsv(by_depth[-1])[:, 0]
    _, family, first = np.unique(patterns["0"], axis=0, return_index=True, return_inverse=True)
    apart = np.abs(hues - hues[family[first]])
    assert np.quantile(np.minimum(apart, 1 - apart), 0.95) < 0.1  # of the circle
    assert np.histogram(hues, 10, (0, 1))[0].min() > 0


def test_a_circuit_has_one_colour_in_all_partitions() -> None:
    before, after = lines((1, 0.1, 0), (0, 1, 0)), lines((1, 0.1, -0.4), (0, 1, 0.3))
    colours = [circuit_colours(one.patterns()) for one in (before, after)]
    for pattern, colour in zip(before.patterns()["0"], colours[0], strict=True):
        same = (after.patterns()["0"] == pattern).all(1)
        assert colours[1][same].tolist() == [colour.tolist()]


def test_composite_boundaries_are_wide() -> None:
    ax = plots.partition(lines((1, 0, 0), (-2, 0, 0), (0, 1, 0)), decision=False)
    assert legend(ax) == ["boundaries of this layer", "composite boundaries"]
    narrow, wide = drawn(ax, "boundaries of this layer"), drawn(ax, "composite boundaries")
    assert segments(ax, "composite boundaries")[:, :, 0].tolist() == [[0, 0], [0, 0]]
    assert segments(ax, "boundaries of this layer")[:, :, 1].tolist() == [[0, 0], [0, 0]]
    assert wide.get_linewidth()[0] > 2 * narrow.get_linewidth()[0]


def test_colours_of_classes_end_at_the_decision_boundary() -> None:
    """Outputs |x| and 1/4, so that class 0 has |x| > 1/4: three quarters of the square."""
    layers = [([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0]), ([[1.0, 1.0], [0.0, 0.0]], [0.0, 0.25])]
    ax = plots.partition(divided(layers), colour="output")
    tints = drawn(ax, "parts").get_facecolor()
    sizes = {tuple(part): 0.0 for part in tints}
    for corners, part in zip(polygons(ax, "parts"), tints, strict=True):
        sizes[tuple(part)] += area(corners)
    colours = [to_rgba(colour) for colour in tint(CLASSES[:2])]
    assert [sizes[colour] for colour in colours] == pytest.approx([3, 1])
    assert np.unique(segments(ax, "decision")[:, :, 0].round(9)).tolist() == [-0.25, 0.25]
    assert legend(ax) == ["class 0", "class 1", "decision boundary"]


def test_a_single_output_decides_at_zero() -> None:
    ax = plots.partition(divided([*AXES, ([[1.0, 1.0]], [-0.5])]))
    ends = segments(ax, "decision").reshape(-1, 2)
    assert np.maximum(ends, 0).sum(1) == pytest.approx(0.5)


def test_hamming_distances_from_the_first_point() -> None:
    found = divided([*AXES, ([[1.0, 1.0]], [0.0])])
    ax = plots.partition(found, colour="hamming", points=torch.tensor([[-0.5, 0.5]]))
    expected = (found.centroids * [-1, 1] < 0).sum(1)
    assert drawn(ax, "regions").get_array().tolist() == expected.tolist()
    with pytest.raises(ValueError, match="Expected colour='circuit'"):
        plots.partition(found, colour="class")  # type: ignore[arg-type]


def test_points_and_labels() -> None:
    found = divided([*AXES, ([[1.0, 1.0]], [0.0])])
    ax = plots.partition(found, points=torch.tensor([[0.5, -0.25], [-0.5, 0.25]]), labels=[0, 1])
    dots = [line for line in ax.get_lines() if line.get_gid() == "points"]
    assert [dot.get_xydata().tolist() for dot in dots] == [[[0.5, -0.25]], [[-0.5, 0.25]]]
    assert [dot.get_color() for dot in dots] == list(CLASSES[:2])
    assert [text.get_text() for text in ax.texts if isinstance(text, Annotation)] == ["0", "1"]
    many = plots.partition(found, points=torch.zeros(20, 2), labels=["a"] * 10 + ["b"] * 10)
    assert legend(many)[-2:] == ["label a", "label b"]
    assert not many.texts


def test_a_slice_of_more_inputs_has_coordinates_of_the_slice() -> None:
    """Three inputs on the plane z = 1; points elsewhere are refused."""
    points = torch.tensor([[0.0, 0.0, 1.0], [3.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    network = perceptron([([[1.0, 0.0, 0.0]], [-1.0]), ([[1.0]], [0.0])])
    found = partition_slice(network, slice_through(points, half_side=4.0))
    ax = plots.partition(found, points=points)
    assert drawn(ax, "points").get_xydata() == pytest.approx(points[:, :2].numpy() - 1)
    assert ax.get_xlabel() == "direction 1 (units of the input)"
    with pytest.raises(ValueError, match="got 1 of 3 outside it"):
        plots.partition(found, points=points + torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 0, 0.1]]))


def test_two_inputs_are_drawn_at_their_own_place() -> None:
    here = Slice(torch.tensor([5.0, 7.0]), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), square(1.0))
    ax = plots.partition(partition_slice(perceptron([(np.eye(2), [-5.0, 0.0]), (np.eye(2), [0.0, 0.0])]), here))
    assert (ax.get_xlim(), ax.get_ylim()) == ((3.96, 6.04), (5.96, 8.04))
    assert segments(ax, "boundaries of this layer")[:, :, 0].tolist() == [[5, 5]]


def test_an_incomplete_partition_is_marked() -> None:
    with pytest.warns(UserWarning, match="lower bounds"):
        found = divided(arrays(linears([2, 16, 16, 3])), max_regions=60)
    axes = plots.partitions(found).axes
    titles = ["after layer 0\n27 regions", f"after layer 1\nat least {found.n_regions} regions"]
    assert [ax.get_title() for ax in axes] == titles
    assert len(polygons(axes[1])) == found.n_regions
    assert length(axes[1], "boundaries of this layer") > 0  # as far as they were cut
    with pytest.warns(UserWarning, match="lower bounds"):
        first = divided(arrays(linears([2, 16, 3])), max_regions=9)
    ax = plots.partition(first, colour="hamming")  # no circuit is known: all distances are 0
    assert drawn(ax, "regions").get_array().tolist() == [0] * first.n_regions


def test_sites_are_checked() -> None:
    found = divided([*AXES, ([[1.0, 1.0]], [0.0])])
    assert len(plots.partitions(found, sites="0").axes) == 1
    with pytest.raises(ValueError, match="Expected a site among 0, got 'relu'"):
        plots.partition(found, site="relu")
    linear = divided([([[1.0, 1.0]], [0.0])])
    assert plots.partition(linear).get_title() == "no site\n1 region"
    with pytest.raises(ValueError, match="Expected at least one site"):
        plots.partitions(linear)


# -- changes -------------------------------------------------------------------------------------------------------


def compare(before: Partition, after: Partition, **options: Any) -> list[Axes]:
    return plots.region_changes(before, after, region_changes(before, after), **options).axes


def test_a_line_that_leaves() -> None:
    one, two = compare(lines((1, 0, 0), (0, 1, 0)), lines((1, 0, -3), (0, 1, 0)), names=("step 0", "step 9"))
    assert [one.get_title(), two.get_title()] == ["step 0: 4 regions", "step 9: 2 regions"]
    lost = drawn(one, "line that leaves the window")
    assert segments(one, "line that leaves the window")[:, :, 0].tolist() == [[0, 0], [0, 0]]
    assert to_rgba(MECHANISM_COLOURS["disappearance"]) == tuple(lost.get_edgecolor()[0])
    assert legend(one) == ["line that remains", "line that leaves the window: 1"]
    assert legend(two) == ["line that remains"]
    assert one.figure.get_suptitle() == "change of \N{MINUS SIGN}2 regions: disappearance \N{MINUS SIGN}2"


def test_lines_that_merge_and_separate() -> None:
    apart, together = lines((1, 0, 0.3), (1, 0, -0.3)), lines((1, 0, 0.2), (-2, 0, -0.4))
    one, two = compare(apart, together)
    assert "line that merges with another: 1" in legend(one)
    assert "line that has merged with another: 1" in legend(two)
    assert segments(two, "line that has merged with another")[0, :, 0] == pytest.approx(-0.2)
    one, two = compare(together, apart)
    assert "line that will separate from another: 1" in legend(one)
    assert "line that has separated from another: 1" in legend(two)


def test_a_crossing_that_is_lost_is_marked_at_its_point() -> None:
    cross, apart = lines((1, 1, 0), (1, -1, -0.5)), lines((1, 0.1, 0), (1, -0.1, -0.5))
    one, two = compare(cross, apart)
    assert drawn(one, "crossing that is lost").get_xydata() == pytest.approx(np.array([[0.25, -0.25]]))
    assert "crossing that is lost: 1" in legend(one)
    assert drawn(two, "crossing that is new").get_xydata().size == 0
    one, two = compare(apart, cross)
    assert drawn(two, "crossing that is new").get_xydata() == pytest.approx(np.array([[0.25, -0.25]]))


def test_lines_of_later_sites_are_found() -> None:
    """Site 0 has two units that are on and one whose line is y = 0.5; site 1 has the lines x = -0.5 and x = 0.2."""

    def network(bias: float) -> Partition:
        first = [[1.0, 0], [0, 1.0], [0, 1.0]], [3.0, 3.0, -0.5]
        second = [[1.0, 0, 0], [1.0, 0, 0]], [-2.5, bias]
        return divided([first, second, ([[1.0, 1.0]], [0.0])])

    one, two = compare(network(-3.2), network(-5.0))
    lost = segments(one, "line that leaves the window")
    assert np.unique(lost[:, :, 0].round(9)).tolist() == [0.2]
    assert np.unique(lost[:, :, 1].round(9)).tolist() == [-1, 0.5, 1]
    assert legend(two) == ["line that remains"]
    assert compare(network(-3.2), network(-5.0), site="0")[0].figure.get_suptitle() == "no change at site 0"


def test_changes_of_one_site_on_given_axes() -> None:
    before, after = (divided(arrays(linears([2, 8, 8, 2], seed)), 2.0) for seed in (0, 1))
    found = region_changes(before, after)
    figure, axes = plt.subplots(1, 2)
    assert plots.region_changes(before, after, found, site="0", axes=axes) is figure
    for ax, one in zip(axes, (before, after), strict=True):
        assert f": {one.arrangements[0].n_regions} regions" in ax.get_title()
        assert len({tuple(colour) for colour in drawn(ax, "regions").get_facecolor()}) == one.arrangements[0].n_regions
    change = after.arrangements[0].n_regions - before.arrangements[0].n_regions
    assert f"change at site 0 of {change:+}".replace("-", "\N{MINUS SIGN}") in axes[1].get_title()
    with pytest.raises(ValueError, match="Expected a site among 0, 1"):
        plots.region_changes(before, after, found, site="2")


# -- circuits ------------------------------------------------------------------------------------------------------


def small() -> Any:
    return circuit(
        perceptron([([[1.0, 0], [0, 1], [-1, 0]], [0.0] * 3), ([[-2.0, 1, 4]], [0.0])]),
        torch.tensor([[3.0, 1.0], [3.0, -1.0]]),
    )


def test_a_circuit_has_the_weights_between_active_units() -> None:
    """Units 0 and 1 are active: two weights from the input are not 0, and -2 and 1 to the output, in ascending size."""
    ax = plots.circuit(small())
    assert ax.get_title() == "input 0: 2 of 3 units active"
    found = [a for a in ax.collections if a.get_gid() == "weights"]
    ends = [np.array(part.get_segments()).tolist() for part in found]
    assert ends == [[[[0, 0.5], [1, 1]], [[0, -0.5], [1, 0]]], [[[1, 0], [2, 0]], [[1, 1], [2, 0]]]]
    widths = found[1].get_linewidth()
    assert widths[1] == 2 * widths[0]
    colours = found[1].get_color()
    assert colours[0].tolist() != colours[1].tolist()  # positive, negative
    active = [line.get_xydata() for line in ax.get_lines() if line.get_gid() == "active"]
    assert active[0].tolist() == [[1, 1], [1, 0]]


def test_a_neighbour_marks_the_units_that_switch() -> None:
    ax = plots.circuit(small(), 1, neighbour=0)
    assert ax.get_title() == "input 1: 1 of 3 units active, 1 differs from input 0"
    rings = [line.get_xydata().tolist() for line in ax.get_lines() if line.get_gid() == "switched"]
    assert rings == [[], [[1, 0]], []]


def test_other_objects_and_inputs_are_refused() -> None:
    with pytest.raises(TypeError, match=r"got Linear; make it with circuit\(model, inputs\)"):
        plots.circuit(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="one label for each of 1 points, got 2"):
        plots.partition(divided(AXES), points=[[0.5, 0.5]], labels=[1, 2])
    with pytest.raises(ValueError, match="an input from 0 to 1, got 5"):
        plots.circuit(small(), 5)
    with pytest.raises(TypeError, match="Expected a Partition, got Linear; make it with partition_slice"):
        plots.partition(torch.nn.Linear(1, 1))


def test_large_layers_are_cells() -> None:
    found = {"a": np.arange(40)[None] < 13, "b": np.ones((1, 5))}
    ax = plots.circuit(found)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a: 13 of 40", "b: 5 of 5"]
    cells = [part for part in ax.collections if part.get_gid() == "cells"]
    assert [len(part.get_paths()) for part in cells] == [40, 5]
    assert len({tuple(colour) for colour in cells[0].get_facecolor()[:13]}) == 1
    assert cells[0].get_facecolor()[12].tolist() != cells[0].get_facecolor()[13].tolist()


def test_a_network_without_activation_functions_has_no_cells() -> None:
    found = circuit(torch.nn.MaxPool1d(2), torch.randn(3, 1, 8))
    assert plots.circuit(found).get_title().endswith("0 of 0 units active")


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"Expected 2 matrices .* sites of \[3\] units"):
        plots.circuit({"0": [[1, 0, 1]]}, weights=[np.ones((3, 2)), np.ones((1, 4))])


# -- mechanisms ----------------------------------------------------------------------------------------------------

NAMES = ["disappearance", "merging", "crossing"]


def series(total: list[float], change: list[list[float]]) -> xr.Dataset:
    dims = ("step", "split", "slice")
    parts = np.array(change)[:, None, None, None]
    values = {
        "linear_regions_total": (dims, np.array(total)[:, None, None]),
        "linear_regions_change": ((*dims, "layer", "mechanism"), parts),
    }
    return xr.Dataset(values, {"step": [1, 10, 100], "split": ["train"], "layer": ["0"], "mechanism": NAMES})


NOTHING = [np.nan] * 3


def band(ax: Axes, name: str) -> list[float]:
    """Return the height of an area at each step."""
    (found,) = [part for part in ax.collections if part.get_label() == name]
    (path,) = found.get_paths()
    at = {}
    for x, y in path.vertices:
        at.setdefault(round(float(x), 6), []).append(float(y))
    return [max(heights) - min(heights) for _, heights in sorted(at.items())]


def test_areas_are_sums_since_the_first_observation() -> None:
    data = series([20, 15, 18], [NOTHING, [-6, -1, 2], [0, -1, 4]])
    top, below = plots.mechanisms(data, net=False).axes
    assert [band(below, name) for name in NAMES] == [[0, 6, 6], [0, 1, 2], [0, 2, 6]]
    assert below.get_lines()[0].get_ydata().tolist() == [0, -5, -2]
    assert top.get_lines()[0].get_ydata().tolist() == [20, 15, 18]
    assert below.get_ylabel() == "change since step 1"


def test_a_mechanism_and_its_reverse_are_added() -> None:
    """Alignment takes 4 and crossing gives 1, then 5: together -3, then 2."""
    names = ["alignment", "crossing", "folding"]
    data = series([20, 17, 22], [NOTHING, [-4, 1, 0], [0, 5, 0]]).assign_coords(mechanism=names)
    below = plots.mechanisms(data).axes[1]
    (gain, loss) = (part.get_paths()[0].vertices for part in below.collections)
    assert (loss[:, 1].min(), gain[:, 1].max()) == (-3, 2)
    zero = 10 ** (1 + 3 / 5)  # between steps 10 and 100, on the logarithmic axis
    assert loss[loss[:, 0] > zero + 1e-6, 1] == pytest.approx(0)
    assert gain[gain[:, 0] < zero - 1e-6, 1] == pytest.approx(0)
    assert below.get_legend_handles_labels()[1] == ["alignment and crossing", "change of the number (sum)"]


def test_what_was_not_attributed_is_an_area_of_its_own() -> None:
    data = series([20, 15, 18], [NOTHING, NOTHING, [0, -1, 4]])
    below = plots.mechanisms(data).axes[1]
    assert band(below, "not attributed") == [0, 5, 5]
    assert below.get_lines()[0].get_ydata().tolist() == [0, -5, -2]


def test_runs_are_means_and_controls_stand_beside() -> None:
    one = series([20, 15, 18], [NOTHING, [-6, -1, 2], [0, -1, 4]])
    other = series([10, 9, 9], [NOTHING, [-2, 1, 0], [0, 0, 0]])
    runs = xr.concat([one, other], "run", join="outer").assign_coords(run=[0, 1])
    axes = plots.mechanisms(runs, other, net=False).axes
    assert band(axes[2], "disappearance") == [0, 4, 4]
    assert axes[2].get_lines()[0].get_ydata() == pytest.approx([0, -3, -1.5])
    assert axes[3].get_lines()[0].get_ydata().tolist() == [0, -1, -1]
    assert [ax.get_title() for ax in axes[:2]] == ["runs", "controls"]


def test_layers_and_splits_of_other_measures_do_not_count() -> None:
    data = series([20, 15, 18], [NOTHING, [-6, -1, 2], [0, -1, 4]])
    wide = data.reindex(layer=["<input>", "0"], split=["other", "train"])
    below = plots.mechanisms(wide, net=False).axes[1]
    assert [band(below, name) for name in NAMES] == [[0, 6, 6], [0, 1, 2], [0, 2, 6]]
    with pytest.raises(ValueError, match="Expected a split among train, got 'other'"):
        plots.mechanisms(wide, split="other")


def test_numbers_of_stopped_partitions_are_marked_as_lower_bounds() -> None:
    data = series([20, 15, 18], [NOTHING] * 3)
    stopped = xr.zeros_like(data["linear_regions_total"], dtype=np.int8)
    assert drawn(plots.mechanisms(data.assign(linear_regions_incomplete=stopped)).axes[0], "bound") is None
    stopped[1] = 1
    top = plots.mechanisms(data.assign(linear_regions_incomplete=stopped)).axes[0]
    numbers = drawn(top, "bound").get_ydata()
    assert np.isnan(numbers).tolist() == [True, False, True]
    assert numbers[1] == 15
    assert "lower bound" in top.get_legend().get_texts()[0].get_text()


def test_mechanisms_need_the_variables() -> None:
    data = series([20, 15, 18], [NOTHING] * 3)
    with pytest.raises(ValueError, match="without linear_regions_change; record them with LinearRegionsProbe"):
        plots.mechanisms(data[["linear_regions_total"]])
    with pytest.raises(ValueError, match="Expected a split among train, got 'test'"):
        plots.mechanisms(data, split="test")
