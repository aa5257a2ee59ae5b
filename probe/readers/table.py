"""Rows with named columns, whatever file they stood in, as a log: the column of steps is found, the rest are curves."""

from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from probe.readers.log import Log, Points
from probe.readers.names import guess_axis

# Columns of loggers that are no curves.
CLOCKS = {"_step", "_timestamp", "_runtime", "timestamp", "wall_time", "created_at", "Wall Time", "Wall time"}


class TableColumns:
    """Numbers by column and row, as they come: 16 bytes each, however sparse the rows are."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.words: set[str] = set()  # columns that hold something else than numbers
        self._rows: dict[str, array] = {}
        self._values: dict[str, array] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """One row; mappings in it are flattened with slashes."""
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
                self.words.add(name)

    def points(self) -> dict[str, Points]:
        """Row numbers and values of each column."""
        return {name: (np.array(rows), np.array(self._values[name])) for name, rows in self._rows.items()}


def as_number(value: Any) -> float | None:
    """A number, also as the words that JSON writers use for those it lacks; None: something else."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in ("nan", "inf", "-inf", "infinity", "-infinity"):
        return float(value)
    return None


def table_log(
    columns: Mapping[str, Points], n_rows: int, axis: str | None, said: Iterable[str] = (), of: int | None = None
) -> Log:
    """Rows and values of each column -> steps and values.

    Parameters
    ----------
    columns : mapping of str to (rows, values)
    n_rows : int
    of : int, optional
        How many of the rows are of this run; None: all.
    axis : str, optional
        The column of steps; ``"row"`` counts the rows; None: the first of the usual names.
    """
    said = list(said)
    if axis == "row":
        return Log(dict(columns), [*said, "steps are the numbers of the rows, from 0 on"], "row")
    name = guess_axis(columns, axis)
    steps = np.full(n_rows, np.nan)
    rows, values = columns[name]
    steps[rows] = values
    total = n_rows if of is None else of
    if without := total - len(rows):
        said.append(f"{without} of {total} rows have no {name!r}, and are left out")
    points = {}
    for key, (rows, values) in columns.items():
        if key != name and key not in CLOCKS:
            kept = np.isfinite(steps[rows])
            points[key] = (steps[rows][kept], values[kept])
    return Log(points, said, name)
