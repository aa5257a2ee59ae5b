"""Phases of overlaps of weights: samples of known phase, closed forms, arguments."""

import math

import numpy as np
import pytest
from scipy.stats import kurtosis

from probe.stats import droplet_phase, empirical_action
from probe.stats.transition.antimode import find_gap, spread_ties
from probe.stats.transition.copies import copies_per_value, dithered
from probe.stats.transition.non_gaussian import excess_kurtosis, negentropy

N = 200


def mixed(generator: np.random.Generator, share: float, distance: float = 8) -> np.ndarray:
    q = generator.standard_normal(N)
    count = round(share * N)
    q[:count] += distance * np.where(np.arange(count) % 2, 1, -1)
    return q


def phases(draw, draws: int = 12, **options) -> list[str]:
    generator = np.random.default_rng(1)
    return [droplet_phase(draw(generator), **options)["phase"].item() for _ in range(draws)]


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_core_with_droplets_is_mixed(share: float) -> None:
    assert phases(lambda g: mixed(g, share)).count("GMFL-I") >= 11


def test_droplets_alone() -> None:
    assert set(phases(lambda g: mixed(g, 1))) == {"GMFL-II"}


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: g.standard_normal(N),
        lambda g: g.standard_t(3, N),
        lambda g: g.uniform(-1, 1, N),
        lambda g: g.exponential(size=N) - 1,
        lambda g: g.standard_normal(N) * (g.random(N) < 0.5),
        lambda g: np.concatenate([g.standard_normal(N - 5), g.uniform(5, 15, 5) * g.choice([-1, 1], 5)]),
    ],
    ids=["normal", "t3", "uniform", "exponential", "half 0", "outliers"],
)
def test_one_peak_is_not_mixed(draw) -> None:
    found = phases(draw)
    assert found.count("GMFL-I") <= 1
    assert found.count("GFL") >= 10


def test_droplets_at_one_side_need_read_out_signs() -> None:
    def one_sided(generator: np.random.Generator) -> np.ndarray:
        q = generator.standard_normal(N)
        q[:60] += 8
        return q

    assert set(phases(one_sided, 4)) == {"undecided"}
    assert set(phases(one_sided, 4, sides="one")) == {"GMFL-I"}
    assert set(phases(lambda g: -one_sided(g), 4, sides="one")) == {"GMFL-I"}
    assert set(phases(lambda g: 8 + g.standard_normal(N), 4, sides="one")) == {"GMFL-II"}
    assert phases(lambda g: g.standard_normal(N), 8, sides="one").count("GFL") >= 7


def test_sizes_such_as_powers() -> None:
    assert phases(lambda g: g.exponential(size=N), 8, sides="sizes").count("GFL") >= 7
    planted = phases(lambda g: np.append(g.exponential(size=150), g.normal(30, 2, 50)), 4, sides="sizes")
    assert set(planted) == {"GMFL-I"}


def test_few_units_are_undecided_and_scale_has_no_effect() -> None:
    generator = np.random.default_rng(0)
    assert droplet_phase(generator.standard_normal(8))["phase"].item() == "undecided"
    assert droplet_phase(np.ones(300))["phase"].item() == "undecided"
    small = droplet_phase(generator.standard_normal(60))
    assert (small["phase"].item(), bool(small["power"] < 0.8)) == ("undecided", True)
    q = mixed(generator, 0.3)
    one, other = droplet_phase(q), droplet_phase(-1024 * q)
    for name in ("droplet_fraction", "p_gap", "kurtosis", "negentropy", "evidence", "contrast"):
        assert one[name].item() == pytest.approx(other[name].item(), rel=1e-9)
    assert other["antimode"].item() == pytest.approx(1024 * one["antimode"].item())
    for scale in (1e-200, 1e200):  # their squares are 0 and infinite
        far = droplet_phase(scale * q)
        assert far["p_gap"].item() == one["p_gap"].item()
        assert far["antimode"].item() == pytest.approx(scale * one["antimode"].item())


@pytest.mark.filterwarnings("error")
def test_signs_do_not_change_the_contrast_and_equal_sizes_have_no_evidence() -> None:
    q = np.random.default_rng(0).standard_normal(N)
    q[:40] += 8
    one, other = (droplet_phase(sign * q, sides="one") for sign in (1, -1))
    assert one["phase"].item() == "GMFL-I"
    for name in ("contrast", "antimode", "droplet_fraction"):
        assert one[name].item() == pytest.approx(other[name].item())
    binary = droplet_phase(np.where(np.arange(N) % 2, 1.0, -1.0))
    assert binary["phase"].item() == "GMFL-II"
    assert math.isnan(binary["evidence"])
    few = droplet_phase(np.arange(4.0))
    assert few["kurtosis"].item() == pytest.approx(-1.2)
    assert math.isnan(few["kurtosis_low"])
    assert math.isnan(few["negentropy"])


@pytest.mark.parametrize("noise", [0, 1e-7, 0.01])
def test_copies_do_not_count_as_units(noise: float) -> None:
    """20 groups of 10 copies, at either sign: as many units as groups, and no verdict."""
    found = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        q = generator.standard_normal(20).repeat(10) * generator.choice([-1, 1], N)
        found.append(droplet_phase(q + noise * generator.standard_normal(N)))
    assert 12 <= np.median([one["n_effective"] for one in found]) <= 30
    phases = [one["phase"].item() for one in found]
    assert phases.count("undecided") >= 7
    assert {one["n_units"].item() for one in found} == {N}


def test_independent_units_have_no_copies() -> None:
    """Neither heavy tails, gaps, equal values nor rounding make copies."""
    generator = np.random.default_rng(0)
    draws = [
        *(generator.standard_normal(N) for _ in range(10)),
        *(generator.standard_t(3, N) for _ in range(10)),
        *(mixed(generator, share) for share in (0.1, 0.2, 0.5, 0.9)),
        np.round(30 * generator.standard_normal(N)),
        generator.standard_normal(N) * (generator.random(N) < 0.5),
    ]
    assert sum(droplet_phase(q)["n_effective"].item() < N for q in draws) <= 1
    assert dithered(np.array([0, 1, 1, 3.0])).round().tolist() == [0, 1, 1, 3]
    many = generator.standard_normal(500).repeat(2) + 1e-7 * generator.standard_normal(1000)
    assert 1.5 < copies_per_value(np.abs(many)) < 3
    assert copies_per_value(np.ones(50)) == 1


def test_variables_have_units_and_names() -> None:
    found = droplet_phase(np.random.default_rng(0).standard_normal(50))
    assert all({"units", "long_name"} <= set(variable.attrs) for variable in found.variables.values())


def test_fraction_antimode_and_evidence() -> None:
    found = droplet_phase(mixed(np.random.default_rng(3), 0.25, 10))
    assert found["droplet_fraction"].item() == 0.25
    assert found["droplet_fraction_low"].item() < 0.25 < found["droplet_fraction_high"].item()
    assert 2.5 < found["antimode"].item() < 8
    assert found["evidence"].item() > 50
    assert droplet_phase(np.random.default_rng(3).standard_t(5, N))["evidence"].item() < 3


def test_kurtosis_and_negentropy_of_closed_forms() -> None:
    x = np.array([1.0, 2, 4, 8, 3, 0])
    assert excess_kurtosis(x).value == pytest.approx(kurtosis(x, bias=False))
    generator = np.random.default_rng(0)
    uniform = 0.5 * math.log2(2 * math.pi * math.e / 12)  # bits, of the uniform density
    assert negentropy(generator.random(4000))[0] == pytest.approx(uniform, abs=0.03)
    found = [negentropy(generator.standard_normal(200)) for _ in range(50)]
    assert abs(np.mean([value for value, _ in found])) < 3 * found[0][1] / math.sqrt(50)
    inside = [low < 0 < high for _, low, high in (excess_kurtosis(generator.standard_normal(300)) for _ in range(200))]
    assert 0.8 < np.mean(inside) < 0.97


def test_action_of_a_gaussian_is_a_parabola() -> None:
    found = empirical_action(np.random.default_rng(0).standard_normal(50_000), 41)
    near = np.abs(found["q"]) < 2
    centre = found["action"] - found["q"] ** 2 / 2
    assert (np.abs(centre - centre[near].mean())[near] < 4 * found["action_se"][near] + 0.02).all()


def test_a_gap_is_where_it_was_planted_and_ties_are_none() -> None:
    x = np.sort(np.concatenate([np.random.default_rng(0).random(100), 4 + np.random.default_rng(1).random(100)]))
    gap = find_gap(x)
    assert gap.p_gap < 0.01
    assert gap.middle == pytest.approx((1, 4), abs=0.1)
    assert find_gap(np.repeat(np.arange(50.0), 4)).p_gap > 0.5
    assert spread_ties(np.array([0.0, 1, 1, 3])).tolist() == [0, 0.875, 1.625, 3]


@pytest.mark.parametrize(
    ("overlaps", "options", "match"),
    [
        ([1.0, 2, 3], {}, "Expected 4 or more finite overlaps, got 3"),
        ([1.0, 2, 3, np.nan], {}, "of which 3 are finite"),
        ([[1.0, 2, 3, 4]], {}, "one shape"),
        ([1.0, 2, 3, 4], {"sides": "left"}, "Expected sides"),
        ([1.0, 2, 3, -4], {"sides": "sizes"}, "Expected sizes of at least 0"),
        ([1.0, 2, 3, 4], {"alpha": 0}, "Expected alpha"),
        ([1.0, 2, 3, 4], {"min_fraction": 0.7}, "Expected min_fraction"),
        ([1.0, 2, 3, 4], {"n_bins": 1}, "n_bins"),
    ],
)
def test_wrong_arguments(overlaps, options, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        droplet_phase(np.array(overlaps), **options)
