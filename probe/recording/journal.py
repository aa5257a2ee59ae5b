"""Crash-safe recording: one fsynced JSON line per observation, and an atomic NetCDF snapshot beside it.

The journal ``run.nc.journal`` is complete; the snapshot ``run.nc`` is derived from it at geometric intervals and at
the end, so that whatever stops the training, :func:`load` gives every finished observation.

Lines: a ``header`` (configuration, provenance, order of labels), a ``variable`` for each new variable, a ``record``
for each observation, an ``annotation`` for what is added to one, a ``resume`` where training went on from a
checkpoint. JSON has no NaN, so NaN is null and infinity is {"float": "inf"}.
"""

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from probe.recording.files import read_netcdf, write_netcdf
from probe.recording.lock import Lock
from probe.recording.provenance import resumed_provenance
from probe.recording.records import Records
from probe.recording.state import State, state_of
from probe.series import Variable

_GROWTH = 2  # a snapshot whenever there are twice as many observations: total writing stays linear in the data


class Journal:
    """What is recorded: in memory, and in the files of one recording if there is a path.

    Parameters
    ----------
    path
        The NetCDF file; the journal stands beside it as ``<path>.journal``. None: in memory only.
    header
        ``configuration`` (compared on resume), ``provenance`` and ``order`` of the labels of each dimension.
    mode
        None: the files must not exist. ``"overwrite"`` replaces them, with the first observation. ``"resume"`` goes
        on with them.
    step
        On resume: what was recorded after this step is dropped, since training goes another way from here. None
        drops nothing.

    Notes
    -----
    One process at a time records to a file (:mod:`probe.recording.lock`); it is refused to others. A process forked from it, as
    those of a data loader, writes nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        header: Mapping[str, Any],
        *,
        mode: str | None = None,
        step: int | None = None,
    ) -> None:
        self.path = None if path is None else Path(path).expanduser().absolute()  # the process may change folders
        self.records = Records()
        self._state = State(None if self.path is None else state_of(self.path))
        self.header = dict(header)
        self._pending: list[bytes] = []
        self._good = 0  # bytes of the journal known to be whole lines on disk
        self._snapshot_at = 0
        self._lock: Lock | None = None
        self._process = os.getpid()
        self._aside: dict[Path, Path] = {}  # files to be overwritten -> where they wait for the first observation
        if mode not in (None, "resume", "overwrite"):
            raise ValueError(f"mode must be None, 'resume' or 'overwrite', got {mode!r}")
        if self.path is not None:
            self._prepare(self.path, mode, step)
        elif mode is not None:
            raise ValueError(f"mode={mode!r} is about a file, and there is no path=")

    def _prepare(self, path: Path, mode: str | None, step: int | None) -> None:
        journal = journal_of(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"path={os.fspath(path)!r}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            raise IsADirectoryError(f"path={os.fspath(path)!r} is a folder; name a file in it, as 'run.nc'")
        if mode is None and (path.exists() or journal.exists()):
            raise FileExistsError(
                f"{path} exists already; attach(..., mode='resume') goes on with it, mode='overwrite' replaces it"
            )
        if mode == "resume":
            self._resume(journal, step)
            return
        if journal.exists():
            Lock(journal).release()  # an error if another process records to it
        for file in (path, journal, state_of(path)):
            if file.exists():
                self._aside[file] = file.with_name(f"{file.name}.old")
                os.replace(file, self._aside[file])
        self._pending.append(_line("header", self.header))
        try:
            self._flush("x+b")  # a path that cannot be written is an error now, not in the middle of the training
            self._lock = Lock(journal)
        except FileExistsError:  # another process was faster
            raise
        except BaseException:
            self.discard()
            raise

    def _resume(self, journal: Path, step: int | None) -> None:
        if not journal.exists():
            raise FileNotFoundError(
                f"mode='resume' needs {journal}, which does not exist; leave mode out to start anew"
            )
        self._lock = Lock(journal)
        try:
            self._go_on(journal, step)
        except BaseException:
            self._unlock()  # not only when the last trace of this error has gone
            raise

    def _go_on(self, journal: Path, step: int | None) -> None:
        header, self.records, self._good = _read(journal)
        old, new = header["configuration"], self.header["configuration"]
        told = "; ".join(f"{where}: recorded {a!r}, now {b!r}" for where, a, b in differences(old, _plain(new)))
        if told:
            raise ValueError(
                f"cannot resume {self.path} with another configuration ({told}); "
                "attach as it was recorded, or to another path"
            )
        entry = {"step": step, "provenance": self.header["provenance"]}
        self.header = header
        self._pending.append(_line("resume", entry))
        _resumed(self.header, self.records, entry)
        self._snapshot_at = len(self.records)
        self._state.read()

    def declare(self, variable: Variable) -> None:
        """Note a new variable; written with the next record."""
        line = _line("variable", {**variable.to_json(), "coords": _encode(dict(variable.coords))})
        self.records.declare(variable)
        self._pending.append(line)

    def record(
        self, step: int, values: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray] = MappingProxyType({})
    ) -> None:
        """Append one observation, in place of what was recorded of this step before.

        If the file cannot be written (disk full, say), the values stay in memory, a warning says so, and the next
        record tries again: nothing that was recorded is lost while the process lives.
        """
        checksums = self._state.put(step, kept) if kept else {}
        self.records.put(step, values, checksums)
        self._append("record", step, values, checksums)

    def kept(self, name: str, before: int) -> np.ndarray | None:
        """Return the value kept under this name at the last observation before a step; None if there is none."""
        last = self.records.last_kept(name, before)
        return None if last is None else self._state.get(name, *last)

    def annotate(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Append further values of a recorded step."""
        self.records.annotate(step, values)
        self._append("annotation", step, values)

    def _append(
        self, kind: str, step: int, values: Mapping[str, np.ndarray], kept: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        if self.path is None:
            return
        entry = {"step": int(step), "values": _encode(dict(values))}
        self._pending.append(_line(kind, {**entry, "kept": kept} if kept else entry))
        try:
            self._flush()
            self._let_go()
            if len(self.records) >= self._snapshot_at * _GROWTH:
                self.snapshot()
        except (OSError, TypeError, ValueError) as error:  # the latter two: what NetCDF cannot hold
            warnings.warn(
                f"step {step} could not be written to {self.path} ({type(error).__name__}: {error}); it is kept in "
                "memory and writing is tried again at the next observation",
                RuntimeWarning,
                stacklevel=3,
            )

    def _flush(self, how: str = "r+b") -> None:
        self._check_process()
        assert self.path is not None
        with open(journal_of(self.path), how) as file:
            file.truncate(self._good)  # the torn rest of a failed or killed write
            file.seek(self._good)
            file.writelines(self._pending)
            file.flush()
            os.fsync(file.fileno())
            end = file.tell()
        self._good = end
        self._pending.clear()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise PermissionError(f"this process was forked from the one that records to {self.path}, which goes on")

    def _let_go(self) -> None:
        """Something is recorded: what was to be overwritten may go."""
        for old in self._aside.values():
            old.unlink(missing_ok=True)
        self._aside.clear()

    def snapshot(self) -> None:
        """Write the NetCDF file anew."""
        if self.path is not None:
            self._check_process()
            write_netcdf(self.dataset(), self.path)
            self._snapshot_at = len(self.records)

    def close(self) -> None:
        """Write what is left, and the final NetCDF file."""
        try:
            self._state.write()
            if self._pending and self.path is not None:
                self._flush()
        finally:
            try:
                self.snapshot()
            finally:
                self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Nothing was recorded: take the files away again, and bring back what they were to replace."""
        if os.getpid() != self._process:
            return
        self._unlock()
        if self.path is not None:
            for file in (self.path, journal_of(self.path), state_of(self.path)):
                file.unlink(missing_ok=True)
        for file, old in self._aside.items():
            os.replace(old, file)
        self._aside.clear()

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
        aside = Path(f"{os.fspath(path)}.old")
        told = f"; what was to be overwritten is in {aside}" if aside.exists() else ""
        raise FileNotFoundError(f"no series at {os.fspath(path)}, and no journal {journal}{told}")
    return read_netcdf(path)


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
            records.declare(Variable.from_json({**_without_kind(entry), "coords": _decode(entry["coords"])}))
        elif entry["kind"] == "resume" and header is not None:
            _resumed(header, records, entry)
        else:
            values = {k: np.array(v) for k, v in _decode(entry["values"]).items()}
            if entry["kind"] == "record":
                records.put(entry["step"], values, entry.get("kept", {}))
            else:
                records.annotate(entry["step"], values)
    if header is None:
        raise ValueError(f"{journal} is no journal of a series: its first line is not a header")
    return header, records, good


def _resumed(header: dict[str, Any], records: Records, entry: Mapping[str, Any]) -> None:
    header["provenance"] = resumed_provenance(header["provenance"], entry["provenance"])
    if entry["step"] is not None:
        records.cut(entry["step"])


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


def differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields in which two configurations in plain values differ: name, old value, new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield where, old, new


def _plain(value: Any) -> Any:
    """As it reads after a trip through JSON, so that tuples equal lists."""
    return json.loads(json.dumps(value, default=repr))


def _without_kind(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "kind"}


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else {"float": repr(value)}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        infinite = list(value) == ["float"] and value["float"] in ("inf", "-inf")
        return float(value["float"]) if infinite else {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return np.nan if value is None else value
