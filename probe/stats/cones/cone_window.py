"""Radius of a movement around a reference, over the length of the window in which it is observed."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.cones.squared import Kind, additive, chords, increasing, length, squared
from probe.stats.extent import mean_far
from probe.stats.validation import check_level


class ConeRadius(NamedTuple):
    """Radius over the window: arrays of shape (n - reference - 1,), angles (rad) for cosine distances.

    Attributes
    ----------
    window
        Steps from the reference to the last observation of the window.
    radius, lower, upper
        Root mean squared distance from the reference of the last three fifths of the window, with its interval, which
        is NaN for windows of fewer than 3 such observations.
    walk
        The same number, expected of a random walk with the same steps.
    """

    window: np.ndarray
    radius: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    walk: np.ndarray


def cone_radius(
    steps: ArrayLike,
    distances: ArrayLike,
    reference: int,
    *,
    movement: float = 1.0,
    kind: Kind = "cosine",
    level: float = 0.9,
) -> ConeRadius:
    """Return the radius around a reference as a function of the window, with a random walk of the same steps beside.

    The radius of a cone saturates; that of a random walk grows as the root of the path. At the longest window, the
    radius is that of :func:`cone_entry`, if the distances are the mean of both measurements.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps, increasing.
    distances : array of shape (n, n)
        Distances between all observations.
    reference : int
        Index of the reference, as ``Cone.start`` or ``Cone.reference``.
    movement : float
        Share of the squared distances that is no jitter, in [0, 1], as ``Cone.movement``. Jitter adds to the squared
        distances once, whatever the window. Without this share, the random walk would be too wide. It is one share for
        the whole record. The jitter of the random walk is never above its mean squared step so far, so that the walk
        begins with the first measured distance. Where early steps are below the jitter, the walk is too narrow.
    kind : {"cosine", "euclidean"}
        As in :func:`cone_entry`.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    ConeRadius

    Raises
    ------
    ValueError
        If the reference is no index of an observation before the last one, ``movement`` is not in [0, 1], or as
        :func:`cone_entry`.

    See Also
    --------
    cone_entry : Whether the radius saturates.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import cone_radius
    >>> random = np.random.default_rng(0)
    >>> place = random.standard_normal((40, 100))  # around a centre
    >>> distances = np.linalg.norm(place[:, None] - place, axis=2)
    >>> found = cone_radius(np.arange(40), distances, 0, kind="euclidean")
    >>> [f"{found.radius[i]:.1f} {found.walk[i]:.1f}" for i in (0, 9, 38)]
    ['13.2 13.2', '13.5 37.6', '13.9 75.0']
    """
    check_level(level)
    if not 0 <= movement <= 1:
        raise ValueError(f"Expected movement in [0, 1], got {movement}; pass a share of the squared distances")
    s = increasing(steps, kind)
    d = squared("distances", distances, len(s), kind)
    if not 0 <= reference < len(s) - 1:
        raise ValueError(f"Expected a reference from 0 to {len(s) - 2}, got {reference}; pass the index of a step")
    part = d[reference:, reference:]
    lengths = additive(part, kind)
    jitter = (1 - movement) * float(lengths[np.triu_indices(len(part), 1)].mean())
    expected = chords(np.append(0, _walk(np.diag(lengths, 1), jitter)), kind)
    ends = range(2, len(part) + 1)
    low, middle, high = (np.array(values) for values in zip(*(mean_far(part[0, :m], level) for m in ends), strict=True))
    walk = np.array([mean_far(expected[:m], level)[1] for m in ends])
    return ConeRadius(s[reference + 1 :] - s[reference], *(length(v, kind) for v in (middle, low, high, walk)))


def _walk(steps: np.ndarray, jitter: float) -> np.ndarray:
    """Return the squared distance of a random walk from its start after each squared step, which contains jitter."""
    number, path = np.arange(1, len(steps) + 1), np.cumsum(steps)
    walk: np.ndarray = np.maximum(path - number * jitter, 0) + np.minimum(jitter, path / number)
    return walk
