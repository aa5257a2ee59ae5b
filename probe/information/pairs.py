"""Sums of exponentials over all pairs of rows, for :mod:`probe.information.channel`: blocked, float32 where it serves.

Notation as there; rows are centred, with total variance 1, so that a noise level is relative.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_FLOOR = -80.0  # exp of less is nothing beside the 1 of a row's own component, and underflow costs six times as much
_ROUNDING = 3e-5  # nats: mean error of an exponent that float32 distances may have; else they are taken in float64


def row_terms(
    pairs: "Pairs", levels: Sequence[float], groups: Tensor | None = None, subsets: Tensor | None = None
) -> Tensor:
    """Value, lower and upper bits of each row among all rows, or among those of its group.

    Parameters
    ----------
    pairs
        Of n rows.
    levels
        Of the noise, none below the finest of ``pairs``.
    groups : int64 Tensor of shape (n,), optional
        0, ..., K-1. Rows of one group are best close together: the columns between them are computed too.
    subsets : bool Tensor of shape (n, b), optional
        The value, too, of the rows of each subset as if there were no others.

    Returns
    -------
    float64 Tensor of shape (levels, 3 + b, n)
        NaN where a row is not of the subset.
    """
    n = len(pairs)
    groups = torch.zeros(n, dtype=torch.long, device=pairs.device) if groups is None else groups
    subsets = torch.zeros(n, 0, dtype=torch.bool, device=pairs.device) if subsets is None else subsets
    members = torch.cat([torch.ones(n, 3, device=groups.device), subsets], 1)  # (n, 3 + b)
    sizes = members.new_zeros(int(groups.max()) + 1, members.shape[1]).index_add_(0, groups, members)
    places = torch.arange(n, device=groups.device)
    first = torch.full((len(sizes),), n, device=groups.device).scatter_reduce_(0, groups, places, "amin")[groups]
    last = torch.zeros_like(first[:1]).expand(len(sizes)).clone().scatter_reduce_(0, groups, places, "amax")[groups]
    out = torch.empty(len(levels), members.shape[1], n, dtype=torch.float64, device=groups.device)
    for lo in range(0, n, pairs.block):
        hi = min(lo + pairs.block, n)
        columns = slice(int(first[lo:hi].min()), int(last[lo:hi].max()) + 1)
        distances, shifts, space = pairs(slice(lo, hi), columns)
        if len(sizes) > 1:
            distances.masked_fill_(groups[lo:hi, None] != groups[columns], math.inf)
        out[:, :, lo:hi] = _sums(distances, shifts, space, levels, members[columns, 3:])
    bits = out.div_(sizes[groups].T).log2_().neg_()
    return bits.masked_fill_(members.T == 0, math.nan)


def _sums(distances: Tensor, shifts: Tensor, space: Tensor, levels: Sequence[float], subsets: Tensor) -> Tensor:
    """Sums over columns of E, exp(-D / 8 sigma^2), exp(-D / 2 sigma^2); of E over subsets: (levels, 3 + b, rows)."""
    widths = sorted({k / level**2 for level in levels for k in (0.125, 0.5)})
    bounds = {width: e.sum(1) for width, e in _powers(distances, space, widths)}
    sums = []
    for level in levels:
        exponents = torch.mul(shifts, 1 / level, out=space).sub_(distances, alpha=0.5 / level**2)
        value = exponents.clamp_(min=_FLOOR).exp_()
        three = torch.stack([value.sum(1), bounds[0.125 / level**2], bounds[0.5 / level**2]])
        sums.append(torch.cat([three, (value @ subsets).T]) if subsets.shape[1] else three)
    return torch.stack(sums)


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
