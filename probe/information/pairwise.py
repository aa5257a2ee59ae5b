"""Sums of exponentials over all pairs of rows, in blocks, for :mod:`probe.information.channel`.

The notation is that of the channel. Rows are centred and have total variance 1, so a noise level is relative. The sums
use float32 as long as its rounding does not matter. One pass over the pairs gives the sums among all rows and within
groups, the bounds, and the derivatives from which the error over rows follows.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_FLOOR = -80.0  # smaller exponents do not change a sum that contains a 1, and underflow is six times as slow
_WIDTHS = 0.125, 0.5  # of the kernels exp(-width D / sigma^2) of the lower and the upper bound
_ROUNDING = 3e-5  # nats: largest mean error of an exponent from float32 distances; above it, float64 is used


def squared_distances(rows: Tensor) -> Tensor:
    """Return the squared distances (n, n) between rows (n, d), with a gradient."""
    squares = rows.square().sum(1)
    return (squares[:, None] + squares - 2 * rows @ rows.T).clamp(min=0)


class Pointwise(NamedTuple):
    """Information of each row among the rows of its group, in bits.

    Attributes
    ----------
    bits : float64 Tensor of shape (3, n)
        Estimate, lower bound and upper bound.
    overlap : float64 Tensor of shape (n,)
        Sum of exp(-D / 8 sigma^2) over the other rows of the group.
    influence : float64 Tensor of shape (n,)
        Derivative of n times the mean estimate with respect to the weight of the row, up to a constant.
    slope : float
        Derivative of the mean estimate with respect to the logarithm of the noise level.
    """

    bits: Tensor
    overlap: Tensor
    influence: Tensor
    slope: float


def pointwise_information(
    blocks: "PairwiseBlocks",
    levels: Sequence[float],
    groupings: Sequence[Tensor | None] = (None,),
    *,
    derivatives: bool = False,
) -> list[list[Pointwise]]:
    """Return the information of each row, for each grouping of the rows and each level.

    Parameters
    ----------
    blocks
        Of n rows.
    levels
        Relative noise levels, none below the finest of ``blocks``.
    groupings : sequence of int64 Tensors of shape (n,) or None
        Codes 0, ..., K-1 of groups. None: all rows are one group. Rows of one group should be neighbours, because all
        columns between them are summed.
    derivatives : bool
        Whether to compute ``influence`` and ``slope``, which are 0 otherwise.
    """
    sums = [_Sums(codes, len(levels), len(blocks), blocks.device) for codes in groupings]
    widths = sorted({factor / level**2 for level in levels for factor in _WIDTHS})
    for start in range(0, len(blocks), blocks.block_size):
        rows = slice(start, min(start + blocks.block_size, len(blocks)))
        distances, shifts, buffer = blocks(rows)
        masks = [part.mask(rows) for part in sums]
        for width, kernel in _bound_kernels(distances, buffer, widths):
            for part, (columns, mask) in zip(sums, masks, strict=True):
                found = _masked(kernel[:, columns], mask).sum(1)
                for k, level in enumerate(levels):
                    for i, factor in enumerate(_WIDTHS):
                        if width == factor / level**2:
                            part.sums[k, 1 + i, rows] = found
        for k, level in enumerate(levels):
            exponents = torch.mul(shifts, 1 / level, out=buffer).sub_(distances, alpha=0.5 / level**2)
            terms = exponents.clamp_(min=_FLOOR).exp_()
            growth = torch.mul(shifts, 1 / level).sub_(distances, alpha=1 / level**2) if derivatives else terms
            for part, (columns, mask) in reversed(list(zip(sums, masks, strict=True))):  # all rows last: in place
                of_group = _masked(terms[:, columns], mask)
                total = of_group.sum(1)
                part.sums[k, 0, rows] = total
                if derivatives:
                    shares = of_group.div_(total[:, None])
                    part.shares[k, columns] += shares.sum(0)
                    part.slopes[k] += (shares * growth[:, columns]).sum().item()
    return [part.results() for part in sums]


class _Sums:
    """Sums over the rows of each group: (levels, 3, n), of E, exp(-D / 8 sigma^2) and exp(-D / 2 sigma^2)."""

    def __init__(self, codes: Tensor | None, n_levels: int, n: int, device: torch.device) -> None:
        self.codes, self.n = codes, n
        self.sums = torch.empty(n_levels, 3, n, dtype=torch.float64, device=device)
        self.shares = torch.zeros(n_levels, n, dtype=torch.float64, device=device)  # of each row in the sums of others
        self.slopes = [0.0] * n_levels
        if codes is not None:
            self.sizes = codes.bincount()
            self.first, self.last = _group_ranges(codes, len(self.sizes))

    def mask(self, rows: slice) -> tuple[slice, Tensor | None]:
        """Return the columns of the groups of these rows, and which of them belong to the group of each row."""
        if self.codes is None:
            return slice(0, self.n), None
        columns = slice(int(self.first[rows].min()), int(self.last[rows].max()) + 1)
        return columns, (self.codes[rows, None] == self.codes[columns]).float()

    def results(self) -> list[Pointwise]:
        """Return the informations of each level."""
        sizes = self.n if self.codes is None else self.sizes[self.codes].double()
        bits = (self.sums / sizes).log2_().neg_()
        influence = bits[:, 0] - self.shares / math.log(2)
        return [
            Pointwise(bits[k], self.sums[k, 1] - 1, influence[k], slope / (self.n * math.log(2)))
            for k, slope in enumerate(self.slopes)
        ]


def _masked(terms: Tensor, mask: Tensor | None) -> Tensor:
    return terms if mask is None else terms * mask


def _group_ranges(groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Return the first and the last row of the group of each row."""
    places = torch.arange(len(groups), device=groups.device)
    first = torch.full((n_groups,), len(groups), device=groups.device).scatter_reduce_(0, groups, places, "amin")
    last = torch.zeros(n_groups, dtype=torch.long, device=groups.device).scatter_reduce_(0, groups, places, "amax")
    return first[groups], last[groups]


def _bound_kernels(distances: Tensor, buffer: Tensor, widths: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    """Yield exp(-width D) for increasing widths, in place. A width of four times the last takes its fourth power."""
    last, kernel, powers = 0.0, buffer, 0
    for width in widths:
        powers = powers + 1 if last and math.isclose(width, 4 * last) else 0
        if powers:
            kernel = (
                (kernel.clamp_(min=math.exp(_FLOOR / 4)) if powers > 1 else kernel).square_().square_()
            )  # no underflow
        else:
            kernel = torch.mul(distances, -width, out=buffer).clamp_(min=_FLOOR / 4).exp_()
        last = width
        yield width, kernel


class PairwiseBlocks:
    """Squared distances |t_i - t_j|^2 and shifts n_i (t_j - t_i) of blocks of rows, in float32 or float64.

    At a fine noise the differences of float32 numbers cancel. A user can also have allowed coarse products (TF32,
    bfloat16). The distance of a row from itself is 0, so its computed value shows the rounding. If its mean exceeds
    the limit at the finest level, this block and all later ones are computed in float64.
    """

    def __init__(self, rows: Tensor, noise: Tensor, finest: float, block_size: int = 128) -> None:
        squares, own_shifts = torch.linalg.vecdot(rows, rows), torch.linalg.vecdot(noise, rows)
        self.float64 = (rows, noise, rows.T, squares, own_shifts)
        single = rows.float()
        self.active = (single, noise.float(), single.T, squares.float(), own_shifts.float())
        self.squares = squares
        self.max_rounding = 2 * finest**2 * _ROUNDING
        self.block_size, self.device = block_size, rows.device
        self.buffers = torch.empty(3, block_size * len(rows), device=rows.device)  # allocation costs more than products

    def __len__(self) -> int:
        return len(self.float64[0])

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the distances, the shifts, and a buffer of the same shape."""
        left, noise, right, squares, own_shifts = self.active
        shape = rows.stop - rows.start, len(self)
        first, second, third = (buffer[: math.prod(shape)].view(shape) for buffer in self.buffers)
        wide = left.dtype == torch.float64
        with torch.autocast(left.device.type, enabled=False):
            distances = torch.addmm(squares, left[rows], right, alpha=-2, out=None if wide else first)
            distances += squares[rows, None]
            own_distances = distances[:, rows.start :].diagonal()
            if not wide and not own_distances.abs().mean() <= self.max_rounding:
                self.active = self.float64
                return self(rows)
            shifts = torch.addmm(-own_shifts[rows, None], noise[rows], right, out=None if wide else second)
        own_distances.zero_()
        shifts[:, rows.start :].diagonal().zero_()
        return (first.copy_(distances), second.copy_(shifts), third) if wide else (distances, shifts, third)
