"""Verdicts from the numbers of several seeds: confirmed, not confirmed or undecided."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIRMED, NOT_CONFIRMED, UNDECIDED = "confirmed", "not confirmed", "undecided"


class Verdict(NamedTuple):
    """A verdict and the numbers that it is based on."""

    word: str
    numbers: str


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
