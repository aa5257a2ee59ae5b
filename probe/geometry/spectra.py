"""Spectra of matrices, and how many of their directions count.

A spectrum is a vector of numbers from 0 up: singular values s_k, or their squares. With p_k = s_k / sum s,

    spectral entropy = - sum_k p_k log2 p_k         (bits)
    effective rank   = exp(- sum_k p_k ln p_k)      (Roy and Vetterli 2007, EUSIPCO, definition 1; of singular values)
    stable rank      = sum_k s_k^2 / max_k s_k^2    (Rudelson and Vershynin 2007, J. ACM 54(4))

Both ranks lie between 1 and the rank, and equal it where all singular values that are not 0 are the same.
"""

import math

import torch
from torch import Tensor

BLOCK = 2**21  # numbers of a matrix that are in float64 at a time: 16 MiB


def to_float64_device(z: Tensor, device: torch.device | str | None = None) -> Tensor:
    """``z`` where it can be worked on in float64: on ``device``, else where it is, but MPS has no float64."""
    return z.detach().to(device or ("cpu" if z.device.type == "mps" else z.device))


def squared_singular_values(matrix: Tensor) -> Tensor:
    """All of them, the largest first: eigenvalues of the product with the smaller side k, in float64.

    Parameters
    ----------
    matrix : Tensor of shape (m, n), finite
        Any precision, also complex. Work space: k^2 numbers and a block of 16 MiB. Time: m n k + k^3.

    Returns
    -------
    float64 Tensor of shape (k,), k = min(m, n)
        Squares below 1e-15 of the largest are rounding; those that rounding makes negative are 0.
    """
    if matrix.ndim != 2 or not matrix.numel():
        raise ValueError(f"expected a matrix with at least one row and column, got shape {tuple(matrix.shape)}")
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mH  # (k, n)
    dtype = torch.promote_types(matrix.dtype, torch.float64)
    product = torch.zeros(len(wide), len(wide), dtype=dtype, device=matrix.device)
    for columns in wide.split(max(1, BLOCK // len(wide)), 1):
        block = columns.to(dtype)
        product = product + block @ block.mH
    if not torch.isfinite(product).all():
        raise ValueError("the matrix holds NaN, infinite or too large values; it has no spectrum")
    return torch.linalg.eigvalsh(product).flip(0).clamp(min=0)


def spectral_entropy(spectrum: Tensor) -> Tensor:
    """Entropy of the shares of a spectrum (k,), in bits: from 0 to log2 k."""
    return torch.special.entr(shares(spectrum)).sum() / math.log(2)


def effective_rank(spectrum: Tensor) -> Tensor:
    """2 to the spectral entropy, from 1 to k. Roy and Vetterli take singular values; of a covariance: variances."""
    return spectral_entropy(spectrum).exp2()


def stable_rank(squares: Tensor) -> Tensor:
    """Sum over maximum of the squared singular values (k,): from 1 to k."""
    return 1 / shares(squares).max()


def shares(spectrum: Tensor) -> Tensor:
    """A spectrum (k,) divided by its sum; an error if nothing is there to be shared out."""
    total = spectrum.sum()
    if not (total > 0 and torch.isfinite(total)):
        raise ValueError(f"the spectrum sums to {total.item()}; only a finite one that is not all 0 has a rank")
    return spectrum / total
