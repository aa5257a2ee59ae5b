"""Scores of measures: of each run, and over all runs that generalise and controls."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.phases.markers.departures import departure
from probe.progress.runs import EMPTY_CURVE, Curve, Run
from probe.stats.inference import (
    LEAST_RUNS,
    Estimate,
    Separation,
    change_correlation,
    least_p_value,
    leave_one_out,
    mean_interval,
    median_interval,
    separation,
    tau_b,
)

# Largest distance in dex of the observation that is read from the place of the comparison: of an observation of one run
# (log-spaced records have 12 in a decade), and of an observation that all runs have in common.
_NEAR, _COMMON_NEAR = 0.1, 0.25
_NO_ESTIMATE = (np.nan, np.nan, np.nan)
# Variables by run, and the field of Run that each comes from.
_OF_RUN = {"fit_end": "fit_end", "generalisation_onset": "onset", "end": "end", "last_step": "last_step"}


def run_scores(
    runs: Sequence[Run], measures: Sequence[str], *, place: Callable[[Run], float], same_step: bool, n_sd: float
) -> xr.Dataset:
    """Return the scores by (run, measure); NaN and -1 if a run lacks a measure.

    Parameters
    ----------
    runs : sequence of Run
        Runs with an end of fitting.
    measures : sequence of str
        Names of the measures.
    place : callable
        Step at which a run is compared with others; NaN if it is not compared.
    same_step : bool
        Read all runs at the last step up to their place that all of them observed. Otherwise, read each run at its last
        observation up to its own place.
    n_sd : float
        Half width of the noise band of :func:`probe.phases.departure`.

    Returns
    -------
    xarray.Dataset
        ``measured``, ``moved`` (flags); ``monotonicity``, ``monotonicity_common``, ``loss_levels``, ``loss_changes``
        (tau-b); ``read_at`` (step), ``value`` at this step, and ``change`` from the end of fitting to it (NaN before
        the end of fitting); ``onset`` (step) and ``direction``; ``lead_low`` and ``lead_high``, bounds of the lead in
        dex, equal if both onsets were found. By run: ``fit_end``, ``generalisation_onset``, ``end``, ``last_step``,
        ``generalises``, ``group``.
    """
    shortest = min(run.last_step for run in runs)
    columns = []
    for name in measures:
        curves = [run.curves.get(name, EMPTY_CURVE) for run in runs]
        steps = _read_steps(runs, curves, place, same_step=same_step)
        every = zip(runs, curves, steps, strict=True)
        columns.append([_of_run(run, curve, step, shortest, n_sd) for run, curve, step in every])
    variables: dict[str, Any] = {
        key: (("run", "measure"), np.array([[one[key] for one in column] for column in columns]).T)
        for key in columns[0][0]
    }
    variables |= {name: ("run", np.array([getattr(run, key) for run in runs])) for name, key in _OF_RUN.items()}
    variables["generalises"] = ("run", np.array([run.generalises for run in runs], dtype=np.int8))
    variables["group"] = ("run", [run.group for run in runs])
    return xr.Dataset(variables, {"run": [run.name for run in runs], "measure": list(measures)})


def _read_steps(
    runs: Sequence[Run], curves: Sequence[Curve], place: Callable[[Run], float], *, same_step: bool
) -> np.ndarray:
    """Return the step at which each run is read (run,); NaN if its record ends before its place, or without a step."""
    places = np.array([place(run) for run in runs])
    reach = np.array([at <= run.last_step for at, run in zip(places, runs, strict=True)])  # False for NaN
    if not same_step:
        steps = np.array([curve.before(at) for curve, at in zip(curves, places, strict=True)])
        return np.where(reach & _is_near(steps, places, _NEAR), steps, np.nan)
    compared = [i for i, curve in enumerate(curves) if reach[i] and len(curve.steps)]
    observed = [set(curves[i].steps[curves[i].steps <= places[i]].tolist()) for i in compared]
    step = max(set.intersection(*observed), default=np.nan) if observed else np.nan
    steps = np.array([step if i in compared else np.nan for i in range(len(runs))])
    return np.where(_is_near(steps, places, _COMMON_NEAR), steps, np.nan)


def _is_near(steps: np.ndarray, places: np.ndarray, dex: float) -> np.ndarray:
    """Return whether steps lie within this distance before their places; False for NaN."""
    return np.asarray(np.log10((places + 1) / (steps + 1)) <= dex)


def _of_run(run: Run, curve: Curve, step: float, shortest: float, n_sd: float) -> dict[str, Any]:
    inside = curve.between(run.fit_end, run.window_end if run.generalises else run.last_step)
    value, then = (curve.until(step) if np.isfinite(step) else np.nan), curve.until(run.fit_end)
    return {
        "measured": np.int8(len(curve.values) > 0),
        "monotonicity": tau_b(*inside),
        "monotonicity_common": tau_b(*curve.between(run.fit_end, shortest)),
        "read_at": step,
        "loss_levels": _with_loss(inside, run.test_loss, changes=False),
        "loss_changes": _with_loss(inside, run.test_loss, changes=True),
        "value": value,
        "change": value - then if step > run.fit_end else np.nan,
        **_lead_of_run(run, curve, n_sd),
    }


def _lead_of_run(run: Run, curve: Curve, n_sd: float) -> dict[str, Any]:
    """Return the onset of the measure, and its lead over the onset of generalisation."""
    marker, side = departure(*curve, run.fit_end, n_sd=n_sd)
    moved, timed = marker.status == "found", marker.status != "undefined"
    lead = np.log10(run.onset + 1) - np.log10(marker.step + 1)
    at_most = np.log10(run.onset + 1) - np.log10(run.last_step + 1)  # the measure may move after the record
    return {
        "onset": marker.step,
        "moved": np.int8(moved if timed else -1),
        "direction": side,
        "lead_low": lead if moved else -np.inf,
        "lead_high": lead if moved else at_most if timed else np.nan,
    }


def _with_loss(curve: Curve, loss: Curve | None, *, changes: bool) -> float:
    """Return the rank correlation with the test loss at the common steps."""
    if loss is None:
        return np.nan
    steps, a, b = np.intersect1d(curve.steps, loss.steps, return_indices=True)
    pair = curve.values[a], loss.values[b]
    return change_correlation(steps, *pair) if changes else tau_b(*pair)


def measure_scores(one: xr.Dataset, level: float) -> dict[str, Any]:
    """Return all scores of one measure.

    Parameters
    ----------
    one : xarray.Dataset
        :func:`run_scores` of one measure.
    level : float
        Coverage of the intervals; tests have the size ``1 - level``.
    """
    generalising, controls = one.isel(run=one["generalises"].values == 1), one.isel(run=one["generalises"].values == 0)
    last_onset = generalising["generalisation_onset"].max().item()
    horizon = np.inf if np.isnan(last_onset) else last_onset
    tau, levels, changes = (
        mean_interval(generalising[key].values, level) for key in ("monotonicity", "loss_levels", "loss_changes")
    )
    return {
        "n_runs": int(generalising["measured"].sum()),
        "n_controls": int(controls["measured"].sum()),
        **_named("monotonicity", tau),
        "monotone": tau.differs,
        "monotonicity_common": mean_interval(generalising["monotonicity_common"].values, level).value,
        "monotonicity_controls": mean_interval(controls["monotonicity_common"].values, level).value,
        **_named("loss_levels", levels),
        **_named("loss_changes", changes),
        "tracks_loss": changes.differs,
        **_separation("value", generalising, controls, level),
        **_separation("change", generalising, controls, level),
        **(lead := _lead_over_runs(generalising, level)),
        "n_controls_moved": int(((controls["moved"] == 1) & (controls["onset"] <= horizon)).sum()),
        **_prediction(generalising, level, lead["leads"]),
    }


def _separation(kind: str, generalising: xr.Dataset, controls: xr.Dataset, level: float) -> dict[str, Any]:
    found = separation(generalising[kind].values, controls[kind].values, level=level)
    name = f"auc_{kind}"
    return {
        name: found.auc,
        f"{name}_lower": found.lower,
        f"{name}_upper": found.upper,
        f"{name}_p": found.p_value,
        f"{name}_runs": found.n_runs,
        f"{name}_controls": found.n_controls,
        f"separates_{kind}": separates(found, level),
    }


def separates(found: Separation, level: float) -> np.int8:
    """Return the flag 1 if the p-value is at most ``1 - level``, 0 if not, -1 if no data of these numbers could be."""
    if np.isnan(found.auc) or least_p_value(found.n_runs, found.n_controls) > 1 - level:
        return np.int8(-1)
    return np.int8(found.p_value <= 1 - level)


def _lead_over_runs(generalising: xr.Dataset, level: float) -> dict[str, Any]:
    timed = generalising.isel(run=np.isfinite(generalising["lead_high"].values))  # with an onset of generalisation
    lead = median_interval(timed["lead_low"].values, timed["lead_high"].values, level)
    moved = timed["moved"].values == 1
    onset, last = timed["generalisation_onset"].values, timed["last_step"].values
    at_least = np.where(moved, onset - timed["onset"].values, -np.inf)
    at_most = np.where(moved, at_least, onset - last)
    sides = generalising["direction"].values[generalising["moved"].values == 1]
    return {
        **_named("lead", lead),
        "leads": lead.positive,
        "lead_factor": 10**lead.value,
        "lead_steps": median_interval(at_least, at_most, level).value,
        "n_moved": len(sides),
        "n_before": int((timed["lead_low"].values > 0).sum()),
        "direction": float(sides.mean()) if len(sides) else np.nan,
    }


def _prediction(generalising: xr.Dataset, level: float, leads: np.int8) -> dict[str, Any]:
    onset, fit_end, truth = (
        np.log10(generalising[key].values + 1) for key in ("onset", "fit_end", "generalisation_onset")
    )
    known = np.isfinite(onset) & np.isfinite(truth)
    errors, gain = _NO_ESTIMATE, Estimate(*_NO_ESTIMATE, int(known.sum()))
    if known.sum() >= LEAST_RUNS:
        own, fit, constant = (leave_one_out(clock[known], truth[known]) for clock in (onset, fit_end, 0 * truth))
        errors, gain = (float(own.mean()), float(fit.mean()), float(constant.mean())), mean_interval(fit - own, level)
    return {
        "n_predicted": int(known.sum()),
        **dict(zip(("error", "error_fit_end", "error_constant"), errors, strict=True)),
        **_named("gain", gain),
        "gains": gain.positive,
        "predicts": np.int8(0 if 0 in (gain.positive, leads) else min(gain.positive, leads)),
    }


def _named(name: str, found: Estimate) -> dict[str, Any]:
    return {name: found.value, f"{name}_lower": found.lower, f"{name}_upper": found.upper}
