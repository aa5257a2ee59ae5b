"""Streams of the shell, as in ``probe detect <(ssh host cat log.csv)``, copied to a file, which can be read twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_BLOCK, _LARGEST = 2**20, 2**32  # bytes


def is_stream(path: Path) -> bool:
    """Return whether a path is a stream that a running program writes, and no pipe with a name of its own."""
    return path.parts[1:2] in (("dev",), ("proc",)) and path.is_fifo()


@contextmanager
def copied(stream: Path) -> Iterator[Path]:
    """Copy a stream to a temporary file, and remove the file after the block.

    Raises
    ------
    ValueError
        If the stream has more than 4 GiB.
    """
    with TemporaryDirectory() as folder:
        file, size = Path(folder, "stream"), 0
        with open(stream, "rb") as source, open(file, "wb") as target:
            while block := source.read(_BLOCK):
                size += target.write(block)
                if size > _LARGEST:
                    raise ValueError(f"Expected at most 4 GiB from {stream}, got more; write them to a file")
        yield file
