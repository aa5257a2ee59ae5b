"""Numbers that may raise an alarm, step by step from the past alone, and the threshold that they are set against."""

from typing import NamedTuple

import numpy as np

from probe.progress.runs import NOTHING, WEIGHT_NORM, Curve, Run

_SLOPE_OVER = 0.25 + 1e-9  # decades; rounding must not cost an observation at the edge


class Statistic(NamedTuple):
    """A number at each step that may raise an alarm: higher is more alarming, and only the past is in it."""

    steps: np.ndarray
    values: np.ndarray

    def alarm(self, threshold: float) -> float:
        """First step at or above the threshold; NaN if there is none."""
        over = np.flatnonzero(self.values >= threshold)
        return float(self.steps[over[0]]) if len(over) else np.nan

    def highest(self, before: float) -> float:
        """The largest value before a step; minus infinity if there is no observation."""
        return float(self.values[self.steps < before].max(initial=-np.inf))


def _after_fit(run: Run, curve: Curve) -> Curve:
    """The observations from where the end of fitting is known on: the last of the observations that show it."""
    if np.isnan(run.fit_known):
        return NOTHING
    return curve.between(run.fit_known, np.inf)


def moved(run: Run, signal: str, rule: str, n_sustained: int) -> Statistic:
    """The change since the end of fitting, or the value, that ``n_sustained`` observations in a row have reached.

    Of "drop" and "below" with the sign turned round, so that more is more alarming.
    """
    curve = run.curves.get(signal, NOTHING)
    steps, values = _after_fit(run, curve)
    origin = curve.until(run.fit_end) if rule in ("drop", "rise") else 0.0
    if np.isnan(origin) or len(steps) < n_sustained:
        return Statistic(*NOTHING)
    sign = 1 if rule in ("rise", "above") else -1
    windows = np.lib.stride_tricks.sliding_window_view(sign * (values - origin), n_sustained)
    return Statistic(steps[n_sustained - 1 :], windows.min(axis=1))


def clock(run: Run) -> Statistic:
    """log10 of the step over the end of fitting, at every observation of the train accuracy."""
    steps = _after_fit(run, run.train_accuracy).steps if run.train_accuracy is not None else np.empty(0)
    return Statistic(steps, np.log10((steps + 1) / (run.fit_end + 1)))


def slope(run: Run) -> Statistic:
    """Fall of the test loss per decade: a straight line through the observations of the last quarter of a decade."""
    steps, loss = run.test_loss or NOTHING
    x = np.log10(steps + 1)
    first = np.searchsorted(x, x - _SLOPE_OVER)
    known = np.flatnonzero(np.arange(len(x)) - first >= 2)  # three observations
    y = loss - loss.mean() if len(loss) else loss
    sums = np.pad(np.cumsum([np.ones_like(x), x, y, x * x, x * y], axis=1), ((0, 0), (1, 0)))
    n, sx, sy, sxx, sxy = sums[:, known + 1] - sums[:, first[known]]
    return Statistic(*_after_fit(run, Curve(steps[known], -(n * sxy - sx * sy) / (n * sxx - sx**2))))


def growth(run: Run) -> Statistic:
    """Rise of the norm of the weights since the end of fitting, relative."""
    norm = run.curves[WEIGHT_NORM]
    steps, values = _after_fit(run, norm)
    return Statistic(steps, values / norm.until(run.fit_end) - 1)


def best_threshold(runs: np.ndarray, controls: np.ndarray) -> float:
    """The threshold with the largest share of runs less share of controls at or above it; of several the lowest.

    Between two values it lies in the middle; minus infinity lets all pass, infinity none. Values may be minus infinity:
    no observation.
    """
    values = np.unique(np.concatenate([runs, controls]))
    values = values[np.isfinite(values)]
    tried = np.array([-np.inf, *values[:1], *(values[1:] + values[:-1]) / 2, np.inf])
    gains = [(runs >= threshold).mean() - (controls >= threshold).mean() for threshold in tried]
    return float(tried[int(np.argmax(gains))])
