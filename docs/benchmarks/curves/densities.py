"""The seven ways in which the benchmarks record one curve: `DENSITIES[name](steps, values)` returns (steps, values).

The input is the dense record: steps in ascending order, shape (n,), and the values, shape (n,). Each function returns
new arrays, at most as long. Values that are not finite stay where they are. Only NumPy is needed.
"""

from collections.abc import Callable

import numpy as np

Record = tuple[np.ndarray, np.ndarray]


def every_step(steps: np.ndarray, values: np.ndarray) -> Record:
    """Return the dense record."""
    return np.array(steps), np.array(values)


def every_tenth(steps: np.ndarray, values: np.ndarray) -> Record:
    """Return the rows 0, 10, 20, ..."""
    return np.array(steps[::10]), np.array(values[::10])


def log_spaced(steps: np.ndarray, values: np.ndarray, *, n_rows: int = 40) -> Record:
    """Return the rows nearest to ``n_rows`` points with equal distances in log(step + 1), each row once."""
    positions = np.log(np.asarray(steps, float) + 1)  # (n,)
    targets = np.linspace(positions[0], positions[-1], n_rows)
    rows = np.unique(np.abs(positions - targets[:, None]).argmin(1))  # at most n_rows
    return np.array(steps)[rows], np.array(values)[rows]


def evenly_spaced(steps: np.ndarray, values: np.ndarray, *, n_rows: int = 30) -> Record:
    """Return ``n_rows`` rows with equal distances in the row number, the first and the last among them."""
    rows = np.unique(np.linspace(0, len(steps) - 1, n_rows).round().astype(int))
    return np.array(steps)[rows], np.array(values)[rows]


def missing(steps: np.ndarray, values: np.ndarray, *, share: float = 0.2, random_state: int = 0) -> Record:
    """Drop a share of the rows, chosen at random."""
    n_kept = round(len(steps) * (1 - share))
    rows = np.sort(np.random.default_rng(random_state).choice(len(steps), n_kept, replace=False))
    return np.array(steps)[rows], np.array(values)[rows]


def smoothed(steps: np.ndarray, values: np.ndarray, *, decay: float) -> Record:
    """Return the exponential average s[t] = decay s[t - 1] + (1 - decay) v[t], which starts at the first finite value.

    The average skips values that are not finite.
    """
    averages, average = np.array(values, float), np.nan
    for row in np.flatnonzero(np.isfinite(averages)):
        average = averages[row] if np.isnan(average) else decay * average + (1 - decay) * averages[row]
        averages[row] = average
    return np.array(steps), averages


def smoothed_6(steps: np.ndarray, values: np.ndarray) -> Record:
    """Return the exponential average of decay 0.6."""
    return smoothed(steps, values, decay=0.6)


def smoothed_9(steps: np.ndarray, values: np.ndarray) -> Record:
    """Return the exponential average of decay 0.9."""
    return smoothed(steps, values, decay=0.9)


DENSITIES: dict[str, Callable[[np.ndarray, np.ndarray], Record]] = {
    "dense": every_step,
    "tenth": every_tenth,
    "log40": log_spaced,
    "even30": evenly_spaced,
    "missing20": missing,
    "average6": smoothed_6,
    "average9": smoothed_9,
}
