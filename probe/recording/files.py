"""Series as NetCDF files, and atomic writes of any file."""

import io
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import xarray as xr
from scipy.io import netcdf_file

from probe.recording.digest import DIGEST_BYTES, add_digest, read_checked
from probe.recording.lines import journal_of
from probe.recording.paths import check_place, user_path
from probe.series import MAX_STEP, check_name, storable_attrs

# A dimension that no variable uses says that a digest follows. Where both the numbers and the digest are lost, such as
# in zeros at the end of the file, the file is thus not taken for one without digest. xarray does not copy it.
_MARK = "probe_digest"
_MARKED = b"\0\0\0\x0cprobe_digest" + DIGEST_BYTES.to_bytes(4, "big")
_HEAD = 2**16  # bytes; the dimensions come first


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
    path = Path(os.path.realpath(user_path(path)))
    check_place(path)
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
    synchronise_folder(path.parent)


def synchronise_folder(folder: Path) -> None:
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
    if os.path.lexists(journal_of(path)):
        raise FileExistsError(
            f"Expected a path without a journal, got the recording {os.fspath(path)}; save to another path"
        )
    return write_netcdf(dataset, path)


def write_netcdf(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a series to a NetCDF file atomically, and return the path.

    NetCDF 3 has no 64-bit integers. They are stored as float64, which is exact up to 2**53. :func:`read_netcdf` returns
    ``step`` as int64. The file ends with a digest, see :func:`add_digest`, which other programs ignore. Attributes that
    NetCDF cannot hold are stored as JSON text. Units of time are abbreviated, because xarray reads "seconds" as a time.

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
    path = user_path(path)
    stored = _storable(dataset)
    with atomic_write(path) as temporary:
        stored.to_netcdf(temporary, engine="scipy")
        with netcdf_file(temporary, "a", mmap=False) as file:
            file.createDimension(_MARK, DIGEST_BYTES)
        add_digest(temporary)
    return path


def _storable(dataset: xr.Dataset) -> xr.Dataset:
    """Return the series with types, units and attributes that NetCDF 3 holds and that xarray reads back unchanged."""
    variables = {}
    for name, array in dataset.variables.items():
        check_name(str(name))
        attrs = storable_attrs(array.attrs)
        variable = (
            array.astype(np.float64) if array.dtype in (np.int64, np.uint64, np.uint32) else array.copy(deep=False)
        )
        variable.attrs = attrs
        variables[name] = variable
    coords = {name: variables.pop(name) for name in dataset.coords}
    stored = xr.Dataset(variables, coords, storable_attrs(dataset.attrs))  # one by one takes the square of the time
    return stored.drop_encoding()  # such as packing into 16 bits in the file that it came from


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
        If the file is damaged, is of another format, or has no coordinate ``step`` of finite numbers.

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
    content, has_digest = read_checked(path)
    if not has_digest and _MARKED in content[:_HEAD]:
        raise ValueError(
            f"Expected a digest at the end of {os.fspath(path)}, got another end; restore the file from a copy"
        )
    try:
        # Units such as "days" are text here, and a file of another program may have any.
        with xr.open_dataset(io.BytesIO(content), engine="scipy", decode_times=False, decode_timedelta=False) as file:
            dataset = file.load()
    except Exception as error:  # a damaged file raises errors of many classes
        kind = "of NetCDF 4" if content.startswith(b"\x89HDF") else "or a damaged one"
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"Expected a file of NetCDF 3 at {os.fspath(path)}, got another file {kind} ({reason}); restore it from a "
            "copy, or convert it with xarray.Dataset.to_netcdf(format='NETCDF3_64BIT')"
        ) from error
    if "step" not in dataset.coords or dataset["step"].dtype.kind not in "fiu":
        found = ", ".join(map(str, dataset.sizes)) or "no dimension"
        raise ValueError(
            f"Expected a series with a coordinate 'step' in {os.fspath(path)}, got {found}, without steps that are "
            "numbers; check the path"
        )
    steps = dataset["step"]
    if not np.isfinite(steps).all():
        raise ValueError(
            f"Expected finite steps in {os.fspath(path)}, got one that is not finite; restore the file from a copy"
        )
    if (steps % 1 != 0).any() or (abs(steps) > MAX_STEP).any():
        return dataset
    return dataset.assign_coords(step=steps.astype(np.int64).assign_attrs(steps.attrs))
