"""What the passes over blocks of data find of one layer, in one piece of memory from the first block on."""

import torch
from torch import Tensor


class Rows:
    """Rows of all blocks, one after the other, copied as they come: what a layer returns may be written over.

    Small pieces that stay, between large activations that come and go, would hold on to the memory of these: the
    allocator puts them into the holes, and the next activations fit there no more.

    Parameters
    ----------
    inputs
        How many inputs there are.
    keep : device, optional
        Where the rows are kept; None: where they come from.
    """

    def __init__(self, inputs: int, keep: torch.device | None = None) -> None:
        self.blocks = 0
        self._inputs, self._keep = inputs, keep
        self._room: Tensor | None = None
        self._used = 0
        self._more: list[Tensor] = []  # of a callable that makes another number of rows, or other ones, of some inputs
        self._last = -1, 0, 0  # the first input of the last block, and what there was before it

    def add(self, rows: Tensor, block: range) -> None:
        """The rows that some of the inputs have; of one block again, the last count."""
        first, used, more = self._last
        if block.start == first:
            self._used = used
            del self._more[more:]
            if self.blocks == 1:
                self._room = None  # the shape may be another
        else:
            self._last = block.start, self._used, len(self._more)
            self.blocks += 1
        room, n = self._room, rows.shape[0]
        if room is None and len(block) == self._inputs:
            self._room, self._used = rows.to(self._keep or rows.device, copy=True), n
            return
        if room is None:
            shape = n * self._inputs // len(block), *rows.shape[1:]
            room = self._room = rows.new_empty(shape, device=self._keep or rows.device)
        alike = rows.shape[1:] == room.shape[1:] and rows.dtype == room.dtype
        if self._more or self._used + n > room.shape[0] or not alike:
            self._more.append(rows.to(room.device, copy=True))
        else:
            room.narrow(0, self._used, n).copy_(rows)
            self._used += n

    def joined(self) -> Tensor:
        """All rows, in the order of the inputs."""
        assert self._room is not None
        filled = self._room if self._used == self._room.shape[0] else self._room[: self._used]
        return torch.cat([filled, *self._more]) if self._more else filled
