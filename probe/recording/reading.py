"""Read recordings: the journal where there is one, else the NetCDF file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probe.recording.files import read_netcdf
from probe.recording.lines import decode, decoded_lines, journal_of
from probe.recording.provenance import resumed_provenance
from probe.recording.records import Records
from probe.series import Variable


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
        If the journal is damaged before its last line, or the file is no series.

    Warns
    -----
    probe.errors.ProbeWarning
        If a crash cut off the last line of the journal. This line is ignored.

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
    journal = journal_of(path)
    if journal.exists():
        header, records, _ = read_journal(journal)
        return records.dataset(header["order"], header["provenance"])
    if not Path(path).exists():
        replaced = Path(f"{os.fspath(path)}.old")
        hint = f"; {replaced} is the recording that was to be overwritten" if replaced.exists() else ""
        raise FileNotFoundError(
            f"Expected a series at {os.fspath(path)} or a journal {journal}, got neither; check the path{hint}"
        )
    return read_netcdf(path)


def read_journal(journal: Path) -> tuple[dict[str, Any], Records, int]:
    """Return the header, the records and the number of bytes of complete lines."""
    header: dict[str, Any] | None = None
    records = Records()
    end = 0
    for entry, end in decoded_lines(journal):  # noqa: B007  the last value is returned
        kind = entry.pop("kind")
        if kind == "header":
            header = entry
        elif kind == "variable":
            records.declare(Variable.from_json({**entry, "coords": decode(entry["coords"])}))
        elif kind == "resume" and header is not None:
            apply_resume(header, records, entry)
        elif kind == "record":
            records.put(entry["step"], _values(entry), entry.get("kept", {}))
        else:
            records.annotate(entry["step"], _values(entry))
    if header is None:
        raise ValueError(f"Expected a journal with a header at {journal}, got none; check the path")
    return header, records, end


def apply_resume(header: dict[str, Any], records: Records, entry: Mapping[str, Any]) -> None:
    """Add the provenance of a resumption, and drop the observations after its step."""
    header["provenance"] = resumed_provenance(header["provenance"], entry["provenance"])
    if entry["step"] is not None:
        records.cut(entry["step"])


def _values(entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in decode(entry["values"]).items()}
