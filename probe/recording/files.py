"""Series as NetCDF files, written atomically."""

import os
from pathlib import Path

import numpy as np
import xarray as xr


def save(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a series to NetCDF; see :func:`write_netcdf`. Not over a recording, whose journal would go on to say otherwise."""
    if Path(f"{os.fspath(path)}.journal").exists():
        raise FileExistsError(f"{os.fspath(path)} is a recording with a journal beside it; save to another path")
    return write_netcdf(dataset, path)


def write_netcdf(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write to NetCDF, atomically: the file is the old one or the new one, never half of it.

    NetCDF 3 has no 64-bit integers, so they are stored as float64 (exact up to 2**53); :func:`read_netcdf` gives ``step``
    back as int64.
    """
    path = Path(path)
    wide = [name for name, array in dataset.variables.items() if array.dtype in (np.int64, np.uint64, np.uint32)]
    stored = dataset.assign({name: dataset[name].astype(np.float64).assign_attrs(dataset[name].attrs) for name in wide})
    partial = path.with_name(path.name + ".tmp")
    try:
        stored.to_netcdf(partial, engine="scipy")
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_netcdf(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a NetCDF series into memory and close the file."""
    with xr.open_dataset(path, engine="scipy") as file:
        dataset = file.load()
    if "step" not in dataset.coords:
        raise ValueError(
            f"{os.fspath(path)} holds no series: it has no 'step', but {', '.join(map(str, dataset.sizes))}"
        )
    steps = dataset["step"]
    if (steps % 1 != 0).any():
        return dataset
    return dataset.assign_coords(step=steps.astype(np.int64).assign_attrs(steps.attrs))
