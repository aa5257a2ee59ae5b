"""Courses of steps: whether the steps of a run increase, were resumed, or start again as in another run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FEW = 0.1  # share of the rows that may be repeated, or abandoned by a restart
_FIRST = 0.02  # share of the first steps at which a run starts again


class Course(NamedTuple):
    """What the steps of rows do.

    Attributes
    ----------
    n_again : int
        How often the steps go back to their beginning, with more than a tenth of the rows before it.
    n_back : int
        How often they go back at all.
    repeated : float
        Share of the rows that repeat a step although the steps do not go back.
    unordered : bool
        The steps go back so often that they are in no order.
    first_again : int
        The first row at which the steps start again, -1 for none.
    """

    n_again: int = 0
    n_back: int = 0
    repeated: float = 0.0
    unordered: bool = False
    first_again: int = -1

    @property
    def rank(self) -> int:
        """2: one course, perhaps resumed; 1: different steps in no order; 0: rows that this does not explain."""
        if self.repeated > _FEW or self.n_again:
            return 0
        return 1 if self.unordered else 2


def course_of(
    steps: np.ndarray, patterns: Sequence[np.ndarray], groups: np.ndarray | None = None, *, may_repeat: bool = False
) -> Course:
    """Return the course of the steps in all groups and patterns, the least clear values of any.

    Parameters
    ----------
    steps : array of shape (n_rows,)
    patterns : sequence of arrays
        Numbers of the rows in which some columns have values. Train and test columns may have separate rows.
    groups : array of shape (n_rows,), optional
        The group of each row, such as its run. None: one group.
    may_repeat : bool
        Repeated steps are as the user wants them: the last value of each counts.
    """
    found = [Course()]
    for rows in patterns:
        rows = rows[np.isfinite(steps[rows])]
        if groups is None:
            found.append(_course(steps[rows], rows))
            continue
        order = rows[np.argsort(groups[rows], kind="stable")]
        edges = np.flatnonzero(np.diff(groups[order])) + 1
        found += [_course(steps[part], part) for part in np.split(order, edges)]
    firsts = [one.first_again for one in found if one.first_again >= 0]
    return Course(
        max(one.n_again for one in found),
        max(one.n_back for one in found),
        0.0 if may_repeat else max(one.repeated for one in found),
        any(one.unordered for one in found),
        min(firsts, default=-1),
    )


def _course(steps: np.ndarray, rows: np.ndarray) -> Course:
    """Return the course of one group."""
    n = len(steps)
    if n < 2:
        return Course()
    increments = np.diff(steps)
    back = np.flatnonzero(increments < 0) + 1
    repeated = float((increments == 0).sum() / n)
    if not len(back):
        return Course(repeated=repeated)
    again = restarts(steps, back)
    different = len(np.unique(steps))
    unordered = len(back) > max(3, n // 10)
    if unordered and different >= (1 - _FEW) * n:
        return Course(0, len(back), 0.0, True)
    if not len(again):
        return Course(0, len(back), 1 - different / n if unordered else repeated, unordered)
    return Course(len(again), len(back), repeated, unordered, int(rows[again[0]]))


def restarts(steps: np.ndarray, back: np.ndarray | None = None) -> np.ndarray:
    """Return the positions at which the steps start again. Few rows before them are a false start, and none."""
    back = np.flatnonzero(np.diff(steps) < 0) + 1 if back is None else back
    n = len(steps)
    if not len(back):
        return back
    first = np.unique(steps[: back[0]])
    beginning = first[min(len(first) - 1, max(int(_FIRST * len(first)), int(len(first) >= 10)))]
    many = back[np.diff(np.append(back, n)) > 1]  # a single earlier point is no restart
    again = many[steps[many] <= beginning]
    return again if len(again) and again[-1] > _FEW * n else again[:0]
