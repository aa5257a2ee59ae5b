"""Follow the leading modes of a matrix over time."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from probe.geometry.modes.decomposition import RESOLVED, Decomposition, combine, decompose, overlaps
from probe.geometry.modes.matching import CLEAR, match

_TAKEN = 0.5  # part of a present mode that continuations of earlier modes hold, from which it is no new mode


class Frame(NamedTuple):
    """Followed modes at one time, one in each slot; ``blocks`` is -1 in an empty slot.

    ``left`` (slots, m) and ``right`` (slots, n) are float32 unit vectors, ``values`` float64 and ``blocks`` int64.
    """

    left: Tensor
    right: Tensor
    values: Tensor
    blocks: Tensor

    @classmethod
    def empty(cls, slots: int, weight: Tensor) -> Self:
        """Return a frame without modes for a matrix."""
        left, right = (torch.zeros(slots, n, device=weight.device) for n in weight.shape[-2:])
        values = torch.full((slots,), torch.nan, dtype=torch.float64, device=weight.device)
        return cls(left, right, values, torch.full((slots,), -1, device=weight.device))


class Followed(NamedTuple):
    """One observation of a matrix.

    Attributes
    ----------
    frame : Frame
        The modes, for the next observation.
    overlaps : array of shape (slots,)
        Overlap with the mode of the same slot before; NaN for a new mode.
    matched, degenerate : int8 array of shape (slots,)
        1, 0, or -1 in an empty slot.
    spectrum : array of shape (n,)
        All singular values, the largest first.
    leading : int
        Number of leading modes that hold the share of the squared norm, at most the number of slots.
    share : float
        Share of the squared norm in the followed modes.
    """

    frame: Frame
    overlaps: np.ndarray
    matched: np.ndarray
    degenerate: np.ndarray
    spectrum: np.ndarray
    leading: int
    share: float


@dataclass
class _Slots:
    """Present modes of the slots: one row of ``rotation`` (slots, modes) each, 0 in an empty slot.

    ``place`` is the rank of the mode that is assigned to it, -1 in an empty slot.
    """

    rotation: np.ndarray
    overlaps: np.ndarray
    matched: np.ndarray
    degenerate: np.ndarray
    blocks: np.ndarray
    place: np.ndarray


def follow(frame: Frame, weight: Tensor, share: float) -> Followed:
    """Decompose a matrix and continue the modes of a frame; start new modes in free slots.

    The leading modes with ``share`` of the squared norm are followed. A mode that was followed once keeps its slot
    until its overlap is too small, or until a new leading mode needs the slot.
    """
    found = decompose(weight)
    values = found.values.cpu().numpy()
    squares = np.square(values).cumsum()
    leading = min(len(frame.blocks), int(np.searchsorted(squares, share * squares[-1])) + 1)
    slots = _continue(frame, found)
    _start_new(slots, values[:leading], found)
    held = np.where(slots.place < 0, np.nan, np.square(slots.rotation) @ values)
    part = min(1.0, float(np.nansum(np.square(held)) / squares[-1]))
    flags = slots.matched.astype(np.int8), slots.degenerate.astype(np.int8)
    return Followed(_frame(found, slots, held), slots.overlaps, *flags, values, leading, part)


def _continue(frame: Frame, found: Decomposition) -> _Slots:
    """Match the modes of the frame with the present ones. Slots whose mode is lost are empty."""
    n = len(frame.blocks)
    empty = np.full(n, -1)
    slots = _Slots(np.zeros((n, len(found.values))), np.full(n, np.nan), *(empty.copy() for _ in range(4)))
    at = (frame.blocks >= 0).nonzero()[:, 0]
    if not len(at):
        return slots
    left, right = overlaps(found, frame.left[at], frame.right[at], frame.blocks[at])
    same = frame.blocks[at][:, None] == found.blocks
    matches = match(*(x.cpu().numpy() for x in (left, right, frame.values[at], found.values, same)))
    lasting = matches.overlap >= CLEAR
    kept = at.cpu().numpy()[lasting]
    slots.rotation[kept], slots.overlaps[kept] = matches.rotation[lasting], matches.overlap[lasting]
    slots.matched[kept], slots.degenerate[kept] = 1, matches.degenerate[lasting]
    slots.blocks[kept], slots.place[kept] = frame.blocks.cpu().numpy()[kept], matches.partner[lasting]
    return slots


def _start_new(slots: _Slots, values: np.ndarray, found: Decomposition) -> None:
    """Put leading modes that no slot continues into empty slots, and then into those of the smallest other modes."""
    taken = np.square(slots.rotation[:, : len(values)]).sum(0)
    new = ((taken < _TAKEN) & (values > RESOLVED * values[0])).nonzero()[0]
    empty, others = (slots.place < 0).nonzero()[0], (slots.place >= len(values)).nonzero()[0]
    free = [*empty, *others[np.argsort(-slots.place[others])]][: len(new)]
    new = new[: len(free)]
    slots.rotation[free] = 0
    slots.rotation[free, new] = 1
    slots.overlaps[free], slots.matched[free], slots.degenerate[free] = np.nan, 0, 0
    slots.blocks[free], slots.place[free] = found.blocks.cpu().numpy()[new], new


def _frame(found: Decomposition, slots: _Slots, values: np.ndarray) -> Frame:
    """Return the modes of the slots."""
    device = found.values.device
    weights, blocks, held = (torch.as_tensor(x, device=device) for x in (slots.rotation, slots.blocks, values))
    left, right = (normalize(side, dim=1).float() for side in combine(found, weights, blocks.clamp(min=0)))
    return Frame(left, right, held, blocks)
