"""Exact segmentation of a curve into straight or constant pieces, usable alone.

    argmin over breaks   sum of squared residuals of all pieces + penalty * number of breaks

The minimum is global. Pieces that need not meet: optimal partitioning with the pruning of Killick, Fearnhead and
Eckley (2012, PELT, theorem 3.1 with K = 0: no split raises the sum of squares), or, for a given number of pieces,
the recursion of Auger and Lawrence (1989, segment neighbourhood). Pieces that meet ("broken stick", up to three):
all knots, or pairs of knots, at once. Work and memory: O(n^2) operations, O(n) or O(n * pieces) or O(knots^2) numbers.

The penalty "bic" charges every break for its parameters, its place among them: Yao (1988) for constant pieces, the
same count for lines; Zhang and Siegmund (2007) give finer terms. It is meant for white noise. Under AR(1) noise of
correlation phi sums vary (1 + phi) / (1 - phi) times as much, and so much dearer is a break then.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.noise import difference_noise, resolution_floor, variance_inflation
from probe.stats.segmented import segmented_fit

_LEAST_FOR_NOISE = 8  # observations


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Pieces ``intercepts[p] + slopes[p] * x`` and where they begin.

    Attributes
    ----------
    breaks : integer array of shape (pieces - 1,)
        Index of the first observation of each piece but the first; of continuous pieces the knot.
    x_breaks : array of shape (pieces - 1,)
        ``x`` there.
    slopes, intercepts : array of shape (pieces,)
        In units of y per unit of x, and of y at x = 0.
    rss : float
        Residual sum of squares.
    penalty : float
        What a break had to save of it; NaN if the number of pieces was given.
    values : array of shape (n,)
        Fitted values at the observations.
    """

    breaks: np.ndarray
    x_breaks: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray
    rss: float
    penalty: float
    values: np.ndarray

    def fitted(self, x: ArrayLike) -> np.ndarray:
        """Return the pieces at any ``x``; the first and the last go on outside the record."""
        x = np.asarray(x, dtype=float)
        piece = np.searchsorted(self.x_breaks, x, side="right")
        return self.intercepts[piece] + self.slopes[piece] * x


def piecewise_linear(
    x: ArrayLike,
    y: ArrayLike,
    *,
    n_segments: int | None = None,
    penalty: float | Literal["bic"] = "bic",
    min_size: int = 3,
    kind: Literal["linear", "constant"] = "linear",
    continuous: bool = False,
) -> Segmentation:
    """Cut a curve into pieces with the least residual sum of squares plus a penalty per break; exact.

    Parameters
    ----------
    x, y : array of shape (n,)
        Increasing, irregular if need be. Observations whose ``y`` is NaN are left out, and ``breaks`` counts
        those that stay.
    n_segments : int, optional
        Number of pieces; None lets the penalty decide.
    penalty : float or "bic"
        What a break must save of the residual sum of squares. "bic" is ``q log(n) sd^2 (1 + phi) / (1 - phi)``
        with the noise of :func:`difference_noise` and q = 3 parameters a break of straight pieces (place, slope,
        level), 2 of constant or of continuous ones. Ignored if ``n_segments`` is given.
    min_size : int
        Fewest observations in a piece, >= 2.
    kind : "linear" or "constant"
    continuous : bool
        Straight pieces that meet at observations, at most three. Of more than 1,000 observations only 1,000 may
        be knots, spread evenly over both ``x`` and the observations.

    Raises
    ------
    ValueError
        For x and y of different shapes, x that does not increase or is not finite, infinite y, too few
        observations for the pieces or for an estimate of the noise, parameters out of range.
    """
    x, y = check_xy(x, y)
    _check_pieces(len(x), n_segments, min_size, kind, continuous)
    cost = np.nan
    if n_segments is None:
        cost = _penalty(x, y, penalty, 3 if kind == "linear" and not continuous else 2)
    u, scale = (x - x.mean()) / np.ptp(x), np.ptp(y) or 1.0
    v = (y - y.mean()) / scale
    if continuous:
        breaks = _broken_stick(u, v, n_segments, cost / scale**2, min_size)
    elif n_segments is None:
        breaks = _pruned(u, v, cost / scale**2, min_size, kind == "linear")
    else:
        breaks = _neighbourhood(u, v, n_segments, min_size, kind == "linear")
    return _fit(x, y, breaks, cost, kind == "linear", continuous)


def check_xy(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, both float64 of shape (n,), without the observations whose y is NaN."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected x and y of one shape (n,), got {x.shape} and {y.shape}; pass one curve")
    if not np.isfinite(x).all() or (np.diff(x) <= 0).any():
        raise ValueError("expected finite, strictly increasing x, got unsorted, repeated or non-finite ones; sort by x")
    if np.isinf(y).any():
        raise ValueError(
            f"expected finite y or NaN, got {np.isinf(y).sum()} infinite; set them to NaN to leave them out"
        )
    return x[~np.isnan(y)], y[~np.isnan(y)]


def _check_pieces(n: int, n_segments: int | None, min_size: int, kind: str, continuous: bool) -> None:
    if kind not in ("linear", "constant") or (continuous and kind == "constant"):
        raise ValueError(
            f"expected kind='linear' or, not continuous, 'constant', got kind={kind!r}, continuous={continuous}"
        )
    if min_size < 2:
        raise ValueError(f"expected min_size >= 2, got {min_size}; one observation makes no line")
    if n_segments is not None and (n_segments < 1 or (continuous and n_segments > 3)):
        raise ValueError(
            f"expected n_segments >= 1{' and at most 3 that meet' if continuous else ''}, got {n_segments}; "
            "pieces that need not meet (continuous=False) may be any number"
        )
    # Pieces that meet share their knots.
    least = (n_segments or 1) * min_size - ((n_segments or 1) - 1 if continuous else 0)
    if n < least:
        raise ValueError(
            f"expected at least {least} observations for {n_segments or 1} pieces of {min_size}, got {n}; "
            "ask for fewer pieces or a smaller min_size"
        )


def _penalty(x: np.ndarray, y: np.ndarray, penalty: float | str, n_parameters: int) -> float:
    """The given penalty, or ``q log(n) sd^2 (1 + phi) / (1 - phi)``, in squared units of y."""
    if penalty != "bic":
        if isinstance(penalty, str) or not penalty > 0:
            raise ValueError(f"expected penalty > 0 or 'bic', got {penalty!r}; or pass n_segments")
        return float(penalty)
    if len(y) < _LEAST_FOR_NOISE:
        raise ValueError(
            f"expected at least {_LEAST_FOR_NOISE} observations to estimate the noise, got {len(y)}; "
            "pass penalty=a number or n_segments"
        )
    sd, phi = difference_noise(x, y)
    return n_parameters * float(np.log(len(y))) * max(sd, resolution_floor(y)) ** 2 * variance_inflation(phi)


class _Pieces:
    """All pieces that end at the present observation, one for each start still in the race.

    Means, cross products and residual sum of squares are updated observation by observation (recursive
    residuals: Brown, Durbin and Evans 1975), so that nothing cancels and the sum of squares never falls.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, linear: bool) -> None:
        self.x, self.y, self.linear = x, y, linear
        self.start = np.empty(0, dtype=int)
        self.moments = np.empty((5, 0))  # mean x, mean y, Sxx, Sxy, residual sum of squares

    def advance(self, t: int) -> None:
        """Let all pieces take in observation t - 1; the one of the last two begins."""
        size = t - 1 - self.start
        mean_x, mean_y, sxx, sxy, rss = self.moments
        dx, dy = self.x[t - 1] - mean_x, self.y[t - 1] - mean_y
        shrink = size / (size + 1)
        if self.linear:
            surprise = dy - sxy / sxx * dx
            rss += surprise**2 / (1 / shrink + dx**2 / sxx)
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
        self.start, self.moments = self.start[chosen], self.moments[:, chosen]


def _pruned(x: np.ndarray, y: np.ndarray, penalty: float, min_size: int, linear: bool) -> np.ndarray:
    """Breaks of the best partition; ``best[t]`` is the least cost of the first t observations."""
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
        # A start that is no better than a new piece from t will never be, once that piece is long enough to exist.
        beaten = start[total >= best[t]]
        doomed[beaten] = np.minimum(doomed[beaten], t + min_size)
        alive = doomed[pieces.start] > t + 1
        if not alive.all():
            pieces.keep(alive)
    return _trace(before, n)


def _trace(before: np.ndarray, end: int) -> np.ndarray:
    breaks = []
    while before[end] > 0:
        end = before[end]
        breaks.append(end)
    return np.array(breaks[::-1], dtype=int)


def _neighbourhood(x: np.ndarray, y: np.ndarray, n_segments: int, min_size: int, linear: bool) -> np.ndarray:
    """Breaks of the best partition into so many pieces; ``best[p, t]``: the first t observations in p pieces."""
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


def _broken_stick(x: np.ndarray, y: np.ndarray, n_segments: int | None, penalty: float, min_size: int) -> np.ndarray:
    none = np.empty(0, dtype=int)
    if n_segments == 1:
        return none
    sticks = segmented_fit(x, y, min_size=min_size)
    choices = [(sticks.rss0, none)]  # as many as there is room for
    if sticks.rss1.size:
        choices.append((sticks.rss1.min() + penalty, sticks.knots[[np.argmin(sticks.rss1)]]))
    if sticks.rss2.size:
        choices.append((sticks.rss2.min() + 2 * penalty, sticks.knots[sticks.pairs[:, np.argmin(sticks.rss2)]]))
    return choices[n_segments - 1][1] if n_segments else min(choices, key=lambda choice: choice[0])[1]


def _fit(x: np.ndarray, y: np.ndarray, breaks: np.ndarray, penalty: float, linear: bool, joined: bool) -> Segmentation:
    """Least squares for given breaks, afresh."""
    edges = [0, *breaks.tolist(), len(x)]
    if joined:
        slopes, levels, at = _fit_joined(x, y, breaks)
    else:
        spans = [slice(a, b) for a, b in pairwise(edges)]
        at, levels = np.array([x[s].mean() for s in spans]), np.array([y[s].mean() for s in spans])
        slopes = np.array([_slope(x[s], y[s]) if linear else 0.0 for s in spans])
    piece = np.repeat(np.arange(len(slopes)), np.diff(edges))
    values = levels[piece] + slopes[piece] * (x - at[piece])
    rss = float(((y - values) ** 2).sum())
    return Segmentation(breaks, x[breaks], slopes, levels - slopes * at, rss, penalty, values)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    dx = x - x.mean()
    return float(dx @ y / (dx @ dx))


def _fit_joined(x: np.ndarray, y: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes of the pieces, level at the left end of each, and where that is."""
    at = np.append(x[0], x[knots])
    hinges = np.maximum(x[:, None] - at, 0.0)  # (n, pieces)
    design = np.column_stack([np.ones_like(x), hinges / np.ptp(x)])
    level, *bends = np.linalg.lstsq(design, y, rcond=None)[0]
    slopes = np.cumsum(bends) / np.ptp(x)
    return slopes, level + np.append(0.0, np.cumsum(slopes[:-1] * np.diff(at))), at
