"""How high a curve rises and falls in units of its noise, and how high noise alone would."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from probe.stats.noise import PHI, Noise

# The statistic is not followed beyond this: there p is the least one at every length and correlation.
CAP = 100.0


class Excursions:
    """How high curves rise and fall, in standard deviations: means over windows against each other.

    For windows of 1, 4, 16 ... observations, ``mean`` is their mean and ``sd`` the standard deviation of that under
    the noise, both of shape (curves, widths, n), by first observation; past the last window ``sd`` is infinite. A
    curve rises by c if the mean of some window, less c sd, is above that of an earlier one, plus c sd.
    """

    def __init__(self, values: np.ndarray, noise: Noise) -> None:
        widths = 4 ** np.arange(8)
        widths = widths[widths <= max(1, values.shape[1] // 4)]
        shape = (values.shape[0], len(widths), values.shape[1])
        self.mean, self.sd = np.zeros(shape), np.full(shape, np.inf)
        phi = noise.stationary_phi
        for row, w in enumerate(widths.tolist()):
            inside = slice(0, shape[2] - w + 1)
            of_mean = ((1 + phi) / (1 - phi) - 2 * phi * (1 - phi**w) / (w * (1 - phi) ** 2)) / w
            variance = sliding_window_view(noise.sd**2, w, axis=1).mean(axis=2)
            self.mean[:, row, inside] = sliding_window_view(values, w, axis=1).mean(axis=2)
            self.sd[:, row, inside] = np.sqrt(variance * of_mean[:, None])
        self.widths = widths

    def margin(self, c: np.ndarray, sides: str) -> np.ndarray:
        """By how much each window exceeds an earlier ("rise"), a later ("fall") or both ("both"), less ``c`` sd."""
        band = c[:, None, None] * self.sd
        low, high = self.mean - band, self.mean + band
        rise = low - np.minimum.accumulate(high, axis=2) if sides != "fall" else np.inf
        fall = low - np.minimum.accumulate(high[..., ::-1], axis=2)[..., ::-1] if sides != "rise" else np.inf
        return np.minimum(rise, fall)

    def reach(self, c: np.ndarray, sides: str) -> np.ndarray:
        """Whether some window reaches ``c``, of shape (curves,)."""
        return np.asarray((self.margin(c, sides) >= 0).any(axis=(1, 2)))

    def largest(self, sides: str) -> np.ndarray:
        """The largest ``c`` that a window reaches, of shape (curves,), by bisection within .7 %; from .1 to CAP."""
        low, high = np.full(len(self.mean), 0.1), np.full(len(self.mean), CAP)
        for _ in range(10):
            middle = np.sqrt(low * high)
            reached = self.reach(middle, sides)
            low, high = np.where(reached, middle, low), np.where(reached, high, middle)
        return low


class Table(NamedTuple):
    """Null law of the fall: quantiles of the statistic for record length, estimated correlation and p-value."""

    n: np.ndarray  # (lengths,)
    suspect: np.ndarray  # (lengths,): estimated correlation that nine of ten random walks reach
    p: np.ndarray  # (levels,), falling
    quantile: np.ndarray  # (lengths, phi, levels)

    def p_value(self, c: float, n: int, phi: float) -> float:
        """Interpolate in log p, and between lengths in log n; never below the last level."""
        return float(np.exp(np.interp(c, np.append(0.0, self._quantiles(n, phi)), np.append(0.0, np.log(self.p)))))

    def critical(self, alpha: float, n: int, phi: float) -> float:
        """The statistic whose p-value is ``alpha``."""
        return float(np.interp(-np.log(alpha), -np.log(self.p), self._quantiles(n, phi)))

    def _quantiles(self, n: int, phi: float) -> np.ndarray:
        at = np.interp(np.log(n), np.log(self.n), np.arange(len(self.n)))
        low, row = int(at), int(np.searchsorted(PHI, phi - 1e-9))
        high = min(low + 1, len(self.n) - 1)
        return self.quantile[low, row] + (at - low) * (self.quantile[high, row] - self.quantile[low, row])

    def suspects(self, n: int, phi: float) -> bool:
        """Whether a random walk may well have looked this correlated."""
        return bool(phi >= np.interp(np.log(n), np.log(self.n), self.suspect))


@lru_cache
def second_phase_table() -> Table:
    """Read the table that ``docs/benchmarks/second_phase_table.py`` writes."""
    path = Path(__file__).with_name("second_phase.csv")
    with open(path) as file:
        p = np.array(file.readline().split(",")[3:], dtype=float)
        rows = np.loadtxt(file, delimiter=",")
    n = np.unique(rows[:, 0])
    cells = rows.reshape(len(n), len(PHI), -1)
    return Table(n, cells[:, 0, 2], p, cells[:, :, 3:])
