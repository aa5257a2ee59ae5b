"""Medians of all markers over runs, and the tests of the markers that are peaks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.phases.markers import table
from probe.phases.markers.marker import Status
from probe.phases.over_runs.copies import equal_runs, name_groups
from probe.phases.over_runs.second_phase import AcrossRuns, second_phase_across
from probe.stats.censored import median_step

# Roles whose curves are compared to find equal runs. Accuracies have few levels, and agree by chance.
_COMPARED = ("test_loss", "information", "train_loss")
_MAX_VALUES = 2**25  # of a curve over all runs: the test holds them in memory


def across_runs(
    steps: np.ndarray, curves: Mapping[str, xr.DataArray | str], markers: xr.Dataset
) -> tuple[xr.Dataset, list[str]]:
    """Return medians and tests over (marker), and notes; by role, ``curves`` has a curve or why there is none."""
    runs = markers["run"].values
    peaks = {kind.role_among(curves): kind for kind in table.MARKERS if kind.peak}
    compared = next((role for role in _COMPARED if not isinstance(curves[role], str)), None)
    results: dict[str, AcrossRuns] = {}
    copies: dict[str | None, list[list[int]]] = {}
    notes: list[str] = []
    for role in dict.fromkeys([*peaks, *([compared] if compared else [])]):
        values = _values(curves[role])
        copies[role] = [] if isinstance(values, str) else equal_runs(values)
        if copies[role]:
            notes.append(f"{role}: {_names(copies[role], runs)}")
        if role in peaks:
            results[role] = _result(steps, values, copies[role], runs)
            notes += _of_steps(role, results[role])
    not_tested = AcrossRuns(Status.UNDEFINED, "the marker is not a peak", 0)
    distinct = _distinct(markers, copies.get(compared, []))
    rows = [
        _median(markers.sel(marker=kind.name), distinct)
        | _test(results[kind.role_among(curves)] if kind.peak else not_tested)
        for kind in table.MARKERS
    ]
    variables = {key: ("marker", np.array([row[key] for row in rows])) for key in rows[0]}
    return xr.Dataset(variables, {"marker": [kind.name for kind in table.MARKERS]}), notes


def _values(curve: xr.DataArray | str) -> np.ndarray | str:
    """Return values (run, step), or why there are none: no curve by run, or more values than fit in memory."""
    if isinstance(curve, str):
        return curve
    if "run" not in curve.dims:
        return "all runs share one curve"
    if curve.size > _MAX_VALUES:
        return "too many runs for the memory: select some of them, and call second_phase_across"
    return curve.transpose("run", "step").to_numpy()


def _distinct(markers: xr.Dataset, copies: list[list[int]]) -> np.ndarray:
    """Return the runs without those that are equal to another run, in the compared curve and in all markers."""
    step, status = markers["step"].values, markers["status"].values
    again = [
        run
        for first, *others in copies
        for run in others
        if (status[run] == status[first]).all() and np.array_equal(step[run], step[first], equal_nan=True)
    ]
    return np.setdiff1d(np.arange(markers.sizes["run"]), again)


def _median(marker: xr.Dataset, distinct: np.ndarray) -> dict[str, Any]:
    """Return the median of one marker over the distinct runs."""
    kept = marker.isel(run=distinct)
    times = (kept[name].values for name in ("step", "lower", "upper", "status"))
    median = median_step(*times, first_step=kept["first_step"].values, last_step=kept["last_step"].values)
    found = kept["step"].values[kept["status"].values == Status.FOUND]
    without = marker.sizes["run"] - len(distinct)
    remark = f"without {without} {'copies' if without > 1 else 'copy'} of other runs" if without else ""
    return {
        "median": median.step,
        "lower": median.lower,
        "upper": median.upper,
        "low": median.low,
        "high": median.high,
        "status": median.status,
        "n_found": median.n_found,
        "median_found": 10 ** np.median(np.log10(found + 1)) - 1 if len(found) else np.nan,
        "reason": "; ".join(filter(None, [median.reason, remark])),
    }


def _result(steps: np.ndarray, values: np.ndarray | str, copies: list[list[int]], runs: np.ndarray) -> AcrossRuns:
    """Test one curve over runs."""
    if isinstance(values, str):
        return AcrossRuns(Status.UNDEFINED, values, 0)
    if copies:
        n_runs = int((~np.isnan(values).all(axis=1)).sum())
        return AcrossRuns(Status.UNDEFINED, _names(copies, runs), n_runs)
    return second_phase_across(steps, values)


def _test(result: AcrossRuns) -> dict[str, Any]:
    """Return the test over runs of one marker."""
    return {
        "test_status": result.status,
        "p_value": result.p_value,
        "test_first": result.window[0],
        "test_last": result.window[1],
        "fall": result.mean_drop,
        "fall_lower": result.interval[0],
        "fall_upper": result.interval[1],
        "n_runs": result.n_runs,
        "interpolated": result.interpolated,
        "test_reason": result.reason,
    }


def _names(copies: list[list[int]], runs: np.ndarray) -> str:
    return name_groups(runs[group].tolist() for group in copies)


def _of_steps(role: str, result: AcrossRuns) -> list[str]:
    """Return a note on a test that interpolated values."""
    if not result.interpolated:
        return []
    share = f"{100 * result.interpolated:.0f} %"
    return [
        f"{role}: the runs were observed at different steps; for the test over runs, {share} of the values were "
        "interpolated between neighbouring observations of a run, on log10(step + 1)"
    ]
