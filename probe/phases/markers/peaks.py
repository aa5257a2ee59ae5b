"""Is there a rise and a fall, and where is the top? Pure functions on arrays.

The fits are in :mod:`probe.stats.isotonic`, the noise in :mod:`probe.stats.noise`, the statistic and its null law in
:mod:`probe.stats.scan_statistic`.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.markers.marker import Marker, check_curve, too_few
from probe.stats.isotonic import Splits, unimodal_minimum, unimodal_splits
from probe.stats.noise import Noise, noise_model, variance_inflation
from probe.stats.outliers import spikes
from probe.stats.scan_statistic import ScanStatistic, second_phase_table

# More observations than this are averaged in blocks: the table of p-values ends there.
MOST = 2000
# A rise and fall that would be significant, were the noise white: its null quantile at p = .05 is 3 to 4.
SEEN = 3.0
_CLEAR = 0.01  # no second look at a p-value up to here
_FEW = 20  # observations that a second look needs
_MODE = "posterior mean of the unimodal mode"


def unimodal_mode(steps: ArrayLike, values: ArrayLike, *, credible: float = 0.9) -> Marker:
    """Top of a rise-then-fall curve: posterior mean of the mode of a unimodal fit.

    ``w_k ~ exp(-(RSS_k - min RSS) / 2)`` and ``x = sum_k w_k x(mode_k)`` with ``x = log10(step + 1)``. A squared
    residual counts in units of ``s^2 (1 - phi^2) (1 + phi)``, the variance of what is new in an observation times
    (1 + phi), with the local standard deviation s and the correlation phi of :func:`probe.stats.noise_model`;
    this unit was chosen on simulated humps for the coverage of the interval at phi from 0 to .8
    (docs/phases_truth.md). A flat prior over the observations is assumed.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve.
    credible : float
        Mass of the interval, in (0, 1). The interval is never narrower than the neighbouring observations.

    Returns
    -------
    Marker
        "found", or "undefined" with fewer than 4 values. There may be
        no peak at all: :func:`second_descent` tests that.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for a mass outside (0, 1).
    """
    if not 0 < credible < 1:
        raise ValueError(f"expected credible between 0 and 1, got {credible}; 0.9 is usual")
    s, v = check_curve(steps, values)
    if len(v) < 4:
        return too_few(v, _MODE, 4)
    noise = noise_model(v[None])
    sd, phi = _unit(noise)
    step, lower, upper = _mode(s, unimodal_splits(v, 1 / sd**2), credible)
    return Marker("found", _MODE, step, lower, upper, _interval(credible), noise=_typical(noise), correlation=phi)


def top_inside(steps: ArrayLike, values: ArrayLike) -> Marker | None:
    """:func:`unimodal_mode` if its interval lies inside the record; None where the curve still rises, or only falls.

    Parameters
    ----------
    steps, values : array of shape (n,)
        As in :func:`unimodal_mode`.
    """
    marker = unimodal_mode(steps, values)
    seen = np.asarray(steps, dtype=float)[np.isfinite(np.asarray(values, dtype=float))]
    inside = marker.status == "found" and seen[0] < marker.lower and marker.upper < seen[-1]
    return marker if inside else None


def _interval(credible: float) -> str:
    return f"{100 * credible:g} % credible, at least the neighbouring observations"


def _typical(noise: Noise) -> float:
    return float(np.median(noise.sd[0]))


def _unit(noise: Noise) -> tuple[np.ndarray, float]:
    """What a residual counts in, of shape (n,), and the correlation."""
    phi = float(noise.phi[0])
    return noise.white().sd[0] * (1 + phi) ** 0.5, phi


def _mode(s: np.ndarray, splits: Splits, credible: float) -> tuple[float, float, float]:
    """Step of the mode, and its interval."""
    rss, mode, _ = splits
    weight = np.bincount(mode, np.exp(-(rss - rss.min()) / 2), len(s))
    weight = weight / weight.sum()
    x = np.log10(s + 1)
    peak, mass, tail = float(weight @ x), np.cumsum(weight), (1 - credible) / 2
    before = max(int(np.searchsorted(x, peak - 1e-9)) - 1, 0)  # 1e-9: a peak on the grid has two neighbours
    after = min(int(np.searchsorted(x, peak + 1e-9)), len(x) - 1)
    lower = min(int(np.searchsorted(mass, tail)), before)
    upper = max(min(int(np.searchsorted(mass, 1 - tail)), len(x) - 1), after)
    return 10**peak - 1, float(s[lower]), float(s[upper])


def second_descent(steps: ArrayLike, values: ArrayLike, *, spike_width: int = 3, alpha: float = 0.05) -> Marker:
    """Test whether the curve rises and falls again after its initial descent, and find the top.

    The statistic is the largest c such that the mean of some window of observations lies above that of an earlier
    and of a later window, each time by c standard deviations of the one plus c of the other, see
    :class:`probe.stats.ScanStatistic`. A curve that falls and then rises has no such window but by noise: up to its
    valley the rise is missing, from there on the fall. Either is likeliest on a plateau, so that p is at most the chance
    that a constant with AR(1) noise falls by as much.

    That chance is tabulated (``docs/benchmarks/second_phase_table.py``) by record length and estimated correlation,
    with standard deviation and correlation estimated anew on each simulated curve, so that their errors are inside.
    It holds at every true correlation up to .9, not only on average over them. The least p in the table is .001:
    read it as "at most". The top is that of :func:`unimodal_mode`, between the valleys before and after it.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve. More than 2,000 observations are averaged in blocks evenly in log time.
    spike_width : int
        Set aside spikes, up or down, of at most this many observations first, see
        :func:`probe.stats.spikes`; they are counted in ``n_spikes``. 0: none.
    alpha : float
        Level of the test, at least .001.

    Returns
    -------
    Marker
        "found" if p <= alpha; "right_censored" if the curve has risen and still rises over the last tenth of
        the record; "undecided" if it does rise and fall, but no more than a random walk would, and the noise may be
        one; "undefined" with fewer than 8 values; else "absent". ``fall`` is (top - mean of the last
        tenth) / (top - valley), within the valleys.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for ``alpha`` below the least p-value.

    Notes
    -----
    Losses go in as they are: cross-entropy is a logarithm already, and on a further one the wiggles of a loss near
    zero are larger than the hump that is looked for.

    Limits: noise is taken as AR(1) from one observation to the next, symmetric, of slowly changing size. A slow
    wander beneath white noise is not seen in windows of at most 32 observations, and passes for a second phase. A
    record of fewer than some 60 observations tells little about the correlation: only humps far above the noise are
    found. Size and power, simulated: docs/phases_truth.md.
    """
    table = second_phase_table()
    if not table.p[-1] <= alpha < 1:
        raise ValueError(f"expected alpha from {table.p[-1]:g} (the least p-value of the table) to 1, got {alpha}")
    rule = f"rise and fall after the initial descent, p <= {alpha:g}; unimodal mode"
    s, v, n_spikes, said = _prepared(*check_curve(steps, values), spike_width)
    if len(v) < 8:
        return replace(too_few(v, rule, 8), n_spikes=n_spikes)
    look = _look(v)
    start, p, noise = look.start, look.p_value, look.noise
    v_seen = v[start:]
    found = _top(s[start:], v_seen, look) if p <= alpha else _not_found(v_seen, noise, look.excursions, alpha)
    if start:
        said.insert(0, f"noise and test from {s[start]:g} on, the descent before it left out")
    reason = "; ".join([found.reason, *said])
    return replace(
        found, rule=rule, p_value=p, n_spikes=n_spikes, reason=reason, noise=_typical(noise),
        correlation=float(noise.phi[0]),
    )  # fmt: skip


class _Look(NamedTuple):
    """What the test says of the record from ``start`` on."""

    start: int
    p_value: float
    c: np.ndarray  # (1,)
    noise: Noise
    excursions: ScanStatistic


def _look(v: np.ndarray) -> _Look:
    """The test on the whole record, and where that says little on the record from a valley on; the clearer one.

    A steep initial descent passes for noise in all windows that it touches, and hides what comes soon after it. The
    valleys are those before the clearest rise and fall, and before the largest one in the units of the curve.
    """
    looks = [_look_from(v, 0)]
    if looks[0].p_value > _CLEAR:
        tops = {_highest(looks[0].excursions, looks[0].c), _highest_of_all(looks[0].excursions)}
        starts = {unimodal_minimum(v[: top + 1]) for top in tops} - {0}
        looks += [_look_from(v, start) for start in sorted(starts) if len(v) - start >= _FEW]
    return min(looks, key=lambda look: (look.p_value, -look.c[0]))


def _look_from(v: np.ndarray, start: int) -> _Look:
    noise = noise_model(v[None, start:])
    excursions = ScanStatistic(v[None, start:], noise)
    c = excursions.largest("both")
    p = second_phase_table().p_value(float(c[0]), len(v) - start, float(noise.phi[0]))
    return _Look(start, p, c, noise, excursions)


def _highest(excursions: ScanStatistic, c: np.ndarray) -> int:
    """Index of the middle of the window that exceeds both sides most."""
    margin = excursions.margin(c, "both")[0]
    row, k = np.unravel_index(int(margin.argmax()), margin.shape)
    return int(k) + int(excursions.widths[row]) // 2


def _highest_of_all(excursions: ScanStatistic) -> int:
    """The same, whatever the noise is said to be: means of windows as they are."""
    return _highest(excursions, np.array([np.finfo(float).tiny]))  # not 0: beyond the last window sd is infinite


def _prepared(s: np.ndarray, v: np.ndarray, spike_width: int) -> tuple[np.ndarray, np.ndarray, int, list[str]]:
    """Curve without spikes and thinned, number of spikes, and what was done."""
    inside, tail = spikes(v, width=spike_width)
    s, v, said = s[~(inside | tail)], v[~(inside | tail)], []
    if tail.any():
        said.append(f"the last {tail.sum()} stand out (a spike, or the start of a rise) and are left out")
    if len(v) > MOST:
        n = len(v)
        s, v = block_means(s, v)
        said.append(f"{n:,} observations averaged to {len(v):,}")
    return s, v, int(inside.sum()), said


def _top(s: np.ndarray, v: np.ndarray, look: _Look) -> Marker:
    """The top of the highest rise and fall, between the valleys on its two sides."""
    noise, top = look.noise, _highest(look.excursions, look.c)
    hump = slice(unimodal_minimum(v[: top + 1]), top + unimodal_minimum(v[top:]) + 1)
    splits = unimodal_splits(v[hump], 1 / _unit(noise)[0][hump] ** 2)
    step, lower, upper = _mode(s[hump], splits, 0.9)
    share, fall = _fall(v[hump], splits)
    said = f"valley at {s[hump][0]:g}"
    return Marker(
        "found", "", step, lower, upper, _interval(0.9), fall=share, fall_noise=fall / _typical(noise), reason=said
    )


def block_means(steps: np.ndarray, values: np.ndarray, most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """Average observations in at most ``most`` blocks of even length in log10(step + 1); empty ones vanish."""
    x = np.log10(steps + 1)
    block = np.minimum(((x - x[0]) / (x[-1] - x[0]) * most).astype(int), most - 1)
    _, block, size = np.unique(block, return_inverse=True, return_counts=True)
    return 10 ** (np.bincount(block, x) / size) - 1, np.bincount(block, values) / size


def _not_found(v: np.ndarray, noise: Noise, excursions: ScanStatistic, alpha: float) -> Marker:
    """Status and reason of a curve on which the test finds nothing."""
    table, n, phi = second_phase_table(), len(v), float(noise.phi[0])
    rises = bool(excursions.reaches(np.array([table.critical(alpha, n, phi)]), "rise")[0])
    if rises and _still_rising(v, noise):
        return Marker("right_censored", "", reason="still rising at the end of the record")
    white = ScanStatistic(v[None], noise.white())
    if table.resembles_random_walk(n, phi) and white.reaches(np.array([SEEN]), "both")[0]:
        said = f"it rises and falls, but noise of correlation {phi:g} may be a random walk, and that does so too"
        return Marker("undecided", "", reason=said)
    said = "it rises, but does not fall after that" if rises else "it does not rise before it falls"
    return Marker("absent", "", reason=said)


def _still_rising(v: np.ndarray, noise: Noise) -> bool:
    m = max(2, len(v) // 10)
    phi = float(noise.stationary_phi[0])
    error = noise.sd[0, -m:].mean() * np.sqrt(2 / m * variance_inflation(phi))
    return bool(v[-m:].mean() - v[-2 * m : -m].mean() > 3 * error)


def _fall(values: np.ndarray, splits: Splits) -> tuple[float, float]:
    """Fall from the top to the last tenth, relative to the rise and as it is."""
    rss, mode, top = splits
    k = int(np.argmin(rss))
    lowest = (np.cumsum(values[: mode[k] + 1]) / np.arange(1, mode[k] + 2)).min()  # first value of the rising fit
    fall = float(top[k] - values[-max(1, len(values) // 10) :].mean())
    return (float(fall / (top[k] - lowest)) if top[k] > lowest else np.nan), fall
