"""Whether the weights of a layer have one peak along a direction, droplets beside it, or droplets alone.

In the theory of arXiv:2310.03789 the overlaps q of the weights of the neurons with a direction of the target have the
density exp(-S(q)). Before the transition it has one peak at 0 (Gaussian feature learning, GFL). In the mixed phase
(GMFL-I) some neurons, the droplets, are at q = +q* and -q*. Behind it (GMFL-II) all are. Kurtosis does not decide,
since heavy tails have it too. The mixed phase needs a gap between two peaks (:mod:`probe.stats.transition.antimode`).
"""

from typing import Any

import numpy as np
import xarray as xr

from probe.stats.transition.action import empirical_action
from probe.stats.transition.droplet_tests import droplet_tests
from probe.stats.transition.non_gaussian import excess_kurtosis, negentropy
from probe.stats.validation import as_vectors, check_count, check_number

PHASES = "GFL", "GMFL-I", "GMFL-II", "undecided"
NUMBERS = {  # units and long names
    "phase": ("1", "phase of the overlaps"),
    "confidence": ("1", "confidence of the phase"),
    "kurtosis": ("1", "excess kurtosis of the overlaps"),
    "kurtosis_low": ("1", "lower end of the interval of the kurtosis (90 %)"),
    "kurtosis_high": ("1", "upper end of the interval of the kurtosis (90 %)"),
    "droplet_fraction": ("1", "share of droplets"),
    "droplet_fraction_low": ("1", "lower end of the interval of the share of droplets (95 %)"),
    "droplet_fraction_high": ("1", "upper end of the interval of the share of droplets (95 %)"),
    "power": ("1", "probability to find 15 % droplets"),
    "p_gap": ("1", "p-value of one peak"),
    "p_rise": ("1", "p-value of a density that does not rise from 0"),
    "p_symmetry": ("1", "p-value of droplets equally often at both sides"),
    "antimode": ("1", "overlap in the gap"),
    "contrast": ("nats", "log density of droplets over that in the gap"),
    "evidence": ("nats", "log Bayes factor of droplets against a t distribution"),
    "negentropy": ("bits", "negentropy of the overlaps"),
    "negentropy_sd": ("bits", "standard deviation of the negentropy of Gaussian overlaps"),
    "n_units": ("1", "number of overlaps"),
    "n_effective": ("1", "number of independent overlaps"),
    "n_zero": ("1", "number of overlaps that are exactly 0"),
}
_SIDES = "both", "one", "sizes"


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
        - ``n_units``, ``n_zero``: numbers of units, and of overlaps that are exactly 0. ``n_effective``: number of
          independent units, less than ``n_units`` only if the spacings of the overlaps show copies.

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
    Below 16 units, with equal overlaps, or with a power below .8, the phase is "undecided". It is also undecided if
    droplets are not symmetric. The page on measures has the rates of errors.

    The tests assume independent units. Copies of units are found from the spacings of the overlaps, if ten groups of
    copies or more exist. Their noise may be .1 % of the spread of the overlaps for pairs, and 1 % for four copies or
    more. One unit of each group then counts, and all numbers but ``action`` and the kurtosis are those of these units.
    The phase is undecided if their power is below .8. Copies with more noise, and a few large groups, cannot be
    distinguished from several peaks.

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
    numbers["n_effective"] = len(q)
    size = float(np.abs(q).max())
    if size > 0 and (z := q / size).std() > 1e-12:
        numbers |= _shape(z) | droplet_tests(z, sides, alpha, min_fraction, random_state)
        numbers["antimode"] = numbers.get("antimode", np.nan) * size
    values = {
        name: ((), numbers.get(name, np.nan), {"units": units, "long_name": long_name})
        for name, (units, long_name) in NUMBERS.items()
    }
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
