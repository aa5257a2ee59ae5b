"""Tests of the probe of linear regions over training."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import piecewise_cases as cases
import pytest
import torch
import xarray as xr
from scipy import stats
from torch import Tensor, nn

from probe import CircuitsProbe, LinearRegionsProbe, Probe, ProbeSet, ProbeWarning
from probe.forward import piecewise_linear
from probe.geometry.regions.mechanisms import MECHANISMS
from probe.measures.linear_regions.limits import SegmentLimits
from probe.testing import example, token_example

# Three points whose mean is 0 and whose largest distance from it is 1.
POINTS = torch.tensor([[1.0, 0.0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]])


def model_of(weight: Any, bias: Any, outputs: Any = None) -> nn.Sequential:
    """Return one layer with ReLU, and an affine map."""
    weight = torch.as_tensor(weight, dtype=torch.float32)
    outputs = torch.ones(1, len(weight)) if outputs is None else torch.as_tensor(outputs, dtype=torch.float32)
    model = nn.Sequential(nn.Linear(*weight.T.shape), nn.ReLU(), nn.Linear(*outputs.T.shape, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(weight)
        model[0].bias.copy_(torch.as_tensor(bias))
        model[2].weight.copy_(outputs)
    return model


def measured(model: nn.Module, x: Tensor = POINTS, **parameters: Any) -> xr.Dataset:
    """Return the only observation of the only slice."""
    probe = LinearRegionsProbe(**{"splits": ["all"], "n_segments": 0, **parameters})
    return probe.fit(model, (x, None)).series_.squeeze(["step", "split", "slice"])


def test_counts_of_one_layer_have_the_closed_form() -> None:
    """The window is a square of side 4 around 0, turned as the points: lines at all angles through a disc of it."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 32)
    found = measured(nn.Sequential(layer, nn.ReLU()), half_side=2.0)
    assert found["linear_regions_area"].item() == pytest.approx(16)
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    windows = [
        square_along(first - second) for first in POINTS.numpy() for second in POINTS.numpy() if first[0] != second[0]
    ]
    expected = [cases.arrangement(weight, bias, window) for window in windows]
    names = {"linear_regions_total": "regions", "linear_regions_segments": "segments"}
    names |= {
        "linear_regions_points": "crossings",
        "linear_regions_lines": "crossing",
        "linear_regions_merged": "merged",
    }
    names |= {"linear_regions_on": "always_on", "linear_regions_off": "always_off"}
    counts = [int(found[name].squeeze()) for name in names]
    assert counts in [[getattr(lines, name) for name in names.values()] for lines in expected]


def square_along(direction: np.ndarray) -> np.ndarray:
    """Return the square of half side 2 around 0 whose sides have a direction."""
    one = direction.astype(float) / np.linalg.norm(direction)
    return cases.square(2.0) @ np.array([one, [-one[1], one[0]]])


@pytest.mark.parametrize(
    ("before", "after", "mechanism"),
    [
        (([1, 0.2], 0.0), ([1, 0.2], 30.0), "disappearance"),
        (([1, 0.2], 30.0), ([1, 0.2], 0.0), "appearance"),
        (([1, 0.2], 0.0), ([0.6, 2.0], 0.2), "merging"),
        (([0.6, 2.0], 0.2), ([1, 0.2], 0.0), "splitting"),
    ],
)
def test_planted_changes_have_one_mechanism(before: Any, after: Any, mechanism: str) -> None:
    """One line changes, among two others: one of them is 0.3 x + y + 0.1 = 0."""

    def make(line: Any) -> nn.Sequential:
        return model_of([line[0], [0.3, 1], [1, -1]], [line[1], 0.1, 0])

    model = make(before)
    probe = LinearRegionsProbe(splits=["all"], n_segments=0).attach(model, (POINTS, None), on_error="raise").observe(0)
    model.load_state_dict(make(after).state_dict())
    found = probe.observe(7).series_.squeeze(["split", "slice", "layer"])
    assert found["linear_regions_unattributed"].values.tolist() == [-1, 0]
    change = found["linear_regions_change"]
    assert change[0].isnull().all()
    total = found["linear_regions_total"].diff("step").item()
    assert total != 0
    expected = {name: total if name == mechanism else 0 for name in MECHANISMS}
    assert dict(zip(change["mechanism"].values.tolist(), change[1].values.tolist(), strict=True)) == expected


def trained(probe: Probe, path: Path | None, steps: range, *, mode: str | None = None) -> Any:
    """Observe a model whose weights depend on the step alone."""
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    generator = torch.Generator().manual_seed(3)
    start, move = ([torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in range(2))
    x = torch.randn(40, 4, generator=generator)

    def set_weights(step: int) -> None:
        with torch.no_grad():
            for p, a, b in zip(model.parameters(), start, move, strict=True):
                p.copy_(a + 0.02 * step * b)

    set_weights(steps[0])
    probe.attach(model, {"train": (x[:20], None), "test": (x[20:], None)}, path=path, mode=mode)
    for step in steps:
        set_weights(step)
        probe.observe(step)
    return probe


def test_the_attribution_goes_on_after_a_crash(tmp_path: Path) -> None:
    parameters = {"n_segments": 4, "snaps": (), "splits": ["train"]}
    whole = trained(LinearRegionsProbe(**parameters), None, range(4)).series_["linear_regions_change"]
    assert whole[1:].notnull().all()
    (tmp_path / "a").mkdir()
    running = trained(LinearRegionsProbe(**parameters), tmp_path / "a" / "run.nc", range(2))
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # as a crash leaves them, without detach
    running.detach()
    again = trained(LinearRegionsProbe(**parameters), tmp_path / "b" / "run.nc", range(2, 4), mode="resume").detach()
    xr.testing.assert_equal(again.series_["linear_regions_change"], whole)


def test_a_lost_state_is_flagged(tmp_path: Path) -> None:
    probe = LinearRegionsProbe(n_segments=0, snaps=(), splits=["random"])
    trained(probe, tmp_path / "run.nc", range(2)).detach()
    for file in tmp_path.glob("*.state*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    with pytest.warns(ProbeWarning):
        found = trained(probe, tmp_path / "run.nc", range(2, 4), mode="resume").detach().series_
    flags = found["linear_regions_unattributed"].max(["split", "slice"])
    assert flags.values.tolist() == [-1, 0, 1, 0]
    assert found["linear_regions_change"][2].isnull().all()


class Breaks(LinearRegionsProbe):
    """A probe that fails at step 1."""

    def measure(self, snapshot: Any) -> Any:
        if snapshot.step == 1:
            raise RuntimeError("asked to fail")
        return super().measure(snapshot)


def test_a_failed_observation_is_counted_as_skipped() -> None:
    with pytest.warns(ProbeWarning, match="asked to fail"):
        found = trained(Breaks(n_segments=0, snaps=(), splits=["test"]), None, range(3)).series_
    assert found["linear_regions_skipped"].values.tolist()[::2] == [0, 1]
    totals = found["linear_regions_total"]
    np.testing.assert_allclose(found["linear_regions_change"][2].sum(["layer", "mechanism"]), totals[2] - totals[0])


def test_sums_over_layers_and_mechanisms_are_exact() -> None:
    found = trained(LinearRegionsProbe(n_segments=0, n_slices=2, snaps=()), None, range(3)).series_
    totals = found["linear_regions_total"]
    change = found["linear_regions_change"].sum("mechanism")[1:]
    np.testing.assert_allclose(change.sum("layer"), totals.diff("step"), atol=1e-9)
    first = found["linear_regions"].isel(layer=0)
    np.testing.assert_allclose(change.isel(layer=0), first.diff("step"), atol=1e-9)
    after = found["linear_regions"].transpose(..., "layer").values
    added = (found["linear_regions_segments"] + found["linear_regions_points"]).transpose(..., "layer").values
    np.testing.assert_array_equal(1 + added.cumsum(-1), after)
    np.testing.assert_allclose(found["linear_regions_mean"], totals.mean("slice"))
    np.testing.assert_allclose(found["linear_regions_mean_se"], totals.std("slice", ddof=1) / 2**0.5)
    assert found["split"].values.tolist() == ["train", "test", "random"]
    assert totals.std() > 0


def test_composite_borders_on_the_decision_boundary() -> None:
    """Two units bend at x = 0, where the output is 0; another one at y = 0. The window is a square around 0."""
    found = measured(model_of([[1, 0], [-1, 0], [0, 1.0]], [0, 0, 0], [[1, -1, 0]]))
    assert found["linear_regions_total"].item() == 4
    assert found["linear_regions_hamming"].item() == 1.5
    assert found["linear_regions_composite_distance"].item() == pytest.approx(0, abs=1e-12)
    assert found["linear_regions_merged"].item() == 1
    assert found["linear_regions_alike"].values.tolist() == [[1] * 4]
    assert found["linear_regions_undivided"].item() == 0
    ordinary = found["linear_regions_ordinary_distance"].item()  # middles of both halves of the chord y = 0
    assert 0.5 <= ordinary <= 0.5 * 2**0.5
    share = found["linear_regions_composite"].item()
    assert share == pytest.approx(0.5)  # both chords pass the middle of a square at right angles


def test_nearly_merged_units() -> None:
    """Lines x = 0 and x = 0.01 in a square of side about 2, and y = 0: two borders of three are nearly one."""
    found = measured(model_of([[1, 0], [-1, 0], [0, 1.0]], [0, 0.01, 0], [[1, -1, 0]]), tolerances=[1e-9, 0.05])
    assert found["linear_regions_total"].item() == 6
    assert found["linear_regions_effective"].values.tolist() == [[6, 4]]
    assert found["linear_regions_alike"].values.tolist() == [[0, 1]]
    assert found["linear_regions_alike"].sel(within=0.05).item() == 1
    np.testing.assert_allclose(found["linear_regions_alike_share"], [0, 2 / 3], atol=0.01)
    near, far = found["linear_regions_alike_distance"].values, found["linear_regions_unlike_distance"].values
    assert np.isnan(near[0])
    assert near[1] < 0.011 < 0.3 < far[1]


def test_nearly_merging_is_attributed() -> None:
    model = model_of([[1, 0], [1, 0], [0.1, 1]], [0.2, -0.2, 0])
    probe = LinearRegionsProbe(splits=["all"], n_segments=0, tolerances=[0.05]).attach(model, (POINTS, None)).observe(0)
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([0.2, 0.195, 0]))
    found = probe.observe(1).series_.squeeze(["split", "slice", "layer", "within"]).isel(step=1)
    assert (found["linear_regions_change"] == 0).all()
    change = found["linear_regions_effective_change"]
    assert change.sel(mechanism="merging").item() == change.sum().item() == -2


def test_no_decision_boundary_is_flagged() -> None:
    found = measured(model_of([[1, 0], [0, 1.0]], [0, 0], [[1, 1], [-1, -1]]), half_side=1.0)
    assert found["linear_regions_undivided"].item() == 1  # equal where both units are off, never larger elsewhere
    sequences = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert measured(sequences, torch.randn(9, 4, 2))["linear_regions_undivided"].item() == -1


def test_a_stopped_partition_is_flagged() -> None:
    model = model_of(torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), np.zeros(30))
    probe = LinearRegionsProbe(splits=["all"], max_regions=9, n_segments=0)
    with pytest.warns(ProbeWarning, match="max_regions") as warned:
        found = probe.attach(model, (POINTS, None)).observe(0).observe(1).series_
    assert len(warned) == 1  # at the first observation
    assert found["linear_regions_incomplete"].values.ravel().tolist() == [1, 1]
    assert found["linear_regions_unattributed"].values.ravel().tolist() == [-1, 1]
    assert (found["linear_regions_total"] <= 9).all()


def test_wide_layers_reach_the_limits_and_are_flagged() -> None:
    """The first layer of a convolutional network for images: thousands of lines, each with a value at each vertex."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 18**2, 2)).double()
    x, units = torch.rand(8, 1, 20, 20, dtype=torch.float64), 16 * 18**2
    max_bytes = 100 * 8 * units
    with pytest.warns(ProbeWarning, match="n_slices=0"):
        found = measured(model, x, max_bytes=max_bytes)
    assert found["linear_regions_incomplete"] == 1
    assert found["linear_regions_total"] <= 100
    few = LinearRegionsProbe(splits=["all"], n_slices=0, max_bytes=max_bytes)
    with pytest.warns(ProbeWarning, match="4 that stopped"):
        found = few.fit(model, (x, None)).series_.squeeze()
    assert found["linear_regions_knots_incomplete"] == 1
    assert found["linear_regions_knots"] > 100  # stopped behind the layer in which it reached the limit


def test_segments_that_are_affordable() -> None:
    """A row of 2 (5 x 40 + 40 x 3) operations. About 10 of the 40 units change on a segment."""
    network = piecewise_linear(nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 3)), torch.ones(2, 5))
    rows = 2**36 // 640 // 3
    assert SegmentLimits.of(network, 10**9, 3, None, 2**40) == SegmentLimits(rows // 10, 40)
    assert SegmentLimits.of(network, 64, 2, 200, 2**40) == SegmentLimits(10, 40)
    assert SegmentLimits.of(network, 64, 2, 10, 2**40) == SegmentLimits(1, 20)
    assert SegmentLimits.of(network, 64, 2, 200, 7 * 8 * 40) == SegmentLimits(10, 7)
    model = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 3))
    probe = LinearRegionsProbe(splits=["all"], n_slices=0, max_rows=200)
    with pytest.warns(ProbeWarning, match="64 segments of each split, got 20"):
        found = probe.fit(model, (torch.randn(200, 5), None)).series_
    assert found["linear_regions_knots"].attrs["n_segments"] == 20


def test_widths_of_zero() -> None:
    """Two lines 1e-8 apart are one line at the width 1e-7, and two at 1e-11."""
    model = model_of([[1, 0], [1, 0]], [0.0, 1e-8])
    found = measured(model, snaps=(1e-7, 1e-11))
    assert found["linear_regions_by_snap"].values.tolist() == [2, 3]
    assert found["snap"].values.tolist() == [1e-7, 1e-11]


def test_segments_count_knots_of_lines() -> None:
    """One line halves the points: a segment between two random points has a knot with probability 1/2."""
    x = torch.rand(600, 5, generator=torch.Generator().manual_seed(0)) - 0.5
    model = model_of(torch.eye(1, 5), [0.0])
    found = LinearRegionsProbe(n_slices=0, n_segments=300, splits=["all"]).fit(model, (x, None)).series_.squeeze()
    assert found["linear_regions_knots_lower"] < 0.5 < found["linear_regions_knots_upper"]
    share = found["linear_regions_knots"].item()  # of segments with a knot: no segment has two
    half = stats.t.ppf(0.95, 299) * (share * (1 - share) / 299) ** 0.5
    assert found["linear_regions_knots_upper"].item() == pytest.approx(share + half)
    assert "90 % interval" in found["linear_regions_knots_upper"].attrs["long_name"]
    assert found["linear_regions_knots"].item() == found["linear_regions_knots_added"].item()
    assert "linear_regions_total" not in found
    assert found["linear_regions_knots"].attrs["n_segments"] == 300


def test_slices_of_tokens_lie_at_the_embedding() -> None:
    model, data = token_example()
    model.act = nn.ReLU()
    found = LinearRegionsProbe(n_segments=0, snaps=()).fit(model, data).series_
    assert found["linear_regions_total"].attrs["stem"] == "first"
    assert (found["linear_regions_total"] > 1).all()


def test_what_is_not_piecewise_linear_is_refused_by_name() -> None:
    model, data = example()
    with pytest.raises(ValueError, match=r"gelu in module 'act'.*this probe, LinearRegionsProbe. LocalComplexityProbe"):
        LinearRegionsProbe().attach(model, data)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"splits": ["validation"]}, "splits among all, random"),
        ({"n_slices": 0, "n_segments": 0}, "slices or segments"),
        ({"half_side": 0.0}, "positive half_side"),
        ({"n_segments": 1.5}, "Expected n_segments between 0 and"),
        ({"max_rows": 0}, "Expected max_rows between 1 and"),
    ],
)
def test_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearRegionsProbe(**parameters).fit(model_of([[1, 0]], [0]), (POINTS, None))


def test_wrong_data() -> None:
    equal = torch.ones(9, 2)
    with pytest.raises(ValueError, match=r"fix a plane.*n_slices=0"):
        LinearRegionsProbe().fit(model_of([[1, 0]], [0]), (equal, None))
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 of 3 rows of split 'all'"):
        LinearRegionsProbe().fit(model_of([[1, 0]], [0]), (POINTS.where(POINTS != 1, torch.nan), None))
    with pytest.raises(ValueError, match="no split 'random'"):
        LinearRegionsProbe().fit(model_of([[1, 0]], [0]), {"random": (POINTS, None)})


def test_equal_points_are_passed_over() -> None:
    x = torch.cat([torch.ones(30, 2), POINTS, -POINTS])
    found = LinearRegionsProbe(n_segments=0, snaps=(), splits=["all"]).fit(model_of([[1, 0]], [0]), (x, None)).series_
    assert found["linear_regions_area"].item() > 0


def test_a_linear_model_has_one_region() -> None:
    found = measured(nn.Sequential(nn.Linear(2, 3)), n_segments=1)
    assert found["linear_regions_total"].item() == 1
    assert found["linear_regions_knots"].item() == 0


def test_a_set_with_two_of_them() -> None:
    both = ProbeSet([("near", LinearRegionsProbe(half_side=0.1)), ("wide", LinearRegionsProbe(half_side=4.0))])
    model = model_of(torch.randn(9, 2, generator=torch.Generator().manual_seed(1)), np.full(9, 0.3))
    found = both.attach(model, (POINTS, None), on_error="raise").observe(0).observe(1).series_
    assert (found["near_linear_regions_total"] < found["wide_linear_regions_total"]).all()
    assert (found["wide_linear_regions_change"][1] == 0).all()


def test_layers_are_in_the_order_of_execution() -> None:
    """Max-pooling is no activation function, so that only this probe measures its site."""
    pooled = [nn.Unflatten(1, (1, 4)), nn.ReLU(), nn.MaxPool1d(2)]
    model = nn.Sequential(*pooled, nn.Conv1d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    points = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    sets = ProbeSet([CircuitsProbe(), LinearRegionsProbe(splits=["all"], n_segments=0)])
    series = sets.fit(model, (points, None)).series_
    assert series["layer"].values.tolist() == ["1:relu", "2:max_pool1d", "4:relu"]
    assert (np.diff(series["linear_regions"].values.ravel()) >= 0).all()
