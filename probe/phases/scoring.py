"""Distance of the markers that were found from true steps."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from probe.phases.markers import table


def median_distance(
    markers: xr.Dataset, truth: Mapping[str, ArrayLike] | ArrayLike, first_step: float, last_step: float
) -> float:
    """Return the median distance (dex) of the markers from true steps, see :meth:`probe.PhaseDetector.score`."""
    by_marker = _checked(truth, markers.sizes["run"])
    found = np.stack([markers["step"].sel(marker=name).values for name in by_marker])  # NaN unless found
    true = np.stack(list(by_marker.values()))
    errors = np.abs(np.log10(found + 1) - np.log10(true + 1))
    longest = np.log10(last_step + 1) - np.log10(first_step + 1)
    return float(np.median(np.where(np.isnan(errors), longest, errors)[~np.isnan(true)]))


def _checked(truth: Mapping[str, ArrayLike] | ArrayLike, n_runs: int) -> dict[str, np.ndarray]:
    """Return true steps (run,) by marker, after a check."""
    true = truth if isinstance(truth, Mapping) else {"fit_end": truth}
    names = [kind.name for kind in table.MARKERS]
    if not true or set(true) - set(names):
        raise ValueError(f"Expected true steps by marker, one or more of {names}, got {list(true)}; rename the keys.")
    arrays = {name: np.asarray(at, dtype=float) for name, at in true.items()}
    if any(array.shape not in ((), (n_runs,)) for array in arrays.values()):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(
            f"Expected one true step, or one for each of {n_runs} runs, got the shapes {shapes}; pass arrays (run,)."
        )
    steps = np.concatenate([array.ravel() for array in arrays.values()])
    if (steps < 0).any():
        raise ValueError(f"Expected true steps from 0 on, got {np.nanmin(steps):g}; pass NaN if there is no true step.")
    if np.isnan(steps).all():
        raise ValueError("Expected a true step in y, got missing values only; pass at least one step.")
    return {name: np.broadcast_to(array, n_runs) for name, array in arrays.items()}
