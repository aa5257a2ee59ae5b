"""EarlyWarning: planted warnings are found, and later observations change no alarm."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from probe import EarlyWarning
from probe.progress.alarms import best_threshold, loss_slope, weight_norm_growth
from probe.progress.runs import Curve, Run

STEPS = np.unique(np.logspace(0, 5, 121).round())
X = np.log10(STEPS + 1)


def sigmoid(step: float, width: float = 0.02) -> np.ndarray:
    """0 before this step, 1 after it."""
    return np.asarray(1 / (1 + np.exp(-(X - np.log10(step + 1)) / width)))


def planted(onsets: list[float | None], *, lead: float = 3.0, seed: int = 0) -> xr.Dataset:
    """``signal`` falls by 6 per decade from the onset over ``lead`` on, in controls not at all; fitting ends at 300."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[np.ndarray]] = {
        name: [] for name in ("train_accuracy", "test_accuracy", "test_loss", "signal", "weight_norm_total")
    }
    for onset in onsets:
        test = sigmoid(1.15 * onset) if onset else 0 * X
        fall = np.maximum(X - np.log10(onset / lead + 1), 0) if onset else 0 * X
        rows["train_accuracy"].append(sigmoid(250))
        rows["test_accuracy"].append(test)
        rows["test_loss"].append(5 - 4 * test + 0.2 * X)
        rows["signal"].append(10 - 6 * fall + 0.05 * rng.normal(size=len(X)))
        rows["weight_norm_total"].append(5 + X)
    coords = {"step": STEPS, "run": np.arange(len(onsets))}
    return xr.Dataset({name: (("run", "step"), np.array(row)) for name, row in rows.items()}, coords)


ONSETS: list[float | None] = [2000, 3000, 5000, 8000, 12000, 20000, 30000, 9000]
RUNS = planted([*ONSETS, None, None, None, None])


@pytest.fixture(scope="module")
def warning() -> EarlyWarning:
    return EarlyWarning("signal").fit(RUNS)


def test_planted_warnings_are_learnt(warning: EarlyWarning) -> None:
    one = warning.scores_.sel(rule="signal")
    assert (one["hits"], one["late"], one["misses"], one["false_alarms"]) == (8, 0, 0, 0)
    assert (one["n_runs"], one["n_controls"], one["auc"], one["separates"]) == (8, 4, 1, 1)
    assert float(one["auc_p"]) == pytest.approx(2 / 495)
    assert 0.15 < warning.threshold_ < 2.86  # above the noise, below the fall until the onset, 6 log10(3)
    # The alarm comes when the fall of 6 per decade has made the threshold.
    assert float(one["lead"]) == pytest.approx(np.log10(3) - warning.threshold_ / 6, abs=0.05)
    steps = warning.alarms_.sel(rule="signal")
    found = steps["generalisation_onset"] - steps["step"]
    assert float(one["lead_steps"]) == pytest.approx(float(found.mean()))
    assert warning.predict(RUNS)[8:] == pytest.approx(np.full(4, np.nan), nan_ok=True)


def test_rivals_that_know_only_the_time_alarm_in_controls(warning: EarlyWarning) -> None:
    assert warning.scores_["rule"].values.tolist() == [
        "signal", "multiple of fit_end", "slope of the test loss", "growth of the weight norm"
    ]  # fmt: skip
    for name in ("multiple of fit_end", "growth of the weight norm"):
        one = warning.scores_.sel(rule=name)
        assert one["auc"] == 0  # in controls time goes on
        assert one["false_alarms"] == 4
        assert float(one["false_alarm_rate_lower"]) == pytest.approx(stats.beta.ppf(0.025, 4, 1))
    one = warning.alarms_.sel(rule="multiple of fit_end", run="0")
    assert one["step"] > one["fit_end"]


def test_thresholds_come_from_the_other_runs(warning: EarlyWarning) -> None:
    """Another signal in one run changes the thresholds of all runs but its own."""
    changed = RUNS.copy(deep=True)
    changed["signal"][2] = changed["signal"][2] * 0 - X
    other = EarlyWarning("signal").fit(changed).alarms_.sel(rule="signal")["threshold"]
    same = warning.alarms_.sel(rule="signal")["threshold"]
    assert other[2] == same[2]
    assert (np.delete(other.values, 2) != np.delete(same.values, 2)).any()


def alarms_of_records_cut_at(places: str, rule: str, n_sustained: int) -> None:
    """Assert that a record cut early has no alarm, or the one of the whole record, from its step on."""
    sign = 1 if rule in ("drop", "below") else -1
    runs = RUNS.assign(signal=sign * RUNS["signal"]).isel(run=[0, 3, 9])
    threshold = {"drop": 1.0, "rise": 1.0, "below": 9.0, "above": -9.0}[rule]
    warning = EarlyWarning("signal", rule, threshold=threshold, n_sustained=n_sustained).fit(runs)
    whole = warning.predict(runs)
    assert np.isfinite(whole[:2]).all()
    assert np.isnan(whole[2])
    known = np.searchsorted(STEPS, whole[:2])  # a record of this length ends before the alarm
    cuts = np.concatenate([known, known + 1]) if places == "each alarm" else np.arange(55, len(STEPS))
    for n in cuts:
        so_far = warning.predict(runs.isel(step=slice(None, n)))
        expected = np.where(whole <= STEPS[n - 1], whole, np.nan)
        assert so_far == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("rule", ["drop", "rise", "below", "above"])
@pytest.mark.parametrize("n_sustained", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_future_changes_no_alarm(rule: str, n_sustained: int) -> None:
    alarms_of_records_cut_at("each alarm", rule, n_sustained)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["drop", "above"])
def test_the_future_changes_no_alarm_wherever_a_record_ends(rule: str) -> None:
    alarms_of_records_cut_at("each observation", rule, 3)


def test_other_futures_change_no_alarm(warning: EarlyWarning) -> None:
    alarms, rng = warning.predict(RUNS), np.random.default_rng(1)
    changed = RUNS.copy(deep=True)
    for name, run in product(("signal", "train_accuracy", "test_loss", "test_accuracy"), range(8)):
        future = alarms[run] < STEPS
        changed[name][run, future] = rng.uniform(size=future.sum())
    assert warning.predict(changed)[:8] == pytest.approx(alarms[:8])


def test_before_fitting_is_known_there_is_no_alarm() -> None:
    warning = EarlyWarning("signal", "above", threshold=-100.0).fit(RUNS)
    fitted = np.flatnonzero(RUNS["train_accuracy"].isel(run=0).values >= 0.99)[0]
    assert set(warning.predict(RUNS)) == {STEPS[fitted + 2]}  # the third observation in a row
    late = RUNS.assign(train_accuracy=0.5 * RUNS["train_accuracy"])
    assert np.isnan(warning.predict(late)).all()
    short = RUNS.isel(step=slice(None, 40))
    assert np.isnan(warning.predict(short.assign(signal=short["signal"] * np.nan))).all()


def test_an_alarm_that_comes_too_late_is_no_hit() -> None:
    runs = planted([*ONSETS, None, None], lead=0.5)  # the signal follows
    one = EarlyWarning("signal", threshold=1.0).fit(runs).scores_.sel(rule="signal")
    assert (one["hits"], one["late"], one["misses"]) == (0, 8, 0)
    assert np.isnan(one["lead"])
    never = EarlyWarning("signal", threshold=1e3).fit(runs).scores_.sel(rule="signal")
    assert (never["hits"], never["late"], never["misses"]) == (0, 0, 8)


def test_a_budget_beyond_the_record_of_a_control_is_reduced() -> None:
    """A control that ends early can give no false alarm later."""
    runs, controls = RUNS.isel(run=slice(8)), RUNS.isel(run=slice(8, None)).sel(step=slice(None, 20_000))
    found = EarlyWarning("signal", threshold=1.0, budget=50_000).fit([runs, controls])
    last = float(controls["step"][-1])
    assert found.budget_ == last
    assert any(note.startswith(f"budget {last:,.0f} instead of 50,000") for note in found.notes_)
    shorter = EarlyWarning("signal", threshold=1.0, budget=10_000).fit([runs, controls])
    assert shorter.budget_ == 10_000
    assert not any(note.startswith("budget") for note in shorter.notes_)


def test_false_alarms_count_within_the_budget() -> None:
    runs = RUNS.copy(deep=True)
    runs["signal"][8, STEPS > 40_000] = 0.0
    at_end, early = (EarlyWarning("signal", threshold=1.0, budget=budget).fit(runs) for budget in (None, 30_000))
    assert at_end.budget_ == STEPS[-1]
    assert [int(one.scores_.sel(rule="signal")["false_alarms"]) for one in (at_end, early)] == [1, 0]
    assert early.alarms_.sel(rule="signal", run="8")["status"] == "quiet"


def test_noise_tells_nothing() -> None:
    rng, hits, false = np.random.default_rng(2), 0, 0
    for _ in range(4):
        runs = RUNS.assign(signal=(("run", "step"), rng.normal(size=(12, len(STEPS)))))
        one = EarlyWarning("signal").fit(runs).scores_.sel(rule="signal")
        hits, false = hits + int(one["hits"]), false + int(one["false_alarms"])
    assert hits / 32 - false / 16 < 0.25


def test_the_area_is_that_of_the_largest_fall() -> None:
    rng = np.random.default_rng(3)
    runs = RUNS.assign(signal=RUNS["signal"] + np.cumsum(rng.normal(size=(12, len(STEPS))), axis=1))
    warning = EarlyWarning("signal").fit(runs)
    alarms = warning.alarms_.sel(rule="signal")
    most = []
    for run in range(12):
        curve = runs["signal"].values[run]
        first = int(np.searchsorted(STEPS, alarms["fit_end"].values[run]))
        onset = alarms["generalisation_onset"].values[run]
        last = int(np.searchsorted(STEPS, onset)) if np.isfinite(onset) else len(STEPS)
        most.append(max(curve[first] - curve[i] for i in range(first + 2, last)))
    assert float(warning.scores_.sel(rule="signal")["auc"]) == pytest.approx(roc_auc_score([1] * 8 + [0] * 4, most))


def test_rivals_are_what_they_are_called() -> None:
    loss, norm = np.random.default_rng(5).normal(size=len(X)) + 50, 3 + X
    curves = {"test_loss": Curve(STEPS, loss), "curves": {"weight_norm_total": Curve(STEPS, norm)}}
    nothing: dict[str, Any] = {"onset": np.nan, "before_onset": np.nan, "end": np.nan, "train_accuracy": None}
    run = Run("", "", True, fit_end=100.0, fit_known=120.0, last_step=STEPS[-1], **nothing, **curves)  # type: ignore[arg-type]
    found = loss_slope(run)
    for step, value in list(zip(*found, strict=True))[::7]:
        window = (np.log10(step + 1) - 0.25 <= X) & (step >= STEPS)
        assert value == pytest.approx(-np.polyfit(X[window], loss[window], 1)[0])
    assert found.steps[0] >= 120
    grown = weight_norm_growth(run)
    start = norm[STEPS <= 100][-1]
    assert grown.values == pytest.approx(norm[STEPS >= 120] / start - 1)


def test_best_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(4)
    for _ in range(30):
        runs, controls = rng.integers(8, size=5) + 1.0, rng.integers(8, size=4).astype(float)
        found = best_threshold(runs, controls)
        tried = np.arange(-1, 12, 0.25)
        gains = [(runs >= t).mean() - (controls >= t).mean() for t in tried]
        gain = (runs >= found).mean() - (controls >= found).mean()
        assert gain == pytest.approx(max(gains))
        lower = [t for t, one in zip(tried, gains, strict=True) if one > gain - 1e-12 and t < found]
        assert all((runs >= t).sum() == (runs >= found).sum() for t in lower)  # none lets more pass at the same gain
    assert best_threshold(np.array([3.0, 4]), np.array([1.0, 2])) == 2.5
    assert best_threshold(np.array([3.0, 4]), np.array([-np.inf, -np.inf])) == 3  # no observation is no alarm
    assert best_threshold(np.array([1.0, 1]), np.array([2.0, 2])) == -np.inf  # nothing gained: alarm at once


def test_a_group_left_out_teaches_nothing() -> None:
    """A threshold in units of one task fails on another."""
    one, two = planted([2000, 5000, 9000, None, None], seed=1), planted([3000, 7000, 20000, None, None], seed=2)
    groups = {"one": one, "two": two.assign(signal=two["signal"] * 5)}
    by_run, by_group = (EarlyWarning("signal", leave_out=by).fit(groups) for by in ("run", "group"))
    assert by_run.scores_.sel(rule="signal")["hits"] == 6
    thresholds = by_group.alarms_.sel(rule="signal")
    assert len(np.unique(thresholds["threshold"].values[:5])) == 1
    alone = EarlyWarning("signal").fit(groups["two"]).threshold_
    assert thresholds["threshold"].values[0] == pytest.approx(alone)
    assert by_group.scores_.sel(rule="signal")["hits"] < 6
    kinds = {"a": one.isel(run=slice(3)), "b": one.isel(run=slice(3, 5))}
    with pytest.raises(ValueError, match="runs of both kinds in the remaining groups"):
        EarlyWarning("signal", leave_out="group").fit(kinds)


@pytest.mark.parametrize(
    ("parameters", "curves", "message"),
    [
        ({"signal": "sinal"}, RUNS, "Expected a measure in the curves, got 'sinal'; near names: signal"),
        ({"rule": "fall"}, RUNS, "Expected a rule among .* got 'fall'"),
        ({"n_sustained": 0}, RUNS, "n_sustained >= 1"),
        ({"budget": 0.0}, RUNS, "budget > 0"),
        ({"leave_out": "seed"}, RUNS, "leave_out='run' or 'group', got 'seed'"),
        ({"level": 1.0}, RUNS, "level between 0 and 1"),
        ({}, RUNS.isel(run=slice(8)), r"Expected 2 runs or more that generalise and 2 controls, .* got 8 and 0"),
        ({}, RUNS.rename(train_accuracy="a"), "Expected a train accuracy, got none"),
        ({}, RUNS.assign(train_accuracy=RUNS["train_accuracy"] / 2), "Expected a run with an end of fitting, got none"),
    ],
)
def test_bad_input_is_refused(parameters: dict[str, Any], curves: xr.Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EarlyWarning(**({"signal": "signal"} | parameters)).fit(curves)


def test_a_signal_is_one_curve() -> None:
    layers = xr.concat([RUNS["signal"], RUNS["signal"] + 1], xr.DataArray(["a", "b"], dims="layer", name="layer"))
    with pytest.raises(ValueError, match=r"got 2 of 'info'; pass one of info\[a\], info\[b\]"):
        EarlyWarning("info").fit(RUNS.assign(info=layers))
    assert EarlyWarning("info[b]").fit(RUNS.assign(info=layers)).scores_.sel(rule="signal")["hits"] == 8


def test_runs_that_cannot_be_judged_are_left_out_and_named() -> None:
    runs = RUNS.copy(deep=True)
    runs["train_accuracy"][1] = 0.5
    runs["test_accuracy"][3] = 1.0  # from the start: it never leaves chance
    warning = EarlyWarning("signal").fit(runs)
    assert warning.alarms_["run"].values.tolist() == [str(i) for i in range(12) if i not in (1, 3)]
    assert "left out, without an end of fitting: 1" in warning.notes_
    assert "left out, without an onset of generalisation: 3" in warning.notes_


def test_estimator_contract(warning: EarlyWarning) -> None:
    assert clone(warning).get_params() == warning.get_params()
    with pytest.raises(NotFittedError):
        EarlyWarning().predict(RUNS)
    lines = warning.table().splitlines()
    assert lines[0].startswith("signal: drop, threshold ")
    assert "8 of 8" in lines[2]
    assert len(warning.table(markdown=True).splitlines()) == 6
    given = EarlyWarning("signal", threshold=1.0).fit(RUNS.isel(run=slice(8)))
    assert any("not compared" in note for note in given.notes_)
    assert given.scores_.sel(rule="signal")["separates"] == -1
