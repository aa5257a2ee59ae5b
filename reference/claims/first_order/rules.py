"""Verdicts on single numbers of the theory, and on means over networks."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from reference.claims.first_order.configurations import PRINTED_SHARE
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict

LEVEL = 0.9


def not_recorded(file: str, command: str) -> Verdict:
    """Return the verdict of a claim without its recording."""
    return Verdict(UNDECIDED, f"not recorded: {file}; `{command}`")


def of_truth(holds: bool, numbers: str) -> Verdict:
    """Judge a statement on exact numbers."""
    return Verdict(CONFIRMED if holds else NOT_CONFIRMED, numbers)


def of_printed(value: float, printed: str, what: str) -> Verdict:
    """Judge whether a number of the theory is the printed one.

    It may differ by half a unit of the last printed digit, or by 2 %, because the paper calls its numbers approximate.
    """
    expected = float(printed)
    decimals = len(printed.partition(".")[2])
    allowed = max(0.5 * 10.0**-decimals, PRINTED_SHARE * abs(expected))
    numbers = f"{what}: {value:.4g}, printed {printed} ({100 * (value / expected - 1):+.1f} %)"
    return of_truth(abs(value - expected) <= allowed, numbers)


def of_ratio(values: ArrayLike, theory: float, allowed: float, what: str) -> Verdict:
    """Judge whether the mean of several networks is that of the theory, within a share ``allowed`` of it.

    Confirmed if the 90 % interval of the ratio lies inside, not confirmed if it lies outside, undecided otherwise.
    """
    known = np.asarray(values, dtype=float)
    if len(known) < 3 or not np.isfinite(known).all():
        return Verdict(UNDECIDED, f"{what}: too few networks")
    mean, error = known.mean(), known.std(ddof=1) / np.sqrt(len(known))
    half = stats.t.ppf((1 + LEVEL) / 2, len(known) - 1) * error
    low, high = (mean - half) / theory - 1, (mean + half) / theory - 1
    numbers = f"{what}: {mean:.4f}, theory {theory:.4f}, {100 * (mean / theory - 1):+.1f} %"
    numbers += f" ({100 * low:+.1f} to {100 * high:+.1f} %; {len(known)} networks)"
    if -allowed <= low and high <= allowed:
        return Verdict(CONFIRMED, numbers)
    return Verdict(NOT_CONFIRMED if low > allowed or high < -allowed else UNDECIDED, numbers)


def of_errors(differences: dict[str, tuple[float, float]], size: float, what: str) -> Verdict:
    """Judge whether differences from the theory are sampling errors.

    Parameters
    ----------
    differences
        Difference and its standard error by name.
    size
        Size of the test of all differences together (Bonferroni).
    what
        Description of the differences, for the numbers.
    """
    z = {name: value / error for name, (value, error) in differences.items()}
    limit = stats.norm.isf(size / 2 / len(z))
    largest = max(z, key=lambda name: abs(z[name]))
    numbers = f"{what}: largest {z[largest]:+.1f} standard errors, {largest} ({len(z)} tests, limit {limit:.1f})"
    return of_truth(abs(z[largest]) <= limit, numbers)
