"""Singular modes of a matrix, or of the blocks of a block-diagonal matrix, from the product with its smaller side."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probe.geometry.spectra import BLOCK

RESOLVED = 1e-7  # part of the largest singular value above which the product with the smaller side resolves a mode


class Decomposition(NamedTuple):
    """All modes of a matrix, the largest first.

    Attributes
    ----------
    wide : Tensor of shape (k, p, q), p <= q
        The blocks, in float32 or float64, transposed if they are tall.
    sides : float64 Tensor of shape (k, p, p)
        Singular vectors of the smaller side, one in each column.
    values : float64 Tensor of shape (n,), n = k p
        Singular values.
    blocks, columns : int64 Tensor of shape (n,)
        Block and column of ``sides`` of each mode.
    tall : bool
        Whether the smaller side is the right one.
    """

    wide: Tensor
    sides: Tensor
    values: Tensor
    blocks: Tensor
    columns: Tensor
    tall: bool

    @property
    def inverse(self) -> Tensor:
        """Return 1 / value of each mode, and 0 for modes that are not resolved."""
        resolved = self.values > RESOLVED * self.values[0]
        return torch.where(resolved, 1 / self.values.clamp(min=math.ulp(0.0)), 0.0)


def decompose(weight: Tensor) -> Decomposition:
    """Return the modes of a finite real matrix (m, n), or of a stack (k, m, n) of blocks.

    The decomposition of the product with the smaller side takes a part of the time of an SVD, and its vectors of the
    longer side are computed only where they are needed.
    """
    stack = weight if weight.ndim == 3 else weight[None]
    stack = stack if stack.dtype in (torch.float32, torch.float64) else stack.float()
    tall = stack.shape[1] > stack.shape[2]
    wide = stack.mT if tall else stack
    k, p, _ = wide.shape
    product = torch.zeros(k, p, p, dtype=torch.float64, device=wide.device)
    for columns in wide.split(max(1, BLOCK // (k * p)), 2):
        part = columns.double()
        product += part @ part.mT
    squares, sides = torch.linalg.eigh(product)
    values, order = squares.clamp(min=0).sqrt().flatten().sort(descending=True, stable=True)
    return Decomposition(wide, sides, values, order // p, order % p, tall)


def overlaps(found: Decomposition, left: Tensor, right: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the overlaps of given left and right unit vectors with those of all modes, both (given, modes).

    ``blocks`` are the blocks of the given vectors. Overlaps between blocks, and with unresolved modes, are 0.
    """
    small, large = (right, left) if found.tall else (left, right)
    near, far = (torch.zeros(len(blocks), len(found.values), dtype=torch.float64, device=blocks.device) for _ in "ab")
    for block in blocks.unique().tolist():
        rows, modes = (blocks == block).nonzero()[:, 0], (found.blocks == block).nonzero()[:, 0]
        side, wide = found.sides[block][:, found.columns[modes]], found.wide[block]
        near[rows[:, None], modes] = small[rows].double() @ side
        other = (large[rows].to(wide.dtype) @ wide.T).double() @ side
        far[rows[:, None], modes] = other * found.inverse[modes]
    near = near * (found.inverse > 0)
    return (far, near) if found.tall else (near, far)


def combine(found: Decomposition, weights: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return left and right vectors of combinations ``weights`` (given, modes) of modes in one block each."""
    p, q = found.wide.shape[1:]
    small = torch.zeros(len(blocks), p, dtype=torch.float64, device=blocks.device)
    large = torch.zeros(len(blocks), q, dtype=torch.float64, device=blocks.device)
    for block in blocks.unique().tolist():
        rows, modes = (blocks == block).nonzero()[:, 0], (found.blocks == block).nonzero()[:, 0]
        side, wide, part = found.sides[block][:, found.columns[modes]], found.wide[block], weights[rows][:, modes]
        small[rows] = part @ side.T
        large[rows] = ((part * found.inverse[modes]) @ side.T).to(wide.dtype).matmul(wide).double()
    return (large, small) if found.tall else (small, large)
