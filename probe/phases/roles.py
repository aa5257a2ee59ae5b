"""Which curve plays which role: chosen by name or function, cut to one layer and split, accuracies as shares."""

import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.phases.curves import hint

Role = str | Callable[[xr.Dataset], xr.DataArray]


class Roles:
    """Curves by role, each (step) or (run, step), or the reason why there is none; and what was assumed.

    Nothing is computed before it is needed, so that curves may lie on disk.

    Parameters
    ----------
    curves : xarray.Dataset
        As :func:`probe.phases.curves.as_dataset` makes it.
    wanted : mapping of str to Role
        Name of a variable, or a function of the Dataset, for each role.
    layer, split
        See :class:`probe.PhaseDetector`.
    """

    def __init__(self, curves: xr.Dataset, wanted: Mapping[str, Role], *, layer: Hashable | None, split: str) -> None:
        self.layer, self.split = layer, split
        self.notes: list[str] = []
        self.found: dict[str, xr.DataArray | str] = {role: self._find(curves, role, w) for role, w in wanted.items()}

    def of_runs(self, block: slice) -> dict[str, xr.DataArray | str]:
        """The same for some runs, by position; curves without runs belong to each."""
        return {
            role: curve.isel(run=block) if isinstance(curve, xr.DataArray) and "run" in curve.dims else curve
            for role, curve in self.found.items()
        }

    def _find(self, curves: xr.Dataset, role: str, wanted: Role) -> xr.DataArray | str:
        if callable(wanted):
            array = wanted(curves)
        elif wanted in curves:
            array = curves[wanted]
        else:
            return f"no variable {wanted!r} for the role {role}; {hint(curves, str(wanted))}"
        chosen = {**self._split_of(array, role), **self._layer_of(array, role)}
        saturated = curves.get("saturated") if role == "information" and wanted == "information_x" else None
        array = array.sel(chosen, drop=True)
        if "step" not in array.dims or set(array.dims) - {"run", "step"}:
            raise ValueError(
                f"expected dimensions (step) or (run, step) for {role}, got {array.dims}; "
                "select one of the others first"
            )
        if array.dtype.kind not in "fiubO":  # an object may be a number, or none
            raise ValueError(f"expected numbers for {role}, got {array.dtype}; convert them first")
        array = array.astype(float).assign_attrs(array.attrs)
        if role.endswith("accuracy"):
            array = self._as_share(array, role)
        if saturated is not None:
            array = self._free(array, saturated.sel(chosen, drop=True) == 1)
        return self._without_infinite(array, role)

    def _without_infinite(self, array: xr.DataArray, role: str) -> xr.DataArray:
        finite = array.where(np.isfinite(array))
        missing = int(finite.isnull().sum())
        if missing and "run" not in array.dims:
            self.notes.append(f"{role}: {missing} of {array.size} observations are missing or not finite, and left out")
        elif infinite := missing - int(array.isnull().sum()):
            self.notes.append(f"{role}: {infinite} of {array.size} observations are infinite, and left out")
        return finite

    def _free(self, array: xr.DataArray, saturated: xr.DataArray) -> xr.DataArray:
        """The information where it is below its ceiling; at the ceiling it says only that the noise is too fine."""
        if count := int(saturated.sum()):
            self.notes.append(
                f"information: saturated at {count} of {saturated.size} observations, left out; more noise would "
                "tell more"
            )
        return array.where(~saturated)

    def _split_of(self, array: xr.DataArray, role: str) -> dict[str, Any]:
        if "split" not in array.dims:
            return {}
        splits = array["split"].values.tolist()
        if self.split not in splits and len(splits) > 1:
            raise ValueError(f"expected split={self.split!r} in {role}, got {splits}; pass split=one of them")
        if self.split not in splits:
            self.notes.append(f"{role}: split {splits[0]!r}, the only one, instead of {self.split!r}")
        return {"split": self.split if self.split in splits else splits[0]}

    def _layer_of(self, array: xr.DataArray, role: str) -> dict[str, Any]:
        if "layer" not in array.dims:
            return {}
        labels = array["layer"].values.tolist()
        if self.layer is not None and self.layer not in labels:
            raise ValueError(f"expected layer={self.layer!r} in {role}, got {labels}; pass layer=one of them")
        measured = np.flatnonzero(array.notnull().any([dim for dim in array.dims if dim != "layer"]))
        chosen = self.layer if self.layer is not None else labels[int(measured[-1]) if len(measured) else -1]
        self.notes.append(f"{role}: layer {chosen!r}" + (", the deepest" if self.layer is None else ""))
        return {"layer": chosen}

    def _as_share(self, array: xr.DataArray, role: str) -> xr.DataArray:
        finite = array.where(np.isfinite(array))
        least, most = float(finite.min()), float(finite.max())  # NaN if nothing was measured
        if least < 0 or most > 100:
            raise ValueError(f"expected {role} in [0, 1] or percent, got {least:g} to {most:g}; is it an accuracy?")
        if not most > 1.5:  # no share is above 1; rounding never reaches 1.5
            return array
        chance = {"chance": array.attrs["chance"] / 100} if "chance" in array.attrs else {}
        also = f", and so is its chance {array.attrs['chance']:g}" if chance else ""
        note = f"{role} goes up to {most:g}: taken as percent and divided by 100{also}"
        warnings.warn(note, UserWarning, stacklevel=6)
        self.notes.append(note)
        return (array / 100).assign_attrs(array.attrs | chance)
