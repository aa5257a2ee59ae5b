"""Where a step stands on the axis of a report: linear, or logarithmic with step 0 left of a break."""

from typing import Any

import numpy as np

_GAP = 0.08  # of the logarithmic part: the distance between step 0 and the first positive step


class Scale:
    """Positions of steps. The script of the page has the same formulas.

    Steps below the first positive one stand on a line between the positions of 0 and of that step, as on a symlog axis.

    Parameters
    ----------
    steps : numpy.ndarray
        All steps of the series.
    log : bool
        Whether the axis is logarithmic.

    Attributes
    ----------
    first : float
        The first positive step.
    gap : float
        Distance between step 0 and the first positive step (dex).
    zero : bool
        Whether step 0 was observed, so that the axis shows it.
    """

    def __init__(self, steps: np.ndarray, *, log: bool) -> None:
        positive = steps[steps > 0]
        self.log = log
        self.first = float(positive[0]) if len(positive) else 1.0
        dex = float(np.log10(positive[-1] / positive[0])) if len(positive) else 0.0
        self.gap = _GAP * dex or 1.0
        self.zero = log and len(steps) > 0 and float(steps[0]) == 0

    def position(self, steps: Any) -> np.ndarray:
        """Return the positions of steps of at least 0."""
        steps = np.asarray(steps, dtype=float)
        if not self.log:
            return steps
        below = np.log10(self.first) - self.gap * (1 - steps / self.first)
        return np.where(steps < self.first, below, np.log10(np.maximum(steps, self.first)))

    def step(self, positions: np.ndarray) -> np.ndarray:
        """Return the steps at positions."""
        if not self.log:
            return positions
        short = (np.log10(self.first) - positions) / self.gap
        return np.where(short > 0, self.first * (1 - short), 10.0**positions)

    def edges(self, steps: np.ndarray) -> np.ndarray:
        """Return the ends (n + 1,) of the intervals of n steps: half-way between neighbours on the axis."""
        at = self.position(steps)
        return self.step(np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]]))

    def data(self) -> dict[str, Any]:
        """Return what the script of the page needs."""
        return {"log": self.log, "first": self.first, "gap": self.gap, "zero": self.zero}
