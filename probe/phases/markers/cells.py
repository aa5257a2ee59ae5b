"""A curve as medians over cells of log time, so that a run has the same shape at every density of its record."""

from typing import NamedTuple, Self

import numpy as np

from probe.stats.curves.prominence import roughness

_LEAST_CELLS = 40  # over a record; with fewer, as after a late restart, the cells are shorter
_SAME = 1e-9  # cells; positions that differ by less differ by rounding
_ROUNDING = 1e-6  # of the range: a difference this small is no roughness
_SD_OF_ROUNDING = 0.3  # of the least difference between two values; 1 / sqrt(12) for a quantised curve
_MANY = 50  # observations from which the least difference between two values is a resolution
_SAMPLE = 1000  # observations that determine the resolution
_LONG = 20_000  # observations from which one median per cell is faster than sorting the record


class Cells(NamedTuple):
    """A curve at one resolution. A cell without an observation does not exist."""

    x: np.ndarray  # (m,), mean log time
    values: np.ndarray  # (m,), medians
    first: np.ndarray  # (m,), index of the first observation
    stop: np.ndarray  # (m,), index behind the last observation

    @classmethod
    def empty(cls) -> Self:
        """Return no cells."""
        none = np.zeros(0, dtype=int)
        return cls(none.astype(float), none.astype(float), none, none)

    @property
    def edges(self) -> np.ndarray:
        """The ends of all cells, (m + 1,)."""
        middle = (self.x[1:] + self.x[:-1]) / 2
        return np.concatenate([[2 * self.x[0] - middle[0]], middle, [2 * self.x[-1] - middle[-1]]])

    def roughness(self, values: np.ndarray) -> np.ndarray:
        """Return the roughness (m,) of the medians, not below the rounding of the observations ``values`` (n,)."""
        spread = np.ptp(self.values)
        least = _ROUNDING * spread
        if len(values) > _MANY:
            gaps = np.diff(np.unique(values[:: max(1, len(values) // _SAMPLE)]))
            gaps = gaps[gaps > _SAME * spread]
            least += _SD_OF_ROUNDING * gaps.min() if len(gaps) else 0.0
        return roughness(self.x, self.values) + least


def log_time(steps: np.ndarray) -> np.ndarray:
    """Return log10 of the steps. Step 0 is moved to half of the first positive step, whatever the unit of the steps."""
    positive = steps[steps > 0]
    return np.log10(np.maximum(steps, positive.min() / 2 if len(positive) else 1.0))


def cells_of(x: np.ndarray, values: np.ndarray, per_decade: int) -> Cells:
    """Return the medians in cells of equal length in log time ``x``, ``per_decade`` or more of them in a decade."""
    density = max(per_decade, _LEAST_CELLS / max(x[-1] - x[0], _SAME))
    cell = np.floor((x - x[min(1, len(x) - 1)]) * density + _SAME).astype(int)
    first = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1))
    stop = np.append(first[1:], len(x))
    size = stop - first
    if len(x) > _LONG:
        medians = np.array([np.median(values[i:j]) for i, j in zip(first, stop, strict=True)])
    else:
        ordered = values[np.lexsort((values, cell))] if size.max() > 1 else values
        medians = (ordered[first + (size - 1) // 2] + ordered[first + size // 2]) / 2
    return Cells(np.add.reduceat(x, first) / size, medians, first, stop)


def opened(cells: Cells, values: np.ndarray, width: float) -> np.ndarray:
    """Return values (m,) of the cells without what is high for less than ``width`` decades: a morphological opening."""
    edges, m = cells.edges, len(values)
    start = np.arange(m)
    stop = np.maximum(np.searchsorted(edges, edges[:-1] + width - _SAME), start + 1)
    start, stop = start[stop <= m], stop[stop <= m]  # windows inside the record
    longest = int((stop - start).max(initial=1))
    low, result = values[start], np.full(m, -np.inf)
    for k in range(1, longest):
        inside = start + k < stop
        low[inside] = np.minimum(low[inside], values[start[inside] + k])
    for k in range(longest):
        inside = start + k < stop
        result[start[inside] + k] = np.maximum(result[start[inside] + k], low[inside])
    known = np.isfinite(result)
    return np.where(known, result, np.minimum(values, result[known][-1] if known.any() else values.min()))
