"""Normalised spectra of groups of runs, as vectors of one length for each parameter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from probe.stats.coarse_graining.distances import embedded
from probe.stats.coarse_graining.windows import window_bounds

ALL = "<all>"  # label of all parameters together


@dataclass(frozen=True)
class RunSpectra:
    """Vectors of one group of runs, by parameter and for all parameters together.

    Parameters
    ----------
    first, last : {parameter: array of shape (run, numbers)}
        At the first observation of each run, and the mean over its window.
    curve : {parameter: array of shape (run, step, numbers)}
        At ``steps``, where all runs of the group have a spectrum.
    steps : array of shape (step,)
    """

    first: dict[str, np.ndarray]
    last: dict[str, np.ndarray]
    curve: dict[str, np.ndarray]
    steps: np.ndarray

    def flow(self, parameter: str) -> np.ndarray:
        """Return the distance of each run from its first spectrum."""
        return np.asarray(np.linalg.norm(self.last[parameter] - self.first[parameter], axis=-1))


def read_groups(groups: Mapping[str, xr.DataArray], window: Any, scale: str) -> dict[str, RunSpectra]:
    """Return the vectors of each group, for the parameters that all groups have."""
    if len(groups) < 2:
        raise ValueError(f"Expected two groups of runs or more, got {len(groups)}; pass {{name: spectra}}")
    arrays = {name: _checked(name, array) for name, array in groups.items()}
    parameters = [
        parameter
        for parameter in next(iter(arrays.values()))["parameter"].values.tolist()
        if all(parameter in array["parameter"].values for array in arrays.values())
    ]
    if not parameters:
        raise ValueError("Expected parameters with one name in all groups, got none; rename them, or select one")
    values = {name: {p: _values(name, array, p) for p in parameters} for name, array in arrays.items()}
    lengths = {p: [part[p].shape[-1] for part in values.values()] for p in parameters}
    return {
        name: _vectors(name, array, {p: embedded(values[name][p], scale, lengths[p]) for p in parameters}, window)
        for name, array in arrays.items()
    }


def _checked(name: str, array: Any) -> xr.DataArray:
    """Return spectra over (run, step, parameter, rank)."""
    if not isinstance(array, xr.DataArray) or not {"step", "rank"} <= set(array.dims):
        raise ValueError(
            f"Expected a DataArray over (run, step, rank) as group {name!r}, got {getattr(array, 'dims', array)}; pass "
            'series["mode_spectrum"]'
        )
    array = array if "run" in array.dims else array.expand_dims("run")
    if "parameter" not in array.dims:
        array = array.expand_dims(parameter=["spectrum"])
    return array.transpose("run", "step", "parameter", "rank")


def _values(name: str, array: xr.DataArray, parameter: str) -> np.ndarray:
    """Return the singular values (run, step, n) of a parameter, NaN at steps without a spectrum."""
    place = array["parameter"].values.tolist().index(parameter)
    values = array.values[:, :, place].astype(float)
    seen = np.isfinite(values)
    length = int(seen.any((0, 1)).sum())
    values, seen = values[..., :length], seen[..., :length]
    partial = seen.any(-1) & ~seen.all(-1)
    if not length:
        raise ValueError(
            f"Expected singular values of {parameter!r} in group {name!r}, got none (the matrix is zero, not finite or "
            "larger than max_side); leave this parameter out of all groups, with spectra.drop_sel(parameter=...)"
        )
    if partial.any() or (values[seen] < 0).any():
        raise ValueError(
            f"Expected singular values of at least 0 of {parameter!r} in group {name!r}, of one number at each step, "
            "got others; pass all singular values of matrices of one shape"
        )
    with np.errstate(invalid="ignore"):
        return np.where(values.any(-1, keepdims=True), values, np.nan)


def _vectors(name: str, array: xr.DataArray, found: dict[str, np.ndarray], window: Any) -> RunSpectra:
    """Return the vectors of one group from those of all its steps, (run, step, numbers) by parameter."""
    found = {**found, ALL: np.concatenate(list(found.values()), -1) / len(found) ** 0.5}
    steps, seen = array["step"].values, np.isfinite(found[ALL]).all(-1)  # (run, step)
    if isinstance(window, Mapping) and name not in window:
        raise ValueError(
            f"Expected a window for each group, got none for {name!r}; pass {{{name!r}: (first, last)}} too"
        )
    low, high = window_bounds(name, window[name] if isinstance(window, Mapping) else window, array).T[..., None]
    inside = (steps >= low) & (steps <= high) & seen
    if not inside.any(1).all():
        raise ValueError(
            f"Expected spectra in the window of each run, got none in {int((~inside.any(1)).sum())} of {len(seen)} "
            f"runs of group {name!r}; widen the window, or leave out these runs"
        )
    at, common = seen.argmax(1), seen.all(0)
    weights = inside / inside.sum(1, keepdims=True)
    return RunSpectra(
        {p: x[np.arange(len(x)), at] for p, x in found.items()},
        {p: (np.nan_to_num(x) * weights[..., None]).sum(1) for p, x in found.items()},
        {p: x[:, common] for p, x in found.items()},
        steps[common],
    )
