"""Tests of the order of a transition, on systems whose answer is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats as distributions

from probe.stats import barrier_scaling, binder_cumulant, hopping_rates, hysteresis

SIZES = [8, 12, 16, 20]
RATES = [0.003, 0.01, 0.03, 0.1]
CONTROL = np.linspace(-1, 1, 41)


def well(rng: np.random.Generator, d: float, a: float, n: int = 20_000, tilt: float = 0.0) -> np.ndarray:
    """Return samples of exp(-d (x^4 / 4 - a x^2 / 2) + tilt x); the barrier is d a^2 / 4 without a tilt."""
    x = np.linspace(-4, 4, 8001)
    mass = np.cumsum(np.exp(-d * (x**4 / 4 - a * x**2 / 2 + a**2 / 4) + tilt * x))
    return np.interp(rng.random(n) * mass[-1], mass, x)


def sweeps(rng: np.random.Generator, area: float, lag: float, noise: float = 0.05, repeats: int = 5) -> list[list[Any]]:
    """Return sweeps up and down with loops of area + 4 lag rate^(2/3)."""
    return [
        [
            np.tanh(10 * (CONTROL - sign * (area / 4 + lag * r ** (2 / 3)))) + rng.normal(0, noise, (repeats, 41))
            for r in RATES
        ]
        for sign in (1, -1)
    ]


def test_a_barrier_grows_in_the_double_well_and_not_in_wells_without_one() -> None:
    rng = np.random.default_rng(0)
    found = barrier_scaling(SIZES[::-1], [well(rng, d, 1) for d in SIZES[::-1]])
    assert found.status == "grows"
    assert found.resolved.all()
    assert np.isnan(found.field).all()
    assert found.slope.value == pytest.approx(0.25, abs=0.03)
    assert found.growth.value == pytest.approx(12 * found.slope.value)
    np.testing.assert_allclose(found.barriers, np.array(SIZES) / 4, atol=0.35)
    for a in (0, -1):
        without = barrier_scaling(SIZES, [well(rng, d, a) for d in SIZES])
        assert without.status == "does not grow"
        assert without.growth.upper < 0.5


def test_peaks_are_reweighted_to_equal_heights() -> None:
    """The tilt multiplies x, so the field that removes it is minus the tilt."""
    rng = np.random.default_rng(1)
    samples = [well(rng, d, 1, tilt=0.6) for d in SIZES]
    found = barrier_scaling(SIZES, samples, conjugate=samples)
    np.testing.assert_allclose(found.field, -0.6, atol=0.1)
    np.testing.assert_allclose(found.barriers, np.array(SIZES) / 4, atol=0.35)
    without = barrier_scaling(SIZES, samples)
    assert (without.barriers < found.barriers).all()
    assert np.isnan(without.field).all()


def test_a_barrier_without_samples_is_a_lower_bound() -> None:
    rng = np.random.default_rng(2)
    found = barrier_scaling([8, 40, 80, 160], [well(rng, d, 1, 2000) for d in (8, 40, 80, 160)])
    assert found.resolved.tolist() == [True, False, False, False]
    assert (found.barriers <= np.array([2.4, 10, 20, 40])).all()
    assert found.slope.upper == np.inf
    assert found.status != "does not grow"


def test_what_cannot_be_decided_is_not() -> None:
    rng = np.random.default_rng(3)
    assert barrier_scaling(SIZES[:3], [well(rng, d, 1) for d in SIZES[:3]]).status == "too few sizes"
    trapped = [well(rng, d, 1) for d in SIZES]
    trapped[-1] = np.abs(trapped[-1]) + 0.5
    found = barrier_scaling(SIZES, trapped)
    assert found.status == "undecided"
    assert "one peak" in found.reason


def test_hopping_rates_of_a_chain_with_known_rates() -> None:
    """In continuous time, with two hops within an interval: the share that leaves is smaller than the rate."""
    rng, up, down = np.random.default_rng(4), 0.2, 0.3
    leave = -np.expm1(-(up + down)) / (up + down)
    states, u = np.zeros((100, 400)), rng.random((100, 400))
    for t in range(1, 400):
        states[:, t] = np.where(states[:, t - 1] == 0, u[:, t] < up * leave, u[:, t] >= down * leave)
    found = hopping_rates(states, 0, 1, interval=0.5)
    assert found.status == "found"
    assert found.up.n == 100
    assert found.up.value == pytest.approx(2 * up, rel=0.05)
    assert found.down.value == pytest.approx(2 * down, rel=0.05)
    assert found.up.lower < found.up.value < found.up.upper
    assert found.time_low + found.time_high == pytest.approx(100 * 399 / 2)


def test_dwells_are_censored_at_the_end_and_recrossings_are_no_hops() -> None:
    x = np.array([[0.5, -1, -0.2, 0.3, -0.1, 0.2, 1, 0.4, 1.0], [1, 1, 1, 1, 1, 1, 1, 1, 1]])
    found = hopping_rates(x, -1, 1)
    assert (found.n_up, found.n_down, found.time_low, found.time_high) == (1, 0, 5.0, 10.0)
    assert found.dwells.unit.tolist() == [0, 0, 1]
    assert found.dwells.state.tolist() == [0, 1, 1]
    assert found.dwells.time.tolist() == [5, 2, 8]
    assert found.dwells.censored.tolist() == [False, True, True]
    assert found.dwells.entered.tolist() == [True, True, False]
    assert found.status == "no hops"
    assert found.down.value == 0
    assert found.down.upper == pytest.approx(-np.log(0.05) / 10 * np.log(5 / 4) * 5, rel=1e-6)
    assert hopping_rates(np.zeros((2, 5)), -1, 1).status == "undefined"
    assert len(repr(found)) < 500
    assert " high; " in repr(found)
    assert hopping_rates([[0, 1, 0, 1, 0]], 0, 1).status == "undecided"


def test_the_loop_of_the_deterministic_double_well_has_its_exact_area() -> None:
    """dx = (x - x^3 + F) dt jumps at F = +-2 / sqrt(27); the area at zero rate is 1.5."""
    control, rates, both = np.linspace(-1, 1, 201), [0.002, 0.006, 0.02, 0.06], []
    for sign in (1, -1):
        loops = []
        for rate in rates:
            within, x, values = round((control[1] - control[0]) / rate / 0.05), np.full(3, -1.3 * sign), []
            for start, end in zip(control[::sign][:-1], control[::sign][1:], strict=True):
                values.append(x)
                for force in np.linspace(start, end, within):
                    x = x + 0.05 * (x - x**3 + force)
            loops.append(np.stack([*values, x], 1)[:, ::sign] + np.array([[-0.005], [0], [0.005]]) * sign)
        both.append(loops)
    found = hysteresis(rates, control, *both)
    assert found.status == "remains"
    assert found.zero_rate.value == pytest.approx(1.5, abs=0.03)
    assert found.zero_rate.lower <= 1.5 <= found.zero_rate.upper
    assert found.exponent.lower <= 2 / 3 + 0.02
    assert found.exponent.upper >= 2 / 3 - 0.02


@pytest.mark.parametrize(("area", "lag", "status"), [(0.8, 1, "remains"), (0, 1, "closes"), (0, 0, "no loop")])
def test_loops_remain_close_or_are_absent(area: float, lag: float, status: str) -> None:
    rng = np.random.default_rng(5)
    found = [hysteresis(RATES, CONTROL, *sweeps(rng, area, lag)) for _ in range(20)]
    assert np.mean([f.status == status for f in found]) >= 0.7
    assert np.mean([f.zero_rate.lower <= area <= f.zero_rate.upper for f in found]) >= 0.75
    falling = [[-x for x in side] for side in sweeps(rng, area, lag)]  # an order parameter that falls lags as well
    if lag:
        assert hysteresis(RATES, CONTROL, *falling).areas[-1] > 0


def test_few_rates_and_few_repeats_are_named() -> None:
    up, down = sweeps(np.random.default_rng(6), 0.8, 1)
    assert hysteresis(RATES[:2], CONTROL, up[:2], down[:2]).status == "too few rates"
    for n in (1, 2):
        few = hysteresis(RATES, CONTROL, [x[:n] for x in up], [x[:n] for x in down])
        assert few.status == "too few repeats"
        assert np.isnan(few.errors).all() == (n == 1)


@pytest.mark.filterwarnings("error")
def test_equal_branches_swapped_branches_and_other_units() -> None:
    up, down = sweeps(np.random.default_rng(6), 0.8, 1)
    for equal in (np.zeros((3, 41)), np.tile(CONTROL, (3, 1))):
        assert hysteresis(RATES, CONTROL, [equal] * 4, [equal] * 4).status == "no loop"
    swapped = hysteresis(RATES, CONTROL, down, up)
    assert swapped.status == "undecided"
    assert "negative" in swapped.reason
    one, other = (
        hysteresis(RATES, CONTROL, up, down),
        hysteresis(RATES, CONTROL, [1e-100 * x for x in up], [1e-100 * x for x in down]),
    )
    assert (one.status, one.zero_rate.lower) == (other.status, pytest.approx(1e100 * other.zero_rate.lower))
    rng = np.random.default_rng(0)
    samples = [rng.choice([-1, 1], 2000) + rng.normal(0, 2 / d**0.5, 2000) for d in SIZES]
    barriers = [
        barrier_scaling(SIZES, [c * x for x in samples], conjugate=samples).barriers for c in (1, 1e200, 1e-200)
    ]
    assert barriers[0][-1] > 0.5
    np.testing.assert_allclose(barriers[1:], [barriers[0]] * 2, rtol=1e-6)
    assert binder_cumulant(1e-100 * X) == pytest.approx(binder_cumulant(X))


def test_binder_is_minus_a_third_of_the_excess_kurtosis_and_averages_itself() -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_t(5, 10_000)
    kurtosis = np.mean(x**4) / np.mean(x**2) ** 2 - 3
    assert binder_cumulant(x).value == pytest.approx(-kurtosis / 3, abs=0.01)
    assert -distributions.t(5).stats("k") / 3 == pytest.approx(-2)  # the exact value
    assert binder_cumulant(x).upper < -0.3
    neurons = rng.choice([-2.0, 0, 0, 0, 0, 0, 0, 0, 0, 2], (400, 300)) + rng.normal(0, 0.5, (400, 300))
    over_neurons, over_networks = binder_cumulant(neurons[:4].reshape(-1)), binder_cumulant(neurons.mean(1))
    assert over_neurons.upper < -0.2  # three peaks
    assert abs(over_networks.value) < 0.15


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binder_cumulant(np.random.default_rng(0).exponential(1, 500) - 1), "symmetric around 0"),
        (lambda: binder_cumulant(np.ones(200)), "samples that vary"),
        (lambda: binder_cumulant(np.ones(20)), "at least 100 samples"),
        (lambda: barrier_scaling([1, 1], [np.ones(600)] * 2), "distinct positive sizes"),
        (lambda: barrier_scaling([1, 2], [np.ones(600)]), "samples of 2 sizes"),
        (lambda: barrier_scaling([1], [np.ones(600)]), "samples that vary"),
        (lambda: barrier_scaling([1], [np.sign(X)]), "5 distinct values or more, got 2"),
        (lambda: barrier_scaling([1, 2, 3, 3.001], [X] * 4), "differ by 1 %"),
        (lambda: barrier_scaling([1], [np.full(600, np.nan)]), "not finite"),
        (lambda: barrier_scaling([1], [X], conjugate=[X[:550]]), "of one shape"),
        (lambda: barrier_scaling([1], [X], level=90), "level between 0 and 1"),
        (lambda: hopping_rates(X, 0, 1), r"shape \(units, n\)"),
        (lambda: hopping_rates(X[None], 1, 0), "low < high"),
        (lambda: hopping_rates(X[None], 0, 1, interval=0), "interval between"),
        (lambda: hopping_rates(X[None], "a", 1), "numbers as thresholds"),
        (lambda: hysteresis([1, 1.001, 2], CONTROL, [X], [X]), "differ by 1 %"),
        (lambda: hysteresis([1, -1], CONTROL, [X], [X]), "distinct positive rates"),
        (lambda: hysteresis([1], CONTROL[::-1], [X], [X]), "values of control in increasing order, got .* before"),
        (lambda: hysteresis([1], [0, np.nan, 2], [X], [X]), "got nan at place 1"),
        (lambda: hysteresis([1], [0, 1], [X], [X]), "3 values of control or more, got 2"),
        (lambda: hysteresis([1], CONTROL, [], [X]), "sweeps of 1 rates"),
        (lambda: hysteresis([1], CONTROL, [X], [X]), r"shape \(repeats, 41\)"),
    ],
)
def test_wrong_arguments_are_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^Expected .*{message}.*; "):
        call()


X = np.random.default_rng(8).standard_normal(600)
