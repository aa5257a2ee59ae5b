"""Binder's cumulant of an order parameter whose distribution is symmetric."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from probe.stats.inference import Estimate
from probe.stats.transition.groups import as_groups, bootstrap_interval, resampled
from probe.stats.validation import check_level

_LEAST, _DRAWS = 100, 400
_ALPHA, _LEAST_ASYMMETRY = 1e-3, 0.1  # size of the test of symmetry, and the asymmetry that matters


def binder_cumulant(samples: ArrayLike, *, level: float = 0.9, random_state: int = 0) -> Estimate:
    """Estimate Binder's cumulant 1 - <m^4> / (3 <m^2>^2) of a symmetric order parameter.

    It is 0 for a Gaussian, 2/3 for two narrow peaks at -m and m, and negative for three peaks or heavy tails. At a
    first-order transition it has a negative dip (Binder and Landau 1984).

    Parameters
    ----------
    samples : array of shape (n,) or (runs, n)
        Order parameter, 100 samples or more. Rows are independent runs. With fewer than 10 runs, the bootstrap
        resamples blocks of the runs, 20 in all.
    level : float
        Coverage of the interval, in (0, 1).
    random_state : int
        Seed of the bootstrap.

    Returns
    -------
    Estimate
        ``n`` is the number of groups that the bootstrap resamples. The bounds are NaN if nearly all samples are 0.

    Raises
    ------
    ValueError
        If there are too few samples, they do not vary, or their distribution is not symmetric around 0.

    See Also
    --------
    barrier_scaling : A test of first order that heavy tails do not pass.

    Notes
    -----
    A negative value alone does not show a first-order transition.

    - For samples with mean 0, the cumulant is minus a third of the excess kurtosis. Any heavy tail makes it negative:
      it is -2 for Student's t with 5 degrees of freedom. Estimates of heavy tails are too
      close to 0: for this distribution their mean is -1.4 with 1,000 samples, and -1.6 with 10,000.
    - If the order parameter is an average over many independent neurons, its distribution over networks is nearly
      Gaussian. The cumulant is then near 0, and has no dip, even if each neuron has two states.

    Samples are refused if their mean, mean cube or mean sign differs from 0 significantly (size 0.001), by more than
    0.1 in units of the root mean square. A run that stays in one of two symmetric states is refused too.

    Examples
    --------
    >>> import numpy as np
    >>> from probe.stats import binder_cumulant
    >>> random = np.random.default_rng(0)
    >>> print(f"{binder_cumulant(random.choice([-1, 1], 2000) + random.normal(0, 0.1, 2000)).value:.2f}")
    0.65
    """
    check_level(level)
    groups = as_groups("samples", samples, _LEAST)
    if np.ptp(groups) == 0:
        raise ValueError(
            f"Expected samples that vary, got {groups.flat[0]:g} alone; pass samples of an order parameter"
        )
    groups = groups / np.abs(groups).max()
    moments = np.stack([(groups**k).mean(1) for k in (1, 2, 3, 4)], 1)  # (groups, 4)
    _check_symmetry(moments, np.sign(groups).mean(1))
    rng = np.random.default_rng(random_state)
    drawn = resampled(moments, _DRAWS, rng) / len(moments)
    with np.errstate(invalid="ignore"):  # a draw of groups that are all 0
        value, values = (1 - m[..., 3] / (3 * m[..., 1] ** 2) for m in (moments.mean(0), drawn))
    return bootstrap_interval(float(value), values, len(groups), level)


def _check_symmetry(moments: np.ndarray, signs: np.ndarray) -> None:
    """Raise ValueError if the first or third moment of groups (groups, 4), or their mean sign, differs from 0."""
    size = np.sqrt(moments[:, 1].mean())
    of_groups = {"mean": moments[:, 0] / size, "mean cube": moments[:, 2] / size**3, "mean sign": signs}
    for name, values in of_groups.items():
        error = values.std(ddof=1) / np.sqrt(len(values))
        limit = stats.t.isf(_ALPHA / 2, len(values) - 1) * error
        if abs(values.mean()) > max(limit, _LEAST_ASYMMETRY):
            raise ValueError(
                f"Expected samples of a distribution that is symmetric around 0, got a {name} of {values.mean():.2f} "
                "in units of the root mean square; subtract the centre of symmetry, or use barrier_scaling"
            )
