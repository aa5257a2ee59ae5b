"""Our recordings of the experiment `chaos-cone`: maps over (t0, t1), tangent kernels, and their transitions."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

import probe
from probe.stats import Cone, cone_entry, recorded_kernels
from reference.claims.chaos_cone.configurations import BARRIER, CONFIGURATIONS, DISAGREEMENT
from reference.claims.chaos_cone.transitions import Transition, fall, first_drop, rise, table
from reference.claims.recorded import RESULTS


class Kernels(NamedTuple):
    """Distances 1 - cos (n, n) of the tangent kernels of one run on two disjoint batches, and the norms (n,)."""

    steps: np.ndarray
    first: np.ndarray
    second: np.ndarray
    norms: np.ndarray

    def until(self, step: float) -> "Kernels":
        """Return the observations up to a step."""
        kept = self.steps <= step
        first, second = (d[np.ix_(kept, kept)] for d in (self.first, self.second))
        return Kernels(self.steps[kept], first, second, self.norms[kept])

    @property
    def mean(self) -> np.ndarray:
        """Mean distance (n, n) over both batches."""
        return (self.first + self.second) / 2

    def cone(self) -> Cone:
        """Return the verdict on a cone."""
        return cone_entry(self.steps, self.first, self.second, norms=self.norms)


class Recording:
    """The runs of one configuration.

    Parameters
    ----------
    name
        Name of the configuration.
    series
        The recording: variables over (run, step), and maps over (run, t0, t1).
    """

    def __init__(self, name: str, series: xr.Dataset) -> None:
        self.name = name
        self.series = series

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return int(self.series.sizes["run"])

    @property
    def last_step(self) -> float:
        """Last step of the training."""
        return float(self.series["step"].values[-1])

    def map(self, variable: str) -> xr.DataArray:
        """Return a map (run, t0, t1). A barrier is the rise above the straight line between the ends."""
        found = self.series[variable]
        return (found.sel(barrier="line") if "barrier" in found.dims else found).transpose("run", "t0", "t1")

    def final(self, variable: str) -> xr.DataArray:
        """Return a map at its last t1 (run, t0)."""
        return self.map(variable).isel(t1=-1)

    @cached_property
    def drops(self) -> list[Transition]:
        """First drop of the learning rate of each run."""
        rates = self.series["learning_rate"].transpose("run", "step").values
        return [first_drop(self.series["step"].values, row) for row in rates]

    @cached_property
    def first_part(self) -> list[float]:
        """Number of updates (run,) before the first drop of the learning rate, or of the whole training."""
        return [drop.step if drop.status == "found" else self.last_step for drop in self.drops]

    @cached_property
    def kernels(self) -> list[Kernels]:
        """Tangent kernels of each run on training inputs, at all observed steps."""
        found = recorded_kernels(self.series, "train")
        distances, norms, steps = found.two_batches(), found.norm, self.series["step"].values.astype(float)
        assert distances is not None  # each recording has two batches, and norms
        assert norms is not None
        pairs = (array.transpose("run", "step", ...).values for array in (distances, norms))
        return [_kernels(steps, np.moveaxis(d, 0, 1), n) for d, n in zip(*pairs, strict=True)]

    @cached_property
    def early_kernels(self) -> list[Kernels]:
        """The same before the first drop of the learning rate, as far as the figures of the paper reach."""
        return [one.until(step) for one, step in zip(self.kernels, self.first_part, strict=True)]

    @cached_property
    def cones(self) -> list[Cone]:
        """Verdicts on a cone before the first drop of the learning rate."""
        return [one.cone() for one in self.early_kernels]

    @cached_property
    def whole_cones(self) -> list[Cone]:
        """Verdicts on a cone in the whole record."""
        return [one.cone() for one in self.kernels]

    @cached_property
    def transitions(self) -> dict[str, list[Transition]]:
        """Transitions of the maps and of linearised training by name, each with one entry a run."""
        t0 = self.series["t0"].values
        return {
            "barrier": [fall(t0, row, least=BARRIER) for row in self.final("map_barrier").values],
            "disagreement": [fall(t0, row, least=DISAGREEMENT) for row in self.final("map_disagreement").values],
            "linearised": [rise(self.linearised["t0"].values, row) for row in self.linearised.values],
        }

    @property
    def linearised(self) -> xr.DataArray:
        """Test accuracy of linearised training (run, t0), for those t0 from which it was recorded."""
        return self.series["linearised_accuracy"].transpose("run", "t0").dropna("t0", how="all")

    def end_of(self, marker: str) -> float:
        """Return the last step at which a transition can be found: the last t0, the first drop, or the end."""
        if marker in self.transitions:
            return float(self.series["t0"].values[-1])
        return min(self.first_part) if marker == "cone" else self.last_step

    @cached_property
    def markers(self) -> xr.Dataset:
        """All transitions (run, marker), in the form of ``PhaseDetector.markers_``."""
        signal = self.series["gradient_signal_to_noise"].transpose("run", "step").values
        steps = self.series["step"].values
        return table(
            {
                **self.transitions,
                "cone": [Transition.of_cone(one) for one in self.cones],
                "learning_rate": self.drops,
                "signal_to_noise": [fall(steps, row) for row in signal],
            },
            self._detected(),
        )

    def _detected(self) -> dict[str, xr.Dataset]:
        """Return the markers of the detector that the claims use. Without growth at any step, chaos has no end."""
        found = probe.PhaseDetector().fit(self.series).markers_
        fit, chaos = (found.sel(marker=name) for name in ("fit_end", "chaos_end"))
        never = chaos["status"] == "left_censored"
        return {"fit_end": fit, "chaos_end": chaos.assign(status=xr.where(never, "absent", chaos["status"]))}


def _kernels(steps: np.ndarray, distances: np.ndarray, norms: np.ndarray) -> Kernels:
    """Return the kernels of one run at the steps at which both batches were observed."""
    seen = np.isfinite(np.diagonal(distances, axis1=1, axis2=2)).all(0)
    first, second = distances[:, seen][:, :, seen]
    return Kernels(steps[seen], first, second, norms[seen])


class Evidence:
    """Our recordings by configuration.

    Parameters
    ----------
    folder
        Folder with one file ``chaos-cone-<name>.nc`` for each configuration.
    names
        The configurations.
    """

    def __init__(self, folder: Path = RESULTS, names: tuple[str, ...] = CONFIGURATIONS) -> None:
        self._folder = folder
        self._ours: dict[str, Recording] = {}
        self.names = names

    def ours(self, name: str) -> Recording:
        """Return the recording of a configuration.

        Raises
        ------
        FileNotFoundError
            If the folder does not hold it.
        """
        if name not in self._ours:
            path = self._folder / f"chaos-cone-{name}.nc"
            if not path.exists():
                raise FileNotFoundError(
                    f"Expected recorded runs {path.name} in {self._folder}, got none; get them from the repository, or "
                    f"record them: python -m reference chaos-cone {name}"
                )
            self._ours[name] = Recording(name, probe.load(path))
        return self._ours[name]

    def all(self) -> list[Recording]:
        """Return all recordings."""
        return [self.ours(name) for name in self.names]
