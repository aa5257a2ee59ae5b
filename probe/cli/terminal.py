"""Output of the commands without control characters: names of a log may hold escape sequences."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from probe.errors import printable


class PrintableStream(io.TextIOBase):
    """Text stream that writes only printable text, in characters that the stream below can encode."""

    def __init__(self, below: TextIO) -> None:
        self._below = below

    def write(self, text: str) -> int:
        """Write the text."""
        code = getattr(self._below, "encoding", None) or "utf-8"
        self._below.write(printable(text).encode(code, "backslashreplace").decode(code))
        return len(text)

    def flush(self) -> None:
        """Flush the stream below."""
        self._below.flush()

    def isatty(self) -> bool:
        """Return whether the stream below is a terminal."""
        return self._below.isatty()


@contextmanager
def printable_output() -> Iterator[None]:
    """Replace control characters in all that is printed inside."""
    with redirect_stdout(PrintableStream(sys.stdout)), redirect_stderr(PrintableStream(sys.stderr)):
        yield
