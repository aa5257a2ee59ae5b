"""The recorded runs of this repository: curves, measurements, and their markers."""

from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

import probe
from probe import PhaseDetector
from reference.claims.verdicts import Reading

REFERENCE = Path(__file__).parent.parent
RESULTS = REFERENCE / "results"


class RecordedRuns:
    """All runs of one configuration: curves, measurements, and the markers of both.

    Parameters
    ----------
    path
        Path without suffix: the curves are in ``<path>.nc``, the measurements in ``<path>-probes.nc``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def curves(self) -> xr.Dataset:
        """Losses and accuracies (run, step)."""
        return _with_runs(probe.load(self.path.with_name(f"{self.path.name}.nc")))

    @cached_property
    def probes(self) -> xr.Dataset:
        """Measurements by probes (run, step, split, layer); those of the demo are in the file of the curves."""
        file = self.path.with_name(f"{self.path.name}-probes.nc")
        return _with_runs(probe.load(file)) if file.exists() else self.curves

    @cached_property
    def markers(self) -> xr.Dataset:
        """Markers of the curves. The end of fitting is that of the training batch with dropout, as in the paper."""
        return PhaseDetector(train_accuracy="train_batch_accuracy").fit(self.curves).markers_

    @cached_property
    def fitted(self) -> np.ndarray:
        """Steps (run,) at which the model fits the whole training set without dropout."""
        return times(PhaseDetector().fit(self.curves).markers_, "fit_end")

    def layers(self) -> list[str]:
        """Return the names of the blocks, first to last."""
        return [str(name) for name in self.probes["layer"].values if ":" not in str(name)]

    def compression(self, *, layer: int = -1, split: str = "train") -> xr.Dataset:
        """Return the marker of the maximum of I(T+n;X) of a block, by run."""
        chosen = PhaseDetector(layer=self.layers()[layer], split=split).fit(self.probes)
        return chosen.markers_.sel(marker="compression_onset")

    def measured(self, name: str, **where: str) -> xr.DataArray:
        """Return a measured variable (run, step)."""
        return self.probes[name].sel(where).transpose("run", "step")


class Results:
    """The recorded runs in a folder, by configuration.

    Parameters
    ----------
    folder
        Folder with one file for each configuration; variants are in the folder ``variants`` of it.
    """

    def __init__(self, folder: Path = RESULTS) -> None:
        self._folder = folder
        self._ours: dict[str, RecordedRuns] = {}

    def ours(self, name: str) -> RecordedRuns:
        """Return the recorded runs of a configuration of `reference.training.CONFIGS`.

        Raises
        ------
        FileNotFoundError
            If the folder holds no runs of this configuration.
        """
        if name not in self._ours:
            places = [self._folder / name, self._folder / "variants" / name]
            found = [place for place in places if place.with_name(f"{name}.nc").exists()]
            if not found:
                raise FileNotFoundError(
                    f"Expected recorded runs {name}.nc in {self._folder}, got none; get them from the repository, or "
                    f"train them: python -m reference run {name}"
                )
            self._ours[name] = RecordedRuns(found[0])
        return self._ours[name]


def _with_runs(series: xr.Dataset) -> xr.Dataset:
    return series if "run" in series.dims else series.expand_dims("run")


def around(curves: xr.DataArray, step: np.ndarray) -> np.ndarray:
    """Return the mean (run,) of three observations around a step of each run; NaN where the step is NaN."""
    steps, means = curves["step"].values, []
    for row, at in zip(curves.values, step, strict=True):
        k = int(np.abs(np.log10(steps + 1) - np.log10(at + 1)).argmin()) if np.isfinite(at) else 0
        means.append(np.nanmean(row[max(k - 1, 0) : k + 2]) if np.isfinite(at) else np.nan)
    return np.array(means)


def last(curves: xr.DataArray) -> Reading:
    """Return the mean of the last three observations of each run, and the step of the last one."""
    known = [np.flatnonzero(np.isfinite(row))[-3:] for row in curves.values]
    means = [np.mean(row[at]) for row, at in zip(curves.values, known, strict=True)]
    return Reading(np.array(means), np.array([float(curves["step"].values[at[-1]]) for at in known]))


def at_common_steps(*groups: xr.DataArray) -> list[xr.DataArray]:
    """Return the curves (run, step) at the steps that every run of every group observed.

    With fewer than three such steps, the curves are returned unchanged. `by_separation` refuses to compare them.
    """
    observed = [one["step"].values[np.isfinite(one.values).all(0)] for one in groups]
    steps = sorted(set.intersection(*(set(one.tolist()) for one in observed)))
    return [one.sel(step=steps) for one in groups] if len(steps) >= 3 else list(groups)


def change_after_fit(curves: xr.DataArray, fitted: np.ndarray, *, until: xr.DataArray | None = None) -> Reading:
    """Return the change of each run from the end of fitting to the end of its record.

    Parameters
    ----------
    curves
        Curves (run, step).
    fitted
        End of fitting of each run.
    until
        Curves of which the end is read, from `at_common_steps`. By default, all of ``curves``.
    """
    end = last(curves if until is None else until)
    return Reading(end.values - around(curves, fitted[: len(curves)]), end.steps)


def times(markers: xr.Dataset, name: str | None = None) -> np.ndarray:
    """Return the steps (run,) of a marker, NaN where it was not found. Without a name, ``markers`` holds one marker."""
    one = markers if name is None else markers.sel(marker=name)
    return np.asarray(one["step"].where(one["status"] == "found").values)


def log_times(markers: xr.Dataset, name: str | None = None) -> np.ndarray:
    """Return log10(step + 1) of the result of `times`."""
    return np.log10(times(markers, name) + 1)


def distances(markers: xr.Dataset, first: str, second: str) -> np.ndarray:
    """Return log10 of the second marker over the first, by run; NaN where one of them was not found."""
    return log_times(markers, second) - log_times(markers, first)
