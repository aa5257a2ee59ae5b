"""What the estimators share: checks of rows and labels, and informations of discrete variables, in bits."""

import math

import torch
from torch import Tensor

COLLAPSED = 1e-12  # relative variance below which float32 activations differ by rounding only: (2^-24 * 16)^2


def rows(z: Tensor, *, name: str = "z") -> Tensor:
    """``z`` in float64, or an error that says why it cannot be measured.

    Parameters
    ----------
    z : Tensor of shape (n, d), n >= 2, finite
    name
        What the error calls it.

    Returns
    -------
    float64 Tensor of shape (n, d)
    """
    if z.ndim != 2 or len(z) < 2 or z.shape[1] < 1:
        raise ValueError(f"{name} must have shape (n, d) with n >= 2 and d >= 1, got {tuple(z.shape)}")
    return finite(z, name=name)


def finite(z: Tensor, *, name: str = "z") -> Tensor:
    """``z`` of any shape in float64, or an error."""
    if not torch.isfinite(z).all():
        raise ValueError(f"{name} holds NaN or infinite values; information is not defined for them")
    return z.double()


def rows_equal(z: Tensor) -> bool:
    """Whether all rows are one, but for the rounding of float32.

    Parameters
    ----------
    z : float64 Tensor of shape (n, d)
    """
    return bool((z - z.mean(0)).square().sum() <= COLLAPSED * z.square().sum())


def codes(labels: Tensor) -> Tensor:
    """Labels of any integer type as 0, 1, ..., K-1, in order of size.

    Parameters
    ----------
    labels : integer or bool Tensor of shape (n,)

    Returns
    -------
    int64 Tensor of shape (n,)
    """
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels must be integers of shape (n,), got {labels.dtype} of shape {tuple(labels.shape)}")
    return labels.unique(return_inverse=True)[1]


def class_codes(labels: Tensor, z: Tensor) -> Tensor:
    """Labels of the rows of ``z`` as 0, ..., K-1 on the device of ``z``; an error if they do not fit.

    Parameters
    ----------
    labels : integer or bool Tensor of shape (n,)
    z : Tensor of shape (n, d)

    Returns
    -------
    int64 Tensor of shape (n,)
    """
    if labels.shape != z.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels must be {len(z)} integers, got {labels.dtype} of shape {tuple(labels.shape)}")
    return codes(labels).to(z.device)


def discrete_entropy(codes: Tensor, weights: Tensor | None = None) -> float:
    """Plug-in entropy of 0, ..., K-1 in bits: of the observed frequencies, low by (K-1)/2n nats on average.

    Parameters
    ----------
    codes : int64 Tensor of shape (n,)
    weights : Tensor of shape (n,), optional
        How much each entry counts, at least 0 and not all 0; default: all alike.
    """
    if weights is not None and not ((weights >= 0).all() and weights.sum() > 0):
        raise ValueError("weights must be at least 0 and not all 0")
    mass = codes.bincount(None if weights is None else weights.double()).double()
    return torch.special.entr(mass / mass.sum()).sum().item() / math.log(2)


def discrete_information(a: Tensor, b: Tensor) -> float:
    """Plug-in mutual information H(a) + H(b) - H(a, b) of two codes, in bits.

    Parameters
    ----------
    a, b : int64 Tensors of shape (n,)
        Each 0, ..., K-1.
    """
    both = codes(a * (b.max() + 1) + b)
    return discrete_entropy(a) + discrete_entropy(b) - discrete_entropy(both)
