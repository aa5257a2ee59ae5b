"""What a record shows: a hump, a rise that has not yet fallen, or neither. The decision of second_descent.

The origin of the constants is that in :mod:`probe.phases.markers.humps`.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from probe.phases.markers.cells import Cells, cells_of, log_time, opened
from probe.phases.markers.humps import (
    LEAST_ROWS,
    MOST_HUMPS,
    SHORTEST,
    Hump,
    Wiggles,
    humps_of,
    is_spike,
    median,
    record_ranges,
)
from probe.phases.markers.marker import Status
from probe.stats.curves.prominence import third_differences

_RESOLUTIONS = ((24, SHORTEST), (12, 0.0))  # cells in a decade, width of the opening; the second one averages more
_LEAST_CELLS = 5
_SMOOTH_SHARE = 0.4  # of the least size, on a smooth curve: readers see a hump of 1.2 % of the range there
_SMOOTH, _CLEAN = 10.0, 40.0  # clarity of a smooth curve, and of one without noise
_STANDS_ALONE = 8.0  # standing of a hump on a smooth curve that may be smaller
_SMALLEST = 0.25  # of the least size: the smallest wiggle that counts for the contrast
_FIRST_DECADE, _FIRST_SHARE = 1.0, 0.12  # a smaller wiggle this early, without a fall before it, is the initial descent
_LEAST_CLARITY = 4.5  # of a hump; more in records of few observations, by up to the second of the next numbers
_FEW_WIGGLES = 1.3  # less one hundredth of the cells: the next largest wiggle of few cells is uncertain
_FEW_ROWS, _FEW_MOST = 50, 1.3
_VISIBLE = (4.0, 1.7)  # clarity and standing of a hump that is visible in fine cells
_ONE_OF_SEVERAL = 0.6  # standing of a hump on a smooth curve that has another one as large
_CLEARER = 7.0  # clarity that it has in coarse cells, if averaging makes it clearer
_MANY_ROWS = (4.0, 15)  # standing in fine cells, and observations, of a hump that coarse cells decide
_SHORT_STANDING = 3.4  # the same standing in a record of fewer than _SHORT observations
_RANDOM_WALK = (5.4, 26.0)  # contrast that a random walk reaches rarely; clarity from which less is needed
_SHORT, _SHORT_WALK = 100, (4.7, 26.0)  # the same in a record of fewer observations
_NO_WALK = (2.6, 15.0)  # the same for noise that is white, or a curve that is smooth
_LEAST_CONTRAST = 1.5
_MEMORY = (1.1, 3.2)  # growth of third differences: white noise below, smooth curves above
_WINDOW = 24  # cells, at least, from which the growth is taken
_COLLAPSE = (4.0, 0.75)  # times its rise: a hump that falls by more needs this share of the contrast, as in grokking
_END_SHARE = 2 / 3  # of the least size, for a rise at the end of some clarity
_MEMORY_CELLS = 60  # cells that such an estimate needs
_EARLY = 1.2  # decades
_EARLY_SHARE = 0.3  # of an early swing: a later rise of that size makes it a part of the rise
_FLAT = 0.12  # of the final rise: the curve is flat within this band
_PLATEAU = (0.85, 0.3)  # decades and share of the observations: readers call a rise that is flat for longer a plateau
_END_CLARITY = (4.0, 8.0)  # of a rise at the end, at the finer and at the coarser resolution


_PLATEAU_OR_RISE = {True: (Status.ABSENT, "plateau"), False: (Status.RIGHT_CENSORED, "rise")}


@dataclass
class End:
    """The rise from the lowest value to the end of the record."""

    low: int  # cell
    size: float
    share: float
    clarity: float
    standing: float
    plateau: bool


@dataclass
class View:
    """A record at one resolution."""

    cells: Cells
    end: End
    humps: list[Hump] = field(default_factory=list)  # above the largest gap in the sorted sizes, the largest first
    sudden: list[Hump] = field(default_factory=list)  # set aside, because they rise as a spike does

    def needed(self, clarity: float, left: int, right: int) -> float:
        """Return the contrast that a hump from ``left`` to ``right`` needs: less, the higher above the roughness."""
        n = len(self.cells.x)
        if clarity < _least_clarity(self.cells):
            return np.inf
        walk = n < _MEMORY_CELLS or _MEMORY[0] <= self._memory(left, right) <= _MEMORY[1]
        of_walk = _RANDOM_WALK if self.cells.stop[-1] >= _SHORT else _SHORT_WALK
        most, enough = of_walk if walk else _NO_WALK
        few = max(1, _FEW_WIGGLES - n / 100)
        return min(max(most * (enough / clarity) ** 1.5, _LEAST_CONTRAST), most) * few

    def _memory(self, left: int, right: int) -> float:
        """Return how third differences grow if they reach over twice the distance, around some cells.

        1 for white noise, 1.4 and more for a random walk, up to 8 for a smooth curve.
        """
        m = len(self.cells.x)
        start, stop = max(0, left - 8), min(m, right + 8)
        if stop - start < _WINDOW:
            start = max(0, min(start, m - _WINDOW))
            stop = min(m, start + _WINDOW)
        x, values = self.cells.x[start:stop], self.cells.values[start:stop]
        near, far = (median(third_differences(x, values, lag)) for lag in (1, 2))
        return float(far / near) if near > 0 else np.inf


@dataclass
class Shape:
    """The decision about a record, and the hump or the rise at the end that it concerns."""

    status: Status
    reason: str
    cells: Cells = field(default_factory=Cells.empty)
    about: Hump | End | None = None
    humps: list[Hump] = field(default_factory=list)  # that were found, in the order of their tops


def shape_of(steps: np.ndarray, values: np.ndarray, least_size: float) -> Shape:
    """Decide what a record shows."""
    if np.ptp(values) == 0:
        return Shape(Status.ABSENT, "constant")
    x = log_time(steps)
    fine = _view(x, values, *_RESOLUTIONS[0], least_size)
    if fine is None:
        too_few = len(cells_of(x, values, _RESOLUTIONS[0][0]).x) < _LEAST_CELLS
        return Shape(Status.UNDEFINED, "cells") if too_few else Shape(Status.ABSENT, "small")
    if (found := _found(fine, fine, least_size)) is not None:
        return found
    coarse = _view(x, values, *_RESOLUTIONS[1], least_size) or fine
    if (found := _found(coarse, fine, least_size)) is not None:
        return found
    for view, least in zip((fine, coarse), _END_CLARITY, strict=True):
        if view.end.clarity >= least and _has_risen(view, least_size):
            return Shape(*_PLATEAU_OR_RISE[fine.end.plateau], view.cells, view.end)
    return _not_found(fine, least_size)


def _view(x: np.ndarray, values: np.ndarray, per_decade: int, width: float, least_size: float) -> View | None:
    """Return the record at one resolution, or None if it is constant or has too few cells."""
    cells = cells_of(x, values, per_decade)
    if len(cells.x) < _LEAST_CELLS:
        return None
    smooth = opened(cells, cells.values, width) if width else cells.values
    if np.ptp(smooth) == 0:
        return None
    rough = cells.roughness(values)
    wiggles, humps = Wiggles(cells, rough), humps_of(cells, smooth, rough, values)
    humps = [hump for hump in humps if hump.share >= _SMOOTH_SHARE * least_size]
    first = [hump for hump in humps if _is_first_wiggle(hump, cells, smooth)]
    sudden = [hump for hump in humps if hump not in first and _is_sudden(hump, cells, x, values)]
    aside = first + sudden
    candidates = [hump for hump in humps if hump not in aside]
    clear = [hump for hump in candidates if hump.clarity >= _least_clarity(cells)]
    chosen = _above_the_gap(clear or candidates[:1], aside, wiggles, _SMALLEST * least_size)
    return View(cells, _end(cells, smooth, rough, wiggles, len(x)), chosen, sudden)


def _least_clarity(cells: Cells) -> float:
    """Return the clarity that a hump needs: more in a record of few observations."""
    return _LEAST_CLARITY * min(max(_FEW_ROWS / int(cells.stop[-1]), 1), _FEW_MOST)


def _is_first_wiggle(hump: Hump, cells: Cells, smooth: np.ndarray) -> bool:
    """Return whether a hump is the first wiggle of the initial descent."""
    from_start = smooth[: hump.left + 1].max() - smooth[: hump.top].min() < hump.size / 2
    return bool(from_start and hump.share < _FIRST_SHARE and cells.x[hump.top] - cells.x[0] < _FIRST_DECADE)


def _is_sudden(hump: Hump, cells: Cells, x: np.ndarray, values: np.ndarray) -> bool:
    """Return whether a hump rises as a spike does."""
    return is_spike(x, values, int(cells.first[hump.valley]), int(cells.stop[hump.right - 1]))


def _above_the_gap(candidates: list[Hump], aside: list[Hump], wiggles: Wiggles, smallest: float) -> list[Hump]:
    """Return the humps above the largest gap in the sorted sizes, with what they exceed the other wiggles by."""
    chosen: list[Hump] = []
    for m in range(1, min(MOST_HUMPS, len(candidates)) + 1):
        own = set().union(*(wiggles.of(hump) for hump in [*candidates[:m], *aside]))
        last = candidates[m - 1]
        contrast = last.size / max(wiggles.largest(own)[0], smallest * last.size / last.share)
        if not chosen or contrast > chosen[-1].contrast:
            chosen = [
                replace(hump, contrast=contrast, standing=wiggles.standing(hump.size, hump.clarity, own))
                for hump in candidates[:m]
            ]
    return chosen


def _end(cells: Cells, smooth: np.ndarray, rough: np.ndarray, wiggles: Wiggles, n: int) -> End:
    """Return the rise at the end, from a valley that lasts."""
    closed = -opened(cells, -cells.values, SHORTEST)
    low = int(np.argmin(closed[:-2]))
    last = min(float(smooth[-2:].min()), median(smooth[-3:]))
    size = float(last - closed[low])
    clarity = size / max(median(rough[low:]), float(rough[-1]))
    far = np.flatnonzero(np.abs(smooth - last) > _FLAT * size)
    flat = min(int(far[-1]) + 1 if len(far) else 0, len(smooth) - 1)
    plateau = cells.x[-1] - cells.x[flat] > _PLATEAU[0] and n - cells.first[flat] > _PLATEAU[1] * n
    share = size / float(record_ranges(smooth)[low])
    return End(low, size, share, clarity, wiggles.standing(size, clarity), bool(plateau))


def _is_large(hump: Hump, least_size: float) -> bool:
    smooth = hump.clarity >= _CLEAN or (hump.clarity >= _SMOOTH and hump.standing >= _STANDS_ALONE)
    return hump.share >= least_size * (_SMOOTH_SHARE if smooth else 1)


def _is_clear(hump: Hump, view: View, least_size: float) -> bool:
    """Return whether a hump has the least size and exceeds the other wiggles by as much as it needs."""
    if not _is_large(hump, least_size):
        return False
    collapse = _COLLAPSE[1] if hump.fall > _COLLAPSE[0] and len(view.cells.x) >= 35 else 1
    return hump.standing >= view.needed(hump.clarity, hump.left, hump.right) * collapse


def _has_risen(view: View, least_size: float) -> bool:
    """Return whether the curve ends on a rise of the least size that exceeds all wiggles."""
    end = view.end
    share = least_size * (_SMOOTH_SHARE if end.clarity >= _CLEAN else _END_SHARE if end.clarity >= 5 else 1)
    return end.share >= share and end.standing >= view.needed(end.clarity, end.low, len(view.cells.x))


def _found(view: View, fine: View, least_size: float) -> Shape | None:
    """Return the humps that are found at one resolution, or None."""
    if not all(_is_clear(hump, view, least_size) for hump in view.humps):
        return None
    humps = sorted((h for h in view.humps if h.turned and h.n_rows >= LEAST_ROWS), key=lambda hump: hump.top)
    if not humps or _is_early_swing(humps[-1], view, least_size):
        return None
    if view is not fine and not _confirms(humps[-1], fine):
        return None
    return Shape(Status.FOUND, "hump", view.cells, humps[-1], humps)


def _is_early_swing(hump: Hump, view: View, least_size: float) -> bool:
    """Return whether a hump at the start of the record is part of a rise to its end."""
    end, x = view.end, view.cells.x
    later = end.low > hump.top and end.size > _EARLY_SHARE * hump.size and x[hump.top] - x[0] < _EARLY
    return bool(later and _has_risen(view, least_size))


def _confirms(hump: Hump, fine: View) -> bool:
    """Return whether a hump in coarse cells was visible in fine ones, and is clearer there or has many observations."""
    if not fine.humps or fine.humps[0].clarity < _VISIBLE[0]:
        return False
    first = fine.humps[0]
    clearer = first.standing > _VISIBLE[1] and hump.clarity >= max(_CLEARER, 1.05 * first.clarity)
    least = _MANY_ROWS[0] if fine.cells.stop[-1] >= _SHORT else _SHORT_STANDING
    return clearer or (first.standing >= least and hump.n_rows >= _MANY_ROWS[1])


def _not_found(view: View, least_size: float) -> Shape:
    """Return "undecided" for a hump of the least size that is no clearer than other wiggles, else "absent"."""
    hump = view.humps[0] if view.humps else None
    sudden = next((h for h in view.sudden if h.share >= least_size and h.turned and h.n_rows >= LEAST_ROWS), None)
    if sudden is not None and (hump is None or sudden.size > hump.size):
        return Shape(Status.UNDECIDED, "sudden", view.cells, sudden)
    if hump is None or not _is_large(hump, least_size):
        return Shape(Status.ABSENT, "small", view.cells, hump)
    if hump.n_rows < LEAST_ROWS and _is_clear(hump, view, least_size):
        return Shape(Status.UNDECIDED, "rows", view.cells, hump)
    one_of_several = hump.clarity >= _SMOOTH and hump.standing > _ONE_OF_SEVERAL
    visible = hump.clarity >= _VISIBLE[0] and hump.standing > _VISIBLE[1]
    shown = hump.n_rows >= LEAST_ROWS and hump.contrast > _VISIBLE[1]
    if not (visible or one_of_several or shown):
        return Shape(Status.ABSENT, "noise", view.cells, hump)
    why = "scatter" if hump.contrast >= _RANDOM_WALK[0] else "wiggles"
    return Shape(Status.UNDECIDED, why if hump.turned else "undone", view.cells, hump)
