"""Distances between tangent kernels, as the plots of kernels need them."""

import textwrap
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe.plots.names import run_name
from probe.stats.cones.cone import Cone, cone_entry
from probe.stats.cones.kernel_records import recorded_kernels
from probe.stats.cones.sketches import observed_kernels

_WIDTH = 58  # characters of a line of a title


class Kernels(NamedTuple):
    """Tangent kernels of one run, at the steps at which all batches have one."""

    run: str
    steps: np.ndarray  # (n,)
    distances: np.ndarray  # (batches, n, n)
    cone: Cone | None  # None with one batch that has an error

    @property
    def mean(self) -> np.ndarray:
        """Distances (n, n), the mean over batches."""
        found: np.ndarray = self.distances.mean(0)
        return found


def read_kernels(series: xr.Dataset | xr.DataArray, split: str | None) -> tuple[list[Kernels], str]:
    """Return the kernels of each run, and the name of the split."""
    recorded = recorded_kernels(series, split)
    array, two = recorded.distance, recorded.two_batches()
    names = [run_name(run) for run in array["run"].values.tolist()] if "run" in array.dims else [""]
    steps = array["step"].values
    values, measured = _rows(array), None if two is None else _rows(two)
    found = []
    for k, (name, one) in enumerate(zip(names, values, strict=True)):
        seen = observed_kernels(one)
        if len(seen) < 2:
            raise ValueError(f"Expected kernels at 2 or more steps, got {len(seen)} in a run; observe it more often")
        cone = None if measured is None else cone_entry(steps[seen], *measured[k][:, seen][:, :, seen])
        found.append(Kernels(name, steps[seen], one[:, seen][:, :, seen], cone))
    return found, recorded.split


def _rows(array: xr.DataArray) -> np.ndarray:
    """Return distances (run, batch, step, step_ref)."""
    for dim in ("run", "batch"):
        array = array if dim in array.dims else array.expand_dims(dim)
    return np.asarray(array.transpose("run", "batch", "step", "step_ref").values, dtype=float)


def cone_text(kernels: Kernels, named: bool) -> str:
    """Return the entry into the cone, or why there is none, as a title; with the name of the run if ``named``."""
    cone = kernels.cone
    if cone is None:
        text = "one batch: no test of a cone"
    elif cone.status == "found":
        text = f"cone from step {cone.step:,g} ({cone.lower:,g} to {cone.upper:,g})"
    else:
        text = f"{cone.status.replace('_', ' ')}: {cone.reason}"
    return "\n".join(textwrap.wrap(f"run {kernels.run}: {text}" if named else text, _WIDTH))
