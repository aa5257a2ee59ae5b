"""Crash-safe recording: one fsynced JSON line per observation, and an atomic NetCDF snapshot beside it.

The journal ``run.nc.journal`` is complete; the snapshot ``run.nc`` is derived from it at geometric intervals and at
the end, so that whatever stops the training, :func:`load` gives every finished observation.

Lines: a ``header`` (configuration, provenance, order of labels), a ``variable`` for each new variable, a ``record``
for each observation. JSON has no NaN, so NaN is null and the infinities are strings.
"""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probe import series
from probe.series import Records, Variable

_GROWTH = 1.25  # a snapshot whenever there are 25 % more observations: total writing stays linear in the data


class Journal:
    """The files of one recording.

    Parameters
    ----------
    path
        The NetCDF file; the journal stands beside it as ``<path>.journal``.
    header
        ``configuration`` (compared on resume), ``provenance`` and ``order`` of the labels of each dimension.
    mode
        None: the files must not exist. ``"overwrite"`` replaces them. ``"resume"`` goes on with them.
    """

    def __init__(self, path: str | os.PathLike[str], header: Mapping[str, Any], *, mode: str | None = None) -> None:
        self.path = Path(path)
        self.records = Records()
        self.header = dict(header)
        self._pending: list[bytes] = []
        self._good = 0  # bytes of the journal known to be whole lines on disk
        self._snapshot_at = 0
        self._prepare(mode)

    def _prepare(self, mode: str | None) -> None:
        if mode not in (None, "resume", "overwrite"):
            raise ValueError(f"mode must be None, 'resume' or 'overwrite', got {mode!r}")
        journal = journal_of(self.path)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"path={os.fspath(self.path)!r}: there is no folder {self.path.parent}; make it first"
            )
        if mode is None and (self.path.exists() or journal.exists()):
            raise FileExistsError(
                f"{self.path} exists already; attach(..., mode='resume') goes on with it, mode='overwrite' replaces it"
            )
        if mode == "resume" and not journal.exists():
            raise FileNotFoundError(
                f"mode='resume' needs {journal}, which does not exist; leave mode out to start anew"
            )
        if mode == "resume":
            self._resume(journal)
            return
        self.path.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
        self._pending.append(_line("header", self.header))
        self._flush()  # a path that cannot be written is an error now, not in the middle of the training

    def _resume(self, journal: Path) -> None:
        header, self.records, self._good = _read(journal)
        old, new = header["configuration"], self.header["configuration"]
        different = sorted(key for key in {*old, *new} if old.get(key) != _plain(new.get(key)))
        if different:
            told = "; ".join(f"{key}: recorded {old.get(key)!r}, now {new.get(key)!r}" for key in different)
            raise ValueError(
                f"cannot resume {self.path} with another configuration ({told}); "
                "attach as it was recorded, or to another path"
            )
        self.header = header
        self._snapshot_at = len(self.records)

    def declare(self, variable: Variable) -> None:
        """Note a new variable; written with the next record."""
        self.records.declare(variable)
        self._pending.append(_line("variable", variable.to_json()))

    def record(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Append one observation, or further values of a recorded one.

        If the file cannot be written (disk full, say), the values stay in memory, a warning says so, and the next
        record tries again: nothing that was recorded is lost while the process lives.
        """
        self.records.put(step, values)
        entry = {"step": int(step), "values": {name: _encode(value) for name, value in values.items()}}
        self._pending.append(_line("record", entry))
        try:
            self._flush()
            if len(self.records) >= self._snapshot_at * _GROWTH:
                self.snapshot()
        except (OSError, TypeError, ValueError) as error:  # the latter two: what NetCDF cannot hold
            warnings.warn(
                f"step {step} could not be written to {self.path} ({type(error).__name__}: {error}); it is kept in "
                "memory and writing is tried again at the next observation",
                RuntimeWarning,
                stacklevel=2,
            )

    def _flush(self) -> None:
        journal = journal_of(self.path)
        with open(journal, "r+b" if self._good else "w+b") as file:
            file.truncate(self._good)  # the torn rest of a failed or killed write
            file.seek(self._good)
            file.writelines(self._pending)
            file.flush()
            os.fsync(file.fileno())
            end = file.tell()
        self._good = end
        self._pending.clear()

    def snapshot(self) -> None:
        """Write the NetCDF file anew."""
        series.save(self.dataset(), self.path)
        self._snapshot_at = len(self.records)

    def close(self) -> None:
        """Write what is left, and the final NetCDF file."""
        try:
            if self._pending:
                self._flush()
        finally:
            self.snapshot()

    def discard(self) -> None:
        """Take the files away again."""
        self.path.unlink(missing_ok=True)
        journal_of(self.path).unlink(missing_ok=True)

    def dataset(self) -> xr.Dataset:
        """All observations so far."""
        return self.records.dataset(self.header["order"], self.header["provenance"])


def journal_of(path: str | os.PathLike[str]) -> Path:
    """Where the journal of a NetCDF file stands."""
    return Path(f"{os.fspath(path)}.journal")


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Load a recorded series, all of it, also after a crash: from the journal where there is one.

    A last line that was cut off by a crash is left out with a warning. Files without a journal (saved by
    :func:`probe.save`, or copied alone) are read as they are.
    """
    journal = journal_of(path)
    if journal.exists():
        header, records, _ = _read(journal)
        return records.dataset(header["order"], header["provenance"])
    if not Path(path).exists():
        raise FileNotFoundError(f"no series at {os.fspath(path)}, and no journal {journal}")
    return series.load(path)


def _read(journal: Path) -> tuple[dict[str, Any], Records, int]:
    """Header, records and the number of bytes that are whole lines."""
    header: dict[str, Any] | None = None
    records = Records()
    good = 0
    for entry, end in _lines(journal):
        good = end
        if entry["kind"] == "header":
            header = entry
        elif entry["kind"] == "variable":
            records.declare(Variable.from_json(_without_kind(entry)))
        else:
            records.put(entry["step"], {k: np.array(_decode(v)) for k, v in entry["values"].items()})
    if header is None:
        raise ValueError(f"{journal} is no journal of a series: its first line is not a header")
    return header, records, good


def _lines(journal: Path) -> Iterator[tuple[dict[str, Any], int]]:
    data = journal.read_bytes()
    start = 0
    for number, raw in enumerate(data.splitlines(keepends=True), 1):
        start += len(raw)
        try:
            entry = json.loads(raw)
            whole = raw.endswith(b"\n") and isinstance(entry, dict) and "kind" in entry
        except ValueError:
            whole = False
        if whole:
            yield entry, start
        elif start == len(data):
            warnings.warn(f"the last line of {journal.name} was cut off and is left out", RuntimeWarning, stacklevel=4)
        else:
            raise ValueError(
                f"line {number} of {journal} is damaged; the lines before it are whole: "
                "keep a copy, cut the file there, load again"
            )


def _line(kind: str, entry: Mapping[str, Any]) -> bytes:
    return json.dumps({"kind": kind, **entry}, allow_nan=False, default=repr).encode() + b"\n"


def _plain(value: Any) -> Any:
    """As it reads after a trip through JSON, so that tuples equal lists."""
    return json.loads(json.dumps(value, default=repr))


def _without_kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "kind"}


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else repr(value)
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_decode(item) for item in value]
    return np.nan if value is None else float(value) if isinstance(value, str) else value
