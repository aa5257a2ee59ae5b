"""Where the units of one operation change along line segments.

The rows of a block are knots of many segments, one segment after the other. Between neighbouring rows of a segment, all
inputs of the operation are affine in the position. An *interval* has the number of its left row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from probe.geometry.networks import Bend, Maximum

_ROUNDING = 64 * np.finfo(float).eps  # of the largest number of a site: what sums of a few hundred terms lose


@dataclass(frozen=True)
class Cuts:
    """Changes of the units of one operation.

    Attributes
    ----------
    interval, share, unit, piece : arrays of shape (n,)
        Changes inside an interval, at this share of it, sorted by both. ``piece`` is the number of the breakpoint, 0
        for a maximum.
    knot : array of shape (n,)
        Number of the new knot that makes the change, from 0. Changes at one place share it.
    touched : tuple of three arrays
        Rows, units and pieces of the changes at rows that exist already.
    """

    interval: np.ndarray
    share: np.ndarray
    unit: np.ndarray
    piece: np.ndarray
    knot: np.ndarray
    touched: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def first(self) -> np.ndarray:
        """The first change of each new knot."""
        return np.flatnonzero(np.diff(self.knot, prepend=-1))


@dataclass(frozen=True)
class _Segments:
    """Rows of the segments, and their widths of zero."""

    first: np.ndarray  # (segments + 1,): rows first[i] to first[i + 1] belong to segment i
    band: np.ndarray  # (segments, units)

    @classmethod
    def of(cls, first: np.ndarray, sizes: np.ndarray, largest: np.ndarray, snap: float) -> "_Segments":
        """Return the widths from the largest distance (segments, units) and the largest number (segments,)."""
        return cls(first, np.maximum(snap * sizes, _ROUNDING * largest[:, None]))

    def rows(self) -> np.ndarray:
        """Return the widths by row, (rows, units) or (1, units)."""
        if len(self.band) == 1:
            return self.band
        return self.band[np.repeat(np.arange(len(self.band)), np.diff(self.first))]

    def of_row(self, row: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Return the widths of units in rows."""
        return self.band[np.searchsorted(self.first, row, side="right") - 1, unit]

    def is_last(self, row: np.ndarray) -> np.ndarray:
        """Return which rows are the last of a segment: no interval begins there."""
        return self._flags(self.first[1:] - 1)[row]

    def is_end(self, row: np.ndarray) -> np.ndarray:
        """Return which rows are the first or the last of a segment."""
        return (self._flags(self.first[1:] - 1) | self._flags(self.first[:-1]))[row]

    def _flags(self, rows: np.ndarray) -> np.ndarray:
        flags = np.zeros(self.first[-1], bool)
        flags[rows] = True
        return flags


def bend_cuts(operation: Bend, inputs: Tensor, first: np.ndarray, snap: float) -> Cuts:
    """Return where the inputs of a bend cross its breakpoints.

    Parameters
    ----------
    inputs : Tensor of shape (rows, ...)
        Values that the operation reads.
    first : array of shape (segments + 1,)
        Rows ``first[i]`` to ``first[i + 1]`` belong to segment i.
    snap : float
        Values nearer to a breakpoint than this share of the largest distance on the segment are zero.
    """
    z = inputs.flatten(1).numpy()  # (rows, units)
    slopes = np.broadcast_to(operation.slopes.numpy(), (len(operation.slopes), z.shape[1]))
    found, touched = [], []
    for piece, threshold in enumerate(operation.breakpoints.numpy()):
        d = z - threshold if threshold.any() else z
        sizes = _sizes(d, first)
        segments = _Segments.of(first, sizes, (sizes + np.abs(threshold)).max(1), snap)
        rows = segments.rows()
        bends = slopes[piece] != slopes[piece + 1]
        above, below = (d > rows) & bends, (d < -rows) & bends
        left, unit = np.nonzero((above[:-1] & below[1:]) | (below[:-1] & above[1:]))
        left, unit = _kept(~segments.is_last(left), left, unit)
        drop = d[left, unit] - d[left + 1, unit]
        width = segments.of_row(left, unit) / np.abs(drop)
        found.append((left, d[left, unit] / drop, width, unit, np.full(len(left), piece)))
        row, unit = np.nonzero(above[:-2] != above[2:])  # positive on one side only
        row, unit = _kept(~(above[row + 1, unit] | below[row + 1, unit]) & ~segments.is_end(row + 1), row + 1, unit)
        touched.append((row, unit, np.full(len(row), piece)))
    return _cuts(found, touched)


def maximum_cuts(operation: Maximum, inputs: Sequence[Tensor], first: np.ndarray, snap: float) -> Cuts:
    """Return where another candidate becomes the maximum; parameters as in :func:`bend_cuts`."""
    v = operation.candidates(*inputs).numpy()  # (rows, units, k)
    winner, best, sizes, largest = _winners(v)
    starts = first[:-1]
    segments = _Segments.of(first, np.maximum.reduceat(sizes, starts), np.maximum.reduceat(largest, starts), snap)
    left, unit = np.nonzero(winner[:-1] != winner[1:])  # with one winner at both ends, nothing changes between them
    left, unit = _kept(~segments.is_last(left), left, unit)
    band = segments.of_row(left, unit)
    low, high = v[left, unit], v[left + 1, unit]  # (n, k)
    after = _just_beside(low, high, best[left, unit], band)
    changes = ~(after & (high >= (best[left + 1, unit] - band)[:, None])).any(1)
    which, share, width = _envelope(low[changes], high[changes], after[changes].argmax(1), band[changes])
    found = [(left[changes][which], share, width, unit[changes][which], np.zeros(len(which), dtype=int))]
    row, unit = (np.concatenate(parts) for parts in ((left, left + 1), (unit, unit)))
    row, unit = _kept(~segments.is_end(row), row, unit)
    row, unit = np.unique(np.stack([row, unit]), axis=1) if len(row) else (row, unit)
    here, band = (v[row, unit], best[row, unit]), segments.of_row(row, unit)
    sides = [_just_beside(here[0], v[row + step, unit], here[1], band) for step in (-1, 1)]
    row, unit = _kept(~(sides[0] & sides[1]).any(1), row, unit)  # no candidate is the maximum on both sides
    return _cuts(found, [(row, unit, np.zeros(len(row), dtype=int))])


def _sizes(d: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the largest absolute value on each segment, (segments, units)."""
    high, low = (function.reduceat(d, first[:-1]) for function in (np.maximum, np.minimum))
    return np.maximum(high, -low)


def _winners(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the first largest candidate of v (rows, units, k), its value, the spread, and the largest number of a row.

    One candidate after the other is faster than reductions over a short axis.
    """
    winner, best, least = np.zeros(v.shape[:2], np.int16), v[..., 0].copy(), np.full(v.shape[:2], np.inf)
    for number in range(v.shape[2]):
        candidate = v[..., number]
        winner[candidate > best] = number
        np.maximum(best, candidate, out=best)
        np.minimum(least, candidate, out=least, where=candidate > -np.inf)
    return winner, best, best - least, np.maximum(np.abs(best), np.abs(least)).max(1)


def _just_beside(here: np.ndarray, beside: np.ndarray, best: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Return which candidates (n, k) are the maximum between a row and a row beside it, near the first."""
    tied = here >= (best - band)[:, None]
    return tied & (beside >= (np.where(tied, beside, -np.inf).max(1) - band)[:, None])


def _envelope(
    low: np.ndarray, high: np.ndarray, current: np.ndarray, band: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bends of the maximum of k affine functions on [0, 1], for many intervals.

    Parameters
    ----------
    low, high : arrays of shape (n, k)
        Values at both ends.
    current : array of shape (n,)
        The maximum just after 0.
    band : array of shape (n,)
        Width of zero.

    Returns
    -------
    interval, position, width : arrays of shape (bends,)
    """
    found = [(np.empty(0, dtype=int), np.empty(0), np.empty(0))]
    at = np.arange(len(low))
    while len(at):
        mine = current[at, None]
        ahead = np.take_along_axis(low[at], mine, 1) - low[at]  # (n, k), infinite at places outside the data
        behind = high[at] - np.take_along_axis(high[at], mine, 1)
        gains = np.isfinite(ahead) & (behind > band[at, None])  # larger at 1
        with np.errstate(divide="ignore", invalid="ignore"):
            position = np.where(gains, np.maximum(ahead, 0) / (ahead + behind), np.inf)
            width = band[at, None] / (ahead + behind)
        least = position.min(1, keepdims=True)
        near = np.isfinite(least) & (position <= least + np.where(gains, width, 0))
        chosen = np.where(near, high[at], -np.inf).argmax(1)  # the steepest of those that cross together
        live = np.isfinite(least[:, 0])
        at, chosen, least, width = at[live], chosen[live], least[live, 0], width[live]
        found.append((at, least, width[np.arange(len(at)), chosen]))
        current[at] = chosen
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


def _kept(flags: np.ndarray, row: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return row[flags], unit[flags]


def _cuts(found: Sequence[tuple[np.ndarray, ...]], touched: Sequence[tuple[np.ndarray, ...]]) -> Cuts:
    """Sort the changes, and join those at one place: nearer than the widths of both."""
    interval, share, width, unit, piece = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((share, interval))
    interval, share, width = interval[order], share[order], width[order]
    apart = np.diff(share) > np.minimum(width[1:], width[:-1])
    new = np.r_[True, (np.diff(interval) != 0) | apart] if len(interval) else np.empty(0, dtype=bool)
    rows, units, pieces = (np.concatenate(parts) for parts in zip(*touched, strict=True))
    return Cuts(interval, share, unit[order], piece[order], np.cumsum(new) - 1, (rows, units, pieces))
