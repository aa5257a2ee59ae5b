from collections.abc import Callable

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from probe.phases.markers import check_curve, second_descent, sustained_crossing, unimodal_mode
from probe.phases.noise import ar1_noise, upward_spikes
from probe.phases.shapes import prefix_isotonic, shape_rss, unimodal_splits

X = np.linspace(0, 1, 60)
STEPS = np.round(10 ** (1 + 4 * X))
# Upper bound of false positives in 30 curves if the true rate is 5 %: P(Binomial(30, .05) > 5) = 0.0033.
SEEDS, MOST = 30, 5


def ar1(generator: np.random.Generator, n: int, phi: float) -> np.ndarray:
    """Noise of unit variance; the first 100 values of the recursion are thrown away."""
    out, last = [], 0.0
    for shock in generator.standard_normal(n + 100):
        last = phi * last + np.sqrt(1 - phi**2) * shock
        out.append(last)
    return np.array(out[100:])


def isotonic_rss(values: np.ndarray, increasing: bool) -> float:
    if not len(values):
        return 0.0
    fit = IsotonicRegression(increasing=increasing).fit_transform(np.arange(len(values)), values)
    return float(((values - fit) ** 2).sum())


def test_crossing_is_the_first_of_m_in_a_row() -> None:
    marker = sustained_crossing([0, 1, 2, 3, 4, 5, 6, 7], [0, 0.99, 0, 1, np.nan, 1, 1, 0], 0.99)
    assert (marker.status, marker.step, marker.lower, marker.upper) == ("found", 3, 2, 3)
    assert marker.rule == "value >= 0.99 at 3 observations in a row"


@pytest.mark.parametrize(
    ("values", "status", "reason"),
    [
        ([1, 1, 1, 0], "left_censored", "first observation"),
        ([0, 1, 1, 0], "right_censored", "not sustained"),
        ([0, 0, 1, 1], "right_censored", "the last 2 hold"),
        ([0, np.nan, np.nan, 1], "undefined", "2 valid"),
    ],
)
def test_crossing_says_what_was_not_seen(values: list[float], status: str, reason: str) -> None:
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
def test_bad_curves_are_refused(steps: list, values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_curve(steps, values)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="m >= 1"):
        sustained_crossing([1, 2], [0, 1], 0.5, m=0)
    with pytest.raises(ValueError, match="credible"):
        unimodal_mode([1, 2], [0, 1], credible=1)
    with pytest.raises(ValueError, match="raise n_null"):
        second_descent(STEPS, X, n_null=10)


def test_prefix_and_splits_agree_with_isotonic_regression() -> None:
    for seed in range(5):
        values = np.round(np.random.default_rng(seed).normal(size=25), 1)  # rounded: ties
        rss, last = prefix_isotonic(values)
        for k in range(1, 26):
            fit = IsotonicRegression().fit_transform(np.arange(k), values[:k])
            assert rss[k - 1] == pytest.approx(isotonic_rss(values[:k], True), abs=1e-9)
            assert last[k - 1] == pytest.approx(fit[-1])
        brute = [isotonic_rss(values[:k], True) + isotonic_rss(values[k:], False) for k in range(1, 26)]
        np.testing.assert_allclose(unimodal_splits(values)[0], brute, atol=1e-9)


def test_shapes_agree_with_brute_force() -> None:
    values = np.random.default_rng(3).normal(size=14)
    n = len(values)
    down_up = min(isotonic_rss(values[:i], False) + isotonic_rss(values[i:], True) for i in range(n + 1))
    three = min(
        isotonic_rss(values[:i], False) + isotonic_rss(values[i:k], True) + isotonic_rss(values[k:], False)
        for i in range(n + 1)
        for k in range(i, n + 1)
    )
    exact = [isotonic_rss(values, False), down_up, three]
    np.testing.assert_allclose(shape_rss(values[None], (-1, 1, -1), 2000)[:, -1, 0], exact, atol=1e-3)


@pytest.mark.parametrize("peak", [1, 12, 40, 58])
def test_mode_of_a_noise_free_peak_is_exact(peak: int) -> None:
    values = np.where(np.arange(60) <= peak, np.arange(60) - peak, 3.0 * (peak - np.arange(60)))
    marker = unimodal_mode(STEPS, values * 1e3 + (values == 0) * 1e6)  # a top far above the "noise" of the slopes
    assert marker.step == pytest.approx(STEPS[peak])
    assert marker.lower <= STEPS[peak - 1]
    assert marker.upper >= STEPS[peak + 1]


def test_mode_of_a_noisy_peak() -> None:
    x = np.linspace(0, 6, 120)
    errors = []
    for seed in range(40):
        noise = 0.03 * np.random.default_rng(seed).standard_normal(120)
        marker = unimodal_mode(10**x - 1, np.exp(-((x - 3) ** 2)) + noise)
        errors.append(abs(np.log10(marker.step + 1) - 3))
    assert np.median(errors) < 0.10  # 0.086 in a study of 300 such curves, argmax 0.17


def test_ar1_noise_is_estimated_beside_a_trend() -> None:
    x = np.linspace(0, 1, 400)
    for phi in (0.0, 0.5, 0.8):
        generator = np.random.default_rng(0)
        curves = np.array([30 * np.sin(3 * x) + ar1(generator, 400, phi) for _ in range(20)])
        sd, estimate = ar1_noise(curves)
        assert np.median(sd) == pytest.approx(1, abs=0.2)
        assert np.median(estimate) == pytest.approx(phi, abs=0.15)


def fall(x: np.ndarray) -> np.ndarray:
    return -20 / (1 + np.exp(-(x - 0.8) * 30))


@pytest.mark.parametrize(
    ("trend", "phi"),
    [
        (lambda x: 0 * x, 0.0),
        (lambda x: 0 * x, 0.8),
        (lambda x: 20 * (1 - np.exp(-6 * x)), 0.0),
        (lambda x: -20 * x, 0.0),
        (fall, 0.5),
        (lambda x: 20 * np.exp(-20 * x) - fall(x + 0.4), 0.5),
    ],
    ids=["white", "ar1", "saturating", "falling", "plateau then fall", "fall, rise, plateau"],
)
def test_no_second_descent_is_not_found(trend: Callable[[np.ndarray], np.ndarray], phi: float) -> None:
    found = 0
    for seed in range(SEEDS):
        values = trend(X) + ar1(np.random.default_rng(seed), len(X), phi)
        found += second_descent(STEPS, values, n_null=60).status == "found"
    assert found <= MOST


def test_null_knows_autocorrelation() -> None:
    # Size .12 measured at phi = .9 (white null: .38); P(Binomial(30, .12) > 7) = 0.022.
    curves = [ar1(np.random.default_rng(seed), 100, 0.9) for seed in range(30)]
    assert sum(second_descent(np.arange(100), v, n_null=60).p_value <= 0.05 for v in curves) <= 7


def test_peak_of_ten_sd_is_found() -> None:
    markers = []
    for seed in range(20):
        noise = np.random.default_rng(seed).standard_normal(len(X))
        markers.append(second_descent(STEPS, 10 * np.exp(-(((X - 0.5) / 0.2) ** 2)) + noise, n_null=60))
    assert sum(m.status == "found" for m in markers) >= 18  # with a power of .97: fewer with probability .02
    steps = np.log10([m.step for m in markers if m.status == "found"])
    assert np.median(np.abs(steps - 3)) < 0.2
    assert np.median([m.fall_noise for m in markers]) == pytest.approx(10, abs=3)


def test_noise_free_shapes() -> None:
    up_down = 1 - np.abs(X - X[30])
    dip = np.concatenate([[3.0, 2.0, 1.0, 0.0], up_down[4:] * 5])
    marker = second_descent(STEPS, up_down)
    assert (marker.status, marker.reason) == ("found", "valley at step 10")
    assert marker.lower <= STEPS[30] <= marker.upper
    marker = second_descent(STEPS, dip)
    assert (marker.status, marker.reason) == ("found", f"valley at step {STEPS[3]:g}")
    assert second_descent(STEPS, np.exp(-3 * X)).status == "absent"
    assert second_descent(STEPS, np.full(60, 2.0)).status == "absent"
    assert second_descent(STEPS, np.minimum(X, 0.5)).status == "absent"
    marker = second_descent(STEPS, X)
    assert (marker.status, marker.reason) == ("right_censored", "still rising at the last step 100000")
    assert second_descent([1, 2, 3], [1, 2, 1]).status == "undefined"


def test_fall_is_relative_to_the_rise_and_scale_free() -> None:
    values = np.interp(X, [0, 0.2, 0.5, 0.8, 1], [5, 1, 3, 2, 2])  # rise 2, fall 1
    marker = second_descent(STEPS, values)
    assert marker.fall == pytest.approx(0.5, abs=0.05)
    scaled = second_descent(STEPS, 7 * values - 3)
    assert (scaled.p_value, scaled.step) == pytest.approx((marker.p_value, marker.step))


def test_missing_values_are_skipped_and_results_repeat() -> None:
    values = 10 * np.exp(-(((X - 0.5) / 0.2) ** 2)) + np.random.default_rng(0).standard_normal(60)
    steps, holes = np.append(STEPS, [2e5, 3e5]), np.append(values, [np.nan, np.nan])
    assert second_descent(steps, holes) == second_descent(STEPS, values)


def test_loss_spikes_are_set_aside_and_counted() -> None:
    """A hump at 1,000 and late spikes that are far higher: the top is that of the hump."""
    generator = np.random.default_rng(3)
    loss = np.exp(1 + np.exp(-(((np.log10(STEPS) - 3) / 0.5) ** 2)) - X) * np.exp(0.02 * generator.standard_normal(60))
    spiked = loss.copy()
    spiked[[40, 45, 46, 52]] *= 30
    marker = second_descent(STEPS, spiked, spike_width=3)
    assert (marker.status, marker.n_spikes) == ("found", 4)
    assert marker.step == pytest.approx(second_descent(STEPS, loss).step, rel=0.2)
    assert second_descent(STEPS, spiked).step > 3 * marker.step


@pytest.mark.parametrize("width", [1, 2, 3])
def test_only_narrow_peaks_are_spikes(width: int) -> None:
    values = np.zeros(50)
    values[20 : 20 + width] = 5
    values[30:40] = 5
    assert np.flatnonzero(upward_spikes(values, 0.1, width=3)).tolist() == list(range(20, 20 + width))


def test_smooth_peaks_and_noise_are_no_spikes() -> None:
    smooth = np.exp(-(((X - 0.5) / 0.2) ** 2))
    noise = np.random.default_rng(0).standard_normal((200, 60))
    assert not upward_spikes(smooth, 1e-6).any()
    assert sum(upward_spikes(curve, 1.0).sum() for curve in noise) == 0


def test_a_rise_at_the_end_of_the_record_is_no_spike() -> None:
    values = np.concatenate([np.zeros(30), [0.0, 4.0, 9.0]])
    assert not upward_spikes(values, 0.01).any()
    assert not upward_spikes(values[::-1], 0.01).any()
