"""Scan statistic of a rise and a fall, in units of the noise, and its distribution under noise alone."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from probe.stats.noise import PHI_GRID, Noise

# Upper end of the bisection for the statistic. At every length and correlation of the table, p is the least one there.
MAX_STATISTIC = 100.0


class ScanStatistic:
    """Largest rise and fall of curves, in standard deviations, over windows of all positions and several widths.

    A curve rises by c if the mean of some window minus c standard deviations is above the mean of an earlier window
    plus c standard deviations. The statistic is the largest such c.

    Parameters
    ----------
    values : array of shape (curves, n)
        Curves without spikes; the observations count as evenly spaced.
    noise : Noise
        Of :func:`noise_model`.

    Attributes
    ----------
    widths : integer array of shape (widths,)
        Widths of the windows: 1, 4, 16, ... observations, at most a quarter of the record.
    mean : array of shape (curves, widths, n)
        Mean of each window, by its first observation; 0 beyond the last window.
    sd : array of shape (curves, widths, n)
        Standard deviation of this mean under the noise; infinite beyond the last window.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import Noise, ScanStatistic
    >>> curve = np.array([[0.0, 0, 0, 0, 8, 8, 8, 8, 0, 0, 0, 0]])
    >>> scan = ScanStatistic(curve, Noise(sd=np.ones((1, 12)), phi=np.zeros(1)))
    >>> print(scan.widths.tolist(), scan.largest("both").round(1))
    [1] [4.]
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
        """Return by how much each window exceeds earlier ("rise"), later ("fall") or both ("both") by ``c`` sd.

        Parameters
        ----------
        c : array of shape (curves,)
        sides : "rise", "fall" or "both"

        Returns
        -------
        array of shape (curves, widths, n)
            In the units of the curve; negative where the window does not reach ``c``.
        """
        band = c[:, None, None] * self.sd
        low, high = self.mean - band, self.mean + band
        rise = low - np.minimum.accumulate(high, axis=2) if sides != "fall" else np.inf
        fall = low - np.minimum.accumulate(high[..., ::-1], axis=2)[..., ::-1] if sides != "rise" else np.inf
        return np.minimum(rise, fall)

    def reaches(self, c: np.ndarray, sides: str) -> np.ndarray:
        """Return whether some window of each curve reaches ``c``, a boolean array of shape (curves,)."""
        return np.asarray((self.margin(c, sides) >= 0).any(axis=(1, 2)))

    def largest(self, sides: str) -> np.ndarray:
        """Return the statistic of each curve (curves,), by bisection to 0.7 %, between 0.1 and 100."""
        low, high = np.full(len(self.mean), 0.1), np.full(len(self.mean), MAX_STATISTIC)
        for _ in range(10):
            middle = np.sqrt(low * high)
            reached = self.reaches(middle, sides)
            low, high = np.where(reached, middle, low), np.where(reached, high, middle)
        return low


class NullTable(NamedTuple):
    """Null distribution of the scan statistic of a fall, by record length and estimated correlation.

    Attributes
    ----------
    n : array of shape (lengths,)
        Numbers of observations.
    suspect : array of shape (lengths,)
        Estimated correlation that 90 % of random walks reach.
    p : array of shape (levels,)
        P-values, decreasing.
    quantile : array of shape (lengths, correlations, levels)
        Statistic with this p-value; the correlations are ``PHI_GRID``.
    """

    n: np.ndarray
    suspect: np.ndarray
    p: np.ndarray
    quantile: np.ndarray

    def p_value(self, c: float, n: int, phi: float) -> float:
        """Return the p-value of a statistic, interpolated in log p and log n; never below the least p-value."""
        return float(np.exp(np.interp(c, np.append(0.0, self._quantiles(n, phi)), np.append(0.0, np.log(self.p)))))

    def critical(self, alpha: float, n: int, phi: float) -> float:
        """Return the statistic whose p-value is ``alpha``."""
        return float(np.interp(-np.log(alpha), -np.log(self.p), self._quantiles(n, phi)))

    def _quantiles(self, n: int, phi: float) -> np.ndarray:
        at = np.interp(np.log(n), np.log(self.n), np.arange(len(self.n)))
        low, row = int(at), int(np.searchsorted(PHI_GRID, phi - 1e-9))
        high = min(low + 1, len(self.n) - 1)
        return self.quantile[low, row] + (at - low) * (self.quantile[high, row] - self.quantile[low, row])

    def resembles_random_walk(self, n: int, phi: float) -> bool:
        """Return whether at least 10 % of random walks have an estimated correlation this low."""
        return bool(phi >= np.interp(np.log(n), np.log(self.n), self.suspect))


@lru_cache
def second_phase_table() -> NullTable:
    """Return the null distribution behind the p-values of :func:`probe.phases.second_descent`.

    The table is simulated by ``docs/benchmarks/second_phase_table.py``: constants with AR(1) noise, whose standard
    deviation and correlation are estimated on each curve as on a recorded one. It holds at each true correlation up
    to 0.9.

    Returns
    -------
    NullTable

    Examples
    --------
    >>> from probe.stats import second_phase_table
    >>> table = second_phase_table()
    >>> print(f"{table.critical(0.05, n=200, phi=0.0):.1f}")
    3.2
    >>> print(f"{table.p_value(3.2, n=200, phi=0.5):.2f}")
    0.13
    """
    path = Path(__file__).with_name("second_phase.csv")
    with open(path) as file:
        p = np.array(file.readline().split(",")[3:], dtype=float)
        rows = np.loadtxt(file, delimiter=",")
    n = np.unique(rows[:, 0])
    cells = rows.reshape(len(n), len(PHI_GRID), -1)
    return NullTable(n, cells[:, 0, 2], p, cells[:, :, 3:])
