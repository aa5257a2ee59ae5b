"""The information plane: places of the points, rings and bars; notes on the axes."""

from collections.abc import Iterator
from pathlib import Path
from runpy import run_path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image
from sklearn.exceptions import NotFittedError

from probe import PhaseDetector, plots, series
from probe.phases import MARKERS
from probe.plots.style import line_colour

STEPS = np.array([0, 1, 2, 5, 10, 20, 50, 100])
NOISE = {"estimator": "MutualInfoProbe", "noise": 0.2, "noise_convention": "relative: sigma^2 = ...", "units": "bits"}


def recorded(shift: float = 0.0, *, splits: tuple[str, ...] = ("train", "test")) -> xr.Dataset:
    """A series as MutualInfoProbe records it: two layers, and a third that was never measured; H(Y) = 3, log2 N = 8."""
    x = np.stack([4 + shift + np.sqrt(np.arange(8)), 3 + shift + np.arange(8) / 4, np.full(8, np.nan)], 1)  # (8, layer)
    x = np.stack([x + 0.1 * i for i in range(len(splits))], 1)  # (step, split, layer)
    y, dims = x / 3, ("step", "split", "layer")
    values = {
        "information_x": x,
        "information_x_lower": x - 1,
        "information_x_upper": x + 0.5,
        "information_x_ceiling": 0 * x + 8,
        "information_y": y,
        "information_y_lower": y - 0.3,
        "information_y_upper": y + 0.2,
        "information_y_ceiling": 0 * x + 3,
        "saturated": np.where(np.isnan(x), -1, 0).astype(np.int8),
    }
    variables = {name: (dims, value, NOISE) for name, value in values.items()}
    return xr.Dataset(variables, {"step": STEPS, "split": list(splits), "layer": ["a", "b", "c"]})


def detector(fit: list[float], end: float = 21) -> PhaseDetector:
    """A detector that is fitted on runs whose accuracies jump from 0 to 1 at the given steps: known fit_end and end."""
    steps = np.arange(0, 301)
    train = [(steps >= at) * 1.0 for at in fit]
    test = np.tile((steps >= end) * 1.0, (len(fit), 1))
    curves = {"train_accuracy": (("run", "step"), np.array(train)), "test_accuracy": (("run", "step"), test)}
    return PhaseDetector(chance=0.1).fit(xr.Dataset(curves, {"step": steps}))


def named(ax: Axes, gid: str) -> list:
    return [artist for artist in ax.get_children() if artist.get_gid() == gid]


def rings(ax: Axes, marker: str) -> list[tuple[float, float]]:
    return [tuple(at) for found in named(ax, f"ring {marker}") for at in found.get_offsets().tolist()]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_rings_are_at_the_recorded_step_nearest_to_the_marker() -> None:
    ax = plots.information_plane(recorded(), detector=detector([8], end=21))
    x = np.array([4 + 4**0.5, 3 + 4 / 4])  # of the two layers at step 10, the fifth
    np.testing.assert_allclose(rings(ax, "fit_end"), np.stack([x, x / 3], 1))
    x = np.array([4 + 5**0.5, 3 + 5 / 4])  # at step 20, the sixth
    np.testing.assert_allclose(rings(ax, "end"), np.stack([x, x / 3], 1))
    colours = {kind.name: kind.colour for kind in MARKERS}
    for marker in ("fit_end", "end"):
        (edge,) = {to_hex(ring.get_edgecolor()[0]) for ring in named(ax, f"ring {marker}")}
        assert edge == line_colour(colours[marker], ax)
    assert rings(ax, "compression_onset") == []  # there was no information to find it in
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    bounds, star = "proven lower and upper bound", "a layer with only the labels"
    assert words == ["a", "b", bounds, "fit end", "generalisation onset", "end", star]


def test_markers_outside_the_recorded_steps_have_no_ring() -> None:
    ax = plots.information_plane(recorded(), detector=detector([200]))
    assert rings(ax, "fit_end") == []
    assert len(rings(ax, "end")) == 2


def test_rings_go_to_runs_by_label() -> None:
    several = series.concat([recorded(), recorded(0.5)], runs=[1.0, 0.0])  # as NetCDF gives integers back
    found = detector([1, 50])
    (first, second) = rings(plots.information_plane(several, layers=["b"], detector=found), "fit_end")
    assert first[0] == pytest.approx(3 + 6 / 4)  # run 1 fits at step 50
    assert second[0] == pytest.approx(3.5 + 1 / 4)
    with pytest.raises(ValueError, match=r"a detector with the run 7, got the runs \[0, 1\]"):
        plots.information_plane(several.assign_coords(run=[0, 7]), detector=found)


def test_detector_must_be_fitted() -> None:
    with pytest.raises(NotFittedError):
        plots.information_plane(recorded(), detector=PhaseDetector())


def test_median_of_runs_where_all_were_measured() -> None:
    several = series.concat([recorded(0), recorded(2), recorded(0.5)])
    several["information_x"][0, -1] = np.nan  # the first run ended earlier
    ax = plots.information_plane(several, layers=["a"])
    (median,) = named(ax, "median")
    np.testing.assert_allclose(median.get_xdata(), 4.5 + np.sqrt(np.arange(7)))
    assert sorted(len(run.get_xdata()) for run in named(ax, "run")) == [7, 8, 8]


def test_runs_that_share_no_step_have_no_median() -> None:
    even, odd = recorded().isel(step=slice(0, None, 2)), recorded().isel(step=slice(1, None, 2))
    ax = plots.information_plane(series.concat([even, odd]), layers=["a"])
    ax.figure.draw_without_rendering()
    assert [len(median.get_xdata()) for median in named(ax, "median")] == [0]
    assert [len(run.get_xdata()) for run in named(ax, "run")] == [4, 4]


@pytest.mark.parametrize(("bars", "count"), [("marked", 4), ("all", 16), ("none", 0)])
def test_brackets_as_bars(bars: str, count: int) -> None:
    ax = plots.information_plane(recorded(), detector=detector([7], end=100), bars=bars)  # rings: steps 5 and 100
    segments = [segment for found in named(ax, "bounds x") for segment in found.get_segments()]
    assert len(segments) == count
    for (left, low), (right, high) in segments:
        assert right - left == pytest.approx(1.5)
        assert low == high == pytest.approx((right - 0.5) / 3)
    upright = [segment for found in named(ax, "bounds y") for segment in found.get_segments()]
    assert all(high - low == pytest.approx(0.5) and left == right for (left, low), (right, high) in upright)
    assert len(upright) == count


def test_subsampling_errors_are_bars_of_two() -> None:
    data = recorded()
    data["information_x_subsample_se"] = 0 * data["information_x"] + 0.1
    ax = plots.information_plane(data, layers=["b"])
    (bar,) = named(ax, "subsample x")
    (segment,) = bar.get_segments()
    assert "two s.e. of subsampling" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert segment[:, 0].tolist() == pytest.approx([3 + 7 / 4 - 0.2, 3 + 7 / 4 + 0.2])


def test_saturated_points_are_hollow() -> None:
    data = recorded()
    data["saturated"][:3] = 1
    ax = plots.information_plane(data, layers=["a"])
    (hollow,) = named(ax, "saturated")
    assert len(hollow.get_offsets()) == 3
    assert len(hollow.get_facecolors()) == 0
    assert "saturated" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_limits_and_target() -> None:
    ax = plots.information_plane(recorded())
    (limit,), (target,) = named(ax, "limit"), named(ax, "target")
    assert limit.get_xydata().tolist() == [[0, 0], [3, 3], [8, 3], [8, 0]]  # I(T;Y) <= I(T;X), H(Y); I(T;X) <= log2 N
    assert target.get_xydata().tolist() == [[3, 3]]
    assert ax.get_ylim()[1] < 3
    words = "x at most log\u2082 N = 8 bits (N inputs)\ny at most H(Y) = 3 bits (label entropy)"
    assert ax.get_xlabel().endswith(words)
    near = recorded(2.5)  # the points reach 9.2 bits of 8, and 3.05 bits of 3
    ax = plots.information_plane(near)
    assert ax.get_xlim()[1] > 8
    assert ax.get_ylim()[1] > 3
    assert ax.get_xlabel().endswith(words)


def test_the_view_has_all_points_and_no_more_than_a_margin() -> None:
    data = recorded()
    for split in ("train", "test"):
        ax = plots.information_plane(data, split=split)
        for name, (low, high) in (("information_x", ax.get_xlim()), ("information_y", ax.get_ylim())):
            values = data[name].sel(split=split)
            ends, extent = (float(values.min()), float(values.max())), float(values.max() - values.min())
            assert ends[0] - 0.1 * extent < low < ends[0]
            assert ends[1] < high < ends[1] + 0.1 * extent


def test_axis_states_the_noise() -> None:
    data = recorded()
    text = plots.information_plane(data, split="test").get_xlabel()
    assert text.startswith("I(T+n;X) (bits), test\nMutualInfoProbe noise 0.2 relative\n")
    data["noise_relative"] = 0 * data["information_x"] + xr.DataArray([0.1, 0.3, 0.9], dims="layer")
    data["information_x"].attrs["noise"] = "auto"
    assert "noise auto (0.1 to 0.3) relative" in plots.information_plane(data).get_xlabel()
    data["information_x"].attrs = {}
    assert "noise not recorded" in plots.information_plane(data).get_xlabel()


def test_planes_of_all_splits_share_scales_and_warn_of_the_training_one() -> None:
    figure = plots.information_planes(recorded())
    train, test = figure.axes
    (bar,) = test.child_axes
    figure.draw_without_rendering()
    assert train.get_xlim() == test.get_xlim()
    assert train.get_ylim() == test.get_ylim()
    assert bar.get_ylabel() == "step"
    notes = [[text.get_text() for text in ax.texts if "no evidence" in text.get_text()] for ax in (train, test)]
    assert [len(note) for note in notes] == [1, 0]
    (note,) = [text for text in train.texts if "no evidence" in text.get_text()]
    assert note.get_window_extent().y1 <= train.xaxis.label.get_window_extent().y0
    assert note.get_window_extent().y0 >= 0


def test_series_without_splits_layers_or_runs() -> None:
    data = recorded().sel(layer="b")
    assert plots.information_plane(data.sel(split="test")).get_xlabel().startswith("I(T+n;X) (bits), test\n")
    assert plots.information_plane(data.sel(split="test", drop=True)).get_xlabel().startswith("I(T+n;X) (bits)\n")
    alone = recorded(splits=("all",))
    assert "all" in plots.information_plane(alone).get_xlabel()
    assert len(plots.information_planes(data.sel(split="test")).axes) == 1
    data = recorded(splits=("train", "test", "all"))
    data["information_y"].loc[{"split": "test"}] = np.nan
    planes = plots.information_planes(data).axes
    assert ["train" in planes[0].get_xlabel(), "all" in planes[1].get_xlabel(), len(planes)] == [True, True, 2]
    data = recorded(splits=("train", "test", "all"))
    assert plots.information_planes(data).axes[3].get_legend() is not None  # in the empty place


def test_what_is_not_there_is_named() -> None:
    data = recorded()
    with pytest.raises(ValueError, match=r"a split among train, test, got 'valid'"):
        plots.information_plane(data, split="valid")
    with pytest.raises(ValueError, match=r"layers among a, b, got 'c'"):
        plots.information_plane(data, layers=["a", "c"])
    with pytest.raises(ValueError, match=r"a series without information_y, information_y_ceiling"):
        plots.information_plane(data.drop_vars(["information_y", "information_y_ceiling"]))
    with pytest.raises(ValueError, match=r"Expected information about labels"):
        plots.information_plane(data.assign(information_y=data["information_y"] * np.nan))
    with pytest.raises(ValueError, match=r"bars='marked', 'all' or 'none', got 'some'"):
        plots.information_plane(data, bars="some")


def test_distance_is_euclidean_and_carries_its_error_and_flag() -> None:
    data = recorded().isel(layer=[0, 1])
    data["information_x"][:] = 3 + 3.0
    data["information_y"][:] = 3 - 4.0 + np.arange(8)[:, None, None]  # the fifth hits the line of the target
    found = plots.plane_distance(data)
    assert found["plane_distance"].dims == data["information_x"].dims
    assert found["plane_distance"].isel(step=[0, 4], split=0, layer=0).values.tolist() == [5, 3]
    assert found["plane_distance"].attrs["units"] == "bits"
    assert found["plane_distance"].attrs["noise"] == 0.2
    assert "plane_distance_se" not in found
    data["information_x_se"], data["information_y_se"] = (
        data["information_x"] * 0 + 0.3,
        data["information_y"] * 0 + 0.4,
    )
    assert plots.plane_distance(data)["plane_distance_se"].values == pytest.approx(0.5)
    data["information_x_subsample_se"], data["information_y_subsample_se"] = data["information_x"] * 0 + 1, 0.0
    assert plots.plane_distance(data)["plane_distance_se"].values == pytest.approx(1.0)
    xr.testing.assert_identical(found["saturated"], data["saturated"])


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (1.0, 1.0), (3.0, -4.0)])
def test_error_of_the_distance_is_an_upper_bound(correlation: float, offset: tuple[float, float]) -> None:
    """By drawing points: the root mean square of the moves of the distance is at most what is said."""
    rng = np.random.default_rng(0)
    covariance = [[0.09, 0.12 * correlation], [0.12 * correlation, 0.16]]
    x, y = 3 + np.array(offset)[:, None] + rng.multivariate_normal([0, 0], covariance, 4000).T
    columns = {"information_x": x, "information_y": y, "information_y_ceiling": 0 * x + 3}
    columns |= {"information_x_se": 0 * x + 0.3, "information_y_se": 0 * x + 0.4}
    found = plots.plane_distance(xr.Dataset({name: ("step", value) for name, value in columns.items()}))
    moved = np.sqrt(np.mean((found["plane_distance"] - np.hypot(*offset)) ** 2))
    assert moved <= found["plane_distance_se"][0] * (1 + 3 / np.sqrt(2 * 4000))


def test_animation_grows_and_tells_step_and_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    grab = PillowWriter.grab_frame

    def spy(self: PillowWriter, **kwargs: object) -> None:
        grab(self, **kwargs)
        ax = self.fig.axes[0]
        told.append(
            (self.fig.get_suptitle(), len(named(ax, "run")[0].get_xdata()), ax.get_xlim(), ax.get_position().bounds)
        )

    monkeypatch.setattr(PillowWriter, "grab_frame", spy)
    path = plots.animate_plane(recorded(), tmp_path / "plane.gif", detector=detector([5], end=50))
    with Image.open(path) as image:
        assert image.n_frames == len(STEPS)
    assert [title for title, *_ in told] == [
        "step 0: fitting", "step 1: fitting", "step 2: fitting", "step 5: after fitting", "step 10: after fitting",
        "step 20: after fitting", "step 50: generalised", "step 100: generalised",
    ]  # fmt: skip
    assert [n for _, n, *_ in told] == list(range(1, 9))
    assert len({(limits, box) for *_, limits, box in told}) == 1  # nothing jumps
    assert path.stat().st_size < len(STEPS) * 2e6 / 60
    assert plt.get_fignums() == []


def test_animation_of_many_steps_has_frames_even_in_log_steps(tmp_path: Path) -> None:
    steps = np.arange(1, 1001)
    data = recorded().isel(step=np.arange(1000) % 8).assign_coords(step=steps)
    path = plots.animate_plane(series.concat([data, data]), tmp_path / "plane.GIF", layers=["b"], frames=2)
    with Image.open(path) as image:
        assert image.n_frames == 2


def test_animation_needs_a_gif(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.gif, got .*plane\.mp4"):
        plots.animate_plane(recorded(), tmp_path / "plane.mp4")
    with pytest.raises(ValueError, match="frames and fps of at least 1, got 0 and 8"):
        plots.animate_plane(recorded(), tmp_path / "plane.gif", frames=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("example", ["plot_information_plane", "plot_scale_artefact"])
def test_gallery(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_path(str(Path(__file__).parent.parent / "docs" / "gallery" / f"{example}.py"))
    told = {
        "plot_information_plane": "fall from the maximum: 0.57 bits on train, 0.55 on test inputs",
        "plot_scale_artefact": "predictions that changed: 0 of 1797",
    }
    assert told[example] in capsys.readouterr().out


def test_a_split_must_be_named_if_there_are_several_without_train() -> None:
    dims = ("step", "split", "layer")
    names = ["information_x", "information_y", "information_y_ceiling"]
    coords = {"step": [0, 1], "split": ["test", "other"], "layer": ["a"]}
    series = xr.Dataset({name: (dims, np.ones((2, 2, 1))) for name in names}, coords)
    with pytest.raises(ValueError, match="Expected a split among test, other, got none; pass split= with one of them"):
        plots.information_plane(series)
    assert plots.information_plane(series.isel(split=[0])).get_ylabel()
