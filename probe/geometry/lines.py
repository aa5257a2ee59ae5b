r"""Linearity of a map f along the lines between samples, and its linear mapping number (arXiv:2310.05918, section 2).

On the line from h_i to h_j, h(lam) = h_i + lam (h_j - h_i) at M positions lam from 0 to 1, let y_k(lam) = f(h(lam))_k.

    L_ij = (1/K) sum_k r_k^2,  r_k = Pearson correlation of y_k with lam                  (as published)
    W_ij = sum_k cov_k^2 / (var lam . sum_k var y_k)                                      (weighted by variance)

W is the share of the variance of the whole output that is linear in lam. Rotations of the output change L, but not W.
Both are 1 on the diagonal and where f is affine. A constant output counts as affine (0/0 := 1). With p the absolute
eigenvalues of the matrix over their sum, the linear mapping number is LMN = 2 ** (- sum p log2 p). It lies between 1
and the number of samples N.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probe.information.arguments import check_tensor
from probe.reads import holds, moved

_ASYMMETRY = 1e-3  # of the largest entry
_SAFE_SIZE = 1e12  # squares of float32 numbers between its inverse and this size neither overflow nor vanish


def linear_mapping_number(matrix: Tensor) -> Tensor:
    """Linear mapping number: 2 to the entropy (bits) of the normalised absolute spectrum (arXiv:2310.05918, section 2).

    Parameters
    ----------
    matrix : Tensor of shape (n, n)
        Symmetric and finite, not all 0: L or W of :func:`pairwise_linearity`.

    Returns
    -------
    Tensor of shape ()
        From 1 to n.

    Raises
    ------
    TypeError
        If ``matrix`` is no dense tensor of real numbers.
    ValueError
        If ``matrix`` is not square and symmetric, not finite, or 0.

    See Also
    --------
    pairwise_linearity : The matrices.
    effective_rank : The same function of singular values.

    Examples
    --------
    An affine map has one linear region. Samples without any linearity between them count separately.

    >>> import torch
    >>> from probe.geometry import linear_mapping_number
    >>> round(linear_mapping_number(torch.ones(4, 4)).item(), 3), round(linear_mapping_number(torch.eye(4)).item(), 3)
    (1.0, 4.0)
    """
    check_tensor(matrix, "matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(
            f"Expected a square matrix, got shape {tuple(matrix.shape)}; pass one row and column per sample"
        )
    matrix = matrix if matrix.dtype == torch.float32 else matrix.double()
    size = matrix.detach().abs().max().item()
    if not 0 < size < math.inf or (matrix - matrix.T).detach().abs().max().item() > _ASYMMETRY * size:
        raise ValueError(
            f"Expected a symmetric, finite matrix that is not 0, got another with a largest entry of {size:.3g}; pass "
            "L or W of pairwise_linearity, and leave out samples without finite outputs"
        )
    p = torch.linalg.eigvalsh(matrix / size).abs()
    p = p / p.sum()
    return torch.exp2(-torch.special.xlogy(p, p).sum() / math.log(2))


def linearity(outputs: Tensor, positions: Tensor, *, weighted: bool = False) -> Tensor:
    """Share of the variance of outputs along lines that is linear in the position (arXiv:2310.05918, section 2).

    Parameters
    ----------
    outputs : Tensor of shape (lines, M, K)
        Outputs at the positions.
    positions : Tensor of shape (M,), M >= 3
        Positions lam on each line, from 0 to 1.
    weighted : bool
        Whether to return the share of the sum of variances (W) instead of the mean of shares (L).

    Returns
    -------
    float64 Tensor of shape (lines,)
        From 0 to 1.

    See Also
    --------
    pairwise_linearity : The same for the lines between all pairs of points.

    Examples
    --------
    Of two outputs, one is linear and one is symmetric about the middle of the line.

    >>> import torch
    >>> from probe.geometry import linearity
    >>> positions = torch.tensor([0.0, 0.5, 1.0])
    >>> outputs = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]]])
    >>> [round(linearity(outputs, positions, weighted=weighted).item(), 4) for weighted in (False, True)]
    [0.5, 0.75]
    """
    floor = _variance_floor(outputs.flatten(0, 1), len(positions))
    steps = outputs.movedim(1, 0).double()  # (M, lines, K)
    return _shares(steps[0], steps[1:-1], steps[-1], _Axis.of(positions.double()), floor)[int(weighted)]


@dataclass(frozen=True)
class PairwiseLinearity:
    """Result of :func:`pairwise_linearity`.

    Attributes
    ----------
    mean, weighted : float64 Tensors of shape (n, n)
        L and W on the CPU. NaN where an output is not finite.
    max_change : float
        Largest change of an output along a line: the change of a straight output of the same variance.
    """

    mean: Tensor
    weighted: Tensor
    max_change: float


def pairwise_linearity(
    function: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    outputs: Tensor,
    positions: Tensor,
    *,
    depends_on_first: bool = False,
    batch_size: int = 1024,
) -> PairwiseLinearity:
    """Linearity of a map along the straight lines between all pairs of points (arXiv:2310.05918, section 2).

    Parameters
    ----------
    function : callable
        ``function(batch, first) -> outputs``. ``batch`` has shape (m * lines, ...): first the points nearest to the
        beginnings of all lines. ``first`` (lines,), on the CPU, is the index of the sample where each line begins. The
        outputs have shape (m * lines, K).
    points : Tensor of shape (n, ...)
        n >= 2.
    outputs : Tensor of shape (n, K)
        Outputs at the points. They are not computed again.
    positions : Tensor of shape (M,)
        Positions lam on each line, from 0 to 1, M >= 3.
    depends_on_first : bool
        Whether the outputs depend on ``first`` too. The end of a line then differs from the output of the other
        sample, so it is computed like the points before it.
    batch_size : int
        Number of points in one call of ``function``, but at least those of one line. The memory is a few times that
        number of points and outputs, and 48 n^2 bytes.

    Returns
    -------
    PairwiseLinearity

    See Also
    --------
    linear_mapping_number : One number for L or W.
    probe.LMNProbe : The number over training.

    Examples
    --------
    The absolute value is linear between points of one sign only.

    >>> import torch
    >>> from probe.geometry import pairwise_linearity
    >>> points = torch.tensor([[-1.0], [1.0], [2.0]])
    >>> result = pairwise_linearity(lambda batch, first: batch.abs(), points, points.abs(), torch.linspace(0, 1, 5))
    >>> [[round(value, 3) for value in row] for row in result.mean.tolist()]
    [[1.0, 0.0, 0.48], [0.0, 1.0, 1.0], [0.48, 1.0, 1.0]]
    """
    shares, change = line_shares(
        function, points, outputs, positions, depends_on_first=depends_on_first, batch_size=batch_size
    )
    return linearity_matrices(shares.cpu(), change.cpu(), len(points))


def line_shares(
    function: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    outputs: Tensor,
    positions: Tensor,
    *,
    depends_on_first: bool = False,
    batch_size: int = 1024,
) -> tuple[Tensor, Tensor]:
    """Return L and W of each line (2, lines), float64, and the largest change (), on the device of the points.

    See :func:`pairwise_linearity` for the parameters.
    """
    n, n_inner = len(points), len(positions) - 1 if depends_on_first else len(positions) - 2
    i, j = torch.triu_indices(n, n, 1)  # (lines,)
    inner = positions[1 : n_inner + 1].to(points).view(-1, *[1] * points.ndim)  # (m, 1, ...)
    floor = _variance_floor(outputs, len(positions))
    if holds(_needs_float64(outputs)):
        outputs = outputs.double()
    axis, floor = _Axis.of(positions.to(outputs)), floor.to(outputs)
    shares, powers = [], []
    for first, second in zip(*(ends.split(max(1, batch_size // n_inner)) for ends in (i, j)), strict=True):
        start, end = moved(first, points.device), moved(second, points.device)
        y = function(torch.lerp(points[start], points[end], inner).flatten(0, 1), first).view(n_inner, len(start), -1)
        last, between = (y[-1], y[:-1]) if depends_on_first else (outputs[end], y)
        mean, weighted, power = _shares(outputs[start], between, last, axis, floor)
        shares.append(torch.stack([mean, weighted]))
        powers.append(power)
    return torch.cat(shares, 1).double(), (torch.stack(powers).max() / axis.spread).sqrt()


def linearity_matrices(shares: Tensor, change: Tensor, n: int) -> PairwiseLinearity:
    """Return the matrices for n points of the result of :func:`line_shares`, both on the CPU."""
    mean, weighted = shares
    return PairwiseLinearity(_symmetric(mean, n), _symmetric(weighted, n), change.item())


@dataclass(frozen=True)
class _Axis:
    """The positions along a line, prepared for sums."""

    inner: Tensor  # (M-2, 1, 1)
    sums: Tensor  # (2, M-2): makes the sum and the sum of products with lam - mean(lam)
    spread: Tensor  # (): sum of squares of lam - mean(lam)
    n_points: int

    @classmethod
    def of(cls, positions: Tensor) -> "_Axis":
        centred = positions - positions.mean()
        sums = torch.stack([torch.ones_like(centred), centred])[:, 1:-1]
        return cls(positions[1:-1, None, None], sums, centred.square().sum(), len(positions))


def _shares(first: Tensor, inner: Tensor, last: Tensor, axis: _Axis, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return L and W (P,), and the largest M times variance, of outputs (P, K), (M-2, P, K), (P, K).

    Only the deviation from the chord between the first and the last output is summed. Rounding is then relative to the
    deviation, not to an offset. The deviation is 0 at both ends, so it is never nearly a line, and nothing cancels.
    """
    deviation = inner - torch.lerp(first, last, axis.inner)  # (M-2, P, K)
    total, along = (axis.sums @ deviation.flatten(1)).view(2, *first.shape)
    linear = ((last - first) * axis.spread + along).square() / axis.spread  # (P, K)
    bent = deviation.square().sum(0) - total.square() / axis.n_points - along.square() / axis.spread
    power = linear + bent
    share = torch.where(power <= floor, 1.0, linear / power).mean(1)
    all_linear, all_power = linear.sum(1), power.sum(1)
    return share, torch.where(all_power <= floor.sum(), 1.0, all_linear / all_power), power.max()


def _variance_floor(outputs: Tensor, n_points: int) -> Tensor:
    """Return M times the variance (K,), float64, that rounding makes of constant outputs of this size."""
    return (outputs.abs().amax(0).double() * torch.finfo(outputs.dtype).eps).square() * n_points


def _needs_float64(outputs: Tensor) -> Tensor:
    """Return whether squares of the outputs can overflow or vanish in float32, bool of shape ()."""
    size = outputs.abs().amax(0)
    return ((size > _SAFE_SIZE) | ((size < 1 / _SAFE_SIZE) & (size > 0))).any()


def _symmetric(values: Tensor, n: int) -> Tensor:
    """Return the symmetric matrix with these values above its diagonal of ones."""
    i, j = torch.triu_indices(n, n, 1)
    matrix = torch.eye(n, dtype=torch.float64)
    matrix[i, j] = matrix[j, i] = values
    return matrix
