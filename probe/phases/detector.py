"""PhaseDetector: from logged curves to the ends of the phases, run by run.

Curves in, markers out. Each of the five markers is found by a rule of :mod:`probe.phases.markers` on its own
curve; none is conditioned on another, so their order and distance are observations. Needs no torch.
"""

import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from probe.phases.curves import as_dataset, hint
from probe.phases.markers import Marker, sustained_crossing
from probe.phases.peaks import second_descent

MARKERS = ("fit_end", "generalisation_onset", "descent_onset", "compression_onset", "end")
_SAID = (
    "fitting ends",
    "test accuracy leaves chance",
    "test loss turns down",
    "compression starts",
    "test accuracy reaches its end",
)
_ROLES = ("train_accuracy", "test_accuracy", "test_loss", "information")
_WORDS = {
    "absent": "not seen",
    "left_censored": "before the record begins",
    "right_censored": "not within the record",
    "undefined": "unknown",
    "undecided": "the data cannot tell",
}

Role = str | Callable[[xr.Dataset], xr.DataArray]


class PhaseDetector(BaseEstimator):
    """Find the ends of the phases of training in logged curves.

    Parameters
    ----------
    train_accuracy, test_accuracy, test_loss, information : str or callable
        Roles: the name of a variable, or a function (curves Dataset) -> DataArray over ``step``. A missing
        role makes its markers "undefined". Accuracies are shares (1) or percent, losses positive, information
        in bits.
    layer : label, optional
        Layer of the information; None takes the deepest (last) one that was measured.
    split : str
        Split of the information.
    fit_level, end_level : float
        Train accuracy at the end of fitting, test accuracy at the end of training.
    n_sustained : int
        Observations in a row that a crossing must last.
    chance : float, optional
        Accuracy of guessing; None takes the attribute ``chance`` of the test accuracy, else its first
        observation.
    spike_width : int
        Spikes of the test loss of at most this many observations are set aside and counted.
    random_state : int or None
        Not used: p-values come from a table, nothing is drawn.

    Attributes
    ----------
    markers_ : xarray.Dataset
        Dimensions (run, marker): step, lower, upper (optimiser steps), status, p_value, fall, fall_noise,
        n_spikes, rule, interval, reason.
    phases_ : xarray.DataArray
        int8 (run, step): 0 before fit_end, 1 until end, 2 after, -1 if fit_end is undefined.
    curves_ : xarray.Dataset
        The curves, as they were read.
    notes_ : list of str
        What was assumed or rescaled.
    n_runs_ : int
        Number of runs; a single run is described, not tested.
    """

    def __init__(
        self,
        *,
        train_accuracy: Role = "train_accuracy",
        test_accuracy: Role = "test_accuracy",
        test_loss: Role = "test_loss",
        information: Role = "information_x",
        layer: Hashable | None = None,
        split: str = "train",
        fit_level: float = 0.99,
        end_level: float = 0.99,
        n_sustained: int = 3,
        chance: float | None = None,
        spike_width: int = 3,
        random_state: int | None = 0,
    ) -> None:
        self.train_accuracy = train_accuracy
        self.test_accuracy = test_accuracy
        self.test_loss = test_loss
        self.information = information
        self.layer = layer
        self.split = split
        self.fit_level = fit_level
        self.end_level = end_level
        self.n_sustained = n_sustained
        self.chance = chance
        self.spike_width = spike_width
        self.random_state = random_state

    def fit(self, curves: xr.Dataset | pd.DataFrame | Mapping[str, ArrayLike], y: object = None) -> Self:
        """Find all markers of all runs.

        Parameters
        ----------
        curves : xarray.Dataset, pandas.DataFrame or mapping of arrays
            With ``step`` as dimension, column, index or key. A Dataset may also have ``run``, and ``layer``
            and ``split`` on the information; in a mapping, arrays of shape (run, step) are several runs.
        y : ignored

        Raises
        ------
        TypeError, ValueError
            For curves of another kind, fewer than 4 observations, unsorted or repeated steps, mixed lengths,
            accuracies outside [0, 1] or [0, 100].
        """
        self.curves_ = dataset = as_dataset(curves)
        self.notes_: list[str] = []
        roles = dict(zip(_ROLES, (self._role(dataset, role) for role in _ROLES), strict=True))
        self.n_runs_ = dataset.sizes.get("run", 1)
        runs = np.atleast_1d(dataset["run"].values) if "run" in dataset.coords else np.arange(self.n_runs_)
        table = [self._markers({k: _of_run(c, run) for k, c in roles.items()}) for run in range(self.n_runs_)]
        self.notes_ = list(dict.fromkeys(self.notes_))
        self.markers_ = _markers_dataset(table, runs)
        steps = dataset["step"].values
        phases = np.stack([self._phase(steps, run) for run in range(self.n_runs_)])
        self.phases_ = xr.DataArray(phases, {"run": runs, "step": steps}, ("run", "step"), "phase")
        return self

    def phase_at(self, steps: ArrayLike, run: int = 0) -> np.ndarray:
        """Phase of one run (by position) at any steps: 0, 1, 2; -1 if undefined or outside the record."""
        check_is_fitted(self)
        at, record = np.asarray(steps, dtype=float), self.phases_["step"].values
        outside = (at < record[0]) | (at > record[-1])
        return np.where(outside, -1, self._phase(at, run)).astype(np.int8)

    def _phase(self, steps: np.ndarray, run: int) -> np.ndarray:
        markers = self.markers_.isel(run=run)
        return _phase(steps, markers.sel(marker="fit_end"), markers.sel(marker="end"))

    def summary(self) -> str:
        """Return one sentence, then a table of all markers, then the notes."""
        check_is_fitted(self)
        head = "One run, descriptive" if self.n_runs_ == 1 else f"{self.n_runs_} runs, median (range) of those found"
        parts = [f"{said}{_when(self.markers_.sel(marker=name))}" for name, said in zip(MARKERS, _SAID, strict=True)]
        rows: list[tuple[str, ...]] = [("run", "marker", "step", "interval", "status", "p", "rule")]
        for run in range(self.n_runs_):
            rows += [_row(self.markers_.isel(run=run).sel(marker=name)) for name in MARKERS]
        width = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in rows]
        return "\n".join([f"{head}: {'; '.join(parts)}.", "", *table, *(f"Note: {note}" for note in self.notes_)])

    def plot(self) -> Any:
        """Draw the curves with their phases on one page, see :func:`probe.plots.overview`; returns the figure."""
        check_is_fitted(self)
        from probe.plots import overview  # matplotlib only when something is drawn

        return overview(self.curves_, self)

    def _role(self, curves: xr.Dataset, role: str) -> xr.DataArray | str:
        """Return the curve of a role with dimensions (step) or (run, step), or why there is none."""
        wanted = getattr(self, role)
        if callable(wanted):
            array = wanted(curves)
        elif wanted in curves:
            array = curves[wanted]
        else:
            return f"no variable {wanted!r} for the role {role}; {hint(curves, str(wanted))}"
        chosen = {**self._split_of(array, role), **self._layer_of(array, role)}
        saturated = curves.get("saturated") if role == "information" and wanted == "information_x" else None
        array = array.sel(chosen, drop=True)
        if "step" not in array.dims or set(array.dims) - {"run", "step"}:
            raise ValueError(
                f"expected dimensions (step) or (run, step) for {role}, got {array.dims}; "
                "select one of the others first"
            )
        array = self._finite(array.astype(float), role)
        if saturated is not None:
            array = self._free(array, saturated.sel(chosen, drop=True) == 1)
        return self._as_share(array, role) if role.endswith("accuracy") else array

    def _finite(self, array: xr.DataArray, role: str) -> xr.DataArray:
        finite = array.where(np.isfinite(array))
        missing = int(finite.isnull().sum())
        if missing and "run" not in array.dims:
            self.notes_.append(
                f"{role}: {missing} of {array.size} observations are missing or not finite, and left out"
            )
        return finite

    def _free(self, array: xr.DataArray, saturated: xr.DataArray) -> xr.DataArray:
        """The information where it is below its ceiling; at the ceiling it says only that the noise is too fine."""
        if saturated.any():
            count = f"{int(saturated.sum())} of {saturated.size}"
            self.notes_.append(f"information: saturated at {count} observations, left out; more noise would tell more")
        return array.where(~saturated)

    def _split_of(self, array: xr.DataArray, role: str) -> dict[str, Any]:
        if "split" not in array.dims:
            return {}
        splits = array["split"].values.tolist()
        if self.split not in splits and len(splits) > 1:
            raise ValueError(f"expected split={self.split!r} in {role}, got {splits}; pass split=one of them")
        if self.split not in splits:
            self.notes_.append(f"{role}: split {splits[0]!r}, the only one, instead of {self.split!r}")
        return {"split": self.split if self.split in splits else splits[0]}

    def _layer_of(self, array: xr.DataArray, role: str) -> dict[str, Any]:
        if "layer" not in array.dims:
            return {}
        labels = array["layer"].values.tolist()
        if self.layer is not None and self.layer not in labels:
            raise ValueError(f"expected layer={self.layer!r} in {role}, got {labels}; pass layer=one of them")
        measured = np.flatnonzero(array.notnull().any([dim for dim in array.dims if dim != "layer"]))
        chosen = self.layer if self.layer is not None else labels[int(measured[-1]) if len(measured) else -1]
        self.notes_.append(f"{role}: layer {chosen!r}" + (", the deepest" if self.layer is None else ""))
        return {"layer": chosen}

    def _as_share(self, array: xr.DataArray, role: str) -> xr.DataArray:
        least, most = float(array.min()), float(array.max())  # NaN if nothing was measured
        if least < 0 or most > 100:
            raise ValueError(f"expected {role} in [0, 1] or percent, got {least:g} to {most:g}; is it an accuracy?")
        if not most > 1.5:  # no share is above 1; rounding never reaches 1.5
            return array
        note = f"{role} goes up to {most:g}: taken as percent and divided by 100"
        warnings.warn(note, UserWarning, stacklevel=4)
        self.notes_.append(note)
        attrs = {
            **array.attrs,
            **({"chance": array.attrs["chance"] / 100} if "chance" in array.attrs else {}),
        }
        return (array / 100).assign_attrs(attrs)

    def _onset_level(self, curve: xr.DataArray) -> float:
        """Chance + max(3 standard deviations of guessing, 5 %)."""
        chance = curve.attrs.get("chance") if self.chance is None else self.chance
        if chance is None:
            measured = curve.values[curve.notnull().values]
            chance = float(measured[0]) if len(measured) else 0.0
            self.notes_.append("chance: the first observation of test_accuracy; pass chance= if it is known")
        if not 0 <= chance <= 1:
            raise ValueError(f"expected chance as a share between 0 and 1, got {chance}; divide percent by 100")
        n = curve.attrs.get("n", np.inf)
        return float(chance + max(3 * np.sqrt(chance * (1 - chance) / n), 0.05))

    def _markers(self, roles: Mapping[str, xr.DataArray | str]) -> list[Marker]:
        """Find the five markers of one run, in the order of MARKERS."""

        def crossing(role: str, level: float | None) -> Marker:
            curve = roles[role]
            if isinstance(curve, str):
                return Marker("undefined", "", reason=curve)
            level = self._onset_level(curve) if level is None else level
            if level > 1:
                return Marker("undefined", "", reason=f"chance leaves no room: {level:.3g} would be needed")
            return sustained_crossing(curve["step"], curve, level, m=self.n_sustained, name=role)

        def descent(role: str, spike_width: int) -> Marker:
            curve = roles[role]
            if isinstance(curve, str):
                return Marker("undefined", "", reason=curve)
            return second_descent(curve["step"], curve, spike_width=spike_width)

        return [
            crossing("train_accuracy", self.fit_level),
            crossing("test_accuracy", None),
            descent("test_loss", self.spike_width),
            descent("information", 0),
            crossing("test_accuracy", self.end_level),
        ]


def _of_run(curve: xr.DataArray | str, run: int) -> xr.DataArray | str:
    return curve if isinstance(curve, str) or "run" not in curve.dims else curve.isel(run=run)


def _markers_dataset(table: list[list[Marker]], runs: np.ndarray) -> xr.Dataset:
    variables = {
        field.name: (
            ("run", "marker"),
            np.array([[getattr(marker, field.name) for marker in row] for row in table]),
        )
        for field in fields(Marker)
    }
    dataset = xr.Dataset(variables, {"run": runs, "marker": list(MARKERS)})
    for name in ("step", "lower", "upper"):
        dataset[name].attrs = {"units": "1", "long_name": "completed optimiser updates"}
    return dataset


def _phase(steps: np.ndarray, fit_end: xr.Dataset, end: xr.Dataset) -> np.ndarray:
    if fit_end["status"] == "undefined":
        return np.full(steps.shape, -1, np.int8)
    begins = (_reached(fit_end), _reached(end))
    return np.where(steps < begins[0], 0, np.where(steps < begins[1], 1, 2)).astype(np.int8)


def _reached(marker: xr.Dataset) -> float:
    """Return the step from which a marker counts as reached; infinite if it was not."""
    status = marker["status"].item()
    return float(marker["step"]) if status == "found" else -np.inf if status == "left_censored" else np.inf


def _number(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "-"


def _when(marker: xr.Dataset) -> str:
    """One marker over all runs, in words."""
    status = marker["status"].values
    steps = marker["step"].values[status == "found"]
    if len(status) == 1:
        if len(steps):
            lower, upper = _number(marker["lower"].item()), _number(marker["upper"].item())
            return f" at step {_number(steps[0])} ({lower} to {upper})"
        return f": {_WORDS[str(status[0])]} ({marker['reason'].values[0]})"
    names, counts = np.unique(status, return_counts=True)
    tally = ", ".join(f"{count} {name.replace('_', '-')}" for name, count in zip(names, counts, strict=True))
    if not len(steps):
        return f": {tally}"
    return f" at step {_number(np.median(steps))} ({_number(steps.min())} to {_number(steps.max())}; {tally})"


def _row(marker: xr.Dataset) -> tuple[str, ...]:
    p, found = float(marker["p_value"]), marker["status"] == "found"
    interval = f"{_number(float(marker['lower']))} to {_number(float(marker['upper']))}" if found else "-"
    return (
        str(marker["run"].item()),
        str(marker["marker"].item()),
        _number(float(marker["step"])),
        interval,
        str(marker["status"].item()),
        "-" if np.isnan(p) else f"{p:.3f}",
        str(marker["rule"].item() if found else marker["reason"].item() or marker["rule"].item()),
    )
