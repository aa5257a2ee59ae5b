r"""Information that a noisy reading of a layer has about its inputs and labels: I(T+n; X) and I(T+n; Y), in bits.

A deterministic network loses nothing: I(T; X) = log2 N for N distinct inputs, always [1]_. What moves in an information
plane is noise, or resolution, against geometry; so the noise is part of the quantity and is stated. Here the layer is
read through a Gaussian channel, T + n with n ~ N(0, sigma^2 I). By the relative convention sigma^2 = noise^2 tr Cov(T)
**per dimension**: scale-free, so that growing or shrinking activations alone change nothing. Inputs are uniform on the
N rows. With G_i the rows of the group of row i (all rows, its class, or its input) and
E_ij = exp(-|t_i + n_i - t_j|^2 / 2 sigma^2 + |n_i|^2 / 2 sigma^2),

    I(T+n; row | G) = -1/N sum_i log2 mean_{j in G_i} E_ij
    I(T+n; X) = I(T+n; row) - I(T+n; row | X)       (the second is 0 where each row is an input of its own)
    I(T+n; Y) = I(T+n; row) - I(T+n; row | Y)       I(T+n; X | Y) = I(T+n; X) - I(T+n; Y)

by one noise draw for each row (Monte Carlo over the exact mixture, "sample propagation" [1]_); unbiased, with a
standard error. Bounds from the same distances D [2]_: U with exp(-D_ij / 2 sigma^2) and L with exp(-D_ij / 8 sigma^2)
in place of E_ij; then L(T) - U(T|G) <= I(T+n; G) <= U(T) - L(T|G). (The difference of two upper bounds, often plotted,
bounds nothing.) Nothing exceeds log2 N or H(Y): a value near its ceiling is flagged ``saturated`` and says only that
the noise is too fine to tell.

.. [1] Goldfeld et al. 2019, arXiv:1810.05728, eq. 9 and section 3.  .. [2] Kolchinsky and Tracey 2017, eqs. 10 and 13.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from probe.information.discrete import COLLAPSED, class_codes, codes, discrete_entropy, rows
from probe.information.pairs import Pairs, row_terms

Convention = Literal["relative", "absolute"]

_FINEST, _COARSEST = 0.02, 2.0  # relative noise: 0.02 tells N rows apart in any layer of more than one or two units


class Bits(NamedTuple):
    """An information in bits: Monte Carlo value, its standard error, raw bounds, and the most it can be.

    ``se`` is that of the noise drawn, for these rows; ``subsample_se`` that of rows and noise, had other rows come from
    where these did (None unless asked for).
    """

    value: float
    se: float
    lower: float
    upper: float
    ceiling: float
    subsample_se: float | None = None

    @property
    def bracket(self) -> tuple[float, float]:
        """What is certain in the end: the bounds, within [0, ceiling]."""
        return min(max(self.lower, 0.0), self.ceiling), min(max(self.upper, 0.0), self.ceiling)


class ChannelInformation(NamedTuple):
    """I(T+n; X), I(T+n; Y) and I(T+n; X|Y) (None without labels), and what they rest on."""

    x: Bits
    y: Bits | None
    x_given_y: Bits | None
    variance: float
    noise_std: float
    collapsed: bool

    @property
    def noise_relative(self) -> float:
        """The noise over the root of the total variance; NaN if collapsed."""
        return math.nan if self.collapsed else self.noise_std / math.sqrt(self.variance)

    @property
    def saturated(self) -> bool:
        """Within 2 % of the ceiling (5 % for the lower bound) the estimate can no longer move."""
        return self.x.value > 0.98 * self.x.ceiling or self.x.lower > 0.95 * self.x.ceiling


@overload
def channel_information(
    z: Tensor,
    labels: Tensor | None = ...,
    *,
    noise: float = ...,
    convention: Convention = ...,
    inputs: Tensor | None = ...,
    subsamples: int = ...,
    generator: torch.Generator | None = ...,
    block: int = ...,
) -> ChannelInformation: ...


@overload
def channel_information(
    z: Tensor,
    labels: Tensor | None = ...,
    *,
    noise: Sequence[float],
    convention: Convention = ...,
    inputs: Tensor | None = ...,
    subsamples: int = ...,
    generator: torch.Generator | None = ...,
    block: int = ...,
) -> tuple[ChannelInformation, ...]: ...


def channel_information(
    z: Tensor,
    labels: Tensor | None = None,
    *,
    noise: float | Sequence[float] = 0.2,
    convention: Convention = "relative",
    inputs: Tensor | None = None,
    subsamples: int = 0,
    generator: torch.Generator | None = None,
    block: int = 128,
) -> ChannelInformation | tuple[ChannelInformation, ...]:
    """I(T+n; X), I(T+n; Y) and I(T+n; X|Y) of the rows of ``z``, all equally likely.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,), optional
    noise
        Standard deviation of the noise per dimension: over the root of the total variance of ``z`` (relative), or in
        its units (absolute). Several levels share one pass; those a factor of 2 apart cost least.
    convention
        ``"relative"`` or ``"absolute"``. With the latter a change of scale alone changes the information.
    inputs : integer Tensor of shape (n,), optional
        The same number for the same input; default: each row has an input of its own. Repeated inputs weigh by
        their number, and noise of the network itself, which makes the rows of one input differ, is accounted for.
    subsamples
        Halves of the inputs, without replacement, whose spread is ``subsample_se``; 20 know it to a sixth.
    generator
        Source of the noise, on the device of ``z``; the same seed at every step makes curves smooth in time.
    block
        Rows at a time: the work space is a few times ``block * n`` numbers.

    Returns
    -------
    ChannelInformation, or a tuple of one for each level
        In bits. Rows that are all alike have information 0 and are ``collapsed``.
    """
    levels = tuple(noise) if isinstance(noise, Sequence) else (noise,)
    _check_noise(levels, convention)
    x = None if inputs is None else class_codes(inputs, z)
    y = None if labels is None else class_codes(labels, z)
    t, variance, collapsed = normalised(z)
    std = 0.0 if collapsed else math.sqrt(variance)
    relative = [level / std if std and convention == "absolute" else level for level in levels]
    # of all rows, given X, given Y; by level; value, bounds and halves; by row
    terms = torch.zeros(3, len(levels), 3 + subsamples, len(t), dtype=t.dtype, device=t.device)
    if not collapsed:
        draw, order = _noise(t, generator), _joint(x, y)
        halves = _halves(torch.arange(len(t), device=t.device) if x is None else x, subsamples, generator)
        if order is not None:  # classes are ranges of rows, or nearly: the cost of small ones is small
            order = order.argsort(stable=True)
            t, draw, halves = t[order], draw[order], halves[order]
        pairs = Pairs(t, draw, min(relative), block)
        terms[0] = row_terms(pairs, relative, subsets=halves)
        for part, groups in ((terms[1], x), (terms[2], y)):
            if groups is not None and order is not None:
                part.copy_(row_terms(pairs, relative, groups[order], halves))
    entropies = _entropies(x, y, len(t))
    found = tuple(
        ChannelInformation(*_assembled(terms[:, k], entropies), variance, std * level, collapsed)
        for k, level in enumerate(relative)
    )
    return found if isinstance(noise, Sequence) else found[0]


def calibrated_noise(z: Tensor, *, generator: torch.Generator | None = None, start: float = 0.2) -> float:
    """A relative noise at which the layer is neither saturated nor drowned.

    I(T+n; X) then lies between 50 and 90 % of what the finest noise considered (0.02) can tell apart: log2 n, less if
    rows repeat. Once for a layer and run: a level that follows the layer would hide what is to be seen.

    Parameters
    ----------
    z : Tensor of shape (n, d)
        Not all rows alike.
    generator
        Source of the noise, on the device of ``z``.
    start
        The level that is kept if it serves.

    Returns
    -------
    float
        Between 0.02 and 2, by bisection of its logarithm.
    """
    t, _, collapsed = normalised(z)
    if collapsed:
        raise ValueError("all rows of z are alike: no noise tells them apart; calibrate on a layer that has a variance")
    draw = _noise(t, generator)

    def bits(level: float) -> float:
        return row_terms(Pairs(t, draw, level), [level])[0, 0].mean().item()

    most, low, high, level = bits(_FINEST), _FINEST, _COARSEST, start
    while not 0.5 * most <= (found := bits(level)) <= 0.9 * most:
        low, high = (level, high) if found > 0.9 * most else (low, level)
        if high / low < 1.0001:  # a jump: not seen on any layer, and better said than hidden
            raise ValueError(f"no noise between {_FINEST} and {_COARSEST} serves this layer: it goes over at {level}")
        level = math.sqrt(low * high)
    return level


def channel_bits(
    z: Tensor,
    labels: Tensor | None = None,
    *,
    noise: float = 0.2,
    part: Literal["value", "lower", "upper"] = "value",
    generator: torch.Generator | None = None,
) -> Tensor:
    """I(T+n; X), or with labels I(T+n; Y), with a gradient: ``loss + beta * channel_bits(z)`` trains.

    Parameters
    ----------
    z : Tensor of shape (n, d)
        A batch: the work space is several times n^2 numbers in its precision, half precision in float32.
    labels, noise, generator
        As in :func:`channel_information`; the noise is relative, and gradients take that along.
    part
        The Monte Carlo value, or one of the two bounds (raw), which draw nothing.

    Returns
    -------
    Tensor of shape ()
        In bits. If all rows are alike, 0 with gradient 0.
    """
    _check_noise((noise,), "relative")
    if part not in ("value", "lower", "upper"):
        raise ValueError(f'part must be "value", "lower" or "upper", got {part!r}')
    other = {"value": "value", "lower": "upper", "upper": "lower"}[part]
    rows(z.detach())  # the checks
    t = z if z.dtype == torch.float64 else z.float()
    t = t - t.mean(0)
    variance = t.square().sum(1).mean()
    if variance <= COLLAPSED * z.detach().to(t).square().sum(1).mean():
        return 0 * t.sum()
    t = t / (noise * variance.sqrt())
    draw = _noise(t, generator).to(t) if part == "value" else None
    with torch.autocast(t.device.type, enabled=False):
        bits = -_log_mean(_exponents(t, draw, part), None)
        if labels is not None:
            y = class_codes(labels, z)
            bits = bits + _log_mean(_exponents(t, draw, other), y[:, None] == y)
    return bits


def ib_objective(information_x: Any, information_y: Any, beta: float) -> Any:
    """I(T; X) - beta I(T; Y) (arXiv:2504.12700, eq. 6), of numbers, tensors or variables of a series, in bits."""
    return information_x - beta * information_y


def _check_noise(levels: Sequence[float], convention: str) -> None:
    if convention not in ("relative", "absolute"):
        raise ValueError(f'convention must be "relative" or "absolute", got {convention!r}')
    if not levels:
        raise ValueError("noise must be a level or several, got none")
    for level in levels:
        if not 0 < level < math.inf:
            raise ValueError(f"noise must be positive, got {level}: without noise the information is log2 n, always")


def normalised(z: Tensor) -> tuple[Tensor, float, bool]:
    """Centre the rows and divide them by the root of their total variance, in float64.

    Parameters
    ----------
    z : Tensor of shape (n, d)

    Returns
    -------
    rows : Tensor of shape (n, d)
        Total variance 1, but 0 if ``collapsed``.
    variance : float
        tr Cov of ``z``.
    collapsed : bool
        Whether the rows differ by no more than rounding.
    """
    t = rows(z.detach())
    size = t.square().sum(1).mean()
    t = t - t.mean(0)
    variance = t.square().sum(1).mean()
    collapsed = bool(variance <= COLLAPSED * size)
    return (t if collapsed else t.div_(variance.sqrt())), variance.item(), collapsed


def _noise(t: Tensor, generator: torch.Generator | None) -> Tensor:
    """In float64, whose stream differs: float32 noise from the seed of random inputs would be the inputs."""
    return torch.randn(t.shape, generator=generator, device=t.device, dtype=torch.float64)


def _halves(inputs: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Random halves of the inputs, with all rows of each: (n, count)."""
    n = int(inputs.max()) + 1
    ranks = torch.rand(n, count, generator=generator, device=inputs.device).argsort(0)
    return (ranks < n // 2)[inputs]


def _joint(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    """Codes of the pairs (y, x), in the order of y first; None if each row is one of its own."""
    if x is None or y is None:
        return y if x is None else x
    return codes(y * (x.max() + 1) + x)


def _entropies(x: Tensor | None, y: Tensor | None, n: int) -> tuple[float, float | None, float]:
    """H(X), H(Y) and H(X, Y), in bits; without codes each row is another x."""
    joint = _joint(x, y)
    of_x, of_y = math.log2(n) if x is None else discrete_entropy(x), None if y is None else discrete_entropy(y)
    return of_x, of_y, of_x if x is None or joint is None else discrete_entropy(joint)


def _assembled(terms: Tensor, entropies: tuple[float, float | None, float]) -> tuple[Bits, Bits | None, Bits | None]:
    """About X, Y, and X given Y, from terms (of all rows, given X, given Y; value, lower, upper, halves; n)."""
    (whole, given_x, given_y), (h_x, h_y, h_xy) = terms, entropies
    of_x = _difference(whole, given_x, h_x)
    if h_y is None:
        return of_x, None, None
    return of_x, _difference(whole, given_y, h_y), _difference(given_y, given_x, h_xy - h_y)


def _difference(more: Tensor, less: Tensor, ceiling: float) -> Bits:
    (value, lower, upper), (less_value, less_lower, less_upper) = more[:3].mean(1).tolist(), less[:3].mean(1).tolist()
    se = (more[0] - less[0]).std().item() / math.sqrt(more.shape[1])
    halves = (more[3:] - less[3:]).nanmean(1)
    spread = halves.std().item() if len(halves) else None  # of half of n rows without replacement: as that of n
    return Bits(value - less_value, se, lower - less_upper, upper - less_lower, ceiling, spread)


def _exponents(t: Tensor, draw: Tensor | None, part: str) -> Tensor:
    """Logarithms of what is averaged, (n, n), at unit noise."""
    squares = t.square().sum(1)
    distances = (squares[:, None] + squares - 2 * t @ t.T).clamp(min=0)
    if draw is None:
        return distances / (-8 if part == "lower" else -2)
    return draw @ t.T - (draw * t).sum(1)[:, None] - distances / 2


def _log_mean(exponents: Tensor, same: Tensor | None) -> Tensor:
    if same is None:
        return (exponents.logsumexp(1).mean() - math.log(len(exponents))) / math.log(2)
    inside = exponents.masked_fill(~same, -math.inf).logsumexp(1) - same.sum(1).log()
    return inside.mean() / math.log(2)
