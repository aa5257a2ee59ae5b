"""Series as NetCDF files, and atomic writes of any file."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import xarray as xr


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file so that ``path`` holds either the old content or the new content, never a part of it.

    The ``with`` block writes to a temporary path in the same folder. After the block the temporary file is synchronised
    to the disk and renamed to ``path``. If the block raises, the temporary file is removed and ``path`` is unchanged.

    Parameters
    ----------
    path
        The file to write. Its folder must exist. An existing file is replaced.

    Yields
    ------
    pathlib.Path
        The temporary path: ``path`` with process, thread and ``.tmp`` appended. The block must create this file, by any
        writer that accepts a path.

    Raises
    ------
    OSError
        If the file cannot be written or renamed.

    Notes
    -----
    A process that is killed inside the block leaves the temporary file behind. A symbolic link is followed, and the
    permissions of an existing file are kept. Of several writers the last one counts.

    See Also
    --------
    write_netcdf : Write a series atomically.
    Lock : Exclude other processes from a file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from probe.recording import atomic_write
    >>> with atomic_write("verdict.txt") as temporary:
    ...     _ = temporary.write_text("two phases", encoding="utf-8")
    >>> Path("verdict.txt").read_text()
    'two phases'
    """
    path = Path(os.path.realpath(path))
    process = os.getpid()
    temporary = path.with_name(f"{path.name}.{process}.{threading.get_ident()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        if os.getpid() == process:  # not the file of the parent, in a forked child
            temporary.unlink(missing_ok=True)
        raise
    _synchronise_folder(path.parent)


def _synchronise_folder(folder: Path) -> None:
    """Synchronise the directory entry of a renamed file, where the system supports it."""
    if os.name != "posix":  # Windows cannot open a folder
        return
    with suppress(OSError):  # some network file systems refuse; the file itself is on the disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def save(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a series to a NetCDF file that is not a recording.

    Parameters
    ----------
    dataset
        The series, with a coordinate ``step``.
    path
        The file to write. An existing file is replaced, unless a journal stands beside it.

    Returns
    -------
    pathlib.Path
        The path of the file.

    Raises
    ------
    FileExistsError
        If ``path`` belongs to a recording. Its journal would contradict the new file.

    See Also
    --------
    load : Load a saved or recorded series.
    write_netcdf : The same without the check for a journal.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import load, save
    >>> curves = xr.Dataset({"train_loss": ("step", np.array([2.0, 1.0]))}, {"step": [0, 10]})
    >>> save(curves, "curves.nc").name
    'curves.nc'
    >>> load("curves.nc")["train_loss"].sel(step=10).item()
    1.0
    """
    if Path(f"{os.fspath(path)}.journal").exists():
        raise FileExistsError(
            f"Expected a path without a journal, got the recording {os.fspath(path)}; save to another path"
        )
    return write_netcdf(dataset, path)


def write_netcdf(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a series to a NetCDF file atomically, and return the path.

    NetCDF 3 has no 64-bit integers. They are stored as float64, which is exact up to 2**53. :func:`read_netcdf` returns
    ``step`` as int64.

    Parameters
    ----------
    dataset
        The series, with a coordinate ``step``.
    path
        The file to write. An existing file is replaced.

    Returns
    -------
    pathlib.Path
        The path of the file.

    See Also
    --------
    read_netcdf : Read the file.
    atomic_write : Write any other file atomically.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.recording import read_netcdf, write_netcdf
    >>> path = write_netcdf(xr.Dataset({"train_loss": ("step", [2.0, 1.0])}, {"step": [0, 10]}), "run.nc")
    >>> read_netcdf(path)["step"].dtype
    dtype('int64')
    """
    path = Path(path)
    wide = [name for name, array in dataset.variables.items() if array.dtype in (np.int64, np.uint64, np.uint32)]
    stored = dataset.assign({name: dataset[name].astype(np.float64).assign_attrs(dataset[name].attrs) for name in wide})
    with atomic_write(path) as temporary:
        stored.to_netcdf(temporary, engine="scipy")
    return path


def read_netcdf(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a series from a NetCDF file into memory, and close the file.

    Parameters
    ----------
    path
        A file of :func:`write_netcdf` or :func:`save`.

    Returns
    -------
    xarray.Dataset
        The series. ``step`` is int64 if all steps are whole numbers.

    Raises
    ------
    ValueError
        If the file has no coordinate ``step``.

    See Also
    --------
    load : Load a recording from its journal, also after a crash.
    write_netcdf : Write the file.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.recording import read_netcdf, write_netcdf
    >>> path = write_netcdf(xr.Dataset({"train_loss": ("step", [2.0, 1.0])}, {"step": [0, 10]}), "run.nc")
    >>> read_netcdf(path)["train_loss"].values.tolist()
    [2.0, 1.0]
    """
    with xr.open_dataset(path, engine="scipy") as file:
        dataset = file.load()
    if "step" not in dataset.coords:
        found = ", ".join(map(str, dataset.sizes)) or "no dimension"
        raise ValueError(
            f"Expected a series with a coordinate 'step' in {os.fspath(path)}, got {found}; check the path"
        )
    steps = dataset["step"]
    if (steps % 1 != 0).any():
        return dataset
    return dataset.assign_coords(step=steps.astype(np.int64).assign_attrs(steps.attrs))
