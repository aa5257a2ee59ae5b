r"""Standard errors of the channel estimates of :mod:`probe.information.channel`, in bits.

**Over noise draws, for these rows.** With d_i the information of row i, the error is the standard deviation of d_i over
sqrt(n). Rows differ in their expected d_i too. The two pairwise bounds of the row predict this part by linear
regression, and only the residual counts.

If few rows carry the variance, the residuals do not show how large it can be, and near the ceiling hardly any draw
reaches another row. There a certified limit replaces them. With e the sum of E_ij over the other rows of the group,
log^2(1 + e) <= 2.2 sqrt(e), and the expectation of sqrt(E_ij) is exp(-D_ij / 8 sigma^2), so that

    Var d_i <= 2.2 / ln^2 2 sum_j exp(-D_ij / 8 sigma^2).

**Over rows and noise draws.** The infinitesimal jackknife [1]_: the error is the standard deviation of u_i over
sqrt(n), where u_i is the derivative of n I with respect to the weight of row i. Row i contributes as a reading, as a
member of the mixture of the others, and to the total variance, on which a relative noise depends:

    u_i = d_i - sum_k (E_ki / sum_j E_kj) / ln 2 + dI / d log(sigma) (|t_i|^2 / tr Cov(T) - 1) / 2

The rows of one input have one weight. Like other jackknife estimates [2]_ it is too large rather than too small if
pairs of rows dominate, as near the ceiling.

Both variances are multiplied by 1 + c / n_eff, where n_eff = (sum u^2)^2 / sum u^4 is the number of rows that carry
the variance. A variance from few rows is itself uncertain, and its errors are skew. The factors c (4 for the noise, 8
for the rows, which have heavier tails) are calibrated on ``docs/benchmarks/information_accuracy.py --errors``.

.. [1] Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, chapter 6.  .. [2] Efron and Stein 1981,
   Ann. Stat. 9, 586.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_LIMIT = 2.2 / math.log(2) ** 2  # the maximum of log^2(1 + e) / sqrt(e) is 2.187, at e = 51
_FEW = 8  # rows that carry the variance: fewer do not determine it
_NEAR = 0.9  # of the ceiling: above it, rare draws carry the variance
_SMALL = 0.1  # of the ceiling: a larger limit is of no use
_LEAST_INPUTS = 16
_NOISE_FACTOR, _ROW_FACTOR = 4.0, 8.0  # c above


def noise_error(differences: Tensor, known: Sequence[Tensor], overlap: Tensor, ceiling: float) -> float:
    """Return the standard error over noise draws.

    Parameters
    ----------
    differences : Tensor of shape (n,)
        Information of each row.
    known : sequence of Tensors of shape (n,)
        Numbers of each row that do not depend on the noise, and predict its expected information.
    overlap : Tensor of shape (n,)
        Sum of exp(-D / 8 sigma^2) over the rows that reduce the information of a row.
    ceiling : float
        Largest possible information.
    """
    n = len(differences)
    limit = math.sqrt(_LIMIT * overlap.clamp(min=0).mean().item() / n)
    found = differences.cpu().numpy()
    columns = np.stack([np.ones(n), *(part.cpu().numpy() for part in known)], 1)
    columns /= np.linalg.norm(columns, axis=0) + np.finfo(float).tiny
    squares, mixture = np.linalg.eigh(columns.T @ columns)
    basis = columns @ (mixture[:, squares > 1e-10] / np.sqrt(squares[squares > 1e-10]))
    passed = np.square(basis).sum(1) > 0.5  # the fit passes through these rows, so that their residuals show nothing
    residuals = found - np.where(passed, found.mean(), basis @ (basis.T @ found))
    error, n_carrying = _spread(residuals, n - basis.shape[1], _NOISE_FACTOR)
    if limit <= _SMALL * ceiling and (n_carrying < _FEW or found.mean() > _NEAR * ceiling):
        return limit
    return min(error, limit) if n_carrying >= _FEW else math.nan


def row_error(influence: Tensor, inputs: Tensor | None, noise_se: float) -> float:
    """Return the standard error over rows and noise draws, at least ``noise_se``; NaN for fewer than 16 inputs.

    Parameters
    ----------
    influence : Tensor of shape (n,)
        u_i, up to a constant.
    inputs : int64 Tensor of shape (n,), optional
        Codes of the inputs of the rows. By default all inputs are distinct.
    noise_se : float
        Standard error over noise draws.
    """
    deviations = influence - influence.mean()
    if inputs is not None:
        n_inputs = int(inputs.max()) + 1
        deviations = deviations.new_zeros(n_inputs).index_add_(0, inputs, deviations) * (n_inputs / len(inputs))
    if len(deviations) < _LEAST_INPUTS:
        return math.nan
    error, _ = _spread(deviations.cpu().numpy(), len(deviations) - 1, _ROW_FACTOR)
    return math.nan if math.isnan(noise_se) else max(error, noise_se)


def _spread(deviations: NDArray[np.float64], freedom: int, factor: float) -> tuple[float, float]:
    """Return the standard error of a mean from deviations (n,), and the number of rows that carry its variance."""
    squares = np.square(deviations)
    total = float(squares.sum())
    if freedom < 1 or total <= 1e-24 * len(deviations):
        return 0.0, 0.0
    n_carrying = total**2 / float(squares @ squares)
    variance = total / freedom / len(deviations)
    return math.sqrt(variance * (1 + factor / n_carrying)), n_carrying
