"""A digest at the end of a file, so that a file that was damaged later is not read as if it were intact.

NetCDF, zip archives of torch and of numpy are read from their heads or their directories. Other programs therefore
ignore the 47 bytes that follow.
"""

import hashlib
import os
import re
from pathlib import Path

from probe.recording.paths import check_regular, user_path

_END = re.compile(rb"\nprobe digest ([0-9a-f]{32})\n\Z")
DIGEST_BYTES = 47  # that the expression matches


def add_digest(path: str | os.PathLike[str]) -> None:
    """Append a digest of the content to a file.

    Parameters
    ----------
    path
        A file that was written just now, such as the temporary file of :func:`atomic_write`.

    See Also
    --------
    read_checked : Read the file and compare the digest.

    Examples
    --------
    >>> from pathlib import Path
    >>> from probe.recording import add_digest, read_checked
    >>> _ = Path("weights.bin").write_bytes(b"weights")
    >>> add_digest("weights.bin")
    >>> read_checked("weights.bin")
    (b'weights', True)
    """
    content = Path(path).read_bytes()
    with open(path, "ab") as file:
        file.write(b"\nprobe digest %s\n" % _digest(content))


def read_checked(path: str | os.PathLike[str]) -> tuple[bytes, bool]:
    """Return the content of a file without its digest, and whether it has a digest.

    Parameters
    ----------
    path
        A file, with or without a digest of :func:`add_digest`.

    Returns
    -------
    bytes, bool
        The content, and whether it was compared with a digest.

    Raises
    ------
    ValueError
        If the content has another digest.

    See Also
    --------
    add_digest : Append the digest.

    Examples
    --------
    >>> from pathlib import Path
    >>> from probe.recording import add_digest, read_checked
    >>> _ = Path("weights.bin").write_bytes(b"weights")
    >>> add_digest("weights.bin")
    >>> damaged = Path("weights.bin").read_bytes().replace(b"w", b"W")
    >>> _ = Path("weights.bin").write_bytes(damaged)
    >>> try:
    ...     read_checked("weights.bin")
    ... except ValueError as error:
    ...     print(error)
    Expected the content that was written to weights.bin, got another one by its digest; restore the file from a copy
    """
    file = user_path(path)
    check_regular(file)
    data = file.read_bytes()
    found = _END.search(data, max(0, len(data) - DIGEST_BYTES))
    if found is None:
        return data, False
    if _digest(content := data[: found.start()]) != found[1]:
        raise ValueError(
            f"Expected the content that was written to {os.fspath(path)}, got another one by its digest; restore the "
            "file from a copy"
        )
    return content, True


def has_digest(path: str | os.PathLike[str]) -> bool:
    """Return whether a file ends with a digest, without reading the whole file.

    Parameters
    ----------
    path : path of a file

    Returns
    -------
    bool

    See Also
    --------
    add_digest : Write a digest at the end of a file.
    read_checked : Read a file and compare it with its digest.

    Examples
    --------
    >>> from pathlib import Path
    >>> from probe.recording import add_digest, has_digest
    >>> _ = Path("weights.bin").write_bytes(b"weights")
    >>> has_digest("weights.bin")
    False
    >>> add_digest("weights.bin")
    >>> has_digest("weights.bin")
    True
    """
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - DIGEST_BYTES))
        return _END.search(file.read()) is not None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()
