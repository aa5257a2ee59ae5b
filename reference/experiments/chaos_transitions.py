"""The step after which perturbations have no effect any more, estimated for each seed and compared over seeds.

The effect of a start t0 is the last value of its row of a map. The transition of a seed lies between two neighbouring
starts: the effect of the first is above a level, and the effects of all later ones are not. The level is a tenth of the
largest effect of the seed, and at least the null: .01 for disagreements, .05 nats for barriers, ten times the length of
the perturbation for distances, and the angle of such a distance. An unperturbed twin has the effect 0.

A transition is that of the effect at the end. A start shortly before a drop of the learning rate leaves little time to
grow, so that its effect is small also where perturbations still grow.

The fraction and the nulls were fixed before the recordings, with pilots of the seeds 0 and 100 of two configurations.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from probe import PhaseDetector
from probe.stats import MedianStep, cone_of, median_step

FRACTION = 0.1  # of the largest effect of a seed
NULL_DISAGREEMENT, NULL_BARRIER = 0.01, 0.05
NULL_GROWTH = 10.0  # of the distance, over the length of the perturbation
NULL_SIGNAL = 0.01  # of the ratio of signal to noise
MAPS = ("distance", "angle", "disagreement", "barrier")
BESIDE = ("fit_end", "rate_drop", "signal_fall", "cone_entry")


class Transition(NamedTuple):
    """Transition of one seed, in steps.

    Attributes
    ----------
    status : str
        "found"; "left_censored" if no effect is above the null; "right_censored" if the effect of the last start is
        above the level; "undefined" without two finite effects.
    step, lower, upper : float
        Geometric mean of both neighbouring starts (of step + 1), and these starts. If it is not found, the step is NaN
        and the bounds are those of the status: the first start is the upper one, or the last start is the lower one.
    level : float
        The level, in units of the effect.
    """

    status: str
    step: float
    lower: float
    upper: float
    level: float


class Order(NamedTuple):
    """Sign test of the order of two steps over seeds.

    Attributes
    ----------
    earlier, later, tied : int
        Number of seeds in which the first step is earlier or later than the second one. Tied: their intervals overlap,
        or both are unknown on the same side.
    p_value : float
        Two-sided exact p-value of the sign test without ties, 1 without seeds.
    least_p_value : float
        The p-value if all seeds without ties had the same sign.
    """

    earlier: int
    later: int
    tied: int
    p_value: float
    least_p_value: float


def transition(t0: ArrayLike, effect: ArrayLike, *, null: float, fraction: float = FRACTION) -> Transition:
    """Return the transition of one seed from the effects (n,) of the starts ``t0`` (n,), which increase.

    Effects that are not finite are left out.

    Examples
    --------
    >>> from reference.experiments import transition
    >>> found = transition([0, 10, 100], [0.4, 0.3, 0.001], null=0.01)
    >>> found.status, round(found.step, 1), found.lower, found.upper
    ('found', 32.3, 10.0, 100.0)
    """
    steps, values = np.asarray(t0, float), np.asarray(effect, float)
    steps, values = steps[np.isfinite(values)], values[np.isfinite(values)]
    if len(steps) < 2:
        return Transition("undefined", np.nan, -np.inf, np.inf, np.nan)
    level = max(fraction * values.max(), null)
    above = np.flatnonzero(values > level)
    if not len(above):
        return Transition("left_censored", np.nan, -np.inf, float(steps[0]), level)
    if above[-1] == len(steps) - 1:
        return Transition("right_censored", np.nan, float(steps[-1]), np.inf, level)
    lower, upper = float(steps[above[-1]]), float(steps[above[-1] + 1])
    return Transition("found", float(np.sqrt((lower + 1) * (upper + 1)) - 1), lower, upper, float(level))


def transitions(series: xr.Dataset) -> xr.Dataset:
    """Return the transitions of all maps and seeds, and the steps beside them.

    Parameters
    ----------
    series
        What `record_chaos` returned, or a file ``reference/results/chaos-cone-*.nc``.

    Returns
    -------
    xarray.Dataset
        ``status``, ``step``, ``lower``, ``upper`` and ``level`` over (marker, run). The markers are those of `MAPS`,
        and of `BESIDE`: end of fitting, first drop of the learning rate by more than half, fall of the ratio of signal
        to noise (median of three observations) below a tenth of its maximum, and entry of the tangent kernel into a
        cone. Each of these has the interval of its own rule, or both neighbouring observations.
    """
    found = {
        name: [transition(series["t0"], row, null=_null(series, name)) for row in _effects(series, name)]
        for name in MAPS
    }
    found |= {name: list(rows) for name, rows in _beside(series).items()}
    fields = {
        field: (("marker", "run"), [[getattr(one, field) for one in rows] for rows in found.values()])
        for field in Transition._fields
    }
    return xr.Dataset(fields, {"marker": list(found), "run": series["run"].values})


def median_transition(found: xr.Dataset, series: xr.Dataset, marker: str, *, level: float = 0.9) -> MedianStep:
    """Return the median of a marker of :func:`transitions` over seeds, with an interval from order statistics."""
    one, steps = found.sel(marker=marker), series["t0" if marker in MAPS else "step"].values
    columns = [one[field].values for field in ("step", "lower", "upper", "status")]
    return median_step(*columns, first_step=steps[0], last_step=steps[-1], level=level)


def compare_steps(found: xr.Dataset, first: str, second: str) -> Order:
    """Return the order of two markers of :func:`transitions` over seeds."""
    (a, b), (c, d) = (_bounds(found.sel(marker=name)) for name in (first, second))
    earlier, later = int((b <= c).sum()), int((a >= d).sum())
    decided = earlier + later
    p = float(stats.binomtest(earlier, decided).pvalue) if decided else 1.0
    return Order(earlier, later, found.sizes["run"] - decided, p, min(1.0, 2.0 ** (1 - decided)))


def _bounds(one: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds (run,), infinite where a rule gives none."""
    lower, upper = one["lower"].values, one["upper"].values
    return np.where(np.isnan(lower), -np.inf, lower), np.where(np.isnan(upper), np.inf, upper)


def _effects(series: xr.Dataset, name: str) -> np.ndarray:
    array = series[f"map_{name}"].isel(t1=-1)
    array = array.sel(barrier="line") if "barrier" in array.dims else array
    return np.asarray(array.transpose("run", "t0").values)


def _null(series: xr.Dataset, name: str) -> float:
    distance = NULL_GROWTH * float(series.attrs["perturbation_size"])
    nulls: Mapping[str, float] = {
        "distance": distance,
        "angle": distance**2 / 2,
        "disagreement": NULL_DISAGREEMENT,
        "barrier": NULL_BARRIER,
    }
    return nulls[name]


def _beside(series: xr.Dataset) -> dict[str, Iterator[Transition]]:
    steps = series["step"].values.astype(float)
    fits = PhaseDetector().fit(series).markers_.sel(marker="fit_end")
    return {
        "fit_end": (
            Transition(str(status), float(step), float(lower), float(upper), np.nan)
            for status, step, lower, upper in zip(
                *(fits[field].values for field in ("status", "step", "lower", "upper")), strict=True
            )
        ),
        "rate_drop": (_rate_drop(steps, row) for row in series["learning_rate"].transpose("run", "step").values),
        "signal_fall": (
            transition(steps[1:-1], np.median(np.stack([row[:-2], row[1:-1], row[2:]]), 0), null=NULL_SIGNAL)
            for row in series["gradient_signal_to_noise"].transpose("run", "step").values
        ),
        "cone_entry": _cones(series),
    }


def _rate_drop(steps: np.ndarray, rates: np.ndarray) -> Transition:
    drops = np.flatnonzero(rates[1:] < 0.5 * rates[:-1])
    if not len(drops):
        return Transition("right_censored", np.nan, float(steps[-1]), np.inf, np.nan)
    lower, upper = float(steps[drops[0]]), float(steps[drops[0] + 1])
    return Transition("found", upper, lower, upper, np.nan)


def _cones(series: xr.Dataset) -> Iterator[Transition]:
    """Yield the entry of each seed into the cone of the kernels of training inputs."""
    found = cone_of(series, split="train").isel(step=0)
    columns = (found[name].values for name in ("status", "entry", "entry_lower", "entry_upper"))
    for status, step, lower, upper in zip(*columns, strict=True):
        yield Transition(str(status), float(step), float(lower), float(upper), np.nan)
