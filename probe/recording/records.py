"""Observations in memory, as columns that grow."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from probe.series import MAX_STEP, SCHEMA, Variable


class Records:
    """Observations as numpy columns that double in length. A repeated step replaces the earlier observation."""

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self._columns: dict[str, np.ndarray] = {}  # of the variables that have a value
        self._rows: dict[int, int] = {}  # step -> row
        self._kept: dict[str, dict[int, int]] = {}  # name of a kept value -> step -> checksum
        self._used = 0  # rows in use, including those of steps that were dropped
        self.reached: dict[str, int] = {}  # last step at which a variable got a value, dropped ones included

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def steps(self) -> list[int]:
        """Observed steps in increasing order."""
        return sorted(self._rows)

    def declare(self, variable: Variable) -> None:
        """Add a variable unless it exists. Steps recorded before hold "not measured"."""
        self.variables.setdefault(variable.name, variable)

    def put(self, step: int, values: Mapping[str, np.ndarray], kept: Mapping[str, int] = MappingProxyType({})) -> None:
        """Record one step and the checksums of its kept values. Replace an earlier record of this step."""
        if not (step % 1 == 0 and abs(step) <= MAX_STEP):
            raise ValueError(
                f"Expected a whole number of at most 2**53 as step, got {step}; pass the number of updates"
            )
        self._check(values)
        for steps in self._kept.values():
            steps.pop(int(step), None)
        for name, checksum in kept.items():
            self._kept.setdefault(name, {})[int(step)] = checksum
        self._rows[int(step)] = self._used
        self._used += 1
        self.reached.update({name: max(int(step), self.reached.get(name, int(step))) for name in values})
        self._set(self._used - 1, values)

    def annotate(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Set declared variables of a recorded step. Other variables keep their values."""
        self._check(values)
        self._set(self._rows[int(step)], values)

    def _set(self, row: int, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            self._column(name, row)[row] = value

    def _check(self, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            if name not in self.variables:
                raise ValueError(f"Expected a declared variable, got {name!r}; declare it before its first value")
            array = np.asarray(value)
            if array.shape != (shape := self.variables[name].shape):
                raise ValueError(
                    f"Expected {name!r} of the declared shape {shape}, got {array.shape}; return the same labels "
                    "at each step"
                )
            if array.dtype.kind not in "biuf":
                raise ValueError(f"Expected real numbers as {name!r}, got {array.dtype}; convert them")

    def column(self, name: str, before: float = math.inf) -> np.ndarray:
        """Return the values of one variable at the steps before one, (observations, ...); empty without the variable.

        A resumed recording observes the step of its checkpoint again, so that a record of this step can exist.
        """
        if name not in self.variables:
            return np.empty(0)
        rows = [self._rows[step] for step in self.steps if step < before]
        return self._column(name, self._used - 1)[rows]

    def at(self, step: int) -> dict[str, np.ndarray]:
        """Return the values of a recorded step. Variables without a value have none."""
        row = self._rows[int(step)]
        return {name: column[row] for name, column in self._columns.items() if row < len(column)}

    def observations(self) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, int]]]:
        """Yield step, values and checksums of kept values of each observation. Variables without a value are left out.

        The observations come in the order in which they were recorded.
        """
        for step, row in sorted(self._rows.items(), key=lambda item: item[1]):
            values = {name: column[row] for name, column in self._columns.items() if row < len(column)}
            kept = {name: steps[step] for name, steps in self._kept.items() if step in steps}
            yield step, {name: value for name, value in values.items() if not self._is_empty(name, value)}, kept

    def _is_empty(self, name: str, value: np.ndarray) -> bool:
        return bool((value == -1).all() if self.variables[name].flag else np.isnan(value).all())

    def last_kept(self, name: str, before: int) -> tuple[int, int] | None:
        """Return the step and checksum of the last value kept under this name before a step."""
        steps = self._kept.get(name, {})
        last = max((step for step in steps if step < before), default=None)
        return None if last is None else (last, steps[last])

    def cut(self, step: int) -> None:
        """Drop the observations after this step."""
        self._kept = {name: {k: v for k, v in steps.items() if k <= step} for name, steps in self._kept.items()}
        self._rows = {kept: row for kept, row in self._rows.items() if kept <= step}

    def _column(self, name: str, row: int) -> np.ndarray:
        """Return the column of a declared variable, with at least this row."""
        variable, old = self.variables[name], self._columns.get(name)
        if old is not None and row < len(old):
            return old
        n = max(16, row + 1) if old is None else max(2 * len(old), row + 1)
        new = np.full((n, *variable.shape), variable.empty, np.int8 if variable.flag else np.float64)
        if old is not None:
            new[: len(old)] = old
        self._columns[name] = new
        return new

    def size(self, order: Mapping[str, Sequence[Any]]) -> int:
        """Return the number of values in :meth:`dataset`."""
        union = _united_labels(self.variables.values(), order)
        return sum(
            len(self) * math.prod(len(union[dim]) for dim in variable.dims) for variable in self.variables.values()
        )

    def dataset(self, order: Mapping[str, Sequence[Any]], provenance: str) -> xr.Dataset:
        """Return all observations by step, with the labels of each dimension united in the given ``order``."""
        steps = self.steps
        rows = np.array([self._rows[step] for step in steps], dtype=np.int64)
        union = _united_labels(self.variables.values(), order)
        arrays = {}
        for name, variable in self.variables.items():
            arrays[name] = _with_labels(variable, self._column(name, self._used - 1)[rows], union)
        dataset = xr.Dataset(arrays, {"step": np.array(steps, dtype=np.int64), **union})
        dataset["step"].attrs = {"units": "1", "long_name": "completed optimiser updates"}
        return dataset.assign_attrs(schema=SCHEMA, provenance=provenance)


def _with_labels(
    variable: Variable, values: np.ndarray, union: Mapping[str, Sequence[Any]]
) -> tuple[tuple[str, ...], np.ndarray, dict[str, Any]]:
    """Return dimensions, values and attributes of a variable, for all labels in ``union``."""
    places = [np.arange(len(values))]
    for dim in variable.dims:
        index = {label: i for i, label in enumerate(union[dim])}
        places.append(np.array([index[label] for label in variable.coords[dim]], dtype=np.int64))
    whole = np.full((len(values), *(len(union[dim]) for dim in variable.dims)), variable.empty, values.dtype)
    whole[np.ix_(*places)] = values
    attrs = {"units": variable.units, "long_name": variable.long_name or variable.name, **variable.attrs}
    return ("step", *variable.dims), whole, attrs


def _united_labels(variables: Iterable[Variable], order: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return the labels of each dimension, in the given order.

    A label that ``order`` lacks stands before the label that follows it in its variable, or else at the end.
    """
    lists: dict[str, dict[tuple[Any, ...], None]] = {}
    for variable in variables:
        for dim in variable.dims:
            lists.setdefault(dim, {})[tuple(variable.coords[dim])] = None
    united = dict[str, list[Any]]()
    for dim, each in lists.items():
        seen = {label for labels in each for label in labels}
        found = united[dim] = [label for label in order.get(dim, ()) if label in seen]
        for labels in each:
            if not found:
                found.extend(dict.fromkeys(labels))
                continue
            place = len(found)
            for label in reversed(labels):
                if label not in found:
                    found.insert(place, label)
                place = found.index(label)
    return united
