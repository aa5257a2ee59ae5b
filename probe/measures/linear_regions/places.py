"""Where slices and segments lie: inputs of each split, and random points in the box around them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from probe.base import Snapshot
from probe.forward.layers import INPUT
from probe.forward.snapshot import generator
from probe.geometry.partition.slices import Slice, slice_through
from probe.layer_probe import random_rows

RANDOM = "random"  # the split of the points drawn from the box around the others
MAX_POINTS = 1024  # of each split
_ATTEMPTS = 100


def stem_points(snapshot: Snapshot, stem: str, random_state: int) -> dict[str, Tensor]:
    """Return up to 1,024 points of each split, and of the box around them, at the stem, in float64 on the CPU."""
    found = {}
    for split, data in snapshot.data.items():
        rows = random_rows(len(data), MAX_POINTS, random_state)
        if stem == INPUT and isinstance(data.inputs, Tensor):
            values = data.take(rows, snapshot.device)[0]
        else:
            values = snapshot.outputs(split, [stem], reduce="none", rows=rows)[stem]
        found[split] = values.detach().to("cpu", torch.float64)
        if lost := int((~found[split].flatten(1).isfinite().all(1)).sum()):
            raise ValueError(
                f"Expected finite numbers at {stem}, got NaN or infinity in {lost:,} of {len(rows):,} rows of split "
                f"{split!r}; drop these rows, or check the parameters before {stem}"
            )
    if len({values.shape[1:] for values in found.values()}) > 1:
        shapes = {split: tuple(values.shape[1:]) for split, values in found.items()}
        raise ValueError(f"Expected inputs of one shape in all splits, got {shapes}; attach to splits of one shape")
    return found


def with_box(points: Mapping[str, Tensor], random_state: int) -> dict[str, Tensor]:
    """Return the points and, as a further split, points that are uniform in the smallest box around them."""
    together = torch.cat(list(points.values()))
    low, high = together.amin(0), together.amax(0)
    share = torch.rand(MAX_POINTS, *low.shape, generator=generator(random_state), dtype=torch.float64)
    return {**points, RANDOM: low + (high - low) * share}


def slices_through(points: Tensor, n_slices: int, margin: float, half_side: float | None, split: str) -> list[Slice]:
    """Return slices through three different points each. Points of one line are passed over."""
    groups = torch.unique(points.flatten(1), dim=0, return_inverse=True)[1].numpy()
    points = points[np.sort(np.unique(groups, return_index=True)[1])]
    found: list[Slice] = []
    for start in range(0, min(len(points) - 2, 3 * (n_slices + _ATTEMPTS)), 3 if len(points) >= 6 else 1):
        if len(found) == n_slices:
            break
        with suppress(ValueError):
            found.append(slice_through(points[start : start + 3], margin=margin, half_side=half_side))
    if len(found) < n_slices:
        raise ValueError(
            f"Expected three different points that fix a plane for each of {n_slices} slices of split {split!r}, got "
            f"{len(found)} such triples among {len(points)} different points of shape {tuple(points.shape[1:])}; pass "
            "more data, or LinearRegionsProbe(n_slices=0), which measures segments only"
        )
    return found


def selected(splits: str | Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """Return the selected splits among these names."""
    chosen = list(names if splits is None else [splits] if isinstance(splits, str) else splits)
    if not chosen or not set(chosen) <= set(names):
        raise ValueError(f"Expected splits among {', '.join(names)}, got {splits}; correct the names")
    return chosen
