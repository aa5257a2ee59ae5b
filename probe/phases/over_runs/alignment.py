"""Whether the markers of a run fall together, and in what order they come.

Distances are in dex, ``D = log10((t_b + 1) / (t_a + 1))``: how many factors of ten the second marker of a pair comes
after the first. Coincidence in one run is weak evidence, see :func:`chance_level`; moving together over runs, see
:mod:`probe.phases.over_runs.comovement`, is strong.

A censored marker is a bound, not a gap in the data: it often decides the order, and sometimes the verdict. Nothing
here takes any order for granted.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats.censored import log_bounds

_UNBOUNDED = ("absent", "undefined", "undecided")  # such a marker has no time, or an unknown one: it bounds nothing
_ROUNDING = 1e-9  # dex; 10**x - 1 and back is exact to 1e-15


def align(
    markers: xr.Dataset,
    *,
    first_step: ArrayLike,
    last_step: ArrayLike,
    delta: float = 0.25,
    level: float = 0.9,
) -> xr.Dataset:
    """Distances of all pairs of markers in each run, with intervals and verdicts.

    Both intervals of a pair are combined as if their errors were independent: with arms ``l = x - lower`` and
    ``u = upper - x`` in dex, D reaches from ``D - sqrt(u_a^2 + l_b^2)`` to ``D + sqrt(l_a^2 + u_b^2)`` (Zou and
    Donner 2008, MOVER), so that skew intervals stay skew. Intervals at other levels have arms in the ratio of the
    normal quantiles.

    Parameters
    ----------
    markers : xarray.Dataset
        Dimensions (run, marker), variables step, lower, upper, status, as ``PhaseDetector.markers_``.
    first_step, last_step : float or array of shape (run,)
        Ends of the record; a censored marker lies before the one or after the other.
    delta : float
        Distance that still counts as aligned (dex); 0.25 is a factor of 1.8.
    level : float
        Level of the intervals of the markers.

    Returns
    -------
    xarray.Dataset
        Dimensions (run, pair), and the labels ``marker_a``, ``marker_b`` of each pair. ``distance`` (dex, NaN if
        one is censored), ``lower`` and ``upper`` (90 %, infinite where nothing bounds it), ``order`` ("before",
        "same", "after": what a is to b; "open" if censoring hides it), ``verdict``: "aligned" if the 90 %
        interval lies within +-delta (two one-sided tests at 5 %), "misaligned" if the 95 % interval excludes 0 and
        abs(D) > delta (for a censored pair: at its bound), else "undecided". ``share`` is D in units of ``gap`` (run),
        the distance from fit_end to end. ``chance`` (run, k) and ``chance_after_fit`` are :func:`chance_level`
        over the record and over its part after fit_end.

    Raises
    ------
    ValueError
        Without these variables and dimensions, for an unknown status, delta <= 0 or a level outside (0, 1).
    """
    if not (0 < delta < np.inf and 0 < level < 1):
        raise ValueError(f"expected delta > 0 and level between 0 and 1, got delta={delta} and level={level}")
    names, low, high, left, right = marker_times(markers, first_step, last_step)
    a, b = np.triu_indices(len(names), 1)
    least, most = low[:, b] - high[:, a], high[:, b] - low[:, a]
    down, up = np.hypot(right[:, a], left[:, b]), np.hypot(left[:, a], right[:, b])
    intervals = [
        (least - q * down, most + q * up) for q in stats.norm.ppf([0.95, 0.975]) / stats.norm.isf((1 - level) / 2)
    ]
    distance = np.where(least == most, least, np.nan)
    gap, (record, after_fit) = _gap(names, low, high), _spans(names, low, high, first_step, last_step)
    pair, k = ("run", "pair"), np.arange(2, len(names) + 1)
    result = xr.Dataset(
        {
            "distance": (pair, distance, {"units": "dex"}),
            "lower": (pair, intervals[0][0], {"units": "dex"}),
            "upper": (pair, intervals[0][1], {"units": "dex"}),
            "order": (pair, _order(least, most)),
            "verdict": (pair, judge(intervals, least, most, delta)),
            "share": (pair, distance / gap[:, None]),
            "gap": ("run", gap, {"units": "dex"}),
            "chance": (("run", "k"), chance_level(k, record[:, None], delta)),
            "chance_after_fit": (("run", "k"), chance_level(k, after_fit[:, None], delta)),
        },
        {
            "pair": [f"{names[i]} - {names[j]}" for i, j in zip(a, b, strict=True)],
            "marker_a": ("pair", [names[i] for i in a]),
            "marker_b": ("pair", [names[j] for j in b]),
            "k": k,
        },
        {"delta": delta, "level": level},
    )
    return result.assign_coords(run=markers["run"]) if "run" in markers.coords else result


def chance_level(k: ArrayLike, span: ArrayLike, delta: float) -> np.ndarray:
    """Probability that k independent times, uniform in log over ``span`` dex, lie within ``delta`` dex.

    ``k r^(k-1) - (k-1) r^k`` with ``r = min(delta / span, 1)``, the law of the range of a uniform sample (David and
    Nagaraja, Order Statistics, section 2.3). NaN where the span is NaN, 1 where it is 0.
    """
    k, span = np.asarray(k, dtype=float), np.asarray(span, dtype=float)
    r = np.minimum(delta / np.maximum(span, np.finfo(float).tiny ** 0.5), 1.0)  # a span of 0 holds all within delta
    return np.asarray(k * r ** (k - 1) - (k - 1) * r**k)


def order_shares(aligned: xr.Dataset) -> xr.Dataset:
    """Share of the runs in which a of each pair comes before, with or after b; "open": censoring hides it.

    Parameters
    ----------
    aligned : xarray.Dataset
        What :func:`align` returned.

    Returns
    -------
    xarray.Dataset
        Dimension pair: before, same, after, open, which sum to 1. The observed order, with no regard to intervals.
    """
    return xr.Dataset({word: (aligned["order"] == word).mean("run") for word in ("before", "same", "after", "open")})


def marker_times(
    markers: xr.Dataset, first_step: ArrayLike, last_step: ArrayLike
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Names; bounds low, high of each time, equal if found; arms of its interval to the left and right (dex)."""
    wanted = ("step", "lower", "upper", "status")
    missing = [name for name in wanted if name not in markers or set(markers[name].dims) != {"run", "marker"}]
    if missing or "marker" not in markers.coords:
        raise ValueError(
            f"expected {wanted} over (run, marker), got {dict(markers.sizes)} without {missing or 'names'}"
        )
    table = markers.transpose("run", "marker")
    step, lower, upper, status = (table[name].values for name in wanted)
    n = len(status)
    ends = [np.broadcast_to(np.asarray(end, dtype=float), (n,))[:, None] for end in (first_step, last_step)]
    low, high = log_bounds(step, step, step, status, *ends)
    free = np.isin(status, _UNBOUNDED)
    low, high = np.where(free, -np.inf, low), np.where(free, np.inf, high)
    below, above = log_bounds(step, lower, upper, status, *ends)
    found = status == "found"
    left, right = (np.subtract(p, q, out=np.zeros(low.shape), where=found) for p, q in ((low, below), (above, high)))
    if (left < -_ROUNDING).any() or (right < -_ROUNDING).any():
        raise ValueError("expected lower <= step <= upper for every found marker; see markers where it is not so")
    names = [str(name) for name in markers["marker"].values]
    return names, low, high, np.maximum(left, 0), np.maximum(right, 0)


def _order(least: np.ndarray, most: np.ndarray) -> np.ndarray:
    cases = [least > 0, most < 0, (least == 0) & (most == 0)]
    return np.select(cases, ["before", "after", "same"], "open")


def judge(
    intervals: Sequence[tuple[ArrayLike, ArrayLike]], least: ArrayLike, most: ArrayLike, delta: float
) -> np.ndarray:
    """Verdicts from the 90 % and the 95 % interval and the bounds of the estimate, equal if it is not censored."""
    (lower, upper), (lower95, upper95) = ((np.asarray(a), np.asarray(b)) for a, b in intervals)
    aligned = (lower > -delta) & (upper < delta)
    apart = ((lower95 > 0) & (np.asarray(least) > delta)) | ((upper95 < 0) & (np.asarray(most) < -delta))
    return np.select([aligned, apart], ["aligned", "misaligned"], "undecided")


def _gap(names: list[str], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Distance (run,) from fit_end to end; NaN if one is not found or it is not positive."""
    if not {"fit_end", "end"} <= set(names):
        return np.full(len(low), np.nan)
    begin, end = names.index("fit_end"), names.index("end")
    sure = (low[:, begin] == high[:, begin]) & (low[:, end] == high[:, end]) & (low[:, end] > low[:, begin])
    return np.subtract(low[:, end], low[:, begin], out=np.full(len(low), np.nan), where=sure)


def _spans(
    names: list[str], low: np.ndarray, high: np.ndarray, first_step: ArrayLike, last_step: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Length in dex (run,) of the record, and of its part after fit_end (NaN if that is not found)."""
    first, last = (np.broadcast_to(np.log10(np.asarray(e, dtype=float) + 1), len(low)) for e in (first_step, last_step))
    if "fit_end" not in names:
        return last - first, np.full(len(low), np.nan)
    fit = names.index("fit_end")
    found = low[:, fit] == high[:, fit]
    return last - first, np.subtract(last, low[:, fit], out=np.full(len(low), np.nan), where=found)
