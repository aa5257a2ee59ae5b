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
        self._room = first.new_empty((len(first) * inputs // block, *first.shape[1:]), device=keep or first.device)
        self._used = 0
        self._more: list[Tensor] = []  # of a callable that makes another number of rows, or other ones, of some inputs

    def add(self, rows: Tensor) -> None:
        """The rows of the next block."""
        end = self._used + len(rows)
        alike = (rows.shape[1:], rows.dtype) == (self._room.shape[1:], self._room.dtype)
        if self._more or end > len(self._room) or not alike:
            self._more.append(rows.to(self._room.device))
        else:
            self._room[self._used : end] = rows
            self._used = end
        self.blocks += 1

    def joined(self) -> Tensor:
        """All rows, in the order of the inputs."""
        filled = self._room[: self._used]
        return torch.cat([filled, *self._more]) if self._more else filled
