r"""Matrix-based Renyi information of a layer about its inputs and labels, in bits.

From a Gaussian kernel matrix K of the rows, with A = K / n of unit trace and eigenvalues lambda [1]_,

    S_alpha(A) = 1 / (1 - alpha) log2 sum_k lambda_k^alpha          S_alpha(A, B) = S_alpha(A o B / tr(A o B))
    I_alpha(A; B) = S_alpha(A) + S_alpha(B) - S_alpha(A, B)

where o is the Hadamard product and alpha is the parameter ``order``. The kernel of inputs or labels is 1 for equal
ones and 0 otherwise, because token numbers and classes have no metric. For distinct inputs it is the identity, so
I(T; X) = S_alpha(A).

S_alpha is an entropy of a matrix, not of a density. It equals Shannon's entropy only for well separated clusters. Its
value depends on the kernel width, which acts like a noise level. Here the width is relative to the median distance of
two rows, so growing or shrinking activations alone do not change the information.

.. [1] Sanchez Giraldo, Rao and Principe 2015, Measures of entropy from data using infinitely divisible kernels, IEEE
   Trans. Inf. Theory 61(1); alpha = 1.01 as in Yu et al. 2019, arXiv:1808.07912.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probe.information.arguments import check_positive, check_tensor
from probe.information.pairwise import squared_distances
from probe.information.validation import as_rows, class_codes, rows_equal


class RenyiInformation(NamedTuple):
    """Result of :func:`renyi_information`, in bits.

    Attributes
    ----------
    x : Tensor of shape ()
        I_alpha(T; X), with a gradient.
    y : Tensor of shape () or None
        I_alpha(T; Y), with a gradient. None without labels.
    x_ceiling : float
        S_alpha of the inputs: log2 n if all are distinct.
    y_ceiling : float or None
        S_alpha of the labels. None without labels.
    collapsed : bool
        Whether the rows are equal up to rounding. The information is then 0.
    """

    x: Tensor
    y: Tensor | None
    x_ceiling: float
    y_ceiling: float | None
    collapsed: bool


def renyi_information(
    activations: Tensor,
    labels: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    order: float = 1.01,
    width: float = 1.0,
) -> RenyiInformation:
    """I_alpha(T; X) and I_alpha(T; Y) of the rows, in bits, with gradients.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
        The work space is a few times n^2 numbers in float64.
    labels : integer Tensor of shape (n,), optional
        Classes of the rows.
    inputs : integer Tensor of shape (n,), optional
        Equal inputs X have equal numbers. By default all inputs are distinct.
    order : float
        alpha, positive and not 1. Order 2 needs no eigenvalues and takes O(n^2 d). Other orders take O(n^3), which
        limits n to about a thousand rows.
    width : float
        Kernel width, relative to the median distance of two different rows.

    Returns
    -------
    RenyiInformation

    Raises
    ------
    ValueError
        If ``order`` is not positive or is 1, if ``width`` is not positive, if ``activations`` is not a finite matrix of
        at least two rows, or if ``labels`` or ``inputs`` do not match its rows.

    See Also
    --------
    channel_information : Shannon information through Gaussian noise.
    matrix_entropy : The entropy of one kernel.

    Examples
    --------
    A narrow kernel separates four points in two classes.

    >>> import torch
    >>> from probe.information import renyi_information
    >>> result = renyi_information(torch.eye(4), torch.tensor([0, 0, 1, 1]), order=2, width=0.1)
    >>> round(result.x.item(), 6), round(result.y.item(), 6)
    (2.0, 1.0)
    """
    kernel = gaussian_kernel(activations, width=width)
    entropy = matrix_entropy(kernel, order=order)

    def shared(codes: Tensor) -> tuple[Tensor, float]:
        """Return the information about a discrete variable, and its entropy."""
        same = (codes[:, None] == codes).double()
        own = matrix_entropy(same, order=order)
        return entropy + own - matrix_entropy(kernel * same, order=order), own.item()

    about_x = (entropy, math.log2(len(activations))) if inputs is None else shared(class_codes(inputs, activations))
    about_y = (None, None) if labels is None else shared(class_codes(labels, activations))
    return RenyiInformation(about_x[0], about_y[0], about_x[1], about_y[1], rows_equal(activations))


def gaussian_kernel(activations: Tensor, *, width: float = 1.0) -> Tensor:
    r"""Gaussian kernel matrix exp(-\|t_i - t_j\|^2 / 2 w^2) of the rows t_i.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    width : float
        w, relative to the median distance of two different rows. Pairs of equal rows do not count in the median.

    Returns
    -------
    float64 Tensor of shape (n, n)
        With a gradient. All entries are 1 if the rows are equal up to rounding.

    Raises
    ------
    ValueError
        If ``width`` is not positive, or if ``activations`` is not a finite matrix of at least two rows.

    See Also
    --------
    matrix_entropy : Entropy of a kernel matrix.

    Examples
    --------
    The only distance is the median distance, so the kernel of two points is exp(-1/2).

    >>> import torch
    >>> from probe.information import gaussian_kernel
    >>> round(gaussian_kernel(torch.tensor([[0.0], [5.0]]))[0, 1].item(), 6)
    0.606531
    """
    check_positive(width, "width", "a multiple of the median distance")
    rows = as_rows(activations)
    if rows_equal(rows, activations.dtype):
        return 1 + 0 * rows @ rows.T
    rows = rows - rows.mean(0)
    distances = squared_distances(rows)
    distances = distances * (1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))  # exactly 0 for one row
    positive = distances[distances > 1e-12 * rows.square().sum(1).max()]  # smaller values are rounding
    return torch.exp(distances / (-2 * width**2 * positive.median()))


def matrix_entropy(kernel: Tensor, *, order: float = 1.01) -> Tensor:
    """Matrix-based Renyi entropy S_alpha(K / tr K), in bits.

    Parameters
    ----------
    kernel : Tensor of shape (n, n)
        Symmetric and positive semidefinite. The kernel of a joint variable is the entrywise product of two kernels.
    order : float
        alpha, positive and not 1.

    Returns
    -------
    Tensor of shape ()
        From 0 to log2 n.

    Raises
    ------
    ValueError
        If ``order`` is not positive, or is 1.

    See Also
    --------
    gaussian_kernel : Kernel matrix of a layer.
    renyi_information : Information from three such entropies.

    Examples
    --------
    Four points without any similarity have an entropy of log2 4.

    >>> import torch
    >>> from probe.information import matrix_entropy
    >>> round(matrix_entropy(torch.eye(4), order=2).item(), 6)
    2.0
    """
    check_tensor(kernel, "kernel")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel) or not kernel.trace() > 0:
        raise ValueError(
            f"Expected a kernel matrix (n, n) of positive trace, got shape {tuple(kernel.shape)}; pass the result of "
            "gaussian_kernel"
        )
    check_positive(order, "order", "1.01 to approach Shannon's entropy")
    if order == 1:
        raise ValueError(
            f"Expected a positive order other than 1, got {order}; pass 1.01 to approach Shannon's entropy"
        )
    matrix = kernel / kernel.trace()
    powers = matrix.square().sum() if order == 2 else torch.linalg.eigvalsh(matrix).clamp(min=0).pow(order).sum()
    return powers.log2() / (1 - order)
