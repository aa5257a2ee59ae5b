import numpy as np
import pytest

from probe.phases import check_curve, sustained_crossing


def test_crossing_is_the_first_of_three_in_a_row() -> None:
    marker = sustained_crossing([0, 1, 2, 3, 4, 5, 6, 7], [0, 0.99, 0, 1, np.nan, 1, 1, 0], 0.99)
    assert (marker.status, marker.step, marker.lower, marker.upper) == ("found", 3, 2, 3)
    assert marker.rule == "value >= 0.99 at 3 observations in a row"


@pytest.mark.parametrize(
    ("values", "status", "reason"),
    [
        ([1, 1, 1, 0], "left_censored", "first observation"),
        ([0, 1, 1, 0], "right_censored", "not sustained"),
        ([0, 0, 1, 1], "right_censored", "holds at the last 2, 3 are needed"),
        ([0, np.nan, np.nan, 1], "undefined", "2 valid"),
    ],
)
def test_statuses_of_a_crossing_that_is_not_found(values: list[float], status: str, reason: str) -> None:
    marker = sustained_crossing([1, 2, 3, 4], values, 0.5)
    assert marker.status == status
    assert reason in marker.reason
    assert np.isnan(marker.step)


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ([1, 2], [1, 2, 3], "one shape"),
        ([[1, 2]], [[1, 2]], "one shape"),
        ([2, 1], [0, 0], "sort by step"),
        ([1, 1], [0, 0], "sort by step"),
        ([-1, 1], [0, 0], "sort by step"),
        ([1, np.nan], [0, 0], "sort by step"),
        ([1, 2], [0, np.inf], "first at step 2"),
    ],
)
def test_bad_curves_are_an_error(steps: list, values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_curve(steps, values)


def test_parameters_out_of_range_are_an_error() -> None:
    with pytest.raises(ValueError, match="n_sustained >= 1"):
        sustained_crossing([1, 2], [0, 1], 0.5, n_sustained=0)
