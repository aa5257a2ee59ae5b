"""The wire format of protocol buffers: fields of a message and variable-length integers."""

from collections.abc import Iterator


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each field of a message. The length of a nested message is excluded."""
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
            raise ValueError(f"Expected a protobuf message, got wire type {wire}; the record is damaged")
        if stop > end:
            raise ValueError(
                "Expected a protobuf message, got a field that is longer than its record; the record is damaged"
            )
        yield key >> 3, start, stop
        start = stop


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer of 7 bits per byte, and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
