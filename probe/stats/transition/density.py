"""Density of an order parameter with two peaks or more, its deepest valley, and the valley at equal heights."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import brentq

LEAST_MASS = 0.02  # share of the samples on either side of a valley
_WIDTH, _CELLS, _MOST_CELLS = 0.4, 4, 4000  # width of the kernel in sd of a peak, cells of a kernel, cells in all
_FURTHEST = 0.0005  # share of the samples that is left out at either end
_MOST_BIAS, _LEAST_COUNT = 0.1, 5  # largest correction of a log density; least samples in a kernel
_LEAST_EFFECTIVE = 0.1  # share of the samples that must remain effective after reweighting


class Valley(NamedTuple):
    """Deepest valley of densities (draws, m): depth below the lower peak and below the mean log height of both."""

    depth: np.ndarray
    mean_depth: np.ndarray
    at: np.ndarray
    resolved: np.ndarray


def kernel_width(x: np.ndarray) -> float:
    """Return the width of the kernel: 0.4 standard deviations of the narrower peak.

    It is at least 0.7 gaps of discrete values, so that the density has no ripples.
    """
    gap = 0.7 * float(np.median(np.diff(np.unique(x))))
    spread = min(x.std(), float(np.subtract(*np.quantile(x, [0.75, 0.25]))) / 1.34) or x.std()
    pilot = max(0.9 * spread * x.size**-0.2, gap)
    middles, cells = _cells(x, pilot)
    found = valley(heights_of(np.bincount(cells, minlength=len(middles))[None].astype(float), x.size), x.size)
    if found.depth[0] < 0.3:  # a wiggle
        return float(max(_WIDTH * min(spread, x.std()), gap))
    split = middles[found.at[0]]
    return float(max(_WIDTH * min(x[x <= split].std(), x[x > split].std()), gap))


def cell_counts(groups: np.ndarray, weights: np.ndarray, width: float) -> np.ndarray:
    """Return the weighted counts (groups, m) of cells; a kernel is four cells wide."""
    middles, cells = _cells(groups.ravel(), width)
    found = np.zeros((len(groups), len(middles)))
    np.add.at(found, (np.repeat(np.arange(len(groups)), groups.shape[1]), cells), weights.ravel())
    return found


def _cells(x: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.quantile(x, [_FURTHEST, 1 - _FURTHEST])
    size = max(width / _CELLS, (high - low) / _MOST_CELLS, 1e-300)
    edges = low - 4 * _CELLS * size, int(np.ceil((high - low) / size)) + 8 * _CELLS
    cells = np.clip(((x - edges[0]) / size).astype(int), 0, edges[1] - 1)
    return edges[0] + size * (np.arange(edges[1]) + 0.5), cells


def heights_of(counts: np.ndarray, n: int) -> np.ndarray:
    """Return log densities of counts (draws, m) of ``n`` samples after smoothing.

    The bias of a kernel is in proportion to its squared width, so a third of the difference to a kernel of twice the
    width removes it. The density is at least that of a kernel with five samples.
    """
    narrow, wide = (
        np.log(np.maximum(gaussian_filter1d(counts, cells, axis=-1, mode="constant"), 1e-300))
        for cells in (_CELLS, 2 * _CELLS)
    )
    total = np.log(counts.sum(axis=-1, keepdims=True))
    corrected = narrow - total + np.clip((narrow - wide) / 3, -_MOST_BIAS, _MOST_BIAS)
    return np.asarray(np.maximum(corrected, _floor(n)))


def _floor(n: int) -> float:
    """Return the log height of the kernels of five of ``n`` samples at one place."""
    return float(np.log(_LEAST_COUNT / (n * np.sqrt(2 * np.pi) * _CELLS)))


def valley(heights: np.ndarray, n: int) -> Valley:
    """Return the deepest valley between two peaks, each with at least 2 % of the mass, of log densities (draws, m)."""
    left = np.maximum.accumulate(heights, axis=-1)
    right = np.maximum.accumulate(heights[:, ::-1], axis=-1)[:, ::-1]
    mass = np.cumsum(np.exp(heights), axis=-1)
    mass /= mass[:, -1:]
    depth = np.minimum(left, right) - heights
    depth[(mass < LEAST_MASS) | (mass > 1 - LEAST_MASS)] = 0
    at = depth.argmax(axis=-1)[:, None]
    deepest, level = (np.take_along_axis(values, at, -1)[:, 0] for values in (depth, heights))
    both = np.take_along_axis((left + right) / 2, at, -1)[:, 0] - level
    return Valley(deepest, np.where(deepest > 0, both, 0.0), at[:, 0], level > _floor(n) + np.log(3))


def equal_height_field(groups: np.ndarray, conjugate: np.ndarray, width: float) -> float:
    """Return the field h whose weights exp(h conjugate) give both peaks one height; NaN without such a field."""
    plain = cell_counts(groups, np.ones_like(groups), width).sum(0)[None]
    found = valley(heights_of(plain, groups.size), groups.size)
    if found.depth[0] == 0:
        return np.nan
    at, scale = int(found.at[0]), float(conjugate.std()) or 1.0

    def difference(field: float) -> float:
        counts = cell_counts(groups, field_weights(conjugate, field / scale), width).sum(0)[None]
        heights = heights_of(counts, groups.size)[0]
        return float(heights[: at + 1].max() - heights[at:].max())

    if difference(-5.0) * difference(5.0) > 0:
        return np.nan
    field = float(brentq(difference, -5.0, 5.0, xtol=1e-4)) / scale
    weights = field_weights(conjugate, field)
    effective = weights.sum() ** 2 / (weights**2).sum() / weights.size
    return field if effective >= _LEAST_EFFECTIVE else np.nan


def field_weights(conjugate: np.ndarray, field: float) -> np.ndarray:
    """Return the weights of samples under another field, with mean 1."""
    exponent = field * (conjugate - conjugate.mean())
    weights = np.exp(exponent - exponent.max())
    return np.asarray(weights / weights.mean())
