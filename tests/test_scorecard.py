"""Scores of progress measures; the truth is planted, brute force, or another library."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import probe
import reference
from probe import PhaseDetector, ProgressScorecard
from probe.phases import departure
from probe.stats import change_correlation, leave_one_out, mean_interval, median_interval, separation, tau_b

RESULTS = Path(reference.__file__).parent / "results"
STEPS = np.unique(np.logspace(0, 5, 121).round())
X = np.log10(STEPS + 1)


def sigmoid(step: float, width: float = 0.02) -> np.ndarray:
    """0 before this step, 1 after it."""
    return np.asarray(1 / (1 + np.exp(-(X - np.log10(step + 1)) / width)))


def planted(
    onsets: list[float | None], *, lead: float = 3.0, fit_end: Any = 300.0, noise: float = 0.02, seed: int = 0
) -> xr.Dataset:
    """Runs that leave chance at these steps (None: never).

    ``early`` falls from the onset over ``lead`` on, and nowhere in controls; ``clock`` falls with the logarithm of the
    step in all runs; ``noisy`` is noise.
    """
    rng, n = np.random.default_rng(seed), len(onsets)
    ends = np.broadcast_to(np.asarray(fit_end, dtype=float), n)
    rows: dict[str, list[np.ndarray]] = {k: [] for k in ("train_accuracy", "test_accuracy", "test_loss", "train_loss")}
    rows |= {"early": [], "clock": [], "noisy": []}
    for onset, end in zip(onsets, ends, strict=True):
        rows["train_accuracy"].append(sigmoid(end / 1.2))
        rows["train_loss"].append(3 * (1 - sigmoid(end, 0.2)) + 0.01)
        test = sigmoid(1.15 * onset) if onset else 0 * X
        rows["test_accuracy"].append(test)
        rows["test_loss"].append(5 - 4 * test + 0.2 * X + noise * rng.normal(size=len(X)))
        fall = np.maximum(X - np.log10(onset / lead + 1), 0) if onset else 0 * X
        rows["early"].append(10 - 6 * fall + noise * rng.normal(size=len(X)))
        rows["clock"].append(8 - X + noise * rng.normal(size=len(X)))
        rows["noisy"].append(rng.normal(size=len(X)))
    return xr.Dataset(
        {k: (("run", "step"), np.array(v)) for k, v in rows.items()}, {"step": STEPS, "run": np.arange(n)}
    )


ONSETS = [2000.0, 3000, 5000, 8000, 12000, 20000, 30000, 9000]
RUNS = planted([*ONSETS, None, None, None, None])


@pytest.fixture(scope="module")
def card() -> ProgressScorecard:
    return ProgressScorecard(["early", "clock", "noisy", "test_loss", "train_loss"]).fit(RUNS)


def of(card: ProgressScorecard, measure: str) -> xr.Dataset:
    return card.scores_.sel(measure=measure)


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1000, 3])  # without and with ties
def test_separation_is_the_count_of_pairs_and_its_p_value_that_of_all_labellings(levels: int) -> None:
    rng = np.random.default_rng(levels)
    runs, controls = rng.integers(levels, size=6) + 0.3 * levels, rng.integers(levels, size=4).astype(float)
    runs = runs.round()
    found = separation(runs, controls)
    values, labels = np.concatenate([runs, controls]), np.repeat([1, 0], [6, 4])
    assert found.auc == pytest.approx(roc_auc_score(labels, values))
    areas = []
    for chosen in combinations(range(10), 6):
        rest = np.setdiff1d(np.arange(10), chosen)
        pairs = values[list(chosen)][:, None] - values[rest]
        areas.append(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert found.p_value == pytest.approx(np.mean(np.abs(np.array(areas) - 0.5) >= abs(found.auc - 0.5) - 1e-12))
    if levels == 1000:
        exact = stats.mannwhitneyu(runs, controls, method="exact")
        assert found.p_value == pytest.approx(exact.pvalue)


def test_p_values_of_shuffled_labels_are_uniform() -> None:
    """Over all labellings: as many lie at or below alpha as may, never more."""
    values = np.random.default_rng(1).normal(size=9)
    p = np.array(
        [
            separation(values[list(chosen)], values[np.setdiff1d(np.arange(9), chosen)]).p_value
            for chosen in combinations(range(9), 5)
        ]
    )
    for alpha in np.unique(p):
        assert np.mean(p <= alpha) == pytest.approx(alpha)


def test_large_samples_go_by_the_normal_approximation() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.3, size=50), rng.normal(size=50)
    exact, approximate = separation(a, b), separation(np.append(a, a[0]), b)
    assert approximate.p_value == pytest.approx(exact.p_value, rel=0.2)
    assert exact.n_runs == 50


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_of_an_area_covers_it(shift: float) -> None:
    rng, truth = np.random.default_rng(3), stats.norm.cdf(shift / np.sqrt(2))
    found = [separation(rng.normal(shift, size=8), rng.normal(size=4)) for _ in range(400)]
    covered = np.mean([one.lower <= truth <= one.upper for one in found])
    assert 0.9 < covered <= 1
    assert all(0 <= one.lower <= one.auc <= one.upper <= 1 for one in found)


def test_perfect_separation_is_not_certain() -> None:
    up, down = separation([3, 4, 5, 6], [1, 2]), separation([1, 2, 3, 4], [5, 6])
    assert up.upper == 1
    assert up.lower < 0.8
    assert (down.lower, down.upper) == pytest.approx((1 - up.upper, 1 - up.lower))
    assert np.isnan(separation([1, np.nan], [np.nan]).auc)


def test_tau_counts_pairs() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.integers(5, size=12), rng.integers(4, size=12)
    i, j = np.triu_indices(12, 1)
    signs = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
    untied = np.prod([np.sum(sign != 0) for sign in signs]) ** 0.5
    assert tau_b(x, y) == pytest.approx(np.sum(signs[0] * signs[1]) / untied)
    assert tau_b(np.arange(9), -(np.arange(9.0) ** 3)) == -1
    assert np.isnan(tau_b([1, 2, 3], [1, 2, 3]))
    assert np.isnan(tau_b(np.arange(9), np.ones(9)))


def test_curves_that_only_fall_are_related_in_levels_not_in_changes() -> None:
    rng, levels, changes = np.random.default_rng(5), [], []
    for _ in range(60):
        a, b = (-np.cumsum(rng.exponential(size=40)) for _ in range(2))
        steps = 10 ** np.linspace(1, 4, 40)
        levels.append(tau_b(a, b))
        changes.append(change_correlation(steps, a, b))
    assert min(levels) == 1
    assert abs(np.mean(changes)) < 4 * np.std(changes) / np.sqrt(60)
    assert change_correlation(steps, a, -a) == -1


def test_changes_in_a_dense_log_are_not_drowned_in_noise() -> None:
    rng, steps = np.random.default_rng(6), np.arange(100.0, 20_000, 20)
    wave = np.sin(8 * np.log10(steps))
    a, b = (wave + 0.2 * rng.normal(size=len(steps)) for _ in range(2))
    assert change_correlation(steps, a, b) > 0.5
    assert tau_b(np.diff(a), np.diff(b)) < 0.1


def test_intervals_over_runs() -> None:
    values = np.array([1.0, 2.0, 4.0, np.nan])
    known = stats.ttest_1samp(values[:3], 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx((7 / 3, known.low, known.high, 3))
    assert mean_interval([1, 2], 0.9).differs == -1
    assert np.isnan(mean_interval([], 0.9).value)
    eight = np.arange(1.0, 9)
    assert median_interval(eight, eight, 0.9)[:3] == (4.5, 2, 7)  # order statistics, 1 - 2 * 9 / 256
    censored = np.where(eight <= 2, -np.inf, eight)
    assert median_interval(censored, eight, 0.9)[:3] == (4.5, -np.inf, 7)
    assert np.isnan(median_interval(np.full(8, -np.inf), eight, 0.9).value)
    assert np.isnan(median_interval(eight[:3], eight[:3], 0.95).lower)


def test_leave_one_out_leaves_one_out() -> None:
    rng = np.random.default_rng(7)
    clock, truth = rng.normal(size=6), rng.normal(size=6)
    errors = [abs(truth[i] - clock[i] - np.mean([truth[j] - clock[j] for j in range(6) if j != i])) for i in range(6)]
    assert leave_one_out(clock, truth) == pytest.approx(errors)
    assert leave_one_out(truth - 0.5, truth) == pytest.approx(np.zeros(6))  # a constant multiple of the clock


# --- the measure's own onset -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_departure_is_where_it_was_planted(sign: int) -> None:
    rng, errors = np.random.default_rng(8), []
    for _ in range(20):
        curve = np.maximum(X - 3.0, 0) * sign * 3 + 0.03 * rng.normal(size=len(X))
        marker, direction = departure(STEPS, 100 * curve - 7, 200)
        assert marker.status == "found"
        assert direction == sign
        errors.append(np.log10(marker.step + 1) - 3.0)
    assert 0 <= np.median(errors) < 0.15  # 3 sd of a difference are reached after .06 dex, the grid has .04
    assert min(errors) > -0.1


def test_noise_seldom_departs_and_before_fitting_nothing_counts() -> None:
    rng = np.random.default_rng(9)
    early = 5 * np.minimum(X - 2, 0)  # steep until step 99, flat from there on
    left = [departure(STEPS, early + rng.normal(size=len(X)) * 0.1, 110)[0].status == "found" for _ in range(200)]
    assert np.mean(left) < 0.08


def test_what_came_before_fitting_does_not_widen_the_band() -> None:
    rng = np.random.default_rng(12)
    noise = np.where(STEPS < 200, 1.0, 0.02) * rng.normal(size=(10, len(X)))
    found = [departure(STEPS, np.maximum(X - 2.6, 0) + curve, 250)[0].step for curve in noise]
    assert np.median(np.log10(found)) < 2.75  # 4 sd of .02 on a slope of 1: .08, and the grid


def test_departure_without_what_it_needs() -> None:
    assert departure(STEPS, X, 5e6)[0].status == "undefined"  # one observation after fitting
    assert departure(STEPS[50:], X[50:], 2)[0].status == "undefined"
    assert departure(STEPS, 0 * X + 1, 300)[0].status == "right_censored"
    with pytest.raises(ValueError, match="Expected n_sd > 0"):
        departure(STEPS, X, 300, n_sd=0)


# --- the scorecard on planted runs -----------------------------------------------------------------------------------


def test_an_early_measure_is_found(card: ProgressScorecard) -> None:
    one = of(card, "early")
    assert (one["n_runs"], one["n_controls"], one["n_moved"], one["n_before"]) == (8, 4, 8, 8)
    assert one["direction"] == -1
    assert one["n_controls_moved"] == 0
    assert float(one["lead_factor"]) == pytest.approx(3, rel=0.2)
    assert np.log10(3) - 0.1 < one["lead_lower"] <= one["lead"] <= one["lead_upper"] < np.log10(3) + 0.1
    assert one["leads"] == one["predicts"] == one["monotone"] == 1
    assert one["monotonicity"] < -0.6
    assert one["error"] < 0.06  # a constant multiple, but for the grid of .04 dex
    spread = np.log10(ONSETS)
    others = (spread.sum() - spread) / 7
    assert float(one["error_constant"]) == pytest.approx(np.abs(spread - others).mean(), abs=0.02)
    assert float(one["error_fit_end"]) == pytest.approx(float(one["error_constant"]))  # fitting ends at one step


def test_what_moves_with_time_alone_is_no_progress_measure(card: ProgressScorecard) -> None:
    one = of(card, "clock")
    assert one["monotonicity"] < -0.9
    assert one["monotonicity_controls"] < -0.9
    assert one["n_before"] == 8  # it leads
    assert one["n_controls_moved"] == 4
    assert one["separates_value"] == one["predicts"] == 0
    assert one["error"] > 3 * of(card, "early")["error"]
    noise = of(card, "noisy")
    assert noise["monotone"] == noise["separates_value"] == noise["tracks_loss"] == 0


def test_the_end_of_fitting_predicts_where_it_was_planted() -> None:
    ends = np.array([100.0, 200, 400, 800, 1600])
    runs = planted(list(20 * ends), fit_end=ends)
    one = of(ProgressScorecard(["early", "clock"]).fit(runs), "early")
    assert one["error_fit_end"] < 0.04
    assert one["error_constant"] > 0.3
    assert one["predicts"] == 0


def test_runs_are_compared_before_any_generalises(card: ProgressScorecard) -> None:
    first = float(card.runs_["generalisation_onset"].min())
    assert card.cut_ < first
    assert of(card, "early")["auc_change"] == pytest.approx(0.0 if card.cut_ > ONSETS[0] / 2 else 0.5, abs=0.5)
    changed = RUNS.copy(deep=True)
    future = changed["step"] > card.cut_
    for name in ("early", "clock", "noisy"):
        changed[name] = changed[name].where(~future, 77 + changed["run"])
    again = ProgressScorecard(["early", "clock", "noisy"]).fit(changed)
    for name in ("auc_value", "auc_change", "auc_value_p"):
        assert again.scores_[name].values[:3] == pytest.approx(card.scores_[name].values[:3])


def test_controls_that_are_on_their_way_are_named() -> None:
    runs = RUNS.assign(test_accuracy=RUNS["test_accuracy"].where(RUNS["run"] != 5, 0.4 * RUNS["test_accuracy"]))
    card = ProgressScorecard("early").fit(runs)
    assert card.runs_["generalises"].values.sum() == 7
    assert "1 of 5 controls have left chance: they may generalise later, or never" in card.notes_
    runs["test_accuracy"][0] = 1.0
    assert any("; 1 without an onset ignored" in note for note in ProgressScorecard("early").fit(runs).notes_)


def test_a_given_place_may_use_the_future_and_is_noted() -> None:
    late = ProgressScorecard("early", at=60_000).fit(RUNS)
    assert of(late, "early")["auc_value"] == 0
    assert float(of(late, "early")["auc_value_p"]) == pytest.approx(2 / 495)  # of 12 over 4 labellings
    assert any("8 of 8 had left chance by then" in note for note in late.notes_)


def test_a_run_that_is_not_fitted_yet_has_no_change() -> None:
    runs = planted([2000.0, 9000, 9000, None, None], fit_end=[300.0, 5000, 300, 300, 5000])
    one = of(ProgressScorecard("clock").fit(runs), "clock")
    assert (one["auc_value_runs"], one["auc_value_controls"]) == (3, 2)
    assert (one["auc_change_runs"], one["auc_change_controls"]) == (2, 1)


def test_matched_by_the_end_of_fitting() -> None:
    ends = np.array([100.0, 200, 400, 100, 200, 800])
    runs = planted([5000, 5000, 5000, None, None, None], fit_end=ends, noise=0.01)
    by_step = of(ProgressScorecard("clock").fit(runs), "clock")
    by_fit = of(ProgressScorecard("clock", match="fit_end").fit(runs), "clock")
    assert by_step["auc_value"] == pytest.approx(0.5, abs=0.5)
    # At the same multiple of its own end of fitting the clock of a later run is lower: 1 - 6/9 pairs, one tie each.
    ranks = [(a < b) + 0.5 * (a == b) for a in ends[:3] for b in ends[3:]]
    assert float(by_fit["auc_value"]) == pytest.approx(np.mean(ranks), abs=0.12)


def test_runs_and_controls_are_read_at_one_step() -> None:
    """A clock falls alike in all runs; what differs is the grid of the records."""
    runs, controls = planted(ONSETS), planted([None] * 8, seed=1)
    whole = of(ProgressScorecard("clock").fit([runs, controls]), "clock")
    assert whole["separates_value"] == 0
    steps = STEPS[1::4]
    coarse = controls.sel(step=steps)
    card = ProgressScorecard("clock").fit([runs, coarse])
    one = of(card, "clock")
    assert any(n.startswith(f"read at step {float(one['read_at']):,.0f}, the last one that every") for n in card.notes_)
    assert one["read_at"] == steps[steps <= card.cut_][-1]  # not the last step of each group
    assert set(card.runs_["read_at"].sel(measure="clock").values) == {float(one["read_at"])}
    assert one["auc_value"] == pytest.approx(float(whole["auc_value"]), abs=0.25)
    assert one["separates_value"] == 0


def test_without_a_common_step_runs_and_controls_are_not_compared() -> None:
    runs, controls = planted(ONSETS), planted([None] * 8)
    shifted = controls.assign_coords(step=STEPS * 1.3 + 0.5)
    card = ProgressScorecard("clock").fit([runs, shifted])
    one = of(card, "clock")
    assert np.isnan(one["auc_value"])
    assert np.isnan(one["read_at"])
    assert one["separates_value"] == one["separates_change"] == -1
    assert any(n.startswith("not compared, no step near") and "clock" in n for n in card.notes_)
    sparse = controls.isel(step=slice(None, None, 12))  # no observation within .1 dex of a multiple of fit_end
    by_fit = of(ProgressScorecard("clock", match="fit_end", at=5.0).fit([runs, sparse]), "clock")
    assert by_fit["auc_value_controls"] == 0


def test_trends_are_compared_to_the_end_of_the_shortest_record() -> None:
    """The measure rises first and falls later, in runs and controls alike; the records of the controls end early."""
    runs, controls = planted(ONSETS), planted([None] * 4, seed=1)
    hill = xr.DataArray(-((X - 3.5) ** 2), {"step": STEPS}, ("step",))
    groups = [one.assign(hill=hill + 0 * one["clock"] + 0.001 * one["noisy"]) for one in (runs, controls)]
    groups[1] = groups[1].sel(step=slice(None, 3000))
    one = of(ProgressScorecard("hill").fit(groups), "hill")
    assert one["monotonicity"] < 0.6
    assert one["monotonicity_controls"] > 0.9
    assert one["monotonicity_common"] == pytest.approx(float(one["monotonicity_controls"]), abs=0.05)


def test_controls_that_move_after_the_last_onset_do_not_count() -> None:
    late = xr.DataArray(np.maximum(X - 4.7, 0), {"step": STEPS}, ("step",))
    runs, controls = planted(ONSETS), planted([None] * 4, seed=1)
    card = ProgressScorecard("early").fit([runs, controls.assign(early=controls["early"] + 20 * late)])
    assert (card.runs_["moved"].sel(measure="early").values[8:] == 1).all()
    assert of(card, "early")["n_controls_moved"] == 0  # the last run leaves chance at 30,000
    short = ProgressScorecard("early").fit([runs, controls.sel(step=slice(None, 20_000))])
    assert any(note.startswith("4 of 4 controls end before step 3") for note in short.notes_)


def test_few_runs_have_no_flag_and_few_groups_a_note() -> None:
    two = ProgressScorecard("early").fit([planted([3000.0, 9000]), planted([None, None])])
    assert of(two, "early")["separates_value"] == -1  # 2 against 2 reach 1/3 at best
    assert np.isfinite(of(two, "early")["auc_value"])
    four = [planted(ONSETS[:4]), planted(ONSETS[4:]), planted([None] * 4), planted([None] * 4)]
    card = ProgressScorecard("early").fit(four)
    assert of(card, "early")["separates_value"] >= 0
    assert any("2 groups that generalise against 2 of controls: with groups as units no p-value can be below 0.33" in n
               for n in card.notes_)  # fmt: skip


def test_monotone_transforms_change_no_rank(card: ProgressScorecard) -> None:
    moved = RUNS.assign(early=np.exp(RUNS["early"] / 3) + 5)
    one, other = of(card, "early"), of(ProgressScorecard("early").fit(moved), "early")
    for name in ("monotonicity", "monotonicity_upper", "loss_levels", "auc_value", "auc_value_p"):
        assert float(other[name]) == pytest.approx(float(one[name]), abs=1e-12)
    turned = of(ProgressScorecard("early").fit(RUNS.assign(early=5 - 2 * RUNS["early"])), "early")
    for name in ("monotonicity", "loss_changes", "direction"):
        assert float(turned[name]) == pytest.approx(-float(one[name]), abs=1e-12)
    for name in ("lead", "error", "gain"):
        assert float(turned[name]) == pytest.approx(float(one[name]), abs=1e-9)
    assert float(turned["auc_change"]) == pytest.approx(1 - float(one["auc_change"]))


def test_groups_may_have_other_steps_and_lengths(card: ProgressScorecard, tmp_path: Path) -> None:
    told, controls = RUNS.isel(run=slice(8)), RUNS.isel(run=slice(8, 12))
    names = ["early", "clock", "noisy", "test_loss", "train_loss"]
    parts = ProgressScorecard(names).fit([told, controls])
    for name in ("monotonicity", "auc_value", "lead", "error"):
        assert parts.scores_[name].values == pytest.approx(card.scores_[name].values, nan_ok=True)
    probe.save(told, tmp_path / "told.nc")
    short = controls.sel(step=slice(None, 40_000)).isel(step=slice(None, None, 2))
    other = ProgressScorecard("early").fit({"told": tmp_path / "told.nc", "controls": short})
    assert set(other.runs_["group"].values) == {"told", "controls"}
    assert float(of(other, "early")["lead"]) == pytest.approx(float(of(card, "early")["lead"]))
    arrays = {name: one.values for name, one in told.data_vars.items()} | {"step": STEPS}
    mapped = ProgressScorecard("early").fit({"told": arrays, "controls": short})
    assert float(of(mapped, "early")["auc_value"]) == float(of(other, "early")["auc_value"])
    frame = ProgressScorecard("early").fit(told.to_dataframe().reset_index(), [True] * 8)
    assert float(of(frame, "early")["error"]) == pytest.approx(float(of(card, "early")["error"]))


def test_runs_in_another_order_say_the_same(card: ProgressScorecard) -> None:
    order = np.random.default_rng(10).permutation(12)
    other = ProgressScorecard(["early", "clock", "noisy", "test_loss", "train_loss"]).fit(RUNS.isel(run=order))
    for name, values in card.scores_.data_vars.items():
        assert other.scores_[name].values == pytest.approx(values.values, nan_ok=True), name


def test_what_has_other_dimensions_becomes_several_measures() -> None:
    rng = np.random.default_rng(11)
    info = xr.DataArray(
        rng.normal(size=(12, len(STEPS), 2, 2)),
        {"split": ["train", "test"], "layer": ["a", "b"]},
        ("run", "step", "split", "layer"),
    )
    info[:, :, 0, 0] = np.nan
    series = RUNS.assign(
        information_x=info, information_x_se=info, broken=(("run", "step"), np.zeros((12, len(STEPS)), np.int8)),
        seconds=RUNS["clock"], flag=(RUNS["clock"] > 5).astype(float), same=0 * RUNS["clock"] + 3,
    )  # fmt: skip
    card = ProgressScorecard().fit(series)
    assert card.scores_["measure"].values.tolist() == [
        "early", "clock", "noisy", "information_x[train, b]", "information_x[test, a]", "information_x[test, b]",
        "test_loss", "train_loss",
    ]  # fmt: skip
    assert card.scores_["kind"].values.tolist() == ["measure"] * 6 + ["baseline"] * 2
    assert any("the same at all steps: same" in note for note in card.notes_)
    some = ProgressScorecard(["information_x", "clock"]).fit(series)
    assert some.scores_["kind"].values.tolist() == 4 * ["measure"] + 2 * ["baseline"]  # which stand there in any case


# --- little to go by -------------------------------------------------------------------------------------------------


def test_one_run_is_described() -> None:
    card = ProgressScorecard().fit(planted([5000.0]).isel(run=0))
    one, run = of(card, "early"), card.runs_.isel(run=0)
    inside = (run["fit_end"].item() <= STEPS) & (run["end"].item() >= STEPS)
    n, flat = inside.sum(), (inside & (STEPS < 5000 / 3)).sum()  # in noise pairs are as often one way as the other
    assert float(one["monotonicity"]) == pytest.approx(flat * (flat - 1) / (n * (n - 1)) - 1, abs=0.06)
    assert np.isfinite(one["lead"])
    flags = ("monotone", "tracks_loss", "separates_value", "separates_change", "leads", "gains", "predicts")
    assert {name: int(one[name]) for name in flags} == dict.fromkeys(flags, -1)
    assert any("1 run(s) that generalise: 3 are required" in note for note in card.notes_)
    assert any("no controls" in note for note in card.notes_)
    assert np.isnan(card.cut_)


def test_numbers_that_are_missing_have_a_flag() -> None:
    """The flag of a NaN is -1."""
    flags = {
        "monotonicity": "monotone", "loss_changes": "tracks_loss", "auc_value": "separates_value",
        "auc_change": "separates_change", "gain": "gains", "error": "gains",
    }  # fmt: skip
    for runs in (RUNS, planted(ONSETS), planted([4000.0, 5000]), planted([4000.0, None]).drop_vars("test_loss")):
        scores = ProgressScorecard().fit(runs).scores_
        for name, flag in flags.items():
            assert (scores[flag].values[np.isnan(scores[name].values)] == -1).all(), (name, flag)


def test_a_missing_test_loss_or_weight_norm_is_noted() -> None:
    card = ProgressScorecard("early").fit(RUNS.drop_vars("test_loss"))
    assert of(card, "early")["tracks_loss"] == -1
    assert any("no test loss" in note for note in card.notes_)
    assert any("weight_norm_total" in note for note in card.notes_)
    assert not any(
        "weight_norm" in note for note in ProgressScorecard().fit(RUNS.assign(weight_norm_total=RUNS["clock"])).notes_
    )


def test_a_measure_that_never_moves_is_censored_not_dropped() -> None:
    runs = planted(ONSETS)
    still = runs["early"].where(runs["run"] > 2, 10 + 0.05 * np.cos(40 * runs["step"]))
    one = of(ProgressScorecard("early").fit(runs.assign(early=still)), "early")
    assert (one["n_moved"], one["n_before"], one["n_predicted"]) == (5, 5, 5)
    assert one["lead_lower"] == -np.inf
    assert one["leads"] == 0


def test_runs_may_be_labelled_by_the_caller() -> None:
    labels = [True] * 8 + [False] * 4
    given = ProgressScorecard("early").fit(RUNS.drop_vars("test_accuracy"), labels)
    assert given.runs_["generalises"].values.tolist() == [int(one) for one in labels]
    assert any("no onset of generalisation was found" in note for note in given.notes_)
    groups = {"a": RUNS.isel(run=slice(8)), "b": RUNS.isel(run=slice(8, 12))}
    partly = ProgressScorecard("early").fit(groups, {"a": [True] * 7 + [False]})
    assert partly.runs_["generalises"].values.tolist() == [1] * 7 + [0] * 5


@pytest.mark.parametrize(
    ("parameters", "curves", "generalises", "message"),
    [
        ({"measures": "erly"}, RUNS, None, "got 'erly'; near names: early"),
        ({"measures": "early[train]"}, RUNS, None, r"Expected a measure in the curves, got 'early\[train\]'"),
        ({}, RUNS, [True] * 3, r"one per run \(12\), got bool of shape \(3,\)"),
        ({}, RUNS, [1] * 12, "got int64"),
        ({}, {"a": RUNS}, {"b": True}, r"Expected groups among \['a'\] in generalises, got \['b'\]"),
        ({}, planted([None, None]), None, "got none of 2; no test accuracy ends at 0.9 or above; pass generalises="),
        ({}, planted([4000.0], fit_end=1e9), None, "got none of 1; left out, without an end of fitting: 0"),
        ({}, RUNS.drop_vars("test_accuracy"), None, "Expected a test accuracy to label the runs that generalise"),
        ({}, [np.ones((3, 50))], None, "Expected a list of groups of runs"),
        ({"at": -1.0}, RUNS, None, "Expected at > 0"),
        ({"match": "epoch"}, RUNS, None, "Expected match='step' or 'fit_end', got 'epoch'"),
        ({"level": 95}, RUNS, None, "Expected level between 0 and 1, got 95"),
        ({"measures": "same"}, RUNS.assign(same=0 * RUNS["clock"] + 2), None, "Expected measures that change"),
    ],
)
def test_bad_input_is_refused(parameters: dict[str, Any], curves: Any, generalises: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ProgressScorecard(**parameters).fit(curves, generalises)


def test_estimator_contract(card: ProgressScorecard) -> None:
    assert clone(card).get_params() == card.get_params()
    with pytest.raises(NotFittedError):
        ProgressScorecard().table()
    renamed = RUNS.rename(step="epoch", test_accuracy="val_acc")
    other = ProgressScorecard("early", detector=PhaseDetector(axis="epoch", test_accuracy="val_acc")).fit(renamed)
    assert float(of(other, "early")["lead"]) == pytest.approx(float(of(card, "early")["lead"]))
    before = RUNS.copy(deep=True)
    ProgressScorecard().fit(RUNS)
    assert before.identical(RUNS)


def test_the_table_shows_what_was_found(card: ProgressScorecard) -> None:
    lines = card.table().splitlines()
    assert [line.split("  ")[0] for line in lines[1:6]] == [
        "early", "clock", "noisy", "test_loss (baseline)", "train_loss (baseline)"
    ]  # fmt: skip
    assert "8 of 8, down" in lines[1]
    assert "0 of 4" in lines[1]
    assert f"x{float(of(card, 'early')['lead_factor']):.2f}" in lines[1]
    assert sum(line.startswith("Note: ") for line in lines) == len(card.notes_)
    table = card.table(markdown=True).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert "Note" not in table[-1]


# --- recorded runs ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_recorded_runs_are_separated_as_they_were_before() -> None:
    """At step 20,000, with hindsight: the acceptance of claims has .98 for the fall (means of three, log ratios)."""
    names = ("division-97", "subtraction-96", "variants/control-shuffled", "variants/control-few")
    groups = {name: probe.load(RESULTS / f"{name}-probes.nc") for name in names}
    card = ProgressScorecard(["information_x[test, blocks.1]", "embedding_rms"], at=20_000).fit(groups)
    one = of(card, "information_x[test, blocks.1]")
    assert (one["n_runs"], one["n_controls"]) == (16, 8)
    assert float(one["auc_change"]) == pytest.approx(0.02, abs=0.04)
    before = ProgressScorecard(["information_x[test, blocks.1]"]).fit(groups)
    assert before.cut_ < 5000
    assert pd.notna(float(of(before, "information_x[test, blocks.1]")["auc_change"]))


# --- the page --------------------------------------------------------------------------------------------------------

DOCS = RESULTS.parents[1] / "docs"


def test_what_the_page_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec("".join(re.findall(r"```python\n(.*?)```", (DOCS / "progress.md").read_text(), re.S)), {})
    output = capsys.readouterr().out
    assert "information_x[test, blocks.1]" in output
    assert "multiple of fit_end" in output
