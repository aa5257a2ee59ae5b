"""Verdicts from the numbers of several seeds: confirmed, not confirmed or undecided."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats import least_p_value, separation

SIZE = 0.05  # of all tests
CONFIRMED, NOT_CONFIRMED, UNDECIDED = "confirmed", "not confirmed", "undecided"


class Verdict(NamedTuple):
    """A verdict and the numbers that it is based on."""

    word: str
    numbers: str


class Reading(NamedTuple):
    """One number for each run (or each task), and the step at which it was read.

    Attributes
    ----------
    values, steps : array of shape (run,)
        NaN for a value that is missing. The step is that of the last observation that the value uses.
    """

    values: np.ndarray
    steps: np.ndarray

    @property
    def at(self) -> str:
        """Return the steps as text."""
        return " and ".join(f"{step:,.0f}" for step in np.unique(self.steps[np.isfinite(self.steps)])) or "no step"


def by_share(holds: Sequence[bool | None], what: str) -> Verdict:
    """Judge whether something holds in most seeds.

    The 95 % bound (Clopper and Pearson) of the share is compared with one half.

    Parameters
    ----------
    holds
        One entry for each seed. None means that the data of the seed do not decide; it counts against both verdicts.
    what
        Description of what holds, for the numbers.

    Notes
    -----
    Fewer than five seeds are always undecided (0.5^4 = .06).
    """
    n, yes, unknown = len(holds), sum(h is True for h in holds), sum(h is None for h in holds)
    no = n - yes - unknown
    numbers = f"{what} in {yes} of {n} seeds" + (f", {unknown} undecided" if unknown else "")
    if yes and stats.beta.ppf(0.05, yes, n - yes + 1) > 0.5:
        return Verdict(CONFIRMED, numbers)
    if no and stats.beta.ppf(0.05, no, n - no + 1) > 0.5:
        return Verdict(NOT_CONFIRMED, numbers)
    return Verdict(UNDECIDED, numbers)


def by_prediction(values: ArrayLike, low: float, high: float, what: str) -> Verdict:
    """Judge whether a further seed would lie between ``low`` and ``high``.

    Confirmed if the 90 % prediction interval lies inside; a large spread widens this interval. Not confirmed if the
    90 % confidence interval of the mean lies outside. Undecided otherwise.

    Parameters
    ----------
    values
        One value for each seed; NaN where there is none. With a NaN nothing is confirmed, because values are not
        missing at random.
    low, high
        The expected range.
    what
        Description of the values, for the numbers.
    """
    every = np.asarray(values, dtype=float)
    known = every[np.isfinite(every)]
    n, lost = len(known), len(every) - len(known)
    if n < 3:
        listed = ", ".join(f"{v:+.2f}" for v in known) or "none"
        return Verdict(UNDECIDED, f"{what}: {listed} ({n} of {len(every)} seeds: too few)")
    mean, sd, t = known.mean(), known.std(ddof=1), stats.t.ppf(0.95, n - 1)
    wide, narrow = t * sd * np.sqrt(1 + 1 / n), t * sd / np.sqrt(n)
    numbers = f"{what}: {mean:+.2f}, a further seed {mean - wide:+.2f} to {mean + wide:+.2f} ({n} seeds)"
    numbers += f", {lost} without a value" if lost else ""
    if mean - narrow > high or mean + narrow < low:
        return Verdict(NOT_CONFIRMED, numbers)
    inside = low <= mean - wide and mean + wide <= high
    return Verdict(CONFIRMED if inside and not lost else UNDECIDED, numbers)


def by_separation(larger: Reading, smaller: Reading, what: str, *, auc: float = 0.5) -> Verdict:
    """Judge whether the values of the first group are larger than those of the second group.

    This is the only comparison of independent groups in the verdicts; `by_pairs` compares runs with controls of the
    same seeds. It refuses, with the verdict undecided and the reason, in three cases:

    1. The groups were read at different steps. A curve that changes over time differs then without any effect.
    2. A value is missing. Values are not missing at random: a run without an event had too short a record.
    3. The groups are too small: no permutation test of these numbers of units can reach .05. Seeds are units for a
       statement about two tasks, and tasks are units for a statement about tasks. So two tasks against two are always
       undecided (1/3), however many seeds they have.

    Confirmed if the exact two-sided p-value is at most .05 and the area under the ROC curve (AUC) is larger than
    ``auc``. Not confirmed if the 90 % interval of the AUC lies below ``auc``. Undecided otherwise.

    Parameters
    ----------
    larger, smaller
        Values and steps of both groups.
    what
        Description of the values, for the numbers.
    auc
        Least area under the ROC curve.
    """
    m, n = len(larger.values), len(smaller.values)
    found = separation(larger.values, smaller.values, level=0.9)
    medians = " against ".join(f"{np.median(group.values):+.3g}" for group in (larger, smaller))
    p_value = "p < .001" if found.p_value < 0.001 else f"p {found.p_value:.3f}"
    numbers = f"{what}: AUC {found.auc:.2f}, {p_value}, median {medians} ({m} and {n})"
    if len(np.unique(np.concatenate([larger.steps, smaller.steps]))) != 1:
        return Verdict(UNDECIDED, f"{what}: not compared, read at different steps: {larger.at} against {smaller.at}")
    if lost := m + n - found.n_runs - found.n_controls:
        return Verdict(UNDECIDED, f"{what}: not compared, {lost} of {m + n} values are missing")
    if least_p_value(m, n) > SIZE:
        why = f"; undecided: {m} against {n} cannot reach p {SIZE:g} (least {least_p_value(m, n):.2f})"
        return Verdict(UNDECIDED, numbers + why)
    if found.p_value <= SIZE and found.auc > auc:
        return Verdict(CONFIRMED, numbers)
    return Verdict(NOT_CONFIRMED if found.upper < auc else UNDECIDED, numbers)


def by_pairs(larger: ArrayLike, smaller: ArrayLike, what: str, *, auc: float = 0.5) -> Verdict:
    """Judge whether the values of runs are larger than those of their controls. Both of a pair are read at one step.

    The test permutes within pairs: it changes the signs of the differences (exact, two-sided). Confirmed if its p-value
    is at most .05, the mean difference is positive, and the area under the ROC curve (AUC) of both groups is larger
    than ``auc``. Not confirmed if the 90 % interval of the AUC lies below ``auc``. Undecided otherwise, also if a value
    is missing, and with fewer than six pairs (least p-value 2 / 2^n).

    Parameters
    ----------
    larger, smaller : array of shape (pair,)
        Values by pair, at most 16.
    what
        Description of the values, for the numbers.
    auc
        Least area under the ROC curve.
    """
    a, b = (np.asarray(values, dtype=float) for values in (larger, smaller))
    differences = a - b
    if lost := int(np.isnan(differences).sum()):
        return Verdict(UNDECIDED, f"{what}: not compared, {lost} of {len(a)} pairs have a missing value")
    n = len(differences)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    means, mean = np.abs(signs @ differences) / n, float(differences.mean())
    p_value = float((means >= abs(mean) * (1 - 1e-9)).mean())
    found = separation(a, b, level=0.9)
    numbers = f"{what}: AUC {found.auc:.2f}, p {p_value:.3f}, median {np.median(a):+.3g} against {np.median(b):+.3g}"
    numbers += f" ({n} pairs)"
    if 2 / 2**n > SIZE:
        return Verdict(UNDECIDED, f"{numbers}; undecided: {n} pairs cannot reach p {SIZE:g}")
    if p_value <= SIZE and mean > 0 and found.auc > auc:
        return Verdict(CONFIRMED, numbers)
    return Verdict(NOT_CONFIRMED if found.upper < auc else UNDECIDED, numbers)


def of_difference(first: ArrayLike, second: ArrayLike, low: float, high: float, what: str) -> Verdict:
    """Judge the difference of two means against the range from ``low`` to ``high``, by Welch's 90 % interval.

    Undecided if a value is missing, or if a group has fewer than three values.
    """
    a, b = (np.asarray(values, dtype=float) for values in (first, second))
    if lost := int(np.isnan(a).sum() + np.isnan(b).sum()):
        return Verdict(UNDECIDED, f"{what}: not compared, {lost} of {len(a) + len(b)} values are missing")
    if min(len(a), len(b)) < 3:
        return Verdict(UNDECIDED, f"{what}: {len(a)} and {len(b)} seeds: too few")
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    return of_interval(float(a.mean() - b.mean()), float(interval.low), float(interval.high), low, high, what)


def of_interval(value: float, lower: float, upper: float, low: float, high: float, what: str) -> Verdict:
    """Judge one measurement with an interval from ``lower`` to ``upper`` against the range from ``low`` to ``high``.

    Confirmed if the interval lies inside the range, not confirmed if it lies outside, undecided otherwise.
    """
    if np.isnan(lower) or np.isnan(upper):
        return Verdict(UNDECIDED, f"{what}: not available")
    if np.isfinite(value):
        numbers = f"{what}: {value:+.2f} ({lower:+.2f} to {upper:+.2f})"
    else:
        numbers = f"{what}: between {lower:+.2f} and {upper:+.2f}"
    if low <= lower and upper <= high:
        return Verdict(CONFIRMED, numbers)
    return Verdict(NOT_CONFIRMED if upper < low or lower > high else UNDECIDED, numbers)
