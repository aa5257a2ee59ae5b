"""A line on the terminal that counts what was done, once the work takes long."""

import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TypeVar

_PATIENCE, _PAUSE = 2.0, 0.2  # seconds before the first line, and between two

T = TypeVar("T")


def counted(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items. On a terminal, a line on stderr counts them if this takes more than two seconds."""
    stream = sys.__stderr__  # the commands replace carriage returns in all that sys.stderr gets
    if stream is None or sys.stderr is None or not sys.stderr.isatty():
        yield from items
        return
    due, width = monotonic() + _PATIENCE, 0
    try:
        for number, item in enumerate(items):
            if monotonic() >= due:
                line = f"{what}: {number:,}" + (f" of {total:,}" if total else "")
                stream.write(f"\r{line}")
                stream.flush()
                due, width = monotonic() + _PAUSE, len(line)
            yield item
    finally:
        if width:
            stream.write(f"\r{' ' * width}\r")
            stream.flush()
