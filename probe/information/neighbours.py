r"""Mutual information from nearest neighbours, in bits: of two vectors, or of a vector and a class, in few dimensions.

With the digamma function psi, N rows, the maximum norm, k neighbours (``n_neighbours``), and averages <> over rows,

    KSG [1]_   I(X; Y) = psi(k) + psi(N) - < psi(n_x + 1) + psi(n_y + 1) >
    Ross [2]_  I(X; C) = psi(k) + psi(N) - < psi(N_c) + psi(m) >

n_x and n_y count the rows that are strictly nearer in x or in y than the k-th neighbour in (x, y). N_c is the size of
the class of a row. m counts the rows of all classes that are as near as the k-th neighbour within the class.

The information does not depend on the units of a coordinate, but distances do: if one coordinate has much larger units,
the neighbours ignore the others. Each coordinate is therefore divided by its standard deviation first, as in JIDT [3]_
and scikit-learn. A coordinate that is constant up to rounding is left out.

Both estimators need a density. They raise an error for repeated rows, and so for deterministic functions of few
inputs. **The estimates are low in many dimensions**: of 1.02 nats in 25 + 25 normal dimensions they find 0.13. I(T; X)
of a deterministic layer is infinite, and these estimators cannot measure it.

.. [1] Kraskov, Stögbauer and Grassberger 2004, Phys. Rev. E 69, 066138, eq. 8.  .. [2] Ross 2014, PLoS ONE 9(2).
.. [3] Lizier 2014, Front. Robot. AI 1, 11: variables are normalised by default.
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

from probe.information.validation import as_rows, class_codes, normalise_rows, rows_equal

_MAX_REPEATED = 0.01  # share of repeated rows that the rounding of float32 values explains
_N_PARTS = range(2, 6)  # numbers of disjoint parts of the rows for the standard error

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class NeighbourInformation(NamedTuple):
    """Result of :func:`ksg_information` and :func:`ross_information`.

    Attributes
    ----------
    value : float
        The estimate in bits. It can be negative; nothing is clipped.
    se : float or None
        Standard error in bits. None if the rows are too few to divide them.
    repeated : float
        Share of the rows that are repeated.
    """

    value: float
    se: float | None
    repeated: float


def ksg_information(
    x: Tensor, y: Tensor, *, n_neighbours: int = 3, generator: torch.Generator | None = None
) -> NeighbourInformation:
    """I(X; Y) of two continuous vectors, in bits (Kraskov, Stögbauer and Grassberger 2004, eq. 8).

    Parameters
    ----------
    x : Tensor of shape (n, d)
    y : Tensor of shape (n, e)
        Each coordinate is first divided by its standard deviation, see below.
    n_neighbours : int
        Number of neighbours k. A larger number gives a smoother and lower estimate.
    generator : torch.Generator, optional
        Divides the rows into parts for the standard error; on the CPU. By default the seed is always 0.

    Returns
    -------
    NeighbourInformation

    Raises
    ------
    ValueError
        If the numbers of rows differ, if ``n_neighbours`` is not between 1 and n - 1, if a vector is constant, or if
        more than 1 % of its rows are repeated.

    See Also
    --------
    ross_information : Information of a vector and a class.
    channel_information : Information of a layer through noise of known size, in any number of dimensions.

    Examples
    --------
    Two independent variables share no information. Two normal variables of correlation 0.9 share 1.198 bits.

    >>> import torch
    >>> from probe.information import ksg_information
    >>> x, noise = torch.randn(2, 500, 1, generator=torch.Generator().manual_seed(0))
    >>> abs(ksg_information(x, noise).value) < 0.1
    True
    >>> abs(ksg_information(x, 0.9 * x + 0.19**0.5 * noise).value - 1.198) < 0.15
    True
    """
    first, second = _scaled_rows(x, "x"), _scaled_rows(y, "y")
    if len(first) != len(second):
        raise ValueError(
            f"Expected equally many rows of x and y, got {len(first)} and {len(second)}; pass one row per sample"
        )
    _check_n_neighbours(n_neighbours, len(first))
    repeated = max(_repeated_share(first, "x"), _repeated_share(second, "y"))
    error = _standard_error(
        lambda part: _ksg(first[part], second[part], n_neighbours),
        _shuffled(len(first), generator),
        len(first) // (n_neighbours + 1),
    )
    return NeighbourInformation(_ksg(first, second, n_neighbours), error, repeated)


def ross_information(
    activations: Tensor, labels: Tensor, *, n_neighbours: int = 3, generator: torch.Generator | None = None
) -> NeighbourInformation:
    """I(X; C) of a continuous vector and a class, in bits (Ross 2014).

    Parameters
    ----------
    activations : Tensor of shape (n, d)
        Each coordinate is divided by its standard deviation first, so the estimate does not depend on units.
    labels : integer Tensor of shape (n,)
        Classes of the rows. Each class must have more than ``n_neighbours`` rows.
    n_neighbours : int
        Number of neighbours k. A larger number gives a smoother and lower estimate.
    generator : torch.Generator, optional
        Divides the rows into parts for the standard error; on the CPU. By default the seed is always 0.

    Returns
    -------
    NeighbourInformation

    Raises
    ------
    ValueError
        If ``labels`` does not match the rows, if a class has too few rows, if ``activations`` is constant, or if more
        than 1 % of its rows are repeated.

    See Also
    --------
    ksg_information : Information of two vectors.
    decodable_information : Lower bound from a linear decoder, for many dimensions.

    Examples
    --------
    Two distant clusters contain one bit about their label.

    >>> import torch
    >>> from probe.information import ross_information
    >>> labels = torch.arange(200) % 2
    >>> noise = torch.randn(200, 1, generator=torch.Generator().manual_seed(0))
    >>> abs(ross_information(100 * labels[:, None] + noise, labels).value - 1) < 0.02
    True
    """
    rows, codes = _scaled_rows(activations, "activations"), class_codes(labels, activations).cpu().numpy()
    smallest = int(np.bincount(codes).min())
    _check_n_neighbours(n_neighbours, smallest, "rows in each class")
    repeated = _repeated_share(rows, "activations")
    order = _shuffled(len(rows), generator)
    order = order[codes[order].argsort(kind="stable")]  # every p-th row is then a part with its share of each class
    error = _standard_error(
        lambda part: _ross(rows[part], codes[part], n_neighbours), order, smallest // (n_neighbours + 1)
    )
    return NeighbourInformation(_ross(rows, codes, n_neighbours), error, repeated)


def _ksg(x: Array, y: Array, n_neighbours: int) -> float:
    radius = _neighbour_distance(np.hstack([x, y]), n_neighbours)
    nearer = digamma(_count_nearer(x, radius)) + digamma(_count_nearer(y, radius))
    return float(digamma(n_neighbours) + digamma(len(x)) - nearer.mean()) / math.log(2)


def _ross(rows: Array, codes: Integers, n_neighbours: int) -> float:
    radius, sizes = np.empty(len(rows)), np.bincount(codes)
    for code in range(len(sizes)):
        radius[codes == code] = _neighbour_distance(rows[codes == code], n_neighbours)
    average = (digamma(sizes[codes]) + digamma(_count_nearer(rows, radius))).mean()
    return float(digamma(n_neighbours) + digamma(len(rows)) - average) / math.log(2)


def _neighbour_distance(rows: Array, n_neighbours: int) -> Array:
    return np.asarray(cKDTree(rows).query(rows, k=[n_neighbours + 1], p=np.inf)[0])[:, 0]


def _count_nearer(rows: Array, radius: Array) -> Array:
    """Count the rows strictly nearer than the radius, and the row itself: n_x + 1, or m.

    For m the row itself replaces its k-th neighbour, which lies at the radius.
    """
    return np.asarray(cKDTree(rows).query_ball_point(rows, np.nextafter(radius, 0), p=np.inf, return_length=True))


def _standard_error(estimate: Callable[[Integers], float], order: Integers, max_parts: int) -> float | None:
    """Return the standard error from the spread of estimates over disjoint parts of the rows.

    The variance is proportional to 1/n (Holmes and Nemenman 2019, arXiv:1903.09280). A bootstrap would repeat rows, and
    each repetition would count as information.
    """
    partitions = [n_parts for n_parts in _N_PARTS if n_parts <= max_parts]
    if not partitions:
        return None
    variances = [
        np.var([estimate(order[start::n_parts]) for start in range(n_parts)], ddof=1) / n_parts
        for n_parts in partitions
    ]
    return float(np.sqrt(np.average(variances, weights=[n_parts - 1 for n_parts in partitions])))


def _shuffled(n_rows: int, generator: torch.Generator | None) -> Integers:
    return torch.randperm(n_rows, generator=generator or torch.Generator().manual_seed(0)).numpy()


def _scaled_rows(values: Tensor, name: str) -> Array:
    if rows_equal(as_rows(values, name=name), values.dtype):
        raise ValueError(
            f"Expected rows of {name} that differ, got equal rows; skip this layer, a constant has no density and "
            "information 0"
        )
    rows, _, _ = normalise_rows(values)
    rows = rows[:, rows.any(0)]  # without constant coordinates, which contain no information
    return np.asarray((rows / rows.square().mean(0).sqrt()).cpu().numpy())


def _repeated_share(rows: Array, name: str) -> float:
    """Return the share of the rows that equal another row; raise ValueError above 1 %."""
    _, counts = np.unique(rows, axis=0, return_counts=True)
    share = float(counts[counts > 1].sum()) / len(rows)
    if share > _MAX_REPEATED:
        raise ValueError(
            f"Expected rows of {name} with a density, got {share:.0%} repeated rows; remove the repetitions, add noise "
            "of a meaningful size, or use an estimator for discrete values"
        )
    return share


def _check_n_neighbours(n_neighbours: int, n_rows: int, what: str = "rows") -> None:
    if n_neighbours not in range(1, n_rows):
        raise ValueError(
            f"Expected n_neighbours of at least 1 and less than the number of {what}, {n_rows}, got {n_neighbours}; "
            "pass fewer neighbours or more rows"
        )
