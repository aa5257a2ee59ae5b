"""Rows with named columns: numbers, and words that may name a run or a split."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from probe.readers.log import Log, Points
from probe.readers.names import ROW_NUMBERS, guess_axis
from probe.readers.numerals import is_percent, number_of
from probe.readers.spelling import has_percent

# Columns of loggers that hold no curves.
CLOCKS = {"_step", "_timestamp", "_runtime", "timestamp", "wall_time", "created_at", "Wall Time", "Wall time"}
MOST_WORDS = 10_000  # different ones in a column that may divide the rows
_FEW_WORDS = 1000  # different ones in rows that are added at once


class Words(NamedTuple):
    """Text cells of a column: row numbers (n,), codes (n,) and the text of each code."""

    rows: np.ndarray
    codes: np.ndarray
    labels: list[str]


@dataclass
class Table:
    """Cells of a table.

    Attributes
    ----------
    columns : dict of str to (rows, values)
        Row numbers and values of each column of numbers, without empty cells.
    n_rows : int
    notes, damage : list of str
        As in :class:`probe.readers.log.Log`.
    words : dict of str to Words
        Columns of text.
    units : dict of str to str
        Units of columns that have some: "%".
    """

    columns: dict[str, Points]
    n_rows: int
    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    words: dict[str, Words] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


class TableColumns:
    """Collector of rows into columns. A number takes 16 bytes, however sparse the rows are."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.text: set[str] = set()  # columns with values that are neither numbers nor short text
        self._rows: dict[str, array[int]] = {}
        self._values: dict[str, array[float]] = {}
        self._words: dict[str, tuple[array[int], array[int], dict[str, int]]] = {}
        self._percent: set[str] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one row. The keys of nested mappings are joined with slashes."""
        for key, value in row.items():
            self._put(key, value, self.n_rows)
        self.n_rows += 1

    def add_many(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows as :meth:`add` does, those with the same keys at once."""
        alike: dict[tuple[str, ...], list[int]] = {}
        for i, row in enumerate(rows):
            alike.setdefault(tuple(row), []).append(i)
        for keys, at in alike.items():
            own = rows if len(at) == len(rows) else [rows[i] for i in at]
            numbers = array("q", [self.n_rows + i for i in at])
            for key, column in zip(keys, zip(*[row.values() for row in own], strict=True), strict=True):
                self._put_column(key, column, numbers)
        self.n_rows += len(rows)

    def _put_column(self, name: str, column: Sequence[Any], rows: "array[int]") -> None:
        kinds = {*map(type, column)}
        if kinds <= {int, float}:
            try:
                self._values.setdefault(name, array("d")).extend(array("d", column))
                self._rows.setdefault(name, array("q")).extend(rows)
                return
            except OverflowError:  # an integer of hundreds of digits
                pass
        different = {*column} if kinds == {str} else {}
        if 0 < len(different) <= _FEW_WORDS and all(number_of(word) is None for word in different):
            for word, place in zip(column, rows, strict=True):
                self._put_word(name, word, place)
            return
        for value, place in zip(column, rows, strict=True):
            self._put(name, value, place)

    def _put(self, name: str, value: Any, row: int) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                self._put(f"{name}/{key}", inner, row)
        elif (number := as_number(value)) is not None:
            self._rows.setdefault(name, array("q")).append(row)
            self._values.setdefault(name, array("d")).append(number)
            if isinstance(value, str) and is_percent(value):
                self._percent.add(name)
        elif isinstance(value, str) and name not in self.text:
            self._put_word(name, value, row)
        elif value is not None:
            self.text.add(name)

    def _put_word(self, name: str, value: str, row: int) -> None:
        rows, codes, labels = self._words.setdefault(name, (array("q"), array("q"), {}))
        rows.append(row)
        codes.append(labels.setdefault(value.strip(), len(labels)))
        if len(labels) > MOST_WORDS:
            self.text.add(name)
            del self._words[name]

    def points(self) -> dict[str, Points]:
        """Return row numbers and values of each column."""
        every = np.arange(self.n_rows)
        found = {}
        for name, rows in self._rows.items():
            at, values = np.array(rows), np.array(self._values[name])
            if len(at) > 1 and (at[1:] < at[:-1]).any():  # rows with other keys were added between
                order = np.argsort(at, kind="stable")
                at, values = at[order], values[order]
            found[name] = (every if len(at) == self.n_rows else at, values)
        return found

    def fill(self, table: Table) -> Table:
        """Put all columns into a table, with notes about columns and entries that are not numbers."""
        table.columns, table.n_rows = self.points(), self.n_rows
        words = {name: Words(np.array(r), np.array(c), list(known)) for name, (r, c, known) in self._words.items()}
        return with_words(table, words, self._percent, sorted(self.text - {*table.columns}))


def with_words(table: Table, words: Mapping[str, Words], percent: set[str], ignored: Sequence[str] = ()) -> Table:
    """Add the text of columns to a table. In a column with more numbers than words, the words are ignored."""
    for name, column in words.items():
        if len(column.rows) > len(table.columns.get(name, ((), ()))[0]):
            table.columns.pop(name, None)
            table.words[name] = column
        else:
            table.notes.append(f"{name}: {len(column.rows)} entries are no numbers and were ignored")
    table.units |= {name: "%" for name in table.columns if name in percent or has_percent(name)}
    if ignored:
        table.notes.append(ignored_note(ignored))
    return table


def ignored_note(names: Sequence[str]) -> str:
    """Return the note about columns without numbers."""
    return f"columns without numbers were ignored: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def as_number(value: Any) -> float | None:
    """Return a number, also from text such as "NaN", "1,234" or "98.5%"; None for other values."""
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return None
    return number_of(value) if isinstance(value, str) else None


def table_log(table: Table, axis: str | None, n_own_rows: int | None = None) -> Log:
    """Return the log of a table that is one run: steps and values in place of rows and values.

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
        return Log(dict(table.columns), [*notes, ROW_NUMBERS], table.damage, "row", units=table.units)
    name = guess_axis(table.columns, axis)
    steps = steps_of(table, name)
    total = table.n_rows if n_own_rows is None else n_own_rows
    if without := total - len(table.columns[name][0]):
        notes.append(f"{without} of {total} rows have no {name!r} and were ignored")
    points = {
        key: points_at(steps, *column) for key, column in table.columns.items() if key != name and key not in CLOCKS
    }
    return Log(points, notes, table.damage, name, units=table.units)


def steps_of(table: Table, name: str) -> np.ndarray:
    """Return the step of each row, NaN where there is none."""
    rows, values = table.columns[name]
    if len(rows) == table.n_rows:
        return values.astype(float, copy=False)
    steps = np.full(table.n_rows, np.nan)
    steps[rows] = values
    return steps


def points_at(steps: np.ndarray, rows: np.ndarray, values: np.ndarray) -> Points:
    """Return the points of a column in the rows that have a step."""
    own = steps if len(rows) == len(steps) else steps[rows]
    kept = np.isfinite(own)
    return (own, values) if kept.all() else (own[kept], values[kept])
