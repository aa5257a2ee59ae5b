"""Kurtosis and ablation have their closed values."""

import pytest
import torch


def check(names, printed):
    x = torch.tensor([[1.0, 0, 7], [-1, 0, 7], [0, 0, 7], [0, 0, 7]])  # kurtosis 0.5 / 0.5^2 = 2 of the first unit
    data = {"some": (x, None), "none": (x[2:], None)}
    found = names["KurtosisProbe"]().fit(torch.nn.Identity(), data).series_
    assert found["kurtosis"].values.flatten() == pytest.approx([-1, float("nan")], nan_ok=True)
    assert found["kurtosis_constant_share"].values.flatten() == pytest.approx([2 / 3, 1])
    assert found["kurtosis_undefined"].values.flatten().tolist() == [0, 1]
    moved = names["AblationProbe"](layers="0").fit(torch.nn.Sequential(torch.nn.Identity()), (x, None)).series_
    assert moved["ablation"].item() == pytest.approx((2 * 50**0.5 + 2 * 7) / 4)
