"""Rows of values along line segments, in blocks that fit into the cache of a processor."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_NUMBERS = 1 << 20  # in the widest value of a block: 8 MiB
_LEAST_ROWS = 8


@dataclass
class Block:
    """Some segments, or a part of one, midway through the network. A row is an end or a knot of a segment.

    Neighbouring parts share an interval, so that each sees both sides of its knots. One of both owns the knots in it.
    """

    segments: np.ndarray  # (s,) their numbers
    first: np.ndarray  # (s + 1,): rows first[i] to first[i + 1] belong to segment i
    position: np.ndarray  # (rows,)
    site: np.ndarray  # (rows,): -1 at ends
    key: np.ndarray  # (rows,): number of the knot in the order of discovery, -1 at ends
    own: np.ndarray  # (rows,): whether the row, and the interval before it, belong to this block
    values: dict[int, Tensor]  # (rows, ...) each

    @classmethod
    def of(cls, pairs: Tensor) -> "Block":
        """Return the block of whole segments with these ends (s, 2, ...)."""
        count = len(pairs)
        ends, first = np.full(2 * count, -1), np.arange(count + 1) * 2
        position = np.tile([0.0, 1.0], count)
        return cls(np.arange(count), first, position, ends, ends, ends < 0, {0: pairs.flatten(0, 1)})

    def parts(self, width: int) -> Iterator["Block"]:
        """Yield blocks of at most ``_NUMBERS`` numbers in the widest value, or of a few rows."""
        rows = len(self.position)
        if rows * width <= _NUMBERS or rows <= _LEAST_ROWS:
            yield self
            return
        for half in self.halves():
            yield from half.parts(width)

    def halves(self) -> "tuple[Block, Block]":
        """Return the first and the last segments, or the first and the last intervals of a single one."""
        rows, count = len(self.position), len(self.segments)
        if count > 1:
            middle = self.first[count // 2]
            return self.taken(slice(0, middle), count // 2), self.taken(slice(middle, rows), count - count // 2)
        middle = rows // 2
        parts = self.taken(slice(0, middle + 2), 1), self.taken(slice(middle, rows), 1)
        parts[0].own[-1] = parts[1].own[0] = False
        return parts

    def taken(self, rows: slice, count: int) -> "Block":
        """Return the block of some rows, of ``count`` segments from the first or to the last."""
        chosen = slice(0, count) if rows.start == 0 else slice(len(self.segments) - count, None)
        first = np.clip(self.first[chosen.start :][: count + 1], rows.start, rows.stop) - rows.start
        values = {read: value[rows] for read, value in self.values.items()}
        arrays = self.position[rows], self.site[rows], self.key[rows], self.own[rows].copy()
        return Block(self.segments[chosen], first, *arrays, values)

    def selected(self, chosen: np.ndarray) -> "Block":
        """Return the block of some segments, chosen by a bool array (s,)."""
        counts = np.diff(self.first)
        rows = np.repeat(chosen, counts)
        arrays = self.position[rows], self.site[rows], self.key[rows], self.own[rows]
        values = {read: value[torch.from_numpy(rows)] for read, value in self.values.items()}
        return Block(self.segments[chosen], np.r_[0, np.cumsum(counts[chosen])], *arrays, values)

    def inserted(self, left: np.ndarray, share: np.ndarray, site: int, key: int) -> "Block":
        """Return the block with new rows at these shares of the intervals that begin at the rows ``left``."""
        if not len(left):
            return self
        new = left + 1 + np.arange(len(left))  # places of the new rows
        is_old = np.ones(len(self.position) + len(left), bool)
        is_old[new] = False
        old, at, t = torch.from_numpy(np.flatnonzero(is_old)), torch.from_numpy(left), torch.from_numpy(share)

        def between(value: Tensor) -> Tensor:
            found = value.new_empty(len(is_old), *value.shape[1:])
            found[old] = value
            found[torch.from_numpy(new)] = torch.lerp(value[at], value[at + 1], t.view(-1, *[1] * (value.ndim - 1)))
            return found

        return Block(
            self.segments,
            self.first + np.r_[0, np.searchsorted(left, self.first[1:])],
            between(torch.from_numpy(self.position)).numpy(),
            np.insert(self.site, left + 1, site),
            np.insert(self.key, left + 1, np.arange(len(left)) + key),
            np.insert(self.own, left + 1, self.own[left + 1]),
            {read: between(value) for read, value in self.values.items()},
        )
