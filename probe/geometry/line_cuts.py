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
        d = z - threshold
        band = _band(np.abs(d), np.maximum(np.abs(d), np.abs(z)), first, snap)  # (segments, units)
        signs = _signs(d, band, first)
        signs[:, slopes[piece] == slopes[piece + 1]] = 0  # no bend
        left, unit = np.nonzero(signs[:-1] * signs[1:] < 0)
        kept = ~np.isin(left + 1, first)  # both rows belong to one segment
        left, unit = left[kept], unit[kept]
        drop = d[left, unit] - d[left + 1, unit]
        width = band[_segments(left, first), unit] / np.abs(drop)
        found.append((left, d[left, unit] / drop, width, unit, np.full(len(left), piece)))
        row, unit = _crossed(signs, first)
        touched.append((row, unit, np.full(len(row), piece)))
    return _cuts(found, touched)


def maximum_cuts(operation: Maximum, inputs: list[Tensor], first: np.ndarray, snap: float) -> Cuts:
    """Return where another candidate becomes the maximum; parameters as in :func:`bend_cuts`."""
    v = operation.candidates(*inputs).numpy()  # (rows, units, k)
    finite = np.isfinite(v)
    spread = v.max(2) - np.where(finite, v, np.inf).min(2)
    band = _band(spread, np.abs(np.where(finite, v, 0)).max(2), first, snap)
    rows = band[np.repeat(np.arange(len(first) - 1), np.diff(first))][..., None]  # (rows, units, 1)
    tied = v >= v.max(2, keepdims=True) - rows
    ahead = _best(tied[:-1], v[1:], rows[:-1])  # (rows - 1, units, k): the maxima just after the row
    behind = _best(tied[1:], v[:-1], rows[1:])  # just before the next row
    inside = ~np.isin(np.arange(1, len(v)), first)
    changes = inside[:, None] & ~(ahead & behind).any(2)  # no candidate is the maximum on the whole interval
    left, unit = np.nonzero(changes)
    low, high = v[left, unit], v[left + 1, unit]
    which, share, width = _envelope(low, high, ahead[left, unit].argmax(1), band[_segments(left, first), unit])
    found = [(left[which], share, width, unit[which], np.zeros(len(which), dtype=int))]
    passed = inside[:-1] & inside[1:]
    row, at = np.nonzero(passed[:, None] & ~(behind[:-1] & ahead[1:]).any(2))
    return _cuts(found, [(row + 1, at, np.zeros(len(row), dtype=int))])


def _best(tied: np.ndarray, towards: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Return which of the tied candidates are the largest at the other end of the interval."""
    return tied & (towards >= np.where(tied, towards, -np.inf).max(2, keepdims=True) - band)


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


def _band(sizes: np.ndarray, numbers: np.ndarray, first: np.ndarray, snap: float) -> np.ndarray:
    """Return the width of zero of each unit on each segment, at least what rounding makes of the largest number."""
    floor = _ROUNDING * np.maximum.reduceat(numbers.max(1), first[:-1])
    return np.maximum(snap * np.maximum.reduceat(sizes, first[:-1]), floor[:, None])


def _signs(d: np.ndarray, band: np.ndarray, first: np.ndarray) -> np.ndarray:
    rows = band[np.repeat(np.arange(len(first) - 1), np.diff(first))]
    return (d > rows).astype(np.int8) - (d < -rows).astype(np.int8)


def _crossed(signs: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and units whose sign is 0 there, and positive on one side only."""
    above = signs > 0
    changes = (signs[1:-1] == 0) & (above[:-2] != above[2:])
    ends = np.isin(np.arange(1, len(signs) - 1), np.r_[first, first - 1])
    row, unit = np.nonzero(changes & ~ends[:, None])
    return row + 1, unit


def _segments(rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    return np.searchsorted(first, rows, side="right") - 1


def _cuts(found: Sequence[tuple[np.ndarray, ...]], touched: Sequence[tuple[np.ndarray, ...]]) -> Cuts:
    """Sort the changes, and join those at one place: nearer than the widths of both."""
    interval, share, width, unit, piece = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((share, interval))
    interval, share, width = interval[order], share[order], width[order]
    apart = np.diff(share) > np.minimum(width[1:], width[:-1])
    new = np.r_[True, (np.diff(interval) != 0) | apart] if len(interval) else np.empty(0, dtype=bool)
    rows, units, pieces = (np.concatenate(parts) for parts in zip(*touched, strict=True))
    return Cuts(interval, share, unit[order], piece[order], np.cumsum(new) - 1, (rows, units, pieces))
