"""Where a test accuracy leaves chance: a rule that does not need to know the accuracy or the noise of guessing."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from probe.phases.markers.crossings import sustained_crossing
from probe.phases.markers.marker import Marker, Status, check_curve, check_sustained, too_few

_SDS = 3.0  # of an accuracy by guessing
_MARGIN = 0.05
_MAX_EXAMPLES = 20_000  # a finer grid than 1 / this cannot be distinguished from rounding
_MAX_VALUES = 64  # that are compared with a grid
_PRIOR = 4  # weight of what is known about the noise before the first observation, in observations


class Chance(NamedTuple):
    """What is known about guessing."""

    share: float | None = None  # accuracy of guessing; None: the level at which the accuracy starts
    n: float = np.inf  # examples that an accuracy is a mean over; infinite: not known


def leaves_chance(
    steps: ArrayLike,
    accuracy: ArrayLike,
    *,
    chance: float | None = None,
    n_test: float = np.inf,
    n_sustained: int = 3,
) -> Marker:
    """Find the first step from which a test accuracy exceeds guessing at ``n_sustained`` observations in a row.

    The threshold is chance + max(3 sd, 5 %), with the standard deviation and the skewness of a binomial share of
    ``n_test`` examples. Without ``n_test``, the values show it, since all are multiples of 1 / n_test. The observations
    before the step lower this estimate if they vary less. Where rounding hides n_test, the differences of neighbours
    limit the estimate from below. Without ``chance``, ``n_sustained`` observations are compared with the mean of those
    before them, and the standard deviation includes the error of this mean.

    Parameters
    ----------
    steps, accuracy : array of shape (n,)
        Optimiser steps and the test accuracy (1).
    chance : float, optional
        Accuracy of guessing (1). None: the level at which the record starts. A run that starts above chance then
        leaves it never, or when it rises further.
    n_test : float
        Number of examples that an accuracy is a mean over. Infinite: not known.
    n_sustained : int
        Observations in a row.

    Returns
    -------
    Marker
        As :func:`probe.phases.sustained_crossing` with this threshold; "undefined" if it exceeds 1.

    Raises
    ------
    ValueError
        As :func:`probe.phases.sustained_crossing`.

    See Also
    --------
    sustained_crossing : The rule for a given threshold.

    Examples
    --------
    >>> from probe.phases import leaves_chance
    >>> accuracy = [0.1, 0.12, 0.09, 0.11, 0.1, 0.5, 0.9, 1.0]
    >>> leaves_chance(range(8), accuracy, n_test=1000).step
    5.0
    """
    check_sustained(n_sustained)
    s, v = check_curve(steps, accuracy)
    if len(v) < n_sustained:
        return too_few(v, f"test_accuracy above chance at {n_sustained} observations in a row", n_sustained)
    threshold = _threshold(v, n_sustained, chance, n_test)
    if threshold > 1:
        high = "the accuracy starts" if chance is None else "chance is"
        reason = f"{high} so high that the accuracy would have to reach {threshold:.3g}"
        return Marker(Status.UNDEFINED, "", reason=reason)
    marker = sustained_crossing(s, v, threshold, n_sustained=n_sustained, name="test_accuracy")
    if marker.status != Status.NOT_REACHED:
        return marker
    reason = f"the accuracy is still that of guessing at the last observation, at {s[-1]:g}; train for longer"
    return replace(marker, status=Status.RIGHT_CENSORED, reason=reason)  # it may still leave chance


def _threshold(v: np.ndarray, n_sustained: int, chance: float | None, n_test: float) -> float:
    """Return the threshold of the first observations that exceed their own, else that of the last observation."""
    lows = np.min([v[i : len(v) - n_sustained + 1 + i] for i in range(n_sustained)], axis=0)[1:]
    if not len(lows):
        return np.inf
    k = np.arange(1, len(lows) + 1)  # observations before
    first = (k + 1) // 2  # observations that show the level: the others may belong to the rise
    level = (np.cumsum(v)[first - 1] / first) if chance is None else np.full(len(k), float(chance))
    n, rounded = _grid(v) if np.isinf(n_test) else (n_test, False)
    # Two right and two wrong answers are added (Agresti and Coull 1998), since a level of 0 or 1 has noise, too.
    p = level if chance is not None or np.isinf(n) else (n * first * level + 2) / (n * first + 4)
    variance = p * (1 - p) / n
    if np.isinf(n_test):
        variance = np.minimum(variance, (_PRIOR * variance + _squares(v, k, level)) / (_PRIOR + k))
    # What a binomial variable exceeds as rarely as a normal one exceeds 3 sd (Cornish and Fisher 1938).
    skew = (_SDS**2 - 1) / 6 * (1 - 2 * p) * variance / np.maximum(p * (1 - p), np.finfo(float).tiny)
    if rounded:
        variance = np.maximum(variance, _of_differences(v)[k])
    error = 1.0 if chance is not None else 1 + np.minimum(1, _PRIOR / first)  # that of the level
    thresholds = level + np.maximum(_SDS * np.sqrt(variance * error) + skew, _MARGIN)
    above = np.flatnonzero(lows >= thresholds)
    if not len(above) and chance is None and v[:n_sustained].min() >= thresholds[-1]:
        return float(thresholds[0])  # a fall: the level at which it starts is not exceeded later
    return float(thresholds[above[0] if len(above) else -1])


def _squares(v: np.ndarray, k: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Return the sums of squared distances of the first ``k`` observations from each level."""
    v, level = v - v[0], level - v[0]  # equal values leave exactly 0
    return np.asarray(np.cumsum(v**2)[k - 1] - 2 * level * np.cumsum(v)[k - 1] + k * level**2)


def _of_differences(v: np.ndarray) -> np.ndarray:
    """Return the variance of white noise before each observation, from differences, for which slow trends are small."""
    squares = np.zeros(len(v))
    squares[2:] = np.cumsum(np.diff(v) ** 2)[:-1] / 2
    third = np.abs(np.diff(v, 3))
    whole = (np.median(third) / ndtri(0.75)) ** 2 / 20 if len(third) else 0.0
    return np.asarray((_PRIOR * whole + squares) / (_PRIOR + np.maximum(np.arange(len(v)) - 1, 0)))


def _grid(v: np.ndarray) -> tuple[float, bool]:
    """Return the least n for which all values are multiples of 1 / n, and whether rounding may be why there is one.

    Infinite if there is no such n. Values with few decimals are multiples of those at least.
    """
    values = np.unique(v)
    values = values[:: 1 + len(values) // _MAX_VALUES]
    digits = next((d for d in range(7) if np.abs(values - np.round(values, d)).max() < 1e-9), None)
    if digits is not None:
        unit = 10**digits
        if (divisor := np.gcd.reduce([unit, *np.round(values * unit).astype(np.int64)])) > 1:
            return float(unit // divisor), False
    error = 0.5001 * 10.0**-digits if digits else 1e-7  # of rounding: to decimals, or to single precision
    n = np.arange(1, min(_MAX_EXAMPLES, int(0.1 / error)) + 1)  # by chance alone one value in five agrees
    for value in values:
        n = n[np.abs(value * n - np.round(value * n)) <= n * error]
    if len(n):
        return float(n[0]), False
    return (10.0**digits if digits else np.inf), True
