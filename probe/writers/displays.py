"""Where a line of progress is shown: a bar, a function, a notebook, a terminal or a log file."""

import builtins
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from probe.writers.kinds import accepts, offers


class Display(Protocol):
    """A place for a line."""

    @property
    def seconds(self) -> float:
        """Smallest time between two lines."""

    def show(self, line: str) -> None:
        """Show a line in place of the one before, if the place allows it."""

    def close(self) -> None:
        """Leave the last line as it is."""


class Called:
    """A function that receives each line, such as the method of a bar that sets its text."""

    seconds = 0.0

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function

    def show(self, line: str) -> None:
        """Call the function."""
        self._function(line)

    def close(self) -> None:
        """Do nothing."""


class LogFile:
    """Lines in a file, which has no tty."""

    seconds = 5.0

    def show(self, line: str) -> None:
        """Write a line."""
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing."""


class Terminal:
    """One line of a terminal that is replaced, cut to the width. The last one is whole."""

    seconds = 0.1

    def __init__(self) -> None:
        self._length = 0
        self._whole = ""

    def show(self, line: str) -> None:
        """Replace the line."""
        width = shutil.get_terminal_size().columns - 1
        self._whole = line
        line = line if len(line) <= width else f"{line[: max(0, width - 3)]}..."
        sys.stderr.write(f"\r{line.ljust(self._length)}")
        sys.stderr.flush()
        self._length = len(line)

    def close(self) -> None:
        """End the line, after its last state without a cut."""
        if self._length:
            sys.stderr.write(f"\r{self._whole}\n" if len(self._whole) > self._length else "\n")
            sys.stderr.flush()
        self._length = 0


class Notebook:
    """One output of a notebook that is replaced."""

    seconds = 0.1

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, line: str) -> None:
        """Replace the output."""
        content = {"text/plain": line}
        if self._handle is None:
            self._handle = import_module("IPython.display").display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def close(self) -> None:
        """Do nothing."""


class InBar:
    """The bar of a trainer. While there is none, the usual place.

    Parameters
    ----------
    find
        Function that returns the function which sets the text of the bar, or None.
    """

    def __init__(self, find: Callable[[], Callable[[str], Any] | None]) -> None:
        self._find, self._usual = find, usual()

    @property
    def seconds(self) -> float:
        """Smallest time between two lines."""
        return self._usual.seconds if self._find() is None else 0.0

    def show(self, line: str) -> None:
        """Set the text of the bar."""
        (self._find() or self._usual.show)(line)

    def close(self) -> None:
        """Leave the last line as it is."""
        self._usual.close()


def display_of(given: Any) -> Display:
    """Return the display of ``progress``: True for the usual place, a bar of tqdm, or a function of a line.

    Raises
    ------
    TypeError
        For another object, or a function of other arguments.
    """
    if isinstance(given, InBar):
        return given
    if given is True:
        return usual()
    if offers(given, "set_postfix_str"):
        return Called(given.set_postfix_str)
    if callable(given) and not isinstance(given, type) and accepts(given, ""):
        return Called(given)
    raise TypeError(
        f"Expected progress to be True, a bar with set_postfix_str, or a function of one line, got {given!r}; give True"
    )


def usual() -> Display:
    """Return a notebook if the process belongs to one, a terminal if there is one, else lines."""
    shell = getattr(builtins, "get_ipython", lambda: None)()
    if hasattr(shell, "kernel"):
        return Notebook()
    return Terminal() if sys.stderr is not None and sys.stderr.isatty() else LogFile()
