"""Two-dimensional slices of an input space: a plane, and a convex window in it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_PARALLEL = 1e-6  # float32 points do not fix a plane if their triangle is lower than this part of its longest side
_ORTHONORMAL = 1e-9


@dataclass(frozen=True)
class Slice:
    """A convex window in a plane of the input space.

    The plane is the set of inputs origin + c1 axes[0] + c2 axes[1]. The axes are orthonormal, so lengths and areas in
    coordinates (c1, c2) are those of the input space.

    Attributes
    ----------
    origin : Tensor
        One input.
    axes : Tensor of shape (2, ...)
        Orthonormal.
    window : Tensor of shape (k, 2)
        Corners of a convex polygon, counterclockwise, in units of the input.
    anchors : Tensor of shape (m, 2)
        Coordinates of the points that define the plane.

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite, the axes are not orthonormal, or the window is degenerate, not
        convex or clockwise.

    See Also
    --------
    slice_through : The plane through three inputs.
    input_plane : The plane of a network with two inputs.
    """

    origin: Tensor
    axes: Tensor
    window: Tensor
    anchors: Tensor = field(default_factory=lambda: torch.empty(0, 2, dtype=torch.float64))

    def __post_init__(self) -> None:
        for name in ("origin", "axes", "window", "anchors"):
            value = torch.as_tensor(getattr(self, name)).detach().to("cpu", torch.float64)
            if not value.isfinite().all():
                raise ValueError(f"Expected a finite {name}, got NaN or infinity; pass finite numbers")
            object.__setattr__(self, name, value)
        if self.axes.shape != (2, *self.origin.shape):
            raise ValueError(
                f"Expected axes of shape {(2, *self.origin.shape)}, got {tuple(self.axes.shape)}; pass two directions "
                "of the shape of the origin"
            )
        gram = self._flat_axes @ self._flat_axes.T
        if (gram - torch.eye(2, dtype=gram.dtype)).abs().max() > _ORTHONORMAL:
            raise ValueError(
                f"Expected orthonormal axes, got scalar products {gram.flatten().tolist()}; use slice_through, or "
                "orthonormalise them in float64"
            )
        check_window(self.window)

    def points(self, coordinates: Any) -> Tensor:
        """Return the inputs (n, ...) at coordinates (n, 2)."""
        place = torch.as_tensor(coordinates, dtype=torch.float64)
        return (self.origin.flatten() + place @ self._flat_axes).reshape(-1, *self.origin.shape)

    def coordinates(self, points: Tensor) -> Tensor:
        """Return the coordinates (n, 2) of the projections of inputs (n, ...) onto the plane."""
        return (torch.as_tensor(points).detach().to("cpu", torch.float64) - self.origin).flatten(1) @ self._flat_axes.T

    @property
    def area(self) -> float:
        """Area of the window, in squared units of the input."""
        corners = self.window - self.window[0]  # far from the origin, products of coordinates lose digits
        following = corners.roll(-1, 0)
        return ((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum() / 2).item()

    @property
    def anchors_inside(self) -> Tensor:
        """Whether the window contains each anchor, bool of shape (m,)."""
        sides = self.window.roll(-1, 0) - self.window  # (k, 2)
        away = self.anchors[:, None] - self.window  # (m, k, 2)
        return (sides[:, 0] * away[..., 1] - sides[:, 1] * away[..., 0] >= 0).all(1)

    def __repr__(self) -> str:
        corners = f"window of {len(self.window)} corners, area {self.area:.3g}"
        return f"Slice(inputs of shape {tuple(self.origin.shape)}; {corners})"

    @property
    def _flat_axes(self) -> Tensor:
        return self.axes.reshape(2, -1)


def slice_through(points: Tensor, *, margin: float = 0.5, half_side: float | None = None) -> Slice:
    """Return the slice in the plane through three points.

    The origin is the mean of the points. The first axis has the direction from the first to the second point.

    Parameters
    ----------
    points : Tensor of shape (3, ...)
        Three inputs.
    margin : float
        The window is a square around the origin. Its half side is (1 + margin) times the largest distance of a point
        from the origin.
    half_side : float, optional
        Half side of the window in units of the input, in place of ``margin``. See :attr:`Slice.anchors_inside` for
        points that it leaves out.

    Returns
    -------
    Slice
        The points are its anchors.

    Raises
    ------
    ValueError
        If there are not three points, if they are not finite, or if two are equal or all lie on one line.

    See Also
    --------
    input_plane : The plane of a network with two inputs.
    partition_slice : The linear regions of a network in a slice.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import slice_through
    >>> found = slice_through(torch.tensor([[0.0, 0.0, 1.0], [3.0, 0.0, 1.0], [0.0, 3.0, 1.0]]), half_side=2.0)
    >>> found.axes.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    >>> found.anchors_inside.tolist()
    [True, True, True]
    """
    corners = torch.as_tensor(points).detach().to("cpu", torch.float64)
    if corners.ndim < 2 or len(corners) != 3:
        raise ValueError(f"Expected three points, got shape {tuple(corners.shape)}; pass a tensor of shape (3, ...)")
    if not corners.isfinite().all():
        raise ValueError("Expected finite points, got NaN or infinity; pass three finite inputs")
    origin, flat = corners.mean(0), corners.flatten(1)
    first, second = flat[1] - flat[0], flat[2] - flat[0]
    longest = torch.cdist(flat, flat).max()
    one = first / first.norm()
    height = second - (second @ one) * one
    if not (first.norm() > _PARALLEL * longest and height.norm() > _PARALLEL * longest):  # NaN for equal points too
        raise ValueError("Expected three points that fix a plane, got equal points or points of one line; pass others")
    height = height - (height @ one) * one  # once more: the first step loses digits for flat triangles
    axes = torch.stack([one, height / height.norm()])
    anchors = (flat - origin.flatten()) @ axes.T
    reach = (1 + margin) * anchors.norm(dim=1).max().item() if half_side is None else half_side
    return Slice(origin, axes.reshape(2, *origin.shape), square(reach), anchors)


def input_plane(window: Any) -> Slice:
    """Return the slice of a network with two inputs, whose coordinates are the inputs.

    Parameters
    ----------
    window : array of shape (k, 2)
        Corners of a convex polygon, counterclockwise, such as :func:`square`.

    Returns
    -------
    Slice
        With origin 0 and the unit vectors as axes.

    Raises
    ------
    ValueError
        If the window is degenerate, not convex or clockwise.

    See Also
    --------
    slice_through : The plane through three inputs.

    Examples
    --------
    >>> from probe.geometry import input_plane, square
    >>> input_plane(square(2.0)).area
    16.0
    """
    return Slice(torch.zeros(2), torch.eye(2), window)


def square(half_side: float) -> Tensor:
    """Return the corners of the square [-half_side, half_side]^2, counterclockwise.

    Parameters
    ----------
    half_side : float
        Positive, in units of the input.

    Returns
    -------
    float64 Tensor of shape (4, 2)

    Raises
    ------
    ValueError
        If ``half_side`` is not positive and finite.

    See Also
    --------
    Slice : A window in a plane.

    Examples
    --------
    >>> from probe.geometry import square
    >>> square(1.0).tolist()
    [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
    """
    if not 0 < half_side < float("inf"):
        raise ValueError(f"Expected a positive and finite half side, got {half_side}; pass it in units of the input")
    return half_side * torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)


def check_window(window: Tensor) -> None:
    """Raise ValueError unless the corners are those of a convex polygon with an area, counterclockwise."""
    if window.ndim != 2 or window.shape[1] != 2 or len(window) < 3:
        raise ValueError(f"Expected a window of shape (k, 2), k >= 3, got {tuple(window.shape)}; pass its corners")
    sides = window.roll(-1, 0) - window
    following = sides.roll(-1, 0)
    turns = torch.atan2(
        sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0], (sides * following).sum(1)
    )  # a corner of 180 degrees has no turn; a convex polygon turns by 360 degrees in all
    if (sides.norm(dim=1) == 0).any() or (turns <= 1e-9).any() or abs(turns.sum() - 2 * torch.pi) > 1e-6:
        raise ValueError(
            f"Expected the corners of a convex window, counterclockwise, got {window.tolist()}; drop corners that are "
            "equal or on a side, and reverse a clockwise order"
        )
