"""Each plot is drawn, also of incomplete series, and draws the right values. People judge how the plots look."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.colors import to_hex
from matplotlib.text import Text
from sklearn.exceptions import NotFittedError

from probe import PhaseDetector, plots, series
from probe.errors import ProbeWarning
from probe.phases import MARKERS
from probe.plots.names import label_text
from probe.plots.style import COLOURS, line_colour

NAMES = [kind.name for kind in MARKERS]


def run(n: int = 40, *, saturated: bool = False, seed: int = 0) -> xr.Dataset:
    """A series as probes record it, with three layers of which one was never measured."""
    steps = np.unique(np.geomspace(1, 1e4, n).astype(int))
    n, noise = len(steps), np.random.default_rng(seed).normal(0, 0.01, len(steps))
    x = np.linspace(0, 1, n)
    information = np.stack([4 + x, 4 + np.sin(3 * x), np.full(n, np.nan)], 1)[:, None].repeat(2, 1)  # (n, split, layer)
    dims = ("step", "split", "layer")
    return xr.Dataset(
        {
            "train_accuracy": ("step", np.clip(2 * x, 0, 1)),
            "test_accuracy": ("step", np.clip(2 * x - 0.8, 0.1, 1)),
            "train_loss": ("step", 2 - 1.9 * x),
            "test_loss": ("step", 2 + np.sin(3 * x) + noise),
            "information_x": (dims, information, {"units": "bits"}),
            "information_x_se": (dims, np.full_like(information, 0.05)),
            "information_x_ceiling": (dims, np.full_like(information, 6.0)),
            "information_y": (dims, information / 2, {"units": "bits"}),
            "information_y_ceiling": (dims, np.full_like(information, 3.0)),
            "saturated": (dims, np.full(information.shape, int(saturated), np.int8)),
            "local_complexity_total": (("step", "split"), np.stack([x, 1 - x], 1)),
            "linear_mapping_number": (dims, np.where(np.arange(3) == 0, 3.0, np.nan) + 0 * information),
        },
        {"step": steps, "split": ["train", "test"], "layer": ["a", "b", "c"]},
    )


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def named(ax: Axes) -> list[str]:
    """The labels at the ends of the lines, or those of the legend."""
    legend = ax.get_legend()
    return [text.get_text() for text in (ax.texts if legend is None else legend.get_texts()) if
            legend or text.get_gid() == "line"]  # fmt: skip


def labels(figure: plt.Figure) -> list[str]:
    return [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel() != "step"]


def test_overview_has_a_panel_for_each_measure() -> None:
    data = run()
    figure = plots.overview(data, PhaseDetector().fit(data), title="a run")
    figure.canvas.draw()
    assert labels(figure) == [
        "accuracy", "loss", "information_x, b (bits)", "local_complexity_total", "linear_mapping_number, a",
        "I(T+n;Y) (bits)",
    ]  # fmt: skip
    assert figure.axes[0].get_xscale() == "log"  # the record begins at step 1


@pytest.mark.parametrize("data", [
    pytest.param(series.concat([run(), run(saturated=True, seed=1)]), marks=pytest.mark.slow), run().isel(step=[0]),
])  # fmt: skip
def test_overview_of_several_runs_with_saturated_ones_and_of_one_point(data: xr.Dataset) -> None:
    detector = PhaseDetector().fit(data) if data.sizes["step"] > 4 else None
    figure = plots.overview(data, detector)
    figure.set_layout_engine("none")  # the layout takes most of the time, and another test draws it
    figure.draw_without_rendering()
    assert len(labels(figure)) == 6 + ("run" in data.dims)  # the phases of the runs


def test_even_steps_have_a_linear_axis() -> None:
    data = run().isel(step=slice(0, 9)).assign_coords(step=np.arange(0, 90, 10))
    assert plots.curves(data, ["train_accuracy"]).get_xscale() == "linear"


def test_curves_with_other_names_are_found_by_their_roles() -> None:
    data = run()[["train_accuracy", "test_loss"]].rename(train_accuracy="acc", test_loss="nll")
    detector = PhaseDetector(train_accuracy="acc", test_loss="nll").fit(data)
    assert labels(detector.plot()) == ["accuracy", "loss"]


def test_nothing_to_draw_names_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"Expected a variable of a panel .* got lr; pass panels="):
        plots.overview(xr.Dataset({"lr": ("step", [1.0])}, {"step": [1]}))


def test_error_bands_are_two_standard_errors() -> None:
    ax = plots.curves(run().sel(split=["train"]), ["information_x"])
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(4 - 0.1, abs=1e-6)  # the curve begins at 4, its error is .05


def test_without_standard_errors_the_band_is_the_interval() -> None:
    steps = np.arange(1, 6)
    part = {"knots": 4.0, "knots_lower": 3.0, "knots_upper": 6.0}
    data = xr.Dataset({name: ("step", np.full(5, value)) for name, value in part.items()}, {"step": steps})
    (band,) = plots.curves(data, ["knots"]).collections
    assert set(band.get_paths()[0].vertices[:, 1]) == {3.0, 6.0}


def test_markers_stand_where_they_were_found() -> None:
    detector = PhaseDetector().fit(run())
    ax = plots.phases(detector)
    drawn = sorted(line.get_xdata()[0] for line in ax.lines if line.get_gid() == "marker")
    found = detector.markers_["step"].values[detector.markers_["status"].values == "found"]
    assert drawn == sorted(found.tolist())


def test_runs_share_a_colour_and_a_line_of_the_legend() -> None:
    data = series.concat([run(), run(seed=1)])
    data["rate"] = data["train_loss"] / 10
    ax = plots.curves(data, ["test_loss", "rate"])
    assert named(ax) == ["test_loss", "rate"]
    colours = [line.get_color() for line in ax.lines]
    assert len(colours) == 6  # the median and both runs
    assert len(set(colours[:3])) == len(set(colours[3:])) == 1
    assert colours[0] != colours[3]


def test_axes_have_the_name_of_the_axis() -> None:
    detector = PhaseDetector(axis="width").fit(run().rename(step="width"))
    figure = detector.plot()
    names = {ax.get_xlabel() for ax in figure.axes} | {ax.get_ylabel() for ax in figure.axes}
    assert "width" in names
    assert "step" not in names
    assert plots.phases(detector).get_xlabel() == "width"
    assert plots.alignment(detector).get_xlabel() == "width"


def graded(fit_ends: list[float], *, ends: float = 10) -> xr.Dataset:
    """Runs whose accuracies jump from 0 to 1 at the given steps; NaN for a curve that was never measured."""
    steps = np.arange(1.0, 101)
    fitted = np.array([np.where(np.isnan(at), np.nan, steps >= at) for at in fit_ends])  # (run, step)
    test = np.tile((steps >= ends) * 1.0, (len(fit_ends), 1))
    return xr.Dataset(
        {"train_accuracy": (("run", "step"), fitted), "test_accuracy": (("run", "step"), test)}, {"step": steps}
    )


def drawn(ax: Axes, shape: str) -> list[tuple[float, int]]:
    """(x, row) of all points of a shape."""
    return [
        (float(x), round(float(y)))
        for line in ax.lines
        if line.get_marker() == shape
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def test_alignment_shows_every_run_once() -> None:
    ax = plots.alignment(PhaseDetector(chance=0.1, n_test=1000).fit(graded([1, 7, 20, 1000, np.nan])))
    ax.figure.draw_without_rendering()
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "fit end", "generalisation onset", "descent onset", "compression onset", "end",
    ]  # fmt: skip
    assert sorted(drawn(ax, "o")) == sorted([(7, 0), (20, 0)] + [(10, 1)] * 5 + [(10, 4)] * 5)
    assert drawn(ax, "<") == [(1, 0)]
    assert drawn(ax, ">") == [(100, 0)]
    counts = [text.get_text() for text in ax.texts]
    assert counts == ["1 undefined", "", "5 undefined", "5 undefined", ""]
    assert ax.get_ylim() == (4.5, -0.5)


def test_alignment_draws_the_median_and_its_interval() -> None:
    detector = PhaseDetector(chance=0.1, n_test=1000).fit(graded([5, 7, 20, 30, 40, 50, 60]))
    ax = plots.alignment(detector)
    assert [row for _, row in drawn(ax, "|")] == [0, 1, 4]
    assert [x for x, _ in drawn(ax, "|")] == pytest.approx([30, 10, 10])
    bars = [bar.get_segments()[0][:, 0] for bar in ax.collections if bar.get_linewidth()[0] == 5]
    expected = detector.across_.sel(marker="fit_end")
    np.testing.assert_allclose(bars[0], [expected["lower"], expected["upper"]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one run", "median, 90 %"]


def test_a_median_without_an_interval_has_no_bar() -> None:
    """Three runs have no interval; of seven runs, of which three end before the marker, it has no upper end."""
    few = plots.alignment(PhaseDetector(chance=0.1, n_test=1000).fit(graded([5, 7, 20])))
    assert [row for _, row in drawn(few, "|")] == [0, 1, 4]
    assert not [bar for bar in few.collections if bar.get_gid() == "interval"]
    open_ended = plots.alignment(PhaseDetector(chance=0.1, n_test=1000).fit(graded([5, 7, 20, 30, 1000, 1000, 1000])))
    first = next(bar for bar in open_ended.collections if bar.get_gid() == "interval")
    assert first.get_segments()[0][:, 0] == pytest.approx([5, 100], abs=1.1)
    assert (100, 0) in drawn(open_ended, ">")[3:]  # beside the three runs
    open_ended.figure.draw_without_rendering()
    assert open_ended.get_position().width > 0.5, "the layout makes no room for lines without points"


def test_alignment_of_one_run_names_the_missing_markers() -> None:
    ax = plots.alignment(PhaseDetector(chance=0.1, n_test=1000).fit(graded([7])))
    assert drawn(ax, "o") == [(7, 0), (10, 1), (10, 4)]
    assert not drawn(ax, "|")
    assert [text.get_text() for text in ax.texts] == ["", "", "undefined", "undefined", ""]


def test_alignment_names_undecided_runs() -> None:
    detector = PhaseDetector().fit(run())
    status = detector.markers_["status"]
    detector.markers_["status"] = status.astype("<U9").where(status["marker"] != "descent_onset", "undecided")
    assert "undecided" in [text.get_text() for text in plots.alignment(detector).texts]


@pytest.mark.parametrize("missing", [[], ["label"], ["colour"]])
def test_labels_and_colours_come_from_the_markers(missing: list[str]) -> None:
    """Without the coordinates, the name of the marker and the default colours."""
    detector = PhaseDetector().fit(run())
    markers = detector.markers_.assign_coords(label=("marker", list("tuvwxyz")), colour=("marker", ["#123456"] * 7))
    detector.markers_ = markers.drop_vars(missing)
    shown = {text.get_text() for text in plots.phases(detector).texts}
    found = markers["marker"].values[markers["status"].isel(run=0).values == "found"].tolist()
    assert shown == (
        set(found) if missing == ["label"] else {dict(zip(NAMES, "tuvwxyz", strict=True))[m] for m in found}
    )
    colours = {to_hex(line.get_color()) for line in plots.alignment(detector).lines if len(line.get_xdata())}
    assert ("#123456" in colours) == (missing != ["colour"])
    assert len(colours) == (len(found) if missing == ["colour"] else 1)


def several(n: int, **options: object) -> PhaseDetector:
    """Fit runs with names; run k reaches a train accuracy of 1 at step 10 (k + 1), on every second step if k is odd."""
    curves = graded([10.0 * (k + 1) for k in range(n)], ends=5.0 * n).assign_coords(run=[f"run-{k}" for k in range(n)])
    curves["test_loss"] = ("run", "step"), np.outer(np.arange(n) + 1.0, 1 / curves["step"].values) + 1
    odd = (curves["run"].str.slice(4).astype(int) % 2 == 1) & (curves["step"] % 2 == 0)
    return PhaseDetector(chance=0.1, n_test=1000, **options).fit(curves.where(~odd))


def test_the_strip_shows_the_phases_of_every_run() -> None:
    detector = several(3)
    ax = plots.phase_strip(detector)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["run-0", "run-1", "run-2"]
    (mesh,) = [mesh for mesh in ax.collections if hasattr(mesh, "get_coordinates")]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(3, -1), detector.phases_.values)
    fits = next(line for line in ax.lines if to_hex(line.get_color()) == line_colour(MARKERS[0].colour, ax))
    assert list(fits.get_xdata()) == [10, 21, 30]
    heights = [line.get_ydata() - np.arange(3) for line in ax.lines if len(line.get_xdata()) == 3]
    assert len({float(one[0]) for one in heights}) == len(heights) > 1  # no marker hides another
    assert np.abs(heights).max() < 0.5
    assert ax.get_ylim() == (2.5, -0.5)


def test_step_zero_of_a_linear_axis_is_drawn_at_zero() -> None:
    steps = np.arange(20)
    detector = PhaseDetector().fit({"step": steps, "train_accuracy": np.minimum(1, steps / 10)})
    ax = plots.panel(detector.curves_, ["train_accuracy"], detector)
    assert (ax.get_xscale(), ax.get_xlim()) == ("linear", (0, 19))
    assert ax.lines[0].get_xdata().tolist() == steps.tolist()
    assert min(patch.get_extents().x0 for patch in ax.patches) == ax.transData.transform((0, 0))[0]


def test_the_unit_of_accuracies_stands_once_in_the_label() -> None:
    percent = "step", np.linspace(1, 100, 20), {"units": "%"}
    curves = xr.Dataset({"train_accuracy": percent, "test_accuracy": percent}, {"step": np.arange(20)})
    (ax,) = plots.overview(curves).axes
    assert ax.get_ylabel() == "accuracy (%)"
    for name in curves:
        curves[name].attrs = {}
    (ax,) = plots.overview(curves).axes
    assert ax.get_ylabel() == "accuracy (%)"


def test_phases_name_the_run_or_the_medians() -> None:
    detector = several(3)
    assert plots.phases(detector, run=1).get_xlabel() == "step (phases and markers of run run-1)"
    ax = plots.phases(detector)
    assert ax.get_xlabel() == "step (markers: median of 3 runs)"
    at = sorted(line.get_xdata()[0] for line in ax.lines if line.get_gid() == "marker")
    medians = detector.across_["median"].values
    assert at == pytest.approx(sorted(medians[~np.isnan(medians)]))
    assert not [line for line in ax.lines if line.get_gid() == "interval"]  # three runs are too few
    assert plots.phases(several(1)).get_xlabel() == "step"


@pytest.mark.parametrize("n", [3, 15])
def test_runs_on_different_steps_have_a_median_and_a_band(n: int) -> None:
    curves = several(n).curves_
    ax = plots.curves(curves, ["test_loss"])
    median = ax.lines[0]
    x, steps = median.get_xdata(), np.log10(curves["step"].values + 1)
    assert len(ax.lines) == (4 if n == 3 else 1)
    assert (x[0], x[-1]) == (1, 99)  # the odd runs end at step 99
    rows = [
        np.interp(np.log10(x + 1), steps[~np.isnan(run)], run[~np.isnan(run)]) for run in curves["test_loss"].values
    ]
    np.testing.assert_allclose(median.get_ydata(), np.median(rows, axis=0))
    assert ax.get_xlabel().startswith(f"step\nmedian of {n} runs")
    if n > 12:
        low, high = np.quantile(rows, [0.1, 0.9], axis=0)
        edge = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert (edge.min(), edge.max()) == pytest.approx((low.min(), high.max()))


def test_any_variable_has_a_panel() -> None:
    data = run().rename(test_loss="nll").assign(lr=("step", np.ones(37)))
    data["val_loss"] = data["nll"] * 1.1
    detector = PhaseDetector(test_loss="nll").fit(data)
    figure = detector.plot(panels=["lr", ["test_loss", "val_loss"], "information_x", "information_plane"])
    assert labels(figure)[:4] == ["lr", "loss", "information_x, b (bits)", "I(T+n;Y) (bits)"]
    assert named(figure.axes[1]) == ["nll", "val_loss"]
    assert len(detector.plot(panels="lr").axes) == 1


def test_validation_curves_are_test_curves() -> None:
    data = run().assign(val_loss=run()["test_loss"], **{"valid/acc": run()["test_accuracy"]})
    ax = plots.curves(data, ["test_loss", "val_loss"])
    (test, validation), (_, alone) = ax.lines, plots.curves(data, ["train_accuracy", "valid/acc"]).lines
    assert test._dash_pattern != validation._dash_pattern
    assert test._dash_pattern == alone._dash_pattern
    assert {line.get_color() for line in (test, validation, alone)} == {COLOURS["test"]}
    assert named(alone.axes) == ["train_accuracy", "valid/acc"]
    assert named(ax) == ["test", "val"]
    assert ax.get_ylabel() == "loss"


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        (["trian_loss"], "got 'trian_loss'; near names: train_loss"),
        (["zzz"], "got 'zzz'; there are: train_accuracy, test_accuracy"),
        ([["train_loss", "zzz"]], "got 'zzz'"),
        ([], "at least one panel"),
        ([[]], "an empty panel"),
    ],
)
def test_unknown_panels_are_an_error(panels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.overview(run(), panels=panels)


def test_the_verdict_is_the_first_text() -> None:
    detector = PhaseDetector().fit(run()[["train_accuracy", "test_accuracy"]])
    detector.verdict_ = xr.Dataset({"class": ("run", ["a"]), "sentence": ("run", ["It learns $x_{ " + 20 * "word "])})
    assert detector.plot()._suptitle.get_text().replace("\n", " ").startswith("It learns \\$x_{ word word")
    assert "\n" in detector.plot()._suptitle.get_text()
    sentence = "Collapsed: the test loss had reached 0.94 at step 300, but returns to the level of its start "
    detector.verdict_["sentence"] = ("run", [sentence + "from step 920 on and ends at 2.5. Lower the learning rate."])
    narrow = plots.overview(detector.curves_, detector, title="a long name of a run", panels=["train_accuracy"])
    narrow.canvas.draw()
    assert narrow._suptitle.get_window_extent().x1 <= narrow.bbox.x1
    both = several(3)
    both.verdict_ = xr.Dataset({"class": ("run", ["grokking", "overfitting", "grokking"])})
    figure = plots.overview(both.curves_, both, title="runs", panels=["test_loss"])
    assert figure._suptitle.get_text() == "runs: 3 runs: 2 grokking, 1 overfitting"
    assert [text.get_text() for text in figure.axes[1].texts] == ["grokking", "overfitting", "grokking"]


def hump() -> PhaseDetector:
    """Fit a loss that rises from 1 at step 10 to 3 at step 100 and falls below 1, and set its size."""
    steps = np.arange(1, 1001)
    loss = np.interp(np.log10(steps), [0, 1, 2, 3], [2, 1, 3, 0.5])
    detector = PhaseDetector().fit({"step": steps, "test_loss": loss, "train_accuracy": np.minimum(1, steps / 1e4)})
    here = {"run": 0, "marker": NAMES.index("descent_onset")}
    for name, value in {
        "status": "found",
        "step": 100.0,
        "lower": 90.0,
        "upper": 110.0,
        "size": 2.0,
        "size_share": 0.8,
    }.items():
        detector.markers_[name] = detector.markers_[name].astype("<U14" if name == "status" else float)
        detector.markers_[name][here] = value
    tops = np.full((1, len(NAMES), 2), np.nan)
    tops[0, here["marker"]] = [1, 100]
    detector.markers_ = detector.markers_.drop_vars("tops", errors="ignore").assign(
        tops=(("run", "marker", "top"), tops)
    )
    return detector


def test_the_size_of_a_hump_and_its_tops_are_drawn_on_its_curve() -> None:
    figure = hump().plot(panels=["test_loss", "train_accuracy"])
    ax, other = figure.axes
    (size,) = [text for text in ax.texts if text.get_gid() == "size"]
    assert size.get_text() == "size 2.0 (80 %)"
    (arrow,) = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert (arrow.xy, arrow.xyann) == ((100, 3), (100, 1))
    (top,) = [line for line in ax.lines if line.get_gid() == "top"]
    assert (float(top.get_xdata()[0]), float(top.get_ydata()[0])) == (1, 2)
    assert not [text for text in other.texts if text.get_gid() == "size"]
    bar = next(line for line in ax.lines if line.get_gid() == "interval")
    assert list(bar.get_xdata()) == [90, 110]


def test_losses_are_logarithmic_unless_a_hump_is_large() -> None:
    detector = hump()
    series = detector.curves_.assign(train_loss=("step", np.geomspace(3, 1e-4, 1000)))
    names = ["test_loss", "train_loss"]
    assert plots.panel(series, names, detector).get_yscale() == "linear"
    detector.markers_["size"][0, NAMES.index("descent_onset")] = 0.2
    ax = plots.panel(series, names, detector)
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] == pytest.approx(0.5 / 30)
    unmeasured = series.assign(test_loss=np.nan * series["test_loss"])
    assert plots.panel(unmeasured, names, PhaseDetector().fit(unmeasured)).get_ylim()[0] < 1e-4


def test_a_role_that_is_a_function_has_no_curve_in_the_figure() -> None:
    steps = np.arange(1, 60)
    curves = {"step": steps, "val_loss": 1 / steps, "train_accuracy": np.minimum(1, steps / 20)}
    named = PhaseDetector().fit(curves).markers_["curve"]
    assert named.values.tolist() == ["train_accuracy", "", "val_loss", "", "", "", ""]
    log = PhaseDetector(test_loss=lambda data: np.log(data["val_loss"])).fit(curves)
    assert log.markers_["curve"].sel(marker="descent_onset") == ""


def test_markers_without_a_step_are_named_below_their_curve() -> None:
    ax, other = hump().plot(panels=["train_accuracy", "test_loss"]).axes
    (text,) = [text.get_text() for text in ax.texts if text.get_gid() == "missing"]
    assert text.startswith("fit end: not ")
    assert not [text for text in other.texts if text.get_gid() == "missing"]
    few = several(3)
    few.markers_["status"] = few.markers_["status"].astype("<U14")
    few.markers_["status"][1, 0] = "right_censored"
    ax = few.plot(panels=["train_accuracy"]).axes[0]
    assert "fit end: 2 found, 1 not within the record" in [text.get_text() for text in ax.texts]


def test_labels_of_markers_do_not_overlap() -> None:
    detector = several(1)
    names, n = detector.markers_["marker"].values, len(NAMES)
    at = xr.Dataset(
        {name: (("run", "marker"), [[1.0, 40, 41, 42, 43, 44, 100]]) for name in ("step", "lower", "upper")}
    )
    detector.markers_ = detector.markers_.assign(at).assign(status=(("run", "marker"), [["found"] * n]))
    figure, ax = plt.subplots(figsize=(4.6, 3.5))
    plots.phases(detector, ax=ax)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == len(names)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert min(box.x0 for box in boxes) > ax.get_window_extent().x0 - 30


def test_alignment_needs_a_fitted_detector() -> None:
    with pytest.raises(NotFittedError):
        plots.alignment(PhaseDetector())


def test_a_split_that_only_another_variable_has_is_no_line() -> None:
    both = run()
    pooled = both.reindex(split=["train", "test", "all"]) if "split" in both.indexes else both
    ax = plots.curves(pooled, ["local_complexity_total"])
    assert named(ax) == ["train", "test"]


HOSTILE = [
    "$a_{b",
    "$x^2$ $",
    "a\\b_c^d",
    "\\frac{$",
    "_hidden",
    "two\nlines",
    "escape\x1b[2J",
    "x" * 500,
    "50 % & #1 ~ {",
]


def test_the_plane_of_the_overview_has_a_split_of_any_name() -> None:
    data = run(8).assign_coords(split=["valid", "test"])
    figure = plots.overview(data, panels=["information_plane"])
    assert "valid" in figure.axes[0].get_xlabel() + figure.axes[0].get_title()


@pytest.mark.parametrize(
    "which", ["curves", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plane", "page"))]
)
def test_names_of_the_data_are_drawn_as_they_are(which: str) -> None:
    series = run(8)
    data = series.isel(layer=[0] * len(HOSTILE)).assign_coords(layer=HOSTILE, split=["$s_{", "test"])
    data["train_loss"].attrs = {"long_name": HOSTILE[0], "units": HOSTILE[1]}
    data["test_loss"].attrs = {"long_name": HOSTILE[4]}
    data["step"].attrs = {"axis": HOSTILE[2]}
    match which:
        case "curves":
            ax = plots.curves(data, ["train_loss", "test_loss"])
            figure, expected = ax.figure, [*HOSTILE[:3], HOSTILE[4]]
            assert len(named(ax)) == 2, "a name that begins with _ has a label too"
        case "plane":
            layers = HOSTILE[2:]  # a plane shows at most seven unless they are named
            figure, expected = plots.information_plane(data, split="$s_{", layers=layers).figure, [*layers, "$s_{"]
        case _:
            shown_layers = [name for name in HOSTILE if name != HOSTILE[6]]  # of nine layers, seven are drawn
            figure, expected = plots.overview(data, title=label_text(HOSTILE[0])), shown_layers
    figure.canvas.draw()
    texts = [text.get_text() for text in figure.findobj(Text) if "mathdefault" not in text.get_text()]
    assert not any(is_math_text(text) for text in texts)
    for name in expected:
        shown = name.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("$", "\\$")
        assert any(shown[:20] in text for text in texts), name


@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning", "ignore:Matplotlib .*does not support:UserWarning")
def test_names_in_other_scripts_are_drawn() -> None:
    data = run(8).assign_coords(layer=["שלום", "損失", "😀"])
    plots.information_plane(data).figure.canvas.draw()


def test_a_series_draws_itself_with_its_verdict() -> None:
    figure = run()[["train_accuracy", "test_loss"]].probe.plot(title="a run")
    assert figure.get_suptitle().startswith("a run: ")
    assert labels(figure) == ["accuracy", "loss"]
    assert [ax.get_ylabel() for ax in run().probe.plot("train_loss", chance=0.1).axes] == ["train_loss"]


def test_a_series_without_curves_for_a_detector_has_its_first_curves() -> None:
    steps = np.arange(3)
    data = xr.Dataset({f"norm_{i}": ("step", 1.0 * steps) for i in range(9)}, {"step": steps})
    data["norm_0_se"], data["name"] = data["norm_0"] / 10, ("step", list("abc"))
    with pytest.warns(ProbeWarning, match="no phases, since no detector can be fitted: Expected"):
        figure = data.probe.plot()
    assert labels(figure) == [f"norm_{i}" for i in range(8)]
    with pytest.raises(ValueError, match="Expected"):
        data.probe.plot(chance=0.1)
    with pytest.raises(ValueError, match="Expected a numeric variable over step, got name"), pytest.warns(ProbeWarning):
        data[["name"]].probe.plot()
    loss = xr.Dataset({"train_loss": ("step", [2.0, 1.0, 0.5])}, {"step": steps})
    with pytest.warns(ProbeWarning):
        assert labels(loss.probe.plot()) == ["loss"]  # a usual measure, of too few observations for a detector


def test_one_variable_by_its_name() -> None:
    assert plots.curves(run(), "train_loss").get_ylabel() == "train_loss"


@pytest.mark.parametrize(
    ("steps", "log"),
    [
        ([0, 10, 20], False), ([0, 10], False), ([0], False), ([7], False), ([0, 49, 99, 149], False),
        ([0, 1, 10], True), ([1, 10, 100], True), ([0, 1, 2, 1000], True), ([-3, -1, 5], False),
        ([1000, 1001, 1003], False), ([0, 1e-12, 3e-12], True), ([0, 1 / 7, 2 / 7, 3 / 7], False),
    ],
)  # fmt: skip
def test_which_steps_have_a_logarithmic_axis(steps: list[float], log: bool) -> None:
    data = xr.Dataset({"loss": ("step", np.ones(len(steps)))}, {"step": steps})
    ax = plots.curves(data, "loss")
    assert (ax.get_xscale() != "linear") == log
    ax.figure.draw_without_rendering()
    assert any(text.get_text() for text in ax.get_xticklabels())


def test_a_late_short_record_has_different_labels_of_ticks() -> None:
    late = xr.Dataset({"loss": ("step", np.ones(60))}, {"step": 10**9 + np.arange(60)})
    ax = plots.curves(late, "loss")
    ax.figure.draw_without_rendering()
    shown = [text.get_text() for text in ax.get_xticklabels()]
    assert len({*shown}) == len(shown) > 3
    assert ax.xaxis.get_offset_text().get_text() == "+1e9"
    early = plots.curves(late.assign_coords(step=np.arange(60) * 1000), "loss")
    early.figure.draw_without_rendering()
    assert [text.get_text() for text in early.get_xticklabels()][:2] == ["0", "10k"]
    assert early.xaxis.get_offset_text().get_text() == ""


def test_huge_steps_have_few_ticks() -> None:
    ax = plots.curves(xr.Dataset({"loss": ("step", np.ones(60))}, {"step": np.geomspace(1, 1e300, 60)}), "loss")
    ax.figure.draw_without_rendering()
    assert len(ax.get_xticks()) < 10
    assert len(ax.get_xticks(minor=True)) == 0


def test_a_plot_that_fails_leaves_no_figure_open() -> None:
    with pytest.raises(ValueError, match="Expected a split among"):
        plots.measure(run(), "MutualInfoProbe", split="val")
    assert plt.get_fignums() == []


def test_values_that_are_all_missing_have_no_plane_and_no_band() -> None:
    series = run()
    lost = series.assign(information_y=np.nan * series["information_y"])
    assert "I(T+n;Y) (bits)" not in labels(plots.overview(lost))
    lost = series.assign(information_x_se=np.nan * series["information_x_se"])
    assert [ax.get_ylabel() for ax in plots.measure(lost, "MutualInfoProbe").axes] == [
        "information_x, split train (bits)",
        "information_y, split train (bits)",
    ]
