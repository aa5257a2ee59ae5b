"""Tables as logs: one log for each run, with one curve for each column and split."""

from collections.abc import Iterator

import numpy as np

from probe.readers.layout.checks import Layout
from probe.readers.layout.labels import is_measure, plain
from probe.readers.layout.layout import find_layout
from probe.readers.log import Log, Points
from probe.readers.names import SPLITS
from probe.readers.reader import ReadOptions
from probe.readers.table import CLOCKS, Table, ignored_note, points_at

_NAMES = ("variable", "metric.name", "metric", "measure", "key", "tag", "quantity", "name")  # of curves in a long table
_VALUES = ("value", "values")
_ROW_NUMBERS = {"", "index", "idx", "unnamed:_0"}  # columns of a long table that number its rows


def table_logs(table: Table, options: ReadOptions, where: str) -> dict[str, Log]:
    """Return the runs of a table by label; "" is the label of a single run.

    Parameters
    ----------
    table : Table
    options : ReadOptions
        What the user has said about the columns.
    where : str
        Name of the file, for messages.

    Raises
    ------
    ValueError
        If the meaning of the columns is not clear.
    """
    table = wide(table)
    layout = find_layout(table, options, where)
    if ignored := sorted(name for name in table.words if name not in layout.used):
        table.notes.append(ignored_note(ignored))
    logs = divided(table, layout)
    for log in logs.values():
        log.notes += [*table.notes, *layout.notes]
    next(iter(logs.values())).damage += table.damage
    return logs


def divided(table: Table, layout: Layout) -> dict[str, Log]:
    """Return the runs of a table by label."""
    logs = {
        label: Log(
            {}, axis=layout.axis.name, units=table.units, coords={name: of[i] for name, of in layout.coords.items()}
        )
        for i, label in enumerate(layout.labels)
    }
    every = list(logs.values())
    for name, column in table.columns.items():
        if name not in layout.used and name not in CLOCKS:
            for i, own in _of_runs(column, layout):
                every[i].points |= _of_splits(name, own, layout)
    return logs


def _of_runs(column: Points, layout: Layout) -> Iterator[tuple[int, Points]]:
    """Yield the rows and values of a column in each run."""
    rows, values = column
    if layout.runs is None:
        yield 0, column
        return
    runs = layout.runs[rows]
    order = np.argsort(runs, kind="stable")
    edges = np.flatnonzero(np.diff(runs[order])) + 1
    for part in np.split(order, edges):
        if len(part) and runs[part[0]] >= 0:
            yield int(runs[part[0]]), (rows[part], values[part])


def _of_splits(name: str, column: Points, layout: Layout) -> dict[str, Points]:
    """Return the points of a column of one run, by the name of the column and the split.

    A column without a split in its name keeps its name if it is no loss or accuracy and has equal values in all splits,
    as a learning rate has.
    """
    rows, values = column
    if layout.split is None:
        return {name: points_at(layout.axis.steps, rows, values)}
    codes = layout.split.codes[rows]
    parts = {
        str(word): points_at(layout.axis.steps, rows[codes == code], values[codes == code])
        for code, word in enumerate(layout.split.values)
    }
    parts = {word: points for word, points in parts.items() if len(points[0])}
    if not parts:
        return {}
    own = next((kind for kind, words in SPLITS.items() if words & {*plain(name).replace("/", "_").split("_")}), None)
    if own and len(parts) == 1 and next(iter(parts)).lower() in SPLITS[own]:
        return {name: next(iter(parts.values()))}
    if not is_measure(name) and _agree(list(parts.values())):
        return {name: _united(list(parts.values()))}
    return {f"{word}/{name}": points for word, points in parts.items()}


def _agree(parts: list[Points]) -> bool:
    """Return whether curves have equal values at their common steps."""
    for steps, values in parts[1:]:
        _, one, other = np.intersect1d(parts[0][0], steps, return_indices=True)
        if not len(one) or not np.array_equal(parts[0][1][one], values[other], equal_nan=True):
            return False
    return True


def _united(parts: list[Points]) -> Points:
    """Return the points of curves that agree."""
    if len(parts) == 1:
        return parts[0]
    steps = np.concatenate([steps for steps, _ in parts])
    steps, first = np.unique(steps, return_index=True)
    return steps, np.concatenate([values for _, values in parts])[first]


def wide(table: Table) -> Table:
    """Return a table with a column for each name of a long table, whose rows hold one name and one value."""
    values = next((name for name in table.columns if plain(name) in _VALUES), None)
    names = next((name for plain_name in _NAMES for name in table.words if plain(name) == plain_name), None)
    if values is None or names is None or not {plain(name) for name in table.columns} - {*_VALUES}:
        return table
    rows, numbers = table.columns[values]
    codes = np.full(table.n_rows, -1)
    codes[table.words[names].rows] = table.words[names].codes
    others = {*_ROW_NUMBERS, plain(values)}
    columns = {name: column for name, column in table.columns.items() if plain(name) not in others}
    for code, label in enumerate(table.words[names].labels):
        own = codes[rows] == code
        columns[label] = rows[own], numbers[own]
    words = {name: some for name, some in table.words.items() if name != names}
    note = f"the table is long: the values of {names!r} are names, and {values!r} holds their numbers"
    return Table(columns, table.n_rows, [*table.notes, note], table.damage, words, table.units)
