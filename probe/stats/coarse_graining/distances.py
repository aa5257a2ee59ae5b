"""Distances between spectra of matrices, also of different sizes.

A spectrum is first divided by its root mean square or by its norm, so that no distance depends on the size of the
weights. Two scales answer two questions:

    "quantile"  values s / rms(s) as a function of the share of modes. The distance is the L2 distance of quantile
                functions (Wasserstein distance of order 2). Random matrices of two widths, with the same ratio of
                sides, have nearly the same spectrum
    "modes"     values s / |s| by number of the mode, the largest first; a shorter spectrum ends with zeros. Two widths
                with the same few directions have nearly the same spectrum

Both are Euclidean distances of vectors of norm 1 with entries of at least 0, so they lie between 0 and the root of 2.
Moments have no such bound, and the high ones depend on the largest value alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.validation import as_numbers

SCALES = "quantile", "modes"


def spectral_distance(first: ArrayLike, second: ArrayLike, *, scale: str = "quantile") -> float:
    """Return the distance of two normalised spectra.

    Parameters
    ----------
    first, second : array of shape (n,), array of shape (m,)
        Singular values in any order, finite, at least 0 and not all 0. The numbers n and m can differ.
    scale : str
        ``"quantile"`` compares values at equal shares of the modes, ``"modes"`` at equal numbers of the mode.

    Returns
    -------
    float
        From 0 to the root of 2, without unit.

    Raises
    ------
    ValueError
        If a spectrum is not as above, or the scale is unknown.

    See Also
    --------
    spectral_flow : Distances over time between groups of runs, with a test.

    Examples
    --------
    >>> from probe.stats import spectral_distance
    >>> round(spectral_distance([3.0, 3.0], [1.0, 1.0, 1.0]), 6)  # flat, of any size
    0.0
    >>> round(spectral_distance([1.0, 0.0], [1.0, 0.0, 0.0], scale="modes"), 6)  # of rank 1, of any width
    0.0
    >>> round(spectral_distance([1.0, 0.0], [1.0, 0.0, 0.0]), 6)
    0.605811
    """
    check_scale(scale)
    spectra = [as_numbers(name, values) for name, values in (("first", first), ("second", second))]
    for values in spectra:
        if (
            values.ndim != 1
            or not len(values)
            or not np.isfinite(values).all()
            or (values < 0).any()
            or not values.any()
        ):
            raise ValueError(
                f"Expected spectra of shape (n,) with finite values of at least 0, not all 0, got {values}; leave out "
                "matrices that are zero"
            )
    a, b = (embedded(values, scale, [len(one) for one in spectra]) for values in spectra)
    return float(np.linalg.norm(a - b))


def check_scale(scale: str) -> None:
    """Raise ValueError for an unknown scale."""
    if scale not in SCALES:
        raise ValueError(f"Expected scale as one of {', '.join(map(repr, SCALES))}, got {scale!r}; pass one of them")


def embedded(spectra: np.ndarray, scale: str, lengths: Sequence[int]) -> np.ndarray:
    """Return spectra (..., n) as vectors of norm 1, whose Euclidean distances are those of the scale.

    Parameters
    ----------
    spectra
        Singular values in any order.
    scale
        See :func:`spectral_distance`.
    lengths
        Numbers of values of all spectra that are compared; ``n`` is one of them.
    """
    values = -np.sort(-spectra, axis=-1)
    values = values / np.linalg.norm(values, axis=-1, keepdims=True)
    n = values.shape[-1]
    if scale == "modes":
        return np.concatenate([values, np.zeros((*values.shape[:-1], max(lengths) - n))], axis=-1)
    common = math.lcm(*lengths)
    edges = np.unique(np.concatenate([np.arange(0, common + 1, common // length) for length in set(lengths)]))
    place = edges[:-1] * n // common
    return np.asarray(values[..., place] * np.sqrt(np.diff(edges) * n / common))
