"""The five markers of runs, each by its own rule on its own curve; and the phases between them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe.phases.markers.crossings import sustained_crossing
from probe.phases.markers.marker import Marker
from probe.phases.markers.peaks import second_descent
from probe.phases.markers.settling import fitting_end

MARKERS = ("fit_end", "generalisation_onset", "descent_onset", "compression_onset", "end")


class Rules(NamedTuple):
    """Parameters of the rules, see :class:`probe.PhaseDetector`."""

    fit_level: float
    end_level: float
    n_sustained: int
    spike_width: int


class Run(NamedTuple):
    """What was found in a run."""

    markers: list[Marker]  # in the order of MARKERS
    first_step: float
    last_step: float


class Chance(NamedTuple):
    """Accuracy of guessing."""

    share: float | None  # None: the first observation
    n: float  # examples that an accuracy is a mean over

    def level(self, accuracy: np.ndarray) -> float:
        """Chance + max(3 standard deviations of guessing, 5 %)."""
        measured = accuracy[~np.isnan(accuracy)]
        share = self.share if self.share is not None else float(measured[0]) if len(measured) else 0.0
        return float(share + max(3 * np.sqrt(share * (1 - share) / self.n), 0.05))


def markers_of_runs(
    steps: np.ndarray, block: Mapping[str, xr.DataArray | str], n_runs: int, rules: Rules, chance: Chance
) -> list[Run]:
    """Markers of `n_runs` runs; a curve without runs belongs to all of them, a text says why there is none."""
    loaded = {role: curve if isinstance(curve, str) else _rows(curve, n_runs) for role, curve in block.items()}
    found = []
    for run in range(n_runs):
        curves = {role: curve if isinstance(curve, str) else curve[run] for role, curve in loaded.items()}
        found.append(Run(_of_run(steps, curves, rules, chance), *_ends(steps, curves)))
    return found


def _ends(steps: np.ndarray, curves: Mapping[str, np.ndarray | str]) -> tuple[float, float]:
    """First and last step at which a run has any value; those of the record if it has none."""
    measured = [~np.isnan(curve) for curve in curves.values() if not isinstance(curve, str)]
    seen = steps[np.any(measured, axis=0)] if measured else steps
    first, last = (seen if len(seen) else steps)[[0, -1]]
    return float(first), float(last)


def _rows(curve: xr.DataArray, n_runs: int) -> np.ndarray:
    """Values (run, step); one curve belongs to all runs."""
    if "run" in curve.dims:
        return curve.transpose("run", "step").to_numpy()
    return np.broadcast_to(curve.to_numpy(), (n_runs, curve.sizes["step"]))


def _of_run(steps: np.ndarray, curves: Mapping[str, np.ndarray | str], rules: Rules, chance: Chance) -> list[Marker]:
    """Five markers, in the order of MARKERS."""

    def marker(role: str, find: Callable[[np.ndarray], Marker]) -> Marker:
        curve = curves[role]
        return Marker("undefined", "", reason=curve) if isinstance(curve, str) else find(curve)

    def crossing(role: str, level: float) -> Callable[[np.ndarray], Marker]:
        return lambda curve: sustained_crossing(steps, curve, level, m=rules.n_sustained, name=role)

    def onset(curve: np.ndarray) -> Marker:
        level = chance.level(curve)
        if level > 1:
            return Marker("undefined", "", reason=f"chance leaves no room: {level:.3g} would be needed")
        return crossing("test_accuracy", level)(curve)

    fit_end = marker("train_accuracy", crossing("train_accuracy", rules.fit_level))
    if isinstance(curves["train_accuracy"], str) and not isinstance(curves["train_loss"], str):
        fit_end = _fitted(steps, curves["train_loss"], rules)
    return [
        fit_end,
        marker("test_accuracy", onset),
        marker("test_loss", lambda curve: second_descent(steps, curve, spike_width=rules.spike_width)),
        marker("information", lambda curve: second_descent(steps, curve, spike_width=0)),
        marker("test_accuracy", crossing("test_accuracy", rules.end_level)),
    ]


def _fitted(steps: np.ndarray, loss: np.ndarray, rules: Rules) -> Marker:
    """End of fitting by a train loss: in log units, unless it is not positive."""
    if rules.fit_level >= 1:
        raise ValueError(
            f"expected fit_level below 1 for a train loss, got {rules.fit_level}; give the share of its fall, as .99"
        )
    scale = "log" if (loss[~np.isnan(loss)] > 0).all() else "linear"
    return fitting_end(steps, loss, share=rules.fit_level, m=rules.n_sustained, scale=scale)


def markers_dataset(table: list[Run], runs: np.ndarray, axis: str) -> xr.Dataset:
    """Markers over (run, marker), with the ends of the record of each run."""
    variables = {
        field.name: (
            ("run", "marker"),
            np.array([[getattr(marker, field.name) for marker in run.markers] for run in table]),
        )
        for field in fields(Marker)
    }
    ends = {name: ("run", np.array([getattr(run, name) for run in table])) for name in ("first_step", "last_step")}
    dataset = xr.Dataset({**variables, **ends}, {"run": runs, "marker": list(MARKERS)})
    for name in ("step", "lower", "upper", *ends):
        dataset[name].attrs = {"units": "1", "long_name": "completed optimiser updates" if axis == "step" else axis}
    return dataset


def phases_between(steps: np.ndarray, markers: xr.Dataset) -> np.ndarray:
    """Phases (run, step) at some steps."""
    status, at = (markers[name].sel(marker=["fit_end", "end"]).values for name in ("status", "step"))  # (run, 2)
    never = np.where(status == "left_censored", -np.inf, np.inf)
    fitted, ended = np.where(status == "found", at, never).T[:, :, None]  # from where they count as reached
    unknown = np.isin(status[:, :1], ["undefined", "undecided"])
    none, zero, one, two = np.arange(-1, 3, dtype=np.int8)  # of this type from the start: there may be many runs
    return np.where(unknown, none, np.where(steps < fitted, zero, np.where(steps < ended, one, two)))
