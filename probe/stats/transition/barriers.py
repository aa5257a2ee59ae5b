"""Barrier between two phases against the size of the system: it grows with the size at a first-order transition."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats.inference import Estimate
from probe.stats.transition.density import (
    cell_counts,
    equal_height_field,
    field_weights,
    heights_of,
    kernel_width,
    valley,
)
from probe.stats.transition.groups import as_groups, bootstrap_error, bootstrap_interval, resampled
from probe.stats.validation import as_vectors, check_level, check_number

LEAST_SIZES, LEAST_SAMPLES = 4, 500
_DRAWS = 200
_LEAST_VALUES = 5  # fewer values have no antimode
_LEAST_STEP = 0.00995  # of the logarithm of the size, 1 %
_SIGNIFICANT = 2.0  # standard errors


class BarrierScaling(NamedTuple):
    """Result of :func:`barrier_scaling`.

    Attributes
    ----------
    status : str
        "grows", as at a first-order transition; "does not grow"; "undecided"; "too few sizes" with fewer than four.
    reason : str
        Why the status is "undecided" or "too few sizes"; else empty.
    sizes : array of shape (k,)
        Sizes in increasing order.
    barriers, lower, upper : array of shape (k,)
        log(peak / antimode) with its interval (nats). 0 means a single peak.
    resolved : bool array of shape (k,)
        Whether the kernel at the antimode has 15 samples. If not, the barrier is a lower bound.
    field : array of shape (k,)
        Field of the reweighting to equal heights. NaN: not reweighted.
    slope : Estimate
        Slope of the barriers against the size (nats per unit of size). The upper bound is infinite if fewer than four
        barriers are resolved.
    growth : Estimate
        Slope times the range of sizes (nats).
    """

    status: str
    reason: str
    sizes: np.ndarray
    barriers: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    resolved: np.ndarray
    field: np.ndarray
    slope: Estimate
    growth: Estimate


class _Barrier(NamedTuple):
    estimate: Estimate
    error: float
    resolved: bool
    field: float


def barrier_scaling(
    sizes: ArrayLike,
    samples: Sequence[ArrayLike],
    *,
    conjugate: Sequence[ArrayLike] | None = None,
    symmetric: bool = False,
    least_growth: float = 0.5,
    level: float = 0.9,
    random_state: int = 0,
) -> BarrierScaling:
    """Test whether the barrier between two phases grows with the size of the system (Lee and Kosterlitz 1990).

    At a first-order transition, the distribution of the order parameter has a peak for each phase, and
    log(peak / antimode) grows with the size. At a continuous transition, it does not grow.

    Parameters
    ----------
    sizes : array of shape (k,)
        Sizes of the system, four or more.
    samples : sequence of k arrays of shape (n,) or (runs, n)
        Order parameter of each size at its transition, 500 samples or more. Rows are independent runs. With fewer than
        10 runs, the bootstrap resamples blocks of the runs, 20 in all. A block should be longer than the correlation
        time.
    conjugate : sequence of k arrays, optional
        Quantity that the control parameter multiplies in the exponent of the distribution, for each sample; the energy
        for an inverse temperature. It is used to reweight both peaks to equal heights (Ferrenberg and Swendsen 1988).
        Without it nothing is reweighted, and the barrier is that of the lower peak.
    symmetric : bool
        The distribution is even: use each sample with both signs.
    least_growth : float
        Least growth of the barrier over the range of sizes that counts (nats), positive.
    level : float
        Coverage of the intervals, in (0, 1).
    random_state : int
        Seed of the bootstrap.

    Returns
    -------
    BarrierScaling
        The status is "grows" if the growth is at least ``least_growth``, and its interval excludes 0. It is "does not
        grow" if the upper bound of the growth is below ``least_growth``.

    Raises
    ------
    ValueError
        If sizes are not positive or differ by less than 1 %, shapes differ, or a size has fewer than 500 finite samples
        or fewer than five distinct values.

    See Also
    --------
    hopping_rates : Rates at which units cross the barrier.
    hysteresis : The same question, with a control parameter that is swept.

    Notes
    -----
    A peak has at least 2 % of the samples. The kernel of the density has a width of 0.4 standard deviations of the
    narrower peak. The line is fitted to the resolved barriers, if there are four, and else to all; the slope is then
    a lower bound. A run that stays in one phase has one peak. If a larger size has one peak, and a
    smaller one has two, the status is "undecided".

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import barrier_scaling
    >>> random = np.random.default_rng(0)
    >>> sizes = [10, 20, 30, 40]  # two Gaussian phases at -1 and 1, of variance 4 / size
    >>> samples = [random.choice([-1, 1], 5000) + random.normal(0, 2 / d**0.5, 5000) for d in sizes]
    >>> found = barrier_scaling(sizes, samples, symmetric=True)
    >>> found.status, np.round(found.barriers, 1)
    ('grows', array([0.5, 1.6, 2.7, 3.8]))
    """
    check_level(level)
    check_number("least_growth", least_growth, 0, np.inf, "a number of nats such as 0.5")
    order, groups = _by_size(sizes, samples, "samples")
    fields = None if conjugate is None else _by_size(sizes, conjugate, "conjugate")[1]
    rng = np.random.default_rng(random_state)
    found = []
    for i in range(len(order)):
        if fields is not None and fields[i].shape != groups[i].shape:
            raise ValueError("Expected samples and conjugate of one shape, got others; pass one number per sample")
        found.append(_barrier(groups[i], None if fields is None else fields[i], symmetric, level, rng))
    status, reason, slope = _verdict(order, found, least_growth, level)
    values, lower, upper, _ = np.array([b.estimate for b in found]).T
    growth = _growth(order, slope)
    resolved, field = np.array([b.resolved for b in found]), np.array([b.field for b in found])
    return BarrierScaling(status, reason, order, values, np.maximum(lower, 0), upper, resolved, field, slope, growth)


def _by_size(sizes: ArrayLike, samples: Sequence[ArrayLike], name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return sizes in increasing order, and the groups of samples of each."""
    (s,) = as_vectors(sizes=sizes)
    if not np.isfinite(s).all() or (s <= 0).any() or len(np.unique(s)) < len(s) or len(s) == 0:
        raise ValueError(f"Expected distinct positive sizes, got {sizes!r}; merge the samples of one size")
    if len(s) >= LEAST_SIZES and (np.diff(np.sort(np.log(s))) < _LEAST_STEP).any():
        raise ValueError(f"Expected sizes that differ by 1 % or more, got {sizes!r}; merge the samples of one size")
    if len(samples) != len(s):
        raise ValueError(f"Expected {name} of {len(s)} sizes, got {len(samples)}; pass one array per size")
    order = np.argsort(s)
    return s[order], [as_groups(f"{name} of size {s[i]:g}", samples[i], LEAST_SAMPLES) for i in order]


def _barrier(
    groups: np.ndarray, conjugate: np.ndarray | None, symmetric: bool, level: float, rng: np.random.Generator
) -> _Barrier:
    """Return the barrier of one size."""
    if (values := len(np.unique(groups))) < _LEAST_VALUES:
        raise ValueError(
            f"Expected samples that vary, with {_LEAST_VALUES} distinct values or more, got {values}; pass an order "
            "parameter"
        )
    groups = groups / np.abs(groups).max()
    largest = 1.0 if conjugate is None else float(np.abs(conjugate).max()) or 1.0
    conjugate = None if conjugate is None else conjugate / largest
    if symmetric:
        groups = np.hstack([groups, -groups])
        conjugate = None if conjugate is None else np.hstack([conjugate, conjugate])
    width = kernel_width(groups.ravel())
    field = np.nan if conjugate is None else equal_height_field(groups, conjugate, width)
    weights = np.ones_like(groups) if np.isnan(field) or conjugate is None else field_weights(conjugate, field)
    counts = cell_counts(groups, weights, width)
    drawn = np.vstack([counts.sum(0), resampled(counts, _DRAWS, rng)])
    found = valley(heights_of(drawn, groups.size), groups.size)
    depth = found.depth if np.isnan(field) else found.mean_depth
    estimate = bootstrap_interval(depth[0], depth[1:], len(groups), level)
    resolved = bool(found.resolved[0] or depth[0] == 0)
    return _Barrier(estimate, bootstrap_error(depth[1:], len(groups)), resolved, field / largest)


def _verdict(sizes: np.ndarray, found: list[_Barrier], least_growth: float, level: float) -> tuple[str, str, Estimate]:
    """Return the status, its reason, and the slope."""
    k = len(sizes)
    if k < LEAST_SIZES:
        return "too few sizes", f"there are {k} sizes, the rule needs {LEAST_SIZES}", Estimate(*3 * (np.nan,), k)
    fitted = np.array([b.resolved for b in found])
    fitted |= fitted.sum() < LEAST_SIZES
    values, errors = np.array([(b.estimate.value, b.error) for b in found]).T
    slope = _slope(sizes[fitted], values[fitted], errors[fitted], level)
    if not all(b.resolved for b, used in zip(found, fitted, strict=True) if used):
        slope = slope._replace(upper=np.inf)
    middle, low, high, _ = _growth(sizes, slope)
    two = [b.estimate.value > max(_SIGNIFICANT * b.error, least_growth) for b in found]
    one = [b.estimate.value < _SIGNIFICANT * b.error or b.estimate.value == 0 for b in found]
    if any(one[j] and any(two[:j]) for j in range(k)):
        return "undecided", "a larger size has one peak: it may not be at its transition, or its runs are short", slope
    if middle >= least_growth and low > 0:
        return "grows", "", slope
    if high < least_growth:
        return "does not grow", "", slope
    if np.isinf(high):
        return "undecided", "antimodes have too few samples; record more of them, or smaller sizes", slope
    return "undecided", f"the growth of the barrier lies between {low:.2g} and {high:.2g}", slope


def _growth(sizes: np.ndarray, slope: Estimate) -> Estimate:
    """Return the growth over the range of sizes."""
    span = float(np.ptp(sizes))
    return Estimate(span * slope.value, span * slope.lower, span * slope.upper, slope.n)


def _slope(sizes: np.ndarray, barriers: np.ndarray, errors: np.ndarray, level: float) -> Estimate:
    """Return the slope of least squares. Its error grows by the misfit of the line, if that exceeds the errors."""
    centred = sizes - sizes.mean()
    weights = centred / (centred**2).sum()
    slope = float(weights @ barriers)
    residual = barriers - barriers.mean() - slope * centred
    misfit = (residual**2).sum() / max((errors**2).sum() * (1 - 2 / len(sizes)), 1e-300)
    error = np.sqrt((weights**2 * errors**2).sum() * max(misfit, 1.0))
    half = error * stats.norm.ppf((1 + level) / 2)
    return Estimate(slope, float(slope - half), float(slope + half), len(sizes))
