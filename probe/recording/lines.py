"""The lines of a journal: JSON objects with a ``kind``, in which NaN is null and infinity is {"float": "inf"}."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from probe.errors import warn_user


def journal_of(path: str | os.PathLike[str]) -> Path:
    """Return the path of the journal of a recording, ``<path>.journal``.

    Parameters
    ----------
    path
        The NetCDF file of the recording.

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
    return Path(f"{os.fspath(path)}.journal")


def encode_line(kind: str, entry: Mapping[str, Any]) -> bytes:
    """Return one line of a journal, with its line end."""
    return json.dumps({"kind": kind, **entry}, allow_nan=False, default=repr).encode() + b"\n"


def decoded_lines(journal: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each line of a journal as an entry, and the number of bytes up to its end.

    An incomplete last line is ignored with a warning. A damaged line before it raises ValueError.
    """
    data = journal.read_bytes()
    end = 0
    for number, raw in enumerate(data.splitlines(keepends=True), 1):
        end += len(raw)
        entry = _entry(raw)
        if entry is not None:
            yield entry, end
        elif end == len(data):
            warn_user(f"Expected a complete last line in {journal.name}, got one that was cut off; it is ignored")
        else:
            raise ValueError(
                f"Expected an entry in line {number} of {journal}, got a damaged line; keep a copy, cut the file "
                "before this line and load it again"
            )


def _entry(raw: bytes) -> dict[str, Any] | None:
    """Return the entry of a line; None if the line is not complete."""
    try:
        entry = json.loads(raw)
    except ValueError:
        return None
    return entry if raw.endswith(b"\n") and isinstance(entry, dict) and "kind" in entry else None


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
