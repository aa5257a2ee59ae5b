import numpy as np
import pytest
import xarray as xr
from scipy import optimize, stats

from probe.phases import align, chance_level, co_movement, order_shares
from probe.stats import concordance, orthogonal_line

ENDS = {"first_step": 0, "last_step": 1e5}
# Bland and Altman (1986), table 1: peak flow of 17 people by two meters, first readings.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
SHORT = {"L": "left_censored", "R": "right_censored", "A": "absent", "U": "undefined"}


def table(x: list, arm: float = 0.0, names: tuple[str, ...] = ("fit_end", "end")) -> xr.Dataset:
    """Return markers at x = log10(step + 1) or with a status L, R, A, U; intervals reach ``arm`` dex to both sides."""
    found = np.array([[np.nan if isinstance(cell, str) else cell for cell in row] for row in x])
    status = np.array([[SHORT[cell] if isinstance(cell, str) else "found" for cell in row] for row in x])
    dims = ("run", "marker")
    steps = {name: (dims, 10 ** (found + d) - 1) for name, d in (("step", 0), ("lower", -arm), ("upper", arm))}
    return xr.Dataset({**steps, "status": (dims, status)}, {"marker": list(names), "run": range(len(x))})


def one(x: list, arm: float = 0.0, **options: float) -> dict:
    aligned = align(table([x], arm), **{**ENDS, **options}).isel(run=0, pair=0)
    return {name: aligned[name].item() for name in ("distance", "lower", "upper", "order", "verdict")}


@pytest.mark.parametrize(
    ("x", "arm", "order", "verdict"),
    [
        ([3, 3.1], 0.1, "before", "aligned"),  # .1 +- .14
        ([3, 3.1], 0.2, "before", "undecided"),  # .1 +- .28
        ([3, 3.0], 0.1, "same", "aligned"),
        ([4, 3.0], 0.1, "after", "misaligned"),
        ([3, 3.3], 0.2, "before", "undecided"),  # more than delta, but the interval reaches 0
        ([3, "R"], 0.1, "before", "misaligned"),  # the record ends at 5: at least 2 dex
        ([4.9, "R"], 0.1, "before", "undecided"),
        (["R", 3], 0.1, "after", "misaligned"),
        ([3, "L"], 0.1, "after", "misaligned"),
        (["L", "R"], 0.1, "before", "misaligned"),
        (["R", "R"], 0.1, "open", "undecided"),
        (["A", 3], 0.1, "open", "undecided"),
        (["U", "R"], 0.1, "open", "undecided"),
    ],
)
def test_verdicts_of_one_run(x: list, arm: float, order: str, verdict: str) -> None:
    result = one(x, arm)
    assert (result["order"], result["verdict"]) == (order, verdict)


def test_intervals_are_skewed_and_one_sided() -> None:
    markers = table([[3, 4]])
    markers["lower"].values = 10 ** np.array([[2.9, 3.6]]) - 1  # arms .1 and .4 down
    markers["upper"].values = 10 ** np.array([[3.3, 4.0]]) - 1  # arms .3 and 0 up
    aligned = align(markers, **ENDS).isel(run=0, pair=0)
    assert float(aligned["distance"]) == pytest.approx(1)
    assert float(aligned["lower"]) == pytest.approx(1 - 0.5)  # 3-4-5
    assert float(aligned["upper"]) == pytest.approx(1 + 0.1)
    late = one([3, "R"], 0.1)
    assert np.isnan(late["distance"])
    assert late["lower"] == pytest.approx(np.log10(1e5 + 1) - 3 - 0.1)
    assert np.isinf(late["upper"])


def test_rounding_errors_are_accepted() -> None:
    markers = table([[3.0, 4.0]])
    markers["step"].values *= 1 + 1e-15  # above its own upper end
    assert float(align(markers, **ENDS)["distance"][0, 0]) == pytest.approx(1)


def test_levels_are_converted_by_normal_quantiles() -> None:
    wide = one([3, 4], 0.1, level=stats.norm.cdf(1) - stats.norm.cdf(-1))  # one standard deviation
    assert wide["upper"] == pytest.approx(1 + stats.norm.ppf(0.95) * 0.1 * 2**0.5)


def test_error_rates_of_the_verdicts() -> None:
    """With normal errors on x, at most 5 % of true distances delta are aligned, and at most 5 % of 0 misaligned."""
    generator = np.random.default_rng(0)
    sd = 0.13
    for truth, verdict, most in ((0.25, "aligned", 0.05), (0.0, "misaligned", 0.05)):
        x = np.array([3, 3 + truth]) + sd * generator.standard_normal((4000, 2))
        aligned = align(table(x.tolist(), sd * stats.norm.ppf(0.95)), **ENDS)
        inside = ((aligned["lower"] <= truth) & (truth <= aligned["upper"])).mean()
        assert float(inside) == pytest.approx(0.9, abs=0.015)
        assert float((aligned["verdict"] == verdict).mean()) <= most + 0.01


def test_distance_in_units_of_the_gap_and_pairs_by_name() -> None:
    markers = table([[2, 3, 4], [2, "R", 4], ["R", 3, 4]], names=("fit_end", "descent_onset", "end"))
    aligned = align(markers, **ENDS)
    assert aligned["pair"].values.tolist() == ["fit_end - descent_onset", "fit_end - end", "descent_onset - end"]
    np.testing.assert_allclose(aligned["gap"], [2, 2, np.nan])
    np.testing.assert_allclose(aligned["share"][0], [0.5, 1, 0.5])
    assert aligned["marker_b"].sel(pair="fit_end - end").item() == "end"
    shares = order_shares(aligned).sel(pair="descent_onset - end")
    assert [float(shares[word]) for word in ("before", "same", "after", "open")] == pytest.approx([2 / 3, 0, 1 / 3, 0])


def test_chance_level_agrees_with_simulation() -> None:
    generator = np.random.default_rng(0)
    for k, span in ((2, 6), (3, 2), (5, 1)):
        x = generator.uniform(0, span, (40000, k))
        p = np.mean(np.ptp(x, axis=1) <= 0.25)
        assert float(chance_level(k, span, 0.25)) == pytest.approx(p, abs=4 * np.sqrt(p / 40000) + 1e-4)
    assert chance_level(3, [0.1, 0.0], 0.25).tolist() == [1, 1]
    aligned = align(table([[3, 4], ["R", "R"]]), **ENDS)
    after = generator.uniform(3, 5, (40000, 2))
    assert float(aligned["chance_after_fit"][0, 0]) == pytest.approx(np.mean(np.ptp(after, axis=1) <= 0.25), abs=0.01)
    assert np.isnan(aligned["chance_after_fit"][1, 0])
    assert float(aligned["chance"][1, 0]) == pytest.approx(float(chance_level(2, 5, 0.25)), rel=1e-4)


def test_concordance_of_a_published_example() -> None:
    """1 - E(x-y)^2 / its chance value, from the mean (-2.1) and the SD (38.8) of the differences in the paper."""
    n, x, y = 17, np.array(WRIGHT), np.array(MINI)
    squared = 38.77**2 * (n - 1) / n + 2.12**2
    by_chance = np.mean([(a - b) ** 2 for a in x for b in y])  # E (x - y)^2 of pairs at random
    value, lower, upper = concordance(x, y, level=0.95)
    assert value == pytest.approx(1 - squared / by_chance, abs=1e-4)
    assert lower < value < upper
    assert concordance(x, x) == (1, 1, 1)
    assert concordance(x - x.mean(), x.mean() - x).value == pytest.approx(-1)
    assert np.isnan(concordance(x, np.ones(17)).value)


def test_concordance_interval_covers() -> None:
    """Bivariate normal with known moments: rho_c = 2 rho / (2 + shift^2)."""
    generator = np.random.default_rng(0)
    rho, shift, inside = 0.8, 0.5, 0
    for _ in range(600):
        x = generator.standard_normal(20)
        y = rho * x + np.sqrt(1 - rho**2) * generator.standard_normal(20) + shift
        _, lower, upper = concordance(x, y)
        inside += lower <= 2 * rho / (2 + shift**2) <= upper
    assert inside / 600 == pytest.approx(0.9, abs=0.04)


def test_orthogonal_line_has_the_least_orthogonal_distance() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.standard_normal((2, 30))
    y = 2 * x + 0.3 * y + 1
    fit = optimize.minimize(lambda b: ((y - b[0] * x - b[1]) ** 2).sum() / (1 + b[0] ** 2), [1.0, 0.0], tol=1e-10)
    line = orthogonal_line(x, y)
    assert (line.slope, line.intercept) == pytest.approx(tuple(fit.x), rel=1e-4)
    assert line.slope_ols == pytest.approx(stats.linregress(x, y).slope)
    assert np.isnan(orthogonal_line(np.ones(5), x[:5]).slope)


def test_interval_of_the_slope_covers_with_errors_on_both_axes() -> None:
    generator = np.random.default_rng(2)
    slopes, inside, flat = [], 0, 0
    for _ in range(600):
        truth = generator.standard_normal(8)
        x, y = truth + 0.3 * generator.standard_normal((2, 8))
        line = orthogonal_line(x, y)
        inside += line.lower <= 1 <= line.upper
        slopes.append(line.slope)
        flat += line.slope_ols < 1
    assert inside / 600 == pytest.approx(0.9, abs=0.04)
    assert np.median(slopes) == pytest.approx(1, abs=0.03)
    assert flat > 360  # the slope of least squares is too small: its median is 1 / (1 + .09)
    assert orthogonal_line([0, 1, 2], [0, 5, 0]).upper == np.inf


def moving(n: int, error: float, offset: float = 0.0, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.uniform(2, 4, n)[:, None] + [0, offset] + error * generator.standard_normal((n, 2))


def test_markers_that_move_together() -> None:
    result = co_movement(table(moving(8, 0.05).tolist()), "fit_end", "end", **ENDS)
    assert (result.verdict, result.n_both, result.reason) == ("aligned", 8, "")
    assert result.line.lower < 1 < result.line.upper
    assert result.concordance.lower > 0.9
    assert result.tau.n_pairs == 28
    assert result.tau.p_value < 0.01


def test_markers_that_keep_a_distance() -> None:
    x = moving(8, 0.05, offset=0.6)
    result = co_movement(table(x.tolist()), "fit_end", "end", **ENDS)
    assert result.verdict == "misaligned"
    t = stats.ttest_rel(x[:, 1], x[:, 0]).confidence_interval(0.9)
    assert (result.distance.lower, result.distance.upper) == pytest.approx((t.low, t.high))
    assert result.line.slope == pytest.approx(1, abs=0.1)  # the markers move together nevertheless
    assert result.tau.p_value < 0.01


def test_censored_runs_stay_in() -> None:
    """The second marker of some runs is later than the record. Without these runs only small distances remain."""
    x: list = [[2, 2.1], [3, 3.1], [4, 4.1], [2.5, "R"], [2.2, "R"], [3.5, "R"], [2.8, "R"]]
    result = co_movement(table(x), "fit_end", "end", **ENDS)
    assert (result.n_both, result.n_bounded, result.n_unknown) == (3, 4, 0)
    assert result.verdict != "aligned"
    assert np.isnan(result.distance.value)  # the median run is censored
    assert np.isinf(result.distance.upper)
    assert "3 of 7 runs: 4 are censored" in result.reason
    apart = co_movement(table([[2, "R"]] * 7), "fit_end", "end", **ENDS)
    assert apart.verdict == "misaligned"
    assert np.isnan(apart.line.slope)
    unknown = co_movement(table([[3, 3.0]] * 6 + [[3, "U"]] * 2), "fit_end", "end", **ENDS)
    assert (unknown.verdict, unknown.n_unknown) == ("undecided", 2)  # 2 of 8 are below the order statistic


def test_tau_is_kendalls_and_its_p_value_exact() -> None:
    x = moving(6, 0.4, seed=3)
    tau = co_movement(table(x.tolist()), "fit_end", "end", **ENDS).tau
    expected = stats.kendalltau(x[:, 0], x[:, 1], alternative="greater", method="exact")
    assert (tau.value, tau.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    many = moving(12, 0.4, seed=4)
    tau = co_movement(table(many.tolist()), "fit_end", "end", **ENDS).tau
    expected = stats.kendalltau(many[:, 0], many[:, 1], alternative="greater", method="exact")
    assert tau.value == pytest.approx(expected.statistic)
    assert tau.p_value == pytest.approx(expected.pvalue, abs=0.01)
    censored = co_movement(table([[2, 3], [2.5, 3.5], [3, "R"], [4, "R"]]), "fit_end", "end", **ENDS).tau
    assert (censored.value, censored.n_pairs) == (1, 5)  # all pairs of 4 but the two that are both censored


def test_two_runs_are_too_few() -> None:
    result = co_movement(table([[3, 3], [4, 4]]), "fit_end", "end", **ENDS)
    assert (result.verdict, result.reason) == ("undefined", "the verdict needs 3 runs, got 2")
    assert np.isnan([result.distance.value, result.line.slope, result.concordance.value]).all()


def test_bad_input_is_an_error() -> None:
    markers = table([[3, 4]])
    with pytest.raises(ValueError, match="delta"):
        align(markers, delta=0, **ENDS)
    with pytest.raises(ValueError, match="without \\['upper'\\]"):
        align(markers.drop_vars("upper"), **ENDS)
    with pytest.raises(ValueError, match="lower <= step"):
        align(markers.assign(lower=markers["upper"] + 1), **ENDS)
    with pytest.raises(ValueError, match="two different markers"):
        co_movement(markers, "fit_end", "fit_end", **ENDS)
    with pytest.raises(ValueError, match="level"):
        co_movement(markers, "fit_end", "end", level=2, **ENDS)
