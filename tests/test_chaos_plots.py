"""Plots of chaos and cone draw the right numbers. People judge how the plots look."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from probe import plots

NAN = float("nan")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def drawn(ax: Axes, gid: str) -> list[Any]:
    return [artist for artist in ax.get_children() if artist.get_gid() == gid]


def labels(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def kernels(early: float = 1.5, n_runs: int = 1, batches: int = 2) -> xr.DataArray:
    """Return distances of kernels that turn by ``early`` rad within 10 observations, then move around a centre."""
    found = []
    for run in range(n_runs):
        angle = np.r_[np.linspace(early, 0, 10), np.zeros(30)]
        place = np.random.default_rng(run).normal(0, 0.005, (40, 50))
        place[:, :2] += np.stack([np.cos(angle), np.sin(angle)], 1)
        place /= np.linalg.norm(place, axis=1, keepdims=True)
        found.append([1 - place @ place.T] * batches)
    steps = np.arange(40) * 10
    return xr.DataArray(
        np.array(found),
        {"run": [f"r{k}" for k in range(n_runs)], "batch": range(batches), "step": steps, "step_ref": steps},
    )


# -- kernels -------------------------------------------------------------------------------------------------------


def test_frame_and_bars_of_the_cone() -> None:
    found = kernels()
    ax = plots.kernel_distances(found)
    cells = np.asarray(ax.collections[0].get_array()).reshape(40, 40)
    assert cells == pytest.approx(found[0, 0].values)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-5, 395), (-5, 395))  # even steps: a linear axis
    (frame,) = drawn(ax, "cone")
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (85, 85, 310)  # from the middle of steps 80 and 90
    low, high = drawn(ax, "interval")[0].get_xdata()
    assert low < 90 <= high
    assert ax.get_title() == f"cone from step 90 ({low:g} to {high:g})"


def test_steps_on_a_logarithmic_axis_begin_at_zero() -> None:
    steps = [0, 1, 10, 100, 1000]
    place = np.eye(5)
    found = xr.DataArray(1 - place, {"step": steps, "step_ref": steps})
    ax = plots.kernel_distances(found)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "10", "100", "1k"]
    assert ax.get_xticks().tolist() == [0, 1, 10, 100, 1000]
    edges = np.asarray(ax.collections[0].get_coordinates())[0, :, 0]
    assert edges[1:-1] == pytest.approx([0.5, 10**0.5, 10**1.5, 10**2.5])
    assert not drawn(ax, "cone")


def test_no_cone_has_its_reason_as_title() -> None:
    angle = np.linspace(0, 1.5, 40)
    steps = np.arange(40) * 10
    drift = xr.DataArray([1 - np.cos(angle[:, None] - angle)] * 2, dims=("batch", "step", "step_ref"))
    ax = plots.kernel_distances(drift.assign_coords(step=steps, step_ref=steps))
    assert ax.get_title().startswith("right censored: ")
    assert not drawn(ax, "cone")


def test_median_of_runs_with_a_mark_for_each_entry() -> None:
    found = kernels(n_runs=3)
    steps = found["step"].values
    ax = plots.kernel_distances(found.where((found["step"] != 50) | (found["run"] != "r1")))  # missing in one run
    cells = np.asarray(ax.collections[0].get_array()).reshape(39, 39)
    seen = steps != 50
    assert cells == pytest.approx(np.median(found[:, 0].values, 0)[np.ix_(seen, seen)])
    (marks,) = drawn(ax, "runs")
    assert marks.get_xdata().tolist() == [90, 90, 90]
    assert len(set(marks.get_ydata())) == 3  # none hides another
    assert labels(ax) == ["entry into the cone of each of 3 runs"]
    assert plots.kernel_distances(found, run=1).get_title().startswith("run r1: cone from step 90")


def test_radius_of_a_cone_stays_and_a_random_walk_grows() -> None:
    ax = plots.cone_radius(kernels())
    radius, walk = (line.get_ydata() for line in ax.lines)
    window = ax.lines[0].get_xdata()
    assert window.tolist() == list(range(10, 310, 10))
    assert radius[-1] == pytest.approx(radius[5], rel=0.1) == pytest.approx(0.005 * (2 * 50) ** 0.5, rel=0.15)
    assert walk[-1] > 3 * radius[-1]
    assert plots.cone_radius(kernels(), reference=200).lines[0].get_xdata()[-1] == 190


def test_norm_with_the_entry() -> None:
    found = kernels()[0].drop_vars("run")
    norm = np.linspace(1, 3, 40)[:, None] * [1.0, 3.0]
    series = xr.Dataset({"tangent_kernel_distance": found, "tangent_kernel_norm": (("step", "batch"), norm)})
    ax = plots.kernel_norm(series)
    assert ax.lines[0].get_ydata() == pytest.approx(np.linspace(2, 6, 40))
    assert drawn(ax, "entry")[0].get_xdata() == [90, 90]
    assert ax.get_yscale() == "log"


def test_errors_of_kernels() -> None:
    found = kernels()
    with pytest.raises(ValueError, match="Expected tangent_kernel_distance or tangent_kernel_sketch, got"):
        plots.kernel_distances(xr.Dataset({"train_loss": ("step", [1.0])}))
    with pytest.raises(ValueError, match="got no step_ref"):
        plots.kernel_distances(found.isel(step_ref=0))
    with pytest.raises(ValueError, match="got layer too"):
        plots.kernel_distances(found.expand_dims("layer"))
    with pytest.raises(ValueError, match="Expected a split among none, got 'test'"):
        plots.kernel_distances(found, split="test")
    with pytest.raises(ValueError, match="2 or more steps, got 0"):
        plots.kernel_distances(found * NAN)
    with pytest.raises(ValueError, match="Expected an observed step before the last one as reference, got 395"):
        plots.cone_radius(found, reference=395)
    with pytest.raises(ValueError, match="Expected tangent_kernel_norm"):
        plots.kernel_norm(xr.Dataset())


# -- growth --------------------------------------------------------------------------------------------------------


def chaos(values: Any, tangent: Any, kink: Any, **others: Any) -> xr.Dataset:
    """Return a series over (run, step, size) with one direction."""
    values = np.asarray(values, float)[:, :, None]
    dims = ("run", "step", "direction", "size")
    two = {"chaos_tangent_growth": tangent, "chaos_kink_size": kink}
    return xr.Dataset(
        {
            "chaos_growth": (dims, values, {"window": 20}),
            "chaos_rounded": (dims, np.isnan(values).astype(int)),
            **{name: (dims[:3], np.asarray(value, float)[:, :, None]) for name, value in two.items()},
            **{name: (dims[:2], np.asarray(value, float)) for name, value in others.items()},
        },
        {"direction": ["gaussian"], "size": [1e-4, 1e-2], "step": [0, 10, 100]},
    )


ONE = chaos(
    [[[0.2, 1.5], [NAN, 0.1], [-0.3, -0.3]]],
    [[0.2, 0.1, -0.3]],
    [[1e-2, NAN, NAN]],
    sharpness_learning_rate=[[0.5, 1.0, 0.05]],
    learning_rate=[[0.1, 0.1, 0.01]],
)


def test_growth_by_size_with_kinks_and_rounding() -> None:
    top, below = plots.growth(ONE, momentum=0.9).axes
    assert top.get_ylabel() == "log growth over 20 updates (nats)"
    by_size = {line.get_label(): line for line in top.lines}
    assert by_size["size 0.01"].get_xydata().tolist() == [[0, 1.5], [10, 0.1], [100, -0.3]]
    assert by_size["size 0.0001"].get_xydata().tolist() == [[0, 0.2], [100, -0.3]]
    assert by_size["derivative"].get_ydata().tolist() == [0.2, 0.1, -0.3]
    hollow = [line.get_xydata().tolist() for line in drawn(top, "kinks")]
    assert hollow == [[], [[0, 1.5]]]
    crosses = drawn(top, "rounded")
    assert [(line.get_xdata().tolist(), line.get_color()) for line in crosses] == [
        ([10], by_size["size 0.0001"].get_color())
    ]
    assert drawn(top, "zero")[0].get_ydata() == [0, 0]
    assert labels(top)[-2:] == ["differs from the derivative", "dominated by rounding"]
    assert drawn(below, "limit")[0].get_ydata() == pytest.approx([3.8, 3.8])
    assert drawn(below, "drop")[0].get_xdata() == [100, 100]
    assert below.texts[0].get_text() == "3.8: unstable above (gradient descent, momentum 0.9)"


def test_growth_of_several_runs_is_their_median() -> None:
    values = np.stack([[[k, k], [1, 1], [0, 0]] for k in range(3)])
    series = chaos(values, values[:, :, 0], [[1e-4, NAN, NAN], [1e-4, NAN, NAN], [NAN, NAN, NAN]])
    (ax,) = plots.growth(series).axes  # no sharpness
    by_size = {line.get_label(): line for line in ax.lines}
    assert by_size["size 0.01"].get_ydata().tolist() == [1, 1, 0]
    assert [len(line.get_xdata()) for line in drawn(ax, "kinks")] == [1, 1]  # in two of three runs
    assert len(drawn(ax, "run")) == 9
    assert ax.get_legend().get_title().get_text() == "median of 3 runs, each run thin"


def test_growth_on_given_axes_and_errors() -> None:
    figure, axes = plt.subplots(1, 2)
    assert plots.growth(ONE, axes=axes[:1]) is figure
    assert not drawn(plots.growth(ONE).axes[1], "limit")  # without a momentum, as for Adam
    assert not axes[1].lines
    with pytest.raises(ValueError, match="without chaos_output_growth, chaos_tangent_output_growth; record them"):
        plots.growth(ONE, outputs=True)
    with pytest.raises(ValueError, match="Expected a direction among gaussian, got 'gradient'"):
        plots.growth(ONE, direction="gradient")
    with pytest.raises(ValueError, match=r"Expected a momentum in \[0, 1\), got 1"):
        plots.growth(ONE, momentum=1)


# -- maps ----------------------------------------------------------------------------------------------------------


def test_map_of_the_median_with_transitions() -> None:
    t0, t1 = np.array([100, 0, 10]), np.array([0, 10, 100, 1000])
    values = np.where(t1 >= t0[:, None], 1.0 + t0[:, None] + t1, NAN) * np.array([1, 2, 6])[:, None, None]
    given = xr.DataArray(values, {"run": [5, 6, 7], "t0": t0, "t1": t1}, attrs={"units": "nats"}, name="barrier")
    ax = plots.perturbation_map(given, transitions=[10, 10, NAN])
    cells = ax.collections[0].get_array().reshape(4, 3)
    expected = 2 * (1.0 + np.sort(t0) + t1[:, None])
    assert cells.mask.tolist() == (t1[:, None] < np.sort(t0)).tolist()
    assert cells.compressed().tolist() == expected[~cells.mask].tolist()
    assert ax.get_xticks().tolist() == [0, 10, 100]
    assert drawn(ax, "runs")[0].get_xdata().tolist() == [10, 10]
    assert labels(ax) == ["transition of each of 3 runs (1 without)"]
    assert ax.get_title() == "median of 3 runs"
    assert ax.child_axes[0].get_ylabel() == "barrier (nats)"
    one = plots.perturbation_map(given, run=2)
    assert one.collections[0].get_array().max() == pytest.approx(6 * 1101)
    assert one.get_title() == "run 7"


def test_runs_without_a_transition_leave_the_axes_their_size() -> None:
    given = xr.DataArray(np.ones((2, 2, 2)), {"run": [0, 1], "t0": [0, 1], "t1": [1, 2]})
    figure, axes = plt.subplots(2, 2, layout="constrained")
    ax = plots.perturbation_map(given, transitions=[NAN, NAN], ax=axes[0, 1])
    figure.draw_without_rendering()
    assert ax.get_position().width > 0.3
    assert labels(ax) == ["transition of each of 2 runs (2 without)"]


def test_errors_of_maps() -> None:
    given = xr.DataArray(np.ones((2, 2)), {"t0": [0, 1], "t1": [1, 2]})
    with pytest.raises(ValueError, match="got barrier, t0, t1; select"):
        plots.perturbation_map(given.expand_dims("barrier"))
    with pytest.raises(ValueError, match="one transition for each of 1 runs"):
        plots.perturbation_map(given, transitions=[1, 2])
    with pytest.raises(ValueError, match="got NaN only"):
        plots.perturbation_map(given * NAN)


# -- page ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_chaos_page() -> None:
    """Every block runs, and the figures have the recorded numbers."""
    names: dict[str, Any] = {}
    page = Path(__file__).parent.parent / "docs" / "chaos.md"
    exec("\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)), names)
    series = names["series"]
    derivative = next(line for line in names["growth"].axes[0].lines if line.get_label() == "derivative")
    assert derivative.get_ydata() == pytest.approx(series["chaos_tangent_growth"].squeeze().values)
    norm = series["tangent_kernel_norm"].sel(split="train").mean("batch").values
    assert names["norm"].lines[0].get_ydata() == pytest.approx(norm)


def test_lines_are_pale_on_a_dark_background() -> None:
    found = kernels()
    for style, colour in (("default", "#333333"), ("dark_background", "#dddddd")):
        with plt.style.context(style):
            (bar, _) = drawn(plots.kernel_distances(found), "interval")
            (zero,) = drawn(plots.growth(ONE).axes[0], "zero")
            assert (bar.get_color(), zero.get_color()) == (colour, colour)
