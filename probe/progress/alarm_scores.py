"""Alarms of each run under each rule, and what they are worth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from probe.progress.alarms import Statistic
from probe.progress.runs import Run
from probe.progress.statistics import mean_interval, separation


def alarm_table(
    runs: Sequence[Run],
    rules: Mapping[str, Sequence[Statistic]],
    thresholds: Mapping[str, Sequence[float]],
    budget: float,
) -> xr.Dataset:
    """Alarms by (rule, run), as :class:`probe.EarlyWarning` has them; thresholds by rule are (run,)."""
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


def score(alarms: xr.Dataset, reached: Mapping[str, np.ndarray], level: float) -> xr.Dataset:
    """Scores by rule, as :class:`probe.EarlyWarning` has them.

    Parameters
    ----------
    alarms : xarray.Dataset
        Of :func:`alarm_table`.
    reached : mapping of str to array of shape (run,)
        By rule: the largest value of its statistic before generalisation, in controls within the budget.
    level : float
        Of the intervals and of the test.
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
    reached = np.maximum(reached, reached[np.isfinite(reached)].min(initial=0.0) - 1)  # no observation: the lowest
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
        "separates": np.int8(-1 if np.isnan(split.auc) else split.p_value <= 1 - level),
    }


def _share_interval(count: int, n: int, level: float) -> tuple[float, float]:
    if not n:
        return np.nan, np.nan
    found = stats.binomtest(count, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)
