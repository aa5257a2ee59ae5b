"""Crash-safe recording: one synchronised JSON line per observation, and an atomic NetCDF snapshot beside it.

The journal ``run.nc.journal`` is complete. The snapshot ``run.nc`` is derived from it at geometric intervals and at the
end. :func:`probe.load` therefore returns every finished observation, whatever stopped the training.

A journal has a ``header`` (configuration, provenance, order of labels), a ``variable`` for each new variable, a
``record`` for each observation, an ``annotation`` for values added to an observation, and a ``resume`` where training
continued from a checkpoint. Each line has a checksum that continues the one before it.
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
from probe.recording.journal_file import JournalFile
from probe.recording.lines import encode, encode_line
from probe.recording.paths import user_path
from probe.recording.reading import apply_resume
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
        None: the files must not exist. ``"overwrite"``: the files stay until the first observation is on the disk, and
        are replaced then. ``"resume"``: recording continues in the files.
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
    loader, writes nothing. A journal that is removed meanwhile is written again with all observations. If other files
    stand in its place, they are left alone and the values stay in memory. A symbolic link is followed once, at the
    start.

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
        # The process may change folders, and a link may lead elsewhere later.
        self.path = None if path is None else Path(os.path.realpath(user_path(path)))
        self.records = Records()
        self.header = dict(header)
        self._state = State(None if self.path is None else state_of(self.path))
        self._pending: list[bytes] = []  # lines for the disk, without those of variables
        self._known: frozenset[str] = frozenset()  # variables with a line on the disk
        self._snapshot_at = 0
        check_path(self.path, mode)
        self._file = None if self.path is None else JournalFile(self.path, mode)
        if self._file is None:
            return
        try:
            if mode == "resume":
                self._resume(self._file, step)
            else:
                self._start(self._file)
        except BaseException:
            self.discard()  # now, not when the last reference to this error is gone
            raise

    def _resume(self, file: JournalFile, step: int | None) -> None:
        recording = file.resume()
        check_configuration(file.path, recording.header["configuration"], self.header["configuration"])
        entry = {"step": step, "provenance": self.header["provenance"]}
        self.header, self.records = recording.header, recording.records
        self._known = frozenset(self.records.variables)
        self._pending.append(encode_line("resume", entry))
        apply_resume(self.header, self.records, entry)
        self._snapshot_at = len(self.records)
        self._state.read(last=max(self.records.steps, default=-1))

    def _start(self, file: JournalFile) -> None:
        """Write all lines to a new file. A path that cannot be written raises now, not during the training."""
        file.start()
        self._known = frozenset()
        self._pending = [_line("record", *observation) for observation in self.records.observations()]
        if not file.replaces:
            self._state.write(again=True)
        self._write(file)

    def content(self) -> tuple[dict[str, Any], Records, State]:
        """Return header, observations and kept values, for a journal in memory on another rank."""
        return self.header, self.records, self._state.in_memory()

    def adopt(self, content: tuple[dict[str, Any], Records, State]) -> None:
        """Take over the content of the journal of another rank. A journal with files keeps its own."""
        if self._file is None:
            self.header, self.records, self._state = content

    def declare(self, variable: Variable) -> None:
        """Add a new variable. It is written with the next observation."""
        _variable_line(variable)  # raises where JSON cannot hold it
        self.records.declare(variable)

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
        if self._file is None:
            return
        self._pending.append(_line(kind, step, values, kept))
        try:
            self._flush(self._file)
            if len(self.records) >= self._snapshot_at * _GROWTH:
                self.snapshot()
        except (OSError, TypeError, ValueError) as error:  # TypeError and ValueError: values that NetCDF cannot hold
            warn_user(
                f"Expected to write step {step} to {self.path}, got {type(error).__name__}: {error}; the values stay "
                "in memory and are written with the next observation"
            )

    def _flush(self, file: JournalFile) -> None:
        """Write all lines that are not on the disk; all lines, if the journal was lost."""
        if not file.is_there():
            self._start(file)
        elif self._pending:
            if not file.replaces:
                self._state.write()  # before the lines that name its values
            self._write(file)
        if file.replaces and len(self.records):
            file.replace()
        if not file.replaces:
            self._state.write()

    def _write(self, file: JournalFile) -> None:
        variables = self.records.variables
        new = [_variable_line(variable) for name, variable in variables.items() if name not in self._known]
        header = [encode_line("header", self.header)] if file.empty else []
        file.write([*header, *new, *self._pending])
        self._known, self._pending = frozenset(variables), []

    def snapshot(self) -> None:
        """Write the NetCDF file."""
        if self._file is not None:
            self._file.is_there()  # raises where it must not be written
            write_netcdf(self.dataset(), self._file.path)
            self._file.note_netcdf()
            self._snapshot_at = len(self.records)

    def close(self) -> None:
        """Write all pending lines and the final NetCDF file, and release the lock.

        A recording without an observation leaves the files that it was to replace as they are, with a warning.
        """
        if self._file is None:
            return
        if self._file.replaces and not len(self.records):
            self.discard()
            warn_user(
                f"Expected an observation to replace the recording {self.path}, got none; the old recording stays. "
                "Observe before detach, or remove its files"
            )
            return
        try:
            self._flush(self._file)
        finally:
            try:
                if not self._file.replaces:
                    self.snapshot()
            finally:
                self._file.release()

    def discard(self) -> None:
        """Remove the files of a recording without observations. A recording that it was to replace stays."""
        if self._file is not None:
            self._file.discard()

    def dataset(self) -> xr.Dataset:
        """Return all observations so far."""
        return self.records.dataset(self.header["order"], self.header["provenance"])


def _line(kind: str, step: int, values: Mapping[str, np.ndarray], kept: Mapping[str, int]) -> bytes:
    entry = {"step": int(step), "values": encode(dict(values))}
    return encode_line(kind, {**entry, "kept": kept} if kept else entry)


def _variable_line(variable: Variable) -> bytes:
    return encode_line("variable", {**variable.to_json(), "coords": encode(dict(variable.coords))})
