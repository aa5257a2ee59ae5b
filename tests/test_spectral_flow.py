"""Tests of distances of spectra, the permutation test over runs and the rule of universality."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import xarray as xr

from probe.stats import spectral_distance, spectral_flow
from probe.stats.coarse_graining.run_permutations import permutation_test


@pytest.mark.parametrize("sizes", [(5, 5), (4, 6), (3, 7)])
def test_distance_is_that_of_quantile_functions(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.random(size) for size in sizes)
    share = (np.arange(420_000) + 0.5) / 420_000  # a multiple of all sizes
    curves = [np.sort(x / np.sqrt((x**2).mean()))[(share * len(x)).astype(int)] for x in (a, b)]
    expected = np.sqrt(((curves[0] - curves[1]) ** 2).mean())
    assert spectral_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert spectral_distance(7 * b, a) == pytest.approx(expected, rel=1e-9)


def test_two_scales_answer_two_questions() -> None:
    """Random matrices of two widths agree by shares of modes, matrices with the same few directions by numbers."""
    generator = np.random.default_rng(0)
    narrow, wide = (np.linalg.svd(generator.normal(size=(n, 2 * n)), compute_uv=False) for n in (40, 80))
    assert spectral_distance(narrow, wide) < 0.05 < 0.4 < spectral_distance(narrow, wide, scale="modes")
    few = [3.0, 2.0, 1.0]
    small, large = (np.pad(few, (0, n)) for n in (10, 50))
    assert spectral_distance(small, large, scale="modes") == pytest.approx(0, abs=1e-12)
    assert spectral_distance(small, large) > 0.4


@pytest.mark.parametrize("m", [2, 3])
def test_p_value_is_that_of_all_assignments(m: int) -> None:
    points = np.random.default_rng(m).normal(size=(6, 2)) + np.array([[1.0, 0]] * m + [[0.0, 0]] * (6 - m))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)

    def statistic(first: tuple[int, ...]) -> float:
        second = [k for k in range(6) if k not in first]
        mean = lambda a, b: np.mean([distances[i, j] for i in a for j in b])  # noqa: E731
        return float(2 * mean(first, second) - mean(first, first) - mean(second, second))

    seen = statistic(tuple(range(m)))
    every = [statistic(first) for first in combinations(range(6), m)]
    found = permutation_test(distances, m, max_assignments=100, random_state=0)
    assert found.exact
    assert found.p_value == pytest.approx(np.mean([value >= seen - 1e-12 for value in every]))
    assert found.least_p_value == pytest.approx((2 if m == 3 else 1) / len(every))
    sampled = permutation_test(distances, m, max_assignments=10, random_state=0)
    assert not sampled.exact
    assert sampled.least_p_value == 0.1


def group(ends: np.ndarray, start: tuple[float, ...] = (1, 1, 1, 1)) -> xr.DataArray:
    """Return runs that begin at one spectrum and end at others (run, rank)."""
    values = np.stack([np.broadcast_to(start, ends.shape), ends], 1)
    return xr.DataArray(values, dims=("run", "step", "rank"), coords={"step": [0, 100]})


def draws(count: int, n: int, other: list[float], noise: float) -> xr.Dataset:
    """Return pairs of groups that end at (2, 1, .5, .2) and another spectrum, each draw as one parameter."""
    generator = np.random.default_rng(0)
    ends = ([2.0, 1, 0.5, 0.2], other)
    values = [np.abs(end + noise * generator.normal(size=(count, n, 4))) for end in ends]
    coords = {"step": [0, 100], "parameter": np.arange(count)}
    stacks = [np.stack([np.ones_like(drawn), drawn], 2).transpose(1, 2, 0, 3) for drawn in values]
    groups = {
        name: xr.DataArray(x, coords, ("run", "step", "parameter", "rank"))
        for name, x in zip("ab", stacks, strict=True)
    }
    return spectral_flow(groups, (100, 100)).isel(pair=0, parameter=slice(count))


def test_error_rates_and_power() -> None:
    """One law: at most 5 % rejected, nearly all confirmed. A difference of the margin: at most 5 % confirmed."""
    same = draws(120, 6, [2.0, 1, 0.5, 0.2], 0.05)["verdict"].values.tolist()
    assert same.count("not confirmed") <= 6
    assert same.count("confirmed") >= 108
    near = draws(120, 6, [2.0, 1.41, 0.5, 0.2], 0.08)
    shares = [draws(1, 6, [2.0, 1.41, 0.5, 0.2], 1e-6)[name].item() for name in ("difference", "flow")]
    assert shares[0] / shares[1] == pytest.approx(0.25, abs=0.01)
    assert near["verdict"].values.tolist().count("confirmed") <= 6
    far = draws(50, 6, [2.0, 1.9, 0.5, 0.2], 0.05)["verdict"].values.tolist()
    assert far.count("not confirmed") == 50


def test_numbers_of_a_known_pair() -> None:
    """All runs of a group are equal, so the distances are those of two spectra."""
    a, b = np.array([2.0, 1, 0.5, 0.2]), np.array([1.0, 1.0, 1.0, 0.0])
    found = spectral_flow({"a": group(np.tile(a, (4, 1))), "b": group(np.tile(b, (4, 1)))}, (50, 200)).squeeze("pair")
    one = found.sel(parameter="spectrum")
    assert found["pair"].item() == "a / b"
    for name in ("between", "difference", "difference_high"):
        assert one[name].item() == pytest.approx(spectral_distance(a, b), rel=1e-6)
    starts = [spectral_distance([1, 1, 1, 1], end) for end in (a, b)]
    assert one["flow"].item() == pytest.approx(np.mean(starts), rel=1e-6)
    assert one["first_difference"].item() == 0
    assert one["within"].item() == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(one["between_at"], [0, spectral_distance(a, b)], atol=1e-7)
    assert one["p_value"].item() == one["least_p_value"].item() == pytest.approx(2 / 70)
    assert one["verdict"].item() == "not confirmed"


def test_few_runs_are_undecided() -> None:
    ends = np.random.default_rng(0).random((3, 4))
    three = spectral_flow({"a": group(ends), "b": group(ends + np.array([5, 0, 0, 0]))}, (100, 100))
    assert set(three["verdict"].values.ravel()) == {"undecided"}
    assert three["least_p_value"].values.min() == pytest.approx(0.1)
    two = spectral_flow({"a": group(ends[:2]), "b": group(ends[:2])}, (100, 100))
    assert set(two["verdict"].values.ravel()) == {"undecided"}
    assert two["difference_high"].isnull().all()


def test_groups_differ_in_width_steps_and_parameters() -> None:
    generator = np.random.default_rng(0)

    def runs(names: list[str], steps: list[int], width: int) -> xr.DataArray:
        values = generator.random((4, len(steps), len(names), width))
        coords = {"step": steps, "parameter": names}
        return xr.DataArray(values, coords, ("run", "step", "parameter", "rank"))

    narrow, wide = runs(["x", "y"], [0, 5, 10, 20], 4), runs(["z", "y", "x"], [0, 10, 30], 6)
    narrow[0, 1] = np.nan  # not observed
    window = {"narrow": ([10, 10, 10, 20], 20), "wide": (30, 30)}
    found = spectral_flow({"narrow": narrow, "wide": wide}, window, scale="modes").squeeze("pair")
    assert found["parameter"].values.tolist() == ["x", "y", "<all>"]
    assert found["step"].values.tolist() == [0, 10]
    squares = np.square(found["between"].values)
    assert 0 < squares[2] < squares[:2].sum()
    assert found["within_at"].notnull().all()


def broken(change: Any) -> xr.DataArray:
    array = group(np.ones((4, 4)))
    return change(array)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("second", "keywords", "message"),
    [
        (broken(lambda x: x.rename(rank="mode")), {}, "Expected a DataArray over"),
        (broken(lambda x: x.where(x["step"] == 0)), {}, "got none in 4 of 4 runs of group 'b'"),
        (broken(lambda x: -x), {}, "Expected singular values of at least 0 of 'spectrum' in group 'b'"),
        (broken(lambda x: x.where((x["step"] == 0) | (x["rank"] < 2))), {}, "of one number at each step"),
        (broken(lambda x: x * np.nan), {}, r"in group 'b', got none .*; leave this parameter out"),
        (broken(lambda x: x), {"window": 100}, "Expected window 'a' as \\(first, last\\) step"),
        (broken(lambda x: x), {"window": {"a": (1, 100)}}, "Expected a window for each group, got none for 'b'"),
        (broken(lambda x: x.expand_dims(parameter=["w"])), {}, "Expected parameters with one name in all groups"),
        (broken(lambda x: x), {"scale": "moments"}, "Expected scale as one of 'quantile', 'modes'"),
        (broken(lambda x: x), {"margin": 2}, "Expected margin between 0 and 1"),
        (broken(lambda x: x), {"window": ([1, 2], 100)}, "or one for each of 4 runs"),
    ],
)
def test_bad_groups(second: xr.DataArray, keywords: dict[str, Any], message: str) -> None:
    arguments = {"window": (100, 100), **keywords}
    with pytest.raises(ValueError, match=message):
        spectral_flow({"a": group(np.ones((4, 4))), "b": second}, **arguments)


def test_bad_spectra() -> None:
    with pytest.raises(ValueError, match="Expected spectra of shape"):
        spectral_distance([0.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="Expected two groups"):
        spectral_flow({"a": group(np.ones((4, 4)))}, (0, 100))
