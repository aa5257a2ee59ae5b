"""Random batches and dropout masks of a training run, as functions of seed and step.

No generator has a state that must be saved. Training that resumes at a step draws the same numbers, on any machine and
with any number of seeds in parallel. The bits come from Philox in numpy, whose stream is fixed.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_BLOCK = 128  # steps drawn at once, because a new generator costs as much as a batch
_PIECE = 2**16  # elements of a mask drawn at once; a multiple of 4


class Draws:
    """Row numbers and mask keys of each step of one run.

    Parameters
    ----------
    seed : int
        Seed of the run, at least 0.
    n_rows : int
        Number of training pairs.
    batch_size : int
        Rows in a batch.
    n_masks : int
        Dropout masks in a step; each has two keys.
    replacement : bool
        Draw each row independently. False: shuffle all pairs in every epoch, and drop the rows that do not fill a
        batch.

    Raises
    ------
    ValueError
        If a batch without replacement is larger than the training set.
    """

    def __init__(self, seed: int, *, n_rows: int, batch_size: int, n_masks: int, replacement: bool = True) -> None:
        if not replacement and batch_size > n_rows:
            raise ValueError(
                f"Expected batches of at most {n_rows} training pairs without replacement, got {batch_size}; give a "
                "smaller batch_size."
            )
        self.seed, self.n_rows, self.batch_size, self.n_masks = seed, n_rows, batch_size, n_masks
        self.replacement = replacement
        self._block = lru_cache(maxsize=4)(self._draw)
        self._epoch = lru_cache(maxsize=4)(self._shuffled)

    def rows(self, step: int, n: int = 1) -> Tensor:
        """Return the rows of the batches from `step` to `step + n`: int64 `(n, batch_size)`."""
        if self.replacement:
            return torch.from_numpy(self._steps(step, n, 0))
        each = self.n_rows // self.batch_size  # batches in an epoch
        batches = [self._epoch(k // each)[k % each] for k in range(step, step + n)]
        return torch.from_numpy(np.stack(batches))

    def keys(self, step: int, n: int = 1) -> Tensor:
        """Return the keys of the masks of these steps: int32 `(n, n_masks, 2)`."""
        return torch.from_numpy(self._steps(step, n, 1))

    def _steps(self, step: int, n: int, which: int) -> np.ndarray:
        blocks = range(step // _BLOCK, (step + n - 1) // _BLOCK + 1)
        drawn = np.concatenate([self._block(block)[which] for block in blocks])
        return drawn[step - blocks[0] * _BLOCK :][:n]

    def _draw(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        raw = self._raw(block, 0, self.batch_size)
        rows = ((raw >> 32) * np.uint64(self.n_rows)) >> np.uint64(32)  # uniform to n_rows / 2^32
        keys = self._raw(block, 1, self.n_masks).view(np.int32).reshape(_BLOCK, self.n_masks, 2)
        return rows.astype(np.int64), keys

    def _shuffled(self, epoch: int) -> np.ndarray:
        """Return all batches of an epoch: int64 `(batches, batch_size)`."""
        bits = np.random.Philox(key=self.seed, counter=np.array([0, 0, 2, epoch], np.uint64)).random_raw(self.n_rows)
        whole = self.n_rows // self.batch_size * self.batch_size
        return np.argsort(bits, kind="stable")[:whole].reshape(-1, self.batch_size)

    def _raw(self, block: int, stream: int, n: int) -> np.ndarray:
        """Return bits, uint64 `(_BLOCK, n)`. Batches and masks have separate streams."""
        bits = np.random.Philox(key=self.seed, counter=np.array([0, 0, stream, block], np.uint64))
        return bits.random_raw(_BLOCK * n).reshape(_BLOCK, n)


def masks(keys: Tensor, shapes: Iterable[tuple[int, ...]], rate: float) -> list[Tensor]:
    """Return dropout masks on the CPU: 0 with probability `rate` (to 2^-16), else `1 / (1 - rate)`, float32.

    The masks are drawn in pieces, so that bits and comparisons stay in the cache.
    """
    least, scale = np.int16(round(rate * 2**16) - 2**15), np.float32(1 / (1 - rate))
    drawn = []
    for key, shape in zip(keys.tolist(), shapes, strict=True):
        mask = np.empty(math.prod(shape), np.float32)
        bits = _sfc(key)
        for i in range(0, len(mask), _PIECE):
            piece = mask[i : i + _PIECE]
            np.multiply(bits.random_raw(-(-len(piece) // 4)).view(np.int16)[: len(piece)] >= least, scale, out=piece)
        drawn.append(torch.from_numpy(mask).view(shape))
    return drawn


def _sfc(key: list[int]) -> np.random.SFC64:
    """Return the fastest generator of numpy; 16 of its bits determine an element."""
    return np.random.SFC64(np.array(key, np.int32).view(np.uint32))


def hashed_masks(keys: Tensor, shapes: Iterable[tuple[int, ...]], rate: float) -> list[Tensor]:
    """Return dropout masks from a hash of the number of each element, which a compiler can fuse with its user.

    The hash has two rounds of multiplication and shift. The keys of a mask enter before the first and in the second.
    """
    least = round(rate * 2**32) - 2**31  # the hash is uniform over int32
    drawn = []
    for i, shape in enumerate(shapes):
        x = torch.arange(math.prod(shape), dtype=torch.int32, device=keys.device).view(shape)
        x = (x ^ keys[i, 0]) * -1640531535  # 2^32 / golden ratio
        x = (x ^ (x >> 15)) * (keys[i, 1] | 1)
        x = (x ^ (x >> 13)) * -1028477387
        drawn.append(torch.where(x >= least, 1 / (1 - rate), 0.0))
    return drawn
