"""Distances and order of the markers of each run.

Distances are in dex, ``D = log10((t_b + 1) / (t_a + 1))``: the number of factors of ten by which the second marker of a
pair comes after the first. Coincidence in one run is weak evidence (:func:`chance_level`). Markers that move together
over runs are strong evidence (:mod:`probe.phases.over_runs.comovement`).

A censored marker is a bound, not a missing value: the bound often decides the order, and sometimes the verdict. No
order of the markers is assumed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from probe.phases.markers.marker import Status
from probe.stats.censored import log_bounds

# A marker without a time, or with an unknown time.
_UNBOUNDED = (Status.ABSENT, Status.NOT_REACHED, Status.UNDEFINED, Status.UNDECIDED)
_ROUNDING = 1e-9  # dex; 10**x - 1 and its inverse are exact to 1e-15


def align(
    markers: xr.Dataset,
    *,
    first_step: ArrayLike,
    last_step: ArrayLike,
    delta: float = 0.25,
    level: float = 0.9,
) -> xr.Dataset:
    """Compute distances of all pairs of markers in each run, with intervals and verdicts.

    The intervals of both markers are combined under the assumption of independent errors. With arms ``l = x - lower``
    and ``u = upper - x`` in dex, D reaches from ``D - sqrt(u_a^2 + l_b^2)`` to ``D + sqrt(l_a^2 + u_b^2)`` (Zou and
    Donner 2008, MOVER), so that skewed intervals stay skewed. The arms of intervals at other levels are in the ratio
    of the normal quantiles.

    Parameters
    ----------
    markers : xarray.Dataset
        Dimensions (run, marker), variables step, lower, upper, status, as ``PhaseDetector.markers_``.
    first_step, last_step : float or array of shape (run,)
        Ends of the record; a censored marker lies before the first or after the last step.
    delta : float
        Largest distance that counts as aligned (dex); 0.25 is a factor of 1.8.
    level : float
        Coverage of the intervals of the markers.

    Returns
    -------
    xarray.Dataset
        Dimensions (run, pair), with the coordinates ``marker_a`` and ``marker_b`` of each pair.

        - ``distance``: D (dex), NaN if a marker of the pair is censored.
        - ``lower``, ``upper``: 90 % interval (dex), infinite without a bound.
        - ``order``: whether a comes "before", at the "same" step as, or "after" b; "open" if censoring hides it.
        - ``verdict``: "aligned" if the 90 % interval lies within +-delta (two one-sided tests at 5 %). "misaligned" if
          the 95 % interval excludes 0 and abs(D) > delta (for a censored pair: at its bound). Otherwise "undecided".
        - ``share``: D in units of ``gap`` (1).
        - ``gap``: distance (run) from fit_end to end (dex).
        - ``chance``, ``chance_after_fit``: :func:`chance_level` (run, n_markers) over the record and over its part
          after fit_end.

    Raises
    ------
    ValueError
        If a variable or a dimension is missing; for an unknown status, delta <= 0 or a level outside (0, 1).

    See Also
    --------
    order_shares : Share of the runs with each order.
    co_movement : Whether two markers move together over runs.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.phases import align
    >>> at = {"step": [[99.0, 9999.0]], "lower": [[89.0, 8999.0]], "upper": [[109.0, 10999.0]]}
    >>> variables = {name: (("run", "marker"), steps) for name, steps in at.items()}
    >>> variables["status"] = (("run", "marker"), [["found", "found"]])
    >>> markers = xr.Dataset(variables, {"run": [0], "marker": ["fit_end", "end"]})
    >>> pair = align(markers, first_step=0, last_step=99999).isel(run=0, pair=0)
    >>> print(float(pair["distance"]), pair["verdict"].item())
    2.0 misaligned
    """
    if not (0 < delta < np.inf and 0 < level < 1):
        raise ValueError(
            f"Expected delta > 0 and 0 < level < 1, got delta={delta} and level={level}; 0.25 and 0.9 are usual."
        )
    times = marker_times(markers, first_step, last_step)
    a, b = np.triu_indices(len(times.names), 1)
    least, most = times.low[:, b] - times.high[:, a], times.high[:, b] - times.low[:, a]
    down, up = np.hypot(times.right[:, a], times.left[:, b]), np.hypot(times.left[:, a], times.right[:, b])
    arms = stats.norm.ppf([0.95, 0.975]) / stats.norm.isf((1 - level) / 2)  # of 90 % and 95 % intervals
    intervals = [(least - q * down, most + q * up) for q in arms]
    distance = np.where(least == most, least, np.nan)
    gap, (record, after_fit) = _gap(times), _spans(times, first_step, last_step)
    pair, n_markers = ("run", "pair"), np.arange(2, len(times.names) + 1)
    result = xr.Dataset(
        {
            "distance": (pair, distance, {"units": "dex"}),
            "lower": (pair, intervals[0][0], {"units": "dex"}),
            "upper": (pair, intervals[0][1], {"units": "dex"}),
            "order": (pair, _order(least, most)),
            "verdict": (pair, judge(intervals, least, most, delta)),
            "share": (pair, distance / gap[:, None]),
            "gap": ("run", gap, {"units": "dex"}),
            "chance": (("run", "n_markers"), chance_level(n_markers, record[:, None], delta)),
            "chance_after_fit": (("run", "n_markers"), chance_level(n_markers, after_fit[:, None], delta)),
        },
        {**_pairs(times.names, a, b), "n_markers": n_markers},
        {"delta": delta, "level": level},
    )
    return result.assign_coords(run=markers["run"]) if "run" in markers.coords else result


def _pairs(names: list[str], a: np.ndarray, b: np.ndarray) -> dict[str, object]:
    """Return the coordinates of the pairs."""
    return {
        "pair": [f"{names[i]} - {names[j]}" for i, j in zip(a, b, strict=True)],
        "marker_a": ("pair", [names[i] for i in a]),
        "marker_b": ("pair", [names[j] for j in b]),
    }


def chance_level(n_markers: ArrayLike, span: ArrayLike, delta: float) -> np.ndarray:
    """Return the probability that independent times, uniform in log over a record, lie within ``delta``.

    ``k r^(k-1) - (k-1) r^k`` with ``r = min(delta / span, 1)`` and ``k`` markers, the distribution of the range of a
    uniform sample (David and Nagaraja, Order Statistics, section 2.3).

    Parameters
    ----------
    n_markers : int or array
        Number of times, broadcast against ``span``.
    span : float or array
        Length of the record (dex).
    delta : float
        Largest distance between two of the times (dex).

    Returns
    -------
    array
        NaN where the span is NaN, 1 where it is 0.

    See Also
    --------
    align : Returns this probability for each run.

    Examples
    --------
    >>> from probe.phases import chance_level
    >>> print(chance_level([2, 3], 5.0, 0.25).round(3).tolist())
    [0.098, 0.007]
    """
    k, span = np.asarray(n_markers, dtype=float), np.asarray(span, dtype=float)
    r = np.minimum(delta / np.maximum(span, np.finfo(float).tiny ** 0.5), 1.0)  # at span 0 all times coincide
    return np.asarray(k * r ** (k - 1) - (k - 1) * r**k)


def order_shares(aligned: xr.Dataset) -> xr.Dataset:
    """Return the share of the runs with each observed order, without regard to intervals.

    Parameters
    ----------
    aligned : xarray.Dataset
        Result of :func:`align`.

    Returns
    -------
    xarray.Dataset
        Dimension pair. ``before``, ``same`` and ``after``: share of the runs in which a comes before, with or after b.
        ``open``: share of the runs in which censoring hides the order. The four sum to 1.

    See Also
    --------
    align : Orders and distances run by run.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.phases import order_shares
    >>> aligned = xr.Dataset({"order": (("run", "pair"), [["before"], ["before"], ["open"], ["after"]])})
    >>> shares = order_shares(aligned)
    >>> print(float(shares["before"][0]), float(shares["open"][0]))
    0.5 0.25
    """
    return xr.Dataset({word: (aligned["order"] == word).mean("run") for word in ("before", "same", "after", "open")})


class Times(NamedTuple):
    """Bounds and intervals of the markers of each run on ``log10(step + 1)``; arrays of shape (run, marker)."""

    names: list[str]
    low: np.ndarray  # bounds of each time, equal if the marker was found
    high: np.ndarray
    left: np.ndarray  # arms of the interval (dex)
    right: np.ndarray


def marker_times(markers: xr.Dataset, first_step: ArrayLike, last_step: ArrayLike) -> Times:
    """Read times, bounds and intervals from a Dataset of markers."""
    wanted = ("step", "lower", "upper", "status")
    missing = [name for name in wanted if name not in markers or set(markers[name].dims) != {"run", "marker"}]
    if missing or "marker" not in markers.coords:
        raise ValueError(
            f"Expected {wanted} over (run, marker), got {dict(markers.sizes)} without {missing or 'names'}; pass "
            "PhaseDetector.markers_, or a Dataset of the same form."
        )
    table = markers[list(wanted)].transpose("run", "marker")
    step, lower, upper, status = (table[name].values for name in wanted)
    ends = [np.broadcast_to(np.asarray(end, dtype=float), (len(status),))[:, None] for end in (first_step, last_step)]
    low, high = log_bounds(step, step, step, status, *ends)
    free = np.isin(status, _UNBOUNDED)
    low, high = np.where(free, -np.inf, low), np.where(free, np.inf, high)
    below, above = log_bounds(step, lower, upper, status, *ends)
    found = status == Status.FOUND
    left, right = (np.subtract(p, q, out=np.zeros(low.shape), where=found) for p, q in ((low, below), (above, high)))
    if (left < -_ROUNDING).any() or (right < -_ROUNDING).any():
        raise ValueError("Expected lower <= step <= upper for every found marker, got another order; correct markers.")
    names = [str(name) for name in markers["marker"].values]
    return Times(names, low, high, np.maximum(left, 0), np.maximum(right, 0))


def _order(least: np.ndarray, most: np.ndarray) -> np.ndarray:
    cases = [least > 0, most < 0, (least == 0) & (most == 0)]
    return np.select(cases, ["before", "after", "same"], "open")


def judge(
    intervals: Sequence[tuple[ArrayLike, ArrayLike]], least: ArrayLike, most: ArrayLike, delta: float
) -> np.ndarray:
    """Return verdicts from the 90 % and the 95 % interval, and the bounds of the estimate (equal if not censored)."""
    (lower, upper), (lower95, upper95) = ((np.asarray(a), np.asarray(b)) for a, b in intervals)
    aligned = (lower > -delta) & (upper < delta)
    apart = ((lower95 > 0) & (np.asarray(least) > delta)) | ((upper95 < 0) & (np.asarray(most) < -delta))
    return np.select([aligned, apart], ["aligned", "misaligned"], "undecided")


def _gap(times: Times) -> np.ndarray:
    """Return the distance (run,) from fit_end to end; NaN if a marker is not found or the distance not positive."""
    names, low, high = times.names, times.low, times.high
    if not {"fit_end", "end"} <= set(names):
        return np.full(len(low), np.nan)
    begin, end = names.index("fit_end"), names.index("end")
    known = (low[:, begin] == high[:, begin]) & (low[:, end] == high[:, end]) & (low[:, end] > low[:, begin])
    return np.subtract(low[:, end], low[:, begin], out=np.full(len(low), np.nan), where=known)


def _spans(times: Times, first_step: ArrayLike, last_step: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths in dex (run,) of the record, and of its part after fit_end (NaN if fit_end is not found)."""
    n_runs = len(times.low)
    first, last = (np.broadcast_to(np.log10(np.asarray(e, dtype=float) + 1), n_runs) for e in (first_step, last_step))
    if "fit_end" not in times.names:
        return last - first, np.full(n_runs, np.nan)
    fit = times.names.index("fit_end")
    found = times.low[:, fit] == times.high[:, fit]
    return last - first, np.subtract(last, times.low[:, fit], out=np.full(n_runs, np.nan), where=found)
