"""Steps at which a response falls or rises to the middle between its ends, and their table.

This is the only definition of the transition of a map. The response at the last t1 falls with the start t0, and its
transition is the t0 at which half of the first response is left. It is estimated for each seed.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from sklearn.isotonic import isotonic_regression

from probe.stats import Cone

_TINY = 1e-12  # first value of a curve that does not fall
_FIELDS = ("step", "lower", "upper")


class Transition(NamedTuple):
    """Step of a transition with the neighbouring observations, and its status as that of :class:`probe.Marker`.

    Attributes
    ----------
    width : float
        Distance (dex of step + 1) from 80 % to 20 % of the way. NaN unless the status is "found".
    """

    status: str
    step: float = np.nan
    lower: float = np.nan
    upper: float = np.nan
    width: float = np.nan

    @classmethod
    def of_cone(cls, cone: Cone) -> "Transition":
        """Return the entry into a cone."""
        return cls(cone.status, cone.step, cone.lower, cone.upper)


def fall(steps: np.ndarray, values: np.ndarray, *, least: float = 0.0) -> Transition:
    """Return where a curve falls to half of its first value, on log10(step + 1) between the observations.

    The curve is the decreasing one with the least squared distance from the values, because a response at a single
    step is noisy.

    Parameters
    ----------
    steps, values
        Arrays of one length; NaN where there is no value.
    least
        Smallest first value, below which there is nothing to fall: the status is "absent".
    """
    known = np.isfinite(values)
    if known.sum() < 3:
        return Transition("undefined")
    t, y = steps[known].astype(float), isotonic_regression(values[known], increasing=False)
    if y[0] < max(least, _TINY):
        return Transition("absent")
    share = y / y[0]
    if share[-1] > 0.5:
        return Transition("right_censored")
    after = int(np.argmax(share <= 0.5))
    x = np.log10(t + 1)
    high, middle, low = (_crossing(x, share, level) for level in (0.8, 0.5, 0.2))
    return Transition("found", 10**middle - 1, t[after - 1], t[after], low - high)


def _crossing(x: np.ndarray, share: np.ndarray, level: float) -> float:
    """Return where a decreasing curve from 1 crosses a level, the last x if it does not."""
    if share[-1] > level:
        return float(x[-1])
    k = int(np.argmax(share <= level))
    weight = (share[k - 1] - level) / (share[k - 1] - share[k])
    return float(x[k - 1] + weight * (x[k] - x[k - 1]))


def rise(steps: np.ndarray, values: np.ndarray) -> Transition:
    """Return where a curve rises to the middle of its first and last values."""
    known = np.isfinite(values)
    if known.sum() < 3:
        return Transition("undefined")
    y = isotonic_regression(values[known], increasing=True)
    return fall(steps[known], y[-1] - y) if y[-1] > y[0] else Transition("absent")


def first_drop(steps: np.ndarray, rates: np.ndarray) -> Transition:
    """Return the first step at which the rate of the next update is at most half of the largest one before."""
    known = np.isfinite(rates)
    t, rate = steps[known].astype(float), rates[known]
    if not len(rate):
        return Transition("undefined")
    largest = np.maximum.accumulate(rate)
    dropped = (rate <= largest / 2) & (largest > 0)  # a warm-up may start from 0
    if not dropped.any():
        return Transition("absent")
    k = int(np.argmax(dropped))
    return Transition("found", t[k], t[k - 1], t[k])


def table(found: Mapping[str, Sequence[Transition]], detected: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return transitions and markers of a detector as one Dataset (run, marker)."""
    names = [*found, *detected]
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*_FIELDS, "status")}
    for name, column in columns.items():
        column += [np.array([getattr(one, name) for one in row]) for row in found.values()]
        column += [marker[name].values for marker in detected.values()]
    data = {name: (("run", "marker"), np.stack(column, 1)) for name, column in columns.items()}
    return xr.Dataset(data, {"run": np.arange(len(data["step"][1])), "marker": names})
