"""The columns of a table that divide its rows among runs."""

from collections.abc import Mapping, Sequence

import numpy as np

from probe.readers.layout.courses import Course, course_of
from probe.readers.layout.labels import (
    ALWAYS_RUNS,
    COUNTERS,
    RUN_NAMES,
    SPLIT_NAMES,
    Labels,
    columns_of,
    is_measure,
    joined_codes,
    labels_of,
    plain,
    same_rows,
)
from probe.readers.layout.splits import split_kinds
from probe.readers.layout.steps import Axis
from probe.readers.table import CLOCKS, Table

_EARLY = 0.1  # share of the steps in which each run starts
_UNNAMED = ("unnamed: ", "index")  # the index of a DataFrame


def candidates_of(table: Table, axis: Axis, alone: Course, given: str | None) -> dict[str, Labels]:
    """Return the columns that may name runs: few values, which all occur among the first steps.

    If the steps do increase without them, only columns with usual names such as seed are considered. Numbers that
    count are no runs, unless the user gave an axis of another kind.
    """
    rows = np.flatnonzero(np.isfinite(axis.steps))
    counting = given is None or plain(given) in COUNTERS
    found = {}
    for name in columns_of(table):
        usual = plain(name) in RUN_NAMES
        if name in axis.used or name in CLOCKS or is_measure(name) or (alone.rank == 2 and not usual):
            continue
        if (plain(name) in COUNTERS and counting) or plain(name).startswith(_UNNAMED):
            continue
        labels = labels_of(table, name)
        if plain(name) in SPLIT_NAMES or (labels is not None and not usual and any(split_kinds(labels))):
            continue
        if labels is None or len(labels.values) < 2 or (labels.codes[rows] < 0).any():
            continue
        if plain(name) in ALWAYS_RUNS or _start_together(axis.steps[rows], labels.codes[rows], len(labels.values)):
            found[name] = labels
    return found


def _start_together(steps: np.ndarray, codes: np.ndarray, n: int) -> bool:
    """Return whether all values occur among the first steps, and most of them at several steps."""
    first, last = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(first, codes, steps)
    np.maximum.at(last, codes, steps)
    first, last = first[np.isfinite(first)], last[np.isfinite(last)]
    different = np.unique(steps)
    early = different[min(len(different) - 1, max(1, int(_EARLY * len(different))))]
    return len(first) > 1 and bool((first <= early).all()) and float((last > first).mean()) > 0.5


def explaining(
    axis: Axis,
    patterns: Sequence[np.ndarray],
    candidates: Mapping[str, Labels],
    splits: np.ndarray | None,
    alone: Course,
    where: str,
    *,
    may_repeat: bool,
) -> tuple[str, ...]:
    """Return the fewest columns with which the steps of each run increase; none if no column is needed.

    Raises
    ------
    ValueError
        If columns with different runs explain the steps alike.
    """

    def rank(names: Sequence[str]) -> int:
        codes = [candidates[name].codes for name in names]
        groups = joined_codes(codes if splits is None else [*codes, splits])
        return course_of(axis.steps, patterns, groups, may_repeat=may_repeat).rank

    usual = [name for name in candidates if plain(name) in RUN_NAMES]
    weakest = [name for name in reversed(list(candidates)) if name not in usual] + usual[::-1]
    weakest.sort(key=lambda name: plain(name) in ALWAYS_RUNS)
    if not weakest or ((best := rank(weakest)) <= alone.rank and alone.rank < 2):
        return ()
    chosen = list(weakest)
    for name in weakest:
        rest = [one for one in chosen if one != name]
        if rest and rank(rest) >= best:
            chosen = rest
    runs = joined_codes([candidates[name].codes for name in chosen])
    for other in [name for name in candidates if name not in chosen and alone.rank < 2 and rank([name]) >= best]:
        if not same_rows(candidates[other].codes, runs):
            options = " or ".join(" ".join(f"--run {name}" for name in names) for names in (chosen, [other]))
            raise ValueError(
                f"Expected one way to divide the rows of {where} among runs, got {', '.join(chosen)} and {other}; "
                f"choose with run= ({options})"
            )
    return tuple(name for name in candidates if name in chosen)
