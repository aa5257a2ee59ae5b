"""The wire format of protocol buffers: fields of a message, variable-length integers."""

from collections.abc import Iterator


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of a message: number, start and end of the value (without the length of a nested one)."""
    while start < end:
        key, start = varint(data, start)
        wire = key & 7
        if wire == 0:
            _, stop = varint(data, start)
        elif wire == 2:
            length, start = varint(data, start)
            stop = start + length
        elif wire in (1, 5):
            stop = start + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"no protobuf message: wire type {wire}")
        if stop > end:
            raise ValueError("no protobuf message: a field is longer than what it stands in")
        yield key >> 3, start, stop
        start = stop


def varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
