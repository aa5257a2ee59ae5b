"""The leading modes of a sequence of matrices."""

from typing import Any, NamedTuple

import numpy as np
import torch

from probe.geometry.modes.following import Followed, Frame, follow
from probe.stats.validation import check_count


class FollowedModes(NamedTuple):
    """Modes of T matrices in K slots.

    Attributes
    ----------
    values : array of shape (T, K)
        Singular value of the mode in each slot, in the units of the matrix; NaN in an empty slot.
    overlaps : array of shape (T, K)
        Overlap of the mode with itself at the matrix before; NaN for a new mode.
    matched, degenerate : int8 array of shape (T, K)
        1, 0, or -1 in an empty slot. ``matched`` is 0 where a new mode starts, ``degenerate`` 1 for a mode that was
        matched as a part of a subspace.
    spectrum : array of shape (T, n)
        All singular values, the largest first.
    norms : array of shape (T,)
        Frobenius norm.
    """

    values: np.ndarray
    overlaps: np.ndarray
    matched: np.ndarray
    degenerate: np.ndarray
    spectrum: np.ndarray
    norms: np.ndarray


def follow_modes(matrices: Any, *, share: float = 0.9999, max_modes: int = 64) -> FollowedModes:
    """Follow the singular modes of a matrix over time, by the overlap of subspaces and not by their order of size.

    Parameters
    ----------
    matrices : array or Tensor of shape (T, m, n), or sequence of T such matrices
        One matrix for each time, finite and not zero.
    share : float
        The leading modes with this share of the squared norm are followed, from 0 to 1. A mode that was followed once
        keeps its slot until its overlap with itself is below 0.7.
    max_modes : int
        Largest number of slots.

    Returns
    -------
    FollowedModes

    Raises
    ------
    ValueError
        If a matrix is zero, not finite or of another shape than the first one, or a parameter is outside its range.

    See Also
    --------
    probe.WeightModesProbe : The same for all weight matrices of a model in training.
    probe.stats.growth_exponents : Growth of the values in windows of time.

    Notes
    -----
    Where values are closer than their change, single modes have no identity. They are then matched as a subspace, and
    the value of a mode is u' W v with vectors in this subspace that are closest to the earlier ones.

    Examples
    --------
    Two modes cross. The slots follow them:

    >>> import numpy as np
    >>> from probe.geometry import follow_modes
    >>> found = follow_modes([np.diag([3.0, 1.0]), np.diag([2.5, 2.0]), np.diag([2.0, 3.0])], share=1.0)
    >>> found.values.round(6).tolist()
    [[3.0, 1.0], [2.5, 2.0], [2.0, 3.0]]
    """
    check_share(share)
    check_count("max_modes", max_modes, 1)
    rows, shape = list[Followed](), None
    for t, matrix in enumerate(matrices):
        weight = torch.as_tensor(matrix)
        weight = weight if weight.dtype in (torch.float32, torch.float64) else weight.double()
        shape = shape or weight.shape
        if weight.ndim != 2 or weight.shape != shape or not 0 < torch.linalg.vector_norm(weight.double()) < torch.inf:
            raise ValueError(
                f"Expected finite matrices of one shape that are not zero, got {tuple(weight.shape)} at place {t}; "
                "leave out such times"
            )
        before = rows[-1].frame if rows else Frame.empty(min(max_modes, *shape), weight)
        rows.append(follow(before, weight, share))
    if not rows:
        raise ValueError("Expected one matrix or more, got none; pass an array of shape (T, m, n)")
    spectrum = np.stack([row.spectrum for row in rows])
    return FollowedModes(
        np.stack([row.frame.values.cpu().numpy() for row in rows]),
        np.stack([row.overlaps for row in rows]),
        np.stack([row.matched for row in rows]),
        np.stack([row.degenerate for row in rows]),
        spectrum,
        np.sqrt(np.square(spectrum).sum(1)),
    )


def check_share(share: Any) -> None:
    """Raise ValueError unless ``share`` is a number above 0 and at most 1."""
    if not (isinstance(share, int | float) and 0 < share <= 1):
        raise ValueError(f"Expected share above 0 and at most 1, got {share!r}; pass a share such as 0.9999")
