"""Boundaries of units: counts, distances and densities from pre-activations at the vertices of a neighbourhood.

The boundary of a unit is the set where its pre-activation is zero. A *slice* is the plane through a point that its
directions span. Central differences over opposite vertices give the slope of a unit in the slice. These functions
therefore need no gradients of the model, and they are differentiable themselves.
"""

import math

import torch
from torch import Tensor

from probe.information.arguments import check_tensor


def sign_changes(pre_activations: Tensor, dim: int = 1) -> Tensor:
    """Number of units of each point whose sign differs between vertices (arXiv:2402.15555, section 3).

    Parameters
    ----------
    pre_activations : Tensor of shape (n, V, ...)
        Pre-activations of n points at V vertices. An exact zero counts as a third sign.
    dim : int
        Dimension of the vertices: 1, or 0 for the shape (V, n, ...), which is faster.

    Returns
    -------
    float64 Tensor of shape (n,)
        NaN for points with a pre-activation that is not finite.

    See Also
    --------
    boundary_density : A smooth measure of boundaries.
    probe.LocalComplexityProbe : The count over training.

    Examples
    --------
    Of three units at four vertices, the first and the last change their sign.

    >>> import torch
    >>> from probe.geometry import sign_changes
    >>> vertices = torch.tensor([[[1.0, 2.0, -1.0], [-1.0, 2.0, -1.0], [1.0, 3.0, 0.5], [1.0, 1.0, -2.0]]])
    >>> sign_changes(vertices).tolist()
    [2.0]
    """
    is_flat = pre_activations.ndim == 3
    flat = pre_activations if is_flat else pre_activations.reshape(*pre_activations.shape[:2], -1)
    low, high = flat.amin(dim), flat.amax(dim)  # (n, units)
    width = high - low
    changes = high.sign().sub_(low.sign()).clamp_(max=1)  # few kernels: their number dominates for small layers
    return changes.add_(width, alpha=0).sum(1, dtype=torch.float64)  # NaN unless all are finite


def slice_slope(ahead: Tensor, behind: Tensor, radius: float) -> Tensor:
    """Norm of the gradient of each unit within the slice, from central differences.

    Parameters
    ----------
    ahead, behind : Tensors of shape (n, P, ...)
        Pre-activations at x + r v_p and at x - r v_p, for P orthonormal directions v_p.
    radius : float
        r, in units of the inputs.

    Returns
    -------
    Tensor of shape (n, ...)
        In units of the pre-activations per unit of the inputs. Exact for a unit that is affine within the radius.

    Raises
    ------
    TypeError
        If one of both is no dense tensor of real numbers.
    ValueError
        If the shapes differ or have fewer than two dimensions, or if ``radius`` is not positive and finite.

    See Also
    --------
    orthonormal_frame : Random directions.
    boundary_distance, boundary_density : Functions of the slope.

    Examples
    --------
    The unit z = 3 a + 4 b has a gradient of norm 5.

    >>> import torch
    >>> from probe.geometry import slice_slope
    >>> step = 0.1 * torch.tensor([[[3.0], [4.0]]])
    >>> round(slice_slope(1 + step, 1 - step, radius=0.1).item(), 4)
    5.0
    """
    check_tensor(ahead, "ahead")
    check_tensor(behind, "behind")
    if ahead.shape != behind.shape or ahead.ndim < 2:
        raise ValueError(
            f"Expected ahead and behind of one shape (n, P, ...), got {tuple(ahead.shape)} and {tuple(behind.shape)}; "
            "pass both at the same points and directions"
        )
    if not 0 < radius < math.inf:
        raise ValueError(f"Expected a positive, finite radius, got {radius}; pass the distance of the vertices")
    return torch.linalg.vector_norm((ahead - behind) / (2 * radius), dim=1)


def boundary_distance(pre_activations: Tensor, slope: Tensor) -> Tensor:
    r"""Distance from the point to the boundary of each unit within the slice, to first order: \|z\| / slope.

    The distance in the whole space is at most this distance.

    Parameters
    ----------
    pre_activations, slope : Tensors of the same shape
        Pre-activations z at the points, and the result of :func:`slice_slope`.

    Returns
    -------
    Tensor of the same shape
        In units of the inputs. Infinite for a unit of slope 0, even if it is 0: such a unit has no boundary here. NaN
        for a unit that is not finite.

    See Also
    --------
    slice_slope : The slope.
    boundary_density : Density of the boundaries at the points.

    Examples
    --------
    The line 3 a + 4 b = 10 lies at a distance of 2 from the origin.

    >>> import torch
    >>> from probe.geometry import boundary_distance
    >>> boundary_distance(torch.tensor([-10.0, 1.0]), slope=torch.tensor([5.0, 0.0])).tolist()
    [2.0, inf]
    """
    distance = torch.where(slope > 0, pre_activations.abs() / slope, torch.inf)
    return distance.where(torch.isfinite(pre_activations + slope), torch.nan)


def boundary_density(pre_activations: Tensor, slope: Tensor, *, width: float, spatial: bool = True) -> Tensor:
    """Smooth density of boundaries at the points: the sum over units of k_h(z_i) times slope_i.

    If the Gaussian kernel k_h is replaced by a delta function, this is the area of all boundaries per unit of volume
    (co-area formula). The density is differentiable. With ``spatial`` it does not depend on the scale of the weights
    of a unit.

    Parameters
    ----------
    pre_activations, slope : Tensors of shape (n, ...)
        Pre-activations z at the points, and the result of :func:`slice_slope`.
    width : float
        Standard deviation of the kernel. With ``spatial`` it is a distance in the slice, in units of the inputs:
        h_i = width * slope_i. Otherwise it is h itself, in units of the pre-activations.
    spatial : bool
        Whether ``width`` is a distance. A unit of slope 0 then contributes 0.

    Returns
    -------
    Tensor of shape (n,)
        In 1 / unit of the inputs. NaN if a unit is not finite.

    Raises
    ------
    ValueError
        If ``width`` is not positive.

    See Also
    --------
    sign_changes : Number of units with a boundary between the vertices.
    boundary_distance : Distance to each boundary.

    Examples
    --------
    On its boundary, a unit contributes the maximum of a normal density, 1 / sqrt(2 pi).

    >>> import torch
    >>> from probe.geometry import boundary_density
    >>> round(boundary_density(torch.tensor([[0.0]]), torch.tensor([[5.0]]), width=1.0).item(), 4)
    0.3989
    """
    if not width > 0:
        raise ValueError(f"Expected width > 0, got {width}; pass a positive distance")
    z, slope = pre_activations.flatten(1), slope.flatten(1)
    moves = slope != 0
    if spatial:
        distance = z / slope.where(moves, 1.0)  # 1 is never used; it keeps gradients finite
        units = _gaussian(distance / width).where(moves, 0.0) / width
    else:
        units = _gaussian(z / width) * slope / width
    return units.where(torch.isfinite(z + slope), torch.nan).sum(1)


def _gaussian(t: Tensor) -> Tensor:
    return torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
