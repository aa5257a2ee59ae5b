"""Entry into the cone: the step from which the tangent kernel stays near one kernel."""

import numpy as np

from probe.phases.markers.marker import Marker, Status, check_steps, too_few
from probe.stats.cones.cone import Cone, cone_entry
from probe.stats.cones.sketches import observed_kernels

_LEAST = 12  # observations, as cone_entry needs
INTERVAL = "last observation outside, last doubtful observation inside"


def kernel_cone(steps: np.ndarray, distances: np.ndarray) -> Marker:
    """Find the entry of the tangent kernel into a cone, by :func:`probe.stats.cone_entry`.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps.
    distances : array of shape (n, n, 2) or (n, n, 3)
        Distances between the kernels of all steps, one minus a cosine, of two disjoint batches of inputs. Steps that
        have no kernel are NaN. A third entry of the last axis is the norm of the kernel of each row.

    Returns
    -------
    Marker
        With norms, the rule of a marker that was found has their changes before and within the cone. If the first
        observation lies in the cone, the reason has the change within.
    """
    rule = "cone of tangent kernels"
    check_steps(steps)
    seen = observed_kernels(np.moveaxis(distances[..., :2], -1, 0))
    s, d = steps[seen], distances[seen][:, seen, :2]
    norms = distances[seen, 0, 2] if distances.shape[-1] > 2 else np.full(len(s), np.nan)
    if len(s) < _LEAST:
        return too_few(s, rule, _LEAST)
    if not np.isfinite(d).all():
        return Marker(Status.UNDEFINED, rule, reason="distances between observed kernels are missing; record all pairs")
    known = np.isfinite(norms).all() and (norms > 0).all()
    cone = cone_entry(s, d[..., 0], d[..., 1], norms=norms if known else None)
    if cone.status != Status.FOUND:
        return Marker(Status(cone.status), rule, reason=cone.reason + _size(cone))
    rule += f" of radius {cone.radius:.2g} rad ({cone.radius_lower:.2g} to {cone.radius_upper:.2g}){_size(cone)}"
    return Marker(Status.FOUND, rule, cone.step, cone.lower, cone.upper, INTERVAL)


def _size(cone: Cone) -> str:
    """Return how the norm of the kernel changes, which distances do not show; empty if it is unknown."""
    if not np.isfinite(cone.size_within):
        return ""
    sizes = cone.size_before, cone.size_within
    before, within = (f"{size:,.0f}" if size >= 100 else f"{size:.2g}" for size in sizes)
    entry = f"{before} before the entry and of " if cone.reference else ""
    return f"; the norm of the kernel changes by a factor of {entry}{within} within the cone"
