"""The lines of a journal: JSON objects with a ``kind``, in which NaN is null and infinity is {"float": "inf"}.

Each line begins with a checksum of all lines up to this one.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from probe.errors import warn_user
from probe.recording.paths import user_path

_PREFIX = re.compile(rb'\{"crc": "([0-9a-f]{8})", ')


def journal_of(path: str | os.PathLike[str]) -> Path:
    """Return the path of the journal of a recording, ``<path>.journal``.

    Parameters
    ----------
    path
        The NetCDF file of the recording. If it is a symbolic link, the journal is beside the file that it leads to.

    Returns
    -------
    pathlib.Path
        The path of the journal. The file need not exist.

    See Also
    --------
    load : Load a recording from its journal.

    Examples
    --------
    >>> from probe.recording import journal_of
    >>> journal_of("run.nc").name
    'run.nc.journal'
    """
    file = user_path(path)
    return Path(f"{os.path.realpath(file) if file.is_symlink() else file}.journal")


class Line(NamedTuple):
    """A line of a journal: its number, its entry, the number of bytes up to its end and the checksum there."""

    number: int
    entry: dict[str, Any]
    end: int
    checksum: int


def encode_line(kind: str, entry: Mapping[str, Any]) -> bytes:
    """Return one line of a journal, without checksum and line end."""
    return json.dumps({"kind": kind, **entry}, allow_nan=False, default=repr).encode()


def with_checksums(lines: Iterable[bytes], checksum: int) -> tuple[list[bytes], int]:
    """Return the lines as the journal holds them, and the checksum after them.

    The checksum of a line continues the ``checksum`` of the line before it. A line that was changed, repeated, moved
    or removed therefore has another checksum than the one in its place.
    """
    complete = []
    for line in lines:
        checksum = zlib.crc32(line, checksum)
        complete.append(b'{"crc": "%08x", ' % checksum + line[1:] + b"\n")
    return complete, checksum


def decoded_lines(journal: Path) -> Iterator[Line]:
    """Yield the lines of a journal.

    An incomplete or damaged last line is ignored with a warning. A damaged line before it raises ValueError. Lines of
    older versions have no checksum.
    """
    data = journal.read_bytes()
    end = checksum = 0
    checked = False
    for number, raw in enumerate(data.splitlines(keepends=True), 1):
        end += len(raw)
        found = _PREFIX.match(raw)
        line = b"{" + raw[found.end() :].rstrip(b"\r\n") if found else raw.rstrip(b"\r\n")
        checksum = zlib.crc32(line, checksum)
        intact = int(found[1], 16) == checksum if found else not checked
        checked = checked or found is not None
        entry = _entry(line) if intact and raw.endswith(b"\n") else None
        if entry is not None:
            yield Line(number, entry, end, checksum)
        elif end == len(data):
            warn_user(
                f"Expected a complete last line in {journal.name}, got one that was cut off or damaged; it is ignored"
            )
        else:
            raise damaged(journal, number, "a damaged line")


def damaged(journal: Path, number: int, found: str) -> ValueError:
    """Return the error for a line that cannot be used."""
    return ValueError(
        f"Expected an entry in line {number} of {journal}, got {found}; keep a copy, cut the file before this line and "
        "load it again"
    )


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; None if the line is not complete."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and "kind" in entry else None


def encode(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else {"float": repr(value)}
    return value.item() if isinstance(value, np.generic) else value


def decode(value: Any) -> Any:
    """Return the value that :func:`encode` was given, with lists in place of arrays."""
    if isinstance(value, dict):
        infinite = list(value) == ["float"] and value["float"] in ("inf", "-inf")
        return float(value["float"]) if infinite else {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return np.nan if value is None else value
