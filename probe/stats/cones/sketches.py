"""Distances between the tangent kernels of one model at several steps, from sketches of the kernels.

The distance of two kernels is 1 - <H, K> / (|H| |K|) with the Frobenius inner product (arXiv:2505.13900, equation 4).
It is half the squared distance of the two kernels when both are scaled to norm 1. It does not depend on their size.

A sketch is a list of numbers that is linear in the kernel and keeps inner products on average. Two kinds exist:

    entries  of the whole kernel; or sums of entries with random signs, if there are too many of them (hashed). A hashed
             distance has the relative standard error sqrt(2 / numbers) (Charikar, Chen and Farach-Colton 2002)
    probes   of the products K z with fixed random vectors z, part by part. The standard error is that over probes
"""

import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

SKETCH = "tangent_kernel_sketch"


class KernelDistance(NamedTuple):
    """Distances of kernels (no unit, 0 to 2) and their standard errors, of one shape."""

    distance: np.ndarray
    standard_error: np.ndarray


def kernel_distance(first: ArrayLike, second: ArrayLike, *, n_probes: int = 0, hashed: bool = False) -> KernelDistance:
    """Return the distance of two kernels from their sketches, which have one layout.

    Parameters
    ----------
    first, second : array of shape (..., numbers)
        Sketches, or whole kernels with their entries in a row.
    n_probes : int
        Number of random vectors in the sketch, each with an equal part of the numbers. 0: entries of whole kernels.
    hashed : bool
        Whether entries of whole kernels are hashed.

    Returns
    -------
    KernelDistance
        NaN if a kernel is 0 or not finite. The standard error is 0 for entries that are not hashed, and NaN for one
        probe.

    Raises
    ------
    ValueError
        If the numbers of a sketch are no multiple of ``n_probes``.

    See Also
    --------
    kernel_distances : Of all pairs of steps of a recording.

    Examples
    --------
    >>> from probe.stats import kernel_distance
    >>> found = kernel_distance([1.0, 0.0, 0.0, 1.0], [3.0, 0.0, 0.0, 0.0])  # of the identity and a kernel of rank 1
    >>> round(found.distance.item(), 4), found.standard_error.item()
    (0.2929, 0.0)
    """
    a, b = np.broadcast_arrays(np.asarray(first, dtype=float), np.asarray(second, dtype=float))
    parts = max(1, n_probes)
    if a.shape[-1] % parts:
        raise ValueError(
            f"Expected a multiple of {parts} numbers in a sketch of {n_probes} probes, got {a.shape[-1]}; pass the "
            "number of probes with which it was made"
        )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        a, b = (_scaled(array.reshape(*array.shape[:-1], parts, -1)) for array in (a, b))
        squares = parts * ((a - b) ** 2).sum(-1)  # of each probe
        distance = squares.mean(-1) / 2
        if not n_probes:
            return KernelDistance(distance, distance * (math.sqrt(2 / a.shape[-1]) if hashed else 0))
        sizes = parts * ((a**2).sum(-1) + (b**2).sum(-1))
        influence = (squares - distance[..., None] * sizes) / 2
        if parts == 1:
            return KernelDistance(distance, np.full_like(distance, np.nan))
        return KernelDistance(distance, influence.std(-1, ddof=1) / math.sqrt(parts))


def _scaled(array: np.ndarray) -> np.ndarray:
    """Return sketches (..., probes, numbers) of norm 1. The largest number is 1 before, so that squares are finite."""
    array = array / np.abs(array).max((-2, -1), keepdims=True)
    scaled: np.ndarray = array / np.sqrt((array**2).sum((-2, -1), keepdims=True))
    return scaled


def kernel_distances(series: xr.Dataset, variable: str = SKETCH) -> xr.Dataset:
    """Return the distances between the tangent kernels at all pairs of observed steps.

    Parameters
    ----------
    series : xarray.Dataset
        What :class:`probe.TangentKernelProbe` has recorded, of one run or several, also after a resume.
    variable : str
        Name of the sketches. In a set of probes it has the name of the probe as a prefix.

    Returns
    -------
    xarray.Dataset
        ``distance`` and ``distance_se``, no unit, with the dimensions of the sketches and, last, ``step`` and
        ``step_ref``. Both are symmetric in these; NaN where a kernel is 0, not finite or missing.

    Raises
    ------
    ValueError
        If the series has no such variable.

    See Also
    --------
    kernel_distance : Of one pair.
    probe.TangentKernelProbe : Records sketches.

    Examples
    --------
    >>> import torch
    >>> from probe import TangentKernelProbe
    >>> from probe.stats import kernel_distances
    >>> model = torch.nn.Linear(3, 1)  # a linear model has one kernel for ever
    >>> probe = TangentKernelProbe().attach(model, (torch.eye(3), None)).observe(0)
    >>> _ = model.weight.data.add_(1.0)
    >>> distances = kernel_distances(probe.observe(5).detach().series_)
    >>> distances["distance"].sel(split="all", batch=0, step=0, step_ref=5).item()
    0.0
    """
    if variable not in series:
        names = [str(name) for name in series if str(name).endswith(SKETCH)]
        raise ValueError(
            f"Expected the variable {variable!r} in the series, got none; "
            + (f"pass variable={names[0]!r}" if names else "record it with TangentKernelProbe")
        )
    array = series[variable].transpose(..., "step", "sketch")
    n_probes, hashed = int(array.attrs["n_probes"]), bool(array.attrs["hashed"])
    values = array.values[..., : int(array.attrs["n_numbers"])]  # a set of probes pads the shorter sketches
    pairs = [
        kernel_distance(values, values[..., i : i + 1, :], n_probes=n_probes, hashed=hashed)
        for i in range(array.sizes["step"])
    ]
    dims = (*array.dims[:-1], "step_ref")
    coords = {str(dim): array[dim] for dim in array.dims[:-1] if dim in array.coords}
    shape = *values.shape[:-1], 0
    found = xr.Dataset(
        {
            name: (dims, np.stack(parts, -1) if parts else np.empty(shape), {"units": "1", "long_name": text})
            for name, text, parts in (
                ("distance", "distance of tangent kernels", [pair.distance for pair in pairs]),
                ("distance_se", "standard error of the distance", [pair.standard_error for pair in pairs]),
            )
        },
        coords,
    )
    return found.assign_coords(step_ref=series["step"].values)


def observed_kernels(distances: np.ndarray) -> np.ndarray:
    """Return the positions of the steps at which all batches have a kernel, from distances (batch, n, n)."""
    return np.flatnonzero(np.isfinite(np.diagonal(distances, axis1=1, axis2=2)).all(0))
