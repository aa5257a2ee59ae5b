"""The table of markers: one entry holds everything that the package needs to know about a marker.

To add a marker, add one entry to :data:`MARKERS`. The detector, its summary, the tests over runs, the distances and
the plots read this table, or the coordinates ``label`` and ``colour`` that it gives to ``PhaseDetector.markers_``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from probe.phases.markers.chance import Chance, leaves_chance
from probe.phases.markers.cones import kernel_cone
from probe.phases.markers.crossings import sustained_crossing
from probe.phases.markers.growth import growth_end
from probe.phases.markers.marker import Marker, Status
from probe.phases.markers.peaks import second_descent
from probe.phases.markers.settling import fitting_end


class Settings(NamedTuple):
    """Parameters of the rules, see :class:`probe.PhaseDetector`."""

    fit_threshold: float
    end_threshold: float
    n_sustained: int
    spike_width: int
    least_size: float
    smoothing: float
    chance: Chance


Rule = Callable[[np.ndarray, np.ndarray, Settings], Marker]  # steps (n,), values of one curve (n, ...), settings


@dataclass(frozen=True)
class MarkerKind:
    """One entry of the table of markers; every field is required.

    Attributes
    ----------
    name : str
        Value of the coordinate ``marker``.
    rules : mapping of str to callable
        For each role, the function (steps, values, settings) -> :class:`probe.Marker` that finds the marker on the
        curve of this role. The detector applies the rule of the first role that has a curve.
    sentence : str
        What happens at the marker, as a clause without the step, such as "fitting ends".
    negation : str
        The clause for a run in which it does not happen, such as "fitting does not end".
    colour : str
        Colour in plots, as a hexadecimal string.
    peak : bool
        Whether the marker is the top of a rise and fall, which :func:`probe.phases.second_phase_across` can test over
        runs.
    """

    name: str
    rules: Mapping[str, Rule]
    sentence: str
    negation: str
    colour: str
    peak: bool

    @property
    def label(self) -> str:
        """The name as words, for plots, tables and texts."""
        return self.name.replace("_", " ")

    @property
    def role(self) -> str:
        """The preferred role."""
        return next(iter(self.rules))

    def role_among(self, curves: Mapping[str, object]) -> str:
        """Return the first role that has a curve, or the preferred role; a string states why there is no curve."""
        return next((role for role in self.rules if not isinstance(curves[role], str)), self.role)

    def find(self, steps: np.ndarray, curves: Mapping[str, np.ndarray | str], settings: Settings) -> Marker:
        """Find the marker in one run; it is undefined if no role has a curve."""
        role = self.role_among(curves)
        curve = curves[role]
        if isinstance(curve, str):
            return Marker(Status.UNDEFINED, "", reason=curve)
        return self.rules[role](steps, curve, settings)


def _fit_end_of_accuracy(steps: np.ndarray, accuracy: np.ndarray, settings: Settings) -> Marker:
    threshold, n_sustained = settings.fit_threshold, settings.n_sustained
    return sustained_crossing(steps, accuracy, threshold, n_sustained=n_sustained, name="train_accuracy")


def _fit_end_of_loss(steps: np.ndarray, loss: np.ndarray, settings: Settings) -> Marker:
    """Use log units if all losses are positive and their noise does not hide the fall, as near a loss of 0."""
    share = settings.fit_threshold
    if share >= 1:
        raise ValueError(
            f"Expected fit_threshold below 1 for a train loss, got {share}; pass a share of its fall, such as .99."
        )
    linear = fitting_end(steps, loss, share=share, n_sustained=settings.n_sustained, scale="linear")
    if not (loss[~np.isnan(loss)] > 0).all():
        return linear
    log = fitting_end(steps, loss, share=share, n_sustained=settings.n_sustained, scale="log")
    hidden = log.status in (Status.ABSENT, Status.UNDECIDED)
    return linear if hidden and linear.status == Status.FOUND else log


def _generalisation_onset(steps: np.ndarray, accuracy: np.ndarray, settings: Settings) -> Marker:
    share, n = settings.chance
    return leaves_chance(steps, accuracy, chance=share, n_test=n, n_sustained=settings.n_sustained)


def _descent_onset(steps: np.ndarray, loss: np.ndarray, settings: Settings) -> Marker:
    size, smoothing = settings.least_size, settings.smoothing
    return second_descent(steps, loss, spike_width=settings.spike_width, least_size=size, smoothing=smoothing)


def _compression_onset(steps: np.ndarray, information: np.ndarray, settings: Settings) -> Marker:
    size, smoothing = settings.least_size, settings.smoothing
    marker = second_descent(steps, information, spike_width=0, least_size=size, smoothing=smoothing)
    known = information[np.isfinite(information)]  # (m,)
    if marker.status != Status.ABSENT or not known[0] - known[-1] > np.ptp(known) / 2:
        return marker
    text = f"from its first to its last value, the information falls from {known[0]:.3g} to {known[-1]:.3g}"
    return replace(marker, reason=f"{marker.reason}; {text}")


def _end(steps: np.ndarray, accuracy: np.ndarray, settings: Settings) -> Marker:
    threshold, n_sustained = settings.end_threshold, settings.n_sustained
    return sustained_crossing(steps, accuracy, threshold, n_sustained=n_sustained, name="test_accuracy")


def _chaos_end(steps: np.ndarray, growth: np.ndarray, settings: Settings) -> Marker:
    return growth_end(steps, growth)


def _cone_entry(steps: np.ndarray, distances: np.ndarray, settings: Settings) -> Marker:
    return kernel_cone(steps, distances)


# Colours of Okabe and Ito, which remain different for colour-blind readers.
MARKERS: tuple[MarkerKind, ...] = (
    MarkerKind(
        name="fit_end",
        rules={"train_accuracy": _fit_end_of_accuracy, "train_loss": _fit_end_of_loss},
        sentence="fitting ends",
        negation="fitting does not end",
        colour="#d55e00",
        peak=False,
    ),
    MarkerKind(
        name="generalisation_onset",
        rules={"test_accuracy": _generalisation_onset},
        sentence="the test accuracy leaves chance",
        negation="the test accuracy does not leave chance",
        colour="#e69f00",
        peak=False,
    ),
    MarkerKind(
        name="descent_onset",
        rules={"test_loss": _descent_onset},
        sentence="the test loss has a hump",
        negation="the test loss has no hump",
        colour="#0072b2",
        peak=True,
    ),
    MarkerKind(
        name="compression_onset",
        rules={"information": _compression_onset},
        sentence="compression starts",
        negation="the information has no hump",
        colour="#cc79a7",
        peak=True,
    ),
    MarkerKind(
        name="end",
        rules={"test_accuracy": _end},
        sentence="the test accuracy reaches its threshold",
        negation="the test accuracy does not reach its threshold",
        colour="#009e73",
        peak=False,
    ),
    MarkerKind(
        name="chaos_end",
        rules={"growth": _chaos_end},
        sentence="the response to perturbations stops growing",
        negation="the response to perturbations does not stop growing",
        colour="#222222",
        peak=False,
    ),
    MarkerKind(
        name="cone_entry",
        rules={"kernel_distances": _cone_entry},
        sentence="the tangent kernel enters a cone",
        negation="the tangent kernel does not enter a cone",
        colour="#56b4e9",
        peak=False,
    ),
)
