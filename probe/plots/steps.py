"""Axes and colours over steps: linear, logarithmic, or logarithmic with a linear part from step 0 to the next one."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import Locator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from probe.plots.names import label_text

_LINEAR = 0.45  # linscale of matplotlib: from step 0 to the next one is as long as half a factor of ten
_FEW_DECADES = 50  # last over first step, below which powers of ten are too few labels
_MOST_DECADES = 7  # beyond these, only every second, third, ... power of ten has a label
_ROUND = MaxNLocator(4, steps=[1, 2, 5, 10], integer=True)  # ticks of a short axis: integers if there are enough
_HUGE = 1e15  # from which on a tick has no unit
_TINY = 1e-280  # smaller steps have the place and the colour of step 0: matplotlib has no limits that are smaller
_LEAST_RATIO = 2  # last over first step, below which a logarithmic axis shows nothing more
_LOG_FACTOR = 30  # a linear axis hides markers before this fraction of the record


def axis_name(series: xr.Dataset | xr.DataArray) -> str:
    """Return the name of the axis: "step", or the ``axis`` of a PhaseDetector."""
    return label_text(series["step"].attrs.get("axis", "step"))


def is_logarithmic(series: xr.Dataset | xr.DataArray, markers: xr.Dataset | None = None) -> bool:
    """Return whether the steps are not evenly spaced, or a found marker lies in the first thirtieth of the record.

    The first gap may differ from the others, as in a log with the steps 0, 49, 99, 149. A record with negative steps,
    or that ends before twice its first step, has a linear axis.
    """
    steps = series["step"].values.astype(float)
    if len(steps) and (steps[0] < 0 or steps[-1] < _LEAST_RATIO * steps[0]):
        return False
    even = _are_even(steps) or (len(steps) > 3 and _are_even(steps[1:]))
    early = markers is not None and bool((markers["step"] < steps[-1] / _LOG_FACTOR).any())
    return not even or early


def _are_even(steps: np.ndarray) -> bool:
    gaps = np.diff(steps)
    rounding = 4 * np.spacing(np.abs(steps).max(initial=0.0))
    return np.allclose(gaps, gaps[:1], atol=rounding)


def step_axis(
    ax: Axes,
    series: xr.Dataset | xr.DataArray,
    markers: xr.Dataset | None = None,
    *,
    which: Literal["x", "y"] = "x",
) -> None:
    """Set scale, limits, ticks and label of an axis of steps, linear or logarithmic (:func:`is_logarithmic`).

    Curves are drawn at their steps, also at step 0: draw no step elsewhere.
    """
    steps = series["step"].values.astype(float)
    scale_steps(ax, steps, log=is_logarithmic(series, markers), which=which)
    getattr(ax, f"set_{which}label")(axis_name(series))


def scale_steps(ax: Axes, steps: ArrayLike, *, log: bool = True, which: Literal["x", "y"] = "x") -> None:
    """Set scale, limits and ticks of an axis of steps, given all its steps.

    A logarithmic axis with step 0 is linear from there to the first positive step (symlog), and has a tick "0".
    """
    steps = np.asarray(steps, dtype=float)
    axis: Axis = getattr(ax, f"{which}axis")
    drawn = getattr(ax.dataLim, f"interval{which}")
    ends = [*steps[[0, -1]], *drawn[np.isfinite(drawn)]]
    low, high = max(min(ends), min(0.0, steps[0])), max(ends)
    options: dict[str, Any] = {}
    if log and low <= 0:
        options = {"linthresh": first_positive(steps), "linscale": _LINEAR}
    if high > low:  # before the scale, whose margins can be infinite
        getattr(ax, f"set_{which}lim")(low, high)
    getattr(ax, f"set_{which}scale")("symlog" if options else "log" if log else "linear", **options)
    if log:
        axis.set_major_locator(StepLocator(first_positive(steps)))
        axis.set_minor_locator(StepLocator(first_positive(steps), minor=True))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(StepFormatter())


def first_positive(steps: ArrayLike) -> float:
    """Return the least positive step that is not tiny, or 1."""
    steps = np.asarray(steps, dtype=float)
    return float(min(steps[steps >= _TINY], default=1.0))


def step_text(step: float) -> str:
    """Return the label of a tick: 0, 500, 20k, 1M."""
    if abs(step) >= _HUGE:
        return f"{step:.3g}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(step) >= size:
            return f"{step / size:g}{unit}"
    return f"{step:g}"


class StepFormatter(ScalarFormatter):
    """Labels of ticks: 0, 500, 20k, 1M. Where these are equal, the offset of matplotlib, as in a late short record."""

    def __call__(self, step: float, pos: int | None = None) -> str:
        """Return the label of one step."""
        return step_text(step)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks."""
        texts = [step_text(step) for step in values]
        alike = len({*texts}) < len(texts)
        self.set_locs(list(values) if alike else [])
        return [ScalarFormatter.__call__(self, step, i) for i, step in enumerate(values)] if alike else texts


class StepLocator(Locator):
    """Ticks at 0 and at powers of ten, or at 1, 2 and 5 times these if there are few of them.

    Parameters
    ----------
    first : float
        First positive step, from which on the axis is logarithmic.
    minor : bool
        Ticks between powers of ten.
    """

    def __init__(self, first: float, *, minor: bool = False) -> None:
        self.first, self.minor = first, minor

    def __call__(self) -> Sequence[float]:
        """Return the ticks of the axis as it is shown."""
        return [] if self.axis is None else self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Return the ticks between two steps."""
        low, high = sorted((vmin, vmax))
        start = max(low, self.first if low <= 0 else 0.0)
        if self.minor and high > start * 100.0**_MOST_DECADES:
            return []
        if high <= start:
            return [] if self.minor else [float(tick) for tick in _ROUND.tick_values(low, high)]
        few = high / start < _FEW_DECADES
        powers = np.arange(np.floor(np.log10(start)), np.ceil(np.log10(high)) + 1)
        every = int(np.ceil(np.log10(high / start) / _MOST_DECADES))
        factors = np.arange(1, 10) if self.minor else np.array([1, 2, 5]) if few else np.ones(1)
        ticks = np.outer(10.0 ** powers[:: 1 if self.minor else every], factors).ravel()
        found = [float(tick) for tick in ticks if start * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if few and len(found) < 3 and not self.minor:
            found = [float(tick) for tick in _ROUND.tick_values(start, high) if start <= tick <= high]
        return [0.0, *found] if low <= 0 and not self.minor else found


def step_edges(steps: np.ndarray) -> np.ndarray:
    """Return the ends (n + 1,) of the intervals that steps (n,) have on a logarithmic axis, from the first step on."""
    first = first_positive(steps)
    places = step_places(steps, first)
    return np.concatenate([steps[:1], steps_at((places[1:] + places[:-1]) / 2, first), steps[-1:]])


def step_places(steps: ArrayLike, first: float) -> np.ndarray:
    """Return the places of steps on a logarithmic axis, in factors of ten, for layouts that need distances along it.

    Step 0 lies at 0, and ``first``, the first positive step, half a factor of ten after it.
    """
    places = SymmetricalLogTransform(10, first, _LINEAR).transform(np.asarray(steps, dtype=float))
    return np.asarray(places / first)


def steps_at(places: ArrayLike, first: float) -> np.ndarray:
    """Return the steps at these places (the inverse of :func:`step_places`)."""
    scale = SymmetricalLogTransform(10, first, _LINEAR).inverted()
    return np.asarray(scale.transform(np.asarray(places, dtype=float) * first))


def step_norm(steps: np.ndarray) -> Normalize:
    """Return the map from steps to colours, on the scale of a logarithmic axis."""
    steps = np.asarray(steps, dtype=float)
    first, last = first_positive(steps), max(float(steps[-1]), first_positive(steps))
    if steps[0] < _TINY:
        return SymLogNorm(linthresh=first, linscale=_LINEAR, vmin=0, vmax=last, base=10)
    return LogNorm(first, last if last > first else 10 * first)
