r"""Matrix-based Renyi information of a layer about its inputs and labels, in bits.

From a Gaussian kernel matrix K of the rows, with A = K / n of unit trace and eigenvalues lambda [1]_,

    S_alpha(A) = 1 / (1 - alpha) log2 sum_k lambda_k^alpha          S_alpha(A, B) = S_alpha(A o B / tr(A o B))
    I_alpha(A; B) = S_alpha(A) + S_alpha(B) - S_alpha(A, B)

with the Hadamard product o. Distinct inputs have kernel I (token numbers have no metric), so I(T; X) = S_alpha(A);
labels have kernel 1 within a class, else 0. It is an entropy of a matrix, not of a density: it equals Shannon's for
well parted clusters only, and the kernel width, like a noise, sets its value. Here the width is relative to the median
distance of two rows, so that growing or shrinking activations alone change nothing.

.. [1] Sanchez Giraldo, Rao and Principe 2015, Measures of entropy from data using infinitely divisible kernels, IEEE
   Trans. Inf. Theory 61(1); alpha = 1.01 as in Yu et al. 2019, arXiv:1808.07912.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probe.information.discrete import class_codes, rows, rows_equal


class RenyiInformation(NamedTuple):
    """I(T; X) and I(T; Y) (None without labels) as tensors with gradients; ceilings S(X) and S(Y)."""

    x: Tensor
    y: Tensor | None
    x_ceiling: float
    y_ceiling: float | None
    collapsed: bool


def renyi_information(
    z: Tensor, labels: Tensor | None = None, *, alpha: float = 1.01, width: float = 1.0
) -> RenyiInformation:
    """I_alpha(T; X) and I_alpha(T; Y) of the rows of ``z``, each row another input.

    Parameters
    ----------
    z : Tensor of shape (n, d)
        Work space: some n^2 numbers in float64.
    labels : integer Tensor of shape (n,), optional
    alpha
        Above 0, not 1. 2 needs no eigenvalues: O(n^2 d). Others are O(n^3): about a thousand rows.
    width
        Kernel width over the median distance of two different rows.

    Returns
    -------
    RenyiInformation
        Rows that are all alike have information 0 and are ``collapsed``.
    """
    kernel = gaussian_kernel(z, width=width)
    whole = matrix_entropy(kernel, alpha=alpha)
    ceiling, collapsed = math.log2(len(z)), rows_equal(z.double())
    if labels is None:
        return RenyiInformation(whole, None, ceiling, None, collapsed)
    y = class_codes(labels, z)
    same = (y[:, None] == y).double()
    of_labels = matrix_entropy(same, alpha=alpha)
    shared = whole + of_labels - matrix_entropy(kernel * same, alpha=alpha)
    return RenyiInformation(whole, shared, ceiling, of_labels.item(), collapsed)


def gaussian_kernel(z: Tensor, *, width: float = 1.0) -> Tensor:
    """Return ``exp(-|z_i - z_j|^2 / 2 w^2)``; w is ``width`` times the median distance of two different rows.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    width
        Relative kernel width. Pairs of equal rows do not count in the median.

    Returns
    -------
    float64 Tensor of shape (n, n), with gradients
    """
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}")
    t = rows(z)
    if rows_equal(t):
        return 1 + 0 * t @ t.T
    t = t - t.mean(0)
    squares = t.square().sum(1)
    distances = (squares[:, None] + squares - 2 * t @ t.T).clamp(min=0)  # squared
    distances = distances * (1 - torch.eye(len(t), dtype=t.dtype, device=t.device))  # a row is at 0 from itself
    apart = distances[distances > 1e-12 * squares.max()]  # below: rounding
    return torch.exp(distances / (-2 * width**2 * apart.median()))


def matrix_entropy(kernel: Tensor, *, alpha: float = 1.01) -> Tensor:
    """S_alpha(K / tr K) in bits, between 0 and log2 n.

    Parameters
    ----------
    kernel : Tensor of shape (n, n)
        Symmetric, positive semidefinite; a joint one is the product of two, entry by entry.
    alpha
        Above 0, not 1.
    """
    if not alpha > 0 or alpha == 1:
        raise ValueError(f"alpha must be positive and not 1, got {alpha}: for Shannon's limit take 1.01")
    a = kernel / kernel.trace()
    powers = a.square().sum() if alpha == 2 else torch.linalg.eigvalsh(a).clamp(min=0).pow(alpha).sum()
    return powers.log2() / (1 - alpha)
