"""Whether groups of runs flow to the same spectrum: distances over time, a permutation test, an equivalence rule.

The rule is fixed before the data are seen. With x_i the normalised spectrum of run i, averaged over a window at the end
of training, d the distance between the means of two groups, and f the mean distance from the first spectrum of a run to
its x_i (how far spectra flow):

    confirmed      the upper confidence bound of d is below margin f: the groups end at one spectrum, within a small
                   share of the flow
    not confirmed  the permutation test rejects one law for both groups, and d is above margin f
    undecided      otherwise

The bound is d + t s, where s^2 is the largest variance of the difference of the means along a direction, and t the
one-sided quantile of Student's t (Welch's degrees of freedom). If the true difference is a vector of length margin f, d
is at least its component along this vector, whose variance is at most s^2. So "confirmed" is wrong in at most the share
alpha of such cases, whatever the number of directions.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from probe.stats.coarse_graining.distances import check_scale
from probe.stats.coarse_graining.run_permutations import permutation_test
from probe.stats.coarse_graining.run_spectra import RunSpectra, read_groups
from probe.stats.inference import LEAST_RUNS
from probe.stats.validation import check_count, check_number

VERDICTS = "confirmed", "not confirmed", "undecided"
_NUMBERS = {
    "between": "mean distance between runs of both groups, in the window",
    "within": "mean distance between runs of one group, in the window",
    "difference": "distance between the mean spectra of the groups",
    "difference_high": "upper confidence bound of the difference",
    "flow": "mean distance of a run from its first spectrum",
    "first_difference": "distance between the mean first spectra of the groups",
    "p_value": "p-value of one law for both groups",
    "least_p_value": "least p-value that these numbers of runs can reach",
}


def spectral_flow(
    groups: Mapping[str, xr.DataArray],
    window: Any,
    *,
    scale: str = "quantile",
    margin: float = 0.25,
    alpha: float = 0.05,
    max_assignments: int = 20_000,
    random_state: int = 0,
) -> xr.Dataset:
    """Compare the spectra of groups of runs over time, and test whether they end at the same spectrum.

    Parameters
    ----------
    groups : {name: DataArray over (run, step, rank), or with parameter}
        Singular values of each run of each group, as the variable ``mode_spectrum`` of
        :class:`probe.WeightModesProbe`. Groups may have matrices of different sizes, and other steps. NaN: no value.
    window : (first, last) or {name: (first, last)}
        Steps whose spectra are averaged, for all groups or by group: numbers, or one number for each run. A DataArray
        over ``run`` is matched by its labels. Choose it without a look at spectra, for example the last tenth of
        training.
    scale : str
        How spectra of different lengths are compared, see :func:`spectral_distance`.
    margin : float
        Largest share of the flow by which equal groups differ, between 0 and 1.
    alpha : float
        Size of the test, and of the error of the bound.
    max_assignments : int
        Largest number of assignments of runs to groups for an exact test. With more, this number of random ones.
    random_state : int
        Seed of random assignments.

    Returns
    -------
    xarray.Dataset
        By (pair, parameter), where a pair is ``"<group> / <group>"`` and the last parameter ``"<all>"`` has the root
        mean square distance over all parameters: ``verdict`` ("confirmed", "not confirmed", "undecided"), ``between``,
        ``within``, ``difference`` with ``difference_high``, ``flow``, ``first_difference``, ``p_value``,
        ``least_p_value``. By (pair, parameter, step), at the steps of all runs of the pair: ``between_at``,
        ``within_at``. Attributes: ``scale``, ``margin``, ``alpha``.

    Raises
    ------
    ValueError
        If there are fewer than two groups, they have no parameter in common, a run has no spectrum in the window, or an
        argument is outside its range.

    See Also
    --------
    spectral_distance : Of two spectra.
    probe.plots.spectral_flow : Figure of the distances over time.

    Notes
    -----
    With fewer than 3 runs in a group there is no bound, and nothing is confirmed. If ``least_p_value`` is above
    ``alpha`` (3 against 3 runs), the test cannot reject. The verdicts of parameters are single tests; there is no
    correction for their number. Groups that were equal at the first observation are "confirmed" too, if they move and
    stay equal: compare ``first_difference``.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe.stats import spectral_flow
    >>> generator = np.random.default_rng(0)
    >>> def runs(end):
    ...     ends = np.abs(end + 0.02 * generator.standard_normal((6, 4)))
    ...     spectra = np.stack([np.ones((6, 4)), ends], 1)
    ...     return xr.DataArray(spectra, dims=("run", "step", "rank"), coords={"step": [0, 9]})
    >>> few, also_few = runs(np.array([2.0, 1.0, 0.1, 0.1])), runs(np.array([2.0, 1.0, 0.1, 0.1]))
    >>> found = spectral_flow({"few": few, "also few": also_few, "one": runs(np.array([2.0, 0.1, 0.1, 0.1]))}, (9, 9))
    >>> found["verdict"].sel(parameter="<all>").values.tolist()
    ['confirmed', 'not confirmed', 'not confirmed']
    """
    check_scale(scale)
    check_number("margin", margin, 0, 1, "a share such as 0.25")
    check_number("alpha", alpha, 0, 0.2, "a size such as 0.05")
    check_count("max_assignments", max_assignments, 100)
    spectra = read_groups(groups, window, scale)
    rule = _Rule(margin, alpha, max_assignments, random_state)
    found = [
        _pair(spectra[one], spectra[other], rule).assign_coords(pair=f"{one} / {other}")
        for one, other in combinations(spectra, 2)
    ]
    result = xr.concat(found, "pair", join="outer", coords="minimal", compat="override")
    for name, text in _NUMBERS.items():
        result[name].attrs |= {"units": "1", "long_name": text}
    return result.assign_attrs(scale=scale, margin=margin, alpha=alpha)


class _Rule(NamedTuple):
    margin: float
    alpha: float
    max_assignments: int
    random_state: int


class _Bound(NamedTuple):
    value: float
    high: float


def _pair(a: RunSpectra, b: RunSpectra, rule: _Rule) -> xr.Dataset:
    """Return the numbers of a pair of groups over parameters, and those over steps."""
    parameters = list(a.last)
    cells = [_compare(a, b, parameter, rule) for parameter in parameters]
    steps = np.intersect1d(a.steps, b.steps)
    curves = [_over_time(a, b, parameter, steps) for parameter in parameters]
    return xr.Dataset(
        {
            **{name: ("parameter", [cell[name] for cell in cells]) for name in cells[0]},
            "between_at": (("parameter", "step"), [between for between, _ in curves]),
            "within_at": (("parameter", "step"), [within for _, within in curves]),
        },
        {"parameter": parameters, "step": steps},
    )


def _compare(a: RunSpectra, b: RunSpectra, parameter: str, rule: _Rule) -> dict[str, Any]:
    """Return the numbers of a pair of groups, and the verdict."""
    first, second, m = a.last[parameter], b.last[parameter], len(a.last[parameter])
    distances = _distances(np.concatenate([first, second]))
    test = permutation_test(distances, m, max_assignments=rule.max_assignments, random_state=rule.random_state)
    difference = _difference(first, second, rule.alpha)
    flow = float(np.concatenate([one.flow(parameter) for one in (a, b)]).mean())
    starts = [one.first[parameter].mean(0) for one in (a, b)]
    return {
        "between": distances[:m, m:].mean(),
        "within": _within(distances, m),
        "difference": difference.value,
        "difference_high": difference.high,
        "flow": flow,
        "first_difference": np.linalg.norm(starts[0] - starts[1]),
        "p_value": test.p_value,
        "least_p_value": test.least_p_value,
        "verdict": _verdict(difference, rule.margin * flow, test.p_value <= rule.alpha),
    }


def _verdict(difference: _Bound, margin: float, rejected: bool) -> str:
    if difference.high < margin:
        return VERDICTS[0]
    return VERDICTS[1] if rejected and difference.value > margin else VERDICTS[2]


def _difference(first: np.ndarray, second: np.ndarray, alpha: float) -> _Bound:
    """Return the distance between the means of vectors (runs, numbers), and its upper bound."""
    value = float(np.linalg.norm(first.mean(0) - second.mean(0)))
    sizes = len(first), len(second)
    if min(sizes) < LEAST_RUNS:
        return _Bound(value, np.nan)
    scaled = [(one - one.mean(0)) / (len(one) * (len(one) - 1)) ** 0.5 for one in (first, second)]
    along = np.linalg.svd(np.concatenate(scaled), full_matrices=False)[2][0]  # direction of the largest variance
    parts = np.array([np.square(one @ along).sum() for one in scaled])
    total = float(parts.sum())
    freedom = total**2 / (parts**2 / (np.array(sizes) - 1)).sum() if total > 0 else 1.0
    return _Bound(value, value + float(stats.t.ppf(1 - alpha, freedom)) * total**0.5)


def _distances(vectors: np.ndarray) -> np.ndarray:
    """Return the distances (..., runs, runs) of vectors (..., runs, numbers)."""
    squares = np.square(vectors).sum(-1)
    found = squares[..., :, None] + squares[..., None, :] - 2 * vectors @ np.swapaxes(vectors, -1, -2)
    found = np.sqrt(np.clip(found, 0, None))
    diagonal = np.arange(vectors.shape[-2])
    found[..., diagonal, diagonal] = 0
    return np.asarray(found)


def _within(distances: np.ndarray, m: int) -> np.ndarray | float:
    """Return the mean distance (...) between two runs of one group, NaN without such a pair."""
    total, pairs = 0.0, 0
    for part in (distances[..., :m, :m], distances[..., m:, m:]):
        total, pairs = total + part.sum((-1, -2)), pairs + part.shape[-1] * (part.shape[-1] - 1)
    return total / pairs if pairs else np.nan * total


def _over_time(a: RunSpectra, b: RunSpectra, parameter: str, steps: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return the mean distances between and within the groups at steps (step,)."""
    parts = [one.curve[parameter][:, np.isin(one.steps, steps)] for one in (a, b)]
    distances = _distances(np.concatenate(parts).swapaxes(0, 1))
    m = len(parts[0])
    return distances[:, :m, m:].mean((-1, -2)), _within(distances, m)
