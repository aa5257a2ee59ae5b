"""A curve as it enters the search for humps: an exponential average undone, a long record reduced, spikes removed."""

from typing import NamedTuple

import numpy as np

from probe.errors import warn_user
from probe.phases.markers.cells import cells_of, log_time
from probe.phases.markers.humps import LEAST_ROWS, SHORTEST
from probe.stats.curves.outliers import spikes

MAX_OBSERVATIONS = 20_000  # longer records are reduced to medians
_PER_DECADE = 500  # such medians
_NARROW = 2  # observations: a spike however far apart they are, since three can show a hump
_FLANK = 0.1  # of the height of a spike: down to there, the observations that fall after it belong to it
_EVEN = 0.5  # of the rows have the median distance: some rows may be missing values


class Record(NamedTuple):
    """Steps and values without spikes."""

    steps: np.ndarray
    values: np.ndarray
    n_spikes: int
    notes: list[str]


def prepared(s: np.ndarray, v: np.ndarray, spike_width: int, smoothing: float) -> Record:
    """Undo an average, reduce a long record, and remove spikes."""
    notes: list[str] = []
    if smoothing:
        v = _undone(s, v, smoothing, notes)
    if (n := len(v)) > MAX_OBSERVATIONS:
        cells = cells_of(log_time(s), v, _PER_DECADE)
        s, v = 10**cells.x, cells.values
        notes.append(f"{n:,} observations reduced to {len(v):,} medians")
    inside, at_end = spikes(v, width=spike_width)
    marked = _brief(log_time(s), v, inside | at_end)
    if _falls(v, marked & at_end):
        marked &= ~at_end
    if n_end := int((marked & at_end).sum()):
        last = "the last observation is" if n_end == 1 else f"the last {n_end} observations are"
        notes.append(f"{last} excluded as a spike or the start of a rise")
    return Record(s[~marked], v[~marked], int((marked & inside).sum()), notes)


def _falls(v: np.ndarray, at_end: np.ndarray) -> bool:
    """Return whether the observations that stand out at the end show a fall, and not a spike."""
    n = int(at_end.sum())
    return n >= LEAST_ROWS and float(v[-n:].max()) < v[-n - 1]


def _brief(x: np.ndarray, v: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Keep the marks of spikes that last as briefly as no hump does, or would be spikes of two observations."""
    if not marked.any():
        return marked
    narrow = np.logical_or(*spikes(v, width=_NARROW))
    brief = marked.copy()
    for i, j in _runs(marked):
        if x[min(j, len(x) - 1)] - x[max(i - 1, 0)] > SHORTEST:
            brief[i:j] = narrow[i:j]
    for i, j in _runs(brief):
        brief[j : _end_of_flank(v, max(i - 1, 0), j)] = True
    return brief


def _runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """Return the first index of each run of true values, and the one behind it."""
    edge = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return list(zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True))


def _end_of_flank(v: np.ndarray, before: int, stop: int) -> int:
    """Return the index behind a spike whose values still fall to the level before it."""
    level = v[before] + _FLANK * (v[before + 1 : stop].max() - v[before])
    while stop < len(v) and level < v[stop] < v[stop - 1]:
        stop += 1
    return stop


def _undone(s: np.ndarray, v: np.ndarray, smoothing: float, notes: list[str]) -> np.ndarray:
    """Undo an exponential average, unless unequal distances of the rows show that rows were dropped since."""
    gaps = np.diff(s)
    if np.isclose(gaps, np.median(gaps)).mean() > _EVEN:
        notes.append(f"the exponential average of {smoothing:g} was undone")
        decay = smoothing ** np.maximum(np.round(gaps / np.median(gaps)), 1)  # over rows that are missing, too
        return np.concatenate([v[:1], (v[1:] - decay * v[:-1]) / (1 - decay)])
    note = f"the exponential average of {smoothing:g} was not undone; the top is that of the smoothed curve"
    notes.append(note)
    warn_user(
        f"Expected all rows of the exponential average, got unevenly spaced rows, as if some were dropped; {note}. "
        "Pass the full log."
    )
    return v
