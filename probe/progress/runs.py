"""A recorded run: its markers, and one curve for each measure.

Steps are optimiser updates (or whatever the axis is); times are compared on ``log10(step + 1)``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

WEIGHT_NORM = "weight_norm_total"  # as WeightsProbe records it


class Curve(NamedTuple):
    """What was observed of one measure in one run: steps and values, both (n,), none missing."""

    steps: np.ndarray
    values: np.ndarray

    def until(self, step: float) -> float:
        """The last value observed up to a step; NaN if there is none."""
        k = int(np.searchsorted(self.steps, step, side="right"))
        return float(self.values[k - 1]) if k else np.nan

    def between(self, first: float, last: float) -> "Curve":
        """The observations from one step to another, both included."""
        inside = (self.steps >= first) & (self.steps <= last)
        return Curve(self.steps[inside], self.values[inside])


NOTHING = Curve(np.empty(0), np.empty(0))  # of a measure that a run lacks


@dataclass(frozen=True)
class Run:
    """A run: steps of its markers (NaN where they were not found), and its curves."""

    name: str
    group: str
    generalises: bool
    fit_end: float
    fit_known: float  # the last of the observations that show that fitting has ended
    onset: float  # test accuracy leaves chance
    before_onset: float  # the observation before that
    end: float
    last_step: float
    test_loss: Curve | None
    train_accuracy: Curve | None
    curves: Mapping[str, Curve] = field(repr=False)

    @property
    def window_end(self) -> float:
        """End of generalisation; of the record, if that came first."""
        return self.last_step if np.isnan(self.end) else self.end
