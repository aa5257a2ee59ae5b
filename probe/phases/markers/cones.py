"""Entry into the cone: the step from which the tangent kernel stays near one kernel."""

import numpy as np

from probe.phases.markers.marker import Marker, Status, check_steps, too_few
from probe.stats.cone import cone_entry
from probe.stats.sketches import observed_kernels

_LEAST = 12  # observations, as cone_entry needs
INTERVAL = "last observation outside, last doubtful observation inside"


def kernel_cone(steps: np.ndarray, distances: np.ndarray) -> Marker:
    """Find the entry of the tangent kernel into a cone, by :func:`probe.stats.cone_entry`.

    Parameters
    ----------
    steps : array of shape (n,)
        Optimiser steps.
    distances : array of shape (n, n, 2)
        Distances between the kernels of all steps, one minus a cosine, of two disjoint batches of inputs. Steps that
        have no kernel are NaN.

    Returns
    -------
    Marker
    """
    rule = "cone of tangent kernels"
    check_steps(steps)
    seen = observed_kernels(np.moveaxis(distances, -1, 0))
    s, d = steps[seen], distances[seen][:, seen]
    if len(s) < _LEAST:
        return too_few(s, rule, _LEAST)
    if not np.isfinite(d).all():
        return Marker(Status.UNDEFINED, rule, reason="distances between observed kernels are missing; record all pairs")
    cone = cone_entry(s, d[..., 0], d[..., 1])
    if cone.status != Status.FOUND:
        return Marker(Status(cone.status), rule, reason=cone.reason)
    rule += f" of radius {cone.radius:.2g} rad ({cone.radius_lower:.2g} to {cone.radius_upper:.2g})"
    return Marker(Status.FOUND, rule, cone.step, cone.lower, cone.upper, INTERVAL)
