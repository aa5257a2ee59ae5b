"""Paths that a user gives, in one form for all functions that read or write files."""

import os
import stat
from pathlib import Path

_LONGEST_SUFFIX = 32  # bytes; the longest is that of a temporary file: process, thread and .tmp
_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def user_path(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Path:
    """Return a path with ``~`` replaced by the home folder; raise TypeError or ValueError if it is none."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(
            f"Expected a path, got {path!r} of {type(path).__name__}; pass text or a pathlib.Path"
        ) from None
    if "\0" in text:
        raise ValueError(f"Expected a path without a zero byte, got {text!r}; correct it")
    return Path(text).expanduser()


def check_regular(path: Path) -> None:
    """Raise OSError if something other than a file is at the path.

    Reading a pipe does not end, and a file that is renamed to the path of a device replaces the device.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"Expected a file as path={os.fspath(path)!r}, got a folder; name a file in it, such as 'run.nc'"
        )
    if path.exists() and not path.is_file():
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode), "special file")
        raise OSError(f"Expected a file as path={os.fspath(path)!r}, got a {kind}; name another file")


def check_place(path: Path) -> None:
    """Raise OSError if no file can be written to the path: no folder, a name that is too long, no regular file."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Expected an existing folder {path.parent} for path={os.fspath(path)!r}, got none; make it"
        )
    length, longest = len(os.fsencode(path.name)), _longest_name(path.parent) - _LONGEST_SUFFIX
    if length > longest:
        raise OSError(f"Expected a file name of at most {longest} bytes, got {length}: {path.name!r}; shorten it")
    check_regular(path)


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows, or a file system that does not state it
        return 255
