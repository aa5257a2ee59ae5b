"""Find the step at which a trajectory enters a cone: fast movement, then movement of bounded extent around a centre.

The functions need distances between all observations only: of tangent kernels, of weights, or of representations.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.cones.squared import Kind, additive, increasing, length, squared
from probe.stats.extent import Extent, first_bounded, last_outside, mean_far
from probe.stats.validation import as_numbers, check_level

_LEAST, _LEAST_WITHIN = 12, 8  # observations of a record, and within a cone
# Observations after the upper bound of the entry. One is a gap, in which the entry lies. In few directions, one
# observation before the entry often lies within the cone by chance, which the second one allows for.
_LATER = 2
_STILL = "the movement cannot be distinguished from jitter"


class Cone(NamedTuple):
    """Verdict of :func:`cone_entry`. Distances are angles (rad) for cosine distances, and in their own unit otherwise.

    Attributes
    ----------
    status : str
        "found"; "left_censored" if the first observation lies in the cone; "right_censored" if the movement is not
        bounded by the end of the record, as a random walk and a drift; "absent" if no movement is above jitter;
        "undecided"; "undefined" with fewer than 12 observations.
    reason : str
        Why there is no entry; empty if the status is "found".
    step, lower, upper : float
        First observed step in the cone, and its interval. NaN unless the status is "found".
    reference : int
        Index of the reference, the first observation in the cone. -1 unless "found" or "left_censored".
    radius, radius_lower, radius_upper : float
        Root mean squared distance of later observations from the reference, jitter included, with its interval. NaN
        without a reference.
    movement : float
        Share of the squared distances in the last part of the record that is movement, not jitter (1).
    movement_z : float
        Standard score of the correlation of the two measurements, from which ``movement`` is derived.
    path_ratio : float
        Squared extent of the movement over that of a random walk with the same steps (1): 1 for a random walk, above 1
        for a drift.
    growth, growth_limit : float
        Growth of the squared distance from the second to the last third of the window, over its mean (1), and the
        largest growth of a cone.
    velocity : array of shape (n - 1,)
        Distance of neighbouring observations per optimiser step. Jitter is included.
    to_reference : array of shape (n,)
        Distance of each observation from the reference. NaN without a reference.
    size_before, size_within : float
        Norm at the reference over the first norm, and last norm over the norm at the reference (1). A cosine distance
        does not show a change of the norm. NaN without norms or without a reference.
    start : int
        Index of the first observation after the last fast movement, also if the later movement is no cone, for
        :func:`cone_radius`. -1 if the status is "undefined".
    """

    status: str
    reason: str
    step: float
    lower: float
    upper: float
    reference: int
    radius: float
    radius_lower: float
    radius_upper: float
    movement: float
    movement_z: float
    path_ratio: float
    growth: float
    growth_limit: float
    velocity: np.ndarray
    to_reference: np.ndarray
    size_before: float
    size_within: float
    start: int = -1


def cone_entry(
    steps: ArrayLike,
    distances: ArrayLike,
    repeated: ArrayLike,
    *,
    norms: ArrayLike | None = None,
    kind: Kind = "cosine",
    level: float = 0.9,
) -> Cone:
    """Find the step at which a trajectory enters a cone, and the radius of the cone.

    A cone covers at least the last third of the observations, and 8 of them. It needs three properties:

    1. Both measurements show the same movement: the correlation of their doubly centred squared distances (Szekely
       and Rizzo 2013), after a quadratic trend in the path is removed, has a standard score above 1.645. Movement is
       more than half of the squared distances, and jitter less than half.
    2. The squared extent of the movement is less than half of that of a random walk with the same steps: less than 0.2
       plus 0.3 times the logarithm (base 10) of the effective number of directions of the steps.
    3. From the second to the last third of the window, the squared distance grows by no more than 6 % of its mean, plus
       a third of its growth before, within two standard errors.

    Random walks, steady drifts plus jitter and standing still plus jitter are called a cone in at most 5 % of draws
    (``docs/benchmarks/cone_truth.py``). A random walk whose steps become shorter, as after a drop of the learning rate,
    is still a random walk. On the sphere of cosine distances, the random walk is one on the sphere.

    The entry is the first observation after the last one outside the cone. Where movement slows down gradually, it is
    the first observation from which the movement is bounded. Such a cone covers 0.4 of the observations, and 10 of
    them.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps, increasing.
    distances : array of shape (n, n)
        Distances between all observations. Pass ``1 - similarities`` if you have cosine similarities.
    repeated : array of shape (n, n)
        The same distances, measured on a disjoint probe batch. Pass ``distances`` again only if the measurement has no
        noise; all of it then counts as movement.
    norms : array of shape (n,), optional
        Norms of the observations, positive.
    kind : {"cosine", "euclidean"}
        "cosine": distances are one minus a cosine, as of tangent kernels (arXiv:2505.13900, equation 3). "euclidean":
        distances are norms of differences.
    level : float
        Coverage of the interval of the radius, in (0, 1). The interval of the step does not depend on it (its measured
        coverage is in Notes). It extends from one observation before the entry to two after it. Where movement slows
        down gradually, its ends are one observation before the first that is bounded with one standard error more, and
        two after the first with one less. An interval that reaches the first observation begins at step 0:
        movement that slows down gradually has an earlier entry in a record that starts earlier.

    Returns
    -------
    Cone

    Raises
    ------
    ValueError
        If the arguments have other shapes, steps do not increase, distances are not finite, negative or not symmetric,
        or norms are not positive.

    See Also
    --------
    cone_of : Of a recording.
    cone_radius : The radius over the length of the window, with the random walk beside.

    Notes
    -----
    In planted cones, the interval of the step holds the entry in 93 to 99 % with 10 or more effective directions, and
    in 89 to 98 % with 3 to 5. After gradual approaches in 100 directions, 15 % of the entries lie before the lower end.
    An interval of level 0.9 of the radius holds it in 88 to 98 %.

    The rates hold for 12 to 80 observations and 3 or more effective directions, also if one measurement has a tenth of
    the jitter of the other. Records of 12 observations find half of the cones. A cone that is entered in the last third
    of the record is "right_censored". A cone that lasts for fewer than 8 correlation times of its movement often has
    another status. So has a cone with jitter of more than 0.3 of the squared distances. A movement that slows down and
    stops is no cone. An early phase of steps shorter than the radius of the cone is not separated from the cone.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import cone_entry
    >>> random = np.random.default_rng(0)
    >>> place = random.standard_normal((40, 100))  # around a centre
    >>> place[:10, 0] += np.linspace(100, 10, 10)  # fast movement towards it
    >>> distances = np.linalg.norm(place[:, None] - place, axis=2)
    >>> found = cone_entry(np.arange(40) * 10, distances, distances, kind="euclidean")
    >>> found.status, found.step, found.lower, found.upper
    ('found', 100.0, 90.0, 120.0)
    >>> print(f"{found.radius:.0f}")
    15
    """
    check_level(level)
    s = increasing(steps, kind)
    first, second = (squared(name, v, len(s), kind) for name, v in (("distances", distances), ("repeated", repeated)))
    sizes, n, d = _sizes(norms, len(s)), len(s), (first + second) / 2
    velocity = length(np.diag(d, 1), kind) / np.diff(s)
    if n < _LEAST:
        reason = f"the record has {n} observations, the rule needs {_LEAST}"
        return _verdict("undefined", reason, velocity, Extent())
    first, second = additive(first, kind), additive(second, kind)
    last, doubtful = last_outside((first + second) / 2)
    entry, lower, upper, extent = first_bounded(first, second, last + 1)
    status, reason = _status(extent, entry, last, n)
    found = _verdict(status, reason, velocity, extent)._replace(start=last + 1)
    if status not in ("found", "left_censored"):
        return found
    low, middle, high = length(np.array(mean_far(d[entry, entry:], level)), kind).tolist()
    found = found._replace(
        reference=entry,
        radius=middle,
        radius_lower=low,
        radius_upper=high,
        to_reference=length(d[entry], kind),
        size_before=float(sizes[entry] / sizes[0]),
        size_within=float(sizes[-1] / sizes[entry]),
        start=entry,
    )
    if status == "left_censored":
        return found
    upper = max(upper, entry + doubtful * (entry == last + 1)) + _LATER
    earliest = s[lower - 1] if lower > 1 else min(0, s[0])
    return found._replace(step=float(s[entry]), lower=float(earliest), upper=float(s[min(upper, n - 1)]))


def _sizes(norms: ArrayLike | None, n: int) -> np.ndarray:
    """Return positive norms, or NaN without norms."""
    if norms is None:
        return np.full(n, np.nan)
    sizes = as_numbers("norms", norms)
    if sizes.shape != (n,) or not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise ValueError(f"Expected positive norms of shape {(n,)}, got others; pass one norm per step")
    return sizes


def _verdict(status: str, reason: str, velocity: np.ndarray, extent: Extent) -> Cone:
    """Return a verdict without an entry."""
    unknown = np.full(len(velocity) + 1, np.nan)
    return Cone(status, reason, *3 * (np.nan,), -1, *3 * (np.nan,), *extent[:5], velocity, unknown, np.nan, np.nan)


def _status(extent: Extent, entry: int, last: int, n: int) -> tuple[str, str]:
    """Return the status and the reason, from the movement after the last observation outside the cone."""
    if n - last - 1 < _LEAST_WITHIN:
        return "right_censored", f"the record ends {n - last - 1} observations after a fast movement"
    if entry >= 0:
        return ("found", "") if entry else ("left_censored", "the first observation lies in the cone")
    if extent.growth > extent.limit or (extent.moves and not extent.winds):
        return "right_censored", "the extent of the movement grows with the window until the end of the record"
    if last < 0 and not extent.moves:
        return "absent", _STILL
    return "undecided", "the growth of the extent is within its error" if extent.moves else _STILL
