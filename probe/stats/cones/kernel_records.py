"""Tangent kernels of a recording: their distances and norms on one split. All functions that read them use this module.

One rule chooses the split: the one that is asked for, or else "train", or else the only one. One rule chooses the two
measurements that separate movement from jitter: the first two batches. A single batch counts for both if its kernels
have no error: whole kernels without probes and hashing, and distances without batches.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from probe.stats.cones.sketches import SKETCH, kernel_distances

DISTANCE, NORM = "tangent_kernel_distance", "tangent_kernel_norm"
_OWN = "distance"  # what `kernel_distances` returns
_DIMS = "step", "step_ref"


class RecordedKernels(NamedTuple):
    """Tangent kernels of one split of one run, or of several runs with the dimension ``run``.

    Attributes
    ----------
    distance : xarray.DataArray
        Distances ([batch,] step, step_ref) between all kernels, at the same steps on both axes.
    norm : xarray.DataArray or None
        Frobenius norms (step), the geometric mean over the first two batches. None if they are not recorded.
    split : str
        Name of the split; "train" for a recording without splits.
    exact : bool
        Whether the kernels have no error.
    """

    distance: xr.DataArray
    norm: xr.DataArray | None
    split: str
    exact: bool

    def two_batches(self) -> xr.DataArray | None:
        """Return two measurements (batch, step, step_ref), or None if there is one, and it has an error."""
        distance = self.distance
        if distance.sizes.get("batch", 1) > 1:
            return distance.isel(batch=slice(2))
        if not self.exact:
            return None
        only = distance.squeeze("batch", drop=True) if "batch" in distance.dims else distance
        return xr.concat([only, only], "batch").transpose(..., "batch", *_DIMS)


def recorded_kernels(
    series: xr.Dataset | xr.DataArray, split: str | None = None, *, variable: str = SKETCH
) -> RecordedKernels:
    """Return the tangent kernels of a recording: distances between all steps, and norms, on one split.

    Parameters
    ----------
    series : xarray.Dataset or xarray.DataArray
        What :class:`probe.TangentKernelProbe` has recorded, or what :func:`kernel_distances` returns, of one run or
        several. Recorded distances are read, and otherwise computed from sketches. A DataArray holds one of the two.
    split : str, optional
        Name of the split. Default: "train", or else the only one.
    variable : str
        Name of the sketches. In a set of probes it has the name of the probe as a prefix.

    Returns
    -------
    RecordedKernels

    Raises
    ------
    ValueError
        If the series has no kernels, other dimensions or no such split, or several splits without "train" and none is
        given.

    See Also
    --------
    cone_of : The cone of a recording.

    Examples
    --------
    >>> import torch
    >>> from probe import TangentKernelProbe
    >>> from probe.stats import recorded_kernels
    >>> model = torch.nn.Linear(3, 1)
    >>> probe = TangentKernelProbe().attach(model, (torch.eye(3), None)).observe(0).observe(5)
    >>> kernels = recorded_kernels(probe.detach().series_)
    >>> kernels.split, dict(kernels.distance.sizes)
    ('all', {'batch': 2, 'step': 2, 'step_ref': 2})
    """
    if isinstance(series, xr.DataArray):
        return kernels_of(series, split)
    prefix = variable.removesuffix(SKETCH)
    names = [prefix + DISTANCE, *([] if prefix else [_OWN]), variable]
    name = next((name for name in names if name in series), None)
    if name is None:
        other = next((str(other) for other in series if str(other).endswith(SKETCH)), "")
        advice = f"pass variable={other!r}" if other else "record it with TangentKernelProbe, or pass what "
        advice += "" if other else "probe.stats.kernel_distances returns"
        raise ValueError(f"Expected {names[0]} or {variable}, got a series without them; {advice}")
    return kernels_of(series[name], split, norm=norm_of(series, name))


def norm_of(series: xr.Dataset, name: str) -> xr.DataArray | None:
    """Return the norms that were recorded beside distances or sketches of this name, if any."""
    found = name.removesuffix(SKETCH).removesuffix(DISTANCE) + NORM
    return series[found] if found in series and name.endswith((SKETCH, DISTANCE)) else None


def kernels_of(array: xr.DataArray, split: str | None = None, *, norm: xr.DataArray | None = None) -> RecordedKernels:
    """Return the kernels of recorded distances or sketches, and their norms if given."""
    array, name = of_split(array, split)
    exact = "batch" not in array.dims
    if "sketch" in array.dims:
        exact |= array.attrs.get("n_probes") == 0 and not array.attrs.get("hashed")
        variable = SKETCH if array.name is None else str(array.name)
        found = kernel_distances(array.to_dataset(name=variable), variable)["distance"]
        array = found.rename(variable.removesuffix(SKETCH) + DISTANCE)
    _check(array)
    if {*_DIMS} <= {*array.coords}:
        array = array.reindex(step_ref=array["step"].values)
    array = array.transpose(..., *(["batch"] if "batch" in array.dims else []), *_DIMS)
    if norm is None:
        return RecordedKernels(array, None, name, exact)
    sizes = of_split(norm, name)[0] if "split" in norm.dims else norm
    return RecordedKernels(array, _geometric_mean(sizes) if "batch" in sizes.dims else sizes, name, exact)


def _geometric_mean(norms: xr.DataArray) -> xr.DataArray:
    """Return the geometric mean over the first two batches, NaN where one of them has no kernel."""
    two = norms.isel(batch=slice(2)).astype(float)
    mean: xr.DataArray = two.prod("batch", skipna=False) ** (1 / two.sizes["batch"])
    return mean


def of_split(array: xr.DataArray, split: str | None) -> tuple[xr.DataArray, str]:
    """Return the values of a split, and its name."""
    names = splits_of(array)
    if split is None and (not names or "train" in names):
        split = "train"
    elif split is None and len(names) == 1:
        split = names[0]
    elif split not in names:
        got = "none" if split is None else repr(split)
        raise ValueError(
            f"Expected a split among {', '.join(names) or 'none'}, got {got}; pass split= with one of them"
        )
    return array.sel(split=split, drop=True) if "split" in array.dims else array, str(split)


def splits_of(array: xr.DataArray) -> list[str]:
    """Return the names of the splits, none without such a coordinate."""
    return [str(name) for name in np.atleast_1d(array["split"].values)] if "split" in array.coords else []


def _check(array: xr.DataArray) -> None:
    if missing := {*_DIMS} - {*array.dims}:
        raise ValueError(
            f"Expected distances over step and step_ref, got no {', '.join(sorted(missing))}; pass what "
            "probe.stats.kernel_distances returns"
        )
    if unknown := {*array.dims} - {"run", "batch", *_DIMS}:
        raise ValueError(
            f"Expected distances over run, split, batch, step and step_ref, got {', '.join(map(str, unknown))} too; "
            "select one"
        )
