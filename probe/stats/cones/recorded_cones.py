"""Cones of recorded tangent kernels."""

import numpy as np
import xarray as xr

from probe.stats.cones.cone import Cone, cone_entry
from probe.stats.cones.cone_window import cone_radius
from probe.stats.cones.kernel_records import recorded_kernels
from probe.stats.cones.sketches import SKETCH, observed_kernels

_RAD = "rad"
_NUMBERS = {  # variable: field of Cone, unit, text
    "entry": ("step", "1", "first observed step in the cone"),
    "entry_lower": ("lower", "1", "interval of the entry"),
    "entry_upper": ("upper", "1", "interval of the entry"),
    "radius": ("radius", _RAD, "radius of the cone"),
    "radius_lower": ("radius_lower", _RAD, "interval of the radius"),
    "radius_upper": ("radius_upper", _RAD, "interval of the radius"),
    "size_before": ("size_before", "1", "norm at the entry over the first norm"),
    "size_within": ("size_within", "1", "last norm over the norm at the entry"),
    "movement": ("movement", "1", "share of movement in the squared distances"),
    "movement_z": ("movement_z", "1", "standard score of the movement"),
    "path_ratio": ("path_ratio", "1", "squared extent over that of a random walk"),
    "growth": ("growth", "1", "growth of the squared distance with the window"),
    "growth_limit": ("growth_limit", "1", "largest growth of a cone"),
}
_CURVES = {
    "to_reference": "distance to the first kernel in the cone",
    "window": "steps since the last fast movement",
    "window_radius": "radius over the window",
    "window_lower": "interval of the radius over the window",
    "window_upper": "interval of the radius over the window",
    "window_walk": "radius of a random walk with the same steps",
}


def cone_of(series: xr.Dataset, split: str | None = None, *, variable: str = SKETCH, level: float = 0.9) -> xr.Dataset:
    """Find the cone of recorded tangent kernels: its entry, radius and size, for each run.

    This is :func:`cone_entry` on the distances of the first two batches of one split, with the geometric mean of their
    norms, and :func:`cone_radius` from the last fast movement on.

    Parameters
    ----------
    series : xarray.Dataset
        What :class:`probe.TangentKernelProbe` has recorded, of one run or several. It contains sketches, or
        ``tangent_kernel_distance`` in the layout of :func:`kernel_distances`.
    split : str, optional
        Name of the split. Default: "train", or else the only one.
    variable : str
        Name of the sketches. In a set of probes it has the name of the probe as a prefix.
    level : float
        Coverage of the intervals of the radius, in (0, 1).

    Returns
    -------
    xarray.Dataset
        Fields of :class:`Cone`, with the dimension ``run`` for several runs. ``entry``, ``entry_lower`` and
        ``entry_upper`` are its ``step``, ``lower`` and ``upper``. Over ``step``: ``to_reference``, and ``window``,
        ``window_radius``, ``window_lower``, ``window_upper`` and ``window_walk``, the fields of :class:`ConeRadius`.
        Observations without a kernel are NaN.

    Raises
    ------
    ValueError
        If the series has no kernels, no such split, or a single batch whose kernels are not whole.

    See Also
    --------
    probe.PhaseDetector : Reports the entry among other markers.

    Examples
    --------
    >>> import torch
    >>> from probe import TangentKernelProbe
    >>> from probe.stats import cone_of
    >>> model = torch.nn.Linear(3, 1)  # its kernel does not move
    >>> probe = TangentKernelProbe().attach(model, (torch.eye(3), None))
    >>> for step in range(12):
    ...     _ = probe.observe(step)
    >>> cone_of(probe.detach().series_)["status"].item()
    'absent'
    """
    kernels = recorded_kernels(series, split, variable=variable)
    distances = kernels.two_batches()
    if distances is None:
        raise ValueError(
            "Expected two batches, of which the second one shows what is jitter, got one; record with n_batches=2"
        )
    unknown = xr.full_like(distances.isel(step_ref=0, batch=0, drop=True), np.nan)
    norm = unknown if kernels.norm is None else kernels.norm
    several = "run" in distances.dims
    if not several:
        distances, norm = distances.expand_dims("run"), norm.expand_dims("run")
    values, sizes = distances.transpose("run", ...).values.astype(float), norm.transpose("run", "step").values
    steps = series["step"].values
    runs = [_of_run(steps, *pair, level=level) for pair in zip(values, sizes, strict=True)]
    found = xr.concat(runs, "run").assign_coords({"run": norm["run"]} if "run" in norm.coords else {})
    return found if several else found.isel(run=0, drop=True)


def _of_run(steps: np.ndarray, distances: np.ndarray, norms: np.ndarray, level: float) -> xr.Dataset:
    """Return the cone of one run, from distances (2, n, n) that are NaN where an observation is missing."""
    seen = observed_kernels(distances)
    first, second = distances[:, seen][:, :, seen]
    sizes = norms[seen] if np.isfinite(norms[seen]).all() and len(seen) else None
    cone = cone_entry(steps[seen], first, second, norms=sizes, level=level)
    found = {name: ((), getattr(cone, field), _attrs(unit, text)) for name, (field, unit, text) in _NUMBERS.items()}
    curves = {name: np.full(len(steps), np.nan) for name in _CURVES}
    curves["to_reference"][seen] = cone.to_reference
    for name, values in _windows(steps[seen], (first + second) / 2, cone, level).items():
        curves[name][seen[cone.start + 1 :]] = values
    over_step = {
        name: ("step", curves[name], _attrs("1" if name == "window" else _RAD, text)) for name, text in _CURVES.items()
    }
    texts = {name: ((), getattr(cone, name)) for name in ("status", "reason")}
    return xr.Dataset({**texts, **found, **over_step}, {"step": steps})


def _windows(steps: np.ndarray, distances: np.ndarray, cone: Cone, level: float) -> dict[str, np.ndarray]:
    """Return the radius over the window since the last fast movement, if there are observations."""
    if not 0 <= cone.start < len(steps) - 1:
        return {}
    movement = 1.0 if np.isnan(cone.movement) else min(cone.movement, 1.0)
    found = cone_radius(steps, distances, cone.start, movement=movement, level=level)
    names = "window", "window_radius", "window_lower", "window_upper", "window_walk"
    return dict(zip(names, found, strict=True))


def _attrs(unit: str, text: str) -> dict[str, str]:
    return {"units": unit, "long_name": text}
