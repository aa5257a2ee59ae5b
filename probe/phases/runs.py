"""Find the markers of many runs with the table of markers, and the phases between them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe.phases.facts import facts_of_run
from probe.phases.markers import table
from probe.phases.markers.chance import Chance
from probe.phases.markers.marker import Marker, Status
from probe.phases.markers.table import Settings
from probe.phases.recorded import DEFAULTS as RECORDED
from probe.phases.verdict import Verdict, judge

FITTING, FITTED, GENERALISED, UNKNOWN = np.array([0, 1, 2, -1], dtype=np.int8)  # phases: before fit_end, until end, ...


class Run(NamedTuple):
    """Markers of a run, its verdict, and the ends of its record."""

    markers: list[Marker]  # in the order of the table
    verdict: Verdict
    first_step: float
    last_step: float


def markers_of_runs(
    steps: np.ndarray,
    block: Mapping[str, xr.DataArray | str],
    n_runs: int,
    settings: Settings,
    *,
    chances: Sequence[Chance] = (),
    alone: bool = True,
    axis: str = "step",
) -> list[Run]:
    """Find the markers of `n_runs` runs, and what happened in each of them.

    By role, ``block`` has a curve or a string that states why there is none. A curve without runs belongs to all runs.
    ``chances`` has an entry for each run if they differ. ``alone`` is false if there are further runs: a run may then
    end before the record.
    """
    loaded = {role: curve if isinstance(curve, str) else _rows(curve, n_runs) for role, curve in block.items()}
    found = []
    for run in range(n_runs):
        curves = {role: curve if isinstance(curve, str) else curve[run] for role, curve in loaded.items()}
        own = settings._replace(chance=chances[run]) if chances else settings
        markers = [kind.find(steps, curves, own) for kind in table.MARKERS]
        hump = next(marker for marker, kind in zip(markers, table.MARKERS, strict=True) if kind.name == "descent_onset")
        judged = {role: curve for role, curve in curves.items() if role not in RECORDED}
        facts = facts_of_run(steps, judged, hump, own.chance, alone=alone, axis=axis)
        found.append(Run(markers, judge(facts), *_ends(steps, curves)))
    return found


def _ends(steps: np.ndarray, curves: Mapping[str, np.ndarray | str]) -> tuple[float, float]:
    """Return the first and last step with any value of the run; the ends of the record if there is no value."""
    rows = [curve.reshape(len(steps), -1) for curve in curves.values() if not isinstance(curve, str)]
    measured = [~np.isnan(row).all(axis=1) for row in rows]
    observed = steps[np.any(measured, axis=0)] if measured else steps
    first, last = (observed if len(observed) else steps)[[0, -1]]
    return float(first), float(last)


def _rows(curve: xr.DataArray, n_runs: int) -> np.ndarray:
    """Return values (run, step, ...); one curve belongs to all runs."""
    if "run" in curve.dims:
        return curve.transpose("run", "step", ...).to_numpy()
    return np.broadcast_to(curve.to_numpy(), (n_runs, *curve.shape))


def markers_dataset(found: list[Run], runs: np.ndarray, axis: str) -> xr.Dataset:
    """Return the markers over (run, marker), with the ends of the record of each run."""
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        field.name: (
            ("run", "marker"),
            np.array([[getattr(marker, field.name) for marker in run.markers] for run in found]),
        )
        for field in fields(Marker)
        if field.name != "tops"
    }
    variables["tops"] = ("run", "marker", "top"), _padded([[marker.tops for marker in run.markers] for run in found])
    ends = {name: ("run", np.array([getattr(run, name) for run in found])) for name in ("first_step", "last_step")}
    coords = {
        "run": runs,
        "marker": [kind.name for kind in table.MARKERS],
        "label": ("marker", [kind.label for kind in table.MARKERS]),
        "colour": ("marker", [kind.colour for kind in table.MARKERS]),
    }
    dataset = xr.Dataset({**variables, **ends}, coords)
    for name in ("step", "lower", "upper", "tops", *ends):
        dataset[name].attrs = {"units": "1", "long_name": "completed optimiser updates" if axis == "step" else axis}
    return dataset


def _padded(tops: list[list[tuple[float, ...]]]) -> np.ndarray:
    """Return the tops of all markers as one array (run, marker, top), filled with NaN; it has at least one top."""
    most = max([len(one) for run in tops for one in run], default=0)
    return np.array([[[*one, *[np.nan] * (max(most, 1) - len(one))] for one in run] for run in tops])


def phases_between(steps: np.ndarray, markers: xr.Dataset) -> np.ndarray:
    """Return the phases (run, step) at some steps, int8."""
    status, at = (markers[name].sel(marker=["fit_end", "end"]).values for name in ("status", "step"))  # (run, 2)
    beyond = np.where(status == Status.LEFT_CENSORED, -np.inf, np.inf)
    fitted, ended = np.where(status == Status.FOUND, at, beyond).T[:, :, None]
    unknown = np.isin(status[:, :1], [Status.UNDEFINED, Status.UNDECIDED])
    phase = np.where(steps < fitted, FITTING, np.where(steps < ended, FITTED, GENERALISED))
    return np.where(unknown, UNKNOWN, phase)
