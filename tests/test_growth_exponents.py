"""Truth of growth exponents: planted powers, weight decay, deep linear networks; windows, lost modes, bad input."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from probe import WeightModesProbe, concat, save
from probe.geometry import follow_modes
from probe.stats import growth_exponents, slope_interval

STEPS = np.unique(np.geomspace(1, 1000, 31).round().astype(int))


def series_of(matrices: np.ndarray, steps: np.ndarray = STEPS, **options: Any) -> xr.Dataset:
    """Return the series that the probe would record of one matrix over time."""
    found = follow_modes(matrices, **options)
    dims, table = ("step", "parameter", "mode"), {}
    for name in ("values", "matched", "degenerate"):
        table[{"values": "mode_singular_value"}.get(name, f"mode_{name}")] = (dims, getattr(found, name)[:, None])
    table["mode_spectrum"] = ((*dims[:2], "rank"), found.spectrum[:, None])
    table["mode_norm"] = (dims[:2], found.norms[:, None])
    table["mode_undefined"] = (dims[:2], np.zeros((len(steps), 1), int))
    return xr.Dataset(table, {"step": steps, "parameter": ["w"], "mode": range(found.values.shape[1])})


POWERS = np.array([0.5, 0.3, 0.1, 0.0, -0.1, -0.3])
SIZES = np.array([3.0, 6.0, 10.0, 20.0, 30.0, 40.0])


def planted(rng: np.random.Generator, walk: bool, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices with modes of known powers, rotated, with white noise or a random walk; and the values."""
    values = SIZES * STEPS[:, None] ** POWERS
    left, right = (np.linalg.qr(rng.normal(size=(n, 6)))[0] for n in (20, 30))
    errors = noise * rng.normal(size=(len(STEPS), 20, 30))
    errors = errors.cumsum(0) if walk else 3 * errors
    return np.einsum("mk,tk,nk->tmn", left, values, right) + errors, values


def inside(rng: np.random.Generator, walk: bool) -> np.ndarray:
    """Return which planted exponents are in their intervals, by window and mode.

    The truth of a trajectory is the power of the planted mode that is closest to it in the window.
    """
    matrices, values = planted(rng, walk)
    series, windows = series_of(matrices, max_modes=6), {"early": (1, 40), "late": (25, 1000)}
    found = growth_exponents(series, windows, relative=False)
    assert (found["status"] == "estimated").all()
    held = []
    for name, (first, last) in windows.items():
        at = (first <= STEPS) & (last >= STEPS)
        apart = np.log(series["mode_singular_value"].values[at, 0, :, None] / values[at][:, None])
        powers, one = POWERS[np.nanmean(np.abs(apart), 0).argmin(1)], found.sel(window=name, parameter="w")
        held.append((one["low"] <= powers) & (powers <= one["high"]))
    return np.array(held)


def share_inside(draws: int) -> tuple[float, float]:
    """Return the share of planted exponents in 90 % intervals for white noise and for a walk."""
    rng = np.random.default_rng(0)
    white, walk = (float(np.mean([inside(rng, walk) for _ in range(draws)])) for walk in (False, True))
    return white, walk


def test_planted_exponents_are_in_their_intervals() -> None:
    white, walk = share_inside(3)
    assert white >= 0.9
    assert walk >= 0.85  # of 36 intervals; the benchmark has thousands


@pytest.mark.slow
def test_nine_of_ten_planted_exponents_are_in_their_intervals() -> None:
    assert min(share_inside(60)) >= 0.9


def test_what_moves_all_modes_alike_is_no_growth() -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(12, 9)) * np.exp(-STEPS / 300)[:, None, None] * (1 + 0.3 * np.sin(STEPS))[:, None, None]
    series = series_of(matrices)
    found = growth_exponents(series, {"all": (1, 1000)})
    assert (found["status"] == "estimated").all()
    for name in ("exponent", "low", "high"):
        np.testing.assert_allclose(found[name], 0, atol=1e-10)
    absolute = growth_exponents(series, {"all": (1, 1000)}, relative=False)
    assert (absolute["exponent"] < -0.1).all()


def test_a_random_walk_has_wider_intervals_than_white_noise() -> None:
    rng = np.random.default_rng(0)
    x, errors = np.linspace(0, 3, 60), 0.05 * rng.normal(size=(60, 200))
    white, walk = (slope_interval(x, x[:, None] + e) for e in (errors, errors.cumsum(0)))
    for found in (white, walk):
        assert ((found.low <= 1) & (found.high >= 1)).mean() >= 0.87
        assert ((found.low <= found.slope) & (found.slope <= found.high)).all()
    ordinary = np.polyfit(x, errors.cumsum(0), 1, cov=True)[1][0, 0] ** 0.5
    assert np.median(walk.high - walk.low) > 5 * 2 * 1.65 * np.median(ordinary)
    assert np.median(walk.high - walk.low) > 1.5 * np.median(white.high - white.low)


def test_missing_observations_are_left_out() -> None:
    x = np.linspace(0, 1, 12)
    y = np.stack([x, 2 * x, x**2, np.full(12, np.nan)], 1)
    y[::3, 1] = np.nan
    y[3:, 2] = np.nan
    found = slope_interval(x, y)
    assert found.n_observations.tolist() == [12, 8, 3, 0]
    np.testing.assert_allclose(found.slope, [1, 2, np.nan, np.nan])
    np.testing.assert_allclose(found.high - found.low, [0, 0, np.nan, np.nan], atol=1e-10)


# -- deep linear networks ----------------------------------------------------------------------------------------------


def test_modes_of_a_deep_linear_network_follow_logistic_curves() -> None:
    """Gradient flow from balanced weights (Saxe, McClelland and Ganguli 2014, arXiv:1312.6120): a mode s of the product
    W2 W1 follows a(t) = s e^(2 s t) / (e^(2 s t) - 1 + s / a0), and the mode of each layer is its root.
    """
    rng, targets, start, rate = np.random.default_rng(0), np.array([4.0, 2.5, 1.5]), 1e-3, 1e-3
    left, right, middle = (np.linalg.qr(rng.normal(size=(n, 3)))[0] for n in (6, 5, 8))
    model = nn.Sequential(nn.Linear(5, 8, bias=False), nn.Linear(8, 6, bias=False)).double()
    goal, first, second = left * targets @ right.T, start**0.5 * middle @ right.T, start**0.5 * left @ middle.T
    probe = WeightModesProbe(share=1.0, max_modes=3).attach(model, (torch.zeros(2, 5).double(), None))
    due = set(np.geomspace(100, 4000, 25).astype(int).tolist())
    for step in range(1, 4001):
        error = goal - second @ first
        first, second = first + rate * second.T @ error, second + rate * error @ first.T
        if step in due:
            model[0].weight.data, model[1].weight.data = torch.tensor(first), torch.tensor(second)
            probe.observe(step)
    series = probe.series_
    times = rate * series["step"].values[:, None]
    curves = targets / (1 + (targets / start - 1) * np.exp(-2 * targets * times))
    for name in ("0.weight", "1.weight"):
        found = series["mode_singular_value"].sel(parameter=name).values
        order = np.abs(found[-1][:, None] ** 2 - curves[-1]).argmin(1)
        assert sorted(order) == [0, 1, 2]
        np.testing.assert_allclose(found, curves[:, order] ** 0.5, rtol=0.02)
    assert (series["mode_matched"].values[1:] == 1).all()


# -- windows, lost modes, bad input ------------------------------------------------------------------------------------


def ramp(n: int = 12) -> xr.Dataset:
    steps = 2 ** np.arange(n)
    values = np.array([5.0, 1.0]) * steps[:, None] ** np.array([-0.1, 0.1])
    return series_of(np.stack([np.diag(row) for row in values]), steps, share=1.0)


def test_statuses() -> None:
    series = ramp()
    series["mode_matched"][6, 0, 1] = 0
    windows = {"all": (1, 2048), "late": (64, 2048), "none": (np.nan, 10), "back": (9, 3), "short": (1, 5)}
    found = growth_exponents(series, windows)
    assert found["status"].sel(mode=0).values[:, 0].tolist() == ["estimated"] * 2 + ["no_window"] * 2 + [
        "few_observations"
    ]
    assert found["status"].sel(mode=1, window="late").item() == "estimated"
    assert found["status"].sel(mode=1, window="all").item() == "identity_lost"
    assert found["coverage"].sel(mode=1, window="all").item() == pytest.approx(5 / 11)
    assert found["n_observations"].sel(mode=1, window="all").item() == 6
    assert (found["exponent"].isnull() == (found["status"] != "estimated")).all()
    series["mode_undefined"][:] = 1
    assert (growth_exponents(series, {"all": (1, 2048)})["status"] == "undefined").all()
    empty = ramp().assign(mode_singular_value=series["mode_singular_value"] * np.nan)
    assert (growth_exponents(empty, {"all": (1, 2048)})["status"] == "untracked").all()


def test_the_reason_names_the_record_before_the_mode() -> None:
    """A window that outlasts the training, runs on different steps, and matrices with one mode."""
    series = ramp()
    statuses = growth_exponents(series, {"long": (1, 1e8), "later": (1e4, 1e5)})["status"]
    assert statuses.values[:, 0, :].tolist() == [["not_covered"] * 2, ["few_observations"] * 2]
    sparse = series.isel(step=slice(None, None, 4)).assign_coords(step=[3, 50, 900])
    joined = growth_exponents(concat([series, sparse], ["dense", "sparse"]), {"all": (1, 2048)})
    assert joined["status"].values[:, 0, 0, 0].tolist() == ["estimated", "few_observations"]
    np.testing.assert_array_equal(
        joined["exponent"].sel(run="dense"), growth_exponents(series, {"all": (1, 2048)})["exponent"]
    )
    steps = 2 ** np.arange(8)
    rng = np.random.default_rng(0)
    row = series_of(rng.normal(size=(8, 1, 9)) * 0.01 + steps[:, None, None] ** 0.5, steps, share=1.0)
    assert growth_exponents(row, {"all": (1, 128)})["status"].item() == "only_mode"
    found = growth_exponents(row, {"all": (1, 128)}, relative=False)
    assert found["exponent"].item() == pytest.approx(0.5, abs=0.05)


def test_bounds_follow_the_labels_of_runs() -> None:
    runs = concat([ramp(), ramp()], ["a", "b"])
    swapped = xr.DataArray([64.0, 16.0], {"run": ["b", "a"]}, "run")
    for bound in (swapped, swapped.to_series(), [16, 64]):
        found = growth_exponents(runs, {"first": (1, bound)}, min_observations=4)["n_observations"]
        assert found.values[:, 0, 0, 0].tolist() == [5, 7]
    with pytest.raises(ValueError, match="got none for 'b' but for 'c', 'a'; give both the same labels"):
        growth_exponents(runs, {"first": (1, swapped.assign_coords(run=["c", "a"]))})


def test_windows_differ_between_runs() -> None:
    runs = concat([ramp(), ramp()], ["a", "b"])
    markers = xr.DataArray([16.0, np.nan], {"run": ["a", "b"]}, "run")
    found = growth_exponents(runs, {"first": (1, markers), "all": (1, 2048)})
    assert found["exponent"].dims == ("run", "window", "parameter", "mode")
    assert found["status"].sel(window="first").values[:, 0, 0].tolist() == ["estimated", "no_window"]
    assert found["n_observations"].sel(run="a", mode=0).values.ravel().tolist() == [5, 12]
    alone = growth_exponents(ramp(), {"all": (1, 2048)})
    np.testing.assert_array_equal(found["exponent"].sel(run="b", window="all"), alone["exponent"].sel(window="all"))


def test_a_saved_recording_gives_the_same_exponents(tmp_path: Any) -> None:
    model = nn.Linear(4, 3)
    probe = WeightModesProbe().attach(model, (torch.zeros(2, 4), None), path=tmp_path / "run.nc")
    for step in range(1, 9):
        model.weight.data *= 1 + 0.1 * torch.eye(3, 4)
        probe.observe(step)
    series = probe.detach().series_
    save(series, tmp_path / "again.nc")
    found = growth_exponents(xr.load_dataset(tmp_path / "again.nc"), {"all": (1, 8)})
    np.testing.assert_array_equal(found["exponent"], growth_exponents(series, {"all": (1, 8)})["exponent"])


@pytest.mark.parametrize(
    ("series", "windows", "options", "message"),
    [
        (np.zeros(3), {"a": (1, 9)}, {}, "Expected a Dataset, got ndarray"),
        (xr.Dataset(), {"a": (1, 9)}, {}, "Expected a series with followed modes"),
        (ramp(), [(1, 9)], {}, "Expected windows as a mapping"),
        (ramp(), {}, {}, "Expected windows as a mapping"),
        (ramp(), {"a": (0, 9)}, {}, "Expected window 'a' as .* at least 1"),
        (ramp(), {"a": (1, np.inf)}, {}, "Expected window 'a'"),
        (ramp(), {"a": 9}, {}, "Expected window 'a'"),
        (ramp(), {"a": (1, [9, 9])}, {}, "one for each of 1 runs"),
        (ramp(), {"a": (1, 9)}, {"level": 90}, "Expected level between 0 and 1"),
        (ramp(), {"a": (1, 9)}, {"min_observations": 3}, "Expected an integer of at least 4 as min_observations"),
        (ramp(), {"a": (1, 9)}, {"min_coverage": -1}, "Expected min_coverage between 0 and 1"),
    ],
)
def test_bad_arguments_are_errors(series: Any, windows: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        growth_exponents(series, windows, **options)


@pytest.mark.parametrize(
    ("x", "y"), [([0, 1, 1, 2], np.zeros((4, 1))), ([0, 1, np.nan], np.zeros((3, 1))), ([0, 1, 2], np.zeros(3))]
)
def test_bad_curves_are_errors(x: Any, y: Any) -> None:
    with pytest.raises(ValueError, match="Expected"):
        slope_interval(x, y)
