"""Arrays of NumPy, ``*.npz``: one array for each curve, over steps, or over runs and steps."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probe.readers.columns import columns_logs
from probe.readers.log import Log
from probe.readers.names import role_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.spelling import like_accuracies, like_losses
from probe.readers.text import check_file

_LARGEST = 2**28  # bytes of one array
# What `zipfile` and `numpy` raise for a damaged archive. An unknown compression or a password is a RuntimeError.
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def matches(candidate: Candidate) -> bool:
    """Return whether the file is an archive of arrays, one of which has the name of a loss or an accuracy."""
    if not candidate.start.startswith(b"PK\x03\x04") or candidate.path.suffix.lower() != ".npz":
        return False
    try:
        names = [name.removesuffix(".npy") for name in zipfile.ZipFile(candidate.path).namelist()]
    except _DAMAGED:
        return True  # damaged: the error is raised when it is read
    return any(map(role_of, names)) or bool(like_losses(names) or like_accuracies(names))


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one file as one run, or as the runs along the first axis of its arrays."""
    arrays, notes = _arrays(files[0])
    if not arrays:
        raise ValueError(f"Expected arrays of numbers in {files[0].name}, got none; save each curve as an array")
    logs = columns_logs(arrays, options.axis, files[0].name)
    next(iter(logs.values())).notes += notes
    return logs


def _arrays(file: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of numbers with one or two dimensions, and notes about the others."""
    check_file(file)
    found: dict[str, np.ndarray] = {}
    others: list[str] = []
    try:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in zipfile.ZipFile(file).infolist()}
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                array = archive[name] if sizes.get(name, 0) <= _LARGEST else np.empty(0, dtype=object)
                if array.ndim in (1, 2) and array.size and array.dtype.kind in "fiub":
                    found[name] = array.astype(float)
                else:
                    others.append(name)
    except _DAMAGED as error:
        raise ValueError(
            f"Expected arrays of NumPy in {file.name}, got {error}; save them again with numpy.savez"
        ) from error
    return found, [f"arrays that are no curves were ignored: {', '.join(others)}"] if others else []


READER = Reader("npz", "*.npz with an array for each curve", matches, read)
