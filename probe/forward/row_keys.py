"""Numbers that identify equal inputs: two inputs have one key if all their values are equal."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Keys = NDArray[Any]  # uint64
_BLOCK = 2**20  # numbers at a time: 8 MB of hashes and copies


class RowKeys:
    """Keys of the rows of tensors (n, ...) that together are the inputs of a model.

    A key is the sum of 64-bit hashes of all values and their places. Two different rows share a key with a probability
    of 5e-20.
    """

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self._leaves = leaves
        self._prefixes: dict[int, Tensor] = {}

    @cached_property
    def whole(self) -> Tensor:
        """Keys of the inputs, int64 of shape (n,)."""
        return _tensor(sum(_sums(leaf, i)[:, 0] for i, leaf in enumerate(self._leaves)))

    @property
    def length(self) -> int | None:
        """Number of positions of the first tensor that has any."""
        return next((leaf.shape[1] for leaf in self._leaves if leaf.ndim > 1), None)

    def prefixes(self, length: int) -> Tensor | None:
        """Return keys (n, length) of the positions: those of their prefix, and of tensors of another length.

        None if no tensor has this length.
        """
        if length not in self._prefixes and any(leaf.shape[1:2] == (length,) for leaf in self._leaves):
            parts = [
                _sums(leaf, i, length if leaf.shape[1:2] == (length,) else 1) for i, leaf in enumerate(self._leaves)
            ]
            found = sum(part.cumsum(1, dtype=np.uint64) for part in parts)
            self._prefixes[length] = _tensor(_mixed(found ^ _mixed(np.arange(length, dtype=np.uint64))))
        return self._prefixes.get(length)

    def positions(self, length: int) -> Tensor:
        """Return keys (n, length) of the positions: those of the whole input and of the place of the position."""
        whole = self.whole.numpy().view(np.uint64)[:, None]
        return _tensor(_mixed(whole ^ _mixed(np.arange(length, dtype=np.uint64))))


def _sums(leaf: Tensor, index: int, length: int = 1) -> Keys:
    """Return the sums of hashes (n, length) of the values of each position; one position holds a whole row."""
    found = np.empty((len(leaf), length), np.uint64)
    flat = (torch.view_as_real(leaf) if leaf.is_complex() else leaf).detach().reshape(len(leaf), -1)
    places = _mixed(np.arange(flat.shape[1], dtype=np.uint64) + np.uint64(index << 40))
    size = max(1, _BLOCK // max(1, flat.shape[1]))
    for start in range(0, len(leaf), size):
        hashes = _mixed(_bits(flat[start : start + size]) ^ places)
        found[start : start + size] = hashes.reshape(len(hashes), length, -1).sum(2, dtype=np.uint64)
    return found


def _bits(values: Tensor) -> Keys:
    """Return the values as integers. Equal values have equal integers, also 0 and -0."""
    values = values.cpu()
    if values.is_floating_point():
        values = (values.double() + 0.0).view(torch.int64)
    return values.long().contiguous().numpy().view(np.uint64)


def _mixed(numbers: Keys) -> Keys:
    """Return hashes of 64-bit integers (splitmix64: Steele, Lea and Flood 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _tensor(keys: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(keys).view(np.int64))
