"""Frames of TFRecord files: length (8 bytes), its checksum (4), the record, its checksum (4). Blocks are read at once.

The checksum is CRC-32C (Castagnoli), rotated and shifted: TensorFlow, core/lib/hash/crc32c.h. A length with a wrong
checksum ends the file, because the start of the next record is unknown. A record with a wrong checksum is ignored.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from struct import unpack_from

import numpy as np

from probe.readers.text import open_bytes

_BLOCK = 2**23  # bytes read at a time
_LONGEST = 2**20  # a longer record holds pictures or a graph, no scalars, and is skipped

_POLYNOMIAL = np.uint32(0x82F63B78)

Frames = tuple[np.ndarray, np.ndarray, np.ndarray]  # bytes of a block, starts and lengths of its records


@cache
def _table() -> np.ndarray:
    """Return the state after 16 shifts for each value of its lower 16 bits."""
    state = np.arange(2**16, dtype=np.uint32)
    for _ in range(16):
        state = np.where(state & 1, (state >> 1) ^ _POLYNOMIAL, state >> 1)
    return state


def checksums(rows: np.ndarray) -> np.ndarray:
    """Return the masked CRC-32C of each row, uint32 (n,), of uint8 (n, length)."""
    table, length = _table(), rows.shape[1]
    pairs = np.ascontiguousarray(
        rows[:, : length - length % 2].T
    )  # (bytes, n): one iteration takes two bytes of all rows
    state: np.ndarray = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for first, second in zip(pairs[::2], pairs[1::2], strict=True):
        word = first | (second.astype(np.uint16) << 8)
        state = table[(state & 0xFFFF) ^ word] ^ (state >> 16)
    if length % 2:
        state = state ^ rows[:, -1]
        for _ in range(8):
            state = np.where(state & 1, (state >> 1) ^ _POLYNOMIAL, state >> 1)
    crc = ~state
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


def windows(data: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return the bytes from each start, (n, length)."""
    return np.lib.stride_tricks.sliding_window_view(data, length)[starts]


def uint32_at(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the little-endian integers at the starts, (n,)."""
    return windows(data, starts, 4).view("<u4")[:, 0]


def read_frames(path: Path, damage: list[str]) -> Iterator[Frames]:
    """Yield the complete records of a file block by block. Add notes about damage to ``damage``.

    Yields
    ------
    data : uint8 (bytes,)
    starts, lengths : int64 (records,)
        Positions and lengths of the records without their frames.
    """
    size = path.stat().st_size  # it may grow while it is read
    with open_bytes(path) as file:
        rest = b""
        while more := file.read(_BLOCK):
            data = rest + more
            starts, lengths, end = _split(data)
            block = np.frombuffer(data, np.uint8)
            valid = _n_valid(block, starts)
            yield block, starts[:valid], lengths[:valid]
            if valid < len(starts):
                end = int(starts[valid]) - 12
            rest = data[end:]
            if len(rest) >= 12 and not _n_valid(np.frombuffer(rest, np.uint8), np.array([12])):
                left = size - file.tell() + len(rest)
                damage.append(f"{path.name}: damaged, its last {left:,} bytes could not be read")
                return
            if len(rest) >= 12 and (longer := unpack_from("<Q", rest)[0] + 16 - len(rest)) > _LONGEST:
                file.seek(longer, 1)
                rest = rest[:8] if file.tell() > size else b""
        if rest:
            damage.append(f"{path.name}: cut off, or still being written; an incomplete record at its end was ignored")


def _n_valid(block: np.ndarray, starts: np.ndarray) -> int:
    """Return the number of records before the first one whose length has a wrong checksum."""
    if not len(starts):
        return 0
    good = checksums(windows(block, starts - 12, 8)) == uint32_at(block, starts - 4)
    return len(starts) if good.all() else int(np.argmin(good))


def _split(data: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """Return starts and lengths of the complete records, and the position after them."""
    starts, lengths, at, end = [], [], 0, len(data)
    while at + 12 <= end:
        (length,) = unpack_from("<Q", data, at)
        if at + length + 16 > end:
            break
        starts.append(at + 12)
        lengths.append(length)
        at += length + 16
    return np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64), at
