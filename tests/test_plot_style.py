"""The style of all figures: steps, labels, words, colours for colour-blind readers, dark backgrounds, sizes of text."""

import inspect
import itertools
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from probe import PhaseDetector, plots
from probe.phases import MARKERS
from probe.plots.heat import heat_map
from probe.plots.labels import label_above, label_lines
from probe.plots.names import layer_name
from probe.plots.steps import scale_steps, step_edges, step_norm, step_places, steps_at
from probe.plots.style import _DARK, _LIGHT, COLOURS, FONT, LINES, WIDTH, contrast, text_colour
from probe.plots.titles import wrapped

# Machado, Oliveira and Fernandes 2009, table 1, severity 1: linear RGB as a dichromat sees it.
SIMULATED = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def lab(colour: str, sight: str) -> np.ndarray:
    """CIELAB of a colour as somebody with this sight perceives it."""
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIMULATED[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    x, y, z = np.cbrt(np.maximum(np.array(to_xyz) @ seen / [0.95047, 1, 1.08883], 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIMULATED)
@pytest.mark.parametrize(
    ("palette", "least"),
    [
        (list(COLOURS.values()), 20),
        ([kind.colour for kind in MARKERS], 15),
        (list(_LIGHT.values()), 6),
        (list(_DARK.values()), 6),
    ],
)
def test_colours_remain_different_for_colour_blind_readers(palette: list[str], least: float, sight: str) -> None:
    pairs = itertools.combinations([lab(colour, sight) for colour in palette], 2)
    assert min(float(np.linalg.norm(one - other)) for one, other in pairs) > least


def test_lines_of_splits_differ_in_grey_print() -> None:
    styles = [str(LINES[split]) for split in COLOURS]
    assert len({*styles}) == len(COLOURS) == 4


def demo(zero: bool = True) -> tuple[xr.Dataset, PhaseDetector]:
    """A run that fits at step 20 and generalises at step 500, recorded from step 0 on."""
    steps = np.unique(np.r_[0 if zero else 1, np.geomspace(1, 1e4, 60).astype(int)])
    curves = {
        "train_accuracy": np.interp(steps, [0, 5, 20], [0.1, 0.1, 1]),
        "test_accuracy": np.interp(np.log10(steps + 1), [0, 2, 2.7], [0.1, 0.1, 1]),
        "train_loss": np.interp(steps, [0, 5, 20, 1e4], [2, 2, 0.1, 0.0001]),
        "test_loss": np.interp(np.log10(steps + 1), [0, 1, 2, 2.7, 4], [2, 2, 5, 1, 0.5]),
    }
    data = xr.Dataset({name: ("step", values) for name, values in curves.items()}, {"step": steps})
    return data, PhaseDetector(chance=0.1).fit(data)


def ticks(ax: Axes) -> list[tuple[float, str]]:
    return [
        (float(tick), label.get_text())
        for tick, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]
    ]


def test_step_zero_has_its_own_place_on_a_symlog_axis() -> None:
    data, detector = demo()
    ax = plots.panel(data, ["train_accuracy", "test_accuracy"], detector)
    assert (ax.get_xscale(), ax.get_xlim()) == ("symlog", (0, 10_000))
    assert ticks(ax) == [(0, "0"), (1, "1"), (10, "10"), (100, "100"), (1000, "1k"), (10_000, "10k")]
    assert ax.lines[0].get_xdata()[0] == 0
    places = ax.transData.transform([(step, 0) for step in (0, 0.5, 1, 10, 100)])[:, 0]
    assert places[2] - places[1] == pytest.approx(places[1] - places[0])  # linear up to the first positive step
    assert places[3] - places[2] == pytest.approx(places[4] - places[3])  # and logarithmic from there on
    assert places[2] - places[0] == pytest.approx(0.5 * (places[4] - places[3]))
    for other in (plots.alignment(detector), plots.phase_strip(detector)):
        assert (other.get_xscale(), other.get_xlim()) == ("symlog", (0, 10_000))
    assert plots.panel(*demo(zero=False)[:1], ["train_accuracy"]).get_xscale() == "log"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([5, 20, 80, 200], ["5", "10", "20", "50", "100", "200"]),
        ([0, 100, 300, 2e6], ["0", "100", "1k", "10k", "100k", "1M"]),
        ([0, 0.25, 0.5, 4], ["0", "0.5", "1", "2"]),
        ([1000, 1300, 1700], ["1k", "1.2k", "1.4k", "1.6k"]),
    ],
)
def test_ticks_of_steps(steps: list[float], expected: list[str]) -> None:
    ax = plt.figure().add_subplot()
    scale_steps(ax, steps)
    assert [text for _, text in ticks(ax)] == expected


def test_places_of_steps_and_their_middle() -> None:
    steps = np.array([0.0, 2, 20, 200])
    assert step_places(steps, 2.0) == pytest.approx([0, 0.5, 1.5, 2.5])
    assert steps_at(step_places(steps, 2.0), 2.0) == pytest.approx(steps)
    assert step_edges(steps) == pytest.approx([0, 1, 40**0.5, 4000**0.5, 200])
    assert np.asarray(step_norm(steps)([0, 2, 20, 200])) == pytest.approx(np.array([0, 0.5, 1.5, 2.5]) / 2.5)
    assert np.asarray(step_norm(steps[1:])([2, 20, 200])) == pytest.approx([0, 0.5, 1])


def boxes(ax: Axes, gid: str | None = None) -> list:
    """Boxes of the texts alone, without the strokes of labels."""
    return [Text.get_window_extent(text) for text in ax.texts if gid is None or text.get_gid() == gid]


def overlapping(found: list) -> list:
    return [(a, b) for a, b in itertools.combinations(found, 2) if a.overlaps(b)]


@pytest.mark.parametrize("ends", [[1, 1, 1, 1, 1], [0, 0, 0.5, 1, 1], [1, 0.99, 0.98, 0, 5]])
@pytest.mark.parametrize("size", [(9, 5), (3, 2)])
def test_labels_at_line_ends_do_not_overlap(ends: list[float], size: tuple[float, float]) -> None:
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    for i, end in enumerate(ends):
        ax.plot([0, 1], [i, end], label=f"line {i}", color=f"C{i}")
    label_lines(ax)
    figure.draw_without_rendering()
    found = boxes(ax, "line")
    assert [text.get_text() for text in ax.texts] == [f"line {i}" for i in range(5)]
    assert not overlapping(found)
    assert min(box.x0 for box in found) > ax.get_window_extent().x1
    assert max(box.x1 for box in found) <= figure.bbox.x1
    heights = [(box.y0 + box.y1) / 2 for box in found]
    assert all(heights[i] <= heights[j] for i, j in itertools.permutations(range(5), 2) if ends[i] < ends[j])
    assert len({text.get_color() for text in ax.texts}) == 5


@pytest.mark.parametrize("log", [False, True])
def test_the_layout_has_room_for_labels(log: bool) -> None:
    figure = plots.curves(demo()[0], ["train_loss", "test_loss"], log=log).figure
    figure.draw_without_rendering()
    assert max(box.x1 for box in boxes(figure.axes[0], "line")) <= figure.bbox.x1


def test_a_label_stands_at_the_height_of_its_line() -> None:
    figure, ax = plt.subplots()
    for value in (0, 1, 4):
        ax.plot([0, 1, 2], [3, 2, value], label=str(value))
    label_lines(ax)
    figure.draw_without_rendering()
    heights = [(box.y0 + box.y1) / 2 for box in boxes(ax, "line")]
    assert heights == pytest.approx(ax.transData.transform([(2, 0), (2, 1), (2, 4)])[:, 1], abs=2)
    ax.set_ylim(0.5, 3)  # lines that leave the axes point to their edges
    figure.draw_without_rendering()
    assert boxes(ax, "line")[0].y0 >= ax.get_window_extent().y0 - 2


def test_many_or_long_labels_have_a_legend() -> None:
    for names in ([f"line {i}" for i in range(6)], ["a" * 60]):
        ax = plt.figure().add_subplot()
        for name in names:
            ax.plot([0, 1], label=name)
        label_lines(ax, "a title")
        assert [text.get_text() for text in ax.get_legend().get_texts()] == names
        assert not ax.texts


@pytest.mark.parametrize("width", [3, 9])
def test_labels_above_axes_do_not_overlap_and_reach_their_markers(width: float) -> None:
    figure, ax = plt.subplots(figsize=(width, 3), layout="constrained")
    places = [0.0, 0.4, 0.41, 0.42, 0.45, 0.5, 1]
    label_above(ax, [kind.label for kind in MARKERS], places, [kind.colour for kind in MARKERS])
    figure.draw_without_rendering()
    found = boxes(ax)
    assert not overlapping(found)
    assert min(box.y0 for box in found) > ax.get_window_extent().y1
    at = ax.transData.transform([(place, 0) for place in places])[:, 0]
    assert all(box.x0 - 1 <= x <= box.x1 + 1 for box, x in zip(found, at, strict=True))
    assert figure.get_tightbbox().x0 >= 0


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


PAGE = {  # of a web page with a dark theme, as for the figures of the documentation
    "figure.facecolor": "#131416", "axes.facecolor": "#131416", "text.color": "w", "axes.labelcolor": "w",
    "xtick.color": "w", "ytick.color": "w",
}  # fmt: skip


@pytest.mark.parametrize(
    "theme", ["dark_background", *(pytest.param(one, marks=pytest.mark.slow) for one in ("default", PAGE))]
)
def test_all_texts_are_legible_on_their_background(theme: str | dict) -> None:
    with plt.style.context(theme):
        data, detector = demo()
        figures = [
            plots.overview(data, detector, title="a run"), plots.alignment(detector).figure,
            plots.phases(detector).figure, plots.phase_strip(detector).figure, plane(detector).figure,
        ]  # fmt: skip
        for figure in figures:
            figure.set_layout_engine("none")  # the layout takes most of the time
            figure.draw_without_rendering()
            page = to_hex(figure.get_facecolor())
            for text in texts(figure):
                if text.get_text() not in ("", " "):
                    assert contrast(to_hex(text.get_color()), page) >= 4.5, text
            assert min(text.get_fontsize() for text in texts(figure)) >= FONT
            assert figure.get_size_inches()[0] <= WIDTH


def test_text_is_legible_on_shades_too() -> None:
    for theme, shades in (("default", _LIGHT), ("dark_background", _DARK)):
        with plt.style.context(theme):
            ax = plt.figure().add_subplot()
            for colour in [*COLOURS.values(), *(kind.colour for kind in MARKERS)]:
                assert min(contrast(text_colour(colour, ax), shade) for shade in shades.values()) >= 4.5


def test_seven_points_remain_at_a_width_of_700_pixels() -> None:
    css_pixels = FONT / 72 * (700 / WIDTH)  # height of the font in a figure that is shown 700 pixels wide
    assert css_pixels * 72 / 96 >= 7 * 0.97


def plane(detector: PhaseDetector) -> Axes:
    steps, dims = detector.phases_["step"].values, ("step", "split", "layer")
    x = np.linspace(1, 4, len(steps))[:, None, None]
    values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2.2}
    coords = {"step": steps, "split": ["train"], "layer": ["1"]}
    return plots.information_plane(
        xr.Dataset({name: (dims, v) for name, v in values.items()}, coords), detector=detector
    )


def test_figures_and_summary_have_the_same_words() -> None:
    data, detector = demo()
    shown = {text.get_text() for text in plots.phases(detector).texts}
    legend = {text.get_text() for text in plots.overview(data, detector).legends[0].get_texts()}
    assert shown < legend
    assert shown == {"fit end", "generalisation onset", "descent onset", "end"}
    assert shown < {label.get_text() for label in plots.alignment(detector).get_yticklabels()} | {"compression onset"}
    assert all(word in {kind.label for kind in MARKERS} for word in shown)


def test_names_of_layers() -> None:
    assert [layer_name(one) for one in ("1", "1:relu", "blocks.1", "<input>", 3)] == [
        "layer 1", "layer 1, relu", "blocks.1", "input", "layer 3",
    ]  # fmt: skip


def test_a_title_is_wrapped_by_its_real_width_and_never_cut() -> None:
    text = "iii MMM " * 30 + "W" * 300 + " \u00fc" * 40
    lines = wrapped(text, 300, 11)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    figure = plt.figure()
    widths = [figure.text(0, 0, line, fontsize=11).get_window_extent().width / figure.dpi * 72 for line in lines]
    assert max(widths) <= 300 * 1.02
    assert sorted(widths)[len(widths) // 3] > 240  # and no line is much shorter than needed


def test_a_loss_that_leaves_the_panel_has_a_note() -> None:
    data, detector = demo()
    detector.markers_["size"][:] = np.nan
    ax = plots.panel(data.assign(test_loss=data["test_loss"] / 5), ["train_loss", "test_loss"], detector)
    (note,) = [text.get_text() for text in ax.texts if text.get_gid() == "cut"]
    assert note == "\u2193 train_loss to 0.0001"
    assert ax.get_ylim()[0] == pytest.approx(0.1 / 30)


def test_an_odd_number_of_panels_leaves_no_empty_cell() -> None:
    data, _ = demo()
    figure = plots.overview(data.assign(lr=data["train_loss"]), panels=["lr", "train_loss", "test_loss"])
    first, _, last = [ax.get_position() for ax in figure.axes]
    assert last.width > 1.8 * first.width


def test_the_summary_names_markers_with_the_words_of_the_figures() -> None:
    _, detector = demo()
    shown = {text.get_text() for text in plots.phases(detector).texts}
    assert shown == {line[2:].partition(": ")[0] for line in detector.summary().splitlines() if line[:2] == "- "} - {
        "not recorded"
    }


def test_functions_with_axes_return_them_and_others_return_figures() -> None:
    for name in plots.__all__:
        function = getattr(plots, name)
        returned = inspect.signature(function).return_annotation
        if name not in ("plane_distance", "animate_plane"):
            assert returned is (Axes if "ax" in inspect.signature(function).parameters else Figure), name
            assert f"``{name}``" in plots.__doc__ or returned is Axes


def test_many_layers_are_rows_of_a_heat_map() -> None:
    names, steps = [f"blocks.{i}" for i in range(30)], np.array([0, 1, 10, 100])
    values = np.arange(30.0)[:, None] + steps
    runs = xr.DataArray([values - 1, values, values + 1], {"layer": names, "step": steps}, ("run", "layer", "step"))
    figure, ax = plt.subplots(layout="constrained")
    heat_map(ax, runs.where(runs["layer"] != "blocks.3"), "norm")
    figure.draw_without_rendering()
    (mesh,) = ax.collections
    drawn = np.ma.masked_invalid(mesh.get_array()).reshape(30, 4)
    assert drawn[[0, 1, 29]].tolist() == values[[0, 1, 29]].tolist()
    assert drawn[3].mask.all()
    assert np.asarray(mesh.get_coordinates())[0, :, 0] == pytest.approx([0, 0.5, 10**0.5, 10**1.5, 100])
    assert (ax.get_xscale(), ax.get_xlabel()) == ("symlog", "step (median of 3 runs)")
    shown = [text for text in ax.get_yticklabels() if text.get_text()]
    assert (shown[0].get_text(), shown[-1].get_text()) == ("blocks.0", "blocks.29")
    assert not overlapping([text.get_window_extent() for text in shown])
    assert ax.get_ylim() == (29.5, -0.5)
    coords = {"step": steps, "parameter": [f"blocks.{i}.weight" for i in range(8)]}
    norms = xr.Dataset({"weight_norm": (("step", "parameter"), np.ones((4, 8)), {"long_name": "norm"})}, coords)
    (panel,) = plots.measure(norms, "WeightsProbe").axes
    assert [text.get_text() for text in panel.get_yticklabels()] == [f"blocks.{i}" for i in range(8)]
    (seven,) = plots.measure(norms.isel(parameter=slice(7)), "WeightsProbe").axes
    assert len(seven.lines) == 7


def test_all_markers_at_one_step_are_visible() -> None:
    steps = np.arange(1, 60)
    detector = PhaseDetector(chance=0.1).fit({"step": steps, "train_accuracy": np.minimum(1, steps / 20)})
    one = detector.markers_.sel(marker=["fit_end"])
    detector.markers_ = xr.concat([one.assign_coords(marker=[name]) for name in "abc"], "marker", data_vars="all")
    ax = plots.phases(detector)
    triangles = [line for line in ax.lines if line.get_gid() == "marker"]
    assert [line.get_markersize() for line in triangles] == [15, 11, 7]  # the later ones lie on the larger ones
    patterns = [line._unscaled_dash_pattern for line in ax.lines if line.get_gid() is None]  # type: ignore[attr-defined]
    assert patterns == [(2.5 * i, (1, 6.5)) for i in range(3)]  # dots that alternate


def test_measures_name_their_split_and_layers_have_one_name() -> None:
    values = np.linspace(1, 2, 8).reshape(4, 2, 1).repeat(2, 2)
    series = xr.Dataset(
        {"activation_norm": (("step", "split", "layer"), values, {"long_name": "norm"})},
        {"step": [0, 1, 2, 5], "split": ["train", "test"], "layer": [":relu->", ":relu.3->"]},
    )
    drawn = plots.measure(series, "ActivationsProbe", split="test").axes[0]
    assert drawn.get_ylabel() == "norm, split test"
    assert "relu.3->" in plots.curves(series, "activation_norm").get_ylabel().split()
    assert [text.get_text() for text in drawn.texts] == ["relu->", "relu.3->"]


def test_tiny_steps_have_the_colour_of_step_zero() -> None:
    norm = step_norm(np.array([1e-300, 2e-300]))  # matplotlib raises "Invalid vmin or vmax" for a bar from 1e-300
    figure, ax = plt.subplots()
    bar = figure.colorbar(ScalarMappable(norm), ax=ax)
    assert (norm(2e-300), norm(1)) == pytest.approx((0, 1))
    assert bar.ax.get_ylim() == (0, 1)


def test_a_plane_of_many_layers_has_a_shape_for_each_one_that_it_names() -> None:
    x, dims = np.linspace(1, 2, 5)[:, None, None].repeat(64, 2), ("step", "split", "layer")
    values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2}
    layers = {"step": [0, 1, 2, 5, 10], "split": ["train"], "layer": [str(i) for i in range(64)]}
    series = xr.Dataset({name: (dims, value) for name, value in values.items()}, layers)
    ax = plots.information_plane(series)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names[:8] == [*(f"layer {i}" for i in (0, 10, 21, 32, 42, 52, 63)), "7 of 64 layers"]
    assert ax.get_window_extent().height > 0.4 * ax.figure.bbox.height


def test_the_ceiling_is_explained_once_also_below_phases() -> None:
    steps = np.arange(1, 60)
    series = xr.Dataset(
        {"train_accuracy": ("step", np.minimum(1, steps / 20)), "train_accuracy_ceiling": ("step", 0 * steps + 1.0)},
        {"step": steps},
    )
    detector = PhaseDetector(chance=0.1).fit(series)
    ax = plots.curves(series, "train_accuracy")
    plots.phases(detector, ax=plots.curves(series, "train_accuracy", ax=ax))
    assert ax.get_xlabel() == "step\ndotted: largest possible"


def test_a_short_axis_of_steps_has_integer_ticks() -> None:
    _, ax = plt.subplots()
    scale_steps(ax, [0, 1, 2, 4])
    assert list(ax.get_xticks()) == [0, 1, 2, 3, 4]


def test_a_long_label_of_a_large_font_has_more_lines() -> None:
    name = "share of units that differ between two neighbouring inputs"
    series = xr.Dataset({"one": ("step", [0.0, 1.0], {"long_name": name})}, {"step": [1, 2]})
    with plt.rc_context({"font.size": 18}):
        lines = plots.curves(series, "one").get_ylabel().split("\n")
    assert max(map(len, lines)) <= 20


def test_layers_of_a_plane_with_long_names_have_different_names() -> None:
    x, dims = np.linspace(1, 2, 3)[:, None, None].repeat(2, 2), ("step", "split", "layer")
    values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2}
    names = [f"transformer.encoder.layers.{i}.self_attention.out_projection" for i in range(2)]
    labels = {"step": [0, 1, 2], "split": ["train"], "layer": names}
    ax = plots.information_plane(xr.Dataset({name: (dims, value) for name, value in values.items()}, labels))
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == ["layers.0", "layers.1"]
