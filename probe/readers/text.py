"""Text of files, decompressed and decoded, in complete lines. Every format opens its files here.

Text is compressed by gzip, bzip2 or xz, or is the only file of a zip archive, whatever its name is. Its encoding is
UTF-8, UTF-16 or UTF-32 by its byte order mark, else UTF-8, else Latin-1.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

HEAD = 2**16  # bytes by which a format is recognised
_BINARY = 2**12  # bytes in which a binary file has a zero byte
_BLOCK = 2**18  # bytes read at a time
_LONGEST_LINE = 2**26  # characters
_LARGEST_DOCUMENT = 2**28  # characters that are read at once
# A compressed file can claim petabytes. Text of logs shrinks to a tenth.
_ALWAYS_EXPANDED = 2**26
_MAX_EXPANSION = 100

_KINDS = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def _open_zip(path: Path) -> BinaryIO:
    """Open the only file of a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
            if len(files) != 1:
                raise ValueError(
                    f"Expected one file in the archive {path.name}, got {len(files)}; unpack it, and name the folder"
                )
            return cast(BinaryIO, archive.open(files[0]))
    except (zipfile.BadZipFile, RuntimeError) as error:  # a password, or an unknown compression
        raise ValueError(f"Expected a zip archive in {path.name}, got damage ({error}); unpack it yourself") from error


_COMPRESSIONS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"PK\x03\x04": _open_zip,
}
_MARKS = {  # the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def check_file(path: Path) -> None:
    """Raise OSError if there is no regular file at the path. Reading a pipe or a device may have no end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else _KINDS.get(stat.S_IFMT(mode), "special file")
        reason = ", which may have no end" if kind in ("pipe", "device") else ""
        raise OSError(f"Expected a file at {path}, got a {kind}{reason}; write its content to a file")


def open_bytes(path: Path) -> BinaryIO:
    """Open a regular file. The bytes are those on the disk."""
    check_file(path)
    return open(path, "rb")


def expanded(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, decompressed, block by block.

    Raises
    ------
    EOFError
        If a compressed file is cut off. All bytes before the cut have been yielded.
    ValueError
        If a compressed file is damaged, or expands beyond any log.
    """
    with open_bytes(path) as file:
        start = file.read(6)
        file.seek(0)
        kind = next((kind for magic, kind in _COMPRESSIONS.items() if start.startswith(magic)), None)
        if kind is None:
            while data := file.read(_BLOCK):
                yield data
            return
    limit = max(_ALWAYS_EXPANDED, _MAX_EXPANSION * path.stat().st_size)
    try:
        with kind(path) as stream:
            while data := stream.read1(_BLOCK):
                limit -= len(data)
                if limit < 0:
                    raise ValueError(
                        f"Expected a compressed log in {path.name}, got one that expands more than {_MAX_EXPANSION} "
                        "times; decompress it yourself"
                    )
                yield data
    except (OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, MemoryError) as error:
        raise ValueError(
            f"Expected a complete compressed file, got damage in {path.name} ({error}); restore it from a copy"
        ) from error


class TextFile(io.TextIOBase):
    r"""The complete lines of a file, each with the end "\n". Text after the last line end is kept apart.

    It can be read by iteration, by :meth:`read` as pandas does, or by :func:`read_text` at once.

    Attributes
    ----------
    torn : str
        The text after the last line end, known after all lines were read. A number in it may have lost digits.
    notes : list of str
        Which encoding was assumed.
    damage : list of str
        Whether a compressed file was cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = ""
        self.notes: list[str] = []
        self.damage: list[str] = []
        self._blocks = self._complete_lines()
        self._rest = ""

    def cut_off(self) -> list[str]:
        """Return the note that the torn last line was ignored; nothing if the last line has its end."""
        note = f"{self.path.name}: the last line is cut off, or still being written, and was ignored"
        return [note] if self.torn.strip() else []

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> str:
        """Return at most ``size`` characters of the complete lines, and "" at their end."""
        if size is None or size < 0:
            return self._rest + "".join(self._blocks)
        if not self._rest:
            self._rest = next(self._blocks, "")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # as of any text file
        """Yield the complete lines with their ends."""
        for block in chain([self._rest] if self._rest else [], self._blocks):
            yield from (f"{line}\n" for line in block[:-1].split("\n"))

    def close(self) -> None:
        """Close the file."""
        self._blocks.close()
        super().close()

    def _complete_lines(self) -> Generator[str, None, None]:
        """Yield blocks of complete lines."""
        parts: list[str] = []
        for text in self.decoded():
            end = text.rfind("\n") + 1
            if end:
                yield "".join((*parts, text[:end]))
                parts = []
            parts.append(text[end:])
            if sum(map(len, parts)) > _LONGEST_LINE:
                raise ValueError(f"Expected lines in {self.path.name}, got one without an end; check that it is a log")
        self.torn = "".join(parts)

    def decoded(self) -> Iterator[str]:
        r"""Yield the text block by block. All line ends are "\n"."""
        ends = io.IncrementalNewlineDecoder(None, translate=True)
        decoder: codecs.IncrementalDecoder | None = None
        try:
            for data in expanded(self.path):
                decoder = decoder or _decoder(data)
                try:
                    text = decoder.decode(data)
                except UnicodeDecodeError:
                    data = decoder.getstate()[0] + data
                    decoder = codecs.getincrementaldecoder("latin-1")()
                    self.notes.append(f"{self.path.name}: the text is not in UTF-8 and was read as Latin-1")
                    text = decoder.decode(data)
                yield ends.decode(text)
        except EOFError:
            self.damage.append(f"{self.path.name}: the compressed file is cut off, or still being written")
        incomplete = decoder is not None and decoder.getstate()[0]
        yield ends.decode("\ufffd" if incomplete else "", final=True)


def _decoder(start: bytes) -> codecs.IncrementalDecoder:
    """Return the decoder of a file that begins with these bytes."""
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    return codecs.getincrementaldecoder(encoding)("strict" if encoding.startswith("utf-8") else "replace")


def text_head(path: Path) -> str:
    """Return the first text of a file, about 64 KiB; "" if the file is binary or cannot be read."""
    found = ""
    try:
        with open_bytes(path) as file:
            start = file.read(_BINARY)
        if b"\0" in start and not start.startswith((*_MARKS, *_COMPRESSIONS)):
            return ""
        with TextFile(path) as text:
            for part in text.decoded():
                found += part
                if len(found) >= HEAD:
                    break
    except (OSError, ValueError):
        return ""
    return "" if "\0" in found else found[:HEAD]


def read_text(path: Path) -> str:
    """Return the whole text of a file, with a last line that has no end.

    Raises
    ------
    ValueError
        If the text is too large to be read at once, or the file is damaged.
    """
    parts: list[str] = []
    size = 0
    with TextFile(path) as text:
        for part in text.decoded():
            parts.append(part)
            size += len(part)
            if size > _LARGEST_DOCUMENT:
                raise ValueError(
                    f"Expected at most {_LARGEST_DOCUMENT / 1e6:.0f} MB of JSON in {path.name}, got more; write one "
                    "object per line instead"
                )
    if text.damage:
        raise ValueError(f"Expected a complete file, got {text.damage[0]}; restore it from a copy")
    return "".join(parts)


def read_json(path: Path) -> Any:
    """Return the JSON value that a file holds.

    Raises
    ------
    ValueError
        If the file holds anything else, is damaged or too large.
    """
    try:
        return parse_json(text := read_text(path))
    except json.JSONDecodeError as error:
        found = f"{error} in a file of {len(text):,} characters" if text.strip() else "an empty file"
        raise ValueError(f"Expected JSON in {path.name}, got {found}; restore it, or write it again") from None


def parse_json(text: str) -> Any:
    """Return a JSON value. Raise ValueError for anything else, and for a value that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("Expected JSON, got a value that is nested too deeply; correct the file") from None
