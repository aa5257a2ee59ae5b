"""Where a test accuracy leaves chance: shares of right answers of n_test guesses, with and without a true rise."""

from itertools import product

import numpy as np
import pytest

from probe.phases import leaves_chance
from probe.phases.markers.chance import _grid

CELLS = list(product((20, 100, 1000), (2, 10, 97)))


@pytest.mark.parametrize("given", [(), ("chance",), ("n_test",), ("chance", "n_test")], ids=str)
def test_guessing_does_not_leave_chance(given: tuple[str, ...]) -> None:
    """At most 5 % may: 8 or more of 90 have a probability of 8 % then, and the rule has close to none."""
    rng = np.random.default_rng(0)
    left = 0
    for (n_test, classes), length in product(CELLS, (30, 400)):
        known = {"chance": 1 / classes, "n_test": n_test}
        for _ in range(5):
            v = rng.binomial(n_test, 1 / classes, length) / n_test
            left += leaves_chance(np.arange(length), v, **{name: known[name] for name in given}).status == "found"
    assert left <= 2


def test_true_rises_are_found_where_they_exceed_the_noise() -> None:
    rng = np.random.default_rng(1)
    p = np.r_[np.full(40, 0.1), np.full(20, 0.7)]
    for n_test in (20, 100, 1000):
        v = rng.binomial(n_test, p) / n_test
        for known in ({}, {"chance": 0.1}, {"n_test": n_test}, {"chance": 0.1, "n_test": n_test}):
            assert leaves_chance(np.arange(60), v, **known).step == 40
        assert leaves_chance(np.arange(60), np.round(v, 2)).step == 40
        assert leaves_chance(np.arange(60), v + 1e-4 * rng.standard_normal(60)).step == 40


def test_a_fall_below_chance_is_no_level_of_its_own() -> None:
    """A network that memorises may answer worse than chance at first."""
    v = np.r_[np.full(5, 0.01), np.zeros(20), np.linspace(0, 1, 21)[1:]]
    marker = leaves_chance(np.arange(45), v, n_test=5000)
    assert marker.step == 26  # .1; .05 is not above .01 + .05
    fall = leaves_chance(np.arange(45), v[::-1], n_test=5000)
    assert (fall.status, fall.reason) == (
        "undefined",
        "the accuracy starts so high that the threshold is 1.05, above 1",
    )
    assert leaves_chance(np.arange(45), v[::-1] / 2, n_test=5000).status in ("right_censored", "not_reached")


@pytest.mark.parametrize("n_test", [20, 60, 97, 1000, 1703])
def test_values_show_the_number_of_examples(n_test: int) -> None:
    v = np.random.default_rng(n_test).integers(0, n_test, 300) / n_test
    assert _grid(v) == (n_test, n_test in (1000,))
    assert _grid(v.astype(np.float32).astype(float))[0] == n_test
    assert _grid(np.round(v, 6))[0] == n_test


def test_values_that_show_no_number_of_examples() -> None:
    v = np.random.default_rng(0).uniform(size=300)
    assert _grid(v) == (np.inf, True)
    assert _grid(np.round(v, 2)) == (100, True)
    assert _grid(np.zeros(9)) == (1, False)
    assert _grid(np.random.default_rng(0).integers(0, 4703, 300) / 4703) == (np.inf, True)  # 3 sd are below 5 %
