from collections.abc import Callable

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from probe.phases import second_descent, unimodal_mode
from probe.phases.markers.peaks import block_means
from probe.stats import (
    Noise,
    ScanStatistic,
    noise_model,
    prefix_isotonic,
    second_phase_table,
    spikes,
    unimodal_minimum,
    unimodal_splits,
)

N = 120
X = np.linspace(0, 1, N)
STEPS = np.round(10 ** (1 + 4 * X))
HUMP = np.exp(-(((X - 0.5) / 0.2) ** 2))
# Upper bound of false positives in 40 curves if the true rate is 5 %: P(Binomial(40, .05) > 6) = 0.0034.
SEEDS, MOST = 40, 6


def ar1(generator: np.random.Generator, n: int, phi: float) -> np.ndarray:
    """Return AR(1) noise of unit variance, without the first 100 values of the recursion."""
    out, last = [], 0.0
    for shock in generator.standard_normal(n + 100):
        last = phi * last + np.sqrt(1 - phi**2) * shock
        out.append(last)
    return np.array(out[100:])


def isotonic_rss(values: np.ndarray, weights: np.ndarray, increasing: bool) -> float:
    if not len(values):
        return 0.0
    fit = (
        IsotonicRegression(increasing=increasing)
        .fit(np.arange(len(values)), values, weights)
        .predict(np.arange(len(values)))
    )
    return float((weights * (values - fit) ** 2).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_prefix_and_splits_agree_with_isotonic_regression(weighted: bool) -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        values = np.round(generator.normal(size=25), 1)  # rounded: ties
        weights = generator.uniform(0.1, 3, 25) if weighted else np.ones(25)
        rss, last = prefix_isotonic(values, weights)
        for k in range(1, 26):
            fit = IsotonicRegression().fit(np.arange(k), values[:k], weights[:k]).predict(np.arange(k))
            assert rss[k - 1] == pytest.approx(isotonic_rss(values[:k], weights[:k], True), abs=1e-9)
            assert last[k - 1] == pytest.approx(fit[-1])
        brute = [
            isotonic_rss(values[:k], weights[:k], True) + isotonic_rss(values[k:], weights[k:], False)
            for k in range(1, 26)
        ]
        np.testing.assert_allclose(unimodal_splits(values, weights)[0], brute, atol=1e-9)


def test_unimodal_minimum_is_the_lowest_point_of_a_fall_and_rise() -> None:
    assert unimodal_minimum(np.array([5.0, 3, 1, 2, 6])) == 2
    assert unimodal_minimum(np.array([1.0, 2, 3])) == 0
    assert unimodal_minimum(np.array([3.0, 2, 1])) == 2


@pytest.mark.parametrize("peak", [1, 12, 40, 58])
def test_mode_of_a_noise_free_peak_is_exact(peak: int) -> None:
    steps = STEPS[::2]
    values = np.where(np.arange(60) <= peak, np.arange(60) - peak, 3.0 * (peak - np.arange(60)))
    marker = unimodal_mode(steps, values * 1e3 + (values == 0) * 1e6)
    assert marker.step == pytest.approx(steps[peak])
    assert marker.lower <= steps[peak - 1]
    assert marker.upper >= steps[peak + 1]


@pytest.mark.parametrize(("phi", "most"), [(0.0, 0.10), (0.6, 0.15)])
def test_mode_of_a_noisy_peak(phi: float, most: float) -> None:
    """The bounds come from 300 such curves: the median error was .086 for white noise and .135 at phi = .6."""
    x = np.linspace(0, 6, 120)
    errors, covered = [], 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        top = generator.uniform(2.5, 3.5)
        marker = unimodal_mode(10**x - 1, np.exp(-((x - top) ** 2)) + 0.03 * ar1(generator, 120, phi))
        errors.append(abs(np.log10(marker.step + 1) - top))
        covered += marker.lower <= 10**top - 1 <= marker.upper
    assert np.median(errors) < most
    assert covered >= 48  # P(Binomial(60, .9) < 48) = 0.008


def test_noise_is_estimated_beside_a_trend() -> None:
    x = np.linspace(0, 1, 400)
    for phi in (0.0, 0.5, 0.8):
        generator = np.random.default_rng(0)
        noise = noise_model(np.array([30 * np.sin(3 * x) + ar1(generator, 400, phi) for _ in range(20)]))
        assert np.median(noise.sd) == pytest.approx(1, abs=0.2)
        assert np.median(noise.phi) == pytest.approx(phi, abs=0.1)
        assert np.median(noise.white().sd) == pytest.approx(np.sqrt(1 - phi**2), abs=0.1)


def test_noise_that_grows_is_followed() -> None:
    size = np.geomspace(1, 5, 200)
    curves = size * np.random.default_rng(0).standard_normal((40, 200))
    estimate = np.median(noise_model(curves).sd, axis=0)
    assert 0.9 < (estimate / size).min() <= (estimate / size).max() < 1.4  # too large where the noise is small


def test_a_random_walk_has_a_high_correlation() -> None:
    walks = np.cumsum(np.random.default_rng(0).standard_normal((50, 1000)), axis=1)
    assert np.median(noise_model(walks).phi) >= 0.95


def test_noise_scales_with_the_curve() -> None:
    curve = np.random.default_rng(0).standard_normal((1, 50))
    one, other = noise_model(curve), noise_model(1e-3 * curve)
    np.testing.assert_allclose(other.sd, 1e-3 * one.sd)
    assert one.phi == other.phi
    rounding = noise_model(np.full((1, 50), 2.0))
    assert (rounding.sd > 0).all()
    assert rounding.phi == 0


def test_scan_statistic_agrees_with_brute_force() -> None:
    """White noise: the mean of w observations has standard deviation sd / sqrt(w)."""
    values = np.random.default_rng(2).normal(size=17)
    best: dict[str, float] = {"rise": 0, "fall": 0, "both": 0}
    for w in (1, 4):
        means = [values[i : i + w].mean() for i in range(18 - w)]
        for j, high in enumerate(means):
            rise = max([high - low for low in means[:j]], default=0)
            fall = max([high - low for low in means[j + 1 :]], default=0)
            for side, gap in (("rise", rise), ("fall", fall), ("both", min(rise, fall))):
                best[side] = max(best[side], gap / (2 * 3 / np.sqrt(w)))
    statistic = ScanStatistic(values[None], Noise(np.full((1, 17), 3.0), np.zeros(1)))
    for side, expected in best.items():
        assert statistic.largest(side)[0] == pytest.approx(expected, rel=0.01)


def test_mean_of_correlated_noise_has_the_right_size() -> None:
    generator = np.random.default_rng(0)
    curves = np.array([ar1(generator, 16, 0.7) for _ in range(4000)])
    statistic = ScanStatistic(curves, Noise(np.ones_like(curves), np.full(len(curves), 0.7)))
    for row, w in enumerate(statistic.widths):
        assert statistic.sd[0, row, 0] == pytest.approx(curves[:, :w].mean(axis=1).std(), rel=0.05)


def test_table_is_a_distribution() -> None:
    table = second_phase_table()
    assert (np.diff(table.quantile, axis=2) >= 0).all()
    assert table.p_value(0.0, 100, 0.5) == pytest.approx(1)
    assert table.p_value(1e6, 100, 0.5) == pytest.approx(table.p[-1]) == pytest.approx(0.001)
    for n, phi in ((8, 0.0), (77, 0.3), (300, 1.0), (2000, 0.9)):
        c = table.critical(0.05, n, phi)
        assert table.p_value(c, n, phi) == pytest.approx(0.05)
        assert table.p_value(1.1 * c, n, phi) < 0.05


def sigmoid(x: np.ndarray, middle: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(x - middle) * 30))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
@pytest.mark.parametrize(
    "trend",
    [
        lambda x: 0 * x,
        lambda x: 20 * (1 - np.exp(-6 * x)),
        lambda x: -20 * x,
        lambda x: -20 * sigmoid(x, 0.6),
        lambda x: 20 * np.exp(-20 * x) + 20 * sigmoid(x, 0.3),
        lambda x: 20.0 * (x > 0.1),
    ],
    ids=["flat", "saturating", "drift", "plateau then fall", "fall, rise, plateau", "jump, plateau"],
)
def test_curves_without_a_second_descent_are_not_found(trend: Callable[[np.ndarray], np.ndarray], phi: float) -> None:
    found = 0
    for seed in range(SEEDS):
        values = trend(X) + ar1(np.random.default_rng(seed), N, phi)
        found += second_descent(STEPS, values).status == "found"
    assert found <= MOST


@pytest.mark.parametrize("n", [60, 100])
def test_null_includes_autocorrelation(n: int) -> None:
    """Curves that jump once. With an underestimated correlation on short records, 12 % were found."""
    curves = [20.0 * (np.arange(n) > 5) + ar1(np.random.default_rng(seed), n, 0.9) for seed in range(SEEDS)]
    assert sum(second_descent(np.arange(n), v).p_value <= 0.05 for v in curves) <= MOST


@pytest.mark.parametrize("sign", [1, -1])
def test_spikes_are_not_a_second_phase(sign: int) -> None:
    found = 0
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        values = 30 * np.exp(-10 * X) + generator.standard_normal(N)
        for at in generator.choice(np.arange(10, 110, 10), 5, replace=False):
            values[at : at + generator.integers(1, 4)] += sign * generator.uniform(10, 40)
        found += second_descent(STEPS, values).status == "found"
    assert found <= MOST


def test_noise_that_changes_is_not_a_second_phase() -> None:
    for size in (np.geomspace(1, 5, N), np.geomspace(5, 1, N)):
        curves = [20.0 * (X > 0.1) + size * ar1(np.random.default_rng(seed), N, 0.5) for seed in range(SEEDS)]
        assert sum(second_descent(STEPS, v).status == "found" for v in curves) <= MOST


def test_noise_that_falls_with_the_loss_is_not_a_second_phase() -> None:
    """The noise falls over three decades. With a smoothed size of the noise, half of these curves were found."""
    loss = 10 ** (-3 * X)
    curves = [loss * np.exp(0.3 * np.random.default_rng(seed).standard_normal(N)) for seed in range(SEEDS)]
    assert sum(second_descent(STEPS, v).status == "found" for v in curves) <= MOST


def test_a_random_walk_is_undecided() -> None:
    generator = np.random.default_rng(0)
    markers = [second_descent(np.arange(200), np.cumsum(generator.standard_normal(200))) for _ in range(SEEDS)]
    assert sum(m.status == "found" for m in markers) <= MOST
    undecided = [m for m in markers if m.status == "undecided"]
    assert len(undecided) >= SEEDS // 2
    assert "random walk" in undecided[0].reason
    assert undecided[0].correlation > 0.5


@pytest.mark.parametrize(("phi", "least"), [(0.0, 38), (0.8, 22)])  # .95 and .55 of 40
def test_a_drop_of_ten_sd_is_found(phi: float, least: int) -> None:
    markers = [second_descent(STEPS, 10 * HUMP + ar1(np.random.default_rng(seed), N, phi)) for seed in range(SEEDS)]
    found = [m for m in markers if m.status == "found"]
    assert len(found) >= least
    assert np.median(np.abs(np.log10([m.step for m in found]) - 3)) < 0.2
    if phi == 0:
        assert np.median([m.fall_noise for m in found]) == pytest.approx(10, abs=1.5)
        assert np.median([m.noise for m in found]) == pytest.approx(1, abs=0.1)
        assert np.median([m.correlation for m in found]) <= 0.1


def test_noise_free_shapes() -> None:
    up_down = 1 - np.abs(X - X[60])
    dip = np.concatenate([[3.0, 2.0, 1.0, 0.0], up_down[4:] * 5])
    marker = second_descent(STEPS, up_down)
    assert (marker.status, marker.reason) == ("found", "valley at 10")
    assert marker.lower <= STEPS[60] <= marker.upper
    marker = second_descent(STEPS, dip)
    assert (marker.status, marker.reason) == ("found", f"valley at {STEPS[3]:g}")
    assert second_descent(STEPS, np.exp(-3 * X)).status == "absent"
    assert second_descent(STEPS, np.full(N, 2.0)).status == "absent"
    assert second_descent(STEPS, np.minimum(X, 0.5)).status == "absent"
    marker = second_descent(STEPS, X)
    assert (marker.status, marker.reason) == ("right_censored", "the curve still rises at the end of the record")
    assert second_descent([1, 2, 3], [1, 2, 1]).status == "undefined"


def test_a_late_rise_is_not_the_top() -> None:
    """Fall, rise, fall, and a higher rise at the end: the top is the one that a fall follows."""
    values = np.interp(X, [0, 0.2, 0.5, 0.8, 1], [5, 1, 3, 1, 6]) + 0.05 * np.random.default_rng(0).standard_normal(N)
    marker = second_descent(STEPS, values)
    assert marker.status == "found"
    assert np.log10(marker.step) == pytest.approx(3, abs=0.1)


def test_fall_is_relative_to_the_rise_and_scale_free() -> None:
    values = np.interp(X, [0, 0.2, 0.5, 0.8, 1], [5, 1, 3, 2, 2])  # rise 2, fall 1
    marker = second_descent(STEPS, values)
    assert marker.fall == pytest.approx(0.5, abs=0.05)
    scaled = second_descent(STEPS, 7 * values - 3)
    assert (scaled.p_value, scaled.step) == pytest.approx((marker.p_value, marker.step), rel=1e-3)


def test_missing_values_are_skipped_and_results_repeat() -> None:
    values = 10 * HUMP + np.random.default_rng(0).standard_normal(N)
    steps, holes = np.append(STEPS, [2e5, 3e5]), np.append(values, [np.nan, np.nan])
    assert second_descent(steps, holes) == second_descent(STEPS, values)


def test_many_observations_are_averaged_with_a_note() -> None:
    n = 100_000
    steps = np.arange(n)
    x = np.log10(steps + 1)
    values = np.exp(-(((x - 3) / 0.7) ** 2)) + 0.3 * np.random.default_rng(0).standard_normal(n)
    marker = second_descent(steps, values)
    assert marker.status == "found"
    assert np.log10(marker.step) == pytest.approx(3, abs=0.2)
    assert "100,000 observations averaged to 1," in marker.reason
    short, means = block_means(steps, np.full(n, 2.0))
    assert len(short) <= 2000
    np.testing.assert_allclose(means, 2)
    np.testing.assert_allclose(short[:10], np.arange(10))  # early observations are further apart than the blocks


def test_loss_spikes_are_excluded_and_counted() -> None:
    """The top is that of the hump at 1,000, although later spikes are far higher."""
    generator = np.random.default_rng(3)
    loss = np.exp(1 + np.exp(-(((np.log10(STEPS) - 3) / 0.5) ** 2)) - X) * np.exp(0.02 * generator.standard_normal(N))
    spiked = loss.copy()
    spiked[[80, 90, 91, 104]] *= 30
    marker = second_descent(STEPS, spiked)
    assert (marker.status, marker.n_spikes) == ("found", 4)
    assert marker.step == pytest.approx(second_descent(STEPS, loss).step, rel=0.2)
    assert second_descent(STEPS, spiked, spike_width=0).step > 3 * marker.step


def test_a_spike_at_the_end_does_not_hide_the_hump() -> None:
    values = 10 * HUMP + np.random.default_rng(0).standard_normal(N)
    whole = second_descent(STEPS, values)
    values[-1] += 50
    marker = second_descent(STEPS, values)
    assert (marker.status, marker.n_spikes) == ("found", 0)
    assert "the last 1 observations are excluded" in marker.reason
    assert marker.step == pytest.approx(whole.step, rel=0.05)
    flat = np.random.default_rng(1).standard_normal(N)
    flat[-1] += 50
    assert second_descent(STEPS, flat).status == "absent"


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_only_narrow_peaks_are_spikes(width: int, sign: int) -> None:
    values = np.zeros(50)
    values[20 : 20 + width] = 5
    values[30:40] = 5
    inside, tail = spikes(sign * values, width=3)
    assert np.flatnonzero(inside).tolist() == list(range(20, 20 + width))
    assert not tail.any()


def test_smooth_peaks_and_noise_are_not_spikes() -> None:
    noise = np.random.default_rng(0).standard_normal((200, N))
    for width in (0.02, 0.05, 0.2):
        assert not np.any(spikes(np.exp(-(((X - 0.5) / width) ** 2))))
    assert sum(np.sum(spikes(curve)) for curve in noise) <= 0.001 * noise.size


def test_a_steady_rise_at_the_end_of_the_record_is_not_a_spike() -> None:
    values = np.concatenate([np.zeros(30), np.arange(1.0, 9.0)])
    assert not np.any(spikes(values))
    assert not np.any(spikes(values[::-1]))


def test_a_jump_at_the_end_is_marked_separately_from_spikes() -> None:
    values = np.concatenate([np.zeros(30), [9.0, 9.0]])
    inside, tail = spikes(values)
    assert not inside.any()
    assert np.flatnonzero(tail).tolist() == [30, 31]
    assert not np.any(spikes(values[::-1]))  # the initial descent


def test_parameters_out_of_range_are_an_error() -> None:
    with pytest.raises(ValueError, match="level"):
        unimodal_mode([1, 2], [0, 1], level=1)
    with pytest.raises(ValueError, match=r"0\.001 <= alpha < 1"):
        second_descent(STEPS, X, alpha=0.0001)
    assert unimodal_mode([1, 2, 3], [0, 1, 0]).status == "undefined"
    assert unimodal_mode([1, 2, 3, 4], [0, 1, 2, 0]).status == "found"
