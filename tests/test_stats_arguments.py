"""Arguments that the functions of probe.stats cannot use: an error that states what to do, never a number."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probe import stats

X, Y = np.arange(1.0, 31), np.random.default_rng(0).random(30)
OF_ONE = [
    stats.noise_model,
    stats.spikes,
    stats.unimodal_splits,
    stats.prefix_isotonic,
    stats.prominences,
    lambda values: stats.local_sd(values, window=5),
    lambda values: stats.mean_interval(values, 0.9),
]
OF_TWO = [
    stats.tau_b,
    stats.thinned,
    stats.concordance,
    stats.orthogonal_line,
    stats.leave_one_out,
    stats.difference_noise,
    stats.piecewise_linear,
    stats.segmented_fit,
    stats.prefix_isotonic,
    stats.unimodal_splits,
    stats.roughness,
    stats.third_differences,
    lambda a, b: stats.change_correlation(X, a, b),
    lambda a, b: stats.median_interval(a, b, 0.9),
    lambda a, b: stats.order_interval(a, b, 0.9),
]
SEPARATE = [lambda a, b: stats.separation(a, Y), lambda a, b: stats.separation(Y, a)]


@pytest.mark.parametrize(
    "wrong", ["text", ["a", "b"], 3.0, np.ones((2, 2, 2)), {"a": 1}, np.ones(30) + 1j, [[1], [2, 3]]]
)
@pytest.mark.parametrize("function", [*OF_ONE, *OF_TWO, *SEPARATE])
def test_what_is_no_curve_is_an_error_of_one_form(function: Callable[..., Any], wrong: Any) -> None:
    for arguments in [(wrong,)] if function in OF_ONE else [(wrong, Y), (X, wrong)]:
        if function in SEPARATE and arguments[0] is not wrong:
            continue
        with pytest.raises(ValueError, match=r"^Expected .*, got .*; "):
            function(*arguments)


@pytest.mark.parametrize("function", OF_TWO)
def test_curves_of_two_lengths_are_an_error(function: Callable[..., Any]) -> None:
    for arguments in ((X, Y[:-1]), (X[:2], Y), (X, Y[:1])):
        with pytest.raises(ValueError, match=r"^Expected .* of one shape \(n,\), got .*; "):
            function(*arguments)


@pytest.mark.parametrize("level", [0, 1, 95, -1, np.nan, None, "0.9", [0.9]])
@pytest.mark.parametrize(
    "function",
    [
        lambda level: stats.mean_interval(Y, level),
        lambda level: stats.median_interval(Y, Y, level),
        lambda level: stats.order_interval(Y, Y, level),
        lambda level: stats.separation(X, Y, level=level),
        lambda level: stats.concordance(X, Y, level=level),
        lambda level: stats.orthogonal_line(X, Y, level=level),
        lambda level: stats.median_step(X, X, X, ["found"] * 30, first_step=0, last_step=40, level=level),
    ],
)
def test_a_level_that_is_no_coverage_is_an_error(function: Callable[[Any], Any], level: Any) -> None:
    with pytest.raises(ValueError, match="Expected level between 0 and 1, got"):
        function(level)


def test_bounds_that_contain_nothing_are_an_error() -> None:
    for low, high in ((Y + 1, Y), (np.full(30, np.nan), Y), (Y, np.full(30, np.nan))):
        for function in (stats.median_interval, stats.order_interval):
            with pytest.raises(ValueError, match="Expected lower bounds of at most the upper ones"):
                function(low, high, 0.9)
    with pytest.raises(ValueError, match="Expected lower bounds of at most the upper ones"):
        stats.median_step(X, X + 2, X + 1, ["found"] * 30, first_step=0, last_step=40)


@pytest.mark.parametrize("steps", [X[::-1], -X, np.append(X[:-1], np.nan), np.append(X[:-1], np.inf)])
def test_steps_that_do_not_increase_are_an_error(steps: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Expected finite, increasing steps of at least 0"):
        stats.thinned(steps, Y)


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.least_p_value(-1, 3),
        lambda: stats.least_p_value(3, 2.5),  # type: ignore[arg-type]
        lambda: stats.local_sd(Y, window=0),
        lambda: stats.local_sd(Y, window=5, lag=15),
        lambda: stats.variance_inflation(1.0),
        lambda: stats.simulate_ar1(np.random.default_rng(0), (2, 30), 2.5),
        lambda: stats.simulate_ar1(np.random.default_rng(0), (2, 30), np.nan),
        lambda: stats.unimodal_splits(Y, np.zeros(30)),
        lambda: stats.prefix_isotonic(np.full(3, np.inf)),
        lambda: stats.difference_noise(X[:2], Y[:2]),
        lambda: stats.difference_noise(X[::-1], Y),
        lambda: stats.log_bounds(X, X, X, ["found"] * 3, 0, 40),
    ],
)
def test_numbers_outside_their_range_are_errors(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"^Expected .*, got .*; "):
        call()


def test_one_run_has_no_error_of_prediction() -> None:
    assert np.isnan(stats.leave_one_out([1.0], [2.0])).all()
