"""Groups of correlated samples that the bootstrap resamples as wholes: independent runs, or blocks of a long run."""

from typing import Any

import numpy as np
from scipy import stats

from probe.stats.inference import Estimate
from probe.stats.validation import as_numbers

LEAST_RUNS, _BLOCKS = 10, 20


def as_groups(name: str, samples: Any, least: int) -> np.ndarray:
    """Return samples of shape (groups, n) from samples of shape (n,) or (runs, n).

    With fewer than 10 runs, each run becomes blocks of equal length, 20 in all. The first samples are dropped if the
    length is no multiple.
    """
    found = np.atleast_2d(as_numbers(name, samples))
    if found.ndim != 2 or found.size < least or not np.isfinite(found).all():
        found_instead = "values that are not finite" if found.size >= least and found.ndim == 2 else f"{found.shape}"
        raise ValueError(
            f"Expected {name} of shape (n,) or (runs, n), finite, with at least {least} samples, got {found_instead}; "
            "pass more samples"
        )
    runs, n = found.shape
    if runs >= LEAST_RUNS:
        return found
    blocks = min(-(-_BLOCKS // runs), n)
    return found[:, n % blocks :].reshape(runs * blocks, -1)


def resampled(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return sums (draws, ...) of values (groups, ...) over groups that are drawn with replacement."""
    n = len(values)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
    return np.asarray(np.tensordot(counts, values, axes=1))


def bootstrap_interval(value: float, drawn: np.ndarray, n_groups: int, level: float) -> Estimate:
    """Return the interval of Student's t, with the standard deviation of the bootstrap as the standard error."""
    half = bootstrap_error(drawn, n_groups) * stats.t.ppf((1 + level) / 2, n_groups - 1)
    return Estimate(float(value), float(value - half), float(value + half), n_groups)


def bootstrap_error(drawn: np.ndarray, n_groups: int) -> float:
    """Return the standard error. The factor removes the bias of resampling a small number of groups."""
    return float(np.std(drawn, ddof=1) * np.sqrt(n_groups / (n_groups - 1)))
