from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.isotonic import IsotonicRegression

from probe.errors import ProbeWarning
from probe.phases import Marker, second_descent, unimodal_mode
from probe.stats import (
    noise_model,
    prefix_isotonic,
    spikes,
    unimodal_splits,
)

N = 120
X = np.linspace(0, 1, N)
STEPS = np.round(10 ** (1 + 4 * X))
HUMP = np.exp(-(((X - 0.5) / 0.2) ** 2))
# Upper bound of false positives in 20 curves if the true rate is 5 %: P(Binomial(20, .05) > 4) = 0.0026.
SEEDS, MOST = 20, 4


def ar1(generator: np.random.Generator, n: int, phi: float) -> np.ndarray:
    """Return AR(1) noise of unit variance, without the first 100 values of the recursion."""
    out, last = [], 0.0
    for shock in generator.standard_normal(n + 100):
        last = phi * last + np.sqrt(1 - phi**2) * shock
        out.append(last)
    return np.array(out[100:])


def recorded(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and the test loss of a small network, at most 300 rows of its log."""
    path = Path(__file__).with_name("curves") / f"{name}.csv"
    steps, values = np.loadtxt(path, delimiter=",", skiprows=1).T
    return steps, values


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
    for seed in range(2):
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


@pytest.mark.parametrize("phi", [0.0, pytest.param(0.5, marks=pytest.mark.slow), 0.8])
@pytest.mark.parametrize(
    "trend",
    [
        lambda x: 0 * x,
        lambda x: 20 * (1 - np.exp(-6 * x)),
        lambda x: -20 * x,
        lambda x: -20 / (1 + np.exp(-(x - 0.6) * 30)),
        lambda x: 20 * np.exp(-20 * x) + 20 / (1 + np.exp(-(x - 0.3) * 30)),
        lambda x: 20.0 * (x > 0.1),
    ],
    ids=["flat", "saturating", "drift", "plateau then fall", "fall, rise, plateau", "jump, plateau"],
)
def test_curves_without_a_second_descent_are_not_found(trend: Callable[[np.ndarray], np.ndarray], phi: float) -> None:
    values = [trend(X) + ar1(np.random.default_rng(seed), N, phi) for seed in range(SEEDS)]
    assert sum(second_descent(STEPS, one).status == "found" for one in values) <= MOST


@pytest.mark.parametrize("noise", ["laplace", "t3", "lognormal", "ar95 and white", "random walk"])
@pytest.mark.parametrize("n", [60, 400])
def test_noise_of_any_kind_is_not_a_hump(noise: str, n: int) -> None:
    """Laplace noise was a hump in 55 % of curves, the sum of slow and white noise in 98 %, with p-values for AR(1)."""
    found = 0
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        found += second_descent(np.arange(n), {
            "laplace": lambda g: g.laplace(size=n),
            "t3": lambda g: g.standard_t(3, n),
            "lognormal": lambda g: g.lognormal(0, 0.6, n),
            "ar95 and white": lambda g: ar1(g, n, 0.95) + g.standard_normal(n),
            "random walk": lambda g: np.cumsum(g.standard_normal(n)),
        }[noise](generator)).status == "found"  # fmt: skip
    assert found <= MOST


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


def test_noise_that_changes_with_the_loss_is_not_a_second_phase() -> None:
    sizes = [np.geomspace(1, 5, N), np.geomspace(5, 1, N)]
    curves = [20.0 * (X > 0.1) + size * ar1(np.random.default_rng(k), N, 0.5) for size in sizes for k in range(20)]
    assert sum(second_descent(STEPS, v).status == "found" for v in curves) <= MOST
    loss = 10 ** (-3 * X)  # the noise falls over three decades
    curves = [loss * np.exp(0.3 * np.random.default_rng(seed).standard_normal(N)) for seed in range(SEEDS)]
    assert sum(second_descent(STEPS, v).status == "found" for v in curves) <= MOST


@pytest.mark.parametrize("rows", ["even", "log"])
@pytest.mark.parametrize("n", [60, 300])
def test_a_hump_of_six_wiggles_is_found(n: int, rows: str) -> None:
    """The largest wiggle of flat white noise has a median height of about 4.5 sd, whatever n."""
    steps = np.arange(n) * 10.0 if rows == "even" else np.unique(np.round(np.geomspace(1, 1e6, n)))
    x = np.log10(steps + 1)
    markers = []
    for seed in range(SEEDS):
        noise = np.random.default_rng(seed).standard_normal(len(x))
        markers.append(second_descent(steps, 6 * 4.5 * np.exp(-0.5 * ((x - x[-1] + 0.9) / 0.3) ** 2) + noise))
    found = [marker for marker in markers if marker.status == "found"]
    assert len(found) >= 16  # P(Binomial(20, .95) < 16) = 0.003
    top = x[-1] - 0.9
    assert np.median([abs(np.log10(m.step + 1) - top) for m in found]) < 0.05
    assert np.mean([m.lower <= 10**top - 1 <= m.upper for m in found]) > 0.75
    assert np.median([m.contrast for m in found]) > 3


def test_size_and_fall_by_construction() -> None:
    values = np.interp(X, [0, 0.2, 0.5, 0.8, 1], [5, 1, 3, 2, 2])  # rise 2, fall 1, range of the rise 5 - 1
    marker = second_descent(STEPS, values)
    assert (marker.status, marker.tops) == ("found", (marker.step,))
    assert marker.size == pytest.approx(1, abs=0.05)
    assert marker.size_share == pytest.approx(0.25, abs=0.02)
    assert marker.fall == pytest.approx(0.5, abs=0.03)
    assert np.log10(marker.step) == pytest.approx(3, abs=0.02)
    assert marker.lower <= 1000 <= marker.upper


@pytest.mark.parametrize(("scale", "shift"), [(7.0, -3.0), (1e-6, 0.0), (1e5, 1e6)])
def test_units_do_not_matter(scale: float, shift: float) -> None:
    for name in ("grokking", "parity", "convex", "overfitting"):
        steps, values = recorded(name)
        one, other = second_descent(steps, values), second_descent(1000 * steps, scale * values + shift)
        assert one.status == other.status
        if one.status == "found":
            assert other.step / 1000 == pytest.approx(one.step, rel=1e-6)
            assert other.size == pytest.approx(scale * one.size, rel=1e-6)
            assert (other.size_share, other.contrast) == pytest.approx((one.size_share, one.contrast), rel=1e-6)


def test_two_equal_humps_are_both_found_and_the_last_one_is_the_marker() -> None:
    """The largest gap of the sorted sizes lies below the second hump. The third bump is one of the wiggles."""
    steps = np.unique(np.round(np.geomspace(1, 1e6, 300)))
    x = np.log10(steps)
    humps = np.exp(-0.5 * ((x - 2) / 0.25) ** 2) + np.exp(-0.5 * ((x - 4) / 0.25) ** 2)
    values = humps + 0.02 * np.random.default_rng(0).standard_normal(len(x))
    marker = second_descent(steps, values)
    assert marker.status == "found"
    np.testing.assert_allclose(np.log10(marker.tops), [2, 4], atol=0.05)
    assert marker.step == marker.tops[-1]
    assert "; valley at step " in marker.reason
    assert "2 humps" in marker.reason
    small = second_descent(steps, values + 0.08 * np.exp(-0.5 * ((x - 5.3) / 0.15) ** 2))
    np.testing.assert_allclose(np.log10(small.tops), [2, 4], atol=0.05)


def thinnings(steps: np.ndarray, values: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    n = len(steps)
    targets = np.linspace(0, np.log(steps[-1] + 1), 40)
    rows = np.unique(np.abs(np.log(steps + 1) - targets[:, None]).argmin(axis=1))
    kept = np.sort(np.random.default_rng(0).permutation(n)[: int(0.8 * n)])
    longer = np.append(steps, steps[-1] + (1 + np.arange(n // 4)) * (steps[-1] - steps[-2]))
    return {
        "dense": (steps, values),
        "every third": (steps[::3], values[::3]),
        "40 log-spaced": (steps[rows], values[rows]),
        "20 % missing": (steps[kept], values[kept]),
        "flat end recorded longer": (longer, np.append(values, np.full(n // 4, np.median(values[-9:])))),
    }


@pytest.mark.parametrize(
    ("name", "expected", "first", "last"),
    [
        ("grokking", {"found"}, 60, 110),
        ("parity", {"found"}, 120, 210),
        ("double_descent", {"found"}, 105, 190),
        ("memorising", {"right_censored", "absent"}, 0, 0),
        ("overfitting", {"right_censored"}, 0, 0),
        ("learning_rate_steps", {"absent"}, 0, 0),
        ("plateau_with_spikes", {"absent"}, 0, 0),
        ("convex", {"absent"}, 0, 0),
    ],
)
def test_real_curves_have_the_verdict_of_an_expert_at_every_density(
    name: str, expected: set[str], first: float, last: float
) -> None:
    """The verdicts were written down before any rule was applied to the curves."""
    for density, (steps, values) in thinnings(*recorded(name)).items():
        marker = second_descent(steps, values)
        assert marker.status in expected | ({"undecided"} if density != "dense" else set()), (density, marker)
        if marker.status == "found":  # between the recorded neighbours of the true top
            low, high = steps[steps <= first][-1], steps[steps >= last][0]
            assert low <= marker.step <= high, (density, marker)


def test_noise_free_shapes() -> None:
    up_down = 1 - np.abs(X - X[60])
    marker = second_descent(STEPS, up_down)
    assert marker.status == "found"
    assert marker.step == pytest.approx(STEPS[60], rel=0.02)
    assert marker.lower <= STEPS[60] <= marker.upper
    dip = np.concatenate([[3.0, 2.0, 1.0, 0.0], up_down[4:] * 5])
    assert second_descent(STEPS, dip).step == pytest.approx(STEPS[60], rel=0.02)
    assert second_descent(STEPS, np.exp(-3 * X)).status == "absent"
    constant = second_descent(STEPS, np.full(N, 2.0))
    assert (constant.status, constant.reason) == ("absent", "the curve is constant")
    plateau = second_descent(STEPS, np.minimum(X, 0.5))
    assert plateau.status == "absent"
    assert "to a plateau" in plateau.reason
    assert second_descent(STEPS, np.minimum(X, 0.9)).status == "right_censored"
    rise = second_descent(STEPS, X)
    assert rise.status == "right_censored"
    assert "since step " in rise.reason
    assert "has not fallen since" in rise.reason
    assert second_descent([1, 2, 3], [1, 2, 1]).status == "undefined"


def test_a_fall_counts_from_a_tenth_of_the_rise_and_three_percent_do_not() -> None:
    def turned(share: float) -> Marker:
        return second_descent(STEPS, np.interp(X, [0, 0.2, 0.85, 0.95, 1], [3, 1, 3, 3 - 2 * share, 3 - 2 * share]))

    assert turned(0.1).status == "found"
    assert turned(0.03).status == "right_censored"


def test_plain_rises_to_the_end_are_right_censored_at_40_rows() -> None:
    steps = np.unique(np.round(np.geomspace(1, 1e4, 40)))
    x = np.log10(steps) / 4
    for k in range(10):
        rise = 2.3 - 1.5 * np.minimum(x / 0.5, 1) + 0.2 * (k + 1) * np.maximum(x - 0.55, 0)
        noise = 0.004 * np.random.default_rng(k).standard_normal(len(x))
        assert second_descent(steps, rise + noise).status == "right_censored", k


def test_least_size_is_a_share_of_the_range() -> None:
    values = np.exp(-8 * X) + 0.05 * np.exp(-(((X - 0.6) / 0.1) ** 2)) + 0.001 * np.sin(40 * X)
    assert second_descent(STEPS, values).status == "found"
    large = second_descent(STEPS, values, least_size=0.2)
    assert large.status == "absent"
    assert "no rise and fall of 20 %" in large.reason
    with pytest.raises(ValueError, match="0 < least_size < 1"):
        second_descent(STEPS, values, least_size=5)


def test_random_walks_are_undecided_at_most_and_the_reason_states_what_to_do() -> None:
    steps = np.unique(np.round(np.geomspace(1, 1e5, 70)))
    walks = np.cumsum(np.random.default_rng(2).standard_normal((SEEDS, len(steps))), axis=1)
    markers = [second_descent(steps, walk) for walk in walks]
    assert sum(marker.status == "found" for marker in markers) <= MOST
    reasons = [marker.reason for marker in markers if marker.status == "undecided"]
    assert len(reasons) >= 3
    assert all(f"{len(steps)} observations, " in reason for reason in reasons if "excluded" not in reason)
    assert all(" around step " in reason for reason in reasons)
    assert all("log every" in reason or "record more seeds" in reason for reason in reasons)


def test_a_late_rise_is_not_the_top() -> None:
    """Fall, rise, fall, and a higher rise at the end: the top is the one that a fall follows."""
    values = np.interp(X, [0, 0.2, 0.5, 0.8, 1], [5, 1, 3, 1, 6]) + 0.05 * np.random.default_rng(0).standard_normal(N)
    marker = second_descent(STEPS, values)
    assert marker.status == "found"
    assert np.log10(marker.step) == pytest.approx(3, abs=0.1)


def test_missing_values_are_skipped_and_results_repeat() -> None:
    values = 10 * HUMP + np.random.default_rng(0).standard_normal(N)
    steps, holes = np.append(STEPS, [2e5, 3e5]), np.append(values, [np.nan, np.nan])
    assert second_descent(steps, holes) == second_descent(STEPS, values)


def test_many_observations_are_reduced_with_a_note() -> None:
    steps = np.arange(100_000)
    x = np.log10(steps + 1)
    values = np.exp(-(((x - 3) / 0.7) ** 2)) + 0.1 * np.random.default_rng(0).standard_normal(100_000)
    marker = second_descent(steps, values)
    assert marker.status == "found"
    assert np.log10(marker.step) == pytest.approx(3, abs=0.1)
    assert "100,000 observations reduced to 1," in marker.reason


def test_an_exponential_average_is_undone_exactly() -> None:
    steps, raw = np.arange(400), np.random.default_rng(0).standard_normal(400) * 0.01
    raw += np.exp(-(((np.log10(steps + 1) - 1.7) / 0.2) ** 2))
    smoothed = np.empty(400)
    smoothed[0] = raw[0]
    for t in range(1, 400):
        smoothed[t] = 0.9 * smoothed[t - 1] + 0.1 * raw[t]
    whole, undone, left = (
        second_descent(steps, raw),
        second_descent(steps, smoothed, smoothing=0.9),
        second_descent(steps, smoothed),
    )
    assert undone.step == pytest.approx(whole.step, rel=1e-6)
    assert "the exponential average of 0.9 was undone" in undone.reason
    assert left.step > 1.05 * whole.step
    kept = np.flatnonzero(np.random.default_rng(2).random(400) < 0.7)  # rows are missing
    gaps = second_descent(kept, smoothed[kept], smoothing=0.9)
    assert gaps.step == pytest.approx(whole.step, rel=0.05)
    steps, smoothed = np.arange(2000), lfilter([0.1], [1, -0.9], np.random.default_rng(1).standard_normal(2000))
    log_spaced = np.unique(np.round(np.geomspace(1, 1999, 80)).astype(int))
    with pytest.warns(ProbeWarning, match="top is that of the smoothed curve"):
        second_descent(steps[log_spaced], smoothed[log_spaced], smoothing=0.9)
    with pytest.raises(ValueError, match="0 <= smoothing < 1"):
        second_descent(steps, smoothed, smoothing=1)


def test_loss_spikes_are_excluded_and_counted() -> None:
    """The top is that of the hump at 1,000, although later spikes are far higher."""
    generator = np.random.default_rng(3)
    loss = np.exp(1 + np.exp(-(((np.log10(STEPS) - 3) / 0.5) ** 2)) - X) * np.exp(0.02 * generator.standard_normal(N))
    spiked = loss.copy()
    spiked[[80, 90, 91, 104]] *= 30
    marker = second_descent(STEPS, spiked)
    assert (marker.status, marker.n_spikes) == ("found", 4)
    assert marker.step == pytest.approx(second_descent(STEPS, loss).step, rel=0.1)


@pytest.mark.parametrize("n", [30, 60, 200])
def test_a_spike_with_a_slow_decay_is_not_a_hump(n: int) -> None:
    """Up within one observation, and down over twelve, as after a bad update of Adam."""
    steps, i = np.unique(np.round(np.geomspace(1, 10 ** (2 + np.log10(n)), 2 * n)))[-n:], np.arange(n)
    found = 0
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        at = int(generator.integers(5, n - 5))
        values = np.exp(-i / (n / 6)) + 2 * (i >= at) * np.exp(-(i - at) / 5) + 0.02 * generator.standard_normal(n)
        found += second_descent(steps, values).status == "found"
    assert found <= MOST


@pytest.mark.parametrize("first", [1, 2])
def test_spikes_that_overlap_are_not_a_hump(first: int) -> None:
    """A second bad update follows the first one after one or two observations; each decays by a third at each row."""
    steps, i, found = np.geomspace(1, 1e5, 40), np.arange(40), 0
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        at = int(generator.integers(10, 28))
        values = 30 * np.exp(-i / 6) + generator.standard_normal(40)
        for k, size in ((at, generator.uniform(20, 40)), (at + first, generator.uniform(20, 40))):
            values[k:] += size * (2 / 3) ** (i[k:] - k)
        found += second_descent(steps, values).status == "found"
    assert found <= MOST


def test_three_observations_of_a_hump_are_not_a_spike() -> None:
    steps = np.arange(30) * 100.0
    values = np.full(30, 1.0)
    values[4:9] = [1.4, 2, 2.6, 2, 1.4]
    marker = second_descent(steps, values)
    assert (marker.status, marker.n_spikes, marker.step) == ("found", 0, pytest.approx(600, rel=0.05))


def test_a_spike_at_the_end_does_not_hide_the_hump() -> None:
    values = 30 * HUMP + np.random.default_rng(0).standard_normal(N)
    whole = second_descent(STEPS, values)
    values[-1] += 150
    marker = second_descent(STEPS, values)
    assert (marker.status, marker.n_spikes) == ("found", 0)
    assert "the last observation is excluded" in marker.reason
    assert marker.step == pytest.approx(whole.step, rel=0.05)
    flat = np.random.default_rng(1).standard_normal(N)
    flat[-1] += 50
    assert second_descent(STEPS, flat).status == "absent"


@pytest.mark.parametrize("last", [6000, 10_000, 20_000, 50_000])
def test_a_fast_grokking_run_has_a_hump_however_long_its_end_is(last: int) -> None:
    """Up from 5.1 to 6.6 within 8 observations, and down to 0: rows every 100 steps, noise of 2 %, loss spikes."""
    steps = np.r_[1.0, np.arange(100, last + 1, 100.0)]
    at = [1, 100, 200, 400, 700, 1200, 2000, 2800, 3400, 3800, 4200, 5000, 50000]
    true = np.interp(steps, at, [5.1, 5.6, 5.9, 6.3, 6.6, 6.1, 5.5, 4.5, 2.6, 0.4, 0.03, 0.01, 0.005])
    inside = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        loss = true * np.exp(0.02 * generator.standard_normal(len(steps)))
        loss += (steps > 4500) * (generator.random(len(steps)) < 0.03) * generator.exponential(1.5, len(steps))
        marker = second_descent(steps, loss)
        inside += marker.status == "found" and 200 <= marker.step <= 1200
    assert inside >= 17


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
    assert unimodal_mode([1, 2, 3], [0, 1, 0]).status == "undefined"
    assert unimodal_mode([1, 2, 3, 4], [0, 1, 2, 0]).status == "found"


# --- places and records that were wrong ------------------------------------------------------------------------------


def _early_hump(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a loss that falls within the first of n even rows, with a hump at 1,000 steps."""
    steps = np.linspace(0, 1e5, n)
    x = np.log10(np.maximum(steps, 1))
    return steps, 2 * np.exp(-3 * x) + np.exp(-(((x - 3) / 0.3) ** 2))


@pytest.mark.parametrize("n", [220, 225, 250, 255, 275])
def test_the_top_of_an_early_hump_is_not_the_first_observation(n: int) -> None:
    """The valley before the hump is as low as the level above which the hump lies, up to rounding."""
    marker = second_descent(*_early_hump(n))
    assert marker.status == "found"
    assert abs(np.log10(marker.step / 1000)) < 0.2


def test_a_constant_with_a_brief_excursion_has_no_hump() -> None:
    values = np.full(30, 2.0)
    values[15:18] = 250
    assert second_descent(np.arange(30), values).status == "absent"
