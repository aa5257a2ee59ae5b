"""From numbers of seeds to a verdict: confirmed, not confirmed or undecided, with the numbers that say so."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIRMED, NOT_CONFIRMED, UNDECIDED = "confirmed", "not confirmed", "undecided"


class Verdict(NamedTuple):
    """A word and the numbers behind it."""

    word: str
    numbers: str


def by_share(holds: Sequence[bool | None], what: str) -> Verdict:
    """Whether something holds in most seeds: the 95 % bound (Clopper and Pearson) of its share against one half.

    Parameters
    ----------
    holds
        One entry a seed; None where it cannot be told: it counts against whichever verdict there would be.
    what
        What holds, for the numbers.

    Notes
    -----
    Fewer than five seeds decide nothing (0.5^4 = .06).
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
    """Whether a further seed would lie between ``low`` and ``high``.

    Confirmed if the 90 % prediction interval lies inside, which wide spread does not; not confirmed if even the 90 %
    confidence interval of the mean lies outside; else undecided.

    Parameters
    ----------
    values
        One a seed; NaN where there is none (then nothing is confirmed, since what is missing is not missing by chance).
    """
    every = np.asarray(values, dtype=float)
    known = every[np.isfinite(every)]
    n, lost = len(known), len(every) - len(known)
    if n < 3:
        told = ", ".join(f"{v:+.2f}" for v in known) or "none"
        return Verdict(UNDECIDED, f"{what}: {told} ({n} of {len(every)} seeds: too few)")
    mean, sd, t = known.mean(), known.std(ddof=1), stats.t.ppf(0.95, n - 1)
    wide, narrow = t * sd * np.sqrt(1 + 1 / n), t * sd / np.sqrt(n)
    numbers = f"{what}: {mean:+.2f}, a further seed {mean - wide:+.2f} to {mean + wide:+.2f} ({n} seeds)"
    numbers += f", {lost} without a value" if lost else ""
    if mean - narrow > high or mean + narrow < low:
        return Verdict(NOT_CONFIRMED, numbers)
    inside = low <= mean - wide and mean + wide <= high
    return Verdict(CONFIRMED if inside and not lost else UNDECIDED, numbers)


def of_interval(value: float, lower: float, upper: float, low: float, high: float, what: str) -> Verdict:
    """One measurement with its interval against a range: inside, outside, or across its border."""
    numbers = (
        f"{what}: {value:+.2f} ({lower:+.2f} to {upper:+.2f})"
        if np.isfinite(value)
        else (f"{what}: between {lower:+.2f} and {upper:+.2f}")
    )
    if np.isnan(lower) or np.isnan(upper):
        return Verdict(UNDECIDED, f"{what}: not to be had")
    if low <= lower and upper <= high:
        return Verdict(CONFIRMED, numbers)
    return Verdict(NOT_CONFIRMED if upper < low or lower > high else UNDECIDED, numbers)
