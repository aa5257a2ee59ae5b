"""Plots of modes draw the right numbers. People judge how the plots look."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes

from probe import plots
from probe.stats import growth_exponents, mode_classes, spectral_flow

STEPS = np.array([0, 1, 2, 4, 8, 16, 32])


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def series() -> xr.Dataset:
    """Return three modes: one grows as the root of t, one stays, one is replaced after step 2."""
    values = np.stack([np.maximum(STEPS, 1) ** 0.5, np.full(7, 9.0), [5.0, 5, 5, 1, 1, 1, 1]], 1)[:, None]
    matched = np.ones((7, 1, 3))
    matched[0] = matched[3, 0, 2] = 0
    dims = "step", "parameter", "mode"
    return xr.Dataset(
        {
            "mode_singular_value": (dims, values),
            "mode_matched": (dims, matched),
            "mode_degenerate": (dims, 0 * matched),
            "mode_norm": (dims[:2], np.full((7, 1), 10.0)),
            "mode_undefined": (dims[:2], np.zeros((7, 1))),
        },
        {"step": STEPS, "parameter": ["w"], "mode": np.arange(3)},
    )


def lines(ax: Axes, gid: str) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata()) for line in ax.lines if line.get_gid() == gid]


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_trajectories_have_classes_and_gaps() -> None:
    data = series()
    classes = mode_classes(growth_exponents(data, {"late": (1, 32)}))
    ax = plots.mode_trajectories(data, classes=classes, edges=(1, 32))
    assert legend(ax) == ["relevant (1)", "marginal (1)", "irrelevant (0)", "undecided (1)"]
    np.testing.assert_allclose(lines(ax, "relevant")[0], np.maximum(STEPS, 1) ** 0.5 / 10)
    assert [len(line) for line in lines(ax, "undecided")] == [3, 4]
    assert np.asarray(ax.lines[0].get_xdata())[0] == 0
    assert [line.get_xdata()[0] for line in ax.lines if line.get_gid() == "edge"] == [1, 32]  # type: ignore[index]
    data["mode_singular_value"][3:, 0, 2] = 5 * STEPS[3:] ** -0.5
    classes = mode_classes(growth_exponents(data, {"late": (4, 32)}, min_observations=4))
    ax = plots.mode_trajectories(data, classes=classes, edges=(4, 32))
    assert [len(line) for line in lines(ax, "irrelevant")] == [4]  # the mode that was in this slot before has no class
    assert [len(line) for line in lines(ax, "undecided")] == [3]
    plain = plots.mode_trajectories(data, parameter="w", relative=False)
    assert len(lines(plain, "mode")) == 4
    assert plain.get_title() == "w"


def test_counts_are_means_over_runs_with_a_dot_for_each() -> None:
    counts = np.arange(16).reshape(4, 2, 2)
    coords = {"class": ["relevant", "marginal", "irrelevant", "undecided"], "window": ["early", "late"]}
    classes = xr.Dataset({"count": (("class", "run", "window"), counts)}, coords)
    ax = plots.mode_classes(classes.assign(mode_class=("window", ["", ""])))
    heights = [[float(bar.get_height()) for bar in group] for group in ax.containers]  # type: ignore[union-attr]
    assert heights == counts.mean(1).tolist()
    assert sorted(np.concatenate(lines(ax, "run"))) == list(range(16))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["early", "late"]


def test_flow_has_a_line_and_a_verdict_for_each_pair() -> None:
    def runs(end: list[float]) -> xr.DataArray:
        values = np.stack([np.ones((4, 3)), np.tile(end, (4, 1))], 1)
        return xr.DataArray(values, dims=("run", "step", "rank"), coords={"step": [0, 10]})

    flow = spectral_flow({"a": runs([3, 0, 0]), "b": runs([3, 0, 0]), "c": runs([1, 2, 2])}, (10, 10))
    ax = plots.spectral_flow(flow)
    assert legend(ax) == ["a / b: confirmed", "a / c: not confirmed", "b / c: not confirmed", "within groups"]
    expected = flow["between_at"].sel(parameter="<all>").values
    np.testing.assert_allclose(lines(ax, "between"), expected)
    assert len(lines(ax, "within")) == 3


def test_wrong_data_are_named() -> None:
    with pytest.raises(ValueError, match="record WeightModesProbe"):
        plots.mode_trajectories(xr.Dataset())
    with pytest.raises(ValueError, match="Expected parameter among w, got 'v'"):
        plots.mode_trajectories(series(), parameter="v")
    with pytest.raises(ValueError, match=r"Expected the Dataset of probe\.stats\.mode_classes"):
        plots.mode_classes(xr.Dataset())
    with pytest.raises(ValueError, match=r"Expected the Dataset of probe\.stats\.spectral_flow"):
        plots.spectral_flow(xr.Dataset())
