"""Where a test accuracy leaves chance: a rule that does not need to know the accuracy or the noise of guessing."""

from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from probe.phases.markers.crossings import sustained_crossing
from probe.phases.markers.marker import Marker, Status, check_curve, check_sustained, too_few

_SDS = 3.0  # of an accuracy by guessing
_MARGIN = 0.05
_EXAMPLES = np.arange(1, 2001)  # 3 sd of more of them are below 5 %
_BLOCK = 4096  # thresholds that are computed at a time
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
        reason = f"{high} so high that the threshold is {threshold:.3g}, above 1"
        return Marker(Status.UNDEFINED, "", reason=reason)
    marker = sustained_crossing(s, v, threshold, n_sustained=n_sustained, name="test_accuracy")
    if marker.status != Status.NOT_REACHED:
        return marker
    reason = f"the accuracy is still that of guessing at the last observation, at {s[-1]:g}; train for longer"
    return replace(marker, status=Status.RIGHT_CENSORED, reason=reason)  # it may still leave chance


def _threshold(v: np.ndarray, n_sustained: int, chance: float | None, n_test: float) -> float:
    """Return the threshold of the first observations that exceed their own, else that of the last observation."""
    lows = reduce(np.minimum, [v[i : len(v) - n_sustained + 1 + i] for i in range(n_sustained)])
    if len(lows) < 2:
        return np.inf
    level = _levels(v, np.arange(1, len(lows)), chance)
    thresholds = _Thresholds(v, chance, n_test)
    high = 1 + np.flatnonzero(lows[1:] >= level + _MARGIN)  # number of observations before
    for block in (high[i : i + _BLOCK] for i in range(0, len(high), _BLOCK)):
        values = thresholds.after(block)
        if len(above := np.flatnonzero(lows[block] >= values)):
            return float(values[above[0]])
    last = float(thresholds.after(np.array([len(lows) - 1]))[0])
    if chance is None and lows[0] >= last:  # a fall: the level at which it starts is not exceeded later
        return float(thresholds.after(np.ones(1, int))[0])
    return last


def _levels(v: np.ndarray, k: np.ndarray, chance: float | None) -> np.ndarray:
    """Return chance, or the mean of the first half of the ``k`` observations before: the others may be a rise."""
    first = (k + 1) // 2
    return np.cumsum(v)[first - 1] / first if chance is None else np.full(len(k), float(chance))


class _Thresholds:
    """Thresholds from the first observations of a curve."""

    def __init__(self, v: np.ndarray, chance: float | None, n_test: float) -> None:
        self.chance, self.is_given = chance, np.isfinite(n_test)
        self.n, rounded = (n_test, False) if self.is_given else _grid(v)
        self.start, around = v[0], v - v[0]  # equal values leave exactly 0
        self.sums, self.squares = np.cumsum(around), np.cumsum(around**2)
        self.white = _of_differences(v) if rounded else None

    def after(self, k: np.ndarray) -> np.ndarray:
        """Return the thresholds after ``k`` observations."""
        first = (k + 1) // 2
        level = self.start + self.sums[first - 1] / first if self.chance is None else np.full(len(k), self.chance)
        p = level
        if self.chance is None and np.isfinite(self.n):
            # Two right and two wrong answers are added (Agresti and Coull 1998): a level of 0 or 1 has noise, too.
            p = (self.n * first * level + 2) / (self.n * first + 4)
        variance = p * (1 - p) / self.n
        if not self.is_given:
            shift = level - self.start
            squares = self.squares[k - 1] - 2 * shift * self.sums[k - 1] + k * shift**2  # about the level
            variance = np.minimum(variance, (_PRIOR * variance + squares) / (_PRIOR + k))
        # What a binomial variable exceeds as rarely as a normal one exceeds 3 sd (Cornish and Fisher 1938).
        skew = (_SDS**2 - 1) / 6 * (1 - 2 * p) * variance / np.maximum(p * (1 - p), np.finfo(float).tiny)
        if self.white is not None:
            variance = np.maximum(variance, self.white[k])
        error = 1.0 if self.chance is not None else 1 + np.minimum(1, _PRIOR / first)  # that of the level
        return np.asarray(level + np.maximum(_SDS * np.sqrt(variance * error) + skew, _MARGIN))


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
    millionths, unit = np.rint(values * 10**6), 0
    if np.abs(values * 10**6 - millionths).max() < 1e-3:  # decimals
        divisor = int(np.gcd.reduce(millionths.astype(np.int64), initial=10**6))
        unit = next(10**digits for digits in range(7) if divisor % 10 ** (6 - digits) == 0)
        if 10**6 // divisor < unit:
            return 10**6 / divisor, False
    error = 0.5001 / unit if unit > 1 else 1e-7  # of rounding: to decimals, or to single precision
    n = _EXAMPLES[: int(0.1 / error)]  # by chance alone one value in five agrees
    for value in values[::-1]:
        n = n[np.abs(value * n - np.rint(value * n)) <= n * error]
    if len(n):
        return float(n[0]), False
    return (float(unit) if unit else np.inf), True
