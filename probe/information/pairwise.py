"""Sums of exponentials over all pairs of rows, in blocks, for :mod:`probe.information.channel`.

The notation is that of the channel. Rows are centred and have total variance 1, so a noise level is relative. The sums
use float32 as long as its rounding does not matter.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_FLOOR = -80.0  # smaller exponents do not change a sum that contains a 1, and underflow is six times as slow
_ROUNDING = 3e-5  # nats: largest mean error of an exponent from float32 distances; above it, float64 is used


def squared_distances(rows: Tensor) -> Tensor:
    """Return the squared distances (n, n) between rows (n, d), with a gradient."""
    squares = rows.square().sum(1)
    return (squares[:, None] + squares - 2 * rows @ rows.T).clamp(min=0)


def pointwise_information(
    blocks: "PairwiseBlocks", levels: Sequence[float], groups: Tensor | None = None, subsets: Tensor | None = None
) -> Tensor:
    """Estimate, lower bound and upper bound of each row's information among the rows of its group, in bits.

    Parameters
    ----------
    blocks
        Of n rows.
    levels
        Relative noise levels, none below the finest of ``blocks``.
    groups : int64 Tensor of shape (n,), optional
        Codes 0, ..., K-1. By default all rows are one group. Rows of one group should be neighbours, because all
        columns between them are computed too.
    subsets : bool Tensor of shape (n, b), optional
        For each subset, the estimate is also computed as if no other rows existed.

    Returns
    -------
    float64 Tensor of shape (levels, 3 + b, n)
        NaN where a row is not in the subset.
    """
    n = len(blocks)
    groups = torch.zeros(n, dtype=torch.long, device=blocks.device) if groups is None else groups
    subsets = torch.zeros(n, 0, dtype=torch.bool, device=blocks.device) if subsets is None else subsets
    members = torch.cat([torch.ones(n, 3, device=groups.device), subsets], 1)  # (n, 3 + b)
    sizes = members.new_zeros(int(groups.max()) + 1, members.shape[1]).index_add_(0, groups, members)
    first, last = _group_ranges(groups, len(sizes))
    sums = torch.empty(len(levels), members.shape[1], n, dtype=torch.float64, device=groups.device)
    for start in range(0, n, blocks.block_size):
        rows = slice(start, min(start + blocks.block_size, n))
        columns = slice(int(first[rows].min()), int(last[rows].max()) + 1)
        distances, shifts, buffer = blocks(rows, columns)
        if len(sizes) > 1:
            distances.masked_fill_(groups[rows, None] != groups[columns], math.inf)
        sums[:, :, rows] = _column_sums(distances, shifts, buffer, levels, members[columns, 3:])
    bits = sums.div_(sizes[groups].T).log2_().neg_()
    return bits.masked_fill_(members.T == 0, math.nan)


def _group_ranges(groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Return the first and the last row of the group of each row."""
    places = torch.arange(len(groups), device=groups.device)
    first = torch.full((n_groups,), len(groups), device=groups.device).scatter_reduce_(0, groups, places, "amin")
    last = torch.zeros(n_groups, dtype=torch.long, device=groups.device).scatter_reduce_(0, groups, places, "amax")
    return first[groups], last[groups]


def _column_sums(distances: Tensor, shifts: Tensor, buffer: Tensor, levels: Sequence[float], subsets: Tensor) -> Tensor:
    """Sum E, exp(-D / 8 sigma^2), exp(-D / 2 sigma^2), and E over subsets, over columns: (levels, 3 + b, rows)."""
    widths = sorted({factor / level**2 for level in levels for factor in (0.125, 0.5)})
    bounds = {width: kernel.sum(1) for width, kernel in _bound_kernels(distances, buffer, widths)}
    sums = []
    for level in levels:
        exponents = torch.mul(shifts, 1 / level, out=buffer).sub_(distances, alpha=0.5 / level**2)
        terms = exponents.clamp_(min=_FLOOR).exp_()
        of_level = torch.stack([terms.sum(1), bounds[0.125 / level**2], bounds[0.5 / level**2]])
        sums.append(torch.cat([of_level, (terms @ subsets).T]) if subsets.shape[1] else of_level)
    return torch.stack(sums)


def _bound_kernels(distances: Tensor, buffer: Tensor, widths: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    """Yield exp(-width D) for increasing widths, in place. A width of four times the last takes its fourth power."""
    last, kernel = 0.0, buffer
    for width in widths:
        if last and math.isclose(width, 4 * last):
            kernel = kernel.clamp_(min=math.exp(_FLOOR / 4)).square_().square_()  # no underflow
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
        squares, own_shifts = rows.square().sum(1), torch.linalg.vecdot(noise, rows)
        self.float64 = (rows, noise, rows.T, squares, own_shifts)
        columns = rows.T.float().contiguous()
        self.active = (rows.float(), noise.float(), columns, squares.float(), own_shifts.float())
        self.max_rounding = 2 * finest**2 * _ROUNDING
        self.block_size, self.device = block_size, rows.device
        self.buffers = torch.empty(3, block_size * len(rows), device=rows.device)  # allocation costs more than products

    def __len__(self) -> int:
        return len(self.float64[0])

    def __call__(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the distances, the shifts, and a buffer of the same shape."""
        left, noise, right, squares, own_shifts = self.active
        shape = rows.stop - rows.start, columns.stop - columns.start
        first, second, third = (buffer[: math.prod(shape)].view(shape) for buffer in self.buffers)
        wide = left.dtype == torch.float64
        with torch.autocast(left.device.type, enabled=False):
            out = None if wide else first
            distances = torch.addmm(squares[columns], left[rows], right[:, columns], alpha=-2, out=out)
            distances += squares[rows, None]
            own_distances = distances[:, rows.start - columns.start :].diagonal()
            if not wide and not own_distances.abs().mean() <= self.max_rounding:
                self.active = self.float64
                return self(rows, columns)
            out = None if wide else second
            shifts = torch.addmm(-own_shifts[rows, None], noise[rows], right[:, columns], out=out)
        return (first.copy_(distances) if wide else distances).clamp_(min=0), second.copy_(shifts), third
