"""Alarm statistics that depend on the past only, the choice of a threshold, and the scores of alarms."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from probe.progress.runs import EMPTY_CURVE, WEIGHT_NORM, Curve, Run
from probe.progress.scores import separates
from probe.stats.inference import mean_interval, separation

_SLOPE_WINDOW = 0.25 + 1e-9  # decades; the second term keeps an observation at the edge in spite of rounding


class Statistic(NamedTuple):
    """A statistic at each step (n,): an alarm is raised where it reaches a threshold; it depends on the past only."""

    steps: np.ndarray
    values: np.ndarray

    def alarm(self, threshold: float) -> float:
        """Return the first step at or above the threshold, or NaN."""
        over = np.flatnonzero(self.values >= threshold)
        return float(self.steps[over[0]]) if len(over) else np.nan

    def highest(self, before: float) -> float:
        """Return the largest value before a step, or minus infinity without an observation."""
        return float(self.values[self.steps < before].max(initial=-np.inf))


def _after_fit(run: Run, curve: Curve) -> Curve:
    """Return the observations from the step on at which the end of fitting is known."""
    if np.isnan(run.fit_known):
        return EMPTY_CURVE
    return curve.between(run.fit_known, np.inf)


def sustained_change(run: Run, signal: str, rule: str, n_sustained: int) -> Statistic:
    """Return the change since the end of fitting, or the value, that ``n_sustained`` observations in a row reach.

    For "drop" and "below" the sign is reversed, so that an alarm is an upward crossing for all rules.
    """
    curve = run.curves.get(signal, EMPTY_CURVE)
    steps, values = _after_fit(run, curve)
    origin = curve.until(run.fit_end) if rule in ("drop", "rise") else 0.0
    if np.isnan(origin) or len(steps) < n_sustained:
        return Statistic(*EMPTY_CURVE)
    sign = 1 if rule in ("rise", "above") else -1
    windows = np.lib.stride_tricks.sliding_window_view(sign * (values - origin), n_sustained)
    return Statistic(steps[n_sustained - 1 :], windows.min(axis=1))


def time_since_fit(run: Run) -> Statistic:
    """Return log10 of the step over the end of fitting, at each observation of the train accuracy."""
    steps = _after_fit(run, run.train_accuracy).steps if run.train_accuracy is not None else np.empty(0)
    return Statistic(steps, np.log10((steps + 1) / (run.fit_end + 1)))


def loss_slope(run: Run) -> Statistic:
    """Return the fall of the test loss per decade: least squares over the last quarter of a decade."""
    steps, loss = run.test_loss or EMPTY_CURVE
    x = np.log10(steps + 1)
    first = np.searchsorted(x, x - _SLOPE_WINDOW)
    known = np.flatnonzero(np.arange(len(x)) - first >= 2)  # three observations
    y = loss - loss.mean() if len(loss) else loss
    sums = np.pad(np.cumsum([np.ones_like(x), x, y, x * x, x * y], axis=1), ((0, 0), (1, 0)))
    n, sx, sy, sxx, sxy = sums[:, known + 1] - sums[:, first[known]]
    return Statistic(*_after_fit(run, Curve(steps[known], -(n * sxy - sx * sy) / (n * sxx - sx**2))))


def weight_norm_growth(run: Run) -> Statistic:
    """Return the relative rise of the norm of the weights since the end of fitting."""
    norm = run.curves[WEIGHT_NORM]
    steps, values = _after_fit(run, norm)
    return Statistic(steps, values / norm.until(run.fit_end) - 1)


def best_threshold(runs: np.ndarray, controls: np.ndarray) -> float:
    """Return the threshold with the largest difference of the shares of runs and of controls at or above it.

    Of several such thresholds, the lowest is returned. A threshold lies in the middle between two values. Minus
    infinity raises an alarm at once, infinity never. A value of minus infinity is a run without an observation.
    """
    values = np.unique(np.concatenate([runs, controls]))
    values = values[np.isfinite(values)]
    tried = np.array([-np.inf, *values[:1], *(values[1:] + values[:-1]) / 2, np.inf])
    gains = [(runs >= threshold).mean() - (controls >= threshold).mean() for threshold in tried]
    return float(tried[int(np.argmax(gains))])


def alarm_table(
    runs: Sequence[Run],
    rules: Mapping[str, Sequence[Statistic]],
    thresholds: Mapping[str, Sequence[float]],
    budget: float,
) -> xr.Dataset:
    """Return ``EarlyWarning.alarms_`` by (rule, run); the thresholds of each rule have the shape (run,)."""
    rows = [
        [
            _alarm(run, one.alarm(threshold), threshold, budget)
            for run, one, threshold in zip(runs, rules[name], thresholds[name], strict=True)
        ]
        for name in rules
    ]
    variables: dict[str, Any] = {
        key: (("rule", "run"), np.array([[one[key] for one in row] for row in rows])) for key in rows[0][0]
    }
    for name, key in (("fit_end", "fit_end"), ("generalisation_onset", "onset"), ("group", "group")):
        variables[name] = ("run", np.array([getattr(run, key) for run in runs]))
    variables["generalises"] = ("run", np.array([run.generalises for run in runs], dtype=np.int8))
    return xr.Dataset(variables, {"rule": list(rules), "run": [run.name for run in runs]})


def _alarm(run: Run, step: float, threshold: float, budget: float) -> dict[str, Any]:
    status = _status(run, step, budget)
    hit = status == "hit"
    return {
        "step": step,
        "threshold": threshold,
        "status": status,
        "lead": np.log10((run.onset + 1) / (step + 1)) if hit else np.nan,
        "lead_steps": run.onset - step if hit else np.nan,
    }


def _status(run: Run, alarm: float, budget: float) -> str:
    if run.generalises:
        return "miss" if np.isnan(alarm) else "hit" if alarm < run.onset else "late"
    return "false alarm" if alarm <= budget else "quiet"


def alarm_scores(alarms: xr.Dataset, reached: Mapping[str, np.ndarray], level: float) -> xr.Dataset:
    """Return ``EarlyWarning.scores_``, the scores by rule.

    Parameters
    ----------
    alarms : xarray.Dataset
        From :func:`alarm_table`.
    reached : mapping of str to array of shape (run,)
        By rule, the largest value of the statistic before generalisation; in controls, within the budget.
    level : float
        Coverage of the intervals; the test has the size ``1 - level``.
    """
    kinds = alarms["generalises"].values == 1
    rows = [_score(alarms.sel(rule=name), reached[name], kinds, level) for name in reached]
    return xr.Dataset({key: ("rule", np.array([row[key] for row in rows])) for key in rows[0]}, {"rule": list(reached)})


def _score(alarms: xr.Dataset, reached: np.ndarray, kinds: np.ndarray, level: float) -> dict[str, Any]:
    hits, late, misses, wrong = (
        int((alarms["status"] == word).sum()) for word in ("hit", "late", "miss", "false alarm")
    )
    n_controls = int((~kinds).sum())
    low, high = _share_interval(wrong, n_controls, level)
    leads, steps = (alarms[key].values[alarms["status"].values == "hit"] for key in ("lead", "lead_steps"))
    lead = mean_interval(leads, level)
    reached = np.maximum(
        reached, reached[np.isfinite(reached)].min(initial=0.0) - 1
    )  # without an observation: below all others
    split = separation(reached[kinds], reached[~kinds], level=level)
    return {
        "hits": hits,
        "late": late,
        "misses": misses,
        "n_runs": int(kinds.sum()),
        "false_alarms": wrong,
        "n_controls": n_controls,
        "false_alarm_rate": wrong / n_controls if n_controls else np.nan,
        "false_alarm_rate_lower": low,
        "false_alarm_rate_upper": high,
        "lead": lead.value,
        "lead_lower": lead.lower,
        "lead_upper": lead.upper,
        "lead_sd": float(leads.std(ddof=1)) if hits > 1 else np.nan,
        "lead_steps": float(steps.mean()) if hits else np.nan,
        "auc": split.auc,
        "auc_p": split.p_value,
        "separates": separates(split, level),
    }


def _share_interval(count: int, n: int, level: float) -> tuple[float, float]:
    if not n:
        return np.nan, np.nan
    found = stats.binomtest(count, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)
