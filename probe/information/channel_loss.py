"""The information of :mod:`probe.information.channel` with a gradient, as a term of a loss."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from probe.information.noise import check_noise, standard_normal_like
from probe.information.pairwise import squared_distances
from probe.information.validation import as_rows, class_codes, rows_equal

Part = Literal["value", "lower", "upper"]
_OPPOSITE: dict[str, Part] = {"value": "value", "lower": "upper", "upper": "lower"}


def channel_bits(
    activations: Tensor,
    labels: Tensor | None = None,
    *,
    noise: float = 0.2,
    part: Part = "value",
    generator: torch.Generator | None = None,
) -> Tensor:
    """I(T+n; X), or I(T+n; Y) with labels, in bits and with a gradient.

    Training on ``loss + beta * channel_bits(activations)`` reduces the information.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
        A batch. The work space is a few times n^2 numbers in its precision (float32 for half precision).
    labels : integer Tensor of shape (n,), optional
        Classes of the rows.
    noise : float
        Standard deviation of the noise per dimension, relative to the root of the total variance. The gradient
        includes this dependence, so scaling the activations changes nothing.
    part : {"value", "lower", "upper"}
        The Monte Carlo estimate, or one of the two bounds before clipping. The bounds draw no noise.
    generator : torch.Generator, optional
        Source of the noise, on the device of ``activations``.

    Returns
    -------
    Tensor of shape ()
        If all rows are equal, 0 with gradient 0.

    Raises
    ------
    ValueError
        If ``noise`` is not positive and finite, if ``part`` is unknown, if ``activations`` is not a finite matrix of at
        least two rows, or if ``labels`` does not match its rows.

    See Also
    --------
    channel_information : The same quantity with bounds and errors, without a gradient and with less memory.
    coding_rate : A cheaper, smooth information of a Gaussian.
    ib_objective : The objective of the information bottleneck.

    Examples
    --------
    >>> import torch
    >>> from probe.information import channel_bits
    >>> activations = (100 * torch.eye(8)).requires_grad_()
    >>> bits = channel_bits(activations, noise=0.01, generator=torch.Generator().manual_seed(0))
    >>> bits.backward()
    >>> round(bits.item(), 4), activations.grad.shape
    (3.0, torch.Size([8, 8]))
    """
    check_noise((noise,), "relative")
    if part not in _OPPOSITE:
        raise ValueError(f'Expected part="value", "lower" or "upper", got {part!r}; pass one of these')
    as_rows(activations)  # only for its errors
    rows = activations if activations.dtype == torch.float64 else activations.float()
    rows = rows - rows.mean(0)
    variance = rows.square().sum(1).mean()
    if rows_equal(activations):
        return 0 * rows.sum()
    rows = rows / (noise * variance.sqrt())
    draw = standard_normal_like(rows, generator).to(rows) if part == "value" else None
    with torch.autocast(rows.device.type, enabled=False):
        bits = -_mean_log2(_exponents(rows, draw, part), None)
        if labels is not None:
            codes = class_codes(labels, activations)
            bits = bits + _mean_log2(_exponents(rows, draw, _OPPOSITE[part]), codes[:, None] == codes)
    return bits


def ib_objective(information_x: Any, information_y: Any, beta: float) -> Any:
    """Objective of the information bottleneck, I(T; X) - beta I(T; Y), in bits (arXiv:2504.12700, eq. 6).

    Parameters
    ----------
    information_x, information_y : float, Tensor or DataArray
        I(T; X) and I(T; Y) in bits, for example variables of a series.
    beta : float
        Weight of the information about the labels.

    Returns
    -------
    The type of the arguments

    See Also
    --------
    channel_bits : Both informations with a gradient.

    Examples
    --------
    >>> from probe.information import ib_objective
    >>> ib_objective(5.0, 2.0, beta=1.5)
    2.0
    """
    return information_x - beta * information_y


def _exponents(rows: Tensor, draw: Tensor | None, part: Part) -> Tensor:
    """Return the logarithms (n, n) of the averaged terms, at unit noise."""
    distances = squared_distances(rows)
    if draw is None:
        return distances / (-8 if part == "lower" else -2)
    return draw @ rows.T - (draw * rows).sum(1)[:, None] - distances / 2


def _mean_log2(exponents: Tensor, same: Tensor | None) -> Tensor:
    """Return the mean over rows of log2 of the mean over columns, or over the columns of the same class."""
    if same is None:
        return (exponents.logsumexp(1).mean() - math.log(len(exponents))) / math.log(2)
    inside = exponents.masked_fill(~same, -math.inf).logsumexp(1) - same.sum(1).log()
    return inside.mean() / math.log(2)
