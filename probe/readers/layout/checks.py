"""The layout of a table as data, and errors for tables whose layout is not clear."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from probe.readers.layout.courses import Course
from probe.readers.layout.labels import (
    COUNTERS,
    RUN_NAMES,
    SPLIT_NAMES,
    Labels,
    columns_of,
    is_measure,
    labels_of,
    plain,
)
from probe.readers.layout.splits import split_kinds
from probe.readers.layout.steps import Axis
from probe.readers.reader import ReadOptions
from probe.readers.table import Table


@dataclass
class Layout:
    """Meaning of the rows of a table.

    Attributes
    ----------
    axis : Axis
    runs : array of shape (n_rows,) or None
        Number of the run of each row, -1 for none. None: one run.
    labels : list of str
        Label of each run.
    coords : dict of str to list
        For each column that names runs, or is constant in every run, its value in each run.
    split : Labels or None
        The split of each row.
    used : set of str
        Columns that are no curves.
    notes : list of str
    """

    axis: Axis
    runs: np.ndarray | None = None
    labels: list[str] = field(default_factory=lambda: [""])
    coords: dict[str, list[float | str]] = field(default_factory=dict)
    split: Labels | None = None
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def check_no_summary(table: Table, layout: Layout, options: ReadOptions, where: str) -> None:
    """Raise for a table with one row per run, which has no curves."""
    steps = layout.axis.steps[np.isfinite(layout.axis.steps)]
    if len(steps) < 2 or layout.axis.name == "row":
        return
    usual = [name for name in columns_of(table) if plain(name) in RUN_NAMES and name not in layout.used]
    constant = (steps == steps[0]).all()
    alone = [name for name in usual if _distinct(table, name) == len(steps)]
    if not constant and not (alone and (np.diff(steps) <= 0).any()):
        return
    found = f"{layout.axis.name} = {steps[0]:g} in all of them" if constant else f"another {alone[0]!r} in each of them"
    raise ValueError(
        f"Expected rows along the training of each run in {where}, got {len(steps)} rows with {found}, as in a summary "
        "with one row per run; read the logs of the runs, name the column that counts with axis= (--axis), or number "
        "the rows with --axis row"
    )


def _distinct(table: Table, name: str) -> int:
    return len(table.words[name].labels) if name in table.words else len(np.unique(table.columns[name][1]))


def check_clear_runs(table: Table, layout: Layout, course: Course, chosen: Sequence[str], where: str) -> None:
    """Raise if rows would be lost because the runs are not clear."""
    axis = layout.axis
    if course.rank and not (course.n_back and not chosen and _changing(table, layout)):
        return
    given = " ".join(f"--run {name} " for name in chosen)
    splits = _splits(table, layout)
    options_left = [name for name in _choices(table, layout) if name not in splits]
    inside = f" within {' and '.join(chosen)}" if chosen else ""
    if course.n_again:
        times = "once" if course.n_again == 1 else f"{course.n_again} times, first"
        found = f"{axis.name!r} starting again{inside} {times} at row {course.first_again + 1}"
    elif course.n_back and course.rank:
        found = f"{axis.name!r} going back where {_changing(table, layout)[0]!r} changes"
    else:
        found = f"{course.repeated:.0%} of the rows repeating a value of {axis.name!r}{inside}"
    options_shown = " or ".join(f"{given}--run {name}" for name in options_left)
    columns = f"divide the rows by columns with run= ({options_shown}), " if options_left else ""
    columns += "".join(f"take the splits from a column with split= (--split {name}), " for name in splits[:1])
    blocks = "make each block a run with --run block, " if course.n_again else ""
    raise ValueError(
        f"Expected increasing steps in {where}, got {found}; {columns}{blocks}keep the last "
        "row of each step with --run none, or number the rows with --axis row"
    )


def _splits(table: Table, layout: Layout) -> list[str]:
    """Return the columns that may name splits, with unusual names or values."""
    names = [name for name in columns_of(table) if name not in layout.used] if layout.split is None else []
    found = {name: labels for name in names if (labels := labels_of(table, name)) is not None}
    return [name for name, labels in found.items() if plain(name) in SPLIT_NAMES or any(split_kinds(labels))]


def _changing(table: Table, layout: Layout) -> list[str]:
    """Return the columns with names of runs that have several values."""
    names = [name for name in columns_of(table) if plain(name) in RUN_NAMES and name not in layout.used]
    return [name for name in names if (labels := labels_of(table, name)) is not None and len(labels.values) > 1]


def _choices(table: Table, layout: Layout) -> list[str]:
    """Return at most five columns that could divide the rows, those with usual names first."""
    names = [name for name in columns_of(table) if name not in layout.used and not is_measure(name)]
    names = [name for name in names if plain(name) not in COUNTERS]
    found = {name: labels for name in names if (labels := labels_of(table, name)) is not None}
    few = [name for name, labels in found.items() if 1 < len(labels.values) <= table.n_rows / 2]
    return sorted(few, key=lambda name: plain(name) not in RUN_NAMES)[:5]
