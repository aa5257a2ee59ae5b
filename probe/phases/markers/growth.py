"""End of chaos: the step from which a perturbation of the training no longer grows, from the log growth over time."""

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.markers.marker import Marker, Status, check_steps, too_few

GROWS = 0.1  # nats over a window, a growth by 10 %: of a stable training log growth is about 0, and rarely above .1
_LEAST = 4  # observations
# Weight of an observation by its log growth: 0 at the threshold, -1 at 0, 1 from .2 on, and 2 from a factor of 7 on.
_GROWTH, _WEIGHT = (0.0, 2 * GROWS, 1.0, 2.0), (-1.0, 1.0, 1.0, 2.0)
_NARROW, _WIDE = 0.5, 1.5  # contradictions of the interval beyond the least number: without and with exceptions
_MARGIN = 1.0  # contradictions by which a step must be better than none
INTERVAL = "divisions of the record that contradict few more observations"


def growth_end(steps: ArrayLike, growth: ArrayLike) -> Marker:
    """Find the step from which a perturbation no longer grows.

    An observation grows if its log growth is above .1 nats, a factor of 1.1 over the window of the measurement. At the
    end of chaos observations before grow, and later ones do not. Each step is rated by the observations that contradict
    it. An observation counts in full if its log growth is at most 0, or .2 and more, less between, and twice from 2
    nats on. With several directions it counts by its mean, so that directions that disagree count little.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps.
    growth : array of shape (n,) or (n, k)
        Log growth of k directions (nats). NaN is a missing value, and -inf a perturbation that vanishes.

    Returns
    -------
    Marker
        The step is the first observation after the division with the fewest contradictions c. The interval covers all
        divisions with few more: 2 c, but at least 0.5 and at most 1.5. "found" if a record without an end would have
        more than 1 + min(c, 1) contradictions more, so that one exception decides nothing; else "undecided".
        "left_censored" if no division is better than a record that never grows, "right_censored" if none is better than
        one that always grows. "undefined" with fewer than 4 observations.

    Raises
    ------
    ValueError
        For arrays of other shapes, and steps that are not finite, negative or not increasing.

    See Also
    --------
    probe.ChaosProbe : Records the growth.

    Examples
    --------
    >>> from probe.phases import growth_end
    >>> marker = growth_end([0, 10, 30, 100, 300, 1000], [3.1, 2.4, 0.9, -0.02, 0.04, -0.01])
    >>> marker.step, marker.lower, marker.upper
    (100.0, 30.0, 100.0)
    >>> growth_end([0, 10, 30, 100], [3.1, 2.4, 0.9, -0.02]).status == "undecided"
    True
    """
    s, weights = _weights(np.asarray(steps, dtype=float), np.asarray(growth, dtype=float))
    rule = f"log growth above {GROWS:g} before, and up to {GROWS:g} after"
    n = len(s)
    if n < _LEAST:
        return too_few(s, rule, _LEAST)
    # Contradictions of the division before each observation, and of the one after the last: shape (n + 1,)
    wrong = np.zeros(n + 1)
    wrong[1:] += np.cumsum(np.maximum(-weights, 0))
    wrong[:-1] += np.cumsum(np.maximum(weights, 0)[::-1])[::-1]
    k = 1 + int(wrong[1:-1].argmin())
    without = min(wrong[0], wrong[-1])
    if without <= wrong[k] and abs(wrong[0] - wrong[-1]) > _MARGIN:
        return _censored(s, weights, rule, grows=bool(wrong[-1] < wrong[0]))
    if without - wrong[k] <= _MARGIN + min(wrong[k], 1):
        return Marker(Status.UNDECIDED, rule, reason=_doubt(s, weights, k))
    near = 1 + np.flatnonzero(wrong[1:-1] <= wrong[k] + np.clip(2 * wrong[k], _NARROW, _WIDE))
    return Marker(
        Status.FOUND, rule, float(s[k]), float(s[near[0] - 1]), float(s[near[-1]]), INTERVAL, reason=_remark(weights, k)
    )


def _weights(steps: np.ndarray, growth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps with any value, and the mean weight of each over the directions: positive if it grows."""
    if steps.ndim != 1 or growth.ndim not in (1, 2) or len(growth) != len(steps):
        raise ValueError(
            f"Expected steps (n,) and growth (n,) or (n, directions), got {steps.shape} and {growth.shape}; pass one "
            "row per step."
        )
    check_steps(steps)
    rows = growth.reshape(len(steps), -1)
    missing = np.isnan(rows)
    valid = ~missing.all(axis=1)
    weights = np.where(missing, 0, np.interp(rows, _GROWTH, _WEIGHT))[valid].sum(axis=1)
    return steps[valid], weights / (~missing)[valid].sum(axis=1)


def _censored(s: np.ndarray, weights: np.ndarray, rule: str, *, grows: bool) -> Marker:
    """Return the marker of a record in which perturbations grow until the end, or not at all."""
    count, n = int((weights > 0).sum()), len(s)
    if grows:
        reason = f"perturbations grow at {count} of {n} observations, up to the end, at {s[-1]:g}; train for longer"
        return Marker(Status.RIGHT_CENSORED, rule, reason=reason)
    advice = "observe earlier" if s[0] > 0 else "measure over a longer window, or there is no such phase"
    reason = f"perturbations grow at {count} of {n} observations from {s[0]:g} on; {advice}"
    return Marker(Status.LEFT_CENSORED, rule, reason=reason)


def _doubt(s: np.ndarray, weights: np.ndarray, k: int) -> str:
    """Return why a division does not decide, and what to do."""
    before, after = int((weights[:k] > 0).sum()), int((weights[k:] > 0).sum())
    return (
        f"perturbations grow at {before} of {k} observations before {s[k]:g}, and at {after} of {len(s) - k} later "
        "ones; observe more often, longer, or more directions"
    )


def _remark(weights: np.ndarray, k: int) -> str:
    """Return how many observations contradict the division; empty without any."""
    before, after = int((weights[:k] < 0).sum()), int((weights[k:] > 0).sum())
    parts = [f"{before} earlier observations do not grow"] * (before > 0) + [f"{after} later ones grow"] * (after > 0)
    return ", ".join(parts)
