"""Random directions of a neighbourhood, and the part of its radius that counts for the units of a layer."""

import math
from functools import cache, lru_cache

import torch
from torch import Tensor


def orthonormal_frame(n_directions: int, dimension: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Random orthonormal directions, uniformly distributed.

    Parameters
    ----------
    n_directions : int
        P, from 1 to ``dimension``.
    dimension : int
        D, the dimension of the space.
    generator : torch.Generator, optional
        Source of the directions, on the CPU.

    Returns
    -------
    float64 Tensor of shape (n_directions, dimension)
        On the CPU. The rows are the directions.

    Raises
    ------
    ValueError
        If ``n_directions`` is not between 1 and ``dimension``.

    See Also
    --------
    effective_share : The part of a radius that these directions reach.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import orthonormal_frame
    >>> frame = orthonormal_frame(2, 5, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(frame @ frame.T, torch.eye(2, dtype=torch.float64))
    True
    """
    if not 1 <= n_directions <= dimension:
        raise ValueError(
            f"Expected n_directions from 1 to {dimension}, got {n_directions} directions in {dimension} dimensions; "
            "pass fewer directions"
        )
    gaussian = torch.randn(dimension, n_directions, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)  # (D, P)
    return (q * r.diagonal().sign()).T  # the signs make the distribution uniform


@lru_cache(maxsize=2)
def fixed_frame(n_directions: int, dimension: int, random_state: int) -> Tensor:
    """Return the :func:`orthonormal_frame` of a seed from a cache of 8 bytes per number. Do not write to it."""
    return orthonormal_frame(n_directions, dimension, generator=torch.Generator().manual_seed(random_state))


@cache
def effective_share(n_directions: int, dimension: int) -> float:
    r"""Mean share of its radius that a cross-polytope reaches for a unit of random weights.

    For a unit of weights w, the vertices x +- r v_p lie at most r max_p \|w . v_p\| / \|w\| away from x. If w has no
    preferred direction, this is r times the largest absolute value of P coordinates of a random unit vector in D
    dimensions. A Gaussian vector is such a unit vector times its own, independent length. The mean is therefore
    exactly E max_P \|g\| / E \|g_D\|.

    Parameters
    ----------
    n_directions : int
        P.
    dimension : int
        D.

    Returns
    -------
    float
        About sqrt(2 ln P / D); 1 for P = D = 1.

    See Also
    --------
    orthonormal_frame : The directions.

    Examples
    --------
    One of two directions in the plane reaches the mean of abs(cos), 2 / pi.

    >>> from probe.geometry import effective_share
    >>> round(effective_share(1, 2), 4)
    0.6366
    """
    t = torch.linspace(0, 40, 40_001, dtype=torch.float64)
    none_exceeds = torch.special.erf(t / math.sqrt(2)) ** n_directions  # probability that P half-normals are below t
    largest = torch.trapezoid(1 - none_exceeds, t).item()
    length = math.sqrt(2) * math.exp(math.lgamma((dimension + 1) / 2) - math.lgamma(dimension / 2))
    return largest / length
