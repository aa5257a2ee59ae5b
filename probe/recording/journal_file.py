"""The file of a journal: its lock, its place, and writes that can be repeated."""

import os
from collections.abc import Sequence
from pathlib import Path

from probe.errors import warn_user
from probe.recording.checks import files_of
from probe.recording.files import synchronise_folder
from probe.recording.lines import journal_of, with_checksums
from probe.recording.lock import Lock
from probe.recording.reading import Recording, read_journal
from probe.recording.state import state_of


class JournalFile:
    """The locked file of a journal. Lines go to this file itself, whatever is at its path meanwhile.

    A journal that replaces another recording is a file beside it, ``<path>.journal.new``, until :meth:`replace`.

    Parameters
    ----------
    path
        The NetCDF file of the recording, without symbolic links.
    mode
        None, ``"overwrite"`` or ``"resume"``.
    """

    def __init__(self, path: Path, mode: str | None) -> None:
        self.path, self.journal, self._mode = path, journal_of(path), mode
        self.replaces = False  # whether the files at the path are still those of the recording to be replaced
        self._may_replace = mode == "overwrite"
        self._on_disk = (0, 0)  # bytes of complete lines, and the checksum after them
        self._lock: Lock | None = None
        self._old: Lock | None = None  # on the journal to be replaced
        self._netcdf: os.stat_result | None = None  # the NetCDF file of this recording
        self._process = os.getpid()

    @property
    def empty(self) -> bool:
        """Whether no line was written."""
        return not self._on_disk[0]

    def resume(self) -> Recording:
        """Lock the journal, and return its content."""
        self._lock = Lock(self.journal)
        recording = read_journal(self.journal)
        self._on_disk = recording.end, recording.checksum
        self.note_netcdf()
        return recording

    def start(self) -> None:
        """Make and lock an empty file; it takes the place of a journal that was lost."""
        lost, self.replaces = self._lock, self._may_replace and bool(files_of(self.path))
        if self.replaces:
            if self._old is None and self.journal.exists():
                self._old = Lock(self.journal)
            self._lock = Lock(self.journal.with_name(f"{self.journal.name}.new"))
        else:
            self._lock = Lock(self.journal, new=True)
            self._may_replace = False
        self._on_disk = (0, 0)
        if lost is not None:
            lost.release()
            warn_user(
                f"Expected the journal of this recording at {self.journal}, got none; it is written again with all "
                "observations. If its files were moved, they end before this observation"
            )

    def is_there(self) -> bool:
        """Return whether the file is at its place; raise OSError if it must neither be written nor be made again."""
        if os.getpid() != self._process:
            raise PermissionError(
                f"Expected the process that records to {self.path}, got a process forked from it; observe in the parent"
            )
        if self._lock is None or self._lock.holds(self.journal):
            return self._lock is not None
        if self.replaces:
            others = self.journal.exists() and not (self._old is not None and self._old.holds(self.journal))
        else:
            others = os.path.lexists(self.journal) or (os.path.lexists(self.path) and not self._is_our_netcdf())
        if others:
            raise FileNotFoundError(
                f"Expected the journal of this recording at {self.journal}, got another file; put its files back, or "
                "save the series elsewhere"
            )
        return self.replaces and self._lock.holds(self._lock.file)

    def _is_our_netcdf(self) -> bool:
        return self._netcdf is not None and os.path.samestat(os.stat(self.path), self._netcdf)

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines with checksums, and synchronise. After an error or an interruption, the call can be repeated."""
        assert self._lock is not None
        end, checksum = self._on_disk
        complete, checksum = with_checksums(lines, checksum)
        with open(self._lock.handle, "r+b", closefd=False) as file:
            file.truncate(end)  # drops the rest of a write that failed or was killed
            file.seek(end)
            file.writelines(complete)
            file.flush()
            os.fsync(file.fileno())
            end = file.tell()
        self._on_disk = end, checksum

    def replace(self) -> None:
        """Put the file in the place of the journal that it replaces."""
        assert self._lock is not None
        if not self._lock.holds(self.journal):
            self._rename(self._lock)
        self._lock.file, self.replaces, self._may_replace = self.journal, False, False
        if self._old is not None:
            self._old.release()
        state_of(self.path).unlink(missing_ok=True)

    def _rename(self, lock: Lock) -> None:
        if os.name != "posix":  # Windows renames no open file
            lock.release()
            if self._old is not None:
                self._old.release()
        os.replace(lock.file, self.journal)
        if os.name != "posix":
            self._lock = Lock(self.journal)
        synchronise_folder(self.journal.parent)

    def note_netcdf(self) -> None:
        """Remember the NetCDF file at the path as that of this recording."""
        self._netcdf = self.path.stat() if self.path.exists() else None

    def release(self) -> None:
        """Release the locks."""
        for lock in (self._lock, self._old):
            if lock is not None:
                lock.release()
        self._lock = self._old = None

    def discard(self) -> None:
        """Remove the files of a recording without observations. A recording that it was to replace stays."""
        if os.getpid() != self._process:
            return
        lock = self._lock
        mine = self._mode != "resume" and lock is not None and lock.holds(lock.file)
        self.release()
        if lock is not None and mine:
            for file in [lock.file] if self.replaces else [lock.file, self.path, state_of(self.path)]:
                file.unlink(missing_ok=True)
