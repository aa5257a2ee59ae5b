"""Storage for the rows of one site over the blocks of a forward pass."""

import torch
from torch import Tensor

from probe.reads import CPU, has_queue

MAX_PINNED = 1 << 30  # bytes for the rows of one pass: PyTorch keeps pinned memory, which others cannot use


class PinnedMemory:
    """The memory to which a device copies rows of one pass without waiting. Copies of further rows wait."""

    def __init__(self) -> None:
        self._left = MAX_PINNED

    def take(self, n_bytes: int) -> bool:
        """Return whether this many bytes are left, and take them."""
        if n_bytes > self._left:
            return False
        self._left -= n_bytes
        return True


class RowBuffer:
    """Buffer for the reduced rows of all blocks, in one contiguous tensor that the first block allocates.

    The buffer copies the rows, since later layers may overwrite them. One tensor for all blocks avoids fragmentation.
    Small tensors that outlive large activations occupy gaps between them, and the allocator cannot reuse these gaps for
    the next activations.

    Parameters
    ----------
    n_inputs
        Number of inputs in all blocks.
    device : torch.device, optional
        Device of the buffer. Default: the device of the first rows.
    pinned : PinnedMemory, optional
        For a buffer on the CPU, which a device fills.

    Attributes
    ----------
    blocks : number of blocks with rows
    """

    def __init__(self, n_inputs: int, device: torch.device | None = None, pinned: PinnedMemory | None = None) -> None:
        self.blocks = 0
        self._pinned, self._queued = pinned or PinnedMemory(), False
        self._n_inputs, self._device = n_inputs, device
        self._tensor: Tensor | None = None
        self._used = 0
        # Rows that do not fit into the tensor. A callable reduction can return another number or shape of rows.
        self._overflow: list[Tensor] = []

    def add(self, rows: Tensor, block: range) -> None:
        """Append the rows of the next block of inputs."""
        self.blocks += 1
        tensor, n = self._tensor, rows.shape[0]
        device = self._device or rows.device
        if tensor is None:
            n_bytes = rows.nbytes * self._n_inputs // len(block)
            self._queued = device == CPU and has_queue(rows.device) and self._pinned.take(n_bytes)
        if tensor is None and len(block) == self._n_inputs:
            self._tensor, self._used = rows.to(device, copy=True, non_blocking=self._queued), n
            return
        if tensor is None:
            shape = n * self._n_inputs // len(block), *rows.shape[1:]
            tensor = self._tensor = rows.new_empty(shape, device=device, pin_memory=self._queued)
        fits = rows.shape[1:] == tensor.shape[1:] and rows.dtype == tensor.dtype
        if self._overflow or self._used + n > tensor.shape[0] or not fits:
            self._overflow.append(rows.to(tensor.device, copy=True))
        else:
            tensor.narrow(0, self._used, n).copy_(rows, non_blocking=self._queued)
            self._used += n

    def rows(self) -> Tensor:
        """Return all rows in the order of the inputs."""
        assert self._tensor is not None
        filled = self._tensor if self._used == self._tensor.shape[0] else self._tensor[: self._used]
        others = [rows for rows in self._overflow if rows.shape[1:] != filled.shape[1:]]
        if others:
            raise ValueError(
                f"Expected rows of one shape from all batches, got {tuple(filled.shape[1:])} and "
                f"{tuple(others[0].shape[1:])}; attach with batch_size={self._n_inputs} or more, or with output= or a "
                "probe with reduce= that return one shape for any batch"
            )
        return torch.cat([filled, *self._overflow]) if self._overflow else filled
