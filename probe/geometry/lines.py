r"""How straight a map f is along the lines between samples, and one number for it (arXiv:2310.05918, section 2).

On the line from h_i to h_j, h(lam) = h_i + lam (h_j - h_i) at M points of lam from 0 to 1, let y_k(lam) = f(h(lam))_k.

    L_ij = (1/K) sum_k r_k^2,  r_k = the Pearson correlation of y_k with lam              (the published one)
    W_ij = sum_k cov_k^2 / (var lam . sum_k var y_k)                                      (weighted by variance)

W is the share of the variance of the whole output that is linear in lam: rotations of the output leave it alone, L not.
Both are 1 on the diagonal and where f is affine; an output that does not move counts as affine (0/0 := 1). With p the
absolute eigenvalues of the matrix over their sum, LMN = 2 ** (- sum p log2 p), from 1 to the number of samples N.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_ORDINARY = 1e12  # squares of float32 numbers between this and its inverse neither overflow nor vanish


def linear_mapping_number(matrix: Tensor) -> Tensor:
    """2 to the entropy (bits) of the normalised absolute spectrum of a symmetric matrix (n, n)."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"expected a square matrix, got shape {tuple(matrix.shape)}")
    p = torch.linalg.eigvalsh(matrix).abs()
    p = p / p.sum()
    return torch.exp2(-torch.special.xlogy(p, p).sum() / math.log(2))


def linearity(y: Tensor, lam: Tensor, *, weighted: bool = False) -> Tensor:
    """Share of the variance of outputs along lines that is linear in ``lam``: the mean over outputs, or of all.

    Parameters
    ----------
    y : Tensor of shape (pairs, M, K)
    lam : Tensor of shape (M,), M >= 3
    weighted
        The share of the sum of variances (W above) instead of the mean of shares (L).

    Returns
    -------
    Tensor of shape (pairs,), float64, from 0 to 1.
    """
    floor = _floor(y.flatten(0, 1), len(lam))
    y = y.movedim(1, 0).double()  # (M, pairs, K)
    return _shares(y[0], y[1:-1], y[-1], _Axis.of(lam.double()), floor)[int(weighted)]


@dataclass(frozen=True)
class PairwiseLinearity:
    """L and W between all pairs of samples.

    Attributes
    ----------
    mean, weighted : float64 Tensors of shape (n, n), on the CPU
        L and W above; NaN where an output is not finite.
    moved : float
        The farthest that an output moves along a line: as far as a straight one of the same variance does.
    """

    mean: Tensor
    weighted: Tensor
    moved: float


def pairwise_linearity(
    tail: Callable[[Tensor, Tensor], Tensor],
    h: Tensor,
    ends: Tensor,
    lam: Tensor,
    *,
    around: bool = False,
    rows: int = 1024,
) -> PairwiseLinearity:
    """Follow a map along the straight lines between all pairs of points.

    Parameters
    ----------
    tail
        ``(points, first) -> outputs``: points (m * lines, ...), first those nearest to the beginnings of all lines,
        which are the samples ``first`` (lines,); outputs (m * lines, K).
    h : Tensor of shape (n, ...)
        The points, n >= 2.
    ends : Tensor of shape (n, K)
        Their outputs, which are known and not computed again.
    lam : Tensor of shape (M,)
        From 0 to 1, M >= 3.
    around
        Whether outputs depend on ``first`` too. The end of a line is then not the output of the other sample, but
        followed like the points before it.
    rows
        Points in one call of ``tail``, at least those of one line. Memory: that many points and outputs a few times
        over, and 48 n^2 bytes.
    """
    n, m = len(h), len(lam) - 1 if around else len(lam) - 2
    i, j = torch.triu_indices(n, n, 1, device=h.device)  # (pairs,)
    where = lam[1 : m + 1].to(h).view(-1, *[1] * h.ndim)  # (m, 1, ...)
    floor = _floor(ends, len(lam))
    if _extreme(ends):
        ends = ends.double()
    axis, floor = _Axis.of(lam.to(ends)), floor.to(ends)
    found, powers = [], []
    for some in torch.arange(len(i), device=h.device).split(max(1, rows // m)):
        a, b = i[some], j[some]
        y = tail(torch.lerp(h[a], h[b], where).flatten(0, 1), a).view(m, len(a), -1)
        last, inner = (y[-1], y[:-1]) if around else (ends[b], y)
        mean, weighted, power = _shares(ends[a], inner, last, axis, floor)
        found.append(torch.stack([mean, weighted]))
        powers.append(power)
    moved = (torch.stack(powers).max() / axis.spread).sqrt().item()
    mean, weighted = torch.cat(found, 1).double().cpu()
    return PairwiseLinearity(_matrix(mean, n), _matrix(weighted, n), moved)


@dataclass(frozen=True)
class _Axis:
    """The coordinate along a line, as the sums over it need it."""

    inner: Tensor  # (M-2, 1, 1)
    sums: Tensor  # (2, M-2): makes the sum and the sum of products with lam - mean(lam)
    spread: Tensor  # (): sum of squares of lam - mean(lam)
    n_points: int

    @classmethod
    def of(cls, lam: Tensor) -> "_Axis":
        line = lam - lam.mean()
        sums = torch.stack([torch.ones_like(line), line])[:, 1:-1]
        return cls(lam[1:-1, None, None], sums, line.square().sum(), len(lam))


def _shares(first: Tensor, inner: Tensor, last: Tensor, axis: _Axis, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L and W (P,), and the largest M times variance, of outputs (P, K), (M-2, P, K), (P, K).

    Only the way off the chord from the first to the last output is summed: rounding then costs a share of the bend,
    not of an offset. That way is 0 at both ends, so that it is never nearly a line itself, and nothing cancels.
    """
    off = inner - torch.lerp(first, last, axis.inner)  # (M-2, P, K)
    total, along = (axis.sums @ off.flatten(1)).view(2, *first.shape)
    linear = ((last - first) * axis.spread + along).square() / axis.spread  # (P, K)
    bent = off.square().sum(0) - total.square() / axis.n_points - along.square() / axis.spread
    power = linear + bent
    share = torch.where(power <= floor, 1.0, linear / power).mean(1)
    whole, all_power = linear.sum(1), power.sum(1)
    return share, torch.where(all_power <= floor.sum(), 1.0, whole / all_power), power.max()


def _floor(ends: Tensor, n_points: int) -> Tensor:
    """M times the variance (K,), float64, that mere rounding makes of constant outputs as large as those."""
    return (ends.abs().amax(0).double() * torch.finfo(ends.dtype).eps).square() * n_points


def _extreme(ends: Tensor) -> bool:
    size = ends.abs().amax(0)
    return bool(((size > _ORDINARY) | ((size < 1 / _ORDINARY) & (size > 0))).any())


def _matrix(values: Tensor, n: int) -> Tensor:
    i, j = torch.triu_indices(n, n, 1)
    matrix = torch.eye(n, dtype=torch.float64)
    matrix[i, j] = matrix[j, i] = values
    return matrix
