"""Spectra of matrices, and the effective number of their directions.

A spectrum is a vector of numbers from 0 upwards: singular values s_k, or their squares. With p_k = s_k / sum s,

    spectral entropy = - sum_k p_k log2 p_k         (bits)
    effective rank   = exp(- sum_k p_k ln p_k)      (Roy and Vetterli 2007, EUSIPCO, definition 1; of singular values)
    stable rank      = sum_k s_k^2 / max_k s_k^2    (Rudelson and Vershynin 2007, J. ACM 54(4))
    participation ratio = (sum_k s_k^2)^2 / sum_k s_k^4

These ranks lie between 1 and the rank. They equal the rank if all singular values other than 0 are equal.
"""

import math

import torch
from torch import Tensor

BLOCK = 2**21  # numbers of a matrix that are in float64 at a time: 16 MiB


def squared_singular_values(matrix: Tensor) -> Tensor:
    """Squared singular values, the largest first: eigenvalues of the product with the smaller side k, in float64.

    Parameters
    ----------
    matrix : Tensor of shape (m, n)
        Finite, of any precision, real or complex. The work space is k^2 numbers and a block of 16 MiB. The time is
        proportional to m n k + k^3.

    Returns
    -------
    float64 Tensor of shape (k,), k = min(m, n)
        Squares below 1e-15 of the largest are rounding. Squares that rounding makes negative are set to 0.

    Raises
    ------
    ValueError
        If ``matrix`` is not two-dimensional, is empty, or holds values that are not finite or too large.

    See Also
    --------
    stable_rank : Of these squares.
    effective_rank : Of their roots, or of the variances of a covariance.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import squared_singular_values
    >>> matrix = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    >>> [round(value, 6) for value in squared_singular_values(matrix).tolist()]
    [16.0, 9.0]
    """
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(
            f"Expected a matrix with at least one row and column, got shape {tuple(matrix.shape)}; reshape it first"
        )
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mH  # (k, n)
    dtype = torch.promote_types(matrix.dtype, torch.float64)
    product = torch.zeros(len(wide), len(wide), dtype=dtype, device=matrix.device)
    for columns in wide.split(max(1, BLOCK // len(wide)), 1):
        block = columns.to(dtype)
        product = product + block @ block.mH
    if not torch.isfinite(product).all():
        raise ValueError(
            "Expected a matrix of finite values, got NaN, infinite or too large values; remove them or rescale"
        )
    return torch.linalg.eigvalsh(product).flip(0).clamp(min=0)


def spectral_entropy(spectrum: Tensor) -> Tensor:
    """Entropy of the normalised spectrum, in bits.

    Parameters
    ----------
    spectrum : Tensor of shape (k,)
        Singular values, or their squares. Finite, at least 0 and not all 0.

    Returns
    -------
    Tensor of shape ()
        From 0 to log2 k.

    Raises
    ------
    ValueError
        If the sum of the spectrum is not positive and finite.

    See Also
    --------
    effective_rank : 2 to this entropy.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import spectral_entropy
    >>> round(spectral_entropy(torch.ones(8)).item(), 4)
    3.0
    """
    return torch.special.entr(spectral_distribution(spectrum)).sum() / math.log(2)


def effective_rank(spectrum: Tensor) -> Tensor:
    """Effective rank: 2 to the spectral entropy (Roy and Vetterli 2007, definition 1).

    Parameters
    ----------
    spectrum : Tensor of shape (k,)
        Singular values, as in Roy and Vetterli. For a covariance, pass the variances along its axes.

    Returns
    -------
    Tensor of shape ()
        From 1 to k.

    Raises
    ------
    ValueError
        If the sum of the spectrum is not positive and finite.

    See Also
    --------
    stable_rank : A rank that depends on the largest value only.
    squared_singular_values : Squares of the singular values of a matrix.

    Examples
    --------
    The effective rank of an identity matrix is its size.

    >>> import torch
    >>> from probe.geometry import effective_rank, squared_singular_values
    >>> round(effective_rank(squared_singular_values(torch.eye(5)).sqrt()).item(), 4)
    5.0
    """
    return spectral_entropy(spectrum).exp2()


def stable_rank(squares: Tensor) -> Tensor:
    """Stable rank: sum over maximum of the squared singular values (Rudelson and Vershynin 2007).

    Parameters
    ----------
    squares : Tensor of shape (k,)
        Squared singular values. Finite, at least 0 and not all 0.

    Returns
    -------
    Tensor of shape ()
        From 1 to k.

    Raises
    ------
    ValueError
        If the sum of the squares is not positive and finite.

    See Also
    --------
    effective_rank : A rank that depends on all values.
    squared_singular_values : The squares of a matrix.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import stable_rank
    >>> round(stable_rank(torch.tensor([16.0, 8.0])).item(), 4)
    1.5
    """
    return 1 / spectral_distribution(squares).max()


def participation_ratio(squares: Tensor) -> Tensor:
    """Participation ratio of a spectrum: the squared sum over the sum of squares.

    Parameters
    ----------
    squares : Tensor of shape (k,)
        Squared singular values of a matrix, or eigenvalues of a covariance, a kernel or a Fisher matrix. Finite, at
        least 0 and not all 0.

    Returns
    -------
    Tensor of shape ()
        From 1 to k. It is at least the stable rank of the same squares.

    Raises
    ------
    ValueError
        If the sum of the squares is not positive and finite.

    See Also
    --------
    stable_rank : A rank that depends on the largest value only.
    effective_rank : A rank that gives small values more weight.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import participation_ratio
    >>> round(participation_ratio(torch.tensor([3.0, 1.0])).item(), 4)
    1.6
    """
    return 1 / spectral_distribution(squares).square().sum()


def spectral_distribution(spectrum: Tensor) -> Tensor:
    """Return a spectrum (k,) divided by its sum; raise ValueError if the sum is not positive and finite."""
    total = spectrum.sum()
    if not (total > 0 and torch.isfinite(total)):
        raise ValueError(
            f"Expected a finite spectrum that is not all 0, got a sum of {total.item()}; skip this matrix, its rank is "
            "not defined"
        )
    return spectrum / total
