r"""Information from nearest neighbours: two vectors, or a vector and a class, in bits. For few dimensions.

With psi the digamma function, N rows, the maximum norm, and averages <> over rows,

    KSG [1]_   I(X; Y) = psi(k) + psi(N) - < psi(n_x + 1) + psi(n_y + 1) >
    Ross [2]_  I(X; C) = psi(k) + psi(N) - < psi(N_c) + psi(m) >

n_x and n_y count rows strictly nearer in x or in y than the k-th neighbour in (x, y); N_c is the size of a row's class
and m the number of rows of all classes as near as its k-th neighbour within the class. Both need a density: repeated
rows, and with them deterministic functions of few inputs, are refused. **Low in many dimensions**: of 1.02 nats in
25 + 25 normal dimensions 0.13 are found; I(T; X) of a deterministic layer is infinite, and not to be had this way.

.. [1] Kraskov, Stögbauer and Grassberger 2004, Phys. Rev. E 69, 066138, eq. 8.  .. [2] Ross 2014, PLoS ONE 9(2).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma
from torch import Tensor

from probe.information.discrete import class_codes, rows, rows_equal

_REPEATED = 0.01  # share of repeated rows up to which they pass as rounding of float32 values
_PARTS = range(2, 6)  # disjoint parts into which the rows are cut for the standard error

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


class NeighbourInformation(NamedTuple):
    """Estimate and its standard error (None: too few rows to cut), in bits; share of rows that are repeated."""

    value: float
    se: float | None
    repeated: float


def ksg_information(
    x: Tensor, y: Tensor, *, k: int = 3, generator: torch.Generator | None = None
) -> NeighbourInformation:
    """I(X; Y) of two continuous vectors.

    Parameters
    ----------
    x : Tensor of shape (n, d)
    y : Tensor of shape (n, e)
        Each is divided by its root mean variance first, so that units of measurement do not matter.
    k
        Number of neighbours: more is smoother and lower.
    generator
        Cuts the rows for the standard error; on the CPU. Default: a fresh one, always the same.

    Returns
    -------
    NeighbourInformation
        Of an estimator that can be negative; nothing is clipped.
    """
    a, b = _scaled(x, "x"), _scaled(y, "y")
    if len(a) != len(b):
        raise ValueError(f"x and y must have equally many rows, got {len(a)} and {len(b)}")
    _check_neighbours(k, len(a))
    repeated = max(_repeated(a, "x"), _repeated(b, "y"))
    order = _shuffled(len(a), generator)
    error = _standard_error(lambda chosen: _ksg(a[chosen], b[chosen], k), order, len(a) // (k + 1))
    return NeighbourInformation(_ksg(a, b, k), error, repeated)


def ross_information(
    z: Tensor, labels: Tensor, *, k: int = 3, generator: torch.Generator | None = None
) -> NeighbourInformation:
    """I(Z; C) of a continuous vector and a class.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,)
        Each class must have more than ``k`` rows.
    k, generator
        As in :func:`ksg_information`.

    Returns
    -------
    NeighbourInformation
        Of an estimator that can be negative; nothing is clipped.
    """
    a, classes = _scaled(z, "z"), class_codes(labels, z).cpu().numpy()
    smallest = int(np.bincount(classes).min())
    _check_neighbours(k, smallest, "rows in each class")
    repeated = _repeated(a, "z")
    order = _shuffled(len(a), generator)
    order = order[classes[order].argsort(kind="stable")]  # every p-th row: a part with its share of each class
    error = _standard_error(lambda chosen: _ross(a[chosen], classes[chosen], k), order, smallest // (k + 1))
    return NeighbourInformation(_ross(a, classes, k), error, repeated)


def _ksg(x: Array, y: Array, k: int) -> float:
    radius = _distance_to_neighbour(np.hstack([x, y]), k)
    nearer = digamma(_nearer(x, radius)) + digamma(_nearer(y, radius))
    return float(digamma(k) + digamma(len(x)) - nearer.mean()) / math.log(2)


def _ross(z: Array, classes: Labels, k: int) -> float:
    radius, sizes = np.empty(len(z)), np.bincount(classes)
    for c in range(len(sizes)):
        radius[classes == c] = _distance_to_neighbour(z[classes == c], k)
    average = (digamma(sizes[classes]) + digamma(_nearer(z, radius))).mean()
    return float(digamma(k) + digamma(len(z)) - average) / math.log(2)


def _distance_to_neighbour(z: Array, k: int) -> Array:
    return np.asarray(cKDTree(z).query(z, k=[k + 1], p=np.inf)[0])[:, 0]


def _nearer(z: Array, radius: Array) -> Array:
    """Rows strictly nearer than the radius, each row itself included: n_x + 1, or m (which has the k-th instead)."""
    return np.asarray(cKDTree(z).query_ball_point(z, np.nextafter(radius, 0), p=np.inf, return_length=True))


def _standard_error(estimate: Callable[[Labels], float], order: Labels, most: int) -> float | None:
    """From the spread over disjoint parts: the variance goes as 1/n (Holmes and Nemenman 2019, arXiv:1903.09280).

    Rows drawn with replacement would be repeated, and each repetition would count as information.
    """
    cuts = [parts for parts in _PARTS if parts <= most]
    if not cuts:
        return None
    variances = [np.var([estimate(order[i::parts]) for i in range(parts)], ddof=1) / parts for parts in cuts]
    return float(np.sqrt(np.average(variances, weights=[parts - 1 for parts in cuts])))


def _shuffled(n: int, generator: torch.Generator | None) -> Labels:
    return torch.randperm(n, generator=generator or torch.Generator().manual_seed(0)).numpy()


def _scaled(z: Tensor, name: str) -> Array:
    t = rows(z, name=name).detach().cpu()
    scale = t.var(0, correction=0).mean().sqrt()
    if rows_equal(t):
        raise ValueError(f"{name} is constant; it has no density, and its information is 0")
    return np.asarray(((t - t.mean(0)) / scale).numpy())


def _repeated(z: Array, name: str) -> float:
    """Share of the rows that equal another one, or an error."""
    _, counts = np.unique(z, axis=0, return_counts=True)
    share = float(counts[counts > 1].sum()) / len(z)
    if share > _REPEATED:
        raise ValueError(
            f"{share:.0%} of the rows of {name} are repeated, so that it has no density: leave repetitions out, add "
            f"noise that means something, or take an estimator for discrete values"
        )
    return share


def _check_neighbours(k: int, n: int, what: str = "rows") -> None:
    if not 1 <= k < n:
        raise ValueError(f"k must be at least 1 and less than the number of {what}, {n}, got {k}")
