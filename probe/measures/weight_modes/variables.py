"""The variables of the probe, and the table of one observation."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from probe.base import Measured
from probe.geometry.modes.following import Followed
from probe.layer_probe import Variables, tabulated
from probe.measures.weight_modes.state import Kept

_MATRIX: Variables = {
    "mode_norm": ("1", "Frobenius norm", False),
    "mode_update_norm": ("1", "norm of the difference from the last finite observation before", False),
    "mode_count": ("1", "number of leading modes that hold the share", False),
    "mode_share": ("1", "share of the squared norm in the followed modes", False),
    "mode_undefined": ("1", "zero, not finite or of another shape", True),
}


class Row(NamedTuple):
    """One matrix at one observation: what is kept, numbers by name, and the modes, if there are any."""

    kept: Kept
    cells: Mapping[str, float]
    found: Followed | None = None


def tabulated_modes(
    names: Sequence[str], rows: Sequence[Row], lengths: Sequence[int], attrs: Mapping[str, Any]
) -> dict[str, Measured]:
    """Return the variables of all matrices.

    ``lengths`` are the numbers of modes and of ranks at the first observation, or 0 before it.
    """
    shapes = [row.kept.shape for row in rows]
    slots = lengths[0] or max([len(row.kept.frame.blocks) for row in rows] + [1])
    sizes = [k * min(m, n) for (k, m, n), row in zip(shapes, rows, strict=True) if len(row.kept.frame.blocks)]
    ranks = lengths[1] or max([*sizes, 1])
    facts = {**attrs, "shapes": json.dumps(dict(zip(names, (list(map(int, shape)) for shape in shapes), strict=True)))}
    found = [row.found for row in rows]
    columns = {
        "mode_singular_value": ("singular value of a mode", [f and f.frame.values.cpu().numpy() for f in found], slots),
        "mode_overlap": ("overlap with the observation before", [f and f.overlaps for f in found], slots),
        "mode_spectrum": ("singular values by size", [f and f.spectrum for f in found], ranks),
        "mode_matched": ("same mode as before", [f and f.matched for f in found], slots),
        "mode_degenerate": ("matched as a part of a subspace", [f and f.degenerate for f in found], slots),
    }
    table = tabulated([row.cells for row in rows], _MATRIX, {"parameter": names}, facts)
    for name, (text, arrays, length) in columns.items():
        flag = name in ("mode_matched", "mode_degenerate")
        dim = "rank" if name == "mode_spectrum" else "mode"
        coords = {"parameter": names, dim: list(range(length))}
        values = np.stack([_padded(array, length, -1 if flag else math.nan) for array in arrays])
        table[name] = Measured(values, tuple(coords), coords, long_name=text, flag=flag)
    return table


def _padded(array: np.ndarray | None, length: int, missing: float) -> np.ndarray:
    """Return an array of this length; None is an empty one."""
    found = np.full(length, missing)
    if array is not None:
        found[: len(array)] = array
    return found
