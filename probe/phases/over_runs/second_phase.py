"""Is there a second phase in all runs: a rise, and a fall after it, tested over runs.

The null law comes from the runs alone, so that noise may be as correlated in time as it likes.
"""

from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats.noise import resolution_floor

_LEAST_RUNS = 3  # fewer have no spread to speak of: with 2 the t-law has one degree of freedom
_LEAST_FLIPS = 5  # runs; with fewer the smallest p-value of a sign flip is above .05
_N_WINDOWS = 20  # to the record, side by side; half of that would smear a hump of a third of a decade in five
_LEAST_WINDOWS = 4  # a valley, a peak, and one beside each
_ALL_FLIPS = 12  # runs up to which all sign flips are tried: 4,096


@dataclass(frozen=True, eq=False)
class AcrossRuns:
    """Verdict of :func:`second_phase_across`; numbers are NaN where ``status`` is "undefined"."""

    status: str  # found, absent or undefined
    reason: str
    n_runs: int
    p_value: float = np.nan  # max(p_rise, p_fall)
    p_rise: float = np.nan
    p_fall: float = np.nan
    p_sign_flip: float = np.nan  # NaN below 5 runs
    window: tuple[float, float] = (np.nan, np.nan)  # first and last step of the peak
    drop: np.ndarray = field(default_factory=lambda: np.empty(0))  # (run,), units of the curve
    mean_drop: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)  # of the mean drop
    drop_to_rise: float = np.nan  # mean drop / mean rise


def second_phase_across(
    steps: ArrayLike, values: ArrayLike, *, alpha: float = 0.025, n_null: int = 5000, random_state: int | None = 0
) -> AcrossRuns:
    """Test over runs whether the curve rises and then falls again, with the fall as measured on held-out runs.

    The curve of each run is averaged in overlapping windows, each a twentieth of the record on ``log10(step + 1)``,
    and set against the mean of the last tenth of its observations, the end. Peak p and valley v < p are
    where ``min(rise, fall)`` of the mean curve is largest. Two statistics of the form ``T = max mean_s(Z) /
    sqrt(mean_s(Z^2))``, a one-sided t in other words, must both be large:

    - fall: ``Z = window - end``, largest over the windows from v on;
    - rise: ``Z = later window - earlier window``, largest over all pairs up to p.

    The null law is that of T when the runs are rotated among themselves by random orthogonal matrices (Langsrud
    2005). Where the expected curve is flat and the noise Gaussian, the same in law for all runs, this leaves the law
    of the data as it is, whatever its correlation in time; the level then holds exactly, at 3 runs too. A trend
    in the wrong direction makes the test stricter. ``p_sign_flip`` flips the signs of whole runs instead, all ``2^S``
    of them up to 12 runs: exact for any symmetric noise, but never below ``1 / 2^S``.

    The fall of each run is measured at the peak of the mean of the *other* runs, so that it does not profit from the
    noise of its own.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps.
    values : array of shape (run, n)
        NaN where a value is missing or a run has ended; each run has its own end, and the peak is looked for before
        the first of them.
    alpha : float
        Level; one-sided.
    n_null : int
        Number of rotations; the least p-value is 1 / (1 + n_null).
    random_state : int or None
        Seed of the rotations.

    Returns
    -------
    AcrossRuns
        "found" if p <= alpha, else "absent"; "undefined" with fewer than 3 runs or 4 windows in common. The
        interval is the 1 - 2 alpha t interval of the mean held-out drop.

    Raises
    ------
    ValueError
        For shapes that do not match, steps out of order, infinite values, or ``alpha`` below the least p-value.

    Notes
    -----
    The phase is looked for at one time in all runs. Humps that differ in time by more than their width smear in the
    mean; :func:`probe.phases.markers.marker.second_descent` looks at each run by itself.

    Measured (500 sets of 3 to 8 runs, 120 observations, alpha .025; ``docs/benchmarks/across_truth.py``): false
    positives .014 to .032 after a rise to a plateau and below .01 on flat curves, with AR(1) noise at correlations of
    0 to .8 and with random walks. A t-test on the held-out falls themselves would give .03 to .09, and more the
    more runs there are: whenever the runs, each looked for without itself, agree on a window by chance, all are high
    there. The interval of the mean drop is that t interval, for want of a better one: at .95 it covers .83 to .96.
    """
    s, v = _check(steps, values, alpha, n_null)
    if len(v) < _LEAST_RUNS:
        return AcrossRuns("undefined", f"{len(v)} runs, {_LEAST_RUNS} are needed", len(v))
    means, first, after = _windows(np.log10(s + 1), v)
    if means.shape[1] < _LEAST_WINDOWS:
        return AcrossRuns("undefined", f"{means.shape[1]} windows in common, {_LEAST_WINDOWS} are needed", len(v))
    gaps = means - np.array([_end(run)[1] for run in v])[:, None]
    gaps[np.abs(gaps) <= resolution_floor(v[~np.isnan(v)])] = (
        0.0  # rounding, the same in all runs, would be a sure difference
    )
    valley, peak = _locate(gaps.mean(axis=0))
    turns = _rotations(len(v), n_null, random_state)
    p_rise, p_fall = _p_values(gaps, valley, peak, turns)
    p = max(p_rise, p_fall)
    drop, rise = _held_out(gaps)
    half = stats.t.ppf(1 - alpha, len(v) - 1) * drop.std(ddof=1) / np.sqrt(len(v))
    return AcrossRuns(
        "found" if p <= alpha else "absent",
        _reason(p_rise, p_fall, alpha),
        len(v),
        p,
        p_rise,
        p_fall,
        max(_p_values(gaps, valley, peak, _flips(len(v), n_null, random_state))) if len(v) >= _LEAST_FLIPS else np.nan,
        (float(s[first[peak]]), float(s[after[peak] - 1])),
        drop,
        float(drop.mean()),
        (float(drop.mean() - half), float(drop.mean() + half)),
        float(drop.mean() / rise.mean()) if rise.mean() > 0 else np.nan,
    )


def _check(steps: ArrayLike, values: ArrayLike, alpha: float, n_null: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (n,) and the runs (run, n) that have any value."""
    if not 1 / (1 + n_null) <= alpha < 0.5:
        raise ValueError(f"expected 1 / (1 + n_null) <= alpha < .5, got alpha={alpha}, n_null={n_null}; raise n_null")
    s, v = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if s.ndim != 1 or v.ndim != 2 or v.shape[1:] != s.shape:
        raise ValueError(f"expected steps (n,) and values (run, n), got {s.shape} and {v.shape}; runs are rows")
    if not np.isfinite(s).all() or (s < 0).any() or (np.diff(s) <= 0).any():
        raise ValueError("expected finite, strictly increasing steps from 0 on; sort by step, one column a step")
    if np.isinf(v).any():
        raise ValueError(f"expected finite values or NaN, got {np.isinf(v).sum()} infinite ones; set them to NaN")
    return s, v[~np.isnan(v).all(axis=1)]


def _end(run: np.ndarray) -> tuple[int, float]:
    """Index where the last tenth of the values of a run begins, and their mean."""
    valid = np.flatnonzero(~np.isnan(run))
    last = valid[-max(1, len(valid) // 10) :]
    return int(last[0]), float(run[last].mean())


def _windows(x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (run, window), and the index of the first observation of each window and of the first after it.

    Windows lie before the last tenth of every run, and are left out where a run lacks half of its values.
    """
    limit = min(_end(run)[0] for run in v)
    width = np.ptp(x) / _N_WINDOWS
    starts = np.arange(x[0], x[-1], width / 2)
    cuts = [np.searchsorted(x[:limit], edge - 1e-9) for edge in (starts, starts + width)]  # 1e-9: steps at an edge
    first, after = np.unique([(a, b) for a, b in zip(*cuts, strict=True) if a < b], axis=0).reshape(-1, 2).T
    sums = [np.pad(np.cumsum(array, axis=1), ((0, 0), (1, 0))) for array in (np.nan_to_num(v), ~np.isnan(v))]
    total, count = (array[:, after] - array[:, first] for array in sums)
    enough = (2 * count >= after - first).all(axis=0)
    return total[:, enough] / count[:, enough], first[enough], after[enough]


def _locate(mean: np.ndarray) -> tuple[int, int]:
    """Valley and peak, where the smaller of rise and fall is largest; ``mean`` is relative to the end."""
    peak = int(np.argmax(np.minimum(mean, mean - np.minimum.accumulate(mean))))
    return int(np.argmin(mean[: peak + 1])), peak


def _held_out(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fall and rise of each run (run,) at the peak and the valley of the mean of the others."""
    others = (gaps.sum(axis=0) - gaps) / (len(gaps) - 1)
    places = [_locate(mean) for mean in others]
    fall = np.array([run[peak] for run, (_, peak) in zip(gaps, places, strict=True)])
    return fall, fall - np.array([run[valley] for run, (valley, _) in zip(gaps, places, strict=True)])


def _p_values(gaps: np.ndarray, valley: int, peak: int, turns: np.ndarray) -> tuple[float, float]:
    """p-values of the rise and of the fall."""
    early, late = np.triu_indices(peak + 1, 1)
    rise = _p_value(gaps[:, late] - gaps[:, early], turns) if peak else 1.0
    return rise, _p_value(gaps[:, valley:], turns)


def _p_value(z: np.ndarray, turns: np.ndarray) -> float:
    """p-value of the largest mean over root mean square; ``turns`` (turn, run) are what the row of ones turns into.

    Only the mean changes under a rotation, and the mean of the rotated runs is a projection on a rotated (1, .., 1).
    """
    size = np.sqrt((z**2).mean(axis=0))
    unit = np.divide(z, size, out=np.zeros_like(z), where=size > 0) / len(z)  # all zero: no evidence, T = 0
    at_least = (turns @ unit).max(axis=1) >= unit.sum(axis=0).max() - 1e-12  # 1e-12: ties by rounding are ties
    return float(at_least.mean())


def _rotations(n_runs: int, n: int, seed: int | None) -> np.ndarray:
    """Images (n + 1, run) of (1, .., 1) under random rotations, uniform on the sphere; the first is itself."""
    normal = np.random.default_rng(seed).standard_normal((n, n_runs))
    sphere = normal * np.sqrt(n_runs / (normal**2).sum(axis=1, keepdims=True))
    return np.vstack([np.ones(n_runs), sphere])


def _flips(n_runs: int, n: int, seed: int | None) -> np.ndarray:
    """All sign flips (2^run, run), or n random ones and the identity above 12 runs."""
    if n_runs <= _ALL_FLIPS:
        return np.array(list(product((1.0, -1.0), repeat=n_runs)))
    return np.vstack([np.ones(n_runs), np.random.default_rng(seed).choice((-1.0, 1.0), (n, n_runs))])


def _reason(p_rise: float, p_fall: float, alpha: float) -> str:
    said = [(p_rise, "rise"), (p_fall, "fall after it")]
    missing = [f"no {word} that all runs share (p = {p:.2g})" for p, word in said if p > alpha]
    return "; ".join(missing) if missing else f"rise p = {p_rise:.2g}, fall after it p = {p_fall:.2g}"
