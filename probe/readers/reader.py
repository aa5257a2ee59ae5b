"""Interface of a reader: how one format of logs is recognised, grouped into runs and read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from probe.readers.log import Log


def each_file(path: Path) -> Path:
    """Return the path itself, for formats in which each file is a run."""
    return path


@dataclass(frozen=True)
class Reader:
    """Reader of one format. A file in ``formats`` defines it, and ``discovery.READERS`` lists it.

    Attributes
    ----------
    name : str
        Name of the format, the value of ``format=``.
    files : str
        Names of the files, as patterns for messages.
    matches : callable
        ``matches(path)`` is True if the file has this format. It is called for every file of a folder.
    read : callable
        ``read(files, axis)`` returns the runs in the files by label. ``files`` belong to one run path. The label is
        "" for a single run. ``axis`` is the name of the column of steps, or None.
    run_path : callable
        ``run_path(path)`` returns the file or folder of the run that a file belongs to.
    suffixes : tuple of str
        Further suffixes, in lower case. Such a file is read if the user names it, and ignored in a folder.
    """

    name: str
    files: str
    matches: Callable[[Path], bool]
    read: Callable[[Sequence[Path], str | None], Mapping[str, Log | xr.Dataset]]
    run_path: Callable[[Path], Path] = each_file
    suffixes: tuple[str, ...] = ()
