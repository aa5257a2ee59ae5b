"""The result of a rule: a marker, its status, and the checks that all rules share.

Steps are optimiser updates. Rules compare times on the axis ``x = log10(step + 1)`` and skip missing values (NaN). No
rule uses the result of another rule, so that an agreement of markers is evidence.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike


class Status(StrEnum):
    """What a rule found. Each value equals its string, also in the Datasets of the detector."""

    FOUND = "found"
    """The marker has a step and an interval."""
    ABSENT = "absent"
    """The curve does not have the shape that the rule searches for."""
    LEFT_CENSORED = "left_censored"
    """The marker lies before the first observation."""
    RIGHT_CENSORED = "right_censored"
    """The record ends before the marker, which may still come."""
    NOT_REACHED = "not_reached"
    """The curve has settled below the threshold, or turned away from it."""
    UNDECIDED = "undecided"
    """The curve may have the shape, but other wiggles of the record are as clear."""
    UNDEFINED = "undefined"
    """There is no such curve, or it has too few observations."""


@dataclass(frozen=True)
class Marker:
    """One end of a phase: its step, its interval, and the rule that found it.

    Attributes
    ----------
    status : Status
        A string such as "found" is converted.
    rule : str
        The rule in words.
    step, lower, upper : float
        Step and ends of the interval, in optimiser steps; NaN unless ``status`` is "found".
    interval : str
        Kind of the interval.
    fall, fall_noise : float
        Fall after a peak, at the end of the record or, if it is undone there, at most: relative to the rise before the
        peak (1), and in standard deviations of the noise (1).
    n_spikes : int
        Number of observations that were excluded as spikes.
    reason : str
        Why there is no step, or remarks on the record.
    noise : float
        Median standard deviation of the noise, in units of the curve; for a hump, of what is independent from one
        observation to the next.
    correlation : float
        Correlation of the noise between neighbouring observations; NaN for a rule that does not need it.
    size, size_share, contrast : float
        Height of a hump: its top minus the higher of its two valleys, in units of the curve. The same over the range
        of the curve (1; :func:`probe.phases.second_descent` defines it), and over the next largest wiggle of the
        record (1). For a rise at the end of the record, its height. NaN for a rule without a hump.
    tops : tuple of float
        Steps of all humps that were found, ascending; the last one is ``step``.

    Raises
    ------
    ValueError
        For an unknown status.

    See Also
    --------
    probe.PhaseDetector : Finds all markers of many runs.

    Examples
    --------
    >>> from probe import Marker
    >>> marker = Marker("found", "accuracy >= 0.99", step=400, lower=300, upper=400)
    >>> marker.status == "found", marker.step
    (True, 400)
    """

    status: Status
    rule: str
    step: float = np.nan
    lower: float = np.nan
    upper: float = np.nan
    interval: str = ""
    fall: float = np.nan
    fall_noise: float = np.nan
    n_spikes: int = 0
    reason: str = ""
    noise: float = np.nan
    correlation: float = np.nan
    size: float = np.nan
    size_share: float = np.nan
    contrast: float = np.nan
    tops: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))


def check_curve(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values without missing values, after a check.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve; NaN is a missing value.

    Returns
    -------
    steps, values : array of shape (m,)
        float64, without the missing values.

    Raises
    ------
    ValueError
        If the two are not 1-D and of one length, if a step is not finite, negative or not above the step before, or
        if a value is infinite.

    See Also
    --------
    sustained_crossing : A rule that begins with this check, as all rules do.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import check_curve
    >>> steps, values = check_curve([0, 10, 20], [0.5, np.nan, 0.7])
    >>> steps.tolist(), values.tolist()
    ([0.0, 20.0], [0.5, 0.7])
    """
    s, v = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if s.ndim != 1 or s.shape != v.shape:
        raise ValueError(f"Expected steps and values of one shape (n,), got {s.shape} and {v.shape}; pass one curve.")
    check_steps(s)
    if np.isinf(v).any():
        raise ValueError(
            f"Expected finite values or NaN, got {np.isinf(v).sum()} infinite values, first at step "
            f"{s[np.isinf(v)][0]:g}; set diverged values to NaN to skip them."
        )
    valid = ~np.isnan(v)
    return s[valid], v[valid]


def check_steps(steps: np.ndarray, axis: str = "step") -> None:
    """Raise ValueError unless the steps are finite, not negative and strictly increasing."""
    if not np.isfinite(steps).all() or (steps < 0).any() or (np.diff(steps) <= 0).any():
        raise ValueError(
            f"Expected finite, strictly increasing {axis}s from 0 on, got unsorted, repeated, negative or "
            f"non-finite {axis}s; sort by {axis} and keep one row per {axis}."
        )


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless the value lies in (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"Expected 0 < {name} < 1, got {value}; pass a share, not percent.")


def check_sustained(n_sustained: int) -> None:
    """Raise ValueError unless a run of observations has a length."""
    if n_sustained < 1:
        raise ValueError(f"Expected n_sustained >= 1, got {n_sustained}; pass 1 to accept a single observation.")


def too_few(values: np.ndarray, rule: str, least: int) -> Marker:
    """Return the marker of a record that is shorter than the rule requires."""
    reason = f"the curve has {len(values)} valid observations, the rule needs {least}"
    return Marker(Status.UNDEFINED, rule, reason=reason)
