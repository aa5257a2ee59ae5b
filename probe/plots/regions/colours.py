"""Colours of the regions of a partition: by circuit, by output, or by Hamming distance."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgba_array

_BLOCK = 20_000  # regions whose patterns are converted at a time
_EVEN = 1909  # of 3,000 seeds, the one with the most even hues for circuits of two to four units
_FIRST_HUE = 0.68  # of the circle: blue
_LIGHTNESS, _CHROMA = 0.84, 0.075  # of OKLCH: tints on which black lines are readable
_CHECKER = 0.045  # lightness between circuits of the first site that differ in one unit
_HUE_STEP, _LIGHT_STEP = 0.02, 0.06  # largest shifts within a family, at the second site
_DECAY = 0.62  # of these shifts from one site to the next
# Ten classes; the first eight remain different for colour-blind readers (Okabe and Ito).
CLASSES = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#a89a00", "#555555"),
    *("#6a3d9a", "#7a4b1f"),
)
# Of Hamming distances, from 0 to the largest.
TINTS = ("#fffdf2", "#fbe3a8", "#f3b27c", "#dd7f83", "#a45f99", "#6d5aa0")


def circuit_colours(patterns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return one colour (R, 3) for each circuit, from patterns (R, units) of the sites in the order of execution.

    The first site decides the hue. Each later site shifts hue and lightness by less, so that the regions into which
    a region is divided keep the family of its colour. Each unit has a shift of its own. Circuits that differ in one
    unit always differ in colour, and equal circuits have equal colours in all partitions of networks of this shape.
    """
    hue = lightness = np.zeros(0)
    for depth, pattern in enumerate(patterns.values()):
        turn, parity = _turns(pattern)
        if depth == 0:
            hue, lightness = _FIRST_HUE + turn, _LIGHTNESS + _CHECKER * (parity - 0.5)
        else:
            scale = _DECAY ** (depth - 1)
            hue = hue + scale * _HUE_STEP * np.cos(2 * np.pi * turn)
            lightness = lightness + scale * _LIGHT_STEP * (0.35 * np.sin(2 * np.pi * turn) + 0.65 * (2 * parity - 1))
    return _rgb(lightness, np.full_like(hue, _CHROMA), hue)


def _turns(pattern: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a part of the circle and a parity for each pattern; both change with each step of a single unit."""
    draw, most = np.random.default_rng(_EVEN), int(pattern.max(initial=1))
    parts = draw.uniform(0.25, 0.75, (most, pattern.shape[1]))  # of each unit and step, far from a full turn
    turn, parity = np.zeros(len(pattern)), np.zeros(len(pattern))
    for first in range(0, len(pattern), _BLOCK):
        rows = slice(first, first + _BLOCK)
        turn[rows] = sum((pattern[rows] > step) @ parts[step] for step in range(most))
        parity[rows] = pattern[rows].sum(1) % 2
    return turn.round(9) % 1, parity  # products of equal rows can differ by rounding


def _rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    """Convert OKLCH, with hues in parts of the circle, to sRGB in [0, 1] (Ottosson 2020)."""
    a, b = chroma * np.cos(2 * np.pi * hue), chroma * np.sin(2 * np.pi * hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    matrix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(np.stack([long, middle, short], -1) @ matrix.T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def hamming_distances(patterns: Mapping[str, np.ndarray], reference: int) -> np.ndarray:
    """Return the number of units (R,) in which each circuit differs from that of one region."""
    return np.sum([(pattern != pattern[reference]).sum(1) for pattern in patterns.values()], axis=0)


def tint(colours: Sequence[str], share: float = 0.42) -> np.ndarray:
    """Return colours (n, 3) mixed with white, on which lines and dots of these colours are readable."""
    return 1 - share * (1 - to_rgba_array(colours)[:, :3])
