"""Test whether a curve rises and falls again after its initial descent, and find the top. Pure functions on arrays.

The fits are in :mod:`probe.stats.isotonic`, the noise in :mod:`probe.stats.noise`, the statistic and its distribution
under the null hypothesis in :mod:`probe.stats.scan_statistic`.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.markers.marker import Marker, Status, check_curve, too_few
from probe.phases.markers.modes import interval_kind, posterior_mode, residual_unit, typical_sd
from probe.stats.isotonic import Splits, unimodal_minimum, unimodal_splits
from probe.stats.noise import Noise, noise_model, variance_inflation
from probe.stats.outliers import spikes
from probe.stats.scan_statistic import ScanStatistic, second_phase_table

# The table of p-values ends at this number of observations; longer records are averaged in blocks.
MAX_OBSERVATIONS = 2000
# A rise and fall of this size would be significant in white noise: its null quantile at p = .05 is 3 to 4.
_WHITE_NOISE_STATISTIC = 3.0
_CLEAR = 0.01  # up to this p-value the test is not repeated from a valley on
_LEAST = 8  # observations
_LEAST_FROM_VALLEY = 20  # observations for the test from a valley on
_LEVEL = 0.9  # coverage of the interval of the top


def second_descent(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    spike_width: int = 3,
    least_size: float = 0.03,
    smoothing: float = 0.0,
    alpha: float = 0.05,
) -> Marker:
    """Test whether the curve rises and falls again after its initial descent, and find the top.

    The statistic is the largest c such that the mean of some window of observations lies above that of an earlier and
    of a later window, each time by c standard deviations of the one plus c of the other
    (:class:`probe.stats.ScanStatistic`). A curve that falls and then rises has such a window only by noise: up to its
    valley it lacks the rise, from there on it lacks the fall. Both are likeliest on a plateau. The p-value is
    therefore at most the probability that a constant with AR(1) noise rises and falls by as much.

    That probability is tabulated by record length and estimated correlation
    (``docs/benchmarks/second_phase_table.py``). Standard deviation and correlation are estimated anew on each
    simulated curve, so that the table includes their errors. The bound holds at every true correlation up to .9, not
    only on average over them. The least p in the table is .001: read it as "at most". The top is that of
    :func:`unimodal_mode`, between the valleys before and after it.

    A steep initial descent counts as noise in all windows that contain part of it, and hides what follows soon after.
    If p exceeds .01 on the whole record, the test is repeated from the valley on, and the smaller p-value counts.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve. More than 2,000 observations are averaged in blocks evenly in log time.
    spike_width : int
        Exclude spikes, up or down, of at most this many observations (:func:`probe.stats.spikes`), and count them in
        ``n_spikes``. 0 excludes none.
    alpha : float
        Size of the test, at least .001.

    Returns
    -------
    Marker
        "found" if p <= alpha. "right_censored" if the curve has risen and still rises over the last tenth of the
        record. "undecided" if the curve rises and falls, but by no more than a random walk would, and the noise cannot
        be distinguished from a random walk. "undefined" with fewer than 8 values. Otherwise "absent". ``fall`` is
        (top - mean of the last tenth) / (top - valley), between the valleys.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for ``alpha`` below the least p-value.

    See Also
    --------
    unimodal_mode : The top, without a test.
    second_phase_across : The test over several runs.

    Notes
    -----
    Pass losses as they are. Cross-entropy is a logarithm already; on a further logarithm the fluctuations of a loss
    near zero are larger than the hump in question.

    Limits: the noise is modelled as symmetric AR(1) noise from one observation to the next, of slowly changing size.
    Windows of at most 32 observations do not show slow drift beneath white noise, which can be mistaken for a second
    phase. A record of fewer than about 60 observations contains little information on the correlation, so that the
    test finds only humps far above the noise. Size and power, simulated: docs/phases_truth.md.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import second_descent
    >>> x = np.linspace(0, 4, 120)
    >>> loss = np.exp(-x) + np.exp(-(((x - 2.5) / 0.5) ** 2)) + 0.02 * np.random.default_rng(0).standard_normal(120)
    >>> marker = second_descent(10**x - 1, loss)
    >>> print(marker.status, bool(marker.lower <= 10**2.5 <= marker.upper))
    found True
    """
    _check_alpha(alpha)
    rule = f"rise and fall after the initial descent, p <= {alpha:g}; unimodal mode"
    s, v, n_spikes, notes = _prepared(*check_curve(steps, values), spike_width)
    if len(v) < _LEAST:
        return replace(too_few(v, rule, _LEAST), n_spikes=n_spikes)
    test = _test(v)
    after = v[test.start :]
    found = _top(s[test.start :], after, test) if test.p_value <= alpha else _not_found(after, test, alpha)
    if test.start:
        notes.insert(0, f"the noise and the test are those from {s[test.start]:g} on, without the initial descent")
    reason = "; ".join([found.reason, *notes])
    return replace(
        found, rule=rule, p_value=test.p_value, n_spikes=n_spikes, reason=reason, noise=typical_sd(test.noise),
        correlation=float(test.noise.phi[0]),
    )  # fmt: skip


def _check_alpha(alpha: float) -> None:
    least = second_phase_table().p[-1]
    if not least <= alpha < 1:
        raise ValueError(
            f"Expected {least:g} <= alpha < 1, got {alpha}; the table of p-values starts at {least:g}, 0.05 is usual."
        )


class _Test(NamedTuple):
    """Result of the test on the record from ``start`` on."""

    start: int
    p_value: float
    c: np.ndarray  # (1,)
    noise: Noise
    scan: ScanStatistic


def _test(v: np.ndarray) -> _Test:
    """Test the whole record, and if its p-value is not clear, the record from a valley on; return the clearer test.

    The valleys are those before the clearest rise and fall, and before the largest one in units of the curve.
    """
    whole = _test_from(v, 0)
    tests = [whole]
    if whole.p_value > _CLEAR:
        tops = {_highest(whole.scan, whole.c), _highest_unscaled(whole.scan)}
        starts = {unimodal_minimum(v[: top + 1]) for top in tops} - {0}
        tests += [_test_from(v, start) for start in sorted(starts) if len(v) - start >= _LEAST_FROM_VALLEY]
    return min(tests, key=lambda test: (test.p_value, -test.c[0]))


def _test_from(v: np.ndarray, start: int) -> _Test:
    noise = noise_model(v[None, start:])
    scan = ScanStatistic(v[None, start:], noise)
    c = scan.largest("both")
    p = second_phase_table().p_value(float(c[0]), len(v) - start, float(noise.phi[0]))
    return _Test(start, p, c, noise, scan)


def _highest(scan: ScanStatistic, c: np.ndarray) -> int:
    """Return the index of the middle of the window that exceeds both sides most."""
    margin = scan.margin(c, "both")[0]
    row, first = np.unravel_index(int(margin.argmax()), margin.shape)
    return int(first) + int(scan.widths[row]) // 2


def _highest_unscaled(scan: ScanStatistic) -> int:
    """Return the same in units of the curve, without regard to the noise."""
    return _highest(scan, np.array([np.finfo(float).tiny]))  # not 0: beyond the last window sd is infinite


def _prepared(s: np.ndarray, v: np.ndarray, spike_width: int) -> tuple[np.ndarray, np.ndarray, int, list[str]]:
    """Remove spikes and average long records; return the curve, the number of spikes, and notes."""
    inside, at_end = spikes(v, width=spike_width)
    kept, notes = ~(inside | at_end), []
    s, v = s[kept], v[kept]
    if at_end.any():
        notes.append(f"the last {at_end.sum()} observations are excluded as a spike or the start of a rise")
    if (n := len(v)) > MAX_OBSERVATIONS:
        s, v = block_means(s, v)
        notes.append(f"{n:,} observations averaged to {len(v):,}")
    return s, v, int(inside.sum()), notes


def _top(s: np.ndarray, v: np.ndarray, test: _Test) -> Marker:
    """Return the top of the highest rise and fall, between the valleys on its two sides."""
    top = _highest(test.scan, test.c)
    hump = slice(unimodal_minimum(v[: top + 1]), top + unimodal_minimum(v[top:]) + 1)
    splits = unimodal_splits(v[hump], 1 / residual_unit(test.noise)[hump] ** 2)
    step, lower, upper = posterior_mode(s[hump], splits, _LEVEL)
    share, fall = _fall(v[hump], splits)
    return Marker(
        Status.FOUND, "", step, lower, upper, interval_kind(_LEVEL), fall=share,
        fall_noise=fall / typical_sd(test.noise), reason=f"valley at {s[hump][0]:g}",
    )  # fmt: skip


def block_means(steps: np.ndarray, values: np.ndarray, most: int = MAX_OBSERVATIONS) -> tuple[np.ndarray, np.ndarray]:
    """Average observations in at most ``most`` blocks of equal length in log10(step + 1); drop empty blocks."""
    x = np.log10(steps + 1)
    block = np.minimum(((x - x[0]) / (x[-1] - x[0]) * most).astype(int), most - 1)
    _, block, size = np.unique(block, return_inverse=True, return_counts=True)
    return 10 ** (np.bincount(block, x) / size) - 1, np.bincount(block, values) / size


def _not_found(v: np.ndarray, test: _Test, alpha: float) -> Marker:
    """Return status and reason for a curve whose p-value exceeds ``alpha``."""
    table, n, phi = second_phase_table(), len(v), float(test.noise.phi[0])
    rises = bool(test.scan.reaches(np.array([table.critical(alpha, n, phi)]), "rise")[0])
    if rises and _still_rises(v, test.noise):
        return Marker(Status.RIGHT_CENSORED, "", reason="the curve still rises at the end of the record")
    white = ScanStatistic(v[None], test.noise.white())
    if table.resembles_random_walk(n, phi) and white.reaches(np.array([_WHITE_NOISE_STATISTIC]), "both")[0]:
        reason = (
            f"the curve rises and falls, but its noise of correlation {phi:g} may be a random walk, which rises and "
            "falls as well"
        )
        return Marker(Status.UNDECIDED, "", reason=reason)
    reason = "the curve rises, but does not fall after that" if rises else "the curve does not rise before it falls"
    return Marker(Status.ABSENT, "", reason=reason)


def _still_rises(v: np.ndarray, noise: Noise) -> bool:
    """Return whether the last tenth lies above the tenth before by three standard errors."""
    m = max(2, len(v) // 10)
    phi = float(noise.stationary_phi[0])
    error = noise.sd[0, -m:].mean() * np.sqrt(2 / m * variance_inflation(phi))
    return bool(v[-m:].mean() - v[-2 * m : -m].mean() > 3 * error)


def _fall(values: np.ndarray, splits: Splits) -> tuple[float, float]:
    """Return the fall from the top to the last tenth: relative to the rise, and in units of the curve."""
    rss, mode, top = splits
    k = int(np.argmin(rss))
    lowest = (np.cumsum(values[: mode[k] + 1]) / np.arange(1, mode[k] + 2)).min()  # first value of the rising fit
    fall = float(top[k] - values[-max(1, len(values) // 10) :].mean())
    return (float(fall / (top[k] - lowest)) if top[k] > lowest else np.nan), fall
