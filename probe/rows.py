"""What the passes over blocks of data found of one layer, in one piece of memory from the first block on."""

import torch
from torch import Tensor


class Rows:
    """Rows of all blocks, one after the other.

    Small pieces that stay, between large activations that come and go, would hold on to the memory of these: the
    allocator puts them into the holes, and the next activations fit there no more.

    Parameters
    ----------
    first : Tensor of shape (k, ...)
        What was found in the first block.
    inputs, block : int
        How many inputs there are, and how many the first block had.
    keep : device, optional
        Where the rows are kept; None: where they come from.
    """

    def __init__(self, first: Tensor, inputs: int, block: int, keep: torch.device | None = None) -> None:
        self.blocks = 0
        self._device = keep or first.device
        self._room: Tensor | None = None
        if block < inputs:
            self._room = first.new_empty((len(first) * inputs // block, *first.shape[1:]), device=self._device)
        self._used = 0
        self._more: list[Tensor] = []  # a single block, or what a callable makes of some inputs that has no room

    def add(self, rows: Tensor) -> None:
        """The rows of the next block."""
        room, end = self._room, self._used + len(rows)
        alike = room is not None and (rows.shape[1:], rows.dtype) == (room.shape[1:], room.dtype)
        if room is None or self._more or end > len(room) or not alike:
            self._more.append(rows.to(self._device))
        else:
            room[self._used : end] = rows
            self._used = end
        self.blocks += 1

    def joined(self) -> Tensor:
        """All rows, in the order of the inputs."""
        pieces = [*([] if self._room is None else [self._room[: self._used]]), *self._more]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
