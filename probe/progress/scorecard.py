"""ProgressScorecard: is a measure a progress measure? Trend, relation to the test loss, controls, lead, prediction."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from probe.phases.curves import Curves
from probe.phases.detector import PhaseDetector
from probe.progress.runs import WEIGHT_NORM, Generalises, Reading, Run, read_runs
from probe.progress.scores import by_run, over_runs
from probe.progress.tables import scorecard_table
from probe.stats.inference import LEAST_RUNS


class ProgressScorecard(BaseEstimator):
    """Judge measures by runs that generalise and by controls that only fit.

    Parameters
    ----------
    measures : str or list of str, optional
        Names of variables, or of one of their curves: ``"information_x"``, ``"information_x[train, blocks.1]"``. None
        takes every float variable but accuracies, ``seconds`` and error bars (``_se``, ``_lower``, ``_upper``,
        ``_ceiling``). Test loss, train loss and ``weight_norm_total``, the baselines, are judged in any case.
    detector : PhaseDetector, optional
        Where the markers come from, with the names of the roles; None takes the defaults.
    level : float
        Level of all intervals; a flag is 1 where the interval leaves "nothing" out, or ``p <= 1 - level``.
    at : float, optional
        Where runs and controls are compared: a step, or with ``match="fit_end"`` a multiple of the end of fitting. None
        takes the last place before any run that generalises has left chance, so that no look into the future helps.
    match : "step" or "fit_end"
        Compare at the same step, or at the same multiple of each run's own end of fitting.
    generalises_at : float
        A run generalises if its test accuracy ends at this share or above (median of the last three observations). A
        run whose record ends too early to generalise counts as a control: then say so in ``fit(generalises=...)``.
    k : float
        A measure has moved once it is beyond ``k`` standard deviations of its noise, three observations in a row.

    Attributes
    ----------
    scores_ : xarray.Dataset
        By ``measure``, over the runs that generalise unless "controls" is said:

        - ``monotonicity``: Kendall's tau-b against the step, from the end of fitting to the end of generalisation (of
          the record, if that came first), mean over runs; ``monotonicity_controls``: over controls, to the end of their
          records; flag ``monotone``.
        - ``loss_levels``, ``loss_changes``: tau-b with the test loss in the same window, of the values and of their
          changes; flag ``tracks_loss``, of the changes.
        - ``auc_value``, ``auc_change``: area under the curve for runs against controls, of the value at the matched
          place and of its change since the end of fitting; above .5: larger in runs that generalise. With exact
          two-sided ``_p``; flags ``separates_value``, ``separates_change``; ``auc_change_runs`` and ``_controls`` that
          it is of.
        - ``lead`` (dex), ``lead_factor``, ``lead_steps``: median of how far the measure's own onset
          (:func:`probe.phases.departure`) comes before that of generalisation; flag ``leads``. Runs in
          which the measure never moved count as bounds. ``n_moved``, ``n_before`` (of these, before generalisation),
          ``n_controls_moved``.
        - ``error`` (dex): mean error of the onset of generalisation, predicted in each run from the others as a
          constant multiple of the measure's onset; ``error_fit_end``: as a constant multiple of the end of fitting, in
          the same runs; ``error_constant``: as the mean of the others; ``gain``: ``error_fit_end - error``;
          flags ``gains``, and ``predicts`` (gains and leads).

        ``_lower`` and ``_upper`` are ends of the interval over runs. Flags: 1 yes, 0 no, -1 not measured; where a flag
        is -1, its numbers or their interval are NaN.
    runs_ : xarray.Dataset
        The same by (run, measure), with ``generalises``, ``group``, ``fit_end``, ``generalisation_onset``, ``end``.
    cut_ : float
        Where runs and controls were compared; NaN if they were not.
    notes_ : list of str
        What was assumed, left out, or cannot be told.

    Notes
    -----
    Runs of one task and one setting share more than chance; no p-value here knows of that. It answers whether *these*
    runs differ from *these* controls, in whatever respect the two sets were made differently.
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
        k: float = 3.0,
    ) -> None:
        self.measures = measures
        self.detector = detector
        self.level = level
        self.at = at
        self.match = match
        self.generalises_at = generalises_at
        self.k = k

    def fit(self, curves: Curves | PathLike[str] | str | Any, generalises: Generalises = None) -> Self:
        """Judge all measures.

        Parameters
        ----------
        curves : path, Dataset, DataFrame, mapping of arrays; or a list or a mapping of such
            As for :meth:`PhaseDetector.fit`. Several are groups of runs whose steps and lengths may differ.
        generalises : bool for each run, or mapping of str to bool, optional
            Whether a run generalises, in the order of the runs, or by group; None goes by the test accuracy.

        Raises
        ------
        TypeError, ValueError
            For curves that cannot be read, unknown measures, parameters out of range, or if no run that generalises
            has an end of fitting.
        """
        self._check()
        reading = read_runs(
            curves,
            generalises,
            detector=self.detector,
            measures=self.measures,
            level=self.generalises_at,
            beside_baselines=True,
        )
        runs, notes = _usable(reading)
        if not any(run.generalises for run in runs):
            raise ValueError(
                f"expected a run that generalises and has an end of fitting, got none of {len(reading.runs)}; "
                + ("; ".join(notes) or f"no test accuracy ends at {self.generalises_at:g} or above: pass generalises=")
            )
        self.cut_, why = self._cut(runs)
        self.runs_ = by_run(runs, list(reading.measures), place=lambda run: self.cut_ * self._unit(run), k=self.k)
        self.scores_ = self._scores(reading)
        self.notes_ = [*reading.notes, *notes, *why, *self._limits(reading)]
        return self

    def table(self, *, markdown: bool = False) -> str:
        """A line for each measure, baselines last; with the notes, unless ``markdown``."""
        check_is_fitted(self)
        return scorecard_table(self.scores_, [] if markdown else self.notes_, markdown=markdown)

    def _check(self) -> None:
        for name in ("level", "generalises_at"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"expected {name} between 0 and 1, got {getattr(self, name)}")
        if self.match not in ("step", "fit_end"):
            raise ValueError(f"expected match 'step' or 'fit_end', got {self.match!r}")
        if self.at is not None and not self.at > 0:
            raise ValueError(f"expected at > 0 ({self.match}), got {self.at}; None finds it")

    def _cut(self, runs: Sequence[Run]) -> tuple[float, list[str]]:
        """The matched place, and why there is none or what it rests on."""
        if all(run.generalises for run in runs):
            return np.nan, ["no controls: whether a measure tells runs that generalise from others is not measured"]
        where = "step {:,.0f}" if self.match == "step" else "{:.3g} times the end of fitting"
        if self.at is not None:
            onsets = [run.onset / self._unit(run) for run in runs if run.generalises and run.onset > 0]
            late = sum(onset <= self.at for onset in onsets)
            said = f"; {late} of {len(onsets)} had left chance by then: a look into the future" if late else ""
            return self.at, [f"compared at {where.format(self.at)}{said}"]
        before = [run.before_onset / self._unit(run) for run in runs if run.generalises]
        known = [place for place in before if np.isfinite(place)]
        if not known:
            return np.nan, ["no onset of generalisation, so no place before it to compare at: pass at="]
        aside = f"; {len(before) - len(known)} without an onset left aside" if len(known) < len(before) else ""
        cut = min(known)
        return cut, [f"compared at {where.format(cut)}, before the first run that generalises has left chance{aside}"]

    def _unit(self, run: Run) -> float:
        return run.fit_end if self.match == "fit_end" else 1.0

    def _scores(self, reading: Reading) -> xr.Dataset:
        rows = [over_runs(self.runs_.sel(measure=name), self.level) for name in reading.measures]
        kinds = ["baseline" if name in reading.baselines else "measure" for name in reading.measures]
        order = sorted(range(len(rows)), key=lambda i: kinds[i] == "baseline")
        names = [list(reading.measures)[i] for i in order]
        variables = {key: ("measure", np.array([rows[i][key] for i in order])) for key in rows[0]}
        coords = {"measure": names, "kind": ("measure", [kinds[i] for i in order])}
        scores = xr.Dataset(variables, coords, {"level": self.level, "cut": self.cut_, "match": self.match})
        for key in scores.data_vars:
            if str(key).startswith(("lead", "error", "gain")):
                scores[key].attrs["units"] = "steps" if "steps" in str(key) else "1" if "factor" in str(key) else "dex"
        return scores

    def _limits(self, reading: Reading) -> list[str]:
        """What cannot be told, or not be trusted."""
        told = self.runs_["generalises"].values == 1
        lines = []
        if told.sum() < LEAST_RUNS:
            lines.append(f"{told.sum()} run(s) that generalise: {LEAST_RUNS} are needed for an interval")
        if not any(np.isfinite(self.runs_["loss_levels"].values).ravel()):
            lines.append("no test loss in the window: the relation to it is not measured")
        if np.isnan(self.runs_["generalisation_onset"].values[told]).all():
            lines.append("no onset of generalisation was found: leads are not measured")
        partly = np.isfinite(self.runs_["generalisation_onset"].values[~told]).sum()
        if partly:
            lines.append(f"{partly} of {(~told).sum()} controls have left chance: on their way, or stuck above it")
        if WEIGHT_NORM not in reading.measures.values():
            lines.append(f"no {WEIGHT_NORM}: the norm of the weights, the plainest rival, was not recorded")
        n = len(reading.measures)
        if n > 1:
            lines.append(f"{n} measures: of as many that tell nothing, {n * (1 - self.level):.2g} would pass each test")
        return lines


def _usable(reading: Reading) -> tuple[list[Run], list[str]]:
    """Runs with an end of fitting, and which were left out."""
    without = [run.name or "the run" for run in reading.runs if np.isnan(run.fit_end)]
    said = [f"left out, without an end of fitting: {', '.join(without)}"] if without else []
    return [run for run in reading.runs if not np.isnan(run.fit_end)], said
