import math
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import seeded
from torch import Tensor, nn

from probe import NeuralCollapseProbe
from probe.measures import collapse_summary


def stars(means: Tensor, arm: float) -> tuple[Tensor, Tensor]:
    """Each class at its mean plus and minus ``arm`` along every axis."""
    k, d = means.shape
    arms = arm * torch.cat([torch.eye(d), -torch.eye(d)]).to(means)
    return (means[:, None] + arms).reshape(-1, d), torch.arange(k).repeat_interleave(2 * d)


def rotation(d: int, seed: int = 1) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=seeded(seed), dtype=torch.float64))[0]


def measured(z: Tensor, y: Tensor | None, **parameters: Any) -> xr.Dataset:
    probe = NeuralCollapseProbe(layers="0", **parameters).fit(nn.Sequential(nn.Identity()), (z, y))
    return probe.series_.isel(step=0, split=0, layer=0, drop=True)


@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("arm", [0.01, 0.5])
def test_a_simplex_of_stars(k: int, arm: float) -> None:
    """Means 3 e_c in k dimensions: S_B is 9/k on a space of k-1 dimensions, S_W is arm^2/k everywhere."""
    found = collapse_summary(*stars(3 * torch.eye(k, dtype=torch.float64), arm))
    assert found.nc1 == pytest.approx(arm**2 / 9 * (k - 1) / k, rel=1e-9)
    assert found.nc2_norms == pytest.approx(0, abs=1e-12)
    assert found.nc2_angles == pytest.approx(0, abs=1e-12)
    assert not found.singletons


def test_means_on_a_line_are_no_simplex() -> None:
    """Means -3, -1, 1, 3: norms 3 and 1, cosines 1 (two pairs) and -1 (four); S_B = 5, S_W = 1/4."""
    z = torch.tensor([-3, -1, 1, 3], dtype=torch.float64)[:, None] + torch.tensor([-0.5, 0.5])
    found = collapse_summary(z.reshape(-1, 1), torch.arange(4).repeat_interleave(2))
    assert found.nc1 == pytest.approx(0.25 / 5 / 4)
    assert found.nc2_norms == pytest.approx(1 / 2)
    assert found.nc2_angles == pytest.approx((2 * 4 / 3 + 4 * 2 / 3) / 6)


def test_deviations_that_do_not_meet_the_means_do_not_count() -> None:
    """By the definition of the pseudo-inverse: only directions that separate the class means count."""
    z, y = stars(torch.eye(3, dtype=torch.float64), 0.0)
    aside = torch.randn(len(z), 4, generator=seeded(), dtype=torch.float64)
    aside = aside - torch.stack([aside[y == c].mean(0) for c in range(3)])[y]
    assert collapse_summary(torch.cat([z, aside], 1), y).nc1 == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "d", "k"), [(200, 5, 3), (200, 3, 8), (40, 90, 5), (12, 300, 6)])
def test_nc1_agrees_with_explicit_matrices(n: int, d: int, k: int) -> None:
    """Few and many dimensions, classes of unequal size, and a scale per axis."""
    z = torch.randn(n, d, generator=seeded(), dtype=torch.float64) * torch.linspace(0.2, 2, d) + 1
    y = torch.cat([torch.arange(k), torch.arange(n - k) ** 2 % k])
    t, labels = z.numpy(), y.numpy()
    means = np.stack([t[labels == c].mean(0) for c in range(k)])
    within = sum(np.outer(row - means[c], row - means[c]) for row, c in zip(t, labels, strict=True)) / n
    between = np.cov(means.T, ddof=0)
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / k
    assert collapse_summary(z, y).nc1 == pytest.approx(expected, rel=1e-7)


def test_numbers_do_not_depend_on_scale_place_orientation_or_names() -> None:
    z = torch.randn(60, 8, generator=seeded(), dtype=torch.float64)
    y = torch.arange(60) % 4
    wide = torch.cat([z, torch.zeros(60, 500)], 1)
    for other in (9 * z, z - 3, z @ rotation(8), wide):
        assert collapse_summary(other, y) == pytest.approx(collapse_summary(z, y), rel=1e-8)
    for other, labels in ((z, 100 - 7 * y), (z.flip(0), y.flip(0))):
        assert collapse_summary(other, labels) == pytest.approx(collapse_summary(z, y), rel=1e-8)


def test_float32_rows_far_from_the_origin_keep_their_value() -> None:
    z, y = stars(torch.eye(3, dtype=torch.float64), 0.1)
    assert collapse_summary((z + 50).float(), y).nc1 == pytest.approx(collapse_summary(z, y).nc1, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float64(dtype: torch.dtype) -> None:
    z, y = torch.randn(30, 4, generator=seeded()).to(dtype), torch.arange(30) % 3
    assert collapse_summary(z, y) == collapse_summary(z.double(), y)


def test_a_class_of_one_row_is_flagged() -> None:
    z = torch.randn(9, 4, generator=seeded())
    assert measured(z, torch.arange(9) % 3)["nc_singletons"].item() == 0
    lonely = measured(z, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2]))
    assert lonely["nc_singletons"].item() == 1
    assert lonely["nc_undefined"].item() == 0
    assert measured(z, torch.arange(9))["nc1"].item() == 0  # nothing varies: the flag marks this value as invalid


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_class_means_that_are_one_have_no_number(offset: float) -> None:
    z = torch.tensor([[1.0, 2.0], [-1, -2], [2, -1], [-2, 1]]) + offset
    found = measured(z, torch.tensor([0, 0, 1, 1]))
    assert found["nc_undefined"].item() == 1
    assert found[["nc1", "nc2_norms", "nc2_angles"]].to_array().isnull().all()


def test_class_means_that_differ_by_rounding_have_no_number() -> None:
    z = torch.full((4, 2), 0.1)
    z[0, 0] += 1e-8
    assert z.double().std(0)[0] > 0
    assert measured(z, torch.tensor([0, 0, 1, 1]))["nc_undefined"].item() == 1


def test_a_class_mean_in_the_middle_has_no_angle() -> None:
    found = measured(torch.tensor([[-1.0], [-1], [0], [0], [1], [1]]), torch.arange(6) // 2)
    assert found["nc_undefined"].item() == 1
    assert found["nc1"].item() == 0
    assert found["nc2_angles"].isnull().item()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_activations_that_are_not_finite_are_flagged(value: float) -> None:
    z = torch.randn(6, 3, generator=seeded())
    z[2, 1] = value
    found = measured(z, torch.arange(6) % 2)
    assert found["nc_undefined"].item() == 1
    assert found["nc1"].isnull().item()


def test_splits_without_classes_are_not_measured() -> None:
    z = torch.randn(8, 3, generator=seeded())
    data = {"free": (z, None), "train": (z, torch.arange(8) % 2), "real": (z, z[:, 0])}
    series = NeuralCollapseProbe(layers="0").fit(nn.Sequential(nn.Identity()), data).series_.isel(step=0)
    assert series["nc1"].isnull().values[:, 0].tolist() == [True, False, True]
    assert series["nc_undefined"].values[:, 0].tolist() == [-1, 0, -1]
    assert series["nc_singletons"].values[:, 0].tolist() == [-1, 0, -1]


def test_positions_with_a_target_each_and_ignored_ones() -> None:
    z = torch.randn(6, 4, 3, generator=seeded())
    y = torch.arange(24).reshape(6, 4) % 3
    y[0, 1] = y[5, 2] = -100
    kept = y.flatten() != -100
    expected = collapse_summary(z.flatten(0, 1)[kept], y.flatten()[kept])
    assert measured(z, y, reduce="tokens")["nc1"].item() == pytest.approx(expected.nc1)
    with pytest.raises(ValueError, match="24 targets for 6 rows"):
        measured(z, y)


def test_more_rows_than_max_samples_are_a_fixed_subset_without_ignored_rows() -> None:
    z, y = torch.randn(200, 4, generator=seeded()), torch.arange(200) % 3
    y[:50] = -100
    rows = 50 + torch.randperm(150, generator=seeded(5))[:60]
    found = measured(z, y, max_samples=60, random_state=5)["nc1"]
    assert found.item() == pytest.approx(collapse_summary(z[rows], y[rows]).nc1)
    assert found.attrs["n_rows"] == 60


def test_data_without_classes_are_an_error_when_attaching() -> None:
    with pytest.raises(ValueError, match="Expected integer targets in some split, got none in all"):
        NeuralCollapseProbe().attach(nn.Sequential(nn.Linear(3, 2)), (torch.zeros(4, 3), None))
    with pytest.raises(ValueError, match="at least two classes, got one class"):
        measured(torch.eye(3), torch.zeros(3).long())
