r"""Coding rate of a layer: information of a Gaussian with its covariance through a Gaussian channel, in bits.

    R(T)     = 1/2 log2 det(I + Cov(T) / sigma^2)
    R(T; Y)  = R(T) - sum_y p(y) 1/2 log2 det(I + Cov(T | y) / sigma^2)

with sigma^2 = noise^2 tr Cov(T) per dimension: the noise that ``MutualInfoProbe`` means by a relative one. Among all
distributions with one covariance the Gaussian is the most informative, so min(log2 N, R(T)) is an upper bound on
I(T+n; X); R(T) itself does not saturate at log2 N. R(T; Y) [1]_ is a difference of two upper bounds and bounds nothing.
Cheap (no pairs), smooth, and differentiable.

.. [1] Yu, Chan, You, Song and Ma 2020, Learning diverse and discriminative representations via the principle of maximal
   coding rate reduction, arXiv:2006.08558 (there without centring).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probe.information.discrete import class_codes, discrete_entropy, rows, rows_equal


class CodingRate(NamedTuple):
    """R(T) and R(T; Y) (None without labels) as tensors with gradients, and the ceilings log2 N and H(Y)."""

    x: Tensor
    y: Tensor | None
    x_ceiling: float
    y_ceiling: float | None
    collapsed: bool

    @property
    def upper(self) -> float:
        """The upper bound on I(T+n; X) that follows: min(log2 N, R(T))."""
        return min(self.x_ceiling, self.x.item())


def coding_rate(z: Tensor, labels: Tensor | None = None, *, noise: float = 0.2) -> CodingRate:
    """R(T) and R(T; Y) of the rows of ``z``.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,), optional
    noise
        Standard deviation of the noise per dimension, relative to the root of the total variance of ``z``. Gradients
        take it along: scaling ``z`` changes nothing.

    Returns
    -------
    CodingRate
        In bits. Rows that are all alike have rate 0 and are ``collapsed``.
    """
    t = rows(z)
    if not noise > 0:
        raise ValueError(f"noise must be positive, got {noise}: without noise the rate is infinite")
    y = None if labels is None else class_codes(labels, z)
    ceilings = math.log2(len(t)), None if y is None else discrete_entropy(y)
    if rows_equal(t):
        zero = 0 * t.sum()
        return CodingRate(zero, None if y is None else zero, *ceilings, True)
    t = t - t.mean(0)
    t = t / (noise * t.square().sum(1).mean().sqrt())
    rate = _rate(t)
    if y is None:
        return CodingRate(rate, None, *ceilings, False)
    parts = [t[y == k] for k in range(int(y.max()) + 1)]
    within = torch.stack([len(part) / len(t) * _rate(part) for part in parts]).sum()
    return CodingRate(rate, rate - within, *ceilings, False)


def _rate(t: Tensor) -> Tensor:
    """1/2 log2 det(I + Cov(t)), from whichever of the (d, d) and (n, n) products is smaller; unit noise."""
    t = (t - t.mean(0)) / math.sqrt(len(t))
    product = t.T @ t if len(t) > t.shape[1] else t @ t.T
    factor = torch.linalg.cholesky(product + torch.eye(len(product), dtype=t.dtype, device=t.device))
    return factor.diagonal().log2().sum()  # half of log2 det
