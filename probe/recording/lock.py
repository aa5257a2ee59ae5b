"""One process records to a file: a lock that the operating system takes back when the process ends, however it ends."""

import errno
import os
import warnings
import weakref
from pathlib import Path

_HELD: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """An exclusive lock on a file that exists, until :meth:`release` or until nobody holds the object.

    A forked child does not hold it: the lock goes with the process that made it.

    Raises
    ------
    BlockingIOError
        If it is held already, by this process or another one.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        handle = os.open(file, os.O_RDWR)
        self.release = weakref.finalize(self, os.close, handle)
        try:
            _lock(handle)
        except OSError as error:
            mine = any(lock.file == file for lock in _HELD)
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                self.release()
                holder = "a probe of this process: detach() it" if mine else "another process: wait for its end"
                raise BlockingIOError(
                    error.errno, f"recorded to by {holder}, or take another path", str(file)
                ) from None
            warnings.warn(
                f"{file} cannot be locked here ({error}); see to it that no other process records to it",
                RuntimeWarning,
                stacklevel=5,
            )
        _HELD.add(self)


def _lock(handle: int) -> None:
    """Raises OSError if it is taken. Whole-file locks of this open file, not of the process: flock."""
    try:
        import fcntl
    except ImportError:  # Windows, where a byte beyond the end is locked, so that the rest can be read and written
        import msvcrt

        os.lseek(handle, 2**40, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _let_go() -> None:
    """In a forked child: close its copies of the handles, so that the locks end with the parent."""
    for lock in list(_HELD):
        lock.release()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
