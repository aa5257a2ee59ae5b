"""EarlyWarning: an alarm during training that generalisation is coming, learnt on runs and judged on runs left out."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from probe.phases.curves import Curves
from probe.phases.detector import PhaseDetector
from probe.progress.alarms import Statistic, alarm_table, best_threshold, clock, growth, moved, score, slope
from probe.progress.runs import WEIGHT_NORM, Generalises, Reading, Run, one_measure, read_runs
from probe.progress.tables import warning_table

RULES = ("drop", "rise", "below", "above")
_OWN, _CLOCK, _SLOPE, _NORM = "signal", "multiple of fit_end", "slope of the test loss", "growth of the weight norm"
_LEAST = 2  # runs of each kind, so that one can be left out


class EarlyWarning(BaseEstimator):
    """Give alarm when a signal, after fitting has ended, goes as far as it goes in runs that are about to generalise.

    Parameters
    ----------
    signal : str
        A variable, or one of its curves, as :class:`probe.ProgressScorecard` names them:
        ``"information_x[test, blocks.1]"``.
    rule : "drop", "rise", "below" or "above"
        What is compared with the threshold: the fall or rise since the end of fitting, or the value itself.
    threshold : float, optional
        In units of the signal; None learns it. Of "drop" and "rise" the size of the change, so above 0 as a rule.
    n_sustained : int
        Observations in a row that must be beyond the threshold; the alarm comes at the last of them.
    budget : float, optional
        Steps within which an alarm in a control counts as false; None takes the end of the shortest record of all runs.
    detector : PhaseDetector, optional
        Where the markers come from, with the names of the roles; None takes the defaults. Fitting must have ended by a
        train accuracy: what a train loss ends at is known only afterwards.
    generalises_at : float
        Test accuracy at the end of a run that generalises, see :class:`probe.ProgressScorecard`.
    level : float
        Level of the intervals.
    leave_out : "run" or "group"
        What a run's threshold is learnt without, in ``alarms_`` and ``scores_``: itself, or all runs of its group. The
        second asks whether a threshold holds for another task.

    Attributes
    ----------
    threshold_ : float
        Learnt on all runs: the one with the largest share of hits less the share of false alarms, of several the one
        that gives alarm earliest. ``-inf`` (for "below" ``inf``): alarm as soon as fitting has ended; the signal tells
        nothing more. ``inf``: never.
    alarms_ : xarray.Dataset
        By (rule, run), each with the threshold learnt on the *other* runs or groups: ``step`` (NaN: no alarm),
        ``threshold``, ``status`` ("hit": before test accuracy leaves chance; "late", "miss"; of controls "false alarm",
        "quiet"), ``lead`` (dex) and ``lead_steps`` (NaN unless a hit). By run: ``generalises``, ``group``,
        ``generalisation_onset``, ``fit_end``. The rule "signal" is this one; beside it stand the rivals that need no
        probe: "multiple of fit_end", "slope of the test loss" (its fall per decade, over the last quarter of one) and
        "growth of the weight norm".
    scores_ : xarray.Dataset
        By rule: ``hits``, ``late``, ``misses``, ``false_alarms``, ``n_runs``, ``n_controls``; ``false_alarm_rate`` with
        ``_lower`` and ``_upper`` (Clopper and Pearson; NaN without controls); mean ``lead`` of the hits (dex) with
        ``lead_sd``, ``_lower``, ``_upper``, and ``lead_steps`` (NaN without hits); ``auc`` with ``auc_p`` (exact,
        two-sided) of the largest value reached before generalisation, in controls within the budget; its flag
        ``separates`` (1 yes, 0 no, -1 not measured).
    notes_ : list of str
        What was assumed, left out, or cannot be told.

    Notes
    -----
    An alarm is never given before three observations have shown that fitting has ended, and rests on nothing after it:
    ``predict`` on the record so far gives the same alarm as on the whole.
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
        """Learn the threshold, and judge it on each run with what the others teach.

        Parameters
        ----------
        curves, generalises
            As :meth:`probe.ProgressScorecard.fit` takes them.

        Raises
        ------
        TypeError, ValueError
            For curves that cannot be read, an unknown signal, parameters out of range, or runs that cannot teach a
            threshold: it takes two that generalise and two controls.
        """
        self._check()
        reading = self._read(curves, generalises)
        self.signal_ = one_measure(list(reading.measures), self.signal)
        runs, self.notes_ = _judged(reading)
        kinds = np.array([run.generalises for run in runs])
        teach = min(kinds.sum(), (~kinds).sum()) >= _LEAST
        if self.threshold is None and not teach:
            raise ValueError(
                f"expected {_LEAST} runs or more that generalise and {_LEAST} controls, each with an end of fitting, "
                f"got {kinds.sum()} and {(~kinds).sum()}; add runs, or pass threshold="
            )
        self.budget_ = min(run.last_step for run in runs) if self.budget is None else float(self.budget)
        rules = self._rules(runs, with_rivals=teach)
        reached = {name: self._reached(rules[name], runs) for name in rules}
        others = self._others(runs)
        thresholds = {name: [self._learn(name, reached[name][i], kinds[i]) for i in others] for name in rules}
        self.threshold_ = self._sign * self._learn(_OWN, reached[_OWN], kinds)
        self.alarms_ = alarm_table(runs, rules, thresholds, self.budget_)
        self.alarms_["threshold"].loc[{"rule": _OWN}] *= self._sign
        self.scores_ = score(self.alarms_, reached, self.level)
        if not teach:
            self.notes_.append(f"rivals are learnt from {_LEAST} runs or more of each kind: not compared")
        elif _NORM not in rules:
            self.notes_.append(f"no {WEIGHT_NORM} in every run: its growth is not among the rivals")
        return self

    def predict(self, curves: Curves | PathLike[str] | str | Any) -> np.ndarray:
        """Step of the alarm by run (run,); NaN: none so far. Curves as in :meth:`fit`, with the signal by its name."""
        check_is_fitted(self)
        reading = self._read(curves, None, complete=False)
        signal = one_measure(list(reading.measures), self.signal_)
        threshold = self._sign * self.threshold_
        return np.array([moved(run, signal, self.rule, self.n_sustained).alarm(threshold) for run in reading.runs])

    def table(self, *, markdown: bool = False) -> str:
        """A line for each rule; with the threshold and the notes, unless ``markdown``."""
        check_is_fitted(self)
        if markdown:
            return warning_table(self.scores_, [], markdown=True)
        head = f"{self.signal_}: {self.rule}, threshold {self.threshold_:.4g}, budget {self.budget_:,.0f} steps\n"
        return head + warning_table(self.scores_, self.notes_, markdown=False)

    def _check(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"expected a rule among {RULES}, got {self.rule!r}")
        if self.leave_out not in ("run", "group"):
            raise ValueError(f"expected leave_out 'run' or 'group', got {self.leave_out!r}")
        if self.n_sustained < 1:
            raise ValueError(f"expected n_sustained from 1 on, got {self.n_sustained}")
        if self.budget is not None and not self.budget > 0:
            raise ValueError(f"expected a budget above 0 steps, got {self.budget}; None takes the shortest record")
        for name in ("level", "generalises_at"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"expected {name} between 0 and 1, got {getattr(self, name)}")

    @property
    def _sign(self) -> int:
        """Thresholds of "below" in units of the signal are those of the statistic turned round."""
        return -1 if self.rule == "below" else 1

    def _read(self, curves: Any, generalises: Generalises, *, complete: bool = True) -> Reading:
        reading = read_runs(
            curves,
            generalises,
            detector=self.detector,
            measures=None if complete else self.signal_,
            level=self.generalises_at,
            complete=complete,
        )
        if any(run.train_accuracy is None for run in reading.runs):
            raise ValueError(
                "expected a train accuracy, got none: by a train loss alone the end of fitting is known only "
                "afterwards; name it in the detector"
            )
        return reading

    def _rules(self, runs: Sequence[Run], *, with_rivals: bool) -> dict[str, list[Statistic]]:
        """By rule and run: its own, and those of the rivals that every run has."""
        found = {_OWN: [moved(run, self.signal_, self.rule, self.n_sustained) for run in runs]}
        if with_rivals:
            found[_CLOCK] = [clock(run) for run in runs]
        if with_rivals and all(run.test_loss is not None for run in runs):
            found[_SLOPE] = [slope(run) for run in runs]
        if with_rivals and all(WEIGHT_NORM in run.curves for run in runs):
            found[_NORM] = [growth(run) for run in runs]
        return found

    def _reached(self, statistics: Sequence[Statistic], runs: Sequence[Run]) -> np.ndarray:
        """Largest value before generalisation, in controls within the budget: (run,)."""
        ends = [run.onset if run.generalises else np.nextafter(self.budget_, np.inf) for run in runs]
        return np.array([one.highest(end) for one, end in zip(statistics, ends, strict=True)])

    def _learn(self, name: str, reached: np.ndarray, kinds: np.ndarray) -> float:
        if name == _OWN and self.threshold is not None:
            return self._sign * self.threshold
        return best_threshold(reached[kinds], reached[~kinds])

    def _others(self, runs: Sequence[Run]) -> np.ndarray:
        """Which runs teach the threshold of each run: bool (run, run)."""
        if self.leave_out == "run":
            return ~np.eye(len(runs), dtype=bool)
        groups, kinds = np.array([run.group for run in runs]), np.array([run.generalises for run in runs])
        others = groups[:, None] != groups
        if self.threshold is None and not ((others & kinds).any(axis=1) & (others & ~kinds).any(axis=1)).all():
            raise ValueError(
                "expected runs of both kinds in the groups that are left when one is left out, got "
                f"{dict(zip(groups.tolist(), kinds.tolist(), strict=True))}; add groups, or pass leave_out='run'"
            )
        return others


def _judged(reading: Reading) -> tuple[list[Run], list[str]]:
    """Runs with an end of fitting and, if they generalise, an onset; and what was left out."""
    without = {
        "an end of fitting": [run for run in reading.runs if np.isnan(run.fit_end)],
        "an onset of generalisation": [
            run for run in reading.runs if run.generalises and np.isnan(run.onset) and not np.isnan(run.fit_end)
        ],
    }
    notes = [
        f"left out, without {what}: {', '.join(run.name or 'the run' for run in runs)}"
        for what, runs in without.items()
        if runs
    ]
    out = {id(run) for runs in without.values() for run in runs}
    kept = [run for run in reading.runs if id(run) not in out]
    if not kept:
        raise ValueError("expected a run with an end of fitting, got none; " + "; ".join(notes))
    return kept, [*reading.notes, *notes]
