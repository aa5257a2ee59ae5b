"""Where the rows of a value are. From two recordings, of 2 and of 3 rows, follows the shape for any number of rows."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 2, 3  # of the two recordings


@dataclass(frozen=True)
class RowLayout:
    """Shape of a value for any number of rows n, and the place of its rows.

    Attributes
    ----------
    shape : tuple of int
        For 2 rows.
    axis : int
        The axis that grows with n.
    block : int
        Its length for each row. A model that joins rows and positions, (n, T, d) -> (n * T, d), has T.
    outer : bool
        Whether the places of a row follow each other on the axis. Otherwise they are ``n`` apart.
    """

    shape: tuple[int, ...]
    axis: int
    block: int
    outer: bool = True

    def size(self, n: int) -> tuple[int, ...]:
        """Return the shape for n rows."""
        return (*self.shape[: self.axis], self.block * n, *self.shape[self.axis + 1 :])

    def order(self) -> Tensor:
        """Return the places of the numbers of one row, in the order of a value whose rows come first."""
        size = self.size(1)
        return self.to_rows(torch.arange(math.prod(size)).reshape(size)).flatten()

    def to_rows(self, value: Tensor) -> Tensor:
        """Return a value with its rows first, as a view if possible."""
        axis = self.axis
        if self.block == 1:
            return value if axis == 0 else value.movedim(axis, 0)
        n = value.shape[axis] // self.block
        if self.outer:
            return value.unflatten(axis, (n, self.block)).movedim(axis, 0)
        return value.unflatten(axis, (self.block, n)).movedim(axis + 1, 0)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Return a value with its rows at their place, as a view if possible. Inverse of :meth:`to_rows`."""
        axis = self.axis
        if self.block == 1:
            return rows if axis == 0 else rows.movedim(0, axis)
        return rows.movedim(0, axis if self.outer else axis + 1).flatten(axis, axis + 1)


def row_layout(two: Tensor, three: Tensor, precision: float = 0.0) -> RowLayout | None:
    """Return the layout of a value that two recordings hold, whose first two rows agree.

    Return None if there is none: no axis grows with the number of rows, or a row depends on the other rows.
    """
    sizes = list(zip(two.shape, three.shape, strict=False))
    axes = [axis for axis, (small, large) in enumerate(sizes) if small != large]
    if two.ndim != three.ndim or len(axes) != 1:
        return None
    (axis,) = axes
    block = three.shape[axis] - two.shape[axis]
    if two.shape[axis] != 2 * block:
        return None
    layouts = [RowLayout(tuple(two.shape), axis, block, outer) for outer in ((True,) if block == 1 else (True, False))]
    same = (agree(layout.to_rows(two), layout.to_rows(three)[:2], precision) for layout in layouts)
    return next((layout for layout, is_same in zip(layouts, same, strict=True) if is_same), None)


def agree(one: Tensor, other: Tensor, precision: float = 0.0) -> bool:
    """Return whether two tensors are equal up to rounding: the root of the precision, times the largest number.

    The precision is that of the numbers, or ``precision`` if that is coarser.
    """
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    precision = max(precision, 2.0**-10 if one.is_cuda else 0.0)  # of products of float32 on some devices
    tolerance = max(precision, torch.finfo(one.dtype).eps) ** 0.5
    one, other = one.detach().double(), other.detach().double()
    finite = one[one.isfinite()].abs()
    scale = finite.max().item() if len(finite) else 0.0
    return torch.allclose(one, other, rtol=0, atol=tolerance * scale, equal_nan=True)
