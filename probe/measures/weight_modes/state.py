"""What the probe keeps between two observations: the followed modes and sketches of all matrices."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from probe.base import Measured, Snapshot
from probe.geometry.modes.following import Frame
from probe.measures.weight_modes.sketch import SIZE

LIMIT = 60 * 2**20  # bytes of vectors and sketches; the limit of kept values is 64 MiB
USUAL_MODES = 64  # per matrix
_NAMES = "mode_lengths", "mode_left", "mode_right", "mode_values", "mode_blocks", "mode_sketch"


class Kept(NamedTuple):
    """Followed modes and sketch of one matrix (m, n), or stack of k matrices, at the observation before.

    ``shape`` is (k, m, n). The sketch is empty at the first observation.
    """

    shape: tuple[int, int, int]
    frame: Frame
    sketch: Tensor

    @classmethod
    def first(cls, weight: Tensor, slots: int) -> Self:
        """Return empty slots for a matrix."""
        return cls(shape_of(weight), Frame.empty(slots, weight), torch.empty(0))


def shape_of(weight: Tensor) -> tuple[int, int, int]:
    """Return the shape (k, m, n) of a matrix or a stack of k matrices."""
    m, n = weight.shape[-2:]
    return (weight.shape[0] if weight.ndim == 3 else 1, m, n)


def slots_of(matrices: Mapping[str, Tensor], decomposed: Sequence[str], max_modes: int | None) -> dict[str, int]:
    """Return the number of slots of each matrix, at most ``max_modes``; 0 for one that is not decomposed.

    Without ``max_modes`` it is 64, or the largest number with which the kept values fit into the limit.
    """
    shapes = {name: shape_of(matrices[name]) for name in decomposed}
    modes = {name: k * min(m, n) for name, (k, m, n) in shapes.items()}
    sketches = 4 * sum(min(w.numel() * (1 + w.is_complex()), SIZE) for w in matrices.values())

    def needed(most: int) -> int:
        return sketches + sum(min(most, modes[name]) * (4 * (m + n) + 16) for name, (_, m, n) in shapes.items())

    most = USUAL_MODES if max_modes is None else max_modes
    fitting = next((k for k in range(most, 0, -1) if needed(k) <= LIMIT), 0)
    if fitting < (1 if max_modes is None else most):
        advice = f"pass max_modes={fitting}" if fitting else "attach to a part of the model, a module with fewer layers"
        raise ValueError(
            f"Expected modes and sketches of at most {LIMIT:,} bytes, got {needed(most if max_modes else 1):,} for "
            f"{len(matrices)} matrices; {advice}"
        )
    return {name: min(fitting, modes.get(name, 0)) for name in matrices}


def write_state(kept: Sequence[Kept]) -> dict[str, Measured]:
    """Return what the next observation reads."""
    lengths = [[*each.shape, len(each.frame.blocks), len(each.sketch)] for each in kept]
    frames = [each.frame for each in kept]
    columns = (
        [frame.left for frame in frames],
        [frame.right for frame in frames],
        [frame.values for frame in frames],
        [frame.blocks for frame in frames],
        [each.sketch for each in kept],
    )
    arrays = [np.array(lengths), *(torch.cat([part.flatten().cpu() for part in column]) for column in columns)]
    return {name: Measured(array, keep=True) for name, array in zip(_NAMES, arrays, strict=True)}


def read_state(snapshot: Snapshot) -> list[Kept] | None:
    """Return what the observation before kept of each matrix, on the CPU; None if there was none."""
    arrays = [found for name in _NAMES if (found := snapshot.kept(name)) is not None]
    if len(arrays) < len(_NAMES):
        return None
    _, m, n, slots, sketch = arrays[0].T
    sizes = slots * m, slots * n, slots, slots, sketch
    parts = [
        [torch.as_tensor(part) for part in np.split(array, np.cumsum(size)[:-1])]
        for array, size in zip(arrays[1:], sizes, strict=True)
    ]
    shapes = arrays[0][:, :3].tolist()
    return [
        Kept((k, m, n), Frame(left.view(-1, m), right.view(-1, n), values, blocks), sums)
        for (k, m, n), left, right, values, blocks, sums in zip(shapes, *parts, strict=True)
    ]
