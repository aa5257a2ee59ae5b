"""The published curves of arXiv:2504.12700 and our recorded runs."""

import csv
from functools import cached_property
from typing import NamedTuple

import xarray as xr

from probe import PhaseDetector
from reference.claims.recorded import REFERENCE, Results

_PUBLISHED = REFERENCE / "paper" / "curves.csv"
# Share of the largest class of each published task: 27.9 % of the paper's table is 0, S5 has 120 equal classes.
_CHANCE = {"division": 0.279, "s5": 1 / 120}


class Plane(NamedTuple):
    """The published information plane of the embedding: entropies of weight histograms, in bits.

    The entropies were read from the figures of the authors' public notebook, within .003 bits. The distances of the
    points give the steps between which the maximum lies. See :mod:`probe.information.weight_histogram`.
    """

    first: float
    top: float
    top_steps: tuple[float, float]
    last: float


PUBLISHED_PLANE = {
    "division": Plane(4.22, 4.262, (15_000.0, 20_000.0), 4.17),
    "s5": Plane(4.21, 4.2955, (20_500.0, 35_500.0), 3.855),
}


class Evidence(Results):
    """Published curves by task, and our recorded runs by configuration."""

    @cached_property
    def published(self) -> dict[str, xr.Dataset]:
        """Published curves by task, with the variable names of our curves."""
        return {task: published(task) for task in _CHANCE}

    @cached_property
    def published_markers(self) -> dict[str, xr.Dataset]:
        """Markers of the published curves by task."""
        detector = PhaseDetector(train_accuracy="train_batch_accuracy")
        return {task: detector.fit(curves).markers_.isel(run=0) for task, curves in self.published.items()}


def published(task: str) -> xr.Dataset:
    """Return the published curves of a task, ``"division"`` (figure 3) or ``"s5"`` (figure 4).

    Returns
    -------
    xarray.Dataset
        ``train_batch_accuracy``, ``test_accuracy`` and ``test_loss`` (nats) over ``step``.

    Raises
    ------
    FileNotFoundError
        If the file of the published curves is missing.
    """
    if not _PUBLISHED.exists():
        raise FileNotFoundError(
            f"Expected the published curves in {_PUBLISHED}, got no such file; run from a copy of the repository."
        )
    with open(_PUBLISHED, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == task]
    names = {"train_accuracy": "train_batch_accuracy"}
    curves = {}
    for name in dict.fromkeys(row["curve"] for row in rows):
        points = [(int(row["step"]), float(row["value"])) for row in rows if row["curve"] == name]
        steps, values = zip(*points, strict=True)
        curves[names.get(name, name)] = xr.DataArray(list(values), {"step": list(steps)})
    series = xr.Dataset(curves)
    series["test_accuracy"].attrs["chance"] = _CHANCE[task]
    return series
