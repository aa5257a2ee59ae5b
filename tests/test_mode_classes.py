"""Tests of the classes of modes and of their nulls."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from probe import WeightModesProbe, concat
from probe.measures import random_walk_band
from probe.stats import control_band, growth_exponents, mode_classes

STEPS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
WINDOW = {"all": (2, 32)}


def recorded(matrices: Any) -> xr.Dataset:
    """Return the modes of one matrix at each of STEPS."""
    matrices = [torch.as_tensor(matrix) for matrix in matrices]
    model = nn.Linear(matrices[0].shape[1], matrices[0].shape[0], bias=False).to(matrices[0].dtype)
    found = WeightModesProbe().attach(model, (torch.zeros(2, matrices[0].shape[1], dtype=matrices[0].dtype), None))
    for step, matrix in zip(STEPS, matrices, strict=True):
        model.weight.data.copy_(matrix)
        found.observe(step)
    return found.series_


def walk(seed: int, share: float = 1.0, start: tuple[float, ...] = (5.0, 2.0)) -> list[np.ndarray]:
    """Return a walk from a matrix with few modes, whose way is a share of its norm."""
    generator, shape = np.random.default_rng(seed), (8, 10)
    matrix = np.zeros(shape)
    np.fill_diagonal(matrix, [*start, *np.linspace(0.6, 0.3, 8 - len(start))])
    size = share * np.linalg.norm(matrix) / np.sqrt(matrix.size * (len(STEPS) - 1))
    found = [matrix]
    for _ in STEPS[1:]:
        found.append(found[-1] + size * generator.normal(size=shape))
    return found


def exponents(low: list[float], high: list[float], status: str = "estimated") -> xr.Dataset:
    columns = {"exponent": np.add(low, high) / 2, "low": np.array(low), "high": np.array(high)}
    found = xr.Dataset({name: ("mode", value) for name, value in columns.items()}, attrs={"relative": 1})
    return found.assign(status=("mode", [status] * len(low)))


def band(low: Any, high: Any) -> xr.Dataset:
    return xr.Dataset({"low": low, "high": high})


def test_the_rule_at_its_edges() -> None:
    found = exponents([0.11, 0.1, -0.1, -0.3, -0.101, 0.05, 0.3], [0.2, 0.3, 0.1, -0.11, 0.0, 0.09, 0.5])
    expected = ["relevant", "undecided", "marginal", "irrelevant", "undecided", "marginal", "relevant"]
    alone = mode_classes(found)
    assert alone["mode_class"].values.tolist() == expected
    assert alone["reason"].values.tolist() == ["", "interval", "", "", "interval", "", ""]
    assert dict(zip(alone["class"].values.tolist(), alone["count"].values.tolist(), strict=True)) == {
        "relevant": 2,
        "marginal": 2,
        "irrelevant": 1,
        "undecided": 2,
    }


def test_each_null_must_be_cleared() -> None:
    """A relevant mode must be above the band, a marginal one on either side of it, an irrelevant one below it."""
    found = exponents([0.3, 0.3, -0.02, -0.02, -0.5], [0.4, 0.4, 0.02, 0.02, -0.4])
    walks = band(("mode", [0.0, 0.5, 0.01, 0.05, -0.6]), ("mode", [0.2, 0.6, 0.3, 0.3, -0.55]))
    classes = mode_classes(found, {"random walk": walks})
    assert classes["mode_class"].values.tolist() == ["relevant", "undecided", "undecided", "marginal", "undecided"]
    both = mode_classes(found, {"random walk": walks, "control": band(-1.0, 0.35)})
    assert both["mode_class"].values.tolist() == ["undecided"] * 5
    assert both["reason"].values.tolist() == ["control", "random walk", "random walk", "control", "random walk"]
    assert both.attrs == {"margin": 0.1, "nulls": "weight decay, random walk, control"}


def test_no_estimate_and_no_band_are_undecided() -> None:
    lost = mode_classes(exponents([np.nan], [np.nan], "identity_lost"), {"control": band(0.0, 0.0)})
    assert lost["reason"].values.tolist() == ["identity_lost"]
    unknown = mode_classes(exponents([0.3], [0.4]), {"control": band(np.nan, np.nan)})
    assert unknown["reason"].values.tolist() == ["control"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weight_decay_moves_no_mode(dtype: type) -> None:
    start = np.random.default_rng(0).normal(size=(6, 9)).astype(dtype)
    found = mode_classes(growth_exponents(recorded([start * dtype(0.99**step) for step in STEPS]), WINDOW))
    assert found["count"].sel({"class": "marginal"}).item() == 6


def test_random_walks_are_undecided() -> None:
    """Without the null of a walk, modes of walks have classes. With it, at most 5 % have one: here none."""
    series = concat([recorded(walk(seed, 0.6)) for seed in range(4)])
    found = growth_exponents(series, WINDOW)
    estimated = (found["status"] == "estimated").values
    assert estimated.sum() > 10
    assert (mode_classes(found)["mode_class"].values[estimated] != "undecided").mean() > 0.1
    nulls = {"random walk": random_walk_band(series, WINDOW, n_walks=5)}
    assert (mode_classes(found, nulls)["mode_class"].values[estimated] != "undecided").mean() <= 0.05


def test_band_holds_walks_that_were_made_elsewhere() -> None:
    """The leading exponents of 40 walks, by NumPy, lie within the band of another walk of the same law."""
    limits = random_walk_band(recorded(walk(0)), WINDOW, n_walks=10).isel(mode=slice(2)).squeeze()
    walks = np.array([walk(seed) for seed in range(1, 41)])  # (walk, step, m, n)
    top = np.linalg.svd(walks, compute_uv=False)[..., :2]
    norms = np.linalg.norm(walks, axis=(2, 3))
    dims = "parameter", "step", "mode"
    values = xr.Dataset(
        {
            "mode_singular_value": (dims, top),
            "mode_matched": (dims, np.ones(top.shape)),
            "mode_degenerate": (dims, np.zeros(top.shape)),
            "mode_norm": (dims[:2], norms),
            "mode_undefined": (dims[:2], np.zeros(norms.shape)),
        },
        {"step": list(STEPS), "parameter": np.arange(40), "mode": [0, 1]},
    )
    exponent = growth_exponents(values, WINDOW)["exponent"].isel(window=0)
    inside = (exponent > limits["low"].values) & (exponent < limits["high"].values)
    assert inside.mean() >= 0.9


def test_growth_against_a_walk_is_found() -> None:
    """A mode that grows as t^.5 beside a walk with 10 % of the norm is relevant, and the others shrink or stay."""
    noise = [matrix - walk(1)[0] for matrix in walk(1, 0.1)]
    start = walk(1)[0]
    matrices = [start + error for error in noise]
    for step, matrix in zip(STEPS, matrices, strict=True):
        matrix[1, 1] += 2 * (step / 2) ** 0.5 - 2
    series = recorded(matrices)
    found = growth_exponents(series, WINDOW)
    classes = mode_classes(found, {"random walk": random_walk_band(series, WINDOW, n_walks=5)})
    assert classes["mode_class"].sel(window="all", parameter="weight", mode=1).item() == "relevant"


def test_empty_slots_are_no_modes() -> None:
    """Three planted modes in 8 slots: numbers of classes are those of three modes."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(n, 3)))[0] for n in (8, 10))
    powers = np.array([0, -0.4, 0.3])
    series = recorded([u * (np.array([9.0, 2, 1]) * (step / 2) ** powers) @ v.T for step in STEPS])
    classes = mode_classes(growth_exponents(series, WINDOW))
    assert classes["mode_class"].size == 8
    assert classes["count"].values.ravel().tolist() == [1, 1, 1, 0]
    late = mode_classes(growth_exponents(series, {"late": (100, 200)}))
    assert late["count"].sum() == 0


def test_a_matrix_that_is_not_finite_once_has_a_band() -> None:
    matrices = walk(0, 0.3)
    whole = random_walk_band(recorded(matrices), WINDOW, n_walks=5)
    matrices[3] = matrices[3] * np.nan
    found = random_walk_band(recorded(matrices), WINDOW, n_walks=5)
    np.testing.assert_allclose(found["high"].isel(mode=0), whole["high"].isel(mode=0), atol=0.1)
    unknown = recorded(matrices)
    unknown["mode_update_norm"][4] = np.nan
    assert random_walk_band(unknown, WINDOW, n_walks=5)["low"].isnull().all()


def test_windows_and_runs_keep_their_places() -> None:
    series = concat([recorded(walk(seed)) for seed in range(2)])
    windows = {"early": (2, 8), "late": ([8, np.nan], 32)}
    found = random_walk_band(series, windows, n_walks=5)
    assert found["low"].dims == growth_exponents(series, windows)["exponent"].dims
    assert found["low"].sel(window="late").isel(run=1).isnull().all()
    assert found["low"].sel(window="late").isel(run=0, mode=0).notnull().all()
    one = random_walk_band(series.isel(run=0), {"early": (2, 8)}, n_walks=5)
    swapped = xr.DataArray([np.nan, 8], {"run": [1, 0]}, "run")
    xr.testing.assert_equal(found, random_walk_band(series, {**windows, "late": (swapped, 32)}, n_walks=5))
    xr.testing.assert_allclose(
        one["low"].drop_vars("run", errors="ignore"), found["low"].isel(run=0, drop=True).sel(window=["early"])
    )


def test_band_of_controls_is_the_hull_over_runs() -> None:
    values = np.array([[0.0, 1.0, 2.0], [-1.0, 0.0, np.nan]])
    controls = xr.Dataset({name: (("run", "mode"), values) for name in ("exponent", "low", "high")})
    found = control_band(controls.assign(status=controls["exponent"].notnull()), level=0.5)
    assert found["low"].item() == pytest.approx(-0.75)
    assert found["high"].item() == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("change", "nulls", "keywords", "message"),
    [
        (lambda x: x.drop_vars("low"), {}, {}, "Expected a Dataset with exponent, low, high, status"),
        (lambda x: x.assign_attrs(relative=0), {}, {}, "relative=True"),
        (lambda x: x, {}, {"margin": 0.0}, "Expected margin between 0 and 1"),
        (lambda x: x, {"control": 0.1}, {}, "Expected a Dataset with low and high as null 'control', got float"),
        (lambda x: x, {"walk": band(("walk", [0.0]), 1.0)}, {}, "got also walk"),
        (
            lambda x: x.expand_dims(window=["late"]),
            {"control": band(0.0, 1.0).expand_dims(window=["early"])},
            {},
            "null 'control' with each window of the exponents, got none for 'late'",
        ),
    ],
)
def test_bad_arguments(change: Any, nulls: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mode_classes(change(exponents([0.0], [0.1])), nulls, **keywords)


def test_bad_series() -> None:
    with pytest.raises(ValueError, match="record WeightModesProbe"):
        random_walk_band(xr.Dataset(), WINDOW)
    with pytest.raises(ValueError, match="integer of at least 5 as n_walks"):
        random_walk_band(recorded(walk(0)), WINDOW, n_walks=2)
