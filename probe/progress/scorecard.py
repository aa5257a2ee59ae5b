"""ProgressScorecard: trend, relation to the test loss, separation from controls, lead and prediction of measures."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from probe.phases.curves import Curves
from probe.phases.detector import PhaseDetector
from probe.progress.runs import WEIGHT_NORM, Generalises, RecordedRuns, Run, read_runs
from probe.progress.scores import measure_scores, run_scores
from probe.progress.tables import scorecard_table
from probe.stats.inference import LEAST_RUNS, least_p_value


class ProgressScorecard(BaseEstimator):
    """Estimator of scores of progress measures, from runs that generalise and controls that only fit.

    Parameters
    ----------
    measures : str or list of str, optional
        Names of variables, or of one of their curves: ``"information_x"``, ``"information_x[train, blocks.1]"``. By
        default, every float variable except accuracies, ``seconds`` and error bars (``_se``, ``_lower``, ``_upper``,
        ``_ceiling``). The baselines (test loss, train loss and ``weight_norm_total``) are always included.
    detector : PhaseDetector, optional
        Finds the markers; its roles name the curves. By default, a detector with default parameters.
    level : float
        Coverage of all intervals. A flag is 1 if the interval excludes no effect, or if ``p <= 1 - level``.
    at : float, optional
        Place at which runs and controls are compared: a step, or with ``match="fit_end"`` a multiple of the end of
        fitting. By default, the last place before the first onset of generalisation, so that the comparison does not
        use the future.
    match : "step" or "fit_end"
        Compare at the same step, or at the same multiple of each run's own end of fitting.
    generalises_at : float
        A run generalises if its test accuracy ends at this share or above (median of the last three observations). A
        run whose record ends before it generalises counts as a control, unless ``fit(generalises=...)`` labels it.
    n_sd : float
        A measure departs once it lies beyond ``n_sd`` standard deviations of its noise, three observations in a row.

    Attributes
    ----------
    scores_ : xarray.Dataset
        By ``measure``, over the runs that generalise, or over the controls if the name contains "controls":

        - ``monotonicity``: mean over runs of Kendall's tau-b against the step, from the end of fitting to the end of
          generalisation (or of the record); flag ``monotone``. ``monotonicity_common`` and ``monotonicity_controls``:
          the same for runs and for controls, to the end of the shortest record of all.
        - ``loss_levels``, ``loss_changes``: tau-b with the test loss in the same window, of the values and of their
          changes; flag ``tracks_loss``, of the changes.
        - ``auc_value``, ``auc_change``: area under the ROC curve of runs against controls, of the value at the matched
          place and of its change since the end of fitting; above 0.5, the number is larger in runs that generalise.
          ``_p`` is the exact two-sided p-value; flags ``separates_value``, ``separates_change``, which are -1 if no
          data of these numbers of runs can reach ``1 - level`` (:func:`probe.stats.least_p_value`);
          ``auc_change_runs`` and ``auc_change_controls`` count the runs and controls in the comparison. ``read_at`` is
          the step at which all of them were read: the last one, up to the place, that each of them observed. Without
          such a step within 0.25 dex they are not compared. It is NaN with ``match="fit_end"``, where each run is read
          within 0.1 dex of its own place, or not compared.
        - ``lead`` (dex), ``lead_factor``, ``lead_steps``: median lead of the onset of the measure
          (:func:`probe.phases.departure`) over the onset of generalisation; flag ``leads``. Runs in which the measure
          never departs are censored. ``n_moved`` runs depart, ``n_before`` of them before generalisation;
          ``n_controls_moved`` controls depart up to the last onset of generalisation of a run.
        - ``error`` (dex): mean error of the onset of generalisation, predicted for each run from the other runs as a
          constant multiple of the onset of the measure; ``error_fit_end``: as a constant multiple of the end of
          fitting, in the same runs; ``error_constant``: as the mean of the other runs; ``gain``:
          ``error_fit_end - error``; flags ``gains``, and ``predicts`` (gains and leads).

        ``_lower`` and ``_upper`` are the ends of the interval over runs. Flags: 1 yes, 0 no, -1 not measured. If a
        flag is -1, its numbers or their interval are NaN.
    runs_ : xarray.Dataset
        The same by (run, measure), with ``generalises``, ``group``, ``fit_end``, ``generalisation_onset``, ``end``.
    cut_ : float
        Place at which runs and controls were compared; NaN if they were not compared.
    notes_ : list of str
        Assumptions, runs that were left out, and scores that could not be measured.

    See Also
    --------
    EarlyWarning : An alarm on one signal during training.

    Notes
    -----
    Runs of one task and one setting are not independent samples of all tasks, and no p-value corrects for that. The
    scores compare *these* runs with *these* controls, including every other difference between the two sets.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import ProgressScorecard
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
    >>> card = ProgressScorecard("signal").fit(curves)
    >>> one = card.scores_.sel(measure="signal")
    >>> print(int(one["n_runs"]), int(one["n_controls"]), int(one["n_before"]), float(one["auc_change"]))
    4 4 4 0.0
    """

    def __init__(
        self,
        measures: str | Sequence[str] | None = None,
        *,
        detector: PhaseDetector | None = None,
        level: float = 0.95,
        at: float | None = None,
        match: str = "step",
        generalises_at: float = 0.9,
        n_sd: float = 3.0,
    ) -> None:
        self.measures = measures
        self.detector = detector
        self.level = level
        self.at = at
        self.match = match
        self.generalises_at = generalises_at
        self.n_sd = n_sd

    def fit(self, curves: Curves | PathLike[str] | str | Any, generalises: Generalises = None) -> Self:
        """Compute the scores of all measures.

        Parameters
        ----------
        curves : path, Dataset, DataFrame, mapping of arrays; or a list or a mapping of them
            As for :meth:`PhaseDetector.fit`. Several of them are groups of runs, whose steps and lengths may differ.
        generalises : bool for each run, or mapping of str to bool, optional
            Labels in the order of the runs, or by group. By default, the test accuracy decides.

        Returns
        -------
        ProgressScorecard

        Raises
        ------
        TypeError, ValueError
            If curves cannot be read, measures are unknown, a parameter is out of range, or no run that generalises has
            an end of fitting.
        """
        self._check()
        recorded = read_runs(
            curves,
            generalises,
            detector=self.detector,
            measures=self.measures,
            level=self.generalises_at,
            beside_baselines=True,
        )
        runs, notes = _usable(recorded)
        if not any(run.generalises for run in runs):
            raise ValueError(
                f"Expected a run that generalises and has an end of fitting, got none of {len(recorded.runs)}; "
                + ("; ".join(notes) or f"no test accuracy ends at {self.generalises_at:g} or above")
                + "; pass generalises= to label the runs"
            )
        self.cut_, why = self._cut(runs)
        self.runs_ = run_scores(
            runs, list(recorded.measures), place=self._place, same_step=self.match == "step", n_sd=self.n_sd
        )
        self.scores_ = self._scores(recorded)
        self.notes_ = [*recorded.notes, *notes, *why, *self._of_comparison(), *self._limits(recorded)]
        return self

    def table(self, *, markdown: bool = False) -> str:
        """Return a table with one line per measure, baselines last, and the notes (not with ``markdown``)."""
        check_is_fitted(self)
        return scorecard_table(self.scores_, [] if markdown else self.notes_, markdown=markdown)

    def _check(self) -> None:
        for name in ("level", "generalises_at"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"Expected {name} between 0 and 1, got {getattr(self, name)}; pass a share such as 0.9"
                )
        if self.match not in ("step", "fit_end"):
            raise ValueError(f"Expected match='step' or 'fit_end', got {self.match!r}; pass one of them")
        if self.at is not None and not self.at > 0:
            raise ValueError(
                f"Expected at > 0 ({self.match}), got {self.at}; pass None for the place before the first onset"
            )

    def _cut(self, runs: Sequence[Run]) -> tuple[float, list[str]]:
        """Return the matched place, and a note on its choice or on why there is none."""
        if all(run.generalises for run in runs):
            return np.nan, ["no controls: the separation of runs that generalise from controls is not measured"]
        where = "step {:,.0f}" if self.match == "step" else "{:.3g} times the end of fitting"
        if self.at is not None:
            onsets = [run.onset / self._unit(run) for run in runs if run.generalises and run.onset > 0]
            late = sum(onset <= self.at for onset in onsets)
            future = f"; {late} of {len(onsets)} had left chance by then, so this uses the future" if late else ""
            return self.at, [f"compared at {where.format(self.at)}{future}"]
        before = [run.before_onset / self._unit(run) for run in runs if run.generalises]
        known = [place for place in before if np.isfinite(place)]
        if not known:
            return np.nan, ["no onset of generalisation was found, so runs and controls are not compared; pass at="]
        ignored = f"; {len(before) - len(known)} without an onset ignored" if len(known) < len(before) else ""
        cut = min(known)
        return cut, [f"compared at {where.format(cut)}, before the first run that generalises has left chance{ignored}"]

    def _place(self, run: Run) -> float:
        return self.cut_ * self._unit(run)

    def _unit(self, run: Run) -> float:
        return run.fit_end if self.match == "fit_end" else 1.0

    def _scores(self, recorded: RecordedRuns) -> xr.Dataset:
        rows = [measure_scores(self.runs_.sel(measure=name), self.level) for name in recorded.measures]
        kinds = ["baseline" if name in recorded.baselines else "measure" for name in recorded.measures]
        order = sorted(range(len(rows)), key=lambda i: kinds[i] == "baseline")
        names = [list(recorded.measures)[i] for i in order]
        variables = {key: ("measure", np.array([rows[i][key] for i in order])) for key in rows[0]}
        coords = {"measure": names, "kind": ("measure", [kinds[i] for i in order])}
        variables["read_at"] = ("measure", np.array([self._read_at(list(recorded.measures)[i]) for i in order]))
        scores = xr.Dataset(variables, coords, {"level": self.level, "cut": self.cut_, "match": self.match})
        for key in scores.data_vars:
            if str(key).startswith(("lead", "error", "gain")):
                scores[key].attrs["units"] = "steps" if "steps" in str(key) else "1" if "factor" in str(key) else "dex"
        return scores

    def _read_at(self, measure: str) -> float:
        """Return the step at which all runs were read, or NaN."""
        steps = np.unique(self.runs_["read_at"].sel(measure=measure).dropna("run").values)
        return float(steps[0]) if len(steps) == 1 and self.match == "step" else np.nan

    def _of_comparison(self) -> list[str]:
        """Return notes on the comparison of runs with controls."""
        generalises, lines = self.runs_["generalises"].values == 1, []
        if np.isfinite(self.cut_) and self.match == "step":
            at = self.scores_["read_at"]
            for step in np.unique(at.values[at.values != self.cut_]):  # NaN once, at the end
                names = ", ".join(at["measure"].values[(at.values == step) | (np.isnan(at.values) & np.isnan(step))])
                lines.append(
                    f"read at step {step:,.0f}, the last one that every run observed: {names}"
                    if np.isfinite(step)
                    else f"not compared, no step near {self.cut_:,.0f} was observed in every run: {names}"
                )
        onset = self.runs_["generalisation_onset"].values[generalises].max(initial=-np.inf, where=self._has_onset())
        short = int((self.runs_["last_step"].values[~generalises] < onset).sum())
        if short:
            lines.append(f"{short} of {(~generalises).sum()} controls end before step {onset:,.0f}, the last onset")
        groups = [len(set(self.runs_["group"].values[kind].tolist())) for kind in (generalises, ~generalises)]
        if sum(groups) > 2 and all(groups) and (least := least_p_value(*groups)) > 1 - self.level:
            lines.append(
                f"{groups[0]} groups that generalise against {groups[1]} of controls: with groups as units no p-value "
                f"can be below {least:.2g}, so the p-values, of runs, hold for these groups only"
            )
        return lines

    def _has_onset(self) -> np.ndarray:
        return np.isfinite(self.runs_["generalisation_onset"].values[self.runs_["generalises"].values == 1])

    def _limits(self, recorded: RecordedRuns) -> list[str]:
        """Return notes on scores that could not be measured, or that are unreliable."""
        generalises = self.runs_["generalises"].values == 1
        lines = []
        if generalises.sum() < LEAST_RUNS:
            lines.append(f"{generalises.sum()} run(s) that generalise: {LEAST_RUNS} are required for an interval")
        if not any(np.isfinite(self.runs_["loss_levels"].values).ravel()):
            lines.append("no test loss in the window: the relation to the test loss is not measured")
        if np.isnan(self.runs_["generalisation_onset"].values[generalises]).all():
            lines.append("no onset of generalisation was found: leads are not measured")
        partly = np.isfinite(self.runs_["generalisation_onset"].values[~generalises]).sum()
        if partly:
            lines.append(
                f"{partly} of {(~generalises).sum()} controls have left chance: they may generalise later, or never"
            )
        if WEIGHT_NORM not in recorded.measures.values():
            lines.append(f"no {WEIGHT_NORM}: the norm of the weights, the simplest baseline, was not recorded")
        n = len(recorded.measures)
        if n > 1:
            lines.append(f"{n} measures: without any effect, {n * (1 - self.level):.2g} of them would pass each test")
        return lines


def _usable(recorded: RecordedRuns) -> tuple[list[Run], list[str]]:
    """Return the runs with an end of fitting, and a note on the others."""
    without = [run.name or "the run" for run in recorded.runs if np.isnan(run.fit_end)]
    notes = [f"left out, without an end of fitting: {', '.join(without)}"] if without else []
    return [run for run in recorded.runs if not np.isnan(run.fit_end)], notes
