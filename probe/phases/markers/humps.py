"""Humps of a recorded curve: their sizes, and the other wiggles of the record. No rule here models the noise.

Constants without a source were set on real curves that experts had read before, and on simulated curves without a
hump (docs/phases_truth.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from probe.phases.markers.cells import Cells
from probe.stats.curves.prominence import prominences
from probe.stats.noise import NORMAL_MAD

MOST_HUMPS = 4  # humps of one record
LEAST_ROWS = 3  # observations that must show a hump
SHORTEST = 0.1  # decades: what lasts less is neither a hump nor a valley
_SHOWN = 0.8  # of its height, from the top: observations that show a hump
_LEAST_RANGE = 0.4  # of the whole range: the least range with which a hump is compared
_TURNED = 0.06  # of the rise: readers call a fall of 10 % a turn, one of 3 % not
_HALF = 0.5  # of the rise: a fall of this much counts, even if a later rise undoes it
_NEAR = 7  # cells: the roughness beside a wiggle is the largest within these
_LOCAL = 0.7  # weight of a contrast in units of the local roughness, which is less certain
_SAME = 1e-9  # of a height; values that differ by less differ by rounding
_TINY = 1e-6  # of a size: the least wiggle with which it is compared
_WIDE = 15.0  # clarity from which a wiggle on a hump belongs to the hump
_ON_HUMP = 0.6  # of the hump: the largest such wiggle
_JUMP = 0.7  # of the rise of a spike happens at once
_JUMP_NOISE = 0.15  # of the jump: with more noise, a spike is not recognised
_AT_ONCE = 0.08  # decades
_SUDDEN = 0.2  # decades between two observations in which no hump of training rises
_KINK = 0.12  # of the jump: the first fall of a decay, and what has risen two observations before its top, at most
_SLOWLY = 2.0  # times the duration of the jump: a spike takes longer to fall by half


@dataclass
class Hump:
    """One peak of a curve, with the valleys on its two sides. Positions are cells."""

    top: int
    valley: int  # lowest cell before the top
    left: int  # first cell above the higher valley
    right: int  # cell behind the last one above it
    half: slice  # cells of more than half its height
    size: float  # height above the higher valley, in units of the curve
    share: float  # size over record_ranges
    clarity: float  # size over the roughness
    rise: float  # height above the lowest value before
    fall: float  # share of the rise that is undone at the end of the record
    best_fall: float  # the same at best
    n_rows: int  # observations that show it
    contrast: float = np.nan  # size over the next largest wiggle
    standing: float = np.nan  # contrast, or that in units of the local roughness, whichever is larger

    @property
    def fall_holds(self) -> bool:
        """Whether the curve ends lower than the top by more than a wiggle."""
        return self.fall >= _TURNED

    @property
    def turned(self) -> bool:
        """Whether the curve falls after the top, and keeps the fall or falls by half of the rise."""
        return self.fall_holds or self.best_fall >= _HALF


class Wiggles:
    """All peaks of the medians, without opening."""

    def __init__(self, cells: Cells, rough: np.ndarray) -> None:
        self.values = cells.values
        self.peaks, self.heights = prominences(cells.values)
        self.local = self.heights / maximum_filter1d(rough, _NEAR)[self.peaks]

    def of(self, hump: Hump) -> set[int]:
        """Return the positions of the wiggles that are the hump itself, or lie on a wide one."""
        inside = (self.peaks >= hump.half.start) & (self.peaks < hump.half.stop)
        own = set(np.flatnonzero(inside)[:1].tolist())
        if hump.clarity <= _WIDE:
            return own
        high = self.values[self.peaks] > self.values[hump.top] - hump.size / 2
        on_it = (self.peaks >= hump.left) & (self.peaks < hump.right) & high & (self.heights < _ON_HUMP * hump.size)
        return own | {k for k in np.flatnonzero(on_it)[:2].tolist() if k not in own}

    def largest(self, own: Iterable[int]) -> tuple[float, float]:
        """Return the largest wiggle that is not ``own``, in units of the curve and of the local roughness."""
        others = np.ones(len(self.peaks), dtype=bool)
        others[list(own)] = False
        return (float(self.heights[others].max()), float(self.local[others].max())) if others.any() else (0.0, 0.0)

    def standing(self, size: float, clarity: float, own: Iterable[int] = ()) -> float:
        """Return a size over the largest wiggle that is not ``own``, in the unit in which it stands out more."""
        if size <= 0:
            return 0.0
        largest, local = self.largest(own)
        return max(size / max(largest, _TINY * size), _LOCAL * clarity / max(local, _TINY * clarity))


def record_ranges(values: np.ndarray) -> np.ndarray:
    """Return the range (m,) of a curve for a hump at each place: from the lowest value up to there to the highest one.

    A final fall to zero therefore does not make an earlier hump small. The range is at least .4 of the whole range.
    """
    return np.maximum(values.max() - np.minimum.accumulate(values), _LEAST_RANGE * np.ptp(values))


def humps_of(cells: Cells, smooth: np.ndarray, rough: np.ndarray, values: np.ndarray) -> list[Hump]:
    """Return the humps of the opened curve ``smooth`` (m,), the largest first, at most one more than may be found."""
    last = min(median(smooth[-3:]), float(smooth[-2:].max()))
    ranges, lowest = record_ranges(smooth), np.minimum.accumulate(smooth)
    lowest_after = np.minimum.accumulate(smooth[::-1])[::-1]
    found = []
    for peak, size in zip(*(part[: MOST_HUMPS + 1].tolist() for part in prominences(smooth)), strict=True):
        left, right = _above(smooth, peak, smooth[peak] - size)
        start = max(left - 1, 0)
        valley = start + int(np.argmin(smooth[start:peak]))
        flat = np.flatnonzero(smooth[valley:right] == smooth[peak]) + valley
        top = int(flat[np.argmax(cells.values[flat])])
        height, rise = float(smooth[top]), float(smooth[top] - lowest[top - 1])
        noise = float(max(rough[max(left - 1, 0)], rough[top], rough[min(right, len(smooth) - 1)]))
        inside = values[cells.first[left] : cells.stop[right - 1]]
        found.append(Hump(
            top=top, valley=valley,
            left=left, right=right, half=slice(*_above(smooth, top, height - size / 2)), size=size,
            share=size / float(ranges[top]), clarity=size / noise, rise=rise, fall=(height - last) / rise,
            best_fall=(height - float(lowest_after[top])) / rise, n_rows=int((inside > height - _SHOWN * size).sum()),
        ))  # fmt: skip
    return found


def _above(values: np.ndarray, at: int, level: float) -> tuple[int, int]:
    """Return the ends of the run of values above a level around ``at``; the level itself is below, up to rounding."""
    low = values <= level + _SAME * (values[at] - level)
    before, after = np.flatnonzero(low[:at]), np.flatnonzero(low[at:])
    return (int(before[-1]) + 1 if len(before) else 0), (at + int(after[0]) if len(after) else len(values))


def is_spike(x: np.ndarray, values: np.ndarray, start: int, stop: int) -> bool:
    """Return whether the curve rises at once, far above its noise, and then falls slowly, as after a bad update.

    ``x`` and ``values`` are observations (n,). The hump reaches from ``start`` to ``stop``.
    """
    if stop - start < LEAST_ROWS + 1:
        return False
    top, first = start + int(np.argmax(values[start:stop])), max(start - 2, 0)
    if top == first or top + 2 >= len(values):
        return False
    jump = values[top] - values[first:top].min()
    low = np.flatnonzero(values[first:top] < values[top] - _JUMP * jump)
    if not len(low):
        return False
    n_rows, lasts = top - (first + low[-1]), x[top] - x[first + low[-1]]
    if n_rows > LEAST_ROWS or observation_noise(values[max(0, start - 8) : stop + 8]) > _JUMP_NOISE * jump:
        return False
    if lasts < _AT_ONCE and median(values[top + 1 : top + 4]) > values[top] - _JUMP * jump:
        return True
    after = np.flatnonzero(values[top:] < values[top] - _HALF * jump)
    falls = x[top + after[0]] - x[top] if len(after) else np.inf
    sudden = n_rows == 1 and (falls > _SLOWLY * lasts or lasts < _SUDDEN)
    return bool(sudden or _has_kink(x[first:], values[first:], top - first, jump))


def _has_kink(x: np.ndarray, values: np.ndarray, top: int, jump: float) -> bool:
    """Return whether a curve rises within two observations, and then falls fastest at first, as a decay does."""
    before = values[max(top - 2, 0)] - values[:top].min()
    falls = -np.diff(values[top : top + 3])
    first, second = falls / np.diff(x[top : top + 3])
    return bool(before < _KINK * jump < falls[0] and second < first)


def observation_noise(values: np.ndarray) -> float:
    """Return the standard deviation of what is independent from one observation to the next."""
    second = np.abs(values[2:] - 2 * values[1:-1] + values[:-2])
    return median(second) / NORMAL_MAD / 6**0.5 if len(second) > 2 else 0.0


def median(values: np.ndarray) -> float:
    """Return the median of finite values, (n,), as numpy.median, which takes several times as long for few values."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    ordered = np.partition(values, (low, high))
    return float((ordered[low] + ordered[high]) / 2)
