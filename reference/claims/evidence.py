"""The published curves and our recorded runs, as series, with their markers."""

import csv
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

import probe
from probe import PhaseDetector

HERE = Path(__file__).parent.parent
# Share of the largest class of each published task: 27.9 % of the paper's table is 0, S5 has 120 equal classes.
_CHANCE = {"division": 0.279, "s5": 1 / 120}
HISTOGRAM, EMBEDDING = "weight_histogram_entropy", "tokens.weight"  # the x coordinate of the published plane


class Plane(NamedTuple):
    """The published information plane of the embedding, in bits: entropies of weight histograms.

    Read from the figures of the authors' public notebook (within .003 bits); the steps between which the maximum lies
    follow from the distance of their points. See :mod:`probe.information.weight_histogram`.
    """

    first: float
    top: float
    top_steps: tuple[float, float]
    last: float


PUBLISHED_PLANE = {
    "division": Plane(4.22, 4.262, (15_000.0, 20_000.0), 4.17),
    "s5": Plane(4.21, 4.2955, (20_500.0, 35_500.0), 3.855),
}


class Recorded:
    """One configuration: curves, what probes measured, and the markers of both.

    Parameters
    ----------
    path
        ``<path>.nc`` and ``<path>-probes.nc``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def curves(self) -> xr.Dataset:
        """Losses and accuracies (run, step)."""
        return _with_runs(probe.load(self.path.with_name(f"{self.path.name}.nc")))

    @cached_property
    def probes(self) -> xr.Dataset:
        """What probes measured (run, step, split, layer)."""
        return _with_runs(probe.load(self.path.with_name(f"{self.path.name}-probes.nc")))

    @cached_property
    def markers(self) -> xr.Dataset:
        """Of the curves; the end of fitting as the paper shows it, on the training batch with dropout."""
        return PhaseDetector(train_accuracy="train_batch_accuracy").fit(self.curves).markers_

    @cached_property
    def fitted(self) -> np.ndarray:
        """Step at which the whole training set, without dropout, is fitted: (run,)."""
        return times(PhaseDetector().fit(self.curves).markers_, "fit_end")

    def layers(self) -> list[str]:
        """The blocks, first to last."""
        return [str(name) for name in self.probes["layer"].values if ":" not in str(name)]

    def compression(self, *, layer: int = -1, split: str = "train") -> xr.Dataset:
        """The marker of the peak of I(T+n;X) of a block, by run."""
        chosen = PhaseDetector(layer=self.layers()[layer], split=split).fit(self.probes)
        return chosen.markers_.sel(marker="compression_onset")

    def measured(self, name: str, **where: str) -> xr.DataArray:
        """A variable of the probes (run, step)."""
        return self.probes[name].sel(where).transpose("run", "step")


class Evidence:
    """All that is judged: ``published[task]`` and ``ours[configuration]``."""

    def __init__(self, folder: Path = HERE / "results") -> None:
        self._folder = folder
        self._ours: dict[str, Recorded] = {}

    def ours(self, name: str) -> Recorded:
        """A recorded configuration, by the name that it has in `reference.training.configs`."""
        if name not in self._ours:
            places = [self._folder / name, self._folder / "variants" / name]
            there = [place for place in places if place.with_name(f"{name}.nc").exists()]
            if not there:
                raise FileNotFoundError(f"no results of {name!r} in {self._folder}; python -m reference run {name}")
            self._ours[name] = Recorded(there[0])
        return self._ours[name]

    @cached_property
    def published(self) -> dict[str, xr.Dataset]:
        """The published curves by task, as ours are called."""
        return {task: published(task) for task in _CHANCE}

    @cached_property
    def published_markers(self) -> dict[str, xr.Dataset]:
        """Of the published curves."""
        detector = PhaseDetector(train_accuracy="train_batch_accuracy")
        return {task: detector.fit(curves).markers_.isel(run=0) for task, curves in self.published.items()}


def published(task: str) -> xr.Dataset:
    """``train_batch_accuracy``, ``test_accuracy`` and ``test_loss`` over ``step``, of figures 3 or 4."""
    with open(HERE / "paper" / "curves.csv", newline="") as file:
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


def _with_runs(series: xr.Dataset) -> xr.Dataset:
    return series if "run" in series.dims else series.expand_dims("run")


def around(curves: xr.DataArray, step: np.ndarray) -> np.ndarray:
    """Mean of three observations about a step of each run; NaN where there is no step. Curves have (run, step)."""
    steps, found = curves["step"].values, []
    for row, at in zip(curves.values, step, strict=True):
        k = int(np.abs(np.log10(steps + 1) - np.log10(at + 1)).argmin()) if np.isfinite(at) else 0
        found.append(np.nanmean(row[max(k - 1, 0) : k + 2]) if np.isfinite(at) else np.nan)
    return np.array(found)


def last(curves: xr.DataArray) -> np.ndarray:
    """Mean of the last three observations of each run. Curves have (run, step)."""
    return np.array([np.mean(row[np.isfinite(row)][-3:]) for row in curves.values])


def times(markers: xr.Dataset, name: str | None = None) -> np.ndarray:
    """Steps of a marker by run, NaN where it was not found; without a name, of the only one there."""
    one = markers if name is None else markers.sel(marker=name)
    return np.asarray(one["step"].where(one["status"] == "found").values)


def log_times(markers: xr.Dataset, name: str | None = None) -> np.ndarray:
    """log10(step + 1) of the same."""
    return np.log10(times(markers, name) + 1)


def distances(markers: xr.Dataset, first: str, second: str) -> np.ndarray:
    """log10 of the second marker over the first, by run; NaN where one was not found."""
    return log_times(markers, second) - log_times(markers, first)
