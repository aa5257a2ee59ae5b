"""An exclusive lock on a file. The operating system releases it when the process ends, also after a crash."""

import errno
import os
import weakref
from pathlib import Path
from types import TracebackType

from probe.errors import warn_user

_BINARY = getattr(os, "O_BINARY", 0)  # Windows
_HELD: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """Exclusive lock on a file, held until :meth:`release`, the end of a ``with`` block or of the object.

    Parameters
    ----------
    file
        The file to lock. An empty file is created if there is none. The content is not changed, and the file stays
        when the lock is released.
    new
        Whether the file must not exist.

    Attributes
    ----------
    handle : int
        The locked file, open for reading and writing until the lock is released.

    Raises
    ------
    FileExistsError
        If ``new`` is True and the file exists.
    BlockingIOError
        If this process or another process holds the lock.

    Warns
    -----
    probe.errors.ProbeWarning
        If the file system has no locks. The object then excludes nobody.

    Notes
    -----
    The lock ends with the process, however the process ends. A forked child does not hold the lock of its parent.

    See Also
    --------
    atomic_write : Write a file without a moment at which it is incomplete.

    Examples
    --------
    >>> from probe.recording import Lock
    >>> with Lock("folder.lock"):
    ...     try:
    ...         Lock("folder.lock")
    ...     except BlockingIOError:
    ...         print("locked")
    locked
    >>> Lock("folder.lock").release()
    """

    def __init__(self, file: str | os.PathLike[str], *, new: bool = False) -> None:
        self.file = Path(file).absolute()
        self.handle = handle = os.open(self.file, os.O_RDWR | os.O_CREAT | (os.O_EXCL if new else 0) | _BINARY, 0o666)
        self.release = weakref.finalize(self, os.close, handle)
        self._status = os.fstat(handle)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                self.release()
                raise BlockingIOError(error.errno, _refusal(self.file), str(self.file)) from None
            warn_user(
                f"Expected a file system with locks, got {error} for {self.file}; start no other process that writes "
                "to this file"
            )
        _HELD.add(self)

    def holds(self, file: str | os.PathLike[str]) -> bool:
        """Return whether the locked file itself is at this path, not another file or none."""
        try:
            return os.path.samestat(os.stat(file), self._status)
        except OSError:  # there is no such file, or no such folder
            return False

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _refusal(file: Path) -> str:
    """Return the error message for a file that is locked already."""
    if any(lock.file == file and lock.release.alive for lock in _HELD):
        return "Expected an unlocked file, got one that this process holds; detach() the probe that records to it"
    return "Expected an unlocked file, got one that another process holds; wait for its end, or use another path"


def _lock(handle: int) -> None:
    """Lock an open file, or raise OSError. ``flock`` belongs to the open file, not to the process."""
    try:
        import fcntl
    except ImportError:  # Windows: lock a byte beyond the end, so that the content stays readable and writable
        import msvcrt

        os.lseek(handle, 2**40, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release_in_child() -> None:
    """Close the inherited handles in a forked child, so that the locks end with the parent."""
    for lock in list(_HELD):
        lock.release()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
