"""One grid of steps for runs that were observed at different steps."""

import numpy as np


def on_one_grid(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """Interpolate each run linearly between its neighbouring observations, and never beyond its first and last one.

    Parameters
    ----------
    x : array of shape (n,)
        The steps of all runs, on ``log10(step + 1)``.
    values : array of shape (run, n)
        NaN where a run was not observed.

    Returns
    -------
    values : array of shape (run, n)
        NaN before the first and after the last observation of a run.
    share : float
        Number of interpolated values over the number of all returned values (1).
    """
    observed = ~np.isnan(values)
    filled = np.array(values)
    for run, seen in zip(filled, observed, strict=True):
        if seen.any() and not seen.all():
            run[:] = np.interp(x, x[seen], run[seen], left=np.nan, right=np.nan)
    count = int((~np.isnan(filled)).sum())
    return filled, 1 - int(observed.sum()) / count if count else 0.0
