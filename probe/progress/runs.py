"""A recorded run: its markers, and one curve for each measure.

Steps are optimiser updates (or whatever the axis is); times are compared on ``log10(step + 1)``.
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

from probe.phases.curves import named
from probe.phases.detector import PhaseDetector
from probe.phases.roles import Roles

WEIGHT_NORM = "weight_norm_total"  # as WeightsProbe records it


class Curve(NamedTuple):
    """What was observed of one measure in one run: steps and values, both (n,), none missing."""

    steps: np.ndarray
    values: np.ndarray

    def until(self, step: float) -> float:
        """The last value observed up to a step; NaN if there is none."""
        k = int(np.searchsorted(self.steps, step, side="right"))
        return float(self.values[k - 1]) if k else np.nan

    def between(self, first: float, last: float) -> "Curve":
        """The observations from one step to another, both included."""
        inside = (self.steps >= first) & (self.steps <= last)
        return Curve(self.steps[inside], self.values[inside])


NOTHING = Curve(np.empty(0), np.empty(0))  # of a measure that a run lacks


@dataclass(frozen=True)
class Run:
    """A run: steps of its markers (NaN where they were not found), and its curves."""

    name: str
    group: str
    generalises: bool
    fit_end: float
    fit_known: float  # the last of the observations that show that fitting has ended
    onset: float  # test accuracy leaves chance
    before_onset: float  # the observation before that
    end: float
    last_step: float
    test_loss: Curve | None
    train_accuracy: Curve | None
    curves: Mapping[str, Curve] = field(repr=False)

    @property
    def window_end(self) -> float:
        """End of generalisation; of the record, if that came first."""
        return self.last_step if np.isnan(self.end) else self.end


Generalises = Mapping[str, Any] | ArrayLike | None

_ROLES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
_NO_MEASURES = ("_se", "_lower", "_upper", "_ceiling")  # error bars and bounds of what they stand beside
_LAST = 3  # observations whose median is the test accuracy at the end: the last one may be a spike


def groups_of(curves: Any) -> list[tuple[str, Any]]:
    """Groups by name; curves that are no groups are one."""
    whole = (pd.DataFrame, Mapping, str, os.PathLike)  # a Dataset is a Mapping
    if isinstance(curves, Mapping) and not isinstance(curves, xr.Dataset):
        if curves and all(isinstance(one, whole) for one in curves.values()):
            return [(str(name), one) for name, one in curves.items()]
    elif isinstance(curves, (list, tuple)):
        if not curves or not all(isinstance(one, whole) for one in curves):
            raise TypeError(f"expected a list of groups of runs, each with named curves, got {type(curves).__name__}")
        return [(str(i), one) for i, one in enumerate(curves)]
    return [("", curves)]


def labels_given(generalises: Generalises, groups: Sequence["Group"]) -> list[list[bool | None]]:
    """What the caller says of each run of each group; None is nothing."""
    sizes = [group.n_runs for group in groups]
    if generalises is None:
        return [[None] * n for n in sizes]
    if isinstance(generalises, Mapping):
        if foreign := set(generalises) - {group.name for group in groups}:
            raise ValueError(f"expected groups among {[g.name for g in groups]} in generalises, got {sorted(foreign)}")
        values = [generalises.get(group.name) for group in groups]
        return [_flags(value, n) if value is not None else [None] * n for value, n in zip(values, sizes, strict=True)]
    every, ends = _flags(generalises, sum(sizes)), np.cumsum([0, *sizes])
    return [every[a:b] for a, b in pairwise(ends)]


def _flags(values: Any, n: int) -> list[bool | None]:
    array = np.asarray(values)
    if array.dtype.kind != "b" or array.shape not in ((), (n,)):
        raise ValueError(
            f"expected generalises as one bool, or one for each of {n} runs, got {array.dtype} of shape {array.shape}"
        )
    return [bool(value) for value in np.broadcast_to(array, n)]


class Group:
    """Runs with the same steps; of runs that are ``going_on`` a curve may be empty yet, or look like a flag."""

    def __init__(self, name: str, curves: Any, detector: PhaseDetector | None, *, going_on: bool) -> None:
        fitted = clone(detector or PhaseDetector()).set_params(information="(not used)").fit(curves)
        self.name, self.dataset, self.markers, self.n_runs = name, fitted.curves_, fitted.markers_, fitted.n_runs_
        wanted = {role: named(self.dataset, getattr(fitted, role)) for role in _ROLES}
        with warnings.catch_warnings():  # the detector has said it all
            warnings.simplefilter("ignore", UserWarning)
            roles = Roles(self.dataset, wanted, layer=fitted.layer, split=fitted.split)
        self._going_on, self._sustained = going_on, fitted.n_sustained
        self.notes = [note for note in fitted.notes_ if not note.startswith("information")]
        self._roles = {role: None if isinstance(curve, str) else curve for role, curve in roles.found.items()}
        self.baselines = {WEIGHT_NORM, *(name for name in (wanted["test_loss"], wanted["train_loss"]))}
        self._accuracies = {wanted["train_accuracy"], wanted["test_accuracy"]}

    def labels(self) -> dict[str, str]:
        """Name of each measure, and of the variable that it is a part of."""
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
        """Curves over step, or (run, step), for each label of the other dimensions, unless nothing was measured."""
        array = self.dataset[variable]
        others = [str(dim) for dim in array.dims if dim not in ("run", "step")]
        for labels in product(*(range(array.sizes[dim]) for dim in others)):
            one = array.isel(dict(zip(others, labels, strict=True)))
            if self._going_on or one.notnull().any():
                label = ", ".join(str(array[dim].values[i]) for dim, i in zip(others, labels, strict=True))
                yield (f"{variable}[{label}]" if others else variable), one

    def runs(self, given: Sequence[bool | None], wanted: set[str], level: float) -> Iterator[Run]:
        """The runs, with the curves of the wanted measures."""
        parts = {label: one for variable in self._variables() for label, one in self._parts(variable)}
        rows = {label: self._rows(one) for label, one in parts.items() if label in wanted}
        loss, accuracy, fitting = (self._rows(self._roles[k]) for k in ("test_loss", "test_accuracy", "train_accuracy"))
        for i, said in enumerate(given):
            step, lower = ({str(m): float(self.markers[k].isel(run=i).sel(marker=m)) for m in
                            ("fit_end", "generalisation_onset", "end")} for k in ("step", "lower"))  # fmt: skip
            yield Run(
                name=f"{self.name} {self.markers['run'].values[i]}".strip(),
                group=self.name,
                generalises=_ends_high(accuracy[i] if accuracy else None, level) if said is None else said,
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
    """Whether all values are -1, 0 or 1, as those of flags are; a merge with other steps makes them floats."""
    return bool(array.isin((-1, 0, 1)).where(array.notnull(), True).all())


def _after(curve: Curve, step: float, n: int) -> float:
    """The step of the observation that comes ``n`` after the one at this step."""
    place = int(np.searchsorted(curve.steps, step)) + n
    return float(curve.steps[place]) if place < len(curve.steps) else np.nan  # a step of NaN is beyond the last


def _ends_high(accuracy: Curve | None, level: float) -> bool:
    if accuracy is None:
        raise ValueError(
            "expected a test accuracy to tell which runs generalise, got none; name it in the detector, or pass "
            "generalises="
        )
    last = accuracy.values[-_LAST:]
    return len(last) > 0 and bool(np.median(last) >= level)


class Reading(NamedTuple):
    """All runs, the measures (by the variable that they come from), the baselines among them, what was assumed."""

    runs: list[Run]
    measures: dict[str, str]
    baselines: list[str]
    notes: list[str]


def read_runs(
    curves: Any,
    generalises: Generalises,
    *,
    detector: PhaseDetector | None,
    measures: Any,
    level: float,
    complete: bool = True,
    beside_baselines: bool = False,
) -> Reading:
    """Runs of one or more groups.

    Parameters
    ----------
    curves
        As :meth:`probe.PhaseDetector.fit` takes them, or a list or a mapping of such: groups of runs, whose steps and
        lengths may differ.
    generalises
        Whether the runs generalise: a bool for each run, in order, or a mapping from names of groups to one bool or
        one for each run. Runs that are not named generalise if their test accuracy ends at ``level`` or above.
    detector
        Where the markers come from, with the names of the roles.
    measures
        Names of variables or of single measures; None takes all numbers that are no flags, error bars or accuracies.
    level
        Test accuracy (share), as the median of the last three observations.
    complete
        Whether the runs are over; of runs that go on nobody asks whether they generalise, and no measure is left out.
    beside_baselines
        Whether losses and weight norm are read too, if they are there and ``measures`` does not name them.

    Raises
    ------
    ValueError
        For curves that cannot be read, a measure that is in no group, or labels that do not fit the runs.
    """
    groups = [Group(name, one, detector, going_on=not complete) for name, one in groups_of(curves)]
    known = {label: variable for group in groups for label, variable in group.labels().items()}
    asked = _chosen(known, measures)
    plain = {variable for group in groups for variable in group.baselines}
    beside = {label: variable for label, variable in known.items() if beside_baselines and variable in plain}
    chosen = asked | beside
    runs: list[Run] = []
    notes: list[str] = []
    for group, given in zip(groups, labels_given(generalises, groups), strict=True):
        runs += group.runs(given if complete else [False] * group.n_runs, set(chosen), level)
        notes += group.notes
    flat = [
        name for name in chosen if complete and all(_is_flat(run.curves[name]) for run in runs if name in run.curves)
    ]
    if flat:
        notes.append(f"left out, for they are the same at all steps: {', '.join(flat)}")
    kept = {name: chosen[name] for name in chosen if name not in flat}
    if not asked.keys() & kept.keys():
        raise ValueError(f"expected measures that change over the steps, got none; there are: {', '.join(known)}")
    baselines = [name for name in kept if kept[name] in plain]
    return Reading(runs, kept, baselines, list(dict.fromkeys(notes)))


def one_measure(known: Sequence[str], wanted: str) -> str:
    """The measure of this name, or the only one of the variable of this name; else an error with near names."""
    names = [name for name in known if name == wanted or name.startswith(f"{wanted}[")]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(f"expected one curve a run, {wanted!r} has {len(names)}: {', '.join(names)}; name one")
    raise ValueError(_unknown(wanted, known))


def _unknown(wanted: str, known: Sequence[str]) -> str:
    near = get_close_matches(
        wanted, list(dict.fromkeys([*known, *(name.split("[")[0] for name in known)])), n=3, cutoff=0.5
    )
    told = f"near names: {', '.join(near)}" if near else f"there are: {', '.join(known)}"
    return f"no measure {wanted!r} in the curves; {told}"


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
