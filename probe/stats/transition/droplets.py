"""Whether the weights of a layer have one peak along a direction, droplets beside it, or droplets alone.

In the theory of arXiv:2310.03789 the overlaps q of the weights of the neurons with a direction of the target have the
density exp(-S(q)). Before the transition it has one peak at 0 (Gaussian feature learning, GFL). In the mixed phase
(GMFL-I) some neurons, the droplets, are at q = +q* and -q*. Behind it (GMFL-II) all are. Kurtosis does not decide,
since heavy tails have it too. The mixed phase needs a gap between two peaks (:mod:`probe.stats.transition.antimode`).
"""

from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import beta, binomtest

from probe.stats.transition.action import empirical_action
from probe.stats.transition.antimode import Gap, find_gap
from probe.stats.transition.non_gaussian import excess_kurtosis, mixture_evidence, negentropy
from probe.stats.validation import as_vectors, check_count, check_number

PHASES = "GFL", "GMFL-I", "GMFL-II", "undecided"
_SIDES = "both", "one", "sizes"
_LEAST_UNITS = 16
_MOST_UNITS = 512  # of the search for a gap; of more, a fixed random subset
_ASYMMETRIC = 0.001  # p-value
_POWER = 0.8  # needed for GFL
_PLANTED, _DISTANCE, _DRAWS = 0.15, 7.0, 40  # share and distance (standard deviations of the core) of planted droplets


def droplet_phase(
    overlaps: np.ndarray,
    *,
    sides: str = "both",
    alpha: float = 0.02,
    min_fraction: float = 0.03,
    n_bins: int = 31,
    random_state: int = 0,
) -> xr.Dataset:
    """Return the phase of a layer from the overlaps of its neurons with one direction.

    Parameters
    ----------
    overlaps : array of shape (n_units,)
        Inner product of the weight vector of each neuron with the direction, finite. The scale does not matter.
    sides : str
        ``"both"``: droplets are at both sides of 0, equally often. ``"one"``: overlaps are multiplied by the sign of
        the read-out weight of the neuron, so that droplets are at one side. ``"sizes"``: overlaps are sizes of at least
        0, such as Fourier powers.
    alpha : float
        Size of the tests for a gap and for an empty core.
    min_fraction : float
        Smallest share of droplets, and of the core, in a mixed phase. Fewer droplets are outliers.
    n_bins : int
        Number of bins of the empirical action.
    random_state : int
        Seed of the subset in which the gap is searched, of more than 512 units.

    Returns
    -------
    xarray.Dataset
        Without dimensions:

        - ``phase``: "GFL", "GMFL-I" (mixed), "GMFL-II" or "undecided".
        - ``confidence``: of GMFL-I and GMFL-II, 1 minus the p-value of the phase without droplets. Of GFL, the power.
          NaN if undecided.
        - ``power``: probability of GMFL-I if 15 % of the units were droplets at 7 standard deviations of a Gaussian
          core.
        - ``droplet_fraction`` with ``_low``, ``_high`` (95 %, Clopper and Pearson): share of units beyond the
          antimode. In GFL it is 0, in GMFL-II 1, and NaN if undecided.
        - ``antimode``: the size of q in the middle of the gap. ``contrast``: log of the density of the peak behind the
          gap over that in the gap, in nats. It is biased upwards, because the gap was searched.
        - ``p_gap``, ``p_rise``: p-values of a density with one peak, and of one that does not rise from 0.
        - ``p_symmetry``: p-value of droplets equally often at both sides.
        - ``kurtosis`` with ``_low``, ``_high`` (90 %): excess kurtosis. With heavy tails the interval is too short.
        - ``negentropy``, ``negentropy_sd``: bits, and the standard deviation for Gaussian overlaps.
        - ``evidence``: log Bayes factor in nats of a core with droplets against a t distribution.
        - ``n_units``, ``n_zero``: numbers of units, and of overlaps that are exactly 0.

        By ``bin``: ``action``, -log of the density of q, least 0, in nats (infinite for an empty bin), ``action_se``,
        and the coordinate ``q``.

    Raises
    ------
    ValueError
        If overlaps are no vector of 4 or more finite numbers, or a parameter is outside its range.

    See Also
    --------
    probe.WeightPhaseProbe : The same for the layers of a model over training.

    Notes
    -----
    The tests assume independent units. Below 16 units, with equal overlaps, or with a power below .8, the phase is
    "undecided". It is also undecided if droplets are not symmetric. The page on measures has the rates of errors.

    References
    ----------
    Rubin, Seroussi and Ringel (2024), arXiv:2310.03789.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import droplet_phase
    >>> generator = np.random.default_rng(0)
    >>> core, droplets = generator.standard_normal(240), 8 + generator.standard_normal(60)
    >>> droplets[::2] *= -1
    >>> found = droplet_phase(np.concatenate([core, droplets]))
    >>> found["phase"].item(), round(found["droplet_fraction"].item(), 2)
    ('GMFL-I', 0.2)
    >>> droplet_phase(generator.standard_t(5, 300))["phase"].item()
    'GFL'
    """
    (q,) = as_vectors(overlaps=overlaps)
    _check(q, sides, alpha, min_fraction, n_bins)
    numbers: dict[str, Any] = {"phase": "undecided", "n_units": len(q), "n_zero": int((q == 0).sum())}
    size = float(np.abs(q).max())
    if size > 0 and (z := q / size).std() > 1e-12:
        numbers |= _shape(z) | _droplets(z, sides, alpha, min_fraction, random_state)
        numbers["antimode"] = numbers.get("antimode", np.nan) * size
    names = (
        "power",
        "p_gap",
        "p_rise",
        "p_symmetry",
        "antimode",
        "contrast",
        "evidence",
        "negentropy",
        "negentropy_sd",
    )
    ranges = [f"{name}{end}" for name in ("kurtosis", "droplet_fraction") for end in ("", "_low", "_high")]
    values = {name: numbers.get(name, np.nan) for name in ("phase", "confidence", *ranges, *names, "n_units", "n_zero")}
    return xr.Dataset(values).merge(empirical_action(q, n_bins))


def _check(q: np.ndarray, sides: str, alpha: float, min_fraction: float, n_bins: int) -> None:
    """Raise ValueError for arguments outside their ranges."""
    if len(q) < 4 or not np.isfinite(q).all():
        raise ValueError(
            f"Expected 4 or more finite overlaps, got {len(q)} of which {int(np.isfinite(q).sum())} are finite; pass "
            "one number per neuron"
        )
    if sides not in _SIDES:
        raise ValueError(f"Expected sides as 'both', 'one' or 'sizes', got {sides!r}; pass one of them")
    if sides == "sizes" and (q < 0).any():
        raise ValueError(f"Expected sizes of at least 0, got {q.min():g}; pass powers, or sides='both' for overlaps")
    check_number("alpha", alpha, 0, 0.2, "a size such as 0.02")
    check_number("min_fraction", min_fraction, 0, 0.5, "a share such as 0.03")
    check_count("n_bins", n_bins, 2)


def _shape(q: np.ndarray) -> dict[str, float]:
    """Return kurtosis and negentropy. They are free of scale."""
    z = (q - q.mean()) / q.std()
    kurtosis, (bits, error) = excess_kurtosis(z), negentropy(z)
    ends = {"kurtosis": kurtosis.value, "kurtosis_low": kurtosis.low, "kurtosis_high": kurtosis.high}
    return {**ends, "negentropy": bits, "negentropy_sd": error}


def _droplets(q: np.ndarray, sides: str, alpha: float, min_fraction: float, random_state: int) -> dict[str, object]:
    """Return the phase and the numbers on which it depends."""
    if len(q) < _LEAST_UNITS:
        return {}
    part = q
    if len(q) > _MOST_UNITS:
        part = np.random.default_rng(random_state).choice(q, _MOST_UNITS, replace=False)
    one = sides == "one"
    gap = find_gap(np.sort(part)) if one else find_gap(np.concatenate([[0.0], np.sort(np.abs(part))]))
    antimode = sum(gap.middle) / 2
    beyond = _beyond(q, antimode, one)
    found = {
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
