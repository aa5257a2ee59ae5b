"""Rows with named columns as a log: the column of steps is recognised, and the others are curves."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probe.readers.log import Log, Points
from probe.readers.names import guess_axis

# Columns of loggers that hold no curves.
CLOCKS = {"_step", "_timestamp", "_runtime", "timestamp", "wall_time", "created_at", "Wall Time", "Wall time"}


@dataclass
class Table:
    """Numbers of a table.

    Attributes
    ----------
    columns : dict of str to (rows, values)
        Row numbers and values of each column, without empty cells.
    n_rows : int
    notes, damage : list of str
        As in :class:`probe.readers.log.Log`.
    """

    columns: dict[str, Points]
    n_rows: int
    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)


class TableColumns:
    """Collector of rows into columns. A number takes 16 bytes, however sparse the rows are."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.text: set[str] = set()  # columns with values that are not numbers
        self._rows: dict[str, array[int]] = {}
        self._values: dict[str, array[float]] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row. The keys of nested mappings are joined with slashes."""
        self._put(row, "")
        self.n_rows += 1

    def _put(self, row: Mapping[str, Any], prefix: str) -> None:
        for key, value in row.items():
            name = f"{prefix}{key}"
            if isinstance(value, Mapping):
                self._put(value, f"{name}/")
            elif (number := as_number(value)) is not None:
                self._rows.setdefault(name, array("q")).append(self.n_rows)
                self._values.setdefault(name, array("d")).append(number)
            elif value is not None:
                self.text.add(name)

    def points(self) -> dict[str, Points]:
        """Return row numbers and values of each column."""
        return {name: (np.array(rows), np.array(self._values[name])) for name, rows in self._rows.items()}


def as_number(value: Any) -> float | None:
    """Return a number, also from the text that JSON writers use for NaN and infinity; None for other values."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in ("nan", "inf", "-inf", "infinity", "-infinity"):
        return float(value)
    return None


def table_log(table: Table, axis: str | None, n_own_rows: int | None = None) -> Log:
    """Return the log of a table: steps and values in place of rows and values.

    Parameters
    ----------
    table : Table
    axis : str, optional
        The column of steps. ``"row"`` numbers the rows. None takes the first of the usual names.
    n_own_rows : int, optional
        How many of the rows belong to this run. None: all.
    """
    notes = list(table.notes)
    if axis == "row":
        return Log(dict(table.columns), [*notes, "steps are row numbers from 0"], table.damage, "row")
    name = guess_axis(table.columns, axis)
    steps = np.full(table.n_rows, np.nan)
    rows, values = table.columns[name]
    steps[rows] = values
    total = table.n_rows if n_own_rows is None else n_own_rows
    if without := total - len(rows):
        notes.append(f"{without} of {total} rows have no {name!r} and were ignored")
    points = {}
    for key, (rows, values) in table.columns.items():
        if key != name and key not in CLOCKS:
            kept = np.isfinite(steps[rows])
            points[key] = (steps[rows][kept], values[kept])
    return Log(points, notes, table.damage, name)
