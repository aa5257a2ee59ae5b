"""Test whether all runs have a second phase: a rise, and a fall after it.

The distribution under the null hypothesis comes from the runs alone, so that the noise may have any correlation in
time.
"""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.phases.markers.marker import Status, check_steps
from probe.phases.over_runs.copies import equal_runs, name_groups
from probe.stats.noise import resolution_floor
from probe.stats.one_grid import on_one_grid

_LEAST_RUNS = 3  # with 2 runs the t-law has one degree of freedom
_LEAST_FLIPS = 5  # runs; with fewer runs the smallest p-value of a sign flip is above .05
_N_WINDOWS = 20  # in the record, side by side; with 10 a hump of a third of a decade in five would smear
_LEAST_WINDOWS = 4  # a valley, a peak, and one beside each
_ALL_FLIPS = 12  # runs up to which all sign flips are used: 4,096
_SAME_TIME = 1e-9  # log10 steps: a step this close to the edge of a window lies on the edge
_SAME_STATISTIC = 1e-12  # statistics that differ by rounding are ties


@dataclass(frozen=True, eq=False)
class AcrossRuns:
    """Result of :func:`second_phase_across`; numbers are NaN if ``status`` is "undefined".

    Attributes
    ----------
    status : Status
        "found", "absent" or "undefined".
    reason : str
        p-values, or why there are none.
    n_runs : int
        Number of runs with any value.
    p_value, p_rise, p_fall : float
        p-values of the rise and of the fall; ``p_value`` is the larger of the two.
    p_sign_flip : float
        p-value by sign flips; NaN below 5 runs.
    window : tuple of float
        First and last step of the window of the peak.
    drop : array of shape (run,)
        Held-out fall of each run, in units of the curve.
    mean_drop : float
        Its mean.
    interval : tuple of float
        Interval of the mean drop.
    drop_to_rise : float
        Mean drop / mean rise (1); NaN if the mean rise is not positive.
    interpolated : float
        Share of the values that were interpolated (1), because the runs were observed at different steps.
    """

    status: Status
    reason: str
    n_runs: int
    p_value: float = np.nan
    p_rise: float = np.nan
    p_fall: float = np.nan
    p_sign_flip: float = np.nan
    window: tuple[float, float] = (np.nan, np.nan)
    drop: np.ndarray = field(default_factory=lambda: np.empty(0))
    mean_drop: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)
    drop_to_rise: float = np.nan
    interpolated: float = 0.0


def second_phase_across(
    steps: ArrayLike, values: ArrayLike, *, alpha: float = 0.025, n_null: int = 5000, random_state: int | None = 0
) -> AcrossRuns:
    """Test over runs whether the curve rises and then falls, and measure the fall on held-out runs.

    The curve of each run is averaged in overlapping windows, each a twentieth of the record on ``log10(step + 1)``.
    The end of a run is the mean of the last tenth of its observations. Peak p and valley v < p are the windows where
    ``min(rise, fall)`` of the mean curve is largest. Two statistics of the form ``T = max mean_s(Z) /
    sqrt(mean_s(Z^2))``, which is equivalent to a one-sided t, must both be large:

    - fall: ``Z = window - end``, largest over the windows from v on;
    - rise: ``Z = later window - earlier window``, largest over all pairs up to p.

    The null distribution is that of T when random orthogonal matrices rotate the runs among themselves (Langsrud
    2005). If the expected curve is flat and the noise is Gaussian with one distribution for all runs, rotations leave
    the distribution of the data unchanged, at any correlation in time. The size of the test is then exact, also at 3
    runs. A trend in the wrong direction makes the test stricter. ``p_sign_flip`` flips the signs of whole runs
    instead, all ``2^S`` of them up to 12 runs. It is exact for any symmetric noise, but never below ``1 / 2^S``.

    The fall of each run is measured at the peak of the mean of the *other* runs, so that its own noise does not
    increase it.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps.
    values : array of shape (run, n)
        NaN for a missing value, or after a run has ended. Values between two observations of a run are interpolated
        on ``log10(step + 1)``, so that the runs may have different steps. Each run has its own end; the peak lies
        before the first of these ends.
    alpha : float
        Size of the one-sided test.
    n_null : int
        Number of rotations; the least p-value is 1 / (1 + n_null).
    random_state : int or None
        Seed of the rotations.

    Returns
    -------
    AcrossRuns
        "found" if p <= alpha, else "absent"; "undefined" with fewer than 3 runs or 4 windows in common, or if a run
        is a copy of another run, up to scale, offset and steps. The interval is the 1 - 2 alpha t interval of the
        mean held-out drop.

    Raises
    ------
    ValueError
        For shapes that do not match, steps out of order, infinite values, or ``alpha`` below the least p-value.

    See Also
    --------
    second_descent : The test of a single run.

    Notes
    -----
    The test searches for the phase at one time in all runs. Humps that differ in time by more than their width smear
    in the mean; :func:`probe.phases.second_descent` tests each run by itself.

    Measured on 500 sets of 3 to 8 runs of 120 observations, alpha .025 (``docs/benchmarks/across_truth.py``): the rate
    of false positives is .014 to .032 after a rise to a plateau and below .01 on flat curves, with AR(1) noise at
    correlations of 0 to .8 and with random walks. For runs with different steps (even, log-spaced, random in turn) it
    is 0 to .025 (400 sets). A t-test on the held-out falls would have a rate of .03 to .09, which increases with the
    number of runs: if the held-out means agree on a window by chance, all runs are high there. The interval of the
    mean drop is nevertheless that t interval, because there is no better one; at .95 its coverage is .83 to .96.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import second_phase_across
    >>> x = np.linspace(0, 4, 60)
    >>> noise = 0.1 * np.random.default_rng(0).standard_normal((6, 60))
    >>> result = second_phase_across(10**x - 1, np.exp(-(((x - 2) / 0.5) ** 2)) + noise, n_null=199)
    >>> print(result.status, result.p_value <= 0.025, result.interval[0] > 0)
    found True True
    """
    s, v, rows = _check(steps, values, alpha, n_null)
    if len(v) < _LEAST_RUNS:
        return AcrossRuns(Status.UNDEFINED, f"the test needs {_LEAST_RUNS} runs, got {len(v)}", len(v))
    if copies := equal_runs(v):
        named = name_groups(rows[group].tolist() for group in copies)
        return AcrossRuns(Status.UNDEFINED, named, len(v))
    x = np.log10(s + 1)
    v, interpolated = on_one_grid(x, v)
    means, first, after = _windows(x, v)
    n_windows = means.shape[1]
    if n_windows < _LEAST_WINDOWS:
        reason = f"the test needs {_LEAST_WINDOWS} windows that all runs have in common, got {n_windows}"
        return AcrossRuns(Status.UNDEFINED, reason, len(v), interpolated=interpolated)
    gaps = means - np.array([_end(run)[1] for run in v])[:, None]
    # Rounding, which is the same in all runs, would count as a certain difference.
    gaps[np.abs(gaps) <= resolution_floor(v[~np.isnan(v)])] = 0.0
    valley, peak = _locate(gaps.mean(axis=0))
    p_rise, p_fall = _p_values(gaps, valley, peak, _rotations(len(v), n_null, random_state))
    p, p_flip = max(p_rise, p_fall), np.nan
    if len(v) >= _LEAST_FLIPS:
        p_flip = max(_p_values(gaps, valley, peak, _flips(len(v), n_null, random_state)))
    window = (float(s[first[peak]]), float(s[after[peak] - 1]))
    status = Status.FOUND if p <= alpha else Status.ABSENT
    numbers = {"window": window, **_drops(gaps, alpha), "interpolated": interpolated}
    return AcrossRuns(status, _reason(p_rise, p_fall, alpha), len(v), p, p_rise, p_fall, p_flip, **numbers)


def _drops(gaps: np.ndarray, alpha: float) -> dict[str, Any]:
    """Return the held-out falls, their mean and its interval, and their ratio to the rise."""
    drop, rise = _held_out(gaps)
    mean, half = float(drop.mean()), stats.t.ppf(1 - alpha, len(drop) - 1) * drop.std(ddof=1) / np.sqrt(len(drop))
    ratio = float(mean / rise.mean()) if rise.mean() > 0 else np.nan
    return {
        "drop": drop,
        "mean_drop": mean,
        "interval": (float(mean - half), float(mean + half)),
        "drop_to_rise": ratio,
    }


def _check(steps: ArrayLike, values: ArrayLike, alpha: float, n_null: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps (n,), the runs (run, n) that have any value, and the indices of these runs."""
    if not 1 / (1 + n_null) <= alpha < 0.5:
        raise ValueError(f"Expected 1 / (1 + n_null) <= alpha < .5, got alpha={alpha}, n_null={n_null}; raise n_null.")
    s, v = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if s.ndim != 1 or v.ndim != 2 or v.shape[1:] != s.shape:
        raise ValueError(f"Expected steps (n,) and values (run, n), got {s.shape} and {v.shape}; pass runs as rows.")
    check_steps(s)
    if np.isinf(v).any():
        raise ValueError(f"Expected finite values or NaN, got {np.isinf(v).sum()} infinite ones; set them to NaN.")
    rows = np.flatnonzero(~np.isnan(v).all(axis=1))
    return s, v[rows], rows


def _end(run: np.ndarray) -> tuple[int, float]:
    """Return the index where the last tenth of the values of a run begins, and their mean."""
    valid = np.flatnonzero(~np.isnan(run))
    last = valid[-max(1, len(valid) // 10) :]
    return int(last[0]), float(run[last].mean())


def _windows(x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means (run, window), and the indices of the first observation of each window and of the first after it.

    Windows lie before the last tenth of every run. A window is dropped if a run lacks half of its values there.
    """
    limit = min(_end(run)[0] for run in v)
    width = np.ptp(x) / _N_WINDOWS
    starts = np.arange(x[0], x[-1], width / 2)
    cuts = [np.searchsorted(x[:limit], edge - _SAME_TIME) for edge in (starts, starts + width)]
    first, after = np.unique([(a, b) for a, b in zip(*cuts, strict=True) if a < b], axis=0).reshape(-1, 2).T
    sums = [np.pad(np.cumsum(array, axis=1), ((0, 0), (1, 0))) for array in (np.nan_to_num(v), ~np.isnan(v))]
    total, count = (array[:, after] - array[:, first] for array in sums)
    enough = (2 * count >= after - first).all(axis=0)
    return total[:, enough] / count[:, enough], first[enough], after[enough]


def _locate(mean: np.ndarray) -> tuple[int, int]:
    """Return valley and peak, where the smaller of rise and fall is largest; ``mean`` is relative to the end."""
    peak = int(np.argmax(np.minimum(mean, mean - np.minimum.accumulate(mean))))
    return int(np.argmin(mean[: peak + 1])), peak


def _held_out(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return fall and rise of each run (run,) at the peak and the valley of the mean of the others."""
    others = (gaps.sum(axis=0) - gaps) / (len(gaps) - 1)
    places = [_locate(mean) for mean in others]
    fall = np.array([run[peak] for run, (_, peak) in zip(gaps, places, strict=True)])
    return fall, fall - np.array([run[valley] for run, (valley, _) in zip(gaps, places, strict=True)])


def _p_values(gaps: np.ndarray, valley: int, peak: int, images: np.ndarray) -> tuple[float, float]:
    """Return the p-values of the rise and of the fall."""
    early, late = np.triu_indices(peak + 1, 1)
    rise = _p_value(gaps[:, late] - gaps[:, early], images) if peak else 1.0
    return rise, _p_value(gaps[:, valley:], images)


def _p_value(z: np.ndarray, images: np.ndarray) -> float:
    """Return the p-value of the largest mean over root mean square.

    ``images`` (image, run) are the images of the row of ones. A rotation changes only the mean, and the mean of the
    rotated runs is a projection on a rotated (1, .., 1).
    """
    size = np.sqrt((z**2).mean(axis=0))
    unit = np.divide(z, size, out=np.zeros_like(z), where=size > 0) / len(z)  # all zero: no evidence, T = 0
    at_least = (images @ unit).max(axis=1) >= unit.sum(axis=0).max() - _SAME_STATISTIC
    return float(at_least.mean())


def _rotations(n_runs: int, n: int, seed: int | None) -> np.ndarray:
    """Return images (n + 1, run) of (1, .., 1) under random rotations, uniform on the sphere; the first is itself."""
    normal = np.random.default_rng(seed).standard_normal((n, n_runs))
    sphere = normal * np.sqrt(n_runs / (normal**2).sum(axis=1, keepdims=True))
    return np.vstack([np.ones(n_runs), sphere])


def _flips(n_runs: int, n: int, seed: int | None) -> np.ndarray:
    """Return all sign flips (2^run, run), or n random flips and the identity above 12 runs."""
    if n_runs <= _ALL_FLIPS:
        return np.array(list(product((1.0, -1.0), repeat=n_runs)))
    return np.vstack([np.ones(n_runs), np.random.default_rng(seed).choice((-1.0, 1.0), (n, n_runs))])


def _reason(p_rise: float, p_fall: float, alpha: float) -> str:
    parts = [(p_rise, "rise"), (p_fall, "fall after it")]
    missing = [f"the runs share no {word} (p = {p:.2g})" for p, word in parts if p > alpha]
    return "; ".join(missing) if missing else f"rise p = {p_rise:.2g}, fall after it p = {p_fall:.2g}"
