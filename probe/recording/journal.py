"""Crash-safe recording: one synchronised JSON line per observation, and an atomic NetCDF snapshot beside it.

The journal ``run.nc.journal`` is complete. The snapshot ``run.nc`` is derived from it at geometric intervals and at the
end. :func:`probe.load` therefore returns every finished observation, whatever stopped the training.

A journal has a ``header`` (configuration, provenance, order of labels), a ``variable`` for each new variable, a
``record`` for each observation, an ``annotation`` for values added to an observation, and a ``resume`` where training
continued from a checkpoint.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from probe.errors import warn_user
from probe.recording.checks import check_configuration, check_path
from probe.recording.files import write_netcdf
from probe.recording.lines import encode, encode_line, journal_of
from probe.recording.lock import Lock
from probe.recording.reading import apply_resume, read_journal
from probe.recording.records import Records
from probe.recording.state import State, state_of
from probe.series import Variable

_GROWTH = 2  # a snapshot whenever the number of observations has doubled: total writing stays linear in the data


class Journal:
    """Writer of one recording, in memory and in the files of the recording if there is a path.

    Parameters
    ----------
    path
        The NetCDF file. The journal is ``<path>.journal``. None: in memory only.
    header
        ``configuration`` (compared on resume), ``provenance`` and ``order`` of the labels of each dimension.
    mode
        None: the files must not exist. ``"overwrite"``: the first observation replaces the files. ``"resume"``:
        recording continues in the files.
    step
        On resume, observations after this step are dropped, because training takes another course from here. None:
        no observation is dropped.

    Raises
    ------
    FileExistsError
        If ``mode`` is None and one of the files exists.
    FileNotFoundError
        If the folder does not exist, or there is no journal to resume.
    BlockingIOError
        If another writer records to the files.
    ValueError
        If ``mode`` is unknown or has no path, or the configuration differs from the recorded one.

    Notes
    -----
    One process at a time records to a file, see :class:`Lock`. A process forked from it, such as a worker of a data
    loader, writes nothing.

    See Also
    --------
    load : Read the recording.

    Examples
    --------
    >>> import numpy as np
    >>> from probe import load
    >>> from probe.recording import Journal
    >>> from probe.series import Variable
    >>> journal = Journal("run.nc", {"configuration": {}, "provenance": "{}", "order": {}})
    >>> journal.declare(Variable("train_loss"))
    >>> journal.record(0, {"train_loss": np.array(2.0)})
    >>> load("run.nc")["train_loss"].values.tolist()
    [2.0]
    >>> journal.close()
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
        self._written = 0  # bytes of complete lines in the journal on disk
        self._snapshot_at = 0
        self._lock: Lock | None = None
        self._process = os.getpid()
        self._replaced: dict[Path, Path] = {}  # file to be overwritten -> its name until the first observation
        check_path(self.path, mode)
        if self.path is not None:
            self._open(self.path, mode, step)

    def _open(self, path: Path, mode: str | None, step: int | None) -> None:
        journal = journal_of(path)
        if mode == "resume":
            self._lock = Lock(journal)
            try:
                self._resume(path, step)
            except BaseException:
                self._unlock()  # now, not when the last reference to this error is gone
                raise
            return
        if journal.exists():
            Lock(journal).release()  # an error if another process records to it
        for file in (path, journal, state_of(path)):
            if file.exists():
                self._replaced[file] = file.with_name(f"{file.name}.old")
                os.replace(file, self._replaced[file])
        self._pending.append(encode_line("header", self.header))
        try:
            self._flush("x+b")  # a path that cannot be written is an error now, not in the middle of the training
            self._lock = Lock(journal)
        except FileExistsError:  # another process was faster
            raise
        except BaseException:
            self.discard()
            raise

    def _resume(self, path: Path, step: int | None) -> None:
        header, self.records, self._written = read_journal(journal_of(path))
        check_configuration(path, header["configuration"], self.header["configuration"])
        entry = {"step": step, "provenance": self.header["provenance"]}
        self.header = header
        self._pending.append(encode_line("resume", entry))
        apply_resume(self.header, self.records, entry)
        self._snapshot_at = len(self.records)
        self._state.read(last=max(self.records.steps, default=-1))

    def declare(self, variable: Variable) -> None:
        """Add a new variable. It is written with the next observation."""
        line = encode_line("variable", {**variable.to_json(), "coords": encode(dict(variable.coords))})
        self.records.declare(variable)
        self._pending.append(line)

    def record(
        self, step: int, values: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray] = MappingProxyType({})
    ) -> None:
        """Append one observation. It replaces an earlier observation of the same step.

        If the file cannot be written, for example because the disk is full, a warning is issued and the values stay in
        memory. The next observation writes them too.
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
        entry = {"step": int(step), "values": encode(dict(values))}
        self._pending.append(encode_line(kind, {**entry, "kept": kept} if kept else entry))
        try:
            self._flush()
            self._remove_replaced()
            if len(self.records) >= self._snapshot_at * _GROWTH:
                self.snapshot()
        except (OSError, TypeError, ValueError) as error:  # TypeError and ValueError: values that NetCDF cannot hold
            warn_user(
                f"Expected to write step {step} to {self.path}, got {type(error).__name__}: {error}; the values stay "
                "in memory and are written with the next observation"
            )

    def _flush(self, how: str = "r+b") -> None:
        self._check_owner()
        assert self.path is not None
        self._state.write()  # before the lines that name its values
        with open(journal_of(self.path), how) as file:
            file.truncate(self._written)  # drops the rest of a write that failed or was killed
            file.seek(self._written)
            file.writelines(self._pending)
            file.flush()
            os.fsync(file.fileno())
            end = file.tell()
        self._written = end
        self._pending.clear()

    def _check_owner(self, *, journal_needed: bool = True) -> None:
        """Raise OSError in a forked process, and where another file, or none if needed, is in place of the journal."""
        if os.getpid() != self._process:
            raise PermissionError(
                f"Expected the process that records to {self.path}, got a process forked from it; observe in the parent"
            )
        if self._lock is None or self.path is None or self._lock.holds(journal := journal_of(self.path)):
            return
        if journal_needed or journal.exists():
            raise FileNotFoundError(
                f"Expected the journal of this recording at {journal}, got another file or none; put "
                "its files back, or save the series elsewhere"
            )

    def _remove_replaced(self) -> None:
        """Delete the files that the first observation has replaced."""
        for old in self._replaced.values():
            old.unlink(missing_ok=True)
        self._replaced.clear()

    def snapshot(self) -> None:
        """Write the NetCDF file."""
        if self.path is not None:
            self._check_owner(journal_needed=False)
            write_netcdf(self.dataset(), self.path)
            self._snapshot_at = len(self.records)

    def close(self) -> None:
        """Write all pending lines and the final NetCDF file, and release the lock."""
        try:
            if self._pending and self.path is not None:
                self._flush()
            if self.path is not None:
                self._check_owner(journal_needed=False)
                self._state.write()
        finally:
            try:
                self.snapshot()
            finally:
                self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Remove the files of a recording without observations, and restore the files that it was to replace."""
        if os.getpid() != self._process:
            return
        ours = self._lock is None or (self.path is not None and self._lock.holds(journal_of(self.path)))
        self._unlock()
        if self.path is not None and ours:
            for file in (self.path, journal_of(self.path), state_of(self.path)):
                file.unlink(missing_ok=True)
        for file, old in self._replaced.items():
            os.replace(old, file)
        self._replaced.clear()

    def dataset(self) -> xr.Dataset:
        """Return all observations so far."""
        return self.records.dataset(self.header["order"], self.header["provenance"])
