"""Tests of the phase of overlaps: a gap between two peaks, an empty core, symmetry, and the power to find a gap."""

from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import beta, binomtest

from probe.stats.transition.antimode import Gap, find_gap
from probe.stats.transition.copies import copies_per_value, thinned_copies
from probe.stats.transition.non_gaussian import mixture_evidence

_LEAST_UNITS = 16
_MOST_UNITS = 512  # of the search for a gap; of more, a fixed random subset
_ASYMMETRIC = 0.001  # p-value
_POWER = 0.8  # needed for GFL
_PLANTED, _DISTANCE, _DRAWS = 0.15, 7.0, 40  # share and distance (standard deviations of the core) of planted droplets


def droplet_tests(q: np.ndarray, sides: str, alpha: float, min_fraction: float, random_state: int) -> dict[str, Any]:
    """Return the phase of overlaps (n,) and the numbers on which it depends, none of fewer than 16 units."""
    if len(q) < _LEAST_UNITS:
        return {}
    gap = _gap(q, sides, random_state)
    copies = copies_per_value(q if sides == "one" else np.abs(q), gap.middle)
    if copies == 1:
        return _of_gap(q, gap, sides, alpha, min_fraction, random_state)
    q = thinned_copies(q, copies)
    if len(q) < _LEAST_UNITS or np.ptp(q) == 0:
        return {"n_effective": len(q)}
    found = _of_gap(q, _gap(q, sides, random_state), sides, alpha, min_fraction, random_state)
    if found["power"] < _POWER:
        fraction = {f"droplet_fraction{end}": np.nan for end in ("", "_low", "_high")}
        found |= {"phase": "undecided", "confidence": np.nan, "antimode": np.nan, "contrast": np.nan, **fraction}
    return {**found, "n_effective": len(q)}


def _part(q: np.ndarray, random_state: int) -> np.ndarray:
    """Return the units among which the gap is searched."""
    return q if len(q) <= _MOST_UNITS else np.random.default_rng(random_state).choice(q, _MOST_UNITS, replace=False)


def _gap(q: np.ndarray, sides: str, random_state: int) -> Gap:
    """Search the gap, among sizes unless droplets are at one side."""
    part = _part(q, random_state)
    return find_gap(np.sort(part)) if sides == "one" else find_gap(np.concatenate([[0.0], np.sort(np.abs(part))]))


def _of_gap(
    q: np.ndarray, gap: Gap, sides: str, alpha: float, min_fraction: float, random_state: int
) -> dict[str, Any]:
    """Return the phase and the numbers on which it depends, of independent units."""
    one, part = sides == "one", _part(q, random_state)
    antimode = sum(gap.middle) / 2
    beyond = _beyond(q, antimode, one)
    found: dict[str, Any] = {
        "p_gap": gap.p_gap,
        "p_rise": _p_one_sided(q) if one else gap.p_rise,
        "evidence": mixture_evidence(np.abs(q), abs(antimode)),
    }
    symmetry = _p_symmetry(q[beyond] if found["p_gap"] <= found["p_rise"] else q) if sides == "both" else 1.0
    found["power"] = _power(len(part) if len(part) < 100 else 100 * (len(part) // 100), alpha)
    phase, confidence = _phase(
        found["p_gap"], found["p_rise"], float(beyond.mean()), found["power"], alpha, min_fraction
    )
    if phase in ("GMFL-I", "GMFL-II") and symmetry < _ASYMMETRIC:
        phase, confidence = "undecided", np.nan
    if phase == "GMFL-I":
        found["contrast"] = _contrast(gap, part if one else np.abs(part))
    found["antimode"] = abs(antimode) if phase == "GMFL-I" else np.nan
    return {**found, "p_symmetry": symmetry, "phase": phase, "confidence": confidence, **_fraction(phase, beyond)}


def _p_symmetry(q: np.ndarray) -> float:
    """Return the p-value of droplets equally often at both sides."""
    return float(binomtest(int((q > 0).sum()), len(q)).pvalue) if len(q) else 1.0


def _beyond(q: np.ndarray, antimode: float, one: bool) -> np.ndarray:
    """Return which units are on the other side of the antimode than 0."""
    return np.asarray(q * np.sign(antimode) > abs(antimode) if one else np.abs(q) > antimode)


def _p_one_sided(q: np.ndarray) -> float:
    """Return the p-value of a share of at most 95 % of the units at one side of 0."""
    count = max((q > 0).sum(), (q < 0).sum())
    return float(binomtest(int(count), len(q), 0.95, alternative="greater").pvalue)


def _phase(
    p_gap: float, p_rise: float, fraction: float, power: float, alpha: float, min_fraction: float
) -> tuple[str, float]:
    """Return the phase and its confidence."""
    if p_gap < alpha and min_fraction <= fraction <= 1 - min_fraction:
        return "GMFL-I", 1 - p_gap
    few_in_core = p_gap < alpha and fraction > 1 - min_fraction
    if p_rise < alpha and (few_in_core or p_gap >= alpha):
        return "GMFL-II", 1 - p_rise
    return ("GFL", power) if power >= _POWER and p_rise >= alpha else ("undecided", np.nan)


@lru_cache(maxsize=64)
def _power(n: int, alpha: float) -> float:
    """Return how often a gap is found in a Gaussian core with planted droplets."""
    generator, found = np.random.default_rng(0), 0
    count = round(_PLANTED * n)
    for _ in range(_DRAWS):
        q = generator.standard_normal(n)
        q[:count] += _DISTANCE
        found += find_gap(np.concatenate([[0.0], np.sort(np.abs(q))])).p_gap < alpha
    return found / _DRAWS


def _contrast(gap: Gap, values: np.ndarray) -> float:
    """Return the log ratio of the densities behind the gap and in it. An interval holds half its two ends."""
    pair = gap.middle, gap.right if sum(gap.middle) > 0 else gap.left
    counts = [((values > low) & (values < high)).sum() + 1 for low, high in pair]
    lengths = [high - low for low, high in pair]
    return float(np.log(counts[1] / lengths[1] * lengths[0] / counts[0]))


def _fraction(phase: str, beyond: np.ndarray) -> dict[str, float]:
    """Return the share of droplets with its interval."""
    if phase == "undecided":
        return {}
    n = len(beyond)
    k = {"GFL": 0, "GMFL-II": n}.get(phase, int(beyond.sum()))
    low, high = beta.ppf(0.025, k, n - k + 1) if k else 0.0, beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return {"droplet_fraction": k / n, "droplet_fraction_low": float(low), "droplet_fraction_high": float(high)}
