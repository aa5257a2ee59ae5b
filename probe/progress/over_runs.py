"""What all runs together say of one measure, with intervals over runs."""

from typing import Any

import numpy as np
import xarray as xr

from probe.progress.statistics import LEAST_RUNS, Estimate, leave_one_out, mean_interval, median_interval, separation

_NO_ESTIMATE = (np.nan, np.nan, np.nan)


def over_runs(one: xr.Dataset, level: float) -> dict[str, Any]:
    """All scores of one measure.

    Parameters
    ----------
    one : xarray.Dataset
        What :func:`probe.progress.by_run.by_run` says of it.
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
        **(lead := _lead(told, level)),
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


def _lead(told: xr.Dataset, level: float) -> dict[str, Any]:
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
