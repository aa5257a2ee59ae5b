"""What each run says of each measure, before runs are put together."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.progress.departure import departure
from probe.progress.runs import NOTHING, Curve, Run
from probe.progress.statistics import change_correlation, tau_b

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
        As :func:`probe.progress.departure.departure` takes it.

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
        **_lead(run, curve, k),
    }


def _lead(run: Run, curve: Curve, k: float) -> dict[str, Any]:
    """The measure's own onset, against that of generalisation."""
    marker, side = departure(*curve, run.fit_end, k=k)
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
