from itertools import product
from math import comb

import numpy as np
import pytest

from probe import PhaseDetector
from probe.phases import second_phase_across
from probe.phases.over_runs.copies import equal_runs
from probe.stats import log_bounds, median_step, order_interval
from probe.stats.one_grid import on_one_grid

X = np.linspace(0, 1, 120)
STEPS = np.round(10 ** (1 + 4 * X))
RISE = 20 / (1 + np.exp(-(X - 0.15) * 40))
FALL = 1 / (1 + np.exp(-(X - 0.6) * 20))
NULLS = {
    "flat": 0 * X,
    "plateau": RISE,
    "saturating": 20 * (1 - np.exp(-6 * X)),
    "drift down": -20 * X,
    "fall, plateau": 20 * np.exp(-20 * X),
    "fall, rise, plateau": 20 * np.exp(-30 * X) + RISE / 2,
}
SIMULATIONS = 80
# P(Binomial(80, .025) > 7) = 0.0009: more false positives than that are not due to chance.
MOST = 7


def ar1(generator: np.random.Generator, n_runs: int, phi: float) -> np.ndarray:
    """Return AR(1) noise (run, n) of unit variance, or random walks for phi = 1."""
    noise = generator.standard_normal((n_runs, 200))
    for t in range(1, 200):
        noise[:, t] = phi * noise[:, t - 1] + (np.sqrt(1 - phi**2) if phi < 1 else 1) * noise[:, t]
    return noise[:, -len(X) :] - (noise[:, -len(X) - 1, None] if phi == 1 else 0)


def n_found(trend: np.ndarray, phi: float, n_runs: int, n: int = SIMULATIONS) -> int:
    generator = np.random.default_rng(7)
    verdicts = [second_phase_across(STEPS, trend + ar1(generator, n_runs, phi), n_null=399) for _ in range(n)]
    return sum(verdict.status == "found" for verdict in verdicts)


@pytest.mark.parametrize(
    ("trend", "phi", "n_runs"),
    [
        ("flat", 0.8, 3),
        ("plateau", 1.0, 5),
        ("drift down", 0.5, 5),
        ("fall, rise, plateau", 0.5, 5),
        pytest.param("flat", 0.0, 5, marks=pytest.mark.slow),
        pytest.param("plateau", 0.0, 3, marks=pytest.mark.slow),
        pytest.param("plateau", 0.5, 5, marks=pytest.mark.slow),
        pytest.param("plateau", 0.8, 8, marks=pytest.mark.slow),
        pytest.param("saturating", 0.5, 5, marks=pytest.mark.slow),
        pytest.param("fall, plateau", 0.0, 5, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_no_second_phase_is_found_where_there_is_none(trend: str, phi: float, n_runs: int) -> None:
    assert n_found(NULLS[trend], phi, n_runs) <= MOST


@pytest.mark.parametrize(("n_runs", "phi", "least"), [(3, 0.0, 15), (5, 0.0, 38), (5, 0.5, 30), (8, 0.8, 34)])
def test_a_fall_of_two_standard_deviations_is_found(n_runs: int, phi: float, least: int) -> None:
    assert n_found(RISE - 2 * FALL, phi, n_runs, n=40) >= least


def test_a_hump_after_the_initial_descent_is_found_where_it_is() -> None:
    hump = 30 * np.exp(-30 * X) + 4 * np.exp(-(((X - 0.5) / 0.1) ** 2))
    found = second_phase_across(STEPS, hump + ar1(np.random.default_rng(0), 5, 0.5))
    assert found.status == "found"
    np.testing.assert_allclose(np.log10(found.window), 3, atol=0.25)
    np.testing.assert_allclose(found.drop, 4, atol=1.5)
    assert found.interval[0] < found.mean_drop < found.interval[1]
    assert found.drop_to_rise == pytest.approx(1, abs=0.3)


def test_held_out_drops_are_free_of_their_own_noise() -> None:
    generator = np.random.default_rng(1)
    drops = [second_phase_across(STEPS, ar1(generator, 4, 0.5), n_null=39).mean_drop for _ in range(100)]
    assert abs(np.mean(drops)) < 3 * np.std(drops) / 10
    own = [run[:108].reshape(-1, 6).mean(axis=1).max() - run[108:].mean() for run in ar1(generator, 100, 0.5)]
    assert np.mean(own) > 1  # with the peak of each run itself


def test_sign_flips_are_those_of_an_enumeration() -> None:
    """Each of eight distant observations is a window of its own, so that T is computed by hand for all 64 flips."""
    generator = np.random.default_rng(2)
    values = np.full((6, 8), 0.0)
    values[:, 1:] = 50 + 50 * generator.standard_normal((6, 7))
    found = second_phase_across(np.arange(8), values, n_null=99)
    gaps = values[:, :7] - values[:, 7:]
    center = gaps.mean(axis=0)
    peak = int(np.argmax([min(center[k], center[k] - center[: k + 1].min()) for k in range(7)]))
    valley = int(np.argmin(center[: peak + 1]))
    falls = [gaps[:, k] for k in range(valley, 7)]
    rises = [gaps[:, j] - gaps[:, i] for j in range(peak + 1) for i in range(j)]

    def p_value(columns: list[np.ndarray]) -> float:
        def t(signs: np.ndarray) -> float:
            return max(np.mean(signs * c) / np.std(signs * c, ddof=1) for c in columns)

        flips = [np.array(signs) for signs in product((1, -1), repeat=6)]
        return float(np.mean([t(signs) >= t(np.ones(6)) * (1 - 1e-9) for signs in flips]))

    assert found.p_sign_flip == pytest.approx(max(p_value(falls), p_value(rises)))


def test_rotation_agrees_with_the_t_test_for_one_window() -> None:
    """With a certain rise to one window before the end, the p-value is that of a one-sided t-test (Fisher)."""
    from scipy.stats import ttest_1samp

    generator = np.random.default_rng(3)
    values = np.concatenate([np.full((5, 6), [[0, -1e3, -1e3, -1e3, -1e3, -1e3]]), np.zeros((5, 2))], axis=1)
    values[:, 0] = -900
    values[:, 6] = generator.normal(1, 1, 5)
    found = second_phase_across(np.arange(8), values, n_null=20000)
    expected = ttest_1samp(values[:, 6], 0, alternative="greater").pvalue
    # The other windows lie 1,000 below the end in all runs: they add cos >= T to the null distribution, once.
    assert expected - 0.01 < found.p_fall <= 2 * expected + 0.01


def test_missing_values_and_runs_of_unequal_length() -> None:
    generator = np.random.default_rng(4)
    values = RISE - 3 * FALL + ar1(generator, 6, 0.5)
    values[generator.random(values.shape) < 0.1] = np.nan
    values[1, 110:] = np.nan
    values[2] = np.nan
    found = second_phase_across(STEPS, values)
    assert (found.status, found.n_runs, len(found.drop)) == ("found", 5, 5)


def test_runs_on_different_steps_are_interpolated() -> None:
    """No step is in common; the hump of 4 in all runs, with its top at step 316, is found and measured."""
    generator = np.random.default_rng(6)
    steps = [np.arange(1 + k, 10_001, 50 + 9 * k) for k in range(3)]
    steps += [np.unique(np.round(10 ** np.sort(generator.uniform(0.3 * k, 4, 80)))) for k in range(3)]
    grid = np.unique(np.concatenate(steps))
    values = np.full((6, len(grid)), np.nan)
    for run, at in zip(values, steps, strict=True):
        hump = 4 * np.exp(-(((np.log10(at) - 2.5) / 0.3) ** 2))
        run[np.searchsorted(grid, at)] = hump + 0.3 * generator.standard_normal(len(at))
    found = second_phase_across(grid, values)
    assert found.status == "found"
    assert found.interpolated > 0.5
    assert 150 < found.window[0] <= 316 <= found.window[1] * 1.3
    np.testing.assert_allclose(found.drop, 4, atol=1)
    assert found.window[0] >= max(at[0] for at in steps), "no value before the first observation of a run"


def test_interpolation_is_linear_on_the_axis_and_does_not_extrapolate() -> None:
    filled, share = on_one_grid(
        np.array([0.0, 1, 2, 4, 5]), np.array([[np.nan, 3, np.nan, 9, np.nan], [1, 1, 1, 1, 1.0]])
    )
    np.testing.assert_array_equal(filled, [[np.nan, 3, 5, 9, np.nan], [1, 1, 1, 1, 1]])
    assert share == pytest.approx(1 / 8)


def copied(kind: str, generator: np.random.Generator) -> np.ndarray:
    """Return three runs with a hump; run 2 is a copy of run 0."""
    values = RISE - 4 * FALL + ar1(generator, 3, 0.5)
    values[2] = values[0]
    match kind:
        case "thinned":
            values[2, np.arange(120) % 3 > 0] = np.nan
        case "scaled":
            values[2] = 5 + 3 * values[0]
        case "shifted":
            values[0, -1] = values[2, 0] = np.nan
            values[2, 1:] = values[0, :-1]
        case "rounded":
            values[2] = values[0].round(3)
        case "gap":
            values[2, 30:50] = np.nan
            values[0, generator.random(120) < 0.2] = np.nan
    return values


@pytest.mark.parametrize("kind", ["same", "thinned", "scaled", "shifted", "rounded", "gap"])
def test_copies_of_a_run_are_no_evidence(kind: str) -> None:
    verdict = second_phase_across(STEPS, np.insert(copied(kind, np.random.default_rng(8)), 1, np.nan, axis=0))
    assert verdict.status == "undefined"
    assert verdict.reason == "runs 0 and 3 are equal: they are not independent; keep one of them"


def test_runs_of_their_own_are_no_copies() -> None:
    generator = np.random.default_rng(9)
    smooth = np.exp(-3 * X) + generator.uniform(0.9, 1.1, (20, 1)) * np.exp(-(((X - 0.5) / 0.1) ** 2))
    accuracy = np.round(np.clip(2 * X + 0.05 * generator.standard_normal((20, 120)), 0, 1), 2)
    levels = np.repeat([[0.0, 0.5, 1.0]], 20, axis=0).repeat(40, axis=1)
    ends = np.where(np.arange(120) < np.arange(100, 120)[:, None], smooth, np.nan)
    for values in (smooth, accuracy, levels, ends):
        assert equal_runs(values) == []
    assert equal_runs(np.full((3, 120), np.nan)) == []


def test_the_detector_names_equal_runs_and_counts_them_once() -> None:
    loss = copied("same", np.random.default_rng(8)) - 30
    accuracy = np.stack([np.minimum(1, STEPS / at) for at in (100, 1000, 100)])
    curves = {"step": STEPS, "test_loss": loss, "train_accuracy": accuracy}
    detector = PhaseDetector().fit(curves)
    text = "runs 0 and 2 are equal: they are not independent; keep one of them"
    hump, fit = (detector.across_.sel(marker=name) for name in ("descent_onset", "fit_end"))
    assert (hump["test_status"].item(), hump["test_reason"].item()) == ("undefined", text)
    assert f"test_loss: {text}" in detector.notes_
    assert text in detector.summary()
    fits = detector.markers_["step"].sel(marker="fit_end").values
    assert float(fit["median"]) == pytest.approx(np.sqrt((fits[0] + 1) * (fits[1] + 1)) - 1)
    assert "without 1 copy of other runs" in fit["reason"].item()
    other = curves | {"train_accuracy": np.minimum(1, STEPS / [[100], [1000], [200]])}
    assert "copy" not in PhaseDetector().fit(other).across_.sel(marker="fit_end")["reason"].item()


def test_the_reason_and_the_bounds_of_an_unknown_median() -> None:
    accuracy = np.stack([np.minimum(1, STEPS / at) for at in (100, 1000, 1e7, 1e7, 1e7)])
    one = PhaseDetector().fit({"step": STEPS, "train_accuracy": accuracy}).across_.sel(marker="fit_end")
    assert np.isnan(one["median"])
    assert float(one["low"]) == pytest.approx(STEPS[-1])
    assert one["n_found"] == 2
    assert float(one["median_found"]) == pytest.approx(315, rel=0.1)
    assert "the median depends on runs without a step; it is after 100,000" in one["reason"].item()


def test_a_constant_curve_has_p_value_1() -> None:
    assert second_phase_across(STEPS, np.full((4, 120), 0.3)).p_value == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 120)), "needs 3 runs, got 2"),
        (np.vstack([np.zeros((3, 120)), np.full((2, 120), np.nan)])[2:], "got 1"),
        (np.where(np.arange(120) < [[5], [120], [120]], 0.0, np.nan), "windows that all runs have in common, got 2"),
    ],
)
def test_too_few_runs_or_windows_are_undefined(values: np.ndarray, reason: str) -> None:
    verdict = second_phase_across(STEPS, values)
    assert verdict.status == "undefined"
    assert reason in verdict.reason
    assert np.isnan(verdict.p_value)


@pytest.mark.parametrize(
    ("steps", "values", "options", "message"),
    [
        ([1, 2], np.zeros((3, 3)), {}, "pass runs as rows"),
        ([2, 1], np.zeros((3, 2)), {}, "sort by step"),
        ([1, 2], np.full((3, 2), np.inf), {}, "6 infinite"),
        ([1, 2], np.zeros((3, 2)), {"n_null": 10}, "raise n_null"),
    ],
)
def test_bad_input_is_an_error(steps: list, values: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        second_phase_across(steps, values, **options)


def median(steps: list[float], status: list[str], **options: float) -> dict:
    return vars(median_step(steps, steps, steps, status, **{"first_step": 1, "last_step": 100, **options}))


def test_the_median_is_that_of_kaplan_and_meier() -> None:
    """Freireich et al. (1963), 6-MP against placebo; placebo: median of 8 weeks.

    In the treated group 9 of 21 relapsed; with the other 12 taken as seen up to week 100 the 11-th of 21 is censored.
    """
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    assert median(placebo, ["found"] * 21)["step"] == pytest.approx(8)
    # Kaplan-Meier by hand, 5 of 7 with the rest censored at 100: S = 6/7, 5/7, 4/7, 3/7 < 1/2 at the fourth event.
    kept = median([10, 20, 30, 40, 50, np.nan, np.nan], ["found"] * 5 + ["right_censored"] * 2)
    assert (kept["status"], kept["n_found"], kept["n_runs"]) == ("found", 5, 7)
    assert kept["step"] == pytest.approx(40)  # the median of the runs with a marker, 30, is too early
    treated = median([6, 6, 6, 7, 10, 13, 16, 22, 23] + [np.nan] * 12, ["found"] * 9 + ["right_censored"] * 12)
    assert treated["status"] == "right_censored"
    assert np.isnan(treated["step"])
    assert treated["low"] == pytest.approx(100)
    assert np.isinf(treated["high"])


@pytest.mark.parametrize(
    ("status", "kind", "low", "high"),
    [
        (["left_censored"] * 3 + ["found"] * 2, "left_censored", 0, 1),
        (["absent"] * 3 + ["found"] * 2, "right_censored", 100, np.inf),
        (["undefined"] * 3 + ["found"] * 2, "undecided", 0, np.inf),
        (["undecided", "left_censored", "right_censored", "found", "found"], "found", 10, 10),
    ],
)
def test_a_censored_median_is_bounded(status: list[str], kind: str, low: float, high: float) -> None:
    result = median([10.0 if s == "found" else np.nan for s in status], status)
    assert result["status"] == kind
    assert (result["low"], result["high"]) == pytest.approx((low, high))


def test_order_interval_has_the_binomial_coverage() -> None:
    for n, level in product((6, 8, 13, 20), (0.5, 0.9, 0.95)):
        lower, upper, coverage = order_interval(np.arange(1, n + 1), np.arange(1, n + 1), level)
        j = int(lower)
        assert upper == n + 1 - j
        assert coverage == pytest.approx(sum(comb(n, k) for k in range(j, n - j + 1)) / 2**n)
        assert coverage >= level
        narrower = sum(comb(n, k) for k in range(j + 1, n - j)) / 2**n
        assert narrower < level
    assert order_interval([1, 2, 3], [1, 2, 3], 0.9) == (-np.inf, np.inf, 1)


def test_the_interval_of_the_median_covers_under_censoring() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        steps = 10 ** generator.normal(2, 0.5, 8)
        status = np.where(steps > 150, "right_censored", np.where(steps < 60, "left_censored", "found"))
        found = np.where(status == "found", steps, np.nan)
        result = median_step(found, found, found, status, first_step=60, last_step=150)
        inside += result.lower <= 100 <= result.upper
    assert inside >= 0.9 * 300
    assert result.coverage == pytest.approx(1 - 2 * 9 / 256)


def test_few_runs_have_a_median_but_no_interval() -> None:
    result = median([10, 20, 40], ["found"] * 3)
    assert result["step"] == pytest.approx(20)
    assert (result["lower"], result["upper"], result["coverage"]) == (0, np.inf, 1)
    assert "too few" in result["reason"]
    assert median([], [])["status"] == "undefined"


def test_invalid_bounds_are_an_error() -> None:
    with pytest.raises(ValueError, match="lost"):
        log_bounds([1], [1], [1], ["lost"], 0, 10)
    with pytest.raises(ValueError, match="every found marker"):
        log_bounds([np.nan], [1], [1], ["found"], 0, 10)
    with pytest.raises(ValueError, match="level"):
        median([1], ["found"], level=1)
