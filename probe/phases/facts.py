"""Facts on one run: the levels of its curves, and what the rules of the verdict derive from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from probe.phases.levels import Levels, accuracy_levels, loss_levels
from probe.phases.markers.chance import Chance
from probe.phases.markers.marker import Marker, Status

LEAST_OBSERVATIONS = 8  # of a curve
FITTED = 0.95  # share of the way at which the training data are fitted; of its own way for a loss
LEARNED = 0.5  # share of the way of a network that has learned its training data
GENERALISED = 0.2  # share of the way from which a network generalises at all
AT_CHANCE = 0.1  # share of the way up to which a network is at chance
ARRIVED = 0.9  # share of its own way at which the test curve has arrived
LEAST_DELAY = 0.3  # dex between fitting and arriving, a factor of 2
_WHOLE = 10  # least step that is written without decimals, for epochs and other fractions
_LARGE = 1e15  # from which on a number is written with three digits, since not all of its digits are known
_LEAST_TAIL = 3  # observations without a finite loss at the end


def number(value: float) -> str:
    """Return a step or a count: whole, with thousands separators; three digits of a small fraction or a huge number."""
    is_whole = abs(value) < _LARGE and (abs(value) >= _WHOLE or value == round(value))
    return f"{value:,.0f}" if is_whole else f"{value:.3g}"


@dataclass(frozen=True, eq=False)
class Facts:
    """What the rules use: the levels of the curves of one run, and two of its markers.

    Attributes
    ----------
    curves : mapping of str to Levels
        By role, the curves with any value.
    hump : Marker
        The hump of the test loss (``descent_onset``).
    not_finite : float
        First step of the end of the record at which the loss is no finite number; NaN if there is none.
    axis : str
        Name of the axis of the curves.
    """

    curves: Mapping[str, Levels]
    hump: Marker
    not_finite: float
    axis: str = "step"

    def at(self, step: float) -> str:
        """Return a step in words, such as "step 1,230"."""
        return f"{self.axis} {number(step)}"

    def side(self, split: str) -> Levels | None:
        """Return the accuracy of a split, or its loss if there is no accuracy of enough observations."""
        pair = [self.curves[role] for role in (f"{split}_accuracy", f"{split}_loss") if role in self.curves]
        return next((curve for curve in pair if curve.n_observations >= LEAST_OBSERVATIONS), None)

    @cached_property
    def train(self) -> Levels | None:
        """Curve of the training data."""
        return self.side("train")

    @cached_property
    def test(self) -> Levels | None:
        """Curve of the test data."""
        return self.side("test")

    @cached_property
    def train_curves(self) -> list[Levels]:
        """Accuracy and loss of the training data, if they have enough observations."""
        pair = (self.curves.get("train_accuracy"), self.curves.get("train_loss"))
        return [curve for curve in pair if curve and curve.n_observations >= LEAST_OBSERVATIONS]

    @cached_property
    def judged(self) -> Levels | None:
        """The curve that shows whether the network has learned: of the training data, or else of the test data."""
        return self.train or self.test

    @cached_property
    def learned(self) -> bool:
        """Whether the accuracy or the loss of the training data has come half of the way at its end."""
        return any(curve.final_share >= LEARNED for curve in self.train_curves)

    @cached_property
    def fit_step(self) -> float:
        """First step at which the training data are fitted; NaN if at none."""
        return np.nan if self.train is None else self.train.passes(self.fit_share)

    @property
    def fit_share(self) -> float:
        """Share of the way at which the training data are fitted."""
        return FITTED * (1.0 if self.train is None or self.train.accuracy else max(self.train.final_share, AT_CHANCE))

    @cached_property
    def moves(self) -> bool:
        """Whether the training data are not fitted, and their curve still improves at the end of the record."""
        return self.train is not None and self.train.final_share < FITTED and self.train.improves

    @cached_property
    def arrival_step(self) -> float:
        """First step at which the test curve has come most of its own way; NaN if it does not generalise."""
        if self.test is None or self.test.final_share < GENERALISED:
            return np.nan
        return self.test.passes(ARRIVED * self.test.final_share)

    @cached_property
    def delay(self) -> float:
        """Distance from fitting to arriving (dex); negative if the test curve arrives first.

        One step is added to both, since the first steps are not resolved; on an axis of fractions, the first of them.
        """
        if self.test is None:
            return np.nan
        one = min(1.0, float(self.test.steps[self.test.steps > 0].min(initial=1.0)))
        return float(np.log10((self.arrival_step + one) / (self.fit_step + one)))

    @property
    def waits(self) -> bool:
        """Whether the test curve has an observation between fitting and arriving; else it is too sparse for a delay."""
        test = self.test
        return test is not None and bool(((test.steps > self.fit_step) & (test.steps < self.arrival_step)).any())

    @cached_property
    def gained_late(self) -> bool:
        """Whether the test curve improves after fitting by a move that stands out."""
        if self.test is None or np.isnan(self.fit_step):
            return False
        gain = self.test.final - self.test.at(self.fit_step)
        return self.test.stands_out(gain if self.test.accuracy else -gain, 1.0)

    @cached_property
    def both_fell(self) -> bool:
        """Whether the train curve loses at least half of what the test curve loses, as shares of the way."""
        if self.train is None or self.test is None or not (self.train.fell and self.test.fell):
            return False
        return self.train.best_share - self.train.final_share >= (self.test.best_share - self.test.final_share) / 2

    @property
    def has_hump(self) -> bool:
        """Whether the test loss has a hump."""
        return self.hump.status == Status.FOUND


def facts_of_run(
    steps: np.ndarray, curves: Mapping[str, np.ndarray | str], hump: Marker, chance: Chance, *, alone: bool, axis: str
) -> Facts:
    """Return the facts on one run; by role, ``curves`` has a curve or a string that states why there is none."""
    found: dict[str, Levels | None] = {}
    for split in ("train", "test"):
        accuracy, loss = curves[f"{split}_accuracy"], curves[f"{split}_loss"]
        if not isinstance(accuracy, str):
            n = chance.n if split == "test" else np.inf
            found[f"{split}_accuracy"] = accuracy_levels(f"{split} accuracy", steps, accuracy, chance.share, n)
        if not isinstance(loss, str):
            found[f"{split}_loss"] = loss_levels(f"{split} loss", steps, loss)
    kept = {role: levels for role, levels in found.items() if levels is not None}
    return Facts(kept, hump, _not_finite_from(steps, curves, alone), axis)


def _not_finite_from(steps: np.ndarray, curves: Mapping[str, np.ndarray | str], alone: bool) -> float:
    """Return the first step of an end of the record without a finite loss; NaN if the loss is only missing.

    A loss is missing if another curve goes on and is as good as before, or if the record of a run among others ends.
    """
    arrays = {role: curve for role, curve in curves.items() if not isinstance(curve, str) and np.isfinite(curve).any()}
    role = next((role for role in ("train_loss", "test_loss") if role in arrays), None)
    if role is None:
        return np.nan
    finite = np.flatnonzero(np.isfinite(arrays[role]))
    last, gap = int(finite[-1]), int(np.diff(finite).max(initial=1))
    if len(steps) - 1 - last < max(_LEAST_TAIL, 2 * gap):
        return np.nan
    first = float(steps[last + 1])
    later = {other: curve[last + 1 :] for other, curve in arrays.items() if np.isfinite(curve[last + 1 :]).any()}
    for other in ("train_accuracy", "test_accuracy"):
        if other in later:
            before = arrays[other][: last + 1]
            best = np.nanmax(before) if np.isfinite(before).any() else 0.0
            return first if np.nanmedian(later[other]) < best / 2 else np.nan
    return first if alone and not later else np.nan
