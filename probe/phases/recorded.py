"""Curves that probes record with further dimensions: the growth of a perturbation, distances of tangent kernels.

A perturbation counts in random directions. The gradient and the largest curvature are special directions, in which
perturbations may grow throughout a stable training. A perturbation grows if it grows at any small size, so the growth
is the largest one. In a network without kinks all
small sizes have the growth of the derivative. In a network with kinks, such as a ReLU network, the growth at a finite
size comes from crossings of kinks, and the derivative does not contain them.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from probe.phases.markers.growth import GROWS
from probe.stats.cones.kernel_records import DISTANCE, kernels_of, norm_of, splits_of
from probe.stats.cones.sketches import SKETCH

DEFAULTS = {"growth": "chaos_growth", "kernel_distances": DISTANCE}
TANGENT = "chaos_tangent_growth"
RANDOM = "gaussian"  # direction of a ChaosProbe
SMALL = 1e-3  # largest size of a perturbation, relative to the norm of the parameters, that counts as small
# What the reasons of curves end with of which nothing is recorded; the summary leaves them out.
PROBES = {"growth": "a ChaosProbe records it", "kernel_distances": "a TangentKernelProbe records it"}
_NEAR = {"growth": ("growth", "lyapunov"), "kernel_distances": ("kernel",)}


def variable_of(curves: xr.Dataset, role: str) -> tuple[str, str]:
    """Return the variable of a role that a probe recorded, and why there is none; one of both is empty.

    A set of probes writes the name of a probe before the names of its variables.
    """
    names = [str(name) for name, array in curves.data_vars.items() if "step" in array.dims]
    wanted = [DEFAULTS[role], *([SKETCH] if role == "kernel_distances" else [])]
    for name in wanted:
        if name in names:
            return name, ""
    for name in wanted:
        found = [other for other in names if other.endswith(f"_{name}")]
        if len(found) == 1:
            return found[0], ""
        if found:
            return "", f"several of them; pass {role}= with the name of yours, such as {found[0]!r}"
    near = [name for name in names if any(part in name.lower() for part in _NEAR[role]) and name != SKETCH]
    if not near:
        return "", PROBES[role]
    if role == "kernel_distances":
        return "", f"keep {SKETCH} in the series, or pass {role}= with distances (step, step_ref)"
    return "", f"pass {role}= with the name of yours, such as {near[0]!r}"


def unusable(found: Mapping[str, object]) -> dict[str, str]:
    """Return the reason, by role, of each curve that a probe recorded and that cannot be used."""
    return {
        role: reason
        for role in DEFAULTS
        if isinstance(reason := found.get(role), str) and not reason.endswith((PROBES[role], f"{role} is not used"))
    }


def growth_curve(curves: xr.Dataset, array: xr.DataArray, notes: list[str]) -> xr.DataArray:
    """Return log growth (nats) over step, and over run and direction if it has them.

    Of the directions of a `ChaosProbe` only the random one counts, if it was recorded.
    Over ``size`` it is the largest growth of the sizes up to `SMALL` (the smallest one if all are larger) and of the
    derivative. Rounding leaves sizes without a value. At a step without any size, the derivative counts alone, unless
    a size differs from it by more than `GROWS` at another step: then it is blind.
    """
    _check(array, "growth", {"run", "step", "direction", "size"})
    array = _random(array.astype(float), notes)
    if "size" not in array.dims:
        return array
    sizes = array["size"].values.astype(float)
    small = sizes <= SMALL * (1 + 1e-6)
    chosen = array.isel(size=np.flatnonzero(small if small.any() else sizes == sizes.min()))
    twins = chosen.max("size").assign_attrs(array.attrs).rename(array.name)
    name = str(array.name).removesuffix(DEFAULTS["growth"]) + TANGENT
    if not str(array.name).endswith(DEFAULTS["growth"]) or name not in curves:
        return twins
    tangent, measured = curves[name].astype(float), twins.notnull()
    tangent = tangent.sel(direction=twins["direction"]) if "direction" in twins.coords else tangent
    kinks = (chosen - tangent > GROWS).any(["step", "size"])
    alone = ~measured & tangent.notnull() & ~kinks
    if count := int(alone.sum()):
        notes.append(
            f"growth: the derivative alone at {count} of {twins.size} observations, without a size above rounding"
        )
    largest = xr.apply_ufunc(np.fmax, twins, tangent.where(measured | alone), dask="allowed")
    return largest.transpose(*twins.dims).assign_attrs(array.attrs).rename(array.name)


def _random(array: xr.DataArray, notes: list[str]) -> xr.DataArray:
    """Return the random direction alone, and note the others; all directions without names or a random one."""
    names = array["direction"].values.tolist() if "direction" in array.coords and "direction" in array.dims else []
    if RANDOM not in names:
        return array
    if len(names) > 1:
        others = ", ".join(repr(name) for name in names if name != RANDOM)
        notes.append(f"growth: direction {RANDOM!r} alone; {others} not used, pass growth= with a function for another")
    return array.sel(direction=[RANDOM])


def distance_curve(curves: xr.Dataset, array: xr.DataArray, split: str, notes: list[str]) -> xr.DataArray | str:
    """Return distances over (step, step_ref, batch) of two batches, also over ``run`` if given, or why there are none.

    If norms of the kernels are recorded, they are a third entry of ``batch``, the same for each ``step_ref``.
    """
    name, names = str(array.name), splits_of(array)
    if names and split not in names:
        if len(names) > 1:
            return f"no split {split!r} of {name}; pass split= with one of {', '.join(names)}"
        notes.append(f"kernel_distances: split {names[0]!r}, the only one, replaces {split!r}")
        split = names[0]
    if "sketch" in array.dims and not {"n_probes", "hashed", "n_numbers"} <= set(array.attrs):
        return f"{name} has not the attributes that its probe recorded; read the runs one by one"
    if "sketch" not in array.dims:
        _check(array, "kernel_distances", {"run", "split", "step", "step_ref", "batch"}, ("step", "step_ref"))
    kernels = kernels_of(array, split if names else None, norm=norm_of(curves, name))
    both = kernels.two_batches()
    if both is None:
        return f"one batch in {kernels.distance.name}, which cannot separate movement from jitter; record n_batches=2"
    parts = [both.astype(float).drop_vars("batch", errors="ignore")]
    if kernels.norm is not None:
        parts.append(kernels.norm.astype(float).expand_dims(step_ref=both["step_ref"], batch=1))
    joined = xr.concat(parts, "batch", coords="minimal", compat="override", combine_attrs="override")
    return joined.rename(kernels.distance.name).transpose(..., "step", "step_ref", "batch")


def _check(array: xr.DataArray, role: str, allowed: set[str], needed: tuple[str, ...] = ("step",)) -> None:
    if set(array.dims) - allowed or set(needed) - set(array.dims):
        raise ValueError(
            f"Expected dimensions among {', '.join(sorted(allowed))} and at least {', '.join(needed)} for {role}, got "
            f"{array.dims}; select one value of the others first, for example with a function as the role."
        )
    if array.dtype.kind not in "fiu":
        raise ValueError(f"Expected numbers for {role}, got {array.dtype}; convert the values first.")
