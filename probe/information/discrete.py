r"""Entropy and mutual information of discrete variables, in bits.

Both are plug-in estimates: they use the observed frequencies p_k in place of the probabilities.

    H(A) = - sum_k p_k log2 p_k          I(A; B) = H(A) + H(B) - H(A, B)
"""

import math

import torch
from torch import Tensor

from probe.information.arguments import check_tensor


def label_codes(labels: Tensor) -> Tensor:
    """Integer codes 0, 1, ..., K-1 of labels, in ascending order of the labels.

    Parameters
    ----------
    labels : integer or bool Tensor of shape (n,)

    Returns
    -------
    int64 Tensor of shape (n,)

    Raises
    ------
    ValueError
        If ``labels`` is not one-dimensional, or holds real or complex numbers.

    See Also
    --------
    row_codes : The same for rows of integers.

    Examples
    --------
    >>> import torch
    >>> from probe.information import label_codes
    >>> label_codes(torch.tensor([7, -2, 7, 40])).tolist()
    [1, 0, 1, 2]
    """
    check_tensor(labels, "labels")
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"Expected integer labels of shape (n,), got {labels.dtype} of shape {tuple(labels.shape)}; "
            "pass one class per row"
        )
    return labels.unique(return_inverse=True)[1]


def check_codes(codes: Tensor, name: str) -> None:
    """Raise ValueError unless ``codes`` are integers from 0 on, of shape (n,) with n >= 1."""
    check_tensor(codes, name)
    whole = not codes.is_floating_point() and codes.dtype != torch.bool
    if codes.ndim != 1 or not whole or not len(codes) or codes.min() < 0:
        raise ValueError(
            f"Expected integers from 0 on of shape (n,) as {name}, got {codes.dtype} of shape {tuple(codes.shape)}; "
            "pass the result of label_codes"
        )


def joint_codes(codes: Tensor, other_codes: Tensor) -> Tensor:
    """Return codes 0, ..., K-1 of the pairs, ordered by ``codes`` first."""
    return label_codes(codes * (other_codes.max() + 1) + other_codes)


def discrete_entropy(codes: Tensor, weights: Tensor | None = None) -> float:
    """Plug-in entropy of a discrete variable, in bits.

    Parameters
    ----------
    codes : int64 Tensor of shape (n,)
        Values from 0 to K-1, see :func:`label_codes`.
    weights : Tensor of shape (n,), optional
        Weight of each entry. By default all weights are equal.

    Returns
    -------
    float
        From 0 to log2 K. For equal weights the bias is about -(K-1) / 2n nats.

    Raises
    ------
    ValueError
        If a weight is negative or NaN, or if all weights are 0.

    See Also
    --------
    discrete_information : Mutual information of two discrete variables.

    Examples
    --------
    A fair coin has an entropy of one bit.

    >>> import torch
    >>> from probe.information import discrete_entropy
    >>> round(discrete_entropy(torch.tensor([0, 1])), 6)
    1.0
    >>> round(discrete_entropy(torch.tensor([0, 1, 2]), weights=torch.tensor([2, 1, 1])), 6)
    1.5
    """
    check_codes(codes, "codes")
    if weights is not None:
        check_tensor(weights, "weights")
        if weights.shape != codes.shape:
            raise ValueError(
                f"Expected weights of shape {tuple(codes.shape)}, got {tuple(weights.shape)}; pass one for each code"
            )
    if weights is not None and not ((weights >= 0).all() and weights.sum() > 0):
        raise ValueError(
            f"Expected weights of at least 0 with a positive sum, got a minimum of {weights.min().item():.3g} and a "
            f"sum of {weights.sum().item():.3g}; remove the negative weights, or give some entries a weight"
        )
    mass = codes.bincount(None if weights is None else weights.double()).double()
    return torch.special.entr(mass / mass.sum()).sum().item() / math.log(2)


def discrete_information(codes: Tensor, other_codes: Tensor) -> float:
    """Plug-in mutual information of two discrete variables, in bits.

    Parameters
    ----------
    codes, other_codes : int64 Tensors of shape (n,)
        Values from 0 to K-1, see :func:`label_codes`.

    Returns
    -------
    float
        From 0 to the smaller entropy of the two, up to rounding.

    See Also
    --------
    discrete_entropy : Entropy of one discrete variable.
    binned_information : Information of binned activations about inputs and labels.

    Examples
    --------
    The parity of four equally likely values is one of their two bits.

    >>> import torch
    >>> from probe.information import discrete_information
    >>> values = torch.arange(4)
    >>> round(discrete_information(values, values % 2), 6)
    1.0
    """
    check_codes(codes, "codes")
    check_codes(other_codes, "other_codes")
    if len(codes) != len(other_codes):
        raise ValueError(f"Expected equally many codes, got {len(codes)} and {len(other_codes)}; pass one per sample")
    joint = joint_codes(codes, other_codes)
    return discrete_entropy(codes) + discrete_entropy(other_codes) - discrete_entropy(joint)
