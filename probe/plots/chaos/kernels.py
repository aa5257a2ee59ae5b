"""Distances between tangent kernels, as the plots of kernels need them."""

import textwrap
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe.plots.axes import run_name
from probe.stats.cone import Cone, cone_entry
from probe.stats.sketches import SKETCH, kernel_distances, observed_kernels

NAMES = "tangent_kernel_distance", "distance"
NORM = "tangent_kernel_norm"
_WIDTH = 58  # characters of a line of a title


class Kernels(NamedTuple):
    """Tangent kernels of one run, at the steps at which all batches have one."""

    run: str
    steps: np.ndarray  # (n,)
    distances: np.ndarray  # (batches, n, n)
    cone: Cone | None  # None with one batch

    @property
    def mean(self) -> np.ndarray:
        """Distances (n, n), the mean over batches."""
        found: np.ndarray = self.distances.mean(0)
        return found


def read_kernels(series: xr.Dataset | xr.DataArray, split: str | None) -> tuple[list[Kernels], str]:
    """Return the kernels of each run, and the name of the split."""
    array = _distances(series)
    split = split_of(array, split)
    array = array.sel(split=split) if "split" in array.dims else array
    for dim in ("run", "batch"):
        array = array if dim in array.dims else array.expand_dims(dim)
    array = array.transpose("run", "batch", "step", "step_ref")
    names = [run_name(run) for run in array["run"].values.tolist()] if "run" in array.coords else [""]
    steps = array["step"].values
    found = [_of_run(name, steps, values) for name, values in zip(names, array.values.astype(float), strict=False)]
    return found, split


def _distances(series: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Return the recorded distances, or compute them from sketches."""
    if isinstance(series, xr.DataArray):
        array = series
    elif name := next((name for name in NAMES if name in series), None):
        array = series[name]
    elif SKETCH in series:
        array = kernel_distances(series)["distance"]
    else:
        raise ValueError(
            f"Expected {NAMES[0]} or {SKETCH}, got a series without them; record it with TangentKernelProbe, or pass "
            "what probe.stats.kernel_distances returns"
        )
    if missing := {"step", "step_ref"} - {*array.dims}:
        raise ValueError(
            f"Expected distances over step and step_ref, got no {', '.join(sorted(missing))}; pass what "
            "probe.stats.kernel_distances returns"
        )
    if unknown := {*array.dims} - {"run", "split", "batch", "step", "step_ref"}:
        raise ValueError(
            f"Expected distances over run, split, batch, step and step_ref, got {', '.join(map(str, unknown))} too; "
            "select one"
        )
    return array


def split_of(array: xr.DataArray, split: str | None) -> str:
    """Return the split: the given one, "train", or the first."""
    names = [str(name) for name in np.atleast_1d(array["split"].values)] if "split" in array.coords else []
    if split is None:
        return "train" if "train" in names or not names else names[0]
    if split not in names:
        raise ValueError(f"Expected a split among {', '.join(names) or 'none'}, got {split!r}; pass one of them")
    return split


def _of_run(name: str, steps: np.ndarray, values: np.ndarray) -> Kernels:
    """Return one run without the steps at which a kernel is missing."""
    seen = observed_kernels(values)
    if len(seen) < 2:
        raise ValueError(f"Expected kernels at 2 or more steps, got {len(seen)} in a run; observe it more often")
    steps, values = steps[seen], values[:, seen][:, :, seen]
    return Kernels(name, steps, values, cone_entry(steps, *values[:2]) if len(values) > 1 else None)


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
