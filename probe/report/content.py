"""The curves that a report holds within a budget of bytes."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from probe.report.curves import MEDIAN, Curve, curves_of
from probe.report.scale import Scale

_MOST_NAMES = 6  # of measures in a sentence
_EVEN = 40  # bytes of steps with equal distances


@dataclass
class Content:
    """The curves that are on the page, and what was left out.

    Attributes
    ----------
    curves : list of Curve
    left_out : list of str
        Sentences about what is not on the page.
    runs : list of int
        Positions of the runs that have curves of their own.
    """

    curves: list[Curve] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)


class _Budget:
    """Bytes that are left. Equal steps are stored once."""

    def __init__(self, left: int) -> None:
        self.left = left
        self._known: set[bytes] = set()

    def takes(self, curve: Curve, instead_of: Curve | None = None) -> bool:
        """Return whether a curve fits, and take its bytes if it does."""
        key = curve.steps.tobytes()
        cost = curve.size - (instead_of.size if instead_of else 0)
        cost += 0 if key in self._known else _EVEN if _is_even(curve.steps) else 11 * len(curve.steps)
        if cost > self.left:
            return False
        self._known.add(key)
        self.left -= cost
        return True


def ranked_curves(
    series: xr.Dataset, names: Sequence[str], first: Sequence[str], layer: int | None, scale: Scale
) -> list[Curve]:
    """Return all curves, reduced, the most important ones first.

    Parameters
    ----------
    series : xarray.Dataset
        Over (run, step, ...).
    names : sequence of str
        The variables, whose positions the curves refer to.
    first : sequence of str
        The variables that are drawn at first.
    layer : int, optional
        The layer that is drawn at first.
    scale : Scale
        The axis of steps.
    """
    return sorted(curves_of(series, names, scale), key=lambda one: _rank(one, names, first, layer))


def content_of(ranked: Sequence[Curve], names: Sequence[str], n_runs: int, budget: int) -> Content:
    """Return the first curves that fit into a number of bytes; with all their observations where these fit too."""
    found, left = Content(), _Budget(budget)
    refused = set()
    for curve in ranked:
        if left.takes(curve):
            found.curves.append(curve)
        else:
            refused.add((curve.run, curve.variable))
    for i, curve in enumerate(found.curves):
        if curve.whole is not None and not refused and left.takes(curve.whole, curve):
            found.curves[i] = curve.whole
    found.curves.sort(key=lambda one: (one.variable, -1 if one.layer is None else one.layer))
    found.runs = sorted({one.run for one in found.curves if one.run is not None and one.run != MEDIAN})
    found.left_out = _left_out(refused, names, found, n_runs)
    return found


def _rank(curve: Curve, names: Sequence[str], first: Sequence[str], layer: int | None) -> tuple[int, ...]:
    """Return the place of a curve: what is drawn at first, medians, other layers of the same, all else."""
    of_first = names[curve.variable] in first
    shown = of_first and curve.layer in (None, layer)
    median = curve.run in (None, MEDIAN)
    order = (
        0 if shown and median else 1 if of_first and median else 2 if shown else 3 if median else 4 if of_first else 5
    )
    return order, -1 if curve.run is None else curve.run, curve.variable


def _left_out(refused: set[tuple[int | None, int]], names: Sequence[str], found: Content, n_runs: int) -> list[str]:
    """Return sentences about the curves that did not fit."""
    sentences = []
    if refused:
        of_runs = {run for run, _ in refused if run is not None and run != MEDIAN}
        measures = sorted({names[variable] for _, variable in refused})
        more = f" and {len(measures) - _MOST_NAMES} more" if len(measures) > _MOST_NAMES else ""
        who = f" of {len(of_runs):,} of {n_runs:,} runs" if of_runs and n_runs > 1 else ""
        sentences.append(
            f"To keep the page small, some curves{who} are not on it, of {', '.join(measures[:_MOST_NAMES])}{more}. "
            "A larger --max-mb, or max_mb=, holds more of them; 5 is the largest."
        )
    if 0 < len(found.runs) < n_runs:
        sentences.append(f"{len(found.runs):,} of {n_runs:,} runs can be chosen. The medians are those of all runs.")
    if reduced := [one for one in found.curves if one.whole is not None]:
        most = max(len(one.whole.steps) for one in reduced if one.whole is not None)
        sentences.append(
            f"{len(reduced):,} long curves are reduced to the least and the largest value in each column of pixels. "
            f"The longest has {most:,} observations. A larger --max-mb, or max_mb=, holds all of them for more curves."
        )
    return sentences


def encoded(content: Content) -> dict[str, Any]:
    """Return the curves as JSON. Equal arrays of steps are stored once; values are float32."""
    places: dict[bytes, int] = {}
    records = []
    for one in content.curves:
        record: dict[str, Any] = {
            "v": one.variable,
            "r": one.run,
            "l": one.layer,
            "s": one.label,
            "x": places.setdefault(one.steps.astype("<f8").tobytes(), len(places)),
            "y": _float32(one.values),
        }
        if one.band is not None:
            record["b"] = [*map(_float32, one.band)]
        if one.whole is not None:
            record["n"] = len(one.whole.steps)
        records.append(record)
    return {"xs": [_steps(np.frombuffer(key, "<f8")) for key in places], "curves": records}


def _is_even(steps: np.ndarray) -> bool:
    """Return whether first step, distance and number give all steps exactly."""
    return len(steps) > 2 and np.array_equal(steps, steps[0] + (steps[1] - steps[0]) * np.arange(len(steps)))


def _steps(steps: np.ndarray) -> list[float] | str:
    """Return (first, distance, number) of steps with equal distances, others in base 64."""
    if _is_even(steps):
        return [float(steps[0]), float(steps[1] - steps[0]), len(steps)]
    return b64encode(steps.tobytes()).decode()


def _float32(values: np.ndarray) -> str:
    most = np.finfo(np.float32).max
    return b64encode(np.clip(values, -most, most).astype("<f4").tobytes()).decode()
