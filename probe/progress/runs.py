"""Recorded runs: markers, one curve per measure, and the label of each run (it generalises, or it is a control).

:func:`read_runs` reads groups of runs with any steps and lengths. Steps are optimiser updates or another axis; they
are compared on ``log10(step + 1)``.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from sklearn.base import clone

from probe.errors import ProbeWarning
from probe.phases.detector import PhaseDetector
from probe.phases.roles import Roles

WEIGHT_NORM = "weight_norm_total"  # the variable of WeightsProbe
Generalises = Mapping[str, Any] | ArrayLike | None

_ROLES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
_NO_MEASURES = ("_se", "_lower", "_upper", "_ceiling")  # suffixes of error bars and bounds
_LAST = 3  # observations whose median is the test accuracy at the end, since the last one may be a spike


class Curve(NamedTuple):
    """Observations of one measure in one run: steps and values, both (n,), without missing values."""

    steps: np.ndarray
    values: np.ndarray

    def until(self, step: float) -> float:
        """Return the last value observed up to a step, or NaN."""
        k = int(np.searchsorted(self.steps, step, side="right"))
        return float(self.values[k - 1]) if k else np.nan

    def before(self, step: float) -> float:
        """Return the last step observed up to a step, or NaN."""
        k = int(np.searchsorted(self.steps, step, side="right"))
        return float(self.steps[k - 1]) if k else np.nan

    def between(self, first: float, last: float) -> "Curve":
        """Return the observations from one step to another, both included."""
        inside = (self.steps >= first) & (self.steps <= last)
        return Curve(self.steps[inside], self.values[inside])


EMPTY_CURVE = Curve(np.empty(0), np.empty(0))  # a measure that was not recorded


@dataclass(frozen=True)
class Run:
    """A run: steps of its markers (NaN if they were not found), and its curves."""

    name: str
    group: str
    generalises: bool
    fit_end: float
    fit_known: float  # last of the observations that establish the end of fitting
    onset: float  # of generalisation: test accuracy rises above chance
    before_onset: float  # the observation before the onset
    end: float
    last_step: float
    test_loss: Curve | None
    train_accuracy: Curve | None
    curves: Mapping[str, Curve] = field(repr=False)

    @property
    def window_end(self) -> float:
        """Return the end of generalisation, or the end of the record if it comes first."""
        return self.last_step if np.isnan(self.end) else self.end


def groups_of(curves: Any) -> list[tuple[str, Any]]:
    """Return the groups by name; curves of one kind are one group."""
    whole = (pd.DataFrame, Mapping, str, os.PathLike)  # a Dataset is a Mapping
    if isinstance(curves, Mapping) and not isinstance(curves, xr.Dataset):
        if curves and all(isinstance(one, whole) for one in curves.values()):
            return [(str(name), one) for name, one in curves.items()]
    elif isinstance(curves, (list, tuple)):
        if not curves or not all(isinstance(one, whole) for one in curves):
            raise TypeError(
                f"Expected a list of groups of runs, each with named curves, got {type(curves).__name__}; pass a "
                "Dataset, a DataFrame, a mapping of arrays or a path for each group"
            )
        return [(str(i), one) for i, one in enumerate(curves)]
    return [("", curves)]


def given_labels(generalises: Generalises, groups: Sequence["Group"]) -> list[list[bool | None]]:
    """Return the labels of the caller for each run of each group; None where there is no label."""
    sizes = [group.n_runs for group in groups]
    if generalises is None:
        return [[None] * n for n in sizes]
    if isinstance(generalises, Mapping):
        if foreign := set(generalises) - {group.name for group in groups}:
            names = [group.name for group in groups]
            raise ValueError(f"Expected groups among {names} in generalises, got {sorted(foreign)}; pass these names")
        values = [generalises.get(group.name) for group in groups]
        return [_flags(value, n) if value is not None else [None] * n for value, n in zip(values, sizes, strict=True)]
    every, ends = _flags(generalises, sum(sizes)), np.cumsum([0, *sizes])
    return [every[a:b] for a, b in pairwise(ends)]


def _flags(values: Any, n: int) -> list[bool | None]:
    array = np.asarray(values)
    if array.dtype.kind != "b" or array.shape not in ((), (n,)):
        raise ValueError(
            f"Expected generalises as one bool, or one per run ({n}), got {array.dtype} of shape {array.shape}; pass "
            "one bool per run, or a mapping from groups to bools"
        )
    return [bool(value) for value in np.broadcast_to(array, n)]


class Group:
    """Runs with the same steps. Curves of runs that are ``going_on`` may be empty, or resemble flags."""

    def __init__(self, name: str, curves: Any, detector: PhaseDetector | None, *, going_on: bool) -> None:
        fitted = (
            clone(detector or PhaseDetector())
            .set_params(information=None, growth=None, kernel_distances=None)
            .fit(curves)
        )
        self.name, self.dataset, self.markers, self.n_runs = name, fitted.curves_, fitted.markers_, fitted.n_runs_
        wanted = {role: getattr(fitted, role) for role in _ROLES}
        with warnings.catch_warnings():  # the detector has issued them already
            warnings.simplefilter("ignore", ProbeWarning)
            roles = Roles(self.dataset, wanted, layer=fitted.layer, split=fitted.split)
        self._going_on, self._sustained = going_on, fitted.n_sustained
        self.notes = [note for note in fitted.notes_ if not note.startswith("information")]
        self._roles = {role: None if isinstance(curve, str) else curve for role, curve in roles.found.items()}
        self.baselines = {WEIGHT_NORM, *(roles.names.get(role) for role in ("test_loss", "train_loss"))}
        self._accuracies = {roles.names.get(role) for role in ("train_accuracy", "test_accuracy")}

    def labels(self) -> dict[str, str]:
        """Return the name of each measure, with the variable that contains it."""
        return {label: variable for variable in self._variables() for label, _ in self._parts(variable)}

    def _variables(self) -> list[str]:
        return [
            str(name)
            for name, array in self.dataset.data_vars.items()
            if array.dtype.kind == "f"
            and "step" in array.dims
            and name not in self._accuracies
            and name != "seconds"
            and not str(name).endswith(_NO_MEASURES)
            and (self._going_on or not _is_flag(array))
        ]

    def _parts(self, variable: str) -> Iterator[tuple[str, xr.DataArray]]:
        """Return the curves over step, or (run, step), of each label of the other dimensions that was measured."""
        array = self.dataset[variable]
        others = [str(dim) for dim in array.dims if dim not in ("run", "step")]
        for labels in product(*(range(array.sizes[dim]) for dim in others)):
            one = array.isel(dict(zip(others, labels, strict=True)))
            if self._going_on or one.notnull().any():
                label = ", ".join(str(array[dim].values[i]) for dim, i in zip(others, labels, strict=True))
                yield (f"{variable}[{label}]" if others else variable), one

    def runs(self, given: Sequence[bool | None], wanted: set[str], level: float) -> Iterator[Run]:
        """Return the runs, with the curves of the wanted measures."""
        parts = {label: one for variable in self._variables() for label, one in self._parts(variable)}
        rows = {label: self._rows(one) for label, one in parts.items() if label in wanted}
        loss, accuracy, fitting = (self._rows(self._roles[k]) for k in ("test_loss", "test_accuracy", "train_accuracy"))
        for i, label in enumerate(given):
            step, lower = ({str(m): float(self.markers[k].isel(run=i).sel(marker=m)) for m in
                            ("fit_end", "generalisation_onset", "end")} for k in ("step", "lower"))  # fmt: skip
            yield Run(
                name=f"{self.name} {self.markers['run'].values[i]}".strip(),
                group=self.name,
                generalises=_ends_high(accuracy[i] if accuracy else None, level) if label is None else label,
                fit_end=step["fit_end"],
                fit_known=_after(fitting[i], step["fit_end"], self._sustained - 1) if fitting else np.nan,
                onset=step["generalisation_onset"],
                before_onset=lower["generalisation_onset"],
                end=step["end"],
                last_step=float(self.markers["last_step"].values[i]),
                test_loss=None if loss is None else loss[i],
                train_accuracy=None if fitting is None else fitting[i],
                curves={label: curves[i] for label, curves in rows.items() if curves is not None},
            )

    def _rows(self, array: xr.DataArray | None) -> list[Curve] | None:
        if array is None:
            return None
        values = array.transpose("run", "step").to_numpy() if "run" in array.dims else array.to_numpy()[None]
        steps = self.dataset["step"].to_numpy().astype(float)
        rows = np.broadcast_to(values.astype(float), (self.n_runs, len(steps)))
        return [Curve(steps[np.isfinite(row)], row[np.isfinite(row)]) for row in rows]


def _is_flag(array: xr.DataArray) -> bool:
    """Return whether all values are -1, 0 or 1, as in flags; a merge with other steps converts flags to floats."""
    return bool(array.isin((-1, 0, 1)).where(array.notnull(), True).all())


def _after(curve: Curve, step: float, n: int) -> float:
    """Return the step of the observation that is ``n`` observations after the one at this step."""
    place = int(np.searchsorted(curve.steps, step)) + n
    return float(curve.steps[place]) if place < len(curve.steps) else np.nan  # NaN sorts beyond the last step


def _ends_high(accuracy: Curve | None, level: float) -> bool:
    if accuracy is None:
        raise ValueError(
            "Expected a test accuracy to label the runs that generalise, got none; pass "
            "detector=PhaseDetector(test_accuracy=...) or generalises="
        )
    last = accuracy.values[-_LAST:]
    return len(last) > 0 and bool(np.median(last) >= level)


class RecordedRuns(NamedTuple):
    """All runs of all groups, and their measures."""

    runs: list[Run]
    measures: dict[str, str]  # name of each measure, and its variable
    baselines: list[str]  # names of the measures that are losses or the norm of the weights
    notes: list[str]  # assumptions, and what was left out


def read_runs(
    curves: Any,
    generalises: Generalises,
    *,
    detector: PhaseDetector | None,
    measures: Any,
    level: float,
    complete: bool = True,
    beside_baselines: bool = False,
) -> RecordedRuns:
    """Read the runs of one or more groups.

    Parameters
    ----------
    curves
        Curves as for :meth:`probe.PhaseDetector.fit`, or a list or a mapping of them: groups of runs, whose steps and
        lengths may differ.
    generalises
        A bool for each run, in order, or a mapping from names of groups to one bool or one per run. Runs without a
        label generalise if their test accuracy ends at ``level`` or above.
    detector : PhaseDetector or None
        Finds the markers; its roles name the curves.
    measures
        Names of variables or of single measures; None reads all numbers except flags, error bars and accuracies.
    level : float
        Test accuracy (share), as the median of the last three observations.
    complete : bool
        Whether the runs are complete. Runs in progress get no label, and no measure is left out.
    beside_baselines : bool
        Read losses and the norm of the weights too, if they were recorded.

    Raises
    ------
    ValueError
        If curves cannot be read, a measure is in no group, or the labels do not match the runs.
    """
    groups = [Group(name, one, detector, going_on=not complete) for name, one in groups_of(curves)]
    known = {label: variable for group in groups for label, variable in group.labels().items()}
    asked = _chosen(known, measures)
    standard = {variable for group in groups for variable in group.baselines}
    beside = {label: variable for label, variable in known.items() if beside_baselines and variable in standard}
    chosen = asked | beside
    runs: list[Run] = []
    notes: list[str] = []
    for group, given in zip(groups, given_labels(generalises, groups), strict=True):
        runs += group.runs(given if complete else [False] * group.n_runs, set(chosen), level)
        notes += group.notes
    flat = [
        name for name in chosen if complete and all(_is_flat(run.curves[name]) for run in runs if name in run.curves)
    ]
    if flat:
        notes.append(f"left out, because they are the same at all steps: {', '.join(flat)}")
    kept = {name: chosen[name] for name in chosen if name not in flat}
    if not asked.keys() & kept.keys():
        raise ValueError(f"Expected measures that change over the steps, got none; pass some of: {', '.join(known)}")
    baselines = [name for name in kept if kept[name] in standard]
    return RecordedRuns(runs, kept, baselines, list(dict.fromkeys(notes)))


def one_measure(known: Sequence[str], wanted: str) -> str:
    """Return the measure of this name, or the only measure of the variable of this name.

    Raises
    ------
    ValueError
        If there is none (the message lists near names) or more than one.
    """
    names = [name for name in known if name == wanted or name.startswith(f"{wanted}[")]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(f"Expected one curve per run, got {len(names)} of {wanted!r}; pass one of {', '.join(names)}")
    raise ValueError(_unknown(wanted, known))


def _unknown(wanted: str, known: Sequence[str]) -> str:
    near = get_close_matches(
        wanted, list(dict.fromkeys([*known, *(name.split("[")[0] for name in known)])), n=3, cutoff=0.5
    )
    names = f"near names: {', '.join(near)}" if near else f"pass one of {', '.join(known)}"
    return f"Expected a measure in the curves, got {wanted!r}; {names}"


def _chosen(known: Mapping[str, str], measures: Any) -> dict[str, str]:
    if measures is None:
        return dict(known)
    wanted = [measures] if isinstance(measures, str) else list(measures)
    found: dict[str, str] = {}
    for name in wanted:
        matches = {label: variable for label, variable in known.items() if name in (label, variable)}
        if not matches:
            raise ValueError(_unknown(str(name), list(known)))
        found |= matches
    return found


def _is_flat(curve: Curve) -> bool:
    return len(curve.values) == 0 or bool((curve.values == curve.values[0]).all())
