"""Our recordings for the claims of arXiv:2310.03789. Each one may be missing."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import probe
from reference.claims.recorded import RESULTS
from reference.experiments import weight_markers
from reference.theory import CubicTeacher, ModularAddition, summarise


class Sampled:
    """Networks that were sampled at several noises.

    Parameters
    ----------
    series
        Result of `reference.theory.sample`: numbers over (noise, run, step) and (noise, run, snapshot, neuron).
    """

    def __init__(self, series: xr.Dataset) -> None:
        self.series = series

    @cached_property
    def task(self) -> CubicTeacher | ModularAddition:
        """Parameters of the networks. The noise is one of several."""
        settings = json.loads(self.series.attrs["configuration"])
        kinds: dict[str, type[CubicTeacher] | type[ModularAddition]] = {
            "CubicTeacher": CubicTeacher,
            "ModularAddition": ModularAddition,
        }
        return kinds[settings["kind"]](**settings["task"])

    @property
    def noises(self) -> list[float]:
        """Noises, largest first."""
        return sorted((float(noise) for noise in self.series["noise"].values), reverse=True)

    def means(self, name: str, noise: float) -> xr.DataArray:
        """Return the mean of a variable over the second half of the steps, (run,)."""
        one = self.series[name].sel(noise=noise)
        return one.isel(step=slice(one.sizes["step"] // 2, None)).mean("step")

    @cached_property
    def summary(self) -> xr.Dataset:
        """Means, errors, kurtosis and drift by noise."""
        return summarise(self.series)


class Trained:
    """Networks that were trained, with probes of weights and features.

    Parameters
    ----------
    series
        The recording: variables over (run, step).
    """

    def __init__(self, series: xr.Dataset) -> None:
        self.series = series
        self._markers: dict[str, xr.Dataset] = {}

    @property
    def weights(self) -> str:
        """Last layer whose weights were measured."""
        return self._last("weight_phase_kurtosis")

    @property
    def features(self) -> str:
        """Last layer whose features were measured."""
        return self._last("read_out_accuracy")

    def _last(self, variable: str) -> str:
        measured = self.series[variable].notnull().any([d for d in self.series[variable].dims if d != "layer"])
        return str(self.series["layer"].values[measured.values][-1])

    def at_end(self, curves: xr.DataArray) -> np.ndarray:
        """Return curves (run, step) at the last observation of each run, (run,). Runs may differ in length."""
        seen = np.isfinite(self.series["test_accuracy"].transpose("run", "step").values)
        last = [int(np.flatnonzero(row)[-1]) for row in seen]
        return np.asarray(curves.transpose("run", "step").values[np.arange(len(last)), last], dtype=float)

    def labels(self, names: Mapping[str, str]) -> dict[str, str]:
        """Return those labels of the weights that were recorded."""
        return {what: name for what, name in names.items() if name in self.series}

    def markers(self, label: str) -> xr.Dataset:
        """Return markers (run, marker) of the detector, and those of the weights by the variable ``label``."""
        if label not in self._markers:
            self._markers[label] = weight_markers(self.series, label, self.weights, self.features)
        return self._markers[label]


class Evidence:
    """Our recordings. A recording that the folder does not hold is None.

    Parameters
    ----------
    folder
        Folder with the files ``first-order-*.nc``.
    """

    def __init__(self, folder: Path = RESULTS) -> None:
        self._folder = folder
        self._read: dict[str, xr.Dataset | None] = {}
        self._trained: dict[str, Trained] = {}
        self.kept: dict[str, Any] = {}  # results of judges, for their other claims

    def recording(self, name: str) -> xr.Dataset | None:
        """Return the content of ``first-order-<name>.nc``, or None without this file."""
        if name not in self._read:
            path = self._folder / f"first-order-{name}.nc"
            self._read[name] = probe.load(path) if path.exists() else None
        return self._read[name]

    def sampled(self, name: str) -> Sampled | None:
        """Return the sampled networks of a recording."""
        series = self.recording(name)
        return None if series is None else Sampled(series)

    def trained(self, name: str) -> Trained | None:
        """Return the trained networks of a recording."""
        series = self.recording(name)
        if series is not None and name not in self._trained:
            self._trained[name] = Trained(series)
        return self._trained.get(name)
