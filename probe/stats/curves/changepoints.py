"""Change points of a curve: exact segmentation into straight or constant pieces.

    argmin over breaks   sum of squared residuals of all pieces + penalty * number of breaks

The minimum is global. :mod:`probe.stats.curves.partitioning` fits pieces that need not meet. Pieces that meet ("broken
stick", at most three) are fitted for all knots, or pairs of knots, at once: :mod:`probe.stats.segmented`.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from probe.errors import warn_user
from probe.stats.curves.partitioning import fixed_partition, optimal_partition
from probe.stats.noise import difference_noise, resolution_floor, variance_inflation
from probe.stats.segmented import segmented_fit
from probe.stats.validation import as_vectors

_MIN_FOR_NOISE = 8  # observations
_MAX_CONTINUOUS = 3  # pieces that meet

Kind = Literal["linear", "constant", "auto"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Pieces ``intercepts[p] + slopes[p] * x`` of a curve, and where they begin.

    Attributes
    ----------
    kind : "linear" or "constant"
        Kind of the pieces.
    breaks : integer array of shape (pieces - 1,)
        Index of the first observation of each piece except the first; of continuous pieces, index of the knot.
    x_breaks : array of shape (pieces - 1,)
        ``x`` at the breaks.
    slopes, intercepts : array of shape (pieces,)
        In units of y per unit of x, and in units of y (at x = 0).
    rss : float
        Residual sum of squares, in squared units of y.
    penalty : float
        Penalty per break, in squared units of y; NaN if the number of pieces was given.
    values : array of shape (n,)
        Fitted values at the observations.
    cuts_trend : bool or None
        Whether constant pieces cut a trend into steps, see :func:`piecewise_linear`; None if it was not tested.
    """

    kind: str
    breaks: np.ndarray
    x_breaks: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray
    rss: float
    penalty: float
    values: np.ndarray
    cuts_trend: bool | None = None

    def fitted(self, x: ArrayLike) -> np.ndarray:
        """Return the fit at any ``x``; the first and the last piece extend beyond the record."""
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
    kind: Kind = "linear",
    continuous: bool = False,
) -> Segmentation:
    """Cut a curve into pieces with the least residual sum of squares plus a penalty per break.

    Parameters
    ----------
    x, y : array of shape (n,)
        ``x`` increases; it need not be evenly spaced. Observations whose ``y`` is NaN are dropped, and ``breaks``
        counts the remaining ones.
    n_segments : int, optional
        Number of pieces. By default, the penalty decides.
    penalty : float or "bic"
        Least decrease of the residual sum of squares per break, in squared units of y. "bic" is
        ``q log(n) sd^2 (1 + phi) / (1 - phi)`` with the noise of :func:`difference_noise` and q parameters per break:
        3 for straight pieces (place, slope, level), 2 for constant or continuous pieces. Ignored if ``n_segments`` is
        given.
    min_size : int
        Fewest observations of a piece, at least 2.
    kind : "linear", "constant" or "auto"
        Straight or constant pieces. "auto" returns constant pieces unless they cut a trend into steps (see Notes), and
        straight pieces otherwise; it requires ``penalty="bic"``.
    continuous : bool
        Straight pieces that meet at observations, at most three. If there are more than 1,000 observations, 1,000 of
        them are candidates for the knots, spread evenly over both ``x`` and the observations.

    Returns
    -------
    Segmentation

    Raises
    ------
    ValueError
        If x and y have different shapes, x does not increase or is not finite, y is infinite, there are too few
        observations for the pieces or for an estimate of the noise, or a parameter is out of range.

    Warns
    -----
    ProbeWarning
        If constant pieces with ``penalty="bic"`` cut a trend into steps.

    See Also
    --------
    segmented_fit : Residual sums of squares for all places of one knot or two.
    probe.phases.piecewise_linear_onset : First bend of a curve, with an interval.

    Notes
    -----
    *Accuracy.* On the 31 univariate series of the Turing Change Point Dataset (van den Burg and Williams 2020), with
    the penalty "bic", the mean F1 score against the annotators is .732 for "linear", .662 for "constant", and .747 for
    "auto" (ruptures 1.1, Pelt with squared error: .683). So expect about one in four breaks to be missed or false.

    *Constant pieces and trends.* A constant piece cannot follow a trend, so that constant pieces cut a trend into
    steps: 235 breaks in one such series of 816 observations. ``cuts_trend`` is true if there are at least two breaks,
    and straight pieces have the lower cost: residual sum of squares plus the penalty of all parameters. It is true for
    17 of the 31 series, which hold 377 of the 397 breaks; there, F1 is .54 for "constant" and .70 for "linear".

    Simulated records of 100 and 300 observations, with AR(1) noise of correlation 0, .6 and .9, 100 records each:

    ==========================================================  =========================================
    curve                                                       ``cuts_trend`` is true
    ==========================================================  =========================================
    trend that constant pieces cut into three pieces or more    99 % of 6,672 records (12 shapes: straight,
                                                                exponential, logarithmic, ramp, line and step;
                                                                rise 5 to 100 sd)
    noise alone                                                 3 % of 600 (10 % at n = 100, correlation .9)
    one step of 2, 4 or 10 sd                                   1 % of 1,800
    four steps of both signs                                    2 % of 1,200
    three equal steps of one sign, evenly spaced                0 to 21 % if a piece has at least 19 independent
                                                                observations, up to 97 % otherwise
    five or eight such steps                                    up to 100 %
    ==========================================================  =========================================

    A staircase of many short steps cannot be distinguished from a trend. The simpler criterion of three successive
    steps of one sign would be true for 90 to 100 % of all staircases that were found.

    *Correlated noise.* The penalty "bic" is meant for AR(1) noise up to a correlation of .9, the largest that it
    estimates. False breaks occur in 3 to 8 % of records of white noise, and in 20 to 34 % at a correlation of .9.

    References
    ----------
    Yao (1988) for the penalty of constant pieces; Zhang and Siegmund (2007) give finer terms.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import piecewise_linear
    >>> x = np.arange(60.0)
    >>> noise = 0.05 * np.random.default_rng(0).standard_normal(60)
    >>> found = piecewise_linear(x, np.where(x < 40, 0.1 * x, 9 - 0.1 * x) + noise)
    >>> print(found.x_breaks, found.slopes.round(1))
    [40.] [ 0.1 -0.1]
    >>> piecewise_linear(x, 0.1 * x + noise, kind="auto").kind
    'linear'
    >>> piecewise_linear(x, 1.0 * (x > 20) + noise, kind="auto").kind
    'constant'
    """
    x, y = check_xy(x, y)
    _check_pieces(len(x), n_segments, min_size, kind, continuous)
    if kind == "auto" and (n_segments is not None or penalty != "bic"):
        raise ValueError(
            f"Expected penalty='bic' and no n_segments with kind='auto', got penalty={penalty!r} and "
            f"n_segments={n_segments}; pass kind='linear' or 'constant'"
        )
    if kind == "linear" or n_segments is not None or penalty != "bic":
        return _segment(x, y, n_segments, penalty, min_size, kind == "linear", continuous)
    constant = _segment(x, y, None, penalty, min_size, False, False)
    if len(constant.breaks) < 2:
        return replace(constant, cuts_trend=False)
    linear = _segment(x, y, None, penalty, max(min_size, 3), True, False)
    cuts = _cost(linear) + constant.penalty / 2 < _cost(constant)  # the slope of the first piece is one parameter
    if kind == "auto" and cuts:
        return linear
    if cuts:
        warn_user(_trend_message(constant, linear))
    return replace(constant, cuts_trend=cuts)


def _cost(fit: Segmentation) -> float:
    return fit.rss + fit.penalty * len(fit.breaks)


def _trend_message(constant: Segmentation, linear: Segmentation) -> str:
    return (
        f"Expected levels with steps between them, got a trend that constant pieces cut into {len(constant.slopes)} "
        f"steps; straight pieces describe it better, with {len(linear.breaks)} breaks: pass kind='linear' or 'auto'"
    )


def _segment(
    x: np.ndarray,
    y: np.ndarray,
    n_segments: int | None,
    penalty: float | str,
    min_size: int,
    linear: bool,
    continuous: bool,
) -> Segmentation:
    cost = np.nan
    if n_segments is None:
        cost = _penalty(x, y, penalty, 3 if linear and not continuous else 2)
    u, scale = (x - x.mean()) / np.ptp(x), np.ptp(y) or 1.0
    v = (y - y.mean()) / scale
    if continuous:
        breaks = _broken_stick(u, v, n_segments, cost / scale**2, min_size)
    elif n_segments is None:
        breaks = optimal_partition(u, v, cost / scale**2, min_size, linear)
    else:
        breaks = fixed_partition(u, v, n_segments, min_size, linear)
    return _fit(x, y, breaks, cost, linear, continuous)


def check_xy(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y, both float64 of shape (n,), without the observations whose y is NaN."""
    x, y = as_vectors(x=x, y=y)
    if not np.isfinite(x).all() or (np.diff(x) <= 0).any():
        raise ValueError("Expected finite, strictly increasing x, got unsorted, repeated or non-finite x; sort by x")
    if np.isinf(y).any():
        raise ValueError(f"Expected finite y or NaN, got {np.isinf(y).sum()} infinite values; replace them by NaN")
    return x[~np.isnan(y)], y[~np.isnan(y)]


def _check_pieces(n: int, n_segments: int | None, min_size: int, kind: str, continuous: bool) -> None:
    if kind not in ("linear", "constant", "auto") or (continuous and kind != "linear"):
        raise ValueError(
            f"Expected kind='linear' or, with continuous=False, 'constant' or 'auto', got kind={kind!r} and "
            f"continuous={continuous}; change one of them"
        )
    if min_size < 2:
        raise ValueError(f"Expected min_size >= 2, got {min_size}; pass 2 or more observations per piece")
    if n_segments is not None and (n_segments < 1 or (continuous and n_segments > _MAX_CONTINUOUS)):
        limit = f" and at most {_MAX_CONTINUOUS} with continuous=True" if continuous else ""
        raise ValueError(f"Expected n_segments >= 1{limit}, got {n_segments}; pass continuous=False for more pieces")
    # Continuous pieces share their knots.
    least = (n_segments or 1) * min_size - ((n_segments or 1) - 1 if continuous else 0)
    if n < least:
        raise ValueError(
            f"Expected at least {least} observations for {n_segments or 1} pieces of {min_size}, got {n}; "
            "pass fewer pieces or a smaller min_size"
        )


def _penalty(x: np.ndarray, y: np.ndarray, penalty: float | str, n_parameters: int) -> float:
    """Return the given penalty, or ``q log(n) sd^2 (1 + phi) / (1 - phi)``, in squared units of y."""
    if penalty != "bic":
        if isinstance(penalty, str) or not penalty > 0:
            raise ValueError(f"Expected penalty > 0 or 'bic', got {penalty!r}; pass one of them, or n_segments")
        return float(penalty)
    if len(y) < _MIN_FOR_NOISE:
        raise ValueError(
            f"Expected at least {_MIN_FOR_NOISE} observations to estimate the noise, got {len(y)}; "
            "pass penalty=a number or n_segments"
        )
    sd, phi = difference_noise(x, y)
    return n_parameters * float(np.log(len(y))) * max(sd, resolution_floor(y)) ** 2 * variance_inflation(phi)


def _broken_stick(x: np.ndarray, y: np.ndarray, n_segments: int | None, penalty: float, min_size: int) -> np.ndarray:
    none = np.empty(0, dtype=int)
    if n_segments == 1:
        return none
    fit = segmented_fit(x, y, min_size=min_size)
    choices = [(fit.rss0, none)]
    if fit.rss1.size:
        choices.append((fit.rss1.min() + penalty, fit.knots[[np.argmin(fit.rss1)]]))
    if fit.rss2.size:
        choices.append((fit.rss2.min() + 2 * penalty, fit.knots[fit.pairs[:, np.argmin(fit.rss2)]]))
    return choices[n_segments - 1][1] if n_segments else min(choices, key=lambda choice: choice[0])[1]


def _fit(x: np.ndarray, y: np.ndarray, breaks: np.ndarray, penalty: float, linear: bool, joined: bool) -> Segmentation:
    """Fit the pieces between given breaks by least squares, in the original units."""
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
    kind = "linear" if linear else "constant"
    return Segmentation(kind, breaks, x[breaks], slopes, levels - slopes * at, rss, penalty, values)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    dx = x - x.mean()
    return float(dx @ y / (dx @ dx))


def _fit_joined(x: np.ndarray, y: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the slopes of the pieces, the level at the left end of each, and the x of this end."""
    at = np.append(x[0], x[knots])
    hinges = np.maximum(x[:, None] - at, 0.0)  # (n, pieces)
    design = np.column_stack([np.ones_like(x), hinges / np.ptp(x)])
    level, *bends = np.linalg.lstsq(design, y, rcond=None)[0]
    slopes = np.cumsum(bends) / np.ptp(x)
    return slopes, level + np.append(0.0, np.cumsum(slopes[:-1] * np.diff(at))), at
