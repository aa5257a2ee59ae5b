"""Interface of a reader: how one format of logs is recognised, grouped into runs and read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import xarray as xr

from probe.readers.log import Log
from probe.readers.text import HEAD, open_bytes, text_head


@dataclass(frozen=True)
class ReadOptions:
    """What the user passed about the columns of a log.

    Attributes
    ----------
    axis : str or None
        The column of steps. ``"row"`` numbers the rows. None: the first of the usual names.
    run : tuple of str
        The columns that divide the rows among runs. Empty: found by their values.
    split : str or None
        The column that divides the rows among splits. None: found by its values.
    """

    axis: str | None = None
    run: tuple[str, ...] = ()
    split: str | None = None

    def check_no_columns(self, what: str) -> None:
        """Raise ValueError if a column was named for a format that has steps of its own."""
        if self.axis not in (None, "step"):
            raise ValueError(f"Expected axis 'step' for {what}, got {self.axis!r}; leave axis out")
        for name, column in (("run", self.run), ("split", self.split)):
            if column:
                found = ", ".join(column) if isinstance(column, tuple) else column
                raise ValueError(f"Expected no column as {name} for {what}, got {found!r}; leave {name} out")


@dataclass(frozen=True)
class Candidate:
    """A file that may be a log: its path, and its beginning, which is read once a reader asks for it."""

    path: Path

    @property
    def compression(self) -> str:
        """The last suffix of the name if it is that of compressed text, in lower case, or ""."""
        suffix = self.path.suffix.lower()
        return suffix if suffix in (".gz", ".bz2", ".xz", ".zip") else ""

    @cached_property
    def start(self) -> bytes:
        """The first bytes, at most 64 KiB, as they are on the disk. Empty if the file cannot be read."""
        try:
            with open_bytes(self.path) as file:
                return file.read(HEAD)
        except OSError:
            return b""

    @cached_property
    def head(self) -> str:
        """The first text, about 64 KiB, decompressed and decoded. Empty if the file is binary or cannot be read."""
        return text_head(self.path)


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
        ``matches(candidate)`` is True if the file has this format. It is called for every file of a folder, and looks
        at the content rather than at the name.
    read : callable
        ``read(files, options)`` returns the runs in the files by label. ``files`` belong to one run path. The label is
        "" for a single run.
    run_path : callable
        ``run_path(path)`` returns the file or folder of the run that a file belongs to.
    suffixes : tuple of str
        Further suffixes, in lower case. Such a file is read if the user names it, and ignored in a folder.
    """

    name: str
    files: str
    matches: Callable[[Candidate], bool]
    read: Callable[[Sequence[Path], ReadOptions], Mapping[str, Log | xr.Dataset]]
    run_path: Callable[[Path], Path] = each_file
    suffixes: tuple[str, ...] = ()
