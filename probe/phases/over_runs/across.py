"""Medians of all markers over runs, and the tests of the markers that are peaks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.phases.markers import table
from probe.phases.markers.marker import Status
from probe.phases.over_runs.second_phase import AcrossRuns, second_phase_across
from probe.stats.censored import median_step

_MAX_VALUES = 2**25  # of a curve over all runs: the test holds them in memory


def across_runs(steps: np.ndarray, curves: Mapping[str, xr.DataArray | str], markers: xr.Dataset) -> xr.Dataset:
    """Return medians and tests over (marker); by role, ``curves`` has a curve or the reason why there is none."""
    rows = []
    for kind in table.MARKERS:
        curve = curves[kind.role_among(curves)] if kind.peak else "the marker is not a peak"
        rows.append(_median(markers.sel(marker=kind.name)) | _test(steps, curve))
    variables = {key: ("marker", np.array([row[key] for row in rows])) for key in rows[0]}
    return xr.Dataset(variables, {"marker": [kind.name for kind in table.MARKERS]})


def _median(marker: xr.Dataset) -> dict[str, Any]:
    """Return the median over runs of one marker."""
    times = (marker[name].values for name in ("step", "lower", "upper", "status"))
    median = median_step(*times, first_step=marker["first_step"].values, last_step=marker["last_step"].values)
    return {
        "median": median.step,
        "lower": median.lower,
        "upper": median.upper,
        "status": median.status,
        "n_found": median.n_found,
        "reason": median.reason,
    }


def _test(steps: np.ndarray, curve: xr.DataArray | str) -> dict[str, Any]:
    """Return the test over runs of one marker."""
    result = _result(steps, curve)
    return {
        "test_status": result.status,
        "p_value": result.p_value,
        "fall": result.mean_drop,
        "fall_lower": result.interval[0],
        "fall_upper": result.interval[1],
        "n_runs": result.n_runs,
        "test_reason": result.reason,
    }


def _result(steps: np.ndarray, curve: xr.DataArray | str) -> AcrossRuns:
    """Test the curve, unless there is no curve by run or more values than fit in memory."""
    if isinstance(curve, str):
        return AcrossRuns(Status.UNDEFINED, curve, 0)
    if "run" not in curve.dims:
        return AcrossRuns(Status.UNDEFINED, "all runs share one curve", 0)
    if curve.size > _MAX_VALUES:
        reason = "too many runs for the memory: select some of them, and call second_phase_across"
        return AcrossRuns(Status.UNDEFINED, reason, 0)
    return second_phase_across(steps, curve.transpose("run", "step").to_numpy())
