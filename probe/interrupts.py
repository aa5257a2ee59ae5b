"""Deferral of Ctrl-C, so that an interrupt never leaves a model, a recording or a count half changed.

:class:`uninterrupted` marks code that must run as a whole. :class:`interruptible` marks a part of it that may take
long, such as a measurement. An interrupt that arrives elsewhere is delivered at the end of the uninterrupted code, or
at the next interruptible part.
"""

import sys
import threading
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found]  # the module `signal` is ten times slower
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["interruptible", "uninterrupted"]

_Handler = Callable[[int, FrameType | None], Any]


class _Deferral:
    """Signal handler that notes an interrupt while it ``defers``, and calls the handler before it otherwise."""

    def __init__(self, previous: _Handler) -> None:
        self.previous = previous
        self.defers = True
        self.pending = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.pending = True
        if not self.defers:
            self.deliver(frame)

    def deliver(self, frame: FrameType | None) -> None:
        """Call the handler before it, if there is an interrupt."""
        if self.pending:
            self.pending, defers = False, self.defers
            self.defers = True  # an exception leaves the interruptible part, and nothing interrupts its way out
            self.previous(SIGINT, frame)
            self.defers = defers  # the handler raised nothing


def _handler() -> Any:
    """Return the handler of SIGINT. Only the main thread of a process handles signals: None in other threads."""
    return getsignal(SIGINT) if threading.current_thread() is threading.main_thread() else None


class uninterrupted:  # noqa: N801
    """Context manager for code that no KeyboardInterrupt enters.

    The interrupt is delivered at the end: by the handler that Python, or the user, has installed for SIGINT. This class
    does nothing in other threads, and where SIGINT is ignored or handled outside of Python.

    See Also
    --------
    interruptible : Deliver interrupts in a part of this code.

    Examples
    --------
    >>> import signal
    >>> from probe.interrupts import uninterrupted
    >>> done = []
    >>> try:
    ...     with uninterrupted():
    ...         signal.raise_signal(signal.SIGINT)
    ...         done.append("both lines")
    ... except KeyboardInterrupt:
    ...     done.append("then the interrupt")
    >>> done
    ['both lines', 'then the interrupt']
    """

    def __enter__(self) -> Self:
        found = _handler()
        self._nested = isinstance(found, _Deferral)
        self._deferral: _Deferral | None = None
        if isinstance(found, _Deferral):
            self._outer, self._deferral = found.defers, found
            found.defers = True
        elif callable(found):
            self._deferral = _Deferral(found)
            signal(SIGINT, self._deferral)
        return self

    def __exit__(self, *_: Any) -> None:
        deferral = self._deferral
        if deferral is None:
            return
        if self._nested:
            deferral.defers = self._outer
            if self._outer:
                return
        elif _handler() is deferral:  # else other code has installed its own meanwhile
            signal(SIGINT, deferral.previous)
        deferral.deliver(sys._getframe(1))


class interruptible:  # noqa: N801
    """Context manager for a part of :class:`uninterrupted` code that an interrupt may end.

    See Also
    --------
    uninterrupted : The code around.

    Examples
    --------
    >>> import signal
    >>> from probe.interrupts import interruptible, uninterrupted
    >>> done = []
    >>> try:
    ...     with uninterrupted():
    ...         try:
    ...             with interruptible():
    ...                 signal.raise_signal(signal.SIGINT)
    ...                 done.append("not reached")
    ...         finally:
    ...             done.append("restored")
    ... except KeyboardInterrupt:
    ...     print(done)
    ['restored']
    """

    def __enter__(self) -> Self:
        found = _handler()
        self._deferral = found if isinstance(found, _Deferral) else None
        if self._deferral is not None:
            self._deferral.deliver(sys._getframe(1))
            self._deferral.defers = False
        return self

    def __exit__(self, *_: Any) -> None:
        if self._deferral is not None:
            self._deferral.defers = True
