"""Partition of a curve into pieces of least residual sum of squares; exact, by dynamic programming."""

import numpy as np


class _Pieces:
    """All pieces that end at the current observation, one for each start that can still be optimal.

    Means, cross products and residual sums of squares are updated observation by observation (recursive residuals:
    Brown, Durbin and Evans 1975). No difference of large sums occurs, and the sum of squares never decreases.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, linear: bool) -> None:
        self.x, self.y, self.linear = x, y, linear
        self.start = np.empty(0, dtype=int)
        self.moments = np.empty((5, 0))  # mean x, mean y, Sxx, Sxy, residual sum of squares

    def advance(self, t: int) -> None:
        """Append observation t - 1 to all pieces, and begin the piece of the last two observations."""
        size = t - 1 - self.start
        mean_x, mean_y, sxx, sxy, rss = self.moments
        dx, dy = self.x[t - 1] - mean_x, self.y[t - 1] - mean_y
        shrink = size / (size + 1)
        if self.linear:
            innovation = dy - sxy / sxx * dx
            rss += innovation**2 / (1 / shrink + dx**2 / sxx)
        else:
            rss += dy**2 * shrink
        sxx += shrink * dx**2
        sxy += shrink * dx * dy
        mean_x += dx / (size + 1)
        mean_y += dy / (size + 1)
        (x0, x1), (y0, y1) = self.x[t - 2 : t], self.y[t - 2 : t]
        rise = 0.0 if self.linear else (y1 - y0) ** 2 / 2
        new = [(x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) ** 2 / 2, (x1 - x0) * (y1 - y0) / 2, rise]
        self.moments = np.column_stack([self.moments, new])
        self.start = np.append(self.start, t - 2)

    def keep(self, chosen: np.ndarray) -> None:
        """Drop the pieces that are not chosen."""
        self.start, self.moments = self.start[chosen], self.moments[:, chosen]


def optimal_partition(x: np.ndarray, y: np.ndarray, penalty: float, min_size: int, linear: bool) -> np.ndarray:
    """Return the breaks of least residual sum of squares plus ``penalty`` per break.

    Optimal partitioning with the pruning of Killick, Fearnhead and Eckley (2012, PELT, theorem 3.1 with K = 0: no
    split raises the sum of squares). ``best[t]`` is the least cost of the first t observations. The work is O(n^2)
    operations at most, and less with pruning; the memory is O(n).
    """
    n, pieces = len(x), _Pieces(x, y, linear)
    best, before, doomed = np.full(n + 1, np.inf), np.zeros(n + 1, dtype=int), np.full(n + 1, n + 1)
    best[0] = -penalty  # the first piece is free
    for t in range(2, n + 1):
        pieces.advance(t)
        old = np.searchsorted(pieces.start, t - min_size, side="right")
        if not old:
            continue
        start = pieces.start[:old]
        total = best[start] + pieces.moments[-1, :old]
        choice = np.argmin(total)
        best[t], before[t] = total[choice] + penalty, start[choice]
        # A start that is no better than a new piece from t cannot become better, once that piece has min_size.
        beaten = start[total >= best[t]]
        doomed[beaten] = np.minimum(doomed[beaten], t + min_size)
        alive = doomed[pieces.start] > t + 1
        if not alive.all():
            pieces.keep(alive)
    return _trace(before, n)


def _trace(before: np.ndarray, end: int) -> np.ndarray:
    """Follow the best last breaks back from the end."""
    breaks = []
    while before[end] > 0:
        end = before[end]
        breaks.append(end)
    return np.array(breaks[::-1], dtype=int)


def fixed_partition(x: np.ndarray, y: np.ndarray, n_segments: int, min_size: int, linear: bool) -> np.ndarray:
    """Return the breaks of least residual sum of squares into exactly ``n_segments`` pieces.

    Segment neighbourhood (Auger and Lawrence 1989). ``best[p, t]`` is the least sum of squares of the first t
    observations in p pieces. The work is O(n^2 pieces) operations, the memory O(n pieces).
    """
    n, pieces = len(x), _Pieces(x, y, linear)
    best, before = np.full((n_segments + 1, n + 1), np.inf), np.zeros((n_segments + 1, n + 1), dtype=int)
    best[0, 0] = 0.0
    for t in range(2, n + 1):
        pieces.advance(t)
        old = max(t - min_size + 1, 0)
        if old:
            total = best[:-1, :old] + pieces.moments[-1, :old]
            before[1:, t] = np.argmin(total, axis=1)
            best[1:, t] = total.min(axis=1)
    breaks = []
    end = n
    for p in range(n_segments, 1, -1):
        end = int(before[p, end])
        breaks.append(end)
    return np.array(breaks[::-1], dtype=int)
