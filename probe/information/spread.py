r"""What an information rests on: spread, effective rank, and how well classes can be told apart without any noise.

An information that follows only the scale, or a few directions, is no compression; one below what the classes' means
already decode says that the noise hides the labels, not that the layer has lost them. With C = Cov(T) and e the error
of the nearest class mean on the same rows,

    effective rank = (tr C)^2 / tr C^2                     (participation ratio; at most min(n - 1, d))
    within share   = mean |t_i - mean of its class|^2 / tr C
    I(T; Y) >= H(Y) - h(e) - e log2(K - 1)                 (Fano [1]_; h is the entropy of a coin)

.. [1] Cover and Thomas 2006, Elements of Information Theory, theorem 2.10.1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probe.information.discrete import class_codes, discrete_entropy, rows


class RepresentationGeometry(NamedTuple):
    """Total variance, effective rank; with labels the within-class share, the accuracy of the nearest class mean and
    Fano's bound in bits, else None. NaN where a layer without any variance has no such number.
    """  # noqa: D205

    variance: float
    effective_rank: float
    within_share: float | None
    class_mean_accuracy: float | None
    fano_bound: float | None


def representation_geometry(z: Tensor, labels: Tensor | None = None) -> RepresentationGeometry:
    """Spread of the rows of ``z`` and of their classes.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,), optional

    Returns
    -------
    Geometry
        The accuracy is that on the rows which gave the means, as I(T; Y) is that of these rows: a class with one row
        is always found.
    """
    t = rows(z.detach())
    t = t - t.mean(0)
    variance = t.square().sum(1).mean()
    product = t.T @ t if len(t) > t.shape[1] else t @ t.T
    rank = (product.trace().square() / product.square().sum()).item()
    if labels is None:
        return RepresentationGeometry(variance.item(), rank, None, None, None)
    y = class_codes(labels, z)
    sizes = y.bincount()
    means = t.new_zeros(len(sizes), t.shape[1]).index_add_(0, y, t) / sizes[:, None]
    within = (t - means[y]).square().sum(1).mean() / variance
    nearest = (t @ means.T - means.square().sum(1) / 2).argmax(1)
    accuracy = (nearest == y).double().mean().item()
    return RepresentationGeometry(variance.item(), rank, within.item(), accuracy, fano_bound(accuracy, y))


def fano_bound(accuracy: float, codes: Tensor) -> float:
    """The least I(T; Y) in bits if Y can be read from T with this accuracy.

    Parameters
    ----------
    accuracy
        Share of rows, between 0 and 1.
    codes : int64 Tensor of shape (n,)
        The labels as 0, ..., K-1.
    """
    error, others = 1 - accuracy, int(codes.max())
    coin = torch.special.entr(torch.tensor([error, accuracy], dtype=torch.float64)).sum().item() / math.log(2)
    return max(0.0, discrete_entropy(codes) - coin - (error * math.log2(others) if others else 0.0))
