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
unbiased and has a standard error (:mod:`probe.information.channel_errors`). A value outside its certified bounds, or
above its ceiling, is moved to the nearest values within all bounds, which reduces its error.

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

from probe.information.channel_errors import noise_error, row_error
from probe.information.discrete import discrete_entropy, joint_codes
from probe.information.noise import check_noise, standard_normal_like
from probe.information.pairwise import PairwiseBlocks, Pointwise, pointwise_information
from probe.information.validation import class_codes, normalise_rows

Convention = Literal["relative", "absolute"]


class ChannelEstimate(NamedTuple):
    """One information of the channel with its error and its bounds, in bits.

    Attributes
    ----------
    value : float
        Monte Carlo estimate, moved into ``bracket`` if it lies outside.
    se : float
        Standard error of ``value`` over noise draws, for these rows. If few rows cause it, a certified upper limit. NaN
        if that limit exceeds a tenth of the ceiling.
    lower, upper : float
        Bounds on the information before clipping.
    ceiling : float
        Largest possible information.
    subsample_se : float or None
        Standard error over rows and noise draws: the error if other rows came independently from the same source. A
        relative noise is then estimated from those rows too. None unless requested, NaN for fewer than 16 inputs.
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
    subsample_se: bool = ...,
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
    subsample_se: bool = ...,
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
    subsample_se: bool = False,
    generator: torch.Generator | None = None,
    block_size: int = 192,
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
    subsample_se : bool
        Whether to estimate the error over rows, ``subsample_se``. It adds about a quarter to the time.
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
    rows, variance, collapsed = normalise_rows(activations)
    results = channel_estimates(
        (rows, variance, collapsed),
        None if inputs is None else class_codes(inputs, activations),
        None if labels is None else class_codes(labels, activations),
        levels,
        convention=convention,
        draw=None if collapsed else standard_normal_like(rows, generator),
        subsample_se=subsample_se,
        block_size=block_size,
    )
    return results if isinstance(noise, Sequence) else results[0]


def channel_estimates(
    normalised: tuple[Tensor, float, bool],
    x: Tensor | None,
    y: Tensor | None,
    levels: Sequence[float],
    *,
    draw: Tensor | None,
    convention: Convention = "relative",
    subsample_se: bool = False,
    block_size: int = 192,
) -> tuple[ChannelInformation, ...]:
    """Return the informations of :func:`channel_information` at several levels.

    ``normalised`` is the result of :func:`probe.information.validation.normalise_rows`, ``x`` and ``y`` are codes of
    inputs and classes, and ``draw`` is the standard normal noise (n, d) unless the rows are collapsed.
    """
    rows, variance, collapsed = normalised
    std = math.sqrt(variance)
    entropies = _entropies(x, y, len(rows))
    if draw is None:
        nothing = [ChannelEstimate(0.0, 0.0, 0.0, 0.0, entropies[0], 0.0 if subsample_se else None)]
        nothing += [nothing[0]._replace(ceiling=h) for h in _label_ceilings(entropies)]
        found = _with_labels(nothing)
        return tuple(ChannelInformation(*found, variance, std * level, collapsed) for level in levels)
    relative = [level / std if convention == "absolute" else level for level in levels]
    order = _joint(x, y)
    if order is not None:  # rows of one class become neighbours, so that small classes have few columns
        order = order.argsort(stable=True)
        rows, draw = rows[order], draw[order]
        x, y = (codes if codes is None else codes[order] for codes in (x, y))
    blocks = PairwiseBlocks(rows, draw, min(relative), block_size)
    groupings = [None, *(codes for codes in (x, y) if codes is not None)]
    terms = pointwise_information(blocks, relative, groupings, derivatives=subsample_se)
    leverage = (blocks.squares - 1) / 2 if convention == "relative" else None
    of_level = zip(*terms, strict=True)
    return tuple(
        ChannelInformation(*_estimates(parts, x, y, entropies, leverage, subsample_se), variance, std * level, False)
        for level, parts in zip(relative, of_level, strict=True)
    )


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


def _label_ceilings(entropies: tuple[float, float | None, float]) -> list[float]:
    """Return H(Y) and H(X | Y); nothing without labels."""
    _, h_y, h_xy = entropies
    return [] if h_y is None else [h_y, h_xy - h_y]


def _with_labels(
    found: Sequence[ChannelEstimate],
) -> tuple[ChannelEstimate, ChannelEstimate | None, ChannelEstimate | None]:
    """Return the informations about X, Y, and X given Y; None for what is missing."""
    return (found[0], found[1], found[2]) if len(found) == 3 else (found[0], None, None)


def _estimates(
    parts: Sequence[Pointwise],
    x: Tensor | None,
    y: Tensor | None,
    entropies: tuple[float, float | None, float],
    leverage: Tensor | None,
    subsample_se: bool,
) -> tuple[ChannelEstimate, ChannelEstimate | None, ChannelEstimate | None]:
    """Return the informations about X, Y, and X given Y, at one level."""
    among_all, rest = parts[0], list(parts[1:])
    given_x = rest.pop(0) if x is not None else None
    pairs = [(among_all, given_x, entropies[0])]
    if y is not None:
        (given_y,), (h_y, h_x_given_y) = rest, _label_ceilings(entropies)
        pairs += [(among_all, given_y, h_y), (given_y, given_x, h_x_given_y)]
    found = [
        _difference(more, less, ceiling, x, leverage if subsample_se else None, subsample_se)
        for more, less, ceiling in pairs
    ]
    return _with_labels(_within_bounds(found))


def _difference(
    more: Pointwise, less: Pointwise | None, ceiling: float, x: Tensor | None, leverage: Tensor | None, with_rows: bool
) -> ChannelEstimate:
    """Return the difference of two informations among rows, with errors and bounds."""
    bits, overlap, influence, slope = more
    value, lower, upper = bits.mean(1).tolist()
    differences, *known = bits  # the bounds of a row do not depend on the noise
    if less is not None:
        less_value, less_lower, less_upper = less.bits.mean(1).tolist()
        value, lower, upper = value - less_value, lower - less_upper, upper - less_lower
        known = [part - other for part, other in zip(known, less.bits[1:], strict=True)]
        differences, overlap = differences - less.bits[0], overlap - less.overlap
        influence, slope = influence - less.influence, slope - less.slope
    se = noise_error(differences, known, overlap, ceiling)
    of_rows = None
    if with_rows:
        of_rows = row_error(influence if leverage is None else influence + slope * leverage, x, se)
    return ChannelEstimate(value, se, lower, upper, ceiling, of_rows)


def _within_bounds(found: list[ChannelEstimate]) -> list[ChannelEstimate]:
    """Move the values into their clipped bounds, such that I(X) is the sum of I(Y) and I(X | Y).

    The true values satisfy all bounds, so that a move into them does not increase the error.
    """
    (x_low, x_high), *others = (estimate.bracket for estimate in found)
    if not others:
        return [found[0]._replace(value=_clip(found[0].value, x_low, x_high))]
    (y_low, y_high), (rest_low, rest_high) = others
    y = _clip(found[1].value, max(y_low, x_low - rest_high), min(y_high, x_high - rest_low))
    rest = _clip(found[2].value, max(rest_low, x_low - y), min(rest_high, x_high - y))
    values = zip(found, (y + rest, y, rest), strict=True)
    return [part._replace(value=_clip(value, *part.bracket)) for part, value in values]  # rounding can leave them


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
