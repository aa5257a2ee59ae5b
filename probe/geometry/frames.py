"""Random directions in which a neighbourhood reaches, and how far it reaches for the units of a layer."""

import math
from functools import cache, lru_cache

import torch
from torch import Tensor


def orthonormal_frame(n_directions: int, dimension: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Random orthonormal directions, uniformly distributed.

    Returns
    -------
    Tensor of shape (n_directions, dimension), float64, on the CPU
    """
    if not 1 <= n_directions <= dimension:
        raise ValueError(
            f"{n_directions} directions cannot be orthonormal in {dimension} dimensions; "
            f"n_directions must be from 1 to {dimension}"
        )
    gaussian = torch.randn(dimension, n_directions, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)  # (D, P)
    return (q * r.diagonal().sign()).T  # the signs make it uniform


@lru_cache(maxsize=2)
def fixed_frame(n_directions: int, dimension: int, random_state: int) -> Tensor:
    """:func:`orthonormal_frame` of a seed, kept for the next observation: not to be written to, 8 bytes a number."""
    return orthonormal_frame(n_directions, dimension, generator=torch.Generator().manual_seed(random_state))


@cache
def effective_share(n_directions: int, dimension: int) -> float:
    """The share of its radius that a cross-polytope reaches for a unit of random weights, on average.

    A unit with weights w sees of the vertices x +- r v_p only ``r max_p |w . v_p| / |w|``. For w without a preferred
    direction that is r times the largest of P coordinates of a random unit vector in D dimensions. A Gaussian vector
    is such a vector times its own, independent length, so the mean is exactly ``E max_P |g| / E |g_D|``.

    Returns
    -------
    float, about sqrt(2 ln P / D); 1 for P = D = 1
    """
    t = torch.linspace(0, 40, 40_001, dtype=torch.float64)
    missed = torch.special.erf(t / math.sqrt(2)) ** n_directions  # that none of P half-normals exceeds t
    largest = torch.trapezoid(1 - missed, t).item()
    length = math.sqrt(2) * math.exp(math.lgamma((dimension + 1) / 2) - math.lgamma(dimension / 2))
    return largest / length
