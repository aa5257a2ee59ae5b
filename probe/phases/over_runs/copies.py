"""Find runs that are copies of each other, and therefore no independent evidence."""

from collections.abc import Iterable

import numpy as np

_TOLERANCE = 1e-4  # of the range of the curve: logs are often rounded to four digits
_NEAR = 1e-5  # 1 - correlation: a filter for pairs that are compared value by value
_LEAST = 4  # observations in common: a line has two parameters
_LEAST_DISTINCT = 8  # a few levels, as of an accuracy, may agree by chance


def equal_runs(values: np.ndarray) -> list[list[int]]:
    """Return groups of rows that are equal up to scale and offset, within 1e-4 of the range of the curve.

    Two rows are compared where both are observed. Two rows with the same number of observations are also compared
    observation by observation, because a copy may have other steps. Rows with few distinct values are never copies.

    Parameters
    ----------
    values : array of shape (run, n)
        NaN where a run was not observed.
    """
    groups: list[list[int]] = []
    grouped: set[int] = set()
    near = _near(values)
    for run, others in enumerate(near):
        if run in grouped:
            continue
        same = [
            int(k) for k in np.flatnonzero(others) if k > run and k not in grouped and _equal(values[run], values[k])
        ]
        if same:
            groups.append([run, *same])
            grouped.update(groups[-1])
    return groups


def name_groups(groups: Iterable[Iterable[object]]) -> str:
    """Describe groups of equal runs: "runs a, b and c are equal; keep one of them"."""
    texts = [[run_name(run) for run in group] for group in groups]
    parts = [f"{', '.join(text[:-1])} and {text[-1]} are equal" for text in texts]
    return f"runs {'; runs '.join(parts)}: they are not independent; keep one of them" if parts else ""


def run_name(run: object) -> str:
    """Return the name of a run; recordings store numbers as floats."""
    return f"{run:g}" if isinstance(run, float) else str(run)


def _near(values: np.ndarray) -> np.ndarray:
    """Return whether each pair (run, run) has a correlation of almost 1, at common steps or in order."""
    seen = ~np.isnan(values)
    count = seen.sum(axis=1)
    size = np.maximum(count, 1)
    z = np.nan_to_num(values - np.nansum(values, axis=1, keepdims=True) / size[:, None])
    scale = np.sqrt((z**2).sum(axis=1) / size)
    z /= np.where(scale > 0, scale, 1)[:, None]
    near = _correlated(z, seen)
    if seen.all():
        return near
    for n in np.unique(count[count >= _LEAST]):
        rows = np.flatnonzero(count == n)
        ordered = z[rows][seen[rows]].reshape(len(rows), n)
        near[np.ix_(rows, rows)] |= _correlated(ordered, np.ones(ordered.shape, bool))
    return near


def _correlated(z: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return whether the correlation of each pair of rows, where both are observed, is almost 1."""
    m = seen.astype(float)
    n = m @ m.T
    sums, squares = z @ m.T, z**2 @ m.T  # of the first row of a pair, at the steps of both
    covariance = n * (z @ z.T) - sums * sums.T
    variance = n * squares - sums**2
    return np.asarray((n >= _LEAST) & (covariance > 0) & (covariance**2 >= (1 - _NEAR) ** 2 * variance * variance.T))


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether b is a + offset, times a scale, within the tolerance."""
    both = ~(np.isnan(a) | np.isnan(b))
    pairs = [(a[both], b[both])]
    ordered = a[~np.isnan(a)], b[~np.isnan(b)]
    if len(ordered[0]) == len(ordered[1]):
        pairs.append(ordered)
    return any(_affine(x, y) for x, y in pairs)


def _affine(x: np.ndarray, y: np.ndarray) -> bool:
    if len(x) < _LEAST or min(len(np.unique(x)), len(np.unique(y))) < min(_LEAST_DISTINCT, len(x)):
        return False
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x)
    return bool(slope > 0 and np.abs(y - slope * x).max() <= _TOLERANCE * np.ptp(y))
