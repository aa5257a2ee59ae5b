"""Where a phase ends: the marker that says it, and crossings of a level, as pure functions on arrays.

Steps are optimiser updates; time is compared on the axis ``x = log10(step + 1)``. A missing value (NaN) is
skipped. No function looks at the result of another marker, so that an agreement of markers means something.

Peaks, and the test whether there is one, are in :mod:`probe.phases.markers.peaks`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Marker:
    """One end of a phase: where, how sure, by which rule.

    ``step``, ``lower`` and ``upper`` are in optimiser steps and NaN unless ``status`` is "found"; "undecided"
    means that the data cannot tell. ``fall`` is the fall after a peak relative to the rise before it,
    ``fall_noise`` the same fall in standard deviations of the noise, ``n_spikes`` the number of observations that
    were set aside as spikes. ``noise`` is the median standard deviation of the noise (units of the curve),
    ``correlation`` that of its values at neighbouring observations.
    """

    status: str  # found, absent, left_censored, right_censored, undefined or undecided
    rule: str
    step: float = np.nan
    lower: float = np.nan
    upper: float = np.nan
    interval: str = ""
    p_value: float = np.nan
    fall: float = np.nan
    fall_noise: float = np.nan
    n_spikes: int = 0
    reason: str = ""
    noise: float = np.nan
    correlation: float = np.nan


def check_curve(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values, both float64 of shape (n,), without missing values.

    Raises
    ------
    ValueError
        If the two are not 1-D and of one length, a step is not finite, negative or not above the one before,
        or a value is infinite.
    """
    s, v = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if s.ndim != 1 or s.shape != v.shape:
        raise ValueError(f"expected steps and values of one shape (n,), got {s.shape} and {v.shape}; pass one curve")
    if not np.isfinite(s).all() or (s < 0).any() or (np.diff(s) <= 0).any():
        raise ValueError(
            "expected finite, strictly increasing steps from 0 on, got unsorted, repeated, negative or "
            "non-finite ones; sort by step and keep one row a step"
        )
    if np.isinf(v).any():
        raise ValueError(
            f"expected finite values or NaN, got {np.isinf(v).sum()} infinite ones, first at step "
            f"{s[np.isinf(v)][0]:g}; set diverged values to NaN if they are to be skipped"
        )
    valid = ~np.isnan(v)
    return s[valid], v[valid]


def check_share(name: str, value: float) -> None:
    """An error for a share outside (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"expected 0 < {name} < 1, got {value}")


def too_few(values: np.ndarray, rule: str, least: int) -> Marker:
    """What any rule says of a record shorter than it needs."""
    return Marker("undefined", rule, reason=f"{len(values)} valid observations, {least} are needed")
