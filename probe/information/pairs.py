"""Sums of exponentials over all pairs of rows, for :mod:`probe.information.channel`: blocked, float32 where it serves.

Notation as there; rows are centred, with total variance 1, so that a noise level is relative.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_FLOOR = -80.0  # exp of less is nothing beside the 1 of a row's own component, and underflow costs six times as much
_ROUNDING = 3e-5  # nats: mean error of an exponent that float32 distances may have; else they are taken in float64


def row_terms(pairs: "Pairs", levels: Sequence[float], groups: Tensor | None = None) -> Tensor:
    """Value, lower and upper bits of each row among all rows, or among those of its group.

    Parameters
    ----------
    pairs
        Of n rows.
    levels
        Of the noise, none below the finest of ``pairs``.
    groups : int64 Tensor of shape (n,), optional
        0, ..., K-1. Rows of one group are best close together: the columns between them are computed too.

    Returns
    -------
    float64 Tensor of shape (levels, 3, n)
    """
    n = len(pairs)
    groups = torch.zeros(n, dtype=torch.long, device=pairs.device) if groups is None else groups
    sizes, places = groups.bincount(), torch.arange(n, device=groups.device)
    first = torch.full_like(sizes, n).scatter_reduce_(0, groups, places, "amin")[groups].tolist()
    last = torch.zeros_like(sizes).scatter_reduce_(0, groups, places, "amax")[groups].tolist()
    out = torch.empty(len(levels), 3, n, dtype=torch.float64, device=groups.device)
    for lo in range(0, n, pairs.block):
        hi = min(lo + pairs.block, n)
        columns = slice(min(first[lo:hi]), max(last[lo:hi]) + 1)
        distances, shifts, space = pairs(slice(lo, hi), columns)
        if len(sizes) > 1:
            distances.masked_fill_(groups[lo:hi, None] != groups[columns], math.inf)
        out[:, :, lo:hi] = torch.stack(_sums(distances, shifts, space, levels)).view(len(levels), 3, -1)
    return out.div_(sizes[groups]).log2_().neg_()


def _sums(distances: Tensor, shifts: Tensor, space: Tensor, levels: Sequence[float]) -> list[Tensor]:
    """Sums over columns of E, exp(-D / 8 sigma^2) and exp(-D / 2 sigma^2), for each level in turn."""
    widths = sorted({k / level**2 for level in levels for k in (0.125, 0.5)})
    bounds = {width: e.sum(1) for width, e in _powers(distances, space, widths)}
    sums = []
    for level in levels:
        exponents = torch.mul(shifts, 1 / level, out=space).sub_(distances, alpha=0.5 / level**2)
        value = exponents.clamp_(min=_FLOOR).exp_().sum(1)
        sums += [value, bounds[0.125 / level**2], bounds[0.5 / level**2]]
    return sums


def _powers(distances: Tensor, space: Tensor, widths: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    """exp(-width D) for widths in increasing order, in place; one four times the last is its fourth power."""
    last, e = 0.0, space
    for width in widths:
        if last and math.isclose(width, 4 * last):
            e = e.clamp_(min=math.exp(_FLOOR / 4)).square_().square_()  # no underflow
        else:
            e = torch.mul(distances, -width, out=space).clamp_(min=_FLOOR / 4).exp_()
        last = width
        yield width, e


class Pairs:
    """Squared distances |t_i - t_j|^2 and shifts n_i (t_j - t_i), a block at a time, in float32.

    Differences cancel where the noise is fine, and a user may have allowed coarse products (TF32, bfloat16). The
    distance of a row from itself, which is 0, shows the rounding: if its mean exceeds what matters at the finest
    level, both are taken in float64, from then on.
    """

    def __init__(self, t: Tensor, draw: Tensor, finest: float, block: int = 128) -> None:
        squares, own = t.square().sum(1), torch.linalg.vecdot(draw, t)
        self.exact = (t, draw, t.T, squares, own)
        self.used = (t.float(), draw.float(), t.T.float().contiguous(), squares.float(), own.float())
        self.allowed = 2 * finest**2 * _ROUNDING
        self.block, self.device = block, t.device
        self.space = torch.empty(3, block * len(t), device=t.device)  # kept: new memory costs more than arithmetic

    def __len__(self) -> int:
        return len(self.exact[0])

    def __call__(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Both, and as much memory for use."""
        t, draw, others, squares, own = self.used
        shape = rows.stop - rows.start, columns.stop - columns.start
        one, two, three = (part[: math.prod(shape)].view(shape) for part in self.space)
        wide = t.dtype == torch.float64
        with torch.autocast(t.device.type, enabled=False):
            distances = torch.addmm(squares[columns], t[rows], others[:, columns], alpha=-2, out=None if wide else one)
            distances += squares[rows, None]
            if not wide and not distances[:, rows.start - columns.start :].diagonal().abs().mean() <= self.allowed:
                self.used = self.exact
                return self(rows, columns)
            shifts = torch.addmm(-own[rows, None], draw[rows], others[:, columns], out=None if wide else two)
        return (one.copy_(distances) if wide else distances).clamp_(min=0), two.copy_(shifts), three
