"""EarlyWarning: an alarm before generalisation, with a threshold that is learnt on some runs and tested on others."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from probe.phases.curves import Curves
from probe.phases.detector import PhaseDetector
from probe.progress.alarms import (
    Statistic,
    alarm_scores,
    alarm_table,
    best_threshold,
    loss_slope,
    sustained_change,
    time_since_fit,
    weight_norm_growth,
)
from probe.progress.runs import WEIGHT_NORM, Generalises, RecordedRuns, Run, one_measure, read_runs
from probe.progress.tables import warning_table

RULES = ("drop", "rise", "below", "above")
_OWN, _CLOCK, _SLOPE, _NORM = "signal", "multiple of fit_end", "slope of the test loss", "growth of the weight norm"
_LEAST = 2  # runs of each kind, so that one can be left out


class EarlyWarning(BaseEstimator):
    """Estimator of an alarm: raised when a signal, after the end of fitting, reaches a threshold.

    Parameters
    ----------
    signal : str
        A variable, or one of its curves, as :class:`probe.ProgressScorecard` names them:
        ``"information_x[test, blocks.1]"``.
    rule : "drop", "rise", "below" or "above"
        Quantity that is compared with the threshold: the fall or rise since the end of fitting, or the value.
    threshold : float, optional
        In units of the signal; by default it is learnt. For "drop" and "rise", the size of the change.
    n_sustained : int
        Observations in a row that must reach the threshold; the alarm is raised at the last of them.
    budget : float, optional
        Steps within which an alarm in a control counts as false; by default the end of the shortest record. It is
        reduced to the end of the shortest control, and a note in ``notes_`` records that.
    detector : PhaseDetector, optional
        Finds the markers; its roles name the curves. The end of fitting must come from a train accuracy, because the
        final train loss is known only after the run.
    generalises_at : float
        Test accuracy at the end of a run that generalises, see :class:`probe.ProgressScorecard`.
    level : float
        Coverage of the intervals.
    leave_out : "run" or "group"
        Runs without which the threshold of a run is learnt, in ``alarms_`` and ``scores_``: the run itself, or all runs
        of its group. "group" tests whether a threshold is valid for another task.

    Attributes
    ----------
    threshold_ : float
        Threshold learnt on all runs: largest share of hits minus share of false alarms; of several, the one with the
        earliest alarm. ``-inf`` (for "below" ``inf``) raises an alarm as soon as fitting has ended: the signal adds no
        information. ``inf`` (for "below" ``-inf``) never raises one.
    alarms_ : xarray.Dataset
        By (rule, run), with the threshold learnt on the *other* runs or groups: ``step`` (NaN without an alarm),
        ``threshold``, ``status`` ("hit" if before test accuracy leaves chance, "late", "miss"; for controls "false
        alarm", "quiet"), ``lead`` (dex) and ``lead_steps`` (NaN without a hit). By run: ``generalises``, ``group``,
        ``generalisation_onset``, ``fit_end``. The rule "signal" is this alarm. The other rules are baselines that need
        no probe: "multiple of fit_end", "slope of the test loss" (its fall per decade, over the last quarter of a
        decade) and "growth of the weight norm".
    scores_ : xarray.Dataset
        By rule: ``hits``, ``late``, ``misses``, ``false_alarms``, ``n_runs``, ``n_controls``; ``false_alarm_rate`` with
        ``_lower`` and ``_upper`` (Clopper and Pearson; NaN without controls); mean ``lead`` of the hits (dex) with
        ``lead_sd``, ``_lower``, ``_upper``, and ``lead_steps`` (NaN without hits); ``auc`` with ``auc_p`` (exact,
        two-sided) of the largest value reached before generalisation, in controls within the budget; its flag
        ``separates`` (1 yes, 0 no, -1 not measured).
    notes_ : list of str
        Assumptions, runs that were left out, and scores that could not be measured.

    See Also
    --------
    ProgressScorecard : Scores of several measures.

    Notes
    -----
    An alarm is raised only after three observations have established the end of fitting. It does not depend on later
    observations: ``predict`` on the first part of a record returns the same alarm as on the whole record.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import EarlyWarning
    >>> steps = np.unique(np.geomspace(1, 1e4, 60).round())
    >>> noise = 0.01 * np.random.default_rng(0).standard_normal((8, len(steps)))
    >>> onset = np.array([1000, 1300, 1700, 2000] + 4 * [np.inf])[:, None]  # the last four are controls
    >>> test = 1.0 * (steps >= onset)
    >>> fall = np.log10(np.maximum(3 * steps / onset, 1))  # begins at one third of the onset
    >>> curves = {
    ...     "train_accuracy": np.tile(steps >= 100, (8, 1)) * 1.0, "test_accuracy": test, "test_loss": 3 - test + noise,
    ...     "signal": 1 - fall + noise,
    ... }
    >>> curves = xr.Dataset({k: (("run", "step"), v) for k, v in curves.items()}, {"step": steps, "run": range(8)})
    >>> warning = EarlyWarning("signal", "drop").fit(curves)
    >>> one = warning.scores_.sel(rule="signal")
    >>> print(int(one["hits"]), int(one["false_alarms"]))
    4 0
    >>> bool((warning.predict(curves)[:4] < onset[:4, 0]).all())
    True
    """

    def __init__(
        self,
        signal: str = "information_x",
        rule: str = "drop",
        *,
        threshold: float | None = None,
        n_sustained: int = 1,
        budget: float | None = None,
        detector: PhaseDetector | None = None,
        generalises_at: float = 0.9,
        level: float = 0.95,
        leave_out: str = "run",
    ) -> None:
        self.signal = signal
        self.rule = rule
        self.threshold = threshold
        self.n_sustained = n_sustained
        self.budget = budget
        self.detector = detector
        self.generalises_at = generalises_at
        self.level = level
        self.leave_out = leave_out

    def fit(self, curves: Curves | PathLike[str] | str | Any, generalises: Generalises = None) -> Self:
        """Learn the threshold on all runs, and score the alarm of each run with a threshold from the other runs.

        Parameters
        ----------
        curves, generalises
            As for :meth:`probe.ProgressScorecard.fit`.

        Returns
        -------
        EarlyWarning

        Raises
        ------
        TypeError, ValueError
            If curves cannot be read, the signal is unknown, a parameter is out of range, or there are fewer than two
            runs that generalise or two controls, so that no threshold can be learnt.
        """
        self._check()
        recorded = self._read(curves, generalises)
        self.signal_ = one_measure(list(recorded.measures), self.signal)
        runs, self.notes_ = _judged(recorded)
        kinds = np.array([run.generalises for run in runs])
        enough = min(kinds.sum(), (~kinds).sum()) >= _LEAST
        if self.threshold is None and not enough:
            raise ValueError(
                f"Expected {_LEAST} runs or more that generalise and {_LEAST} controls, each with an end of fitting, "
                f"got {kinds.sum()} and {(~kinds).sum()}; add runs, or pass threshold="
            )
        shortest = min((run.last_step for run in runs if not run.generalises), default=np.inf)
        self.budget_ = min(run.last_step for run in runs) if self.budget is None else min(self.budget, shortest)
        if self.budget is not None and self.budget > shortest:
            self.notes_.append(
                f"budget {shortest:,.0f} instead of {self.budget:,.0f}: a record of a control ends there"
            )
        rules = self._rules(runs, with_baselines=enough)
        reached = {name: self._reached(rules[name], runs) for name in rules}
        others = self._others(runs)
        thresholds = {name: [self._learn(name, reached[name][i], kinds[i]) for i in others] for name in rules}
        self.threshold_ = self._sign * self._learn(_OWN, reached[_OWN], kinds)
        self.alarms_ = alarm_table(runs, rules, thresholds, self.budget_)
        self.alarms_["threshold"].loc[{"rule": _OWN}] *= self._sign
        self.scores_ = alarm_scores(self.alarms_, reached, self.level)
        if not enough:
            self.notes_.append(f"baselines are learnt from {_LEAST} runs or more of each kind: not compared")
        elif _NORM not in rules:
            self.notes_.append(f"no {WEIGHT_NORM} in every run: its growth is not among the baselines")
        return self

    def predict(self, curves: Curves | PathLike[str] | str | Any) -> np.ndarray:
        """Return the step of the alarm of each run.

        Parameters
        ----------
        curves
            Curves as for :meth:`fit`, with the signal; the runs may be in progress.

        Returns
        -------
        array of shape (run,)
            NaN if there is no alarm so far.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(self)
        recorded = self._read(curves, None, complete=False)
        signal = one_measure(list(recorded.measures), self.signal_)
        threshold = self._sign * self.threshold_
        statistics = [sustained_change(run, signal, self.rule, self.n_sustained) for run in recorded.runs]
        return np.array([one.alarm(threshold) for one in statistics])

    def table(self, *, markdown: bool = False) -> str:
        """Return a table with one line per rule, the threshold and the notes; the lines only if ``markdown``."""
        check_is_fitted(self)
        if markdown:
            return warning_table(self.scores_, [], markdown=True)
        head = f"{self.signal_}: {self.rule}, threshold {self.threshold_:.4g}, budget {self.budget_:,.0f} steps\n"
        return head + warning_table(self.scores_, self.notes_, markdown=False)

    def _check(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"Expected a rule among {RULES}, got {self.rule!r}; pass one of them")
        if self.leave_out not in ("run", "group"):
            raise ValueError(f"Expected leave_out='run' or 'group', got {self.leave_out!r}; pass one of them")
        if self.n_sustained < 1:
            raise ValueError(f"Expected n_sustained >= 1, got {self.n_sustained}; pass 1 or more observations")
        if self.budget is not None and not self.budget > 0:
            raise ValueError(f"Expected budget > 0 steps, got {self.budget}; pass None for the shortest record")
        for name in ("level", "generalises_at"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"Expected {name} between 0 and 1, got {getattr(self, name)}; pass a share such as 0.9"
                )

    @property
    def _sign(self) -> int:
        """Return -1 for "below", whose statistic is the signal with the sign reversed, and 1 for the other rules."""
        return -1 if self.rule == "below" else 1

    def _read(self, curves: Any, generalises: Generalises, *, complete: bool = True) -> RecordedRuns:
        recorded = read_runs(
            curves,
            generalises,
            detector=self.detector,
            measures=None if complete else self.signal_,
            level=self.generalises_at,
            complete=complete,
        )
        if any(run.train_accuracy is None for run in recorded.runs):
            raise ValueError(
                "Expected a train accuracy, got none (from a train loss, the end of fitting is known only after the "
                "run); pass detector=PhaseDetector(train_accuracy=...)"
            )
        return recorded

    def _rules(self, runs: Sequence[Run], *, with_baselines: bool) -> dict[str, list[Statistic]]:
        """Return the statistics by rule and run: of this alarm, and of the baselines that every run has."""
        found = {_OWN: [sustained_change(run, self.signal_, self.rule, self.n_sustained) for run in runs]}
        if with_baselines:
            found[_CLOCK] = [time_since_fit(run) for run in runs]
        if with_baselines and all(run.test_loss is not None for run in runs):
            found[_SLOPE] = [loss_slope(run) for run in runs]
        if with_baselines and all(WEIGHT_NORM in run.curves for run in runs):
            found[_NORM] = [weight_norm_growth(run) for run in runs]
        return found

    def _reached(self, statistics: Sequence[Statistic], runs: Sequence[Run]) -> np.ndarray:
        """Return the largest value before generalisation (run,); in controls, within the budget."""
        ends = [run.onset if run.generalises else np.nextafter(self.budget_, np.inf) for run in runs]
        return np.array([one.highest(end) for one, end in zip(statistics, ends, strict=True)])

    def _learn(self, name: str, reached: np.ndarray, kinds: np.ndarray) -> float:
        if name == _OWN and self.threshold is not None:
            return self._sign * self.threshold
        return best_threshold(reached[kinds], reached[~kinds])

    def _others(self, runs: Sequence[Run]) -> np.ndarray:
        """Return for each run the runs that its threshold is learnt on: bool (run, run)."""
        if self.leave_out == "run":
            return ~np.eye(len(runs), dtype=bool)
        groups, kinds = np.array([run.group for run in runs]), np.array([run.generalises for run in runs])
        others = groups[:, None] != groups
        if self.threshold is None and not ((others & kinds).any(axis=1) & (others & ~kinds).any(axis=1)).all():
            raise ValueError(
                "Expected runs of both kinds in the remaining groups when one group is left out, got "
                f"{dict(zip(groups.tolist(), kinds.tolist(), strict=True))}; add groups, or pass leave_out='run'"
            )
        return others


def _judged(recorded: RecordedRuns) -> tuple[list[Run], list[str]]:
    """Return the runs with an end of fitting and, if they generalise, an onset; and notes on the other runs."""
    without = {
        "an end of fitting": [run for run in recorded.runs if np.isnan(run.fit_end)],
        "an onset of generalisation": [
            run for run in recorded.runs if run.generalises and np.isnan(run.onset) and not np.isnan(run.fit_end)
        ],
    }
    notes = [
        f"left out, without {what}: {', '.join(run.name or 'the run' for run in runs)}"
        for what, runs in without.items()
        if runs
    ]
    out = {id(run) for runs in without.values() for run in runs}
    kept = [run for run in recorded.runs if id(run) not in out]
    if not kept:
        raise ValueError("Expected a run with an end of fitting, got none; record longer runs. " + "; ".join(notes))
    return kept, [*recorded.notes, *notes]
