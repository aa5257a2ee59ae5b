"""Units near zero: from pre-activations at the vertices of a neighbourhood to counts, distances and densities.

A *slice* is the plane through a point that its directions span. The slope of a unit in it comes from central
differences over opposite vertices, so all of this needs no gradients of the model, and can itself be differentiated.
"""

import math

import torch
from torch import Tensor


def sign_changes(z: Tensor, dim: int = 1) -> Tensor:
    """How many units do not have one sign over all vertices (arXiv:2402.15555, section 3).

    Parameters
    ----------
    z : Tensor of shape (n, V, ...)
        Pre-activations of n points at V vertices; an exact zero is a sign of its own.
    dim
        Where the vertices are: 1, or 0 for a shape of (V, n, ...), which is quicker to go through.

    Returns
    -------
    Tensor of shape (n,), float64, NaN for points with a pre-activation that is not finite.
    """
    flat = z if z.ndim == 3 else z.reshape(*z.shape[:2], -1)
    low, high = flat.amin(dim), flat.amax(dim)  # (n, units)
    width = high - low
    changes = high.sign().sub_(low.sign()).clamp_(max=1)  # few and cheap kernels: for small layers their number counts
    return changes.add_(width, alpha=0).sum(1, dtype=torch.float64)  # NaN unless all are finite


def slice_slope(ahead: Tensor, behind: Tensor, radius: float) -> Tensor:
    """Length of the gradient of each unit within the slice, by central differences.

    Parameters
    ----------
    ahead, behind : Tensors of shape (n, P, ...)
        Pre-activations at x + r v_p and at x - r v_p, the v_p orthonormal.
    radius
        r. Where a unit is affine within it, the slope is exact.

    Returns
    -------
    Tensor of shape (n, ...)
    """
    return torch.linalg.vector_norm((ahead - behind) / (2 * radius), dim=1)


def boundary_distance(z: Tensor, slope: Tensor) -> Tensor:
    """Distance of each unit's zero set from the point, to first order, within the slice: ``|z| / slope``.

    Infinite for a unit that does not move, be it zero or not: it has no boundary here. The distance in the whole space
    is at most this one. NaN where a unit is not finite.

    Parameters
    ----------
    z, slope : Tensors of the same shape
        Pre-activations at the points, and :func:`slice_slope`.
    """
    return torch.where(slope > 0, z.abs() / slope, torch.inf).where(torch.isfinite(z + slope), torch.nan)


def boundary_density(z: Tensor, slope: Tensor, *, width: float, spatial: bool = True) -> Tensor:
    """Smooth density of boundaries at the points: the sum over units of k_h(z_i) times slope_i.

    With a delta function for the Gaussian kernel k_h this is the area of all zero sets per unit of volume (co-area
    formula). Differentiable, and of one value for all scales of the weights of a unit where ``spatial``.

    Parameters
    ----------
    z, slope : Tensors of shape (n, ...)
    width
        Standard deviation of the kernel: a distance in the slice (``spatial``: h_i = width * slope_i, so that a unit
        that does not move adds nothing), or h itself, in units of pre-activations.

    Returns
    -------
    Tensor of shape (n,), in 1 / length, NaN where a unit is not finite
    """
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    z, slope = z.flatten(1), slope.flatten(1)
    moves = slope != 0
    if spatial:
        distance = z / slope.where(moves, 1.0)  # a place that is not used, so that gradients stay finite there
        units = _gaussian(distance / width).where(moves, 0.0) / width
    else:
        units = _gaussian(z / width) * slope / width
    return units.where(torch.isfinite(z + slope), torch.nan).sum(1)


def _gaussian(t: Tensor) -> Tensor:
    return torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
