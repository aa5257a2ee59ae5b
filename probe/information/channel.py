r"""Mutual information between a layer that is read through Gaussian noise and its inputs or labels, in bits.

A deterministic network loses no information: I(T; X) = log2 N for N distinct inputs [1]_. An information plane
therefore shows the geometry of a layer relative to a noise or a resolution. The noise is part of the quantity, so it
must be stated. Here the layer is read through a Gaussian channel, T + n with n ~ N(0, sigma^2 I). The relative
convention is sigma^2 = noise^2 tr Cov(T) **per dimension**. It is scale-free: growing or shrinking activations alone do
not change the information.

Inputs are uniform on the N rows. G_i is the set of the rows in the group of row i. A group consists of all rows, of the
rows of one class, or of the rows of one input. With
E_ij = exp(-|t_i + n_i - t_j|^2 / 2 sigma^2 + |n_i|^2 / 2 sigma^2),

    I(T+n; row | G) = -1/N sum_i log2 mean_{j in G_i} E_ij
    I(T+n; X) = I(T+n; row) - I(T+n; row | X)       (the second term is 0 if each row is a different input)
    I(T+n; Y) = I(T+n; row) - I(T+n; row | Y)       I(T+n; X | Y) = I(T+n; X) - I(T+n; Y)

One noise draw for each row gives a Monte Carlo estimate over the exact mixture ("sample propagation" [1]_). It is
unbiased and has a standard error.

The squared distances D_ij = |t_i - t_j|^2 also give bounds [2]_. U has exp(-D_ij / 2 sigma^2) in place of E_ij, and L
has exp(-D_ij / 8 sigma^2). Then L(T) - U(T|G) <= I(T+n; G) <= U(T) - L(T|G). The difference of two upper bounds is
often plotted, but it is not a bound.

I(T+n; X) is at most log2 N and I(T+n; Y) is at most H(Y). If I(T+n; X) is near its ceiling, the noise is too fine to
show a change, and the result is flagged ``saturated``.

.. [1] Goldfeld et al. 2019, arXiv:1810.05728, eq. 9 and section 3.  .. [2] Kolchinsky and Tracey 2017, eqs. 10 and 13.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, overload

import torch
from torch import Tensor

from probe.information.discrete import discrete_entropy, joint_codes
from probe.information.noise import check_noise, standard_normal_like
from probe.information.pairwise import PairwiseBlocks, pointwise_information
from probe.information.validation import class_codes, normalise_rows

Convention = Literal["relative", "absolute"]


class ChannelEstimate(NamedTuple):
    """One information of the channel with its error and its bounds, in bits.

    Attributes
    ----------
    value : float
        Monte Carlo estimate.
    se : float
        Standard error of ``value`` over noise draws, for these rows.
    lower, upper : float
        Bounds on the information before clipping.
    ceiling : float
        Largest possible information.
    subsample_se : float or None
        Standard error over rows and noise draws: the error if other rows came from the same source. None unless
        requested.
    """

    value: float
    se: float
    lower: float
    upper: float
    ceiling: float
    subsample_se: float | None = None

    @property
    def bracket(self) -> tuple[float, float]:
        """The bounds, clipped to [0, ceiling]."""
        return min(max(self.lower, 0.0), self.ceiling), min(max(self.upper, 0.0), self.ceiling)


class ChannelInformation(NamedTuple):
    """Result of :func:`channel_information` at one noise level.

    Attributes
    ----------
    x : ChannelEstimate
        I(T+n; X).
    y, x_given_y : ChannelEstimate or None
        I(T+n; Y) and I(T+n; X | Y). None without labels.
    variance : float
        tr Cov(T), in squared units of the activations.
    noise_std : float
        Standard deviation of the noise per dimension, in units of the activations.
    collapsed : bool
        Whether the rows are equal up to rounding. The information is then 0.
    """

    x: ChannelEstimate
    y: ChannelEstimate | None
    x_given_y: ChannelEstimate | None
    variance: float
    noise_std: float
    collapsed: bool

    @property
    def noise_relative(self) -> float:
        """The noise per dimension over the root of the total variance; NaN if collapsed."""
        return math.nan if self.collapsed else self.noise_std / math.sqrt(self.variance)

    @property
    def saturated(self) -> bool:
        """Whether I(T+n; X) is within 2 % of its ceiling, or its lower bound within 5 %, so that it cannot change."""
        return self.x.value > 0.98 * self.x.ceiling or self.x.lower > 0.95 * self.x.ceiling


@overload
def channel_information(
    activations: Tensor,
    labels: Tensor | None = ...,
    *,
    noise: float = ...,
    convention: Convention = ...,
    inputs: Tensor | None = ...,
    subsamples: int = ...,
    generator: torch.Generator | None = ...,
    block_size: int = ...,
) -> ChannelInformation: ...


@overload
def channel_information(
    activations: Tensor,
    labels: Tensor | None = ...,
    *,
    noise: Sequence[float],
    convention: Convention = ...,
    inputs: Tensor | None = ...,
    subsamples: int = ...,
    generator: torch.Generator | None = ...,
    block_size: int = ...,
) -> tuple[ChannelInformation, ...]: ...


def channel_information(
    activations: Tensor,
    labels: Tensor | None = None,
    *,
    noise: float | Sequence[float] = 0.2,
    convention: Convention = "relative",
    inputs: Tensor | None = None,
    subsamples: int = 0,
    generator: torch.Generator | None = None,
    block_size: int = 128,
) -> ChannelInformation | tuple[ChannelInformation, ...]:
    """I(T+n; X), I(T+n; Y) and I(T+n; X | Y) of equally likely rows, in bits (Goldfeld et al. 2019, eq. 9).

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,), optional
        Classes Y of the rows.
    noise : float or sequence of float
        Standard deviation of the noise per dimension: relative to the root of the total variance, or in units of the
        activations (``convention="absolute"``). Several levels share one pass. Levels that differ by a factor of 2
        cost least.
    convention : {"relative", "absolute"}
        With ``"absolute"``, a change of scale alone changes the information.
    inputs : integer Tensor of shape (n,), optional
        Equal inputs X have equal numbers. By default each row is a different input. The probability of a repeated
        input is its frequency. Noise of the network itself, which makes the rows of one input differ, is subtracted.
    subsamples : int
        Number of random halves of the inputs for ``subsample_se``, drawn without replacement. With 20 halves that
        error is accurate to about a sixth.
    generator : torch.Generator, optional
        Source of the noise, on the device of ``activations``. The same seed at each step makes smooth curves.
    block_size : int
        Rows per block. The work space is a few times ``block_size * n`` numbers.

    Returns
    -------
    ChannelInformation, or a tuple with one for each level if ``noise`` is a sequence

    Raises
    ------
    ValueError
        If a noise level is not positive and finite, if ``convention`` is unknown, if ``activations`` is not a finite
        matrix of at least two rows, or if ``labels`` or ``inputs`` do not match its rows.

    See Also
    --------
    calibrated_noise : A noise level that suits a layer.
    channel_bits : The same information with a gradient.
    coding_rate : An upper bound from the covariance alone.

    Examples
    --------
    The information of n distant rows is log2 n, and the information about equally frequent classes is log2 K.

    >>> import torch
    >>> from probe.information import channel_information
    >>> activations, labels = 100 * torch.eye(8), torch.arange(8) // 2
    >>> generator = torch.Generator().manual_seed(0)
    >>> result = channel_information(activations, labels, noise=0.01, generator=generator)
    >>> round(result.x.value, 6), round(result.y.value, 6), result.saturated
    (3.0, 2.0, True)
    >>> coarse, fine = channel_information(activations, noise=[1.0, 0.1], generator=generator)
    >>> coarse.x.value < fine.x.value
    True
    """
    levels = tuple(noise) if isinstance(noise, Sequence) else (noise,)
    check_noise(levels, convention)
    x = None if inputs is None else class_codes(inputs, activations)
    y = None if labels is None else class_codes(labels, activations)
    rows, variance, collapsed = normalise_rows(activations)
    std = 0.0 if collapsed else math.sqrt(variance)
    relative = [level / std if std and convention == "absolute" else level for level in levels]
    # (among all rows, given X, given Y; level; estimate, bounds and subsamples; row)
    terms = torch.zeros(3, len(levels), 3 + subsamples, len(rows), dtype=rows.dtype, device=rows.device)
    if not collapsed:
        draw, order = standard_normal_like(rows, generator), _joint(x, y)
        halves = _random_halves(torch.arange(len(rows), device=rows.device) if x is None else x, subsamples, generator)
        if order is not None:  # rows of one class become neighbours, so that small classes have few columns
            order = order.argsort(stable=True)
            rows, draw, halves = rows[order], draw[order], halves[order]
        blocks = PairwiseBlocks(rows, draw, min(relative), block_size)
        terms[0] = pointwise_information(blocks, relative, subsets=halves)
        for part, codes in ((terms[1], x), (terms[2], y)):
            if codes is not None and order is not None:
                part.copy_(pointwise_information(blocks, relative, codes[order], halves))
    entropies = _entropies(x, y, len(rows))
    results = tuple(
        ChannelInformation(*_estimates(terms[:, k], entropies), variance, std * level, collapsed)
        for k, level in enumerate(relative)
    )
    return results if isinstance(noise, Sequence) else results[0]


def _random_halves(inputs: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Return masks (n, count) of random halves of the inputs, each with all rows of its inputs."""
    n_inputs = int(inputs.max()) + 1
    ranks = torch.rand(n_inputs, count, generator=generator, device=inputs.device).argsort(0)
    return (ranks < n_inputs // 2)[inputs]


def _joint(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    """Return codes of (y, x), ordered by y first; None without both, when each row is a different input."""
    if x is None or y is None:
        return y if x is None else x
    return joint_codes(y, x)


def _entropies(x: Tensor | None, y: Tensor | None, n_rows: int) -> tuple[float, float | None, float]:
    """Return H(X), H(Y) and H(X, Y) in bits. Without ``x`` each row is a different input."""
    joint = _joint(x, y)
    h_x = math.log2(n_rows) if x is None else discrete_entropy(x)
    h_y = None if y is None else discrete_entropy(y)
    return h_x, h_y, h_x if x is None or joint is None else discrete_entropy(joint)


def _estimates(
    terms: Tensor, entropies: tuple[float, float | None, float]
) -> tuple[ChannelEstimate, ChannelEstimate | None, ChannelEstimate | None]:
    """Return the informations about X, Y, and X given Y, from terms of one level (3, 3 + subsamples, n)."""
    (among_all, given_x, given_y), (h_x, h_y, h_xy) = terms, entropies
    about_x = _difference(among_all, given_x, h_x)
    if h_y is None:
        return about_x, None, None
    return about_x, _difference(among_all, given_y, h_y), _difference(given_y, given_x, h_xy - h_y)


def _difference(more: Tensor, less: Tensor, ceiling: float) -> ChannelEstimate:
    (value, lower, upper), (less_value, less_lower, less_upper) = more[:3].mean(1).tolist(), less[:3].mean(1).tolist()
    se = (more[0] - less[0]).std().item() / math.sqrt(more.shape[1])
    halves = (more[3:] - less[3:]).nanmean(1)
    # The spread of half of n rows without replacement equals that of n rows of the source.
    spread = halves.std().item() if len(halves) else None
    return ChannelEstimate(value - less_value, se, lower - less_upper, upper - less_lower, ceiling, spread)
