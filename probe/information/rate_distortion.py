r"""Coding rate of a layer: the information of a Gaussian with its covariance through a Gaussian channel, in bits.

    R(T)     = 1/2 log2 det(I + Cov(T) / sigma^2)
    R(T; Y)  = R(T) - sum_y p(y) 1/2 log2 det(I + Cov(T | y) / sigma^2)

The noise is sigma^2 = noise^2 tr Cov(T) per dimension, the relative convention of
:func:`~probe.information.channel_information`. The Gaussian has the largest information of all distributions with the
same covariance. Therefore min(H(X), R(T)) is an upper bound on I(T+n; X), with H(X) = log2 N for N distinct inputs.
R(T) itself does not saturate there.
R(T; Y) [1]_ is a difference of two upper bounds, so it is not a bound. The coding rate is cheap (it needs no pairs of
rows), smooth, and differentiable.

.. [1] Yu, Chan, You, Song and Ma 2020, Learning diverse and discriminative representations via the principle of maximal
   coding rate reduction, arXiv:2006.08558 (without centring).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probe.information.arguments import check_positive
from probe.information.discrete import discrete_entropy
from probe.information.validation import as_rows, class_codes, rows_equal


class CodingRate(NamedTuple):
    """Result of :func:`coding_rate`, in bits.

    Attributes
    ----------
    x : Tensor of shape ()
        R(T), with a gradient.
    y : Tensor of shape () or None
        R(T; Y), with a gradient. None without labels.
    x_ceiling : float
        H(X): log2 N if all inputs are distinct.
    y_ceiling : float or None
        H(Y). None without labels.
    collapsed : bool
        Whether the rows are equal up to rounding. The rate is then 0.
    """

    x: Tensor
    y: Tensor | None
    x_ceiling: float
    y_ceiling: float | None
    collapsed: bool

    @property
    def upper(self) -> float:
        """The upper bound min(H(X), R(T)) on I(T+n; X), in bits."""
        return min(self.x_ceiling, self.x.item())


def coding_rate(
    activations: Tensor, labels: Tensor | None = None, *, noise: float = 0.2, inputs: Tensor | None = None
) -> CodingRate:
    """Coding rates R(T) and R(T; Y) of the rows, in bits, with gradients.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,), optional
        Classes of the rows.
    noise : float
        Standard deviation of the noise per dimension, relative to the root of the total variance. The gradient
        includes this dependence, so scaling the activations changes nothing.
    inputs : integer Tensor of shape (n,), optional
        Equal inputs X have equal numbers. By default all inputs are distinct. They change the ceiling only.

    Returns
    -------
    CodingRate

    Raises
    ------
    ValueError
        If ``noise`` is not positive, if ``activations`` is not a finite matrix of at least two rows, or if ``labels``
        or ``inputs`` do not match its rows.

    See Also
    --------
    channel_information : The information of the rows themselves, not of a Gaussian.
    channel_bits : That information with a gradient.

    Examples
    --------
    The rate of one direction at a signal-to-noise ratio of 1 is 1/2 log2(1 + 1).

    >>> import torch
    >>> from probe.information import coding_rate
    >>> round(coding_rate(torch.tensor([[-1.0], [1.0]]), noise=1.0).x.item(), 6)
    0.5
    """
    rows = as_rows(activations)
    check_positive(noise, "noise", "a level such as 0.2, without noise the rate is infinite")
    codes = None if labels is None else class_codes(labels, activations)
    h_x = math.log2(len(rows)) if inputs is None else discrete_entropy(class_codes(inputs, activations))
    ceilings = h_x, None if codes is None else discrete_entropy(codes)
    if rows_equal(rows, activations.dtype):
        zero = 0 * rows.sum()
        return CodingRate(zero, None if codes is None else zero, *ceilings, True)
    rows = rows - rows.mean(0)
    rows = rows / (noise * rows.square().sum(1).mean().sqrt())
    rate = _rate(rows)
    if codes is None:
        return CodingRate(rate, None, *ceilings, False)
    classes = [rows[codes == code] for code in range(int(codes.max()) + 1)]
    within = torch.stack([len(members) / len(rows) * _rate(members) for members in classes]).sum()
    return CodingRate(rate, rate - within, *ceilings, False)


def _rate(rows: Tensor) -> Tensor:
    """Return 1/2 log2 det(I + Cov(rows)), from the smaller of the products (d, d) and (n, n)."""
    rows = (rows - rows.mean(0)) / math.sqrt(len(rows))
    product = rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T
    factor = torch.linalg.cholesky(product + torch.eye(len(product), dtype=rows.dtype, device=rows.device))
    return factor.diagonal().log2().sum()  # half of log2 det
