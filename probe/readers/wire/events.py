"""Scalars in the records of event files, read from the protobuf wire format without TensorFlow or protobuf.

Of ``Event``: step = 2 (varint), summary = 5. Of ``Summary``: value = 1. Of its values: tag = 1, simple_value = 2,
tensor = 8. Of a tensor: dtype = 1, shape = 2, content = 4, float = 5, double = 6, half = 13, int = 7, int64 = 10.
Source: tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto.

Records of one tag differ only in time, step and value. Therefore one of them is parsed, and the same positions are read
in all records with equal other bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from probe.readers.wire.protobuf import fields, varint
from probe.readers.wire.tfrecord import Frames, checksums, uint32_at, windows

Scalars = dict[str, tuple[np.ndarray, np.ndarray]]  # tag -> steps int64, values float64, in the order of the file
Span = tuple[int, int]

_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 14: "bfloat16", 19: "<f2"}  # DataType of tensor contents
_LISTS = {5: "<f4", 6: "<f8"}  # fields of a tensor that hold numbers of fixed width

# Bytes. All shorter records are checked. Longer ones (histograms, pictures) are checked only if they hold scalars.
_SHORT = 256


@dataclass(frozen=True)
class Layout:
    """Positions of the numbers in a record: spans of bytes, and tag, type and span of each scalar."""

    clock: Span
    step: Span  # of the varint, empty for step 0
    scalars: tuple[tuple[str, str, Span], ...]

    def mask(self, length: int) -> np.ndarray:
        """Return True for the bytes that all records of this layout share."""
        same = np.ones(length, bool)
        for start, end in (self.clock, self.step, *(span for _, _, span in self.scalars)):
            same[start:end] = False
        return same


def parse_layout(record: bytes) -> Layout:
    """Return the positions of time, step and scalars in one record."""
    clock = step = (0, 0)
    scalars: list[tuple[str, str, Span]] = []
    for number, start, end in fields(record, 0, len(record)):
        if number == 1:
            clock = (start, end)
        elif number == 2:
            step = (start, end)
        elif number == 5:
            for inner, a, b in fields(record, start, end):
                if inner == 1 and (found := _scalar(record, a, b)):
                    scalars.append(found)
    return Layout(clock, step, tuple(scalars))


def _scalar(record: bytes, start: int, end: int) -> tuple[str, str, Span] | None:
    tag, found = "", None
    for number, a, b in fields(record, start, end):
        if number == 1:
            tag = record[a:b].decode(errors="replace")
        elif number == 2:
            found = ("<f4", (a, b))
        elif number == 8:
            found = _tensor(record, a, b)
    return (tag, *found) if found else None


def _tensor(record: bytes, start: int, end: int) -> tuple[str, Span] | None:
    """Return type and span of the number in a tensor with one element."""
    parts = {number: (a, b) for number, a, b in fields(record, start, end)}
    kind = _TYPES.get(varint(record, parts[1][0])[0] if 1 in parts else 0)
    for number, dtype in _LISTS.items():
        if number in parts and parts[number][1] - parts[number][0] == int(dtype[-1]):
            return dtype, parts[number]
    if kind and 4 in parts:
        size = 2 if kind == "bfloat16" else int(kind[-1])
        return (kind, parts[4]) if parts[4][1] - parts[4][0] == size else None
    for number in (7, 10):  # integers, as varints: one only
        if kind and number in parts and varint(record, parts[number][0])[1] == parts[number][1]:
            return "varint", parts[number]
    return None


def read_scalars(block: Frames, n_damaged: list[int]) -> Scalars:
    """Return all scalars of a block of records.

    Parameters
    ----------
    block
        As yielded by :func:`probe.readers.wire.tfrecord.read_frames`.
    n_damaged : list of int
        Receives numbers of damaged records, which are ignored.
    """
    data, starts, lengths = block
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for length in sorted({*lengths.tolist()}):
        at = starts[lengths == length]
        if length <= _SHORT:
            at = at[_valid(data, at, length, n_damaged)]
        rows = windows(data, at, length)
        groups = list(_groups(rows, n_damaged))
        good = np.zeros(len(at), bool)
        used = np.concatenate([members for _, members in groups]) if groups else np.empty(0, dtype=int)
        good[used] = length <= _SHORT or _valid(data, at[used], length, n_damaged)
        for layout, members in groups:
            members = members[good[members]]
            steps = _steps(rows[members, slice(*layout.step)])
            for tag, kind, span in layout.scalars:
                values = _numbers(rows[members, slice(*span)], kind)
                found.setdefault(tag, []).append((at[members], steps, values))
    return {tag: _in_order(parts) for tag, parts in found.items()}


def _valid(data: np.ndarray, starts: np.ndarray, length: int, n_damaged: list[int]) -> np.ndarray:
    """Return True for records with the right checksum."""
    if not len(starts):
        return np.empty(0, bool)
    good = checksums(windows(data, starts, length)) == uint32_at(data, starts + length)
    n_damaged.append(int((~good).sum()))
    return good


def _in_order(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    at, steps, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(at, kind="stable")
    return steps[order], values[order]


def _groups(rows: np.ndarray, n_damaged: list[int]) -> Iterator[tuple[Layout, np.ndarray]]:
    """Yield the layout and the row numbers, in ``rows`` (n, length), of records of one layout and tag."""
    rest = np.arange(len(rows))
    while len(rest):
        layout, skipped = _first_with_scalars(rows, rest, n_damaged)
        rest = rest[skipped:]
        if layout is None:
            return
        same = layout.mask(rows.shape[1])
        left = np.ones(len(rest), bool)
        for equal in _equal_rows(rows[rest] * same):
            own = _layout_or_none(rows[rest[equal[0]]].tobytes())
            if own is None or own.clock != layout.clock or own.step != layout.step or not own.scalars:
                continue
            if [span for *_, span in own.scalars] != [span for *_, span in layout.scalars]:
                continue
            equal = equal[_same_varint(rows[rest[equal], slice(*layout.step)])]
            left[equal] = False
            yield own, rest[equal]
        rest = rest[left]


def _first_with_scalars(rows: np.ndarray, rest: np.ndarray, n_damaged: list[int]) -> tuple[Layout | None, int]:
    """Return the layout of the first record with scalars, and the number of records before it."""
    for i, row in enumerate(rest):
        layout = _layout_or_none(rows[row].tobytes())
        if layout is None:
            n_damaged.append(1)
        elif layout.scalars:
            return layout, i
    return None, len(rest)


def _layout_or_none(record: bytes) -> Layout | None:
    try:
        return parse_layout(record)
    except (ValueError, IndexError):  # damaged
        return None


def _equal_rows(rows: np.ndarray) -> list[np.ndarray]:
    """Return the indices of equal rows, group by group. The group of the first row comes first."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
    weights = np.random.default_rng(0).integers(2**63, size=padded.shape[1] // 8, dtype=np.uint64) | 1
    _, first, kind = np.unique((padded.view("<u8") * weights).sum(1), return_index=True, return_inverse=True)
    equal = (rows == rows[first[kind]]).all(1)  # two kinds may share a sum: the next call separates them
    order = np.argsort(kind, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(kind))[:-1])
    return sorted((group[equal[group]] for group in groups), key=lambda group: int(group[0]))


def _same_varint(spans: np.ndarray) -> np.ndarray:
    """Return True for rows whose integer has the length of that in the first row."""
    return ((spans >= 128) == (spans[0] >= 128)).all(1)


def _steps(spans: np.ndarray) -> np.ndarray:
    steps = np.zeros(len(spans), dtype=np.uint64)
    for i in range(spans.shape[1]):
        steps |= (spans[:, i].astype(np.uint64) & np.uint64(127)) << np.uint64(7 * i)
    return steps.view(np.int64)


def _numbers(spans: np.ndarray, kind: str) -> np.ndarray:
    spans = np.ascontiguousarray(spans)
    if kind == "varint":
        return _steps(spans).astype(float)
    if kind == "bfloat16":
        return (spans.view("<u2").astype(np.uint32) << 16).view(np.float32)[:, 0].astype(float)
    return spans.view(kind)[:, 0].astype(float)
