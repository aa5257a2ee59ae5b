"""Layout of a table: its steps, its runs and its splits, found from the values or given by the user.

A column of runs has values with which the steps start again. A column of splits holds words such as train and val. What
cannot be decided is an error that lists the choices.
"""

from collections.abc import Sequence

import numpy as np

from probe.readers.layout.checks import Layout, check_clear_runs, check_no_summary
from probe.readers.layout.courses import course_of, restarts
from probe.readers.layout.labels import (
    ALWAYS_RUNS,
    BLOCKS,
    EPOCHS,
    NO_COLUMN,
    RUN_NAMES,
    Labels,
    check_column,
    columns_of,
    is_measure,
    joined_codes,
    labels_of,
    plain,
)
from probe.readers.layout.runs import candidates_of, explaining
from probe.readers.layout.splits import find_split
from probe.readers.layout.steps import find_axis
from probe.readers.log import text_of
from probe.readers.reader import ReadOptions
from probe.readers.table import Table


def find_layout(table: Table, options: ReadOptions, where: str) -> Layout:
    """Return the layout of a table.

    Raises
    ------
    ValueError
        If a column that the user named is missing, or the layout is not clear.
    """
    split = find_split(table, options.split, where)
    axis = find_axis(table, options.axis, None if split is None else split[1])
    layout = Layout(axis, used={*axis.used}, notes=list(axis.notes))
    if split is not None:
        name, layout.split = split
        layout.used.add(name)
        words = ", ".join(map(str, layout.split.values))
        layout.notes.append(f"the column {name!r} divides the rows among the splits {words}")
    check_no_summary(table, layout, options, where)
    _find_runs(table, layout, options, where)
    if axis.name == "row" and layout.runs is not None:
        axis.steps = _numbered(layout.runs)
    return layout


def _find_runs(table: Table, layout: Layout, options: ReadOptions, where: str) -> None:
    given = tuple(name for name in options.run if name not in (NO_COLUMN, BLOCKS) or name in columns_of(table))
    for name in given:
        check_column(table, name, "run")
    patterns = _patterns(table, layout.used)
    splits = None if layout.split is None else layout.split.codes
    if options.run and not given:
        if BLOCKS in options.run:
            _use_blocks(layout, patterns)
        return
    chosen, found, may_repeat = given, dict[str, Labels](), False
    for may_repeat in (
        (False, True) if options.axis is not None else (False,)
    ):  # of a given axis, the last of each counts
        course = course_of(layout.axis.steps, patterns, splits, may_repeat=may_repeat)
        if not given and not chosen:
            found = candidates_of(table, layout.axis, course, options.axis)
            chosen = explaining(layout.axis, patterns, found, splits, course, where, may_repeat=may_repeat)
        if chosen or course.rank:
            break
    if chosen:
        runs = _use_columns(layout, {name: found.get(name) or _given_labels(table, name) for name in chosen})
        codes = runs if splits is None else joined_codes([runs, splits])
        course = course_of(layout.axis.steps, patterns, codes, may_repeat=options.axis is not None)
        _use_constants(table, layout)
    check_clear_runs(table, layout, course, chosen, where)
    _use_settings(table, layout)


def _patterns(table: Table, used: set[str]) -> list[np.ndarray]:
    """Return the different sets of rows in which losses and accuracies have values, or all curves if there are none."""
    found: dict[tuple[int, int], np.ndarray] = {}
    curves = [name for name in table.columns if name not in used and plain(name) not in EPOCHS]
    for name in list(filter(is_measure, curves)) or curves:
        rows = table.columns[name][0]
        if len(rows):
            key = (len(rows), 0 if len(rows) == table.n_rows else hash(rows.tobytes()))
            found.setdefault(key, rows)
    return list(found.values())


def _given_labels(table: Table, name: str) -> Labels:
    if (labels := labels_of(table, name)) is None:
        raise ValueError(f"Expected a column with few different values as run, got {name!r} with many; choose another")
    return labels


def _use_columns(layout: Layout, columns: dict[str, Labels]) -> np.ndarray:
    """Divide the rows by the values of columns, and return the run of each: numbers sorted, words as they begin."""
    codes = joined_codes([labels.codes for labels in columns.values()])
    missing = np.any([labels.codes < 0 for labels in columns.values()], axis=0) | ~np.isfinite(layout.axis.steps)
    own, first, numbers = np.unique(codes[~missing], return_index=True, return_inverse=True)
    layout.runs = runs = np.full(len(codes), -1)
    runs[~missing] = numbers
    rows = np.flatnonzero(~missing)[first]
    coords = {name: [labels.values[labels.codes[row]] for row in rows] for name, labels in columns.items()}
    values = zip(*coords.values(), strict=True)
    named_run = len(columns) == 1 and plain(next(iter(columns))) == "run"
    bare = named_run or (len(columns) == 1 and not _numeric(next(iter(columns.values()))))
    layout.coords |= {} if named_run else coords  # its values are the labels themselves
    layout.labels = [
        ", ".join(text_of(v) if bare else f"{name} {text_of(v)}" for name, v in zip(columns, row, strict=True))
        for row in values
    ]
    layout.used |= {*columns}
    names = " and ".join(repr(name) for name in columns)
    plural = "s" if len(columns) > 1 else ""
    verb = "divide" if plural else "divides"
    layout.notes.append(f"the column{plural} {names} {verb} the rows among {len(own)} runs")
    if lost := int((missing & np.isfinite(layout.axis.steps)).sum()):
        layout.notes.append(f"{lost} rows have no value of {names} and were ignored")
    return runs


def _numeric(labels: Labels) -> bool:
    return not any(isinstance(value, str) for value in labels.values)


def _use_blocks(layout: Layout, patterns: Sequence[np.ndarray]) -> None:
    """Make a run of each block between restarts of the steps."""
    rows = max(patterns, key=len) if patterns else np.arange(0)
    rows = rows[np.isfinite(layout.axis.steps[rows])]
    starts = rows[restarts(layout.axis.steps[rows])]
    layout.runs = np.searchsorted(starts, np.arange(len(layout.axis.steps)), side="right")
    layout.labels = [f"block {number}" for number in range(1, len(starts) + 2)]
    layout.notes.append(f"the steps start again {len(starts)} times, and each block is a run")


def _use_constants(table: Table, layout: Layout) -> None:
    """Add the columns that are constant in every run, and differ between runs, to the coordinates of the runs."""
    assert layout.runs is not None
    for name in columns_of(table):
        if name in layout.used or is_measure(name) or plain(name) in EPOCHS:
            continue
        labels = labels_of(table, name)
        if labels is None or not 1 < len(labels.values) <= len(layout.labels):
            continue
        rows = np.flatnonzero((labels.codes >= 0) & (layout.runs >= 0))
        of_run = np.full(len(layout.labels), -1)
        of_run[layout.runs[rows]] = labels.codes[rows]
        if (of_run >= 0).all() and (of_run[layout.runs[rows]] == labels.codes[rows]).all():
            layout.coords[name] = [labels.values[code] for code in of_run]
            layout.used.add(name)


def _use_settings(table: Table, layout: Layout) -> None:
    """Make coordinates of columns such as a seed that are constant in the whole table."""
    for name in columns_of(table):
        if plain(name) in RUN_NAMES - ALWAYS_RUNS and name not in layout.used:
            labels = labels_of(table, name)
            if labels is not None and len(labels.values) == 1:
                layout.coords[name] = labels.values * len(layout.labels)
                layout.used.add(name)


def _numbered(runs: np.ndarray) -> np.ndarray:
    """Return the number of each row in its run."""
    order = np.argsort(runs, kind="stable")
    starts = np.flatnonzero(np.diff(runs[order], prepend=runs[order[0]] - 1)) if len(order) else order
    numbers = np.empty(len(runs))
    numbers[order] = np.arange(len(runs)) - np.repeat(starts, np.diff(np.append(starts, len(runs))))
    return numbers
