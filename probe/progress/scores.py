"""What each run says of each measure, before runs are put together."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.phases.markers.departures import departure
from probe.progress.runs import NOTHING, Curve, Run
from probe.stats.inference import (
    LEAST_RUNS,
    Estimate,
    change_correlation,
    leave_one_out,
    mean_interval,
    median_interval,
    separation,
    tau_b,
)

_NO_ESTIMATE = (np.nan, np.nan, np.nan)

_OF_RUN = {"fit_end": "fit_end", "generalisation_onset": "onset", "end": "end", "last_step": "last_step"}


def by_run(runs: Sequence[Run], measures: Sequence[str], *, place: Callable[[Run], float], k: float) -> xr.Dataset:
    """Numbers by (run, measure); NaN and -1 where a run lacks a measure.

    Parameters
    ----------
    runs, measures
        With an end of fitting; by name.
    place
        The step at which a run is compared with others, NaN if it is not.
    k
        As :func:`probe.phases.departure` takes it.

    Returns
    -------
    xarray.Dataset
        ``measured``, ``moved`` (flags); ``monotonicity``, ``loss_levels``, ``loss_changes`` (tau-b); ``value`` at the
        place and ``change`` there since the end of fitting (NaN before it); ``onset`` (step) and ``direction``;
        ``lead_low`` and ``lead_high``, bounds of the lead in dex: equal if both onsets were found. By run:
        ``fit_end``, ``generalisation_onset``, ``end``, ``last_step``, ``generalises``, ``group``.
    """
    rows = [[_of_run(run, run.curves.get(name, NOTHING), place(run), k) for name in measures] for run in runs]
    variables: dict[str, Any] = {
        key: (("run", "measure"), np.array([[one[key] for one in row] for row in rows])) for key in rows[0][0]
    }
    variables |= {name: ("run", np.array([getattr(run, key) for run in runs])) for name, key in _OF_RUN.items()}
    variables["generalises"] = ("run", np.array([run.generalises for run in runs], dtype=np.int8))
    variables["group"] = ("run", [run.group for run in runs])
    return xr.Dataset(variables, {"run": [run.name for run in runs], "measure": list(measures)})


def _of_run(run: Run, curve: Curve, place: float, k: float) -> dict[str, Any]:
    inside = curve.between(run.fit_end, run.window_end if run.generalises else run.last_step)
    value, then = (curve.until(place) if place <= run.last_step else np.nan), curve.until(run.fit_end)
    return {
        "measured": np.int8(len(curve.values) > 0),
        "monotonicity": tau_b(*inside),
        "loss_levels": _with_loss(inside, run.test_loss, changes=False),
        "loss_changes": _with_loss(inside, run.test_loss, changes=True),
        "value": value,
        "change": value - then if place > run.fit_end else np.nan,
        **_lead_of_run(run, curve, k),
    }


def _lead_of_run(run: Run, curve: Curve, k: float) -> dict[str, Any]:
    """The measure's own onset, against that of generalisation."""
    marker, side = departure(*curve, run.fit_end, n_sd=k)
    moved, timed = marker.status == "found", marker.status != "undefined"
    lead = np.log10(run.onset + 1) - np.log10(marker.step + 1)
    at_most = np.log10(run.onset + 1) - np.log10(run.last_step + 1)  # it may move after the record
    return {
        "onset": marker.step,
        "moved": np.int8(moved if timed else -1),
        "direction": side,
        "lead_low": lead if moved else -np.inf,
        "lead_high": lead if moved else at_most if timed else np.nan,
    }


def _with_loss(curve: Curve, loss: Curve | None, *, changes: bool) -> float:
    """Rank correlation with the test loss at the steps that both have."""
    if loss is None:
        return np.nan
    steps, a, b = np.intersect1d(curve.steps, loss.steps, return_indices=True)
    pair = curve.values[a], loss.values[b]
    return change_correlation(steps, *pair) if changes else tau_b(*pair)


def over_runs(one: xr.Dataset, level: float) -> dict[str, Any]:
    """All scores of one measure.

    Parameters
    ----------
    one : xarray.Dataset
        What :func:`probe.progress.scores.by_run` says of it.
    level : float
        Of the intervals and tests.
    """
    told, controls = one.isel(run=one["generalises"].values == 1), one.isel(run=one["generalises"].values == 0)
    tau, levels, changes = (
        mean_interval(told[key].values, level) for key in ("monotonicity", "loss_levels", "loss_changes")
    )
    return {
        "n_runs": int(told["measured"].sum()),
        "n_controls": int(controls["measured"].sum()),
        **_named("monotonicity", tau),
        "monotone": tau.differs,
        "monotonicity_controls": mean_interval(controls["monotonicity"].values, level).value,
        **_named("loss_levels", levels),
        **_named("loss_changes", changes),
        "tracks_loss": changes.differs,
        **_separation("value", told, controls, level),
        **_separation("change", told, controls, level),
        **(lead := _lead_over_runs(told, level)),
        "n_controls_moved": int((controls["moved"].values == 1).sum()),
        **_prediction(told, level, lead["leads"]),
    }


def _separation(kind: str, told: xr.Dataset, controls: xr.Dataset, level: float) -> dict[str, Any]:
    found = separation(told[kind].values, controls[kind].values, level=level)
    name = f"auc_{kind}"
    return {
        name: found.auc,
        f"{name}_lower": found.lower,
        f"{name}_upper": found.upper,
        f"{name}_p": found.p_value,
        f"{name}_runs": found.n_runs,
        f"{name}_controls": found.n_controls,
        f"separates_{kind}": np.int8(-1 if np.isnan(found.auc) else found.p_value <= 1 - level),
    }


def _lead_over_runs(told: xr.Dataset, level: float) -> dict[str, Any]:
    timed = told.isel(run=np.isfinite(told["lead_high"].values))  # with an onset of generalisation
    lead = median_interval(timed["lead_low"].values, timed["lead_high"].values, level)
    moved = timed["moved"].values == 1
    onset, last = timed["generalisation_onset"].values, timed["last_step"].values
    at_least = np.where(moved, onset - timed["onset"].values, -np.inf)
    at_most = np.where(moved, at_least, onset - last)
    sides = told["direction"].values[told["moved"].values == 1]
    return {
        **_named("lead", lead),
        "leads": lead.positive,
        "lead_factor": 10**lead.value,
        "lead_steps": median_interval(at_least, at_most, level).value,
        "n_moved": len(sides),
        "n_before": int((timed["lead_low"].values > 0).sum()),
        "direction": float(sides.mean()) if len(sides) else np.nan,
    }


def _prediction(told: xr.Dataset, level: float, leads: np.int8) -> dict[str, Any]:
    onset, fit_end, truth = (np.log10(told[key].values + 1) for key in ("onset", "fit_end", "generalisation_onset"))
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
