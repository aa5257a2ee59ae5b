"""Noise of the channel of :mod:`probe.information.channel`: validation, random numbers, and calibration to a layer."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from probe.information.arguments import check_positive
from probe.information.pairwise import PairwiseBlocks, pointwise_information
from probe.information.validation import normalise_rows

_FINEST = 0.02  # relative noise; it resolves N rows in any layer of more than one or two units


def check_noise(levels: Sequence[float], convention: str) -> None:
    """Raise ValueError unless there is a noise level, all levels are positive and finite, and the convention exists."""
    if convention not in ("relative", "absolute"):
        raise ValueError(f'Expected convention="relative" or "absolute", got {convention!r}; pass one of these')
    if not levels:
        raise ValueError("Expected at least one noise level, got none; pass a positive number")
    for level in levels:
        check_positive(level, "noise", "a level such as 0.2, without noise the information is always log2 n")


def standard_normal_like(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return standard normal noise of the shape of ``rows``, always in float64.

    The float64 stream of a generator differs from its float32 stream. In float32, the seed that made random inputs
    would reproduce the inputs as noise.
    """
    return torch.randn(rows.shape, generator=generator, device=rows.device, dtype=torch.float64)


def calibrated_noise(activations: Tensor, *, generator: torch.Generator | None = None, start: float = 0.2) -> float:
    """Relative noise level at which I(T+n; X) is neither near its ceiling nor near 0.

    I(T+n; X) then lies between 50 and 90 % of its value at the finest level considered, 0.02. That value is log2 n, or
    less if rows repeat. Calibrate once per layer and run: a level that follows the layer hides its changes.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
        Not all rows may be equal.
    generator : torch.Generator, optional
        Source of the noise, on the device of ``activations``.
    start : float
        Relative level that is returned if it satisfies the condition.

    Returns
    -------
    float
        Between 0.02 and 2 sqrt(n), found by bisection of its logarithm. One distant row is almost sqrt(n) standard
        deviations from the others, so such a layer needs a level of that size.

    Raises
    ------
    ValueError
        If ``activations`` is not a finite matrix of at least two rows, if all rows are equal, or if no level satisfies
        the condition. No tested layer shows the latter.

    See Also
    --------
    channel_information : Information at a given noise level.

    Examples
    --------
    >>> import torch
    >>> from probe.information import calibrated_noise, channel_information
    >>> seeded = lambda: torch.Generator().manual_seed(0)
    >>> activations = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    >>> noise = calibrated_noise(activations, generator=seeded(), start=0.02)
    >>> 0.5 * 6 < channel_information(activations, noise=noise, generator=seeded()).x.value < 0.9 * 6
    True
    """
    rows, _, collapsed = normalise_rows(activations)
    if collapsed:
        raise ValueError(
            "Expected rows of activations that differ, got equal rows; calibrate on a layer, or at a step, where the "
            "activations have a variance"
        )
    noise = standard_normal_like(rows, generator)

    def information(level: float) -> float:
        value, lower, upper = (
            pointwise_information(PairwiseBlocks(rows, noise, level), [level])[0][0].bits.mean(1).tolist()
        )
        return min(max(value, lower), upper)

    coarsest = 2 * math.sqrt(len(rows))  # I(T+n; X) is at most 1 / (2 ln 2 level^2) bits, here 0.18 / n
    finest, low, high, level = information(_FINEST), _FINEST, coarsest, start
    while not 0.5 * finest <= (bits := information(level)) <= 0.9 * finest:
        low, high = (level, high) if bits > 0.9 * finest else (low, level)
        if high / low < 1.0001:
            raise ValueError(
                f"Expected a noise between {_FINEST} and {coarsest:.3g} with 50 to 90 % of the information at "
                f"{_FINEST}, got a jump over this range at {level:.4g}; pass a noise level by hand"
            )
        level = math.sqrt(low * high)
    return level
