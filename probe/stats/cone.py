"""Find the step at which a trajectory enters a cone: fast movement, then movement of bounded extent around a centre.

The functions need distances between all observations only: of tangent kernels, of weights, or of representations.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.extent import PATH_RATIO, Extent, extent_of, last_outside, mean_far
from probe.stats.validation import as_numbers, as_vectors, check_level

_LEAST, _LEAST_WITHIN = 12, 8  # observations of a record, and within a cone
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


def cone_entry(
    steps: ArrayLike,
    distances: ArrayLike,
    repeated: ArrayLike,
    *,
    norms: ArrayLike | None = None,
    kind: Literal["cosine", "euclidean"] = "cosine",
    level: float = 0.9,
) -> Cone:
    """Find the step at which a trajectory enters a cone, and the radius of the cone.

    A cone covers at least the last third of the observations, and 8 of them. It needs three properties:

    1. Both measurements show the same movement: the correlation of their doubly centred squared distances (Szekely
       and Rizzo 2013), after a quadratic trend in the path is removed, has a standard score above 1.645. Movement is
       more than half of the squared distances, and jitter less than half.
    2. The squared extent of the movement is less than half of that of a random walk with the same steps.
    3. The squared distance does not grow from the second to the last third of the window, within two standard errors.

    Random walks, steady drifts plus jitter and standing still plus jitter are called a cone in at most 5 % of draws
    (``docs/benchmarks/cone_truth.py``). The entry is the first observation after the last one outside the cone.

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
        Coverage of the interval of the radius, in (0, 1). The interval of the step does not depend on it. It is at
        least two gaps between observations long, and covers the entry of at least 90 % of simulated cones.

    Returns
    -------
    Cone

    Raises
    ------
    ValueError
        If the arguments have other shapes, steps do not increase, distances are not finite, negative or not symmetric,
        or norms are not positive.

    Notes
    -----
    On simulated cones the 90 % interval of the radius covers the true one in 82 to 97 %, least often for slow movement.

    A cone that is entered in the last third of the record is "right_censored". With 20 observations, a cone that lasts
    for fewer than 8 correlation times of its movement often has another status. So has a cone with jitter of more than
    0.3 of the squared distances. A movement that slows down and stops is no cone. An early phase of steps shorter than
    the radius of the cone is not separated from the cone.

    The rates were measured in 10 and more effective directions. In 5 directions up to 7 % of random walks were called a
    cone, in 3 directions up to 13 %.

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
    ('found', 100.0, 90.0, 110.0)
    >>> print(f"{found.radius:.0f}")
    15
    """
    check_level(level)
    s, first, second, sizes = _checked(steps, distances, repeated, norms, kind)
    length = (lambda d: np.arccos(np.clip(1 - d / 2, -1, 1))) if kind == "cosine" else np.sqrt
    n, d = len(s), (first + second) / 2
    velocity = length(np.diag(d, 1)) / np.diff(s)
    if n < _LEAST:
        reason = f"the record has {n} observations, the rule needs {_LEAST}"
        return _verdict("undefined", reason, velocity, Extent())
    last, doubtful = last_outside(d)
    part = slice(last + 2 if last >= 0 else 0, None)  # the first observation in the cone may still approach the centre
    extent = extent_of(d[part, part], first[part, part], second[part, part])
    status, reason = _status(extent, last, n)
    found = _verdict(status, reason, velocity, extent)
    if status not in ("found", "left_censored"):
        return found
    entry = last + 1
    low, middle, high = mean_far(d[entry, entry:], level)
    found = found._replace(
        reference=entry,
        radius=float(length(middle)),
        radius_lower=float(length(low)),
        radius_upper=float(length(high)),
        to_reference=length(d[entry]),
        size_before=float(sizes[entry] / sizes[0]),
        size_within=float(sizes[-1] / sizes[entry]),
    )
    if status == "left_censored":
        return found
    return found._replace(step=float(s[entry]), lower=float(s[last]), upper=float(s[entry + 1 + doubtful]))


def _checked(
    steps: ArrayLike, distances: ArrayLike, repeated: ArrayLike, norms: ArrayLike | None, kind: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, squared distances of both measurements (squared chords for cosine distances), and norms."""
    if kind not in ("cosine", "euclidean"):
        raise ValueError(f"Expected kind 'cosine' or 'euclidean', got {kind!r}; pass one of them")
    (s,) = as_vectors(steps=steps)
    if not np.isfinite(s).all() or (s < 0).any() or (np.diff(s) <= 0).any():
        raise ValueError("Expected finite, increasing steps of at least 0, got others; sort the observations by step")
    squared = []
    for name, values in (("distances", distances), ("repeated", repeated)):
        d = as_numbers(name, values)
        if d.shape != (len(s), len(s)):
            raise ValueError(f"Expected {name} of shape {(len(s),) * 2}, got {d.shape}; pass one row per step")
        scale = 1e-6 * np.abs(d).max(initial=0.0)
        if not np.isfinite(d).all() or (d < -scale - 1e-9).any() or (np.abs(d - d.T) > scale + 1e-9).any():
            raise ValueError(
                f"Expected {name} that are finite, symmetric and at least 0, got others; pass 1 - similarities, "
                "without the observations that have none"
            )
        d = np.maximum(d + d.T, 0) / 2
        d = 2 * d if kind == "cosine" else d**2
        np.fill_diagonal(d, 0)
        squared.append(d)
    sizes = np.full(len(s), np.nan) if norms is None else as_numbers("norms", norms)
    if sizes.shape != s.shape or (sizes <= 0).any() or (norms is not None and not np.isfinite(sizes).all()):
        raise ValueError(f"Expected positive norms of shape {s.shape}, got others; pass one norm per step")
    return s, squared[0], squared[1], sizes


def _verdict(status: str, reason: str, velocity: np.ndarray, extent: Extent) -> Cone:
    """Return a verdict without an entry."""
    unknown = np.full(len(velocity) + 1, np.nan)
    return Cone(status, reason, *3 * (np.nan,), -1, *3 * (np.nan,), *extent[:5], velocity, unknown, np.nan, np.nan)


def _status(extent: Extent, last: int, n: int) -> tuple[str, str]:
    """Return the status and the reason, from the movement after the last observation outside the cone."""
    if n - last - 1 < _LEAST_WITHIN:
        return "right_censored", f"the record ends {n - last - 1} observations after a fast movement"
    if extent.moves and extent.bounded(strictly=last < 0):
        return ("found", "") if last >= 0 else ("left_censored", "the first observation lies in the cone")
    if extent.growth > extent.limit or (extent.moves and extent.path_ratio >= PATH_RATIO):
        return "right_censored", "the extent of the movement grows with the window until the end of the record"
    if last < 0 and not extent.moves:
        return "absent", _STILL
    return "undecided", "the growth of the extent is within its error" if extent.moves else _STILL
