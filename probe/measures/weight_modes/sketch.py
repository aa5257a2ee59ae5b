"""The distance of a matrix from an earlier one of which only a sketch is kept.

A count sketch (Charikar, Chen and Farach-Colton 2002, ICALP) adds the entries of a matrix, with random signs, into
``SIZE`` buckets. It is linear, so the norm of the difference of two sketches estimates that of the difference of the
matrices: without bias in its square, with a standard error of 1 / sqrt(2 SIZE) = 0.6 % of the norm, whatever the
matrices are.
"""

from functools import lru_cache

import torch
from torch import Tensor

from probe.forward.snapshot import generator

SIZE = 2**14
_PER_BUCKET = 16
_BLOCK = SIZE * _PER_BUCKET  # entries that share one assignment to buckets; each block has it shifted and signed anew
_BLOCKS = 64  # that are read at a time: 64 MiB


def sketch(weight: Tensor) -> Tensor:
    """Return the entries of a small tensor, and ``SIZE`` sums of those of a large one, in float32."""
    weight = torch.view_as_real(weight) if weight.is_complex() else weight
    flat = weight.detach().flatten()
    if len(flat) <= SIZE:
        return flat.float()
    order, signs = (x.to(flat.device) for x in _assignment())
    total = torch.zeros(SIZE, dtype=torch.float32, device=flat.device)
    shifts = generator(1)
    for part in flat.split(_BLOCK * _BLOCKS):
        blocks = -(-len(part) // _BLOCK)
        padded = torch.nn.functional.pad(part.float(), (0, blocks * _BLOCK - len(part))).view(blocks, _BLOCK)
        sums = (padded * signs)[:, order].view(blocks, SIZE, _PER_BUCKET).sum(2)
        for row, (shift, sign) in zip(sums, torch.randint(SIZE, (blocks, 2), generator=shifts).tolist(), strict=True):
            total += row.roll(shift) * (1 - 2 * (sign % 2))
    return total


@lru_cache(maxsize=1)
def _assignment() -> tuple[Tensor, Tensor]:
    """Return the entries of each bucket, and random signs of all entries."""
    source = generator(0)
    return torch.randperm(_BLOCK, generator=source), torch.randint(2, (_BLOCK,), generator=source).float() * 2 - 1
