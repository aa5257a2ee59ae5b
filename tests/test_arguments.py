"""Arguments that probe.geometry and probe.measures cannot use: an error of the one form, never a number."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from probe.geometry import linear_mapping_number, slice_slope
from probe.measures import collapse_summary, directions, fourier_norms, frobenius_norm, gini, weight_summary

ONE = torch.ones(2, 3, 4)
NONSENSE: dict[str, Callable[[], Any]] = {
    "weights of int8": lambda: weight_summary(torch.ones(3, 3, dtype=torch.int8)),
    "weights of a list": lambda: weight_summary([[1.0]]),
    "weights of a vector": lambda: weight_summary(torch.ones(3)),
    "weights of a number": lambda: weight_summary(torch.tensor(1.0)),
    "matrix of NaN": lambda: linear_mapping_number(torch.full((3, 3), math.nan)),
    "matrix with one infinity": lambda: linear_mapping_number(torch.eye(3).fill_diagonal_(math.inf)),
    "matrix of 0": lambda: linear_mapping_number(torch.zeros(3, 3)),
    "matrix of nothing": lambda: linear_mapping_number(torch.zeros(0, 0)),
    "asymmetric matrix": lambda: linear_mapping_number(torch.tensor([[1.0, 0.0], [0.5, 1.0]])),
    "complex matrix": lambda: linear_mapping_number(torch.eye(3, dtype=torch.complex64)),
    "matrix as a list": lambda: linear_mapping_number([[1.0]]),
    "slope of two shapes": lambda: slice_slope(ONE, ONE[:1], 0.1),
    "slope of vectors": lambda: slice_slope(ONE[0, 0], ONE[0, 0], 0.1),
    "slope of lists": lambda: slice_slope([1.0], [2.0], 0.1),
    "slope at radius 0": lambda: slice_slope(ONE, ONE, 0.0),
    "slope at radius NaN": lambda: slice_slope(ONE, ONE, math.nan),
    "slope at radius -1": lambda: slice_slope(ONE, ONE, -1.0),
    "no directions": lambda: directions(0, 3),
    "negative directions": lambda: directions(-1, 3),
    "half directions": lambda: directions(1.5, 3),
    "no dimension": lambda: directions(2, 0),
    "frequencies of a vector": lambda: fourier_norms(torch.ones(4)),
    "frequencies of one row": lambda: fourier_norms(torch.ones(1, 4)),
    "frequencies of a list": lambda: fourier_norms([[1.0], [2.0]]),
    "frequencies of complex rows": lambda: fourier_norms(torch.ones(4, 2, dtype=torch.complex64)),
    "gini of negative values": lambda: gini(torch.tensor([-1.0, 1.0])),
    "gini of a matrix": lambda: gini(torch.ones(2, 2)),
    "gini of nothing": lambda: gini(torch.ones(0)),
    "gini of a list": lambda: gini([1.0, 2.0]),
}


@pytest.mark.parametrize("call", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_error_of_the_one_form(call: Callable[[], Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^Expected .*, got .*; "):
        call()


def test_integers_and_half_precision_are_numbers() -> None:
    assert frobenius_norm(torch.tensor([[3, 0], [0, 4]], dtype=torch.int8)) == 5
    assert gini(torch.tensor([0, 0, 0, 5])).item() == 0.75
    for dtype in (torch.int64, torch.bfloat16, torch.float16):
        assert linear_mapping_number(torch.eye(4).to(dtype)).item() == pytest.approx(4)
    assert linear_mapping_number(1e-300 * torch.eye(4, dtype=torch.float64)).item() == pytest.approx(4)


@pytest.mark.parametrize("scale", [1e-140, 1e-100, 1e-30, 1e100, 1e140])
def test_collapse_does_not_depend_on_the_scale(scale: float) -> None:
    z, y = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(30) % 3
    assert collapse_summary(scale * z, y) == pytest.approx(collapse_summary(z, y), rel=1e-9)
