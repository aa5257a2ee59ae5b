"""The variables of the tangent kernel, and its movement since earlier observations."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from probe.forward.snapshot import Snapshot
from probe.layer_probe import Variables
from probe.stats.cones.sketches import SKETCH, kernel_distance

PREVIOUS = "tangent_kernel_previous"
VARIABLES: Variables = {
    "tangent_kernel_trace": ("1", "trace of the tangent kernel", False),
    "tangent_kernel_trace_se": ("1", "standard error over probes", False),
    "tangent_kernel_norm": ("1", "Frobenius norm of the tangent kernel", False),
    "tangent_kernel_norm_se": ("1", "standard error over probes", False),
    "tangent_kernel_effective_rank": ("1", "effective rank of the tangent kernel", False),
    "tangent_kernel_effective_rank_se": ("1", "standard error over probes", False),
    "tangent_kernel_alignment": ("1", "alignment of the tangent kernel with the targets", False),
    "tangent_kernel_alignment_se": ("1", "standard error over probes", False),
    "tangent_kernel_alignment_undefined": ("1", "no targets of the form of the outputs", True),
    "tangent_kernel_moved": ("1", "distance to the previous observation", False),
    "tangent_kernel_moved_se": ("1", "standard error", False),
    "tangent_kernel_velocity": ("1", "distance to the previous observation per step", False),
    "tangent_kernel_velocity_se": ("1", "standard error", False),
    "tangent_kernel_from_first": ("1", "distance to the first observation", False),
    "tangent_kernel_from_first_se": ("1", "standard error", False),
    "tangent_kernel_undefined": ("1", "kernel is 0 or not finite", True),
}


def movement(
    snapshot: Snapshot, sketches: np.ndarray, facts: Mapping[str, int]
) -> tuple[list[dict[str, float]], np.ndarray]:
    """Return the distances of each batch to the first and the previous kernel, and the newest sketches with steps."""
    history, kept = snapshot.history(SKETCH), snapshot.kept(PREVIOUS)
    history = history.reshape(-1, *sketches.shape)
    newest = np.full((len(sketches), sketches.shape[1] + 1), np.nan) if kept is None else kept
    found = []
    for i, sketch in enumerate(sketches):
        finite = [row[i] for row in history if np.isfinite(row[i]).all()]
        compared = partial(kernel_distance, sketch, n_probes=facts["n_probes"], hashed=bool(facts["hashed"]))
        moved, previous = compared(newest[i, :-1]), newest[i, -1]
        cell = dict(_named("from_first", compared(finite[0] if finite else sketch), 1))
        cell |= dict(_named("moved", moved, 1))
        cell |= dict(_named("velocity", moved, snapshot.step - previous))
        if np.isfinite(sketch).all():
            newest[i] = *sketch, snapshot.step
        found.append(cell)
    return found, newest


def _named(name: str, pair: tuple[np.ndarray, np.ndarray], divisor: float) -> Iterator[tuple[str, float]]:
    yield f"tangent_kernel_{name}", float(pair[0]) / divisor
    yield f"tangent_kernel_{name}_se", float(pair[1]) / divisor
