"""Runs that two loggers wrote at once: one of them is chosen, because one training is one run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe.readers.log import Log, Points
from probe.readers.names import AXES, role_of

_LEAST = 3  # different values that agree
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4  # between loggers: float32, and four digits of Hugging Face
_COARSEST = 0.0051  # of values with two decimals, as they are printed
_NAMES, _PARTNERS = 16, 50  # most frequent curves, and runs of other formats, with which a run is compared


class Curves(NamedTuple):
    """Curves of one run that can be compared: its format, its curves by role or name, and the number of all points."""

    format: str
    curves: dict[str, Points]
    n_points: int


def curves_of(log: Log | xr.Dataset, format: str) -> Curves:
    """Return the curves of a run. Axes and settings, which many runs share, are left out."""
    if isinstance(log, Log):
        points: Mapping[str, Points] = log.points
    else:
        plain = {str(name): array for name, array in log.data_vars.items() if array.dims == ("step",)}
        points = {name: (log["step"].values, array.values) for name, array in plain.items()}
    found: dict[str, Points] = {}
    for name, (steps, values) in points.items():
        finite = np.isfinite(values)
        different = len({*values[finite][:1000].tolist()})
        if different >= _LEAST and name not in AXES and "lr" not in name and "learning_rate" not in name:
            found[role_of(name) or name] = (steps[finite], values[finite])
    return Curves(format, found, sum(len(steps) for steps, _ in points.values()))


def copies(runs: Sequence[Curves]) -> dict[int, int]:
    """Return the number of the chosen run by the number of each run of another format that has the same curves.

    Two runs are copies if more of the curves in both agree than differ. The one with more curves is chosen, then the
    one with more points.
    """
    order = sorted(range(len(runs)), key=lambda i: (-len(runs[i].curves), -runs[i].n_points, i))
    place = {run: i for i, run in enumerate(order)}
    chosen: dict[int, int] = {}
    for a, b in sorted(_near_pairs(runs), key=lambda pair: sorted((place[pair[0]], place[pair[1]]))):
        best, other = sorted((a, b), key=place.__getitem__)
        if best not in chosen and other not in chosen and _agree(runs[a].curves, runs[b].curves):
            chosen[other] = best
    return chosen


def _near_pairs(runs: Sequence[Curves]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of runs of different formats in which all curves of both begin with about the same value."""
    formats = {name: i for i, name in enumerate(dict.fromkeys(run.format for run in runs))}
    if len(formats) < 2:
        return
    names = [name for name, _ in Counter(name for run in runs for name in run.curves).most_common(_NAMES)]
    kinds = np.array([formats[run.format] for run in runs])
    none = (None, [np.nan])
    first = np.array([[run.curves.get(name, none)[1][0] for name in names] for run in runs])
    for row in range(len(runs)):
        unknown = np.isnan(first) | np.isnan(first[row])
        near = unknown | (abs(first - first[row]) <= _COARSEST + _RELATIVE * abs(first[row]))
        found = near.all(1) & ~unknown.all(1) & (kinds > kinds[row])
        yield from ((row, int(other)) for other in np.flatnonzero(found)[:_PARTNERS])


def _agree(one: Mapping[str, Points], other: Mapping[str, Points]) -> bool:
    equal = [agreement for name in one.keys() & other.keys() for agreement in _equal(one[name], other[name])]
    return sum(equal) > len(equal) / 2


def _equal(one: Points, other: Points) -> Iterator[bool]:
    """Yield whether two curves are equal at their common steps, or as sequences; nothing if they have too few."""
    _, a, b = np.intersect1d(one[0], other[0], return_indices=True)
    if len(a) >= _LEAST:
        yield _close(one[1][a], other[1][b])
    elif len(one[1]) == len(other[1]):
        yield _close(one[1], other[1])


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether values are equal up to the precision of loggers and the decimals of the coarser curve."""
    coarse = max(_last_decimal(one), _last_decimal(other))
    return bool(np.allclose(one, other, rtol=_RELATIVE, atol=max(_ABSOLUTE, 0.51 * coarse)))


def _last_decimal(values: np.ndarray) -> float:
    """Return the unit of the last decimal of all values, at most 0.01; 0 for more than six decimals."""
    units = (10.0**-n for n in range(2, 7))
    return next((unit for unit in units if np.allclose(values / unit, np.round(values / unit), rtol=0, atol=1e-4)), 0.0)
