"""Targets as a matrix of the shape of the outputs, for the alignment of a kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.forward.layers import IGNORED

_MOST = 1 << 24  # numbers of the matrix


def target_matrix(targets: Tensor | None, shape: torch.Size, columns: Tensor | None) -> Tensor | None:
    """Return centred targets (n, columns) for outputs of shape (n, ...), or None if there are none of a known form.

    Classes become unit vectors; they may lie in the last axis of the outputs, or in the second one. Classes without a
    target (-100) become 0. Numbers have the shape of the outputs. The mean over inputs of each column is subtracted.
    """
    if targets is None or targets.is_complex() or shape.numel() > _MOST:
        return None
    found = _matrix(targets, shape)
    if found is None:
        return None
    found = found.reshape(len(found), -1).double()
    found = found if columns is None else found[:, columns.to(found.device)]
    return found - found.mean(0)


def _matrix(targets: Tensor, shape: torch.Size) -> Tensor | None:
    if targets.is_floating_point() or shape[1:].numel() == 1:  # numbers, or one logit of two classes
        return targets.reshape(shape) if targets.numel() == shape.numel() else None
    known = targets != IGNORED
    for axis in (-1, 1):
        if len(shape) > 1 and targets.shape == shape[:axis] + (shape[axis + 1 :] if axis == 1 else ()):
            classes = shape[axis]
            if ((targets < 0) | (targets >= classes))[known].any():
                return None
            units = F.one_hot(targets.where(known, 0), classes) * known[..., None]
            return units.movedim(-1, axis)
    return None
