"""Output of the commands without control characters: names of a log may hold escape sequences."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

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

    def fileno(self) -> int:
        """Return the file descriptor of the stream below."""
        return self._below.fileno()

    def isatty(self) -> bool:
        """Return whether the stream below is a terminal."""
        return self._below.isatty()


@contextmanager
def printable_output() -> Iterator[None]:
    """Replace control characters in all that is printed inside."""
    with redirect_stdout(PrintableStream(sys.stdout)), redirect_stderr(PrintableStream(sys.stderr)):
        yield


def print_json(content: Any, *, indent: int | None = None) -> None:
    """Print JSON that every parser reads: ASCII alone, and null for numbers that are unknown or infinite."""
    print(json_text(content, indent=indent), flush=True)


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Return the text of :func:`print_json`."""
    text = json.dumps(_finite(content), indent=indent, default=str, allow_nan=False)
    return text.replace("\x7f", "\\u007f")  # the only control character that JSON leaves as it is


def _finite(content: Any) -> Any:
    """Return the content without NumPy and without numbers that are not finite."""
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if hasattr(content, "tolist"):  # NumPy, which importing would take time
        return _finite(content.tolist())
    return content if not isinstance(content, float) or abs(content) < float("inf") else None
