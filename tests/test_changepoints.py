from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import least_squares

from probe.errors import ProbeWarning
from probe.stats import difference_noise, local_sd, piecewise_linear, segmented_fit, simulate_ar1
from probe.stats.segmented import MAX_KNOTS


def brute(x: np.ndarray, y: np.ndarray, degree: int, min_size: int) -> dict[tuple[int, ...], float]:
    """Residual sum of squares of every partition whose pieces are long enough."""
    n, found = len(x), {}
    for k in range(n // min_size):
        for breaks in combinations(range(min_size, n - min_size + 1), k):
            edges = [0, *breaks, n]
            if min(np.diff(edges)) >= min_size:
                pieces = [slice(a, b) for a, b in pairwise(edges)]
                fits = [np.polynomial.Polynomial.fit(x[p], y[p], degree)(x[p]) for p in pieces]
                found[breaks] = sum(float(((y[p] - f) ** 2).sum()) for p, f in zip(pieces, fits, strict=True))
    return found


@pytest.mark.parametrize("kind", ["linear", "constant"])
@pytest.mark.parametrize("min_size", [2, 3])
def test_best_of_all_partitions(kind: str, min_size: int) -> None:
    for seed in range(4):
        generator = np.random.default_rng(seed)
        x = np.cumsum(generator.exponential(size=12))
        y = 1e3 + 5 * generator.standard_normal(12) + 20 * (np.arange(12) > 6)
        every = brute(x, y, int(kind == "linear"), min_size)
        for penalty in (0.5, 5.0, 50.0, 500.0):
            best = min(every, key=lambda breaks: every[breaks] + penalty * len(breaks))
            found = piecewise_linear(x, y, penalty=penalty, min_size=min_size, kind=kind)
            assert found.breaks.tolist() == list(best)
            assert found.rss == pytest.approx(every[best], abs=1e-6)
            assert found.penalty == penalty
        for pieces in range(1, 12 // min_size + 1):
            best = min((b for b in every if len(b) == pieces - 1), key=lambda breaks: every[breaks])
            found = piecewise_linear(x, y, n_segments=pieces, min_size=min_size, kind=kind)
            assert found.rss == pytest.approx(every[best], abs=1e-6)
            assert found.x_breaks.tolist() == x[found.breaks].tolist()


def test_pruning_loses_nothing() -> None:
    """The best for a penalty is the best for its number of pieces, found without pruning."""
    generator = np.random.default_rng(0)
    x = np.sort(generator.random(150))
    y = np.interp(x, [0, 0.3, 0.31, 0.7, 1], [0, 2, 0, 1, -1]) + 0.1 * generator.standard_normal(150)
    for penalty in (0.05, 0.2, 1.0):
        found = piecewise_linear(x, y, penalty=penalty)
        same = piecewise_linear(x, y, n_segments=len(found.slopes))
        np.testing.assert_array_equal(found.breaks, same.breaks)
        for more in (-1, 1):
            other = piecewise_linear(x, y, n_segments=len(found.slopes) + more)
            assert other.rss + more * penalty >= found.rss


def broken_rss(x: np.ndarray, y: np.ndarray, knots: tuple[int, ...]) -> float:
    design = np.column_stack([np.ones_like(x), x, *(np.maximum(x - x[k], 0) for k in knots)])
    return float(((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum())


def test_broken_sticks_agree_with_least_squares_one_by_one() -> None:
    generator = np.random.default_rng(1)
    x = np.log10(np.cumsum(generator.exponential(30, size=25)))
    y = -7 + 3 * generator.standard_normal(25)
    fit = segmented_fit(x, y, min_size=3)
    assert fit.knots.tolist() == list(range(2, 23))
    assert fit.rss0 == pytest.approx(broken_rss(x, y, ()))
    np.testing.assert_allclose(fit.rss1, [broken_rss(x, y, (k,)) for k in fit.knots])
    pairs = [(i, k) for i in range(2, 23) for k in range(i + 2, 23)]
    assert fit.knots[fit.pairs].T.tolist() == [list(pair) for pair in pairs]
    np.testing.assert_allclose(fit.rss2, [broken_rss(x, y, pair) for pair in pairs])
    best = fit.knots[fit.pairs[:, np.argmin(fit.rss2)]]
    slow = least_squares(lambda p: p[0] + p[1] * x + p[2:] @ np.maximum(x - x[best][:, None], 0) - y, np.zeros(4))
    np.testing.assert_allclose(fit.slopes[:, np.argmin(fit.rss2)], np.cumsum(slow.x[1:]), rtol=1e-4)
    for pieces in (1, 2, 3):
        found = piecewise_linear(x, y, n_segments=pieces, continuous=True)
        least = [fit.rss0, fit.rss1.min(), fit.rss2.min()][pieces - 1]
        assert found.rss == pytest.approx(least)
        np.testing.assert_allclose(found.fitted(x), found.values)
        joints = (found.slopes * np.append(found.x_breaks, np.nan) + found.intercepts)[:-1]
        np.testing.assert_allclose(joints, found.fitted(found.x_breaks))


def test_flat_start_is_flat() -> None:
    generator = np.random.default_rng(2)
    x, y = np.sort(generator.random(20)), generator.standard_normal(20)
    fit = segmented_fit(x, y, flat_start=True)
    np.testing.assert_allclose(fit.slopes[0], 0, atol=1e-12)
    for knot, rss in zip(fit.knots, fit.rss1, strict=True):
        design = np.column_stack([np.ones(20), np.maximum(x - x[knot], 0)])
        assert rss == pytest.approx(((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum())


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_do_not_matter(offset: float, scale: float) -> None:
    generator = np.random.default_rng(3)
    x = np.arange(80.0)
    y = np.interp(x, [0, 30, 79], [0, 3, 0]) + 0.1 * generator.standard_normal(80)
    standard = piecewise_linear(x, y, penalty=0.1)
    moved = piecewise_linear((x + offset) * scale, (y + offset) * scale, penalty=0.1 * scale**2)
    assert moved.breaks.tolist() == standard.breaks.tolist()
    assert moved.rss == pytest.approx(standard.rss * scale**2, rel=1e-4)
    np.testing.assert_allclose(moved.slopes, standard.slopes, rtol=1e-4)


def test_exact_pieces_are_found_exactly() -> None:
    x = np.array([0.0, 1, 2, 4, 5, 7, 8, 9, 12, 13, 14, 20])
    y = np.where(x < 6, 2 * x - 1, 30 - 3 * x)
    found = piecewise_linear(x, y)
    assert (found.breaks.tolist(), found.x_breaks.tolist()) == ([5], [7.0])
    np.testing.assert_allclose(found.slopes, [2, -3])
    np.testing.assert_allclose(found.intercepts, [-1, 30])
    np.testing.assert_allclose(found.fitted([-1, 6.9, 7, 30]), [-3, 12.8, 9, -60])
    bent = piecewise_linear(x, np.interp(x, [0, 7, 13, 20], [0, 7, 7, 0]), continuous=True)
    assert bent.x_breaks.tolist() == [7, 13]
    np.testing.assert_allclose(bent.slopes, [1, 0, -1], atol=1e-12)
    steps = piecewise_linear(x, np.where(x < 6, 1.0, 4.0), kind="constant")
    assert (steps.breaks.tolist(), steps.intercepts.tolist(), steps.slopes.tolist()) == ([5], [1, 4], [0, 0])


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_bic_finds_the_breaks_and_no_others(phi: float) -> None:
    """False breaks in 0.02 (white) and 0.05 to 0.1 (phi .6) of such records measured."""
    x = np.linspace(0, 1, 200)
    noise = simulate_ar1(np.random.default_rng(4), (20, 200), phi)
    assert sum(len(piecewise_linear(x, row).breaks) > 0 for row in noise) <= 5
    trend = 30 * np.interp(x, [0, 0.3, 0.3001, 0.6, 1], [0, 1, 0, 1, 0])
    breaks = [piecewise_linear(x, trend + row).x_breaks for row in noise]
    assert np.median([len(b) for b in breaks]) == 2
    assert np.median([np.abs(b - 0.3).min() + np.abs(b - 0.6).min() for b in breaks]) < 0.04


@pytest.mark.parametrize("x", [np.linspace(0, 1, 400), np.logspace(0, 3, 400)], ids=["even", "log"])
@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_noise_is_estimated_beside_breaks(x: np.ndarray, phi: float) -> None:
    trend = 50 * np.interp(x, np.quantile(x, [0, 0.25, 0.26, 0.6, 1]), [0, 1, 0, 2, -1])
    estimates = [difference_noise(x, trend + row) for row in simulate_ar1(np.random.default_rng(5), (20, 400), phi)]
    np.testing.assert_allclose(np.median(estimates, axis=0), [1, phi], atol=0.15)


@pytest.mark.parametrize("lag", [1, 3])
def test_local_sd_is_a_running_median_of_second_differences(lag: int) -> None:
    curve = np.random.default_rng(8).standard_normal(60)
    curve[30] = 1e3  # a spike
    n, half = len(curve), 7
    mirrored = np.concatenate([curve[lag:0:-1], curve, curve[-2 : -2 - lag : -1]])
    second = [abs(mirrored[i] - 2 * mirrored[i + lag] + mirrored[i + 2 * lag]) for i in range(n)]
    scale = stats.norm.ppf(0.75) * np.sqrt(6)
    expected = [np.median(second[i - half : i + half + 1]) / scale for i in range(half, n - half)]
    np.testing.assert_allclose(local_sd(curve, window=15, lag=lag)[half:-half], expected, rtol=1e-4)
    held = local_sd(curve, window=15, lag=lag, ends="repeat")
    assert held[lag] == pytest.approx(second[lag] / scale, rel=1e-4)  # repeated beyond the end, it is the median
    np.testing.assert_allclose(held[:lag], held[lag])
    np.testing.assert_allclose(held[half + lag : -half - lag], expected[lag : -lag or None], rtol=1e-4)


def test_local_sd_of_white_noise_with_spikes_is_that_of_the_noise() -> None:
    curve = 0.3 * np.random.default_rng(9).standard_normal(2000)
    curve[::50] += 100
    assert np.median(local_sd(curve, window=201)) == pytest.approx(0.3, rel=0.15)
    assert local_sd(np.full(40, 3.0), window=15).min() > 0  # the rounding of float32


def test_missing_values_are_left_out() -> None:
    x = np.arange(40.0)
    y = np.where(x < 20, 0.0, x - 20)
    holes = np.insert(y, [5, 30], np.nan)
    found = piecewise_linear(np.insert(x, [5, 30], [4.5, 29.5]), holes, penalty=0.1)
    assert found.breaks.tolist() == piecewise_linear(x, y, penalty=0.1).breaks.tolist()


def test_many_observations_have_a_grid_of_knots() -> None:
    n = 3 * MAX_KNOTS
    x = np.log10(np.arange(1, n + 1))
    found = piecewise_linear(x, np.maximum(x - 2, 0), n_segments=2, continuous=True)
    assert found.x_breaks[0] == pytest.approx(2, abs=np.ptp(x) / MAX_KNOTS)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ([0, 1], [0, 1, 2], {}, "one shape"),
        ([0, 2, 1], [0, 1, 2], {}, "sort by x"),
        ([0, 1, np.nan], [0, 1, 2], {}, "sort by x"),
        ([0, 1, 2], [0, 1, np.inf], {}, "got 1 infinite values"),
        ([], [], {}, "at least 3 observations"),
        ([0, 1, 2], [np.nan] * 3, {}, "at least 3 observations"),
        (range(7), range(7), {}, "pass penalty=a number or n_segments"),
        (range(8), range(8), {"n_segments": 3}, "at least 9 observations for 3 pieces of 3"),
        (range(8), range(8), {"n_segments": 0}, "n_segments >= 1"),
        (range(20), range(20), {"n_segments": 4, "continuous": True}, "at most 3 with continuous=True"),
        (range(20), range(20), {"min_size": 1}, "min_size >= 2"),
        (range(20), range(20), {"penalty": -1.0}, "penalty > 0"),
        (range(20), range(20), {"penalty": "aic"}, "penalty > 0 or 'bic'"),
        (range(20), range(20), {"kind": "cubic"}, "kind='linear'"),
        (range(20), range(20), {"kind": "constant", "continuous": True}, "kind='linear'"),
        (range(20), range(20), {"kind": "auto", "n_segments": 2}, "kind='auto'"),
        (range(20), range(20), {"kind": "auto", "penalty": 1.0}, "penalty='bic'"),
    ],
)
def test_bad_input_is_refused(x: list, y: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        piecewise_linear(x, y, **options)


def levels(n: int) -> np.ndarray:
    """Steps of both signs."""
    return 6 * np.array([0.0, 1, -0.5, 0.8, -0.4])[np.minimum(np.arange(n) * 5 // n, 4)]


@pytest.mark.parametrize("rise", [10, 100])
@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_constant_pieces_that_cut_a_trend_warn(rise: float, phi: float) -> None:
    x = np.arange(200.0)
    for noise in simulate_ar1(np.random.default_rng(6), (4, 200), phi):
        trend = rise * np.exp(-x / 40) + noise
        with pytest.warns(ProbeWarning, match=r"a trend that constant pieces cut into .* pass kind='linear' or 'auto'"):
            cut = piecewise_linear(x, trend, kind="constant")
        straight = piecewise_linear(x, trend, kind="auto")
        assert cut.cuts_trend
        assert (straight.kind, straight.cuts_trend) == ("linear", None)
        assert len(straight.breaks) < len(cut.breaks)


@pytest.mark.parametrize("trend", [np.zeros(200), levels(200), 4.0 * (np.arange(200) > 90)], ids=["0", "4", "1"])
@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_steps_and_noise_are_no_trend(trend: np.ndarray, phi: float) -> None:
    """False alarms in 0 to 4 % of such records measured."""
    curves = trend + simulate_ar1(np.random.default_rng(7), (20, 200), phi)
    kinds = [piecewise_linear(np.arange(200.0), y, kind="auto").kind for y in curves]
    assert kinds.count("linear") <= 2
    constant = piecewise_linear(np.arange(200.0), curves[0], kind="constant")
    assert constant.cuts_trend is False


def test_a_given_number_of_constant_pieces_is_not_tested_for_a_trend() -> None:
    x = np.arange(40.0)
    assert piecewise_linear(x, x, kind="constant", n_segments=4).cuts_trend is None
    assert piecewise_linear(x, x, kind="constant", penalty=1.0).cuts_trend is None


def test_constant_curves_are_one_piece() -> None:
    for options in ({}, {"kind": "constant"}, {"kind": "auto"}, {"continuous": True}):
        found = piecewise_linear(np.arange(20), np.full(20, 3.0), **options)
        assert len(found.breaks) == 0
        np.testing.assert_allclose(found.values, 3)
