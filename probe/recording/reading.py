"""Read recordings: the journal where there is one, else the NetCDF file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from probe.recording.files import read_netcdf
from probe.recording.lines import damaged, decode, decoded_lines, journal_of
from probe.recording.paths import check_regular, user_path
from probe.recording.provenance import resumed_provenance
from probe.recording.records import Records
from probe.series import MAX_STEP, Variable

# A journal of a few lines can claim labels for petabytes. A series of up to 256 MiB is always loaded, a larger one if
# it is at most 1,000 times as large as its journal.
_ALWAYS_LOADED = 2**28
_MAX_EXPANSION = 1000


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Load a recorded or saved series.

    All observations of the journal ``<path>.journal`` are returned, also after a crash. A file without a journal is
    read as it is.

    Parameters
    ----------
    path
        The NetCDF file. After a crash it may be missing or older than its journal.

    Returns
    -------
    xarray.Dataset
        The series, with the dimension ``step``.

    Raises
    ------
    FileNotFoundError
        If there is neither a file nor a journal.
    ValueError
        If the journal is damaged before its last line, if the file is damaged, or if it is no series.

    Warns
    -----
    probe.errors.ProbeWarning
        If the last line of the journal is cut off, as by a crash, or damaged. This line is ignored.

    Notes
    -----
    Each line of a journal has a checksum, and each NetCDF file that this package writes ends with a digest. Files of
    older versions and of other programs have none, so that a changed number in them is not found. Nor is it found that
    whole lines are missing at the end of a journal.

    See Also
    --------
    save : Write a series that is not a recording.
    read_netcdf : Read the NetCDF file alone.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe import load, save
    >>> path = save(xr.Dataset({"train_loss": ("step", [2.0, 1.0])}, {"step": [0, 10]}), "curves.nc")
    >>> load("curves.nc")["train_loss"].values.tolist()
    [2.0, 1.0]
    """
    path = user_path(path)
    journal = journal_of(path)
    if journal.exists():
        return _dataset(journal)
    if not path.exists():
        raise FileNotFoundError(f"Expected a series at {path} or a journal {journal}, got neither; check the path")
    return read_netcdf(path)


def _dataset(journal: Path) -> xr.Dataset:
    recording = read_journal(journal)
    header, records = recording.header, recording.records
    size, limit = 8 * records.size(header["order"]), max(_ALWAYS_LOADED, _MAX_EXPANSION * journal.stat().st_size)
    if size > limit:
        raise ValueError(
            f"Expected a recording of the size of {journal}, got one that claims {size:.2g} bytes; restore the journal "
            "from a copy"
        )
    try:
        return records.dataset(header["order"], header["provenance"])
    except Exception as error:  # labels that do not fit together
        raise ValueError(
            f"Expected a series in {journal}, got variables that make none ({_reason(error)}); restore the journal "
            "from a copy"
        ) from error


class Recording(NamedTuple):
    """The content of a journal: header, records, number of bytes of complete lines, and checksum after them."""

    header: dict[str, Any]
    records: Records
    end: int
    checksum: int


def read_journal(journal: Path) -> Recording:
    """Return the content of a journal."""
    check_regular(journal)
    header: dict[str, Any] | None = None
    records = Records()
    end = checksum = 0
    for number, entry, end, checksum in decoded_lines(journal):  # noqa: B007  the last values are returned
        try:
            if header is None:
                header = _header(entry)
            else:
                _add(entry, header, records)
        except Exception as error:  # a wrong entry raises errors of many classes
            found = f"{str(entry.get('kind'))[:40]!r} that does not fit ({_reason(error)})"
            raise damaged(journal, number, found) from error
    if header is None:
        found = "one without a complete line" if journal.stat().st_size else "an empty file"
        raise ValueError(
            f"Expected a journal with a header at {journal}, got {found}; no observation was written to it, so remove "
            "it, or record with mode='overwrite'"
        )
    return Recording(header, records, end, checksum)


def _header(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry["kind"] != "header":
        raise ValueError("the first line is no header")
    json.loads(entry["provenance"])
    return {"configuration": entry["configuration"], "provenance": entry["provenance"], "order": dict(entry["order"])}


def _add(entry: Mapping[str, Any], header: dict[str, Any], records: Records) -> None:
    """Add an entry to the records."""
    match entry["kind"]:
        case "variable":
            fields = {key: value for key, value in entry.items() if key != "kind"}
            records.declare(Variable.from_json({**fields, "coords": decode(entry["coords"])}))
        case "resume":
            apply_resume(header, records, entry)
        case "record":
            records.put(_step(entry), _values(entry), entry.get("kept", {}))
        case "annotation":
            records.annotate(_step(entry), _values(entry))
        case _:
            raise ValueError("there is no such kind of line")


def apply_resume(header: dict[str, Any], records: Records, entry: Mapping[str, Any]) -> None:
    """Add the provenance of a resumption, and drop the observations after its step."""
    header["provenance"] = resumed_provenance(header["provenance"], entry["provenance"])
    if entry["step"] is not None:
        records.cut(entry["step"])


def _step(entry: Mapping[str, Any]) -> int:
    step = entry["step"]
    if type(step) is not int or abs(step) > MAX_STEP:
        raise ValueError(f"the step is {str(step)[:40]}")
    return step


def _values(entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in decode(entry["values"]).items()}


def _reason(error: Exception) -> str:
    """Return class and text of an error, on one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
