"""Means of a sampling over networks, with errors."""

import numpy as np
import xarray as xr


def summarise(sampled: xr.Dataset) -> xr.Dataset:
    """Return means and errors of a sampling at each noise.

    Parameters
    ----------
    sampled : xarray.Dataset
        Result of `sample`.

    Returns
    -------
    xarray.Dataset
        The mean of each series over the second half of the steps and over networks, and its standard error over
        networks, ``NAME_se``; the excess ``kurtosis`` of the overlaps of all neurons, with its jackknife error over
        networks; ``drift``, the difference of the last and the third quarter of the learned (linear) part, in errors.
    """
    half = sampled.isel(step=slice(sampled.sizes["step"] // 2, None))
    names = [str(name) for name, array in sampled.items() if array.dims == ("noise", "run", "step")]
    result: dict[str, xr.DataArray] = {}
    for name in names:
        result[name], result[f"{name}_se"] = _mean(half[name].mean("step"))
    first = half[names[0]]
    middle = half.sizes["step"] // 2
    drift, error = _mean(
        first.isel(step=slice(middle, None)).mean("step") - first.isel(step=slice(middle)).mean("step")
    )
    result["drift"] = drift / error
    moments = [(sampled["overlaps"] ** power).mean(["snapshot", "neuron"]) for power in (2, 4)]
    result["kurtosis"], result["kurtosis_se"] = _kurtosis(*moments)
    return xr.Dataset(result)


def _mean(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return mean and standard error over runs."""
    return values.mean("run"), values.std("run", ddof=1) / np.sqrt(values.sizes["run"])


def _kurtosis(second: xr.DataArray, fourth: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the excess kurtosis about 0 of all runs, and its jackknife error."""
    n = second.sizes["run"]
    without = [(one.sum("run") - one) / (n - 1) for one in (fourth, second)]
    ratios = without[0] / without[1] ** 2
    error = ((n - 1) * ratios.var("run")) ** 0.5
    return fourth.mean("run") / second.mean("run") ** 2 - 3, error
