"""Windows and markers of the analysis of coarse graining. They were fixed before any spectrum of these runs was seen.

Two rules on missing values came later, when the digits and five seeds of the perceptron had been seen: the rank of the
Fisher matrix is missing where it is 0, and a value further than a factor of 1.5 from a bound is not read. Both leave
claims undecided. They confirm none.

Known when they were fixed: losses and accuracies of earlier runs of the demo and of the perceptrons, those of single
runs modulo 97 by which the recipe was chosen, and the sentences of arXiv:2504.12700, section 4.3. No singular value and
no rank of these networks had been looked at.

Windows, by the markers of `probe.PhaseDetector` on losses and accuracies of the run:

- ``fitting``: from step 10 to the end of fitting.
- ``second``: from the end of fitting to the end marker (test accuracy .99). It ends with the record if this accuracy is
  never reached. This is the second phase of the paper.
- ``plateau``: the part of ``second`` before the test accuracy leaves chance.
- ``generalisation``: the rest of ``second``.

A window must span a factor of 1.25 in steps; otherwise the run has no such window. A control is read in the windows of
the run with its seed, so both are compared at equal steps and by pairs.

Markers of an effective number of parameters, a curve over steps from step 10 on:

- The fall goes from its maximum to its least later value. It counts if it is at least 10 %.
- ``thinning_onset`` is the last step at which less than 10 % of the fall (of the logarithm) is made.
- ``thinning_half`` is the first step at which half of it is made.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from probe import PhaseDetector

FIRST_STEP = 10  # the learning rate of the transformers rises until then
WINDOWS = ("fitting", "second", "plateau", "generalisation")
LEAST_SPAN = 1.25
LEAST_FALL = 0.1  # share of an effective number of parameters
ONSET, HALF = 0.1, 0.5  # shares of the fall of its logarithm
HALF_ACCURACY = 0.5
FAR = 1.5  # largest factor between a bound and the step of its observation
MARKERS = ("fit_end", "generalisation_onset", "end")
N_SUSTAINED = 3


def run_markers(curves: xr.Dataset) -> xr.DataArray:
    """Return the steps of the markers of losses and accuracies, over (run, marker); NaN where one was not found.

    ``test_half`` is the first step from which the test accuracy stays at 0.5 or more for three observations.
    """
    found = PhaseDetector(n_sustained=N_SUSTAINED).fit(curves).markers_.sel(marker=list(MARKERS))
    steps = found["step"].where(found["status"] == "found").transpose("run", "marker").values
    accuracy = curves["test_accuracy"].transpose("run", "step")
    half = [_first_sustained(curves["step"].values, row >= HALF_ACCURACY) for row in accuracy.values]
    values = np.column_stack([steps, half])
    return xr.DataArray(values, {"marker": [*MARKERS, "test_half"]}, ("run", "marker"))


def _first_sustained(steps: np.ndarray, holds: np.ndarray) -> float:
    """Return the first step from which a condition holds at three observations in a row."""
    in_a_row = np.convolve(holds, np.ones(N_SUSTAINED), "valid") == N_SUSTAINED
    return float(steps[in_a_row.argmax()]) if in_a_row.any() else np.nan


def windows_of(markers: xr.DataArray, last: ArrayLike) -> dict[str, xr.DataArray]:
    """Return the first and the last step of each window, over (run, bound); NaN without this window.

    Parameters
    ----------
    markers
        Result of `run_markers`.
    last : array of shape (run,)
        Last observed step of each run.
    """
    fit, onset, end = (markers.sel(marker=name).values.astype(float) for name in MARKERS)
    end = np.where(np.isfinite(end), end, np.asarray(last, dtype=float))
    onset = np.clip(np.where(np.isfinite(onset), onset, end), fit, end)
    bounds = {
        "fitting": (np.full_like(fit, FIRST_STEP), fit),
        "second": (fit, end),
        "plateau": (fit, onset),
        "generalisation": (onset, end),
    }
    return {name: _window(*bounds[name]) for name in WINDOWS}


def _window(first: np.ndarray, last: np.ndarray) -> xr.DataArray:
    both = np.stack([first, last], -1).astype(float)
    short = ~(last >= LEAST_SPAN * first)  # true for NaN, too
    both[short] = np.nan
    return xr.DataArray(both, {"bound": ["first", "last"]}, ("run", "bound"))


def thinning_markers(steps: ArrayLike, numbers: ArrayLike) -> Mapping[str, float]:
    """Return onset and half of the fall of an effective number of parameters; NaN if it falls by less than 10 %."""
    at, values = np.asarray(steps, dtype=float), np.asarray(numbers, dtype=float)
    keep = (at >= FIRST_STEP) & np.isfinite(values)
    at, logs = at[keep], np.log(values[keep])
    unknown = {"thinning_onset": np.nan, "thinning_half": np.nan, "fall": np.nan}
    if len(at) < N_SUSTAINED:
        return unknown
    top = int(logs.argmax())
    fall = float(logs[top] - logs[top:].min())
    if fall < -np.log1p(-LEAST_FALL):
        return {**unknown, "fall": fall}
    made = (logs[top] - logs[top:]) / fall
    half = int((made >= HALF).argmax())
    onset = int(np.flatnonzero(made[: half + 1] < ONSET)[-1])
    return {"thinning_onset": float(at[top + onset]), "thinning_half": float(at[top + half]), "fall": fall}


def change_in(window: xr.DataArray, curves: xr.DataArray) -> np.ndarray:
    """Return log10 of the last over the first value of curves (run, step) in the window of each run, (run,).

    The values are those of the observations nearest to the bounds, within a factor of 1.5 in steps. NaN without them.
    """
    steps, found = curves["step"].values, []
    for row, bounds in zip(curves.transpose("run", "step").values, window.values, strict=True):
        first, last = (_value_near(steps, row, bound) for bound in bounds)
        found.append(float(np.log10(last / first)))
    return np.array(found)


def _value_near(steps: np.ndarray, row: np.ndarray, bound: float) -> float:
    known = np.flatnonzero(np.isfinite(row))
    if not len(known) or not np.isfinite(bound):
        return np.nan
    far = np.abs(np.log((steps[known] + 1) / (bound + 1)))
    return float(row[known[far.argmin()]]) if far.min() <= np.log(FAR) else np.nan
