"""Decide whether a curve rises and falls again after its initial descent, and find the top. Pure functions on arrays.

The decision is in :mod:`probe.phases.markers.shape`, the top in :mod:`probe.phases.markers.modes`.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from probe.phases.markers.cells import log_time
from probe.phases.markers.humps import LEAST_ROWS, Hump, observation_noise
from probe.phases.markers.marker import Marker, Status, check_curve, check_share, too_few
from probe.phases.markers.modes import hump_top, interval_kind
from probe.phases.markers.record import Record, prepared
from probe.phases.markers.shape import End, Shape, shape_of

_LEAST = 8  # observations
_LEVEL = 0.9  # coverage of the interval of the top
_ROWS_WANTED = 20  # observations on a hump, with which it can be decided
_BESIDE = 3  # cells beside the upper half of a hump in which its top is searched


def second_descent(
    steps: ArrayLike, values: ArrayLike, *, spike_width: int = 3, least_size: float = 0.03, smoothing: float = 0.0
) -> Marker:
    """Decide whether the recorded curve rises and falls again after its initial descent, and find the top.

    The decision is about the recorded curve: another seed may have another one
    (:func:`probe.phases.second_phase_across`). It needs no model of the noise. The curve is reduced to medians in cells
    of log time, 24 in a decade, so that it is nearly the same at every density of the record. What is high for less
    than .1 decade is cut off. The size of a hump is the *prominence* of its top, which is its persistence in the
    superlevel sets: the height above the higher of its two valleys. A hump is found if

    - its size is at least ``least_size`` of the range of the curve, or .4 of that on a curve without noise;
    - its contrast, the size over the largest other wiggle of the record, is large enough. A random walk rarely
      reaches the contrast 5.4, or 4.7 with fewer than 100 observations. A hump far above the roughness of the curve
      needs less, down to 1.5;
    - it falls by 6 % of the rise up to the end, or by half of the rise at any time;
    - three observations show it, and it is neither a spike nor the first wiggle of the initial descent.

    If several humps stand out, the largest gap in the sorted sizes separates them from the wiggles. All of them are in
    ``tops``, and the last one is the marker.

    Parameters
    ----------
    steps, values : array of shape (n,)
        Optimiser steps and the curve. More than 20,000 observations are reduced to medians evenly in log time.
    spike_width : int
        Exclude spikes, up or down, of at most this many observations (:func:`probe.stats.spikes`), and count them in
        ``n_spikes``. 0 excludes none.
    least_size : float
        Least size of a hump, as a share of the range: from the lowest value up to its top to the highest value of the
        record, and at least .4 of the whole range. A final fall to zero therefore does not make a hump small.
    smoothing : float
        Decay a of an exponential average ``y_t = a y_{t-1} + (1 - a) x_t`` that was applied to the curve row by row,
        0 <= a < 1. The average is undone exactly, up to the mean over rows that are missing. If most rows are unevenly
        spaced, they were thinned since, and a warning states that the top is that of the smoothed curve. If every k-th
        row was kept, pass a**k.

    Returns
    -------
    Marker
        "found" as above, with ``size``, ``size_share``, ``contrast``, ``fall`` and ``tops``. "right_censored" if the
        curve ends on a rise of this size and contrast. "absent" if there is neither, or if it has risen to a plateau
        that lasts .85 decade and 30 % of the observations. "undecided" if there is a hump of this size that is no
        clearer than the other wiggles of the record. "undefined" with fewer than 8 values. ``reason`` names the case.
        The step is the median of the weights of the cells as tops of a unimodal fit.

    Raises
    ------
    ValueError
        As :func:`probe.phases.check_curve`; also for ``least_size`` outside (0, 1) or ``smoothing`` outside [0, 1).

    Warns
    -----
    probe.errors.ProbeWarning
        If the exponential average cannot be undone.

    See Also
    --------
    unimodal_mode : The top, without a decision.
    second_phase_across : The test over several runs.
    probe.stats.prominences : The sizes of all wiggles.

    Notes
    -----
    Pass losses as they are. Cross-entropy is a logarithm already; on a further logarithm the fluctuations of a loss
    near zero are larger than the hump in question.

    Limits: a hump that lasts less than .1 decade is not found. In a random walk on flat ground, up to 5 % of records
    show a hump that stands out. Rates of false and missed humps: docs/phases_truth.md.

    References
    ----------
    Edelsbrunner, Letscher and Zomorodian (2002), "Topological persistence and simplification".

    Examples
    --------
    >>> import numpy as np
    >>> from probe.phases import second_descent
    >>> x = np.linspace(0, 4, 120)
    >>> loss = np.exp(-x) + np.exp(-(((x - 2.5) / 0.5) ** 2)) + 0.02 * np.random.default_rng(0).standard_normal(120)
    >>> marker = second_descent(10**x - 1, loss)
    >>> print(marker.status, bool(marker.lower <= 10**2.5 <= marker.upper), f"{marker.size:.1f}")
    found True 0.8
    """
    check_share("least_size", least_size)
    if not 0 <= smoothing < 1:
        raise ValueError(f"Expected 0 <= smoothing < 1, got {smoothing}; pass the decay of the exponential average.")
    rule = f"rise and fall of at least {100 * least_size:g} % of the range that stands out; unimodal mode"
    s, v = check_curve(steps, values)
    if len(v) < _LEAST:
        return too_few(v, rule, _LEAST)
    record = prepared(s, v, spike_width, smoothing)
    shape = shape_of(record.steps, record.values, least_size)
    marker = Marker(shape.status, rule, n_spikes=record.n_spikes, reason=_reason(record, shape, least_size))
    if shape.about is not None:
        hump = shape.about
        marker = replace(marker, size=hump.size, size_share=hump.share, noise=observation_noise(record.values))
    if isinstance(shape.about, Hump):
        marker = _of_hump(marker, shape.about)
    return _placed(marker, record, shape) if shape.status == Status.FOUND else marker


def _of_hump(marker: Marker, hump: Hump) -> Marker:
    """Add the contrast and the fall of a hump."""
    fall = hump.fall if hump.fall_holds else hump.best_fall
    size = fall * hump.rise
    in_noise = size / marker.noise if marker.noise > abs(size) * np.finfo(float).eps else np.inf
    return replace(marker, contrast=hump.contrast, fall=fall, fall_noise=in_noise)


def _placed(marker: Marker, record: Record, shape: Shape) -> Marker:
    """Add the tops, and the interval of the last one."""
    x = log_time(record.steps)
    tops = []
    for hump in shape.humps:
        part = slice(
            max(hump.left, min(hump.half.start, hump.top - _BESIDE)),
            min(hump.right, max(hump.half.stop, hump.top + _BESIDE + 1)),
        )
        place = hump_top(shape.cells, part, x, record.values, _LEVEL)
        tops.append(tuple(np.clip(10.0 ** np.array(place), record.steps[0], record.steps[-1]).tolist()))
    step, lower, upper = tops[-1]
    return replace(
        marker, step=step, lower=lower, upper=upper, interval=interval_kind(_LEVEL), tops=tuple(top[0] for top in tops)
    )


def _reason(record: Record, shape: Shape, least_size: float) -> str:
    """Return why the shape was chosen, with the notes on the record."""
    text = {
        "constant": "the curve is constant",
        "cells": "the steps of the record lie in too few places",
        "small": f"no rise and fall of {100 * least_size:g} % of the range of the curve",
    }.get(shape.reason) or _about(record, shape)
    return "; ".join([text, *record.notes])


def _about(record: Record, shape: Shape) -> str:
    """Describe the hump, or the rise at the end, that the decision is about."""
    about, at = shape.about, record.steps[shape.cells.first]  # (m,)
    if about is None:
        return ""
    size = f"{about.size:.3g} ({100 * about.share:.3g} % of the range of the curve)"
    if isinstance(about, End):
        end = "to a plateau" if shape.reason == "plateau" else "and has not fallen since"
        return f"the curve has risen by {size} since step {at[about.low]:g}, {end}"
    if shape.reason == "hump":
        several = f"; {len(shape.humps)} humps, the last one is the marker" if len(shape.humps) > 1 else ""
        number = f"{about.contrast:.2g}" if about.contrast < 100 else "more than 100"
        clear = f"{number} times the next largest wiggle" if about.contrast > 1 else "where the curve is smooth"
        return f"a hump of {size}, {clear}; valley at step {at[about.valley]:g}{several}"
    why = {
        "rows": f"fewer than {LEAST_ROWS} observations show this",
        "wiggles": f"this is only {about.contrast:.2g} times the next largest wiggle",
        "scatter": "neighbouring observations scatter too much, or are too few, to be sure",
        "sudden": "it rises at once, as after a bad update",
        "undone": "the curve rises as high again",
        "noise": "other wiggles of the record are as large",
    }[shape.reason]
    text = f"the curve rises and falls by {size} around step {at[about.top]:g}, but {why}"
    if shape.status != Status.UNDECIDED:
        return text
    return f"{text}; {_advice(record.steps, at[about.left], at[about.right - 1])}"


def _advice(steps: np.ndarray, first: float, last: float) -> str:
    """Return what would decide about a hump between two steps: more observations, or more runs."""
    n = int(((steps >= first) & (steps <= last)).sum())
    every = max(1.0, float(f"{(last - first) / _ROWS_WANTED:.0e}"))
    often = f"log every {every:g} steps" if every > 1 else "log every step"
    more = often if n < _ROWS_WANTED and every < (last - first) / n else "record more seeds"
    return f"{len(steps):,} observations, {n} of them here: {more}"
