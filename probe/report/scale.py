"""Where a step stands on the axis of a report: linear, or logarithmic with step 0 left of a break."""

from typing import Any

import numpy as np

from probe.plots.steps import first_positive, step_places, steps_at

_MOST_OF_GAP, _MOST_OF_AXIS = 0.16, 0.016  # how wide the break is, at most


class Scale:
    """Positions of steps, on a logarithmic axis those of figures (factors of ten). The script has the same formulas.

    Parameters
    ----------
    steps : numpy.ndarray
        All steps of the series.
    log : bool
        Whether the axis is logarithmic; it is linear if there are negative steps.

    Attributes
    ----------
    first : float
        The first positive step.
    zero : bool
        Whether a logarithmic axis shows step 0, left of a break.
    """

    def __init__(self, steps: np.ndarray, *, log: bool) -> None:
        self.log = log and not (len(steps) and steps[0] < 0)
        self.first = first_positive(steps)
        self._last = float(steps[-1]) if len(steps) else 1.0
        self.zero = self.log and len(steps) > 0 and float(steps[0]) == 0

    def position(self, steps: Any) -> np.ndarray:
        """Return the positions of steps of at least 0."""
        steps = np.asarray(steps, dtype=float)
        return step_places(steps, self.first) if self.log else steps

    def edges(self, steps: np.ndarray) -> np.ndarray:
        """Return the ends (n + 1,) of the intervals of n steps: half-way between neighbours on the axis."""
        at = self.position(steps)
        ends = np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]])
        return steps_at(ends, self.first) if self.log else ends

    def data(self) -> dict[str, Any]:
        """Return what the script of the page needs."""
        gap = float(self.position(self.first)) if self.log else 0.0
        half = min(_MOST_OF_GAP * gap, _MOST_OF_AXIS * float(self.position(self._last))) / 2
        slit = [gap / 2 - half, gap / 2 + half] if self.zero else None
        return {"log": self.log, "first": self.first, "gap": gap, "slit": slit}
