"""Select the curve of each role: by name or function, for one layer and one split, with accuracies as shares."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.errors import warn_user
from probe.phases.curves import hint
from probe.readers.names import SPLITS

Role = str | Callable[[xr.Dataset], xr.DataArray]

_LEAST_PERCENT = 1.5  # no share is above 1, and rounding never reaches 1.5


class Roles:
    """Curves by role, each (step) or (run, step), or the reason why there is none, and notes on assumptions.

    Values are read only when they are needed, so that curves may lie on disk.

    Parameters
    ----------
    curves : xarray.Dataset
        Result of :func:`probe.phases.curves.as_dataset`.
    wanted : mapping of str to Role
        For each role, the name of a variable or a function of the Dataset.
    layer, split
        See :class:`probe.PhaseDetector`.

    Attributes
    ----------
    found : dict
        By role, a curve, or a string that states why there is none.
    notes : list of str
        Assumptions and changes of the values.
    """

    def __init__(self, curves: xr.Dataset, wanted: Mapping[str, Role], *, layer: Hashable | None, split: str) -> None:
        self.layer, self.split = layer, split
        self.notes: list[str] = []
        self.found: dict[str, xr.DataArray | str] = {role: self._find(curves, role, w) for role, w in wanted.items()}

    def of_runs(self, block: slice) -> dict[str, xr.DataArray | str]:
        """Return the curves of some runs, by position; a curve without runs belongs to each of them."""
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
            others = _of_the_same_split(curves, wanted) if wanted == role else []
            if len(others) != 1:
                several = f"pass {role}= with one of {', '.join(others)}" if others else hint(curves, str(wanted))
                return f"no variable {wanted!r} for the role {role}; {several}"
            self.notes.append(f"{role}: the variable {others[0]!r}, since there is no {wanted!r}")
            array = curves[others[0]]
        chosen = {**self._split_of(array, role), **self._layer_of(array, role)}
        saturated = curves.get("saturated") if role == "information" and wanted == "information_x" else None
        array = _as_numbers(array.sel(chosen, drop=True), role)
        if role.endswith("accuracy"):
            array = self._as_share(array, role)
        if saturated is not None:
            array = self._without_saturated(array, saturated.sel(chosen, drop=True) == 1)
        return self._without_infinite(array, role)

    def _without_infinite(self, array: xr.DataArray, role: str) -> xr.DataArray:
        finite = array.where(np.isfinite(array))
        missing = int(finite.isnull().sum())
        if missing and "run" not in array.dims:
            self.notes.append(f"{role}: {missing} of {array.size} observations are missing or infinite, and skipped")
        elif infinite := missing - int(array.isnull().sum()):
            self.notes.append(f"{role}: {infinite} of {array.size} observations are infinite, and skipped")
        return finite

    def _without_saturated(self, array: xr.DataArray, saturated: xr.DataArray) -> xr.DataArray:
        """Drop information at its ceiling, where it shows only that the noise is too small."""
        if count := int(saturated.sum()):
            self.notes.append(
                f"information: {count} of {saturated.size} observations are saturated, and skipped; measure with "
                "more noise"
            )
        return array.where(~saturated)

    def _split_of(self, array: xr.DataArray, role: str) -> dict[str, Any]:
        if "split" not in array.dims:
            return {}
        splits = array["split"].values.tolist()
        if self.split not in splits and len(splits) > 1:
            raise ValueError(f"Expected split={self.split!r} in {role}, got {splits}; pass split= with one of them.")
        if self.split not in splits:
            self.notes.append(f"{role}: split {splits[0]!r}, the only one, replaces {self.split!r}")
        return {"split": self.split if self.split in splits else splits[0]}

    def _layer_of(self, array: xr.DataArray, role: str) -> dict[str, Any]:
        if "layer" not in array.dims:
            return {}
        labels = array["layer"].values.tolist()
        if self.layer is not None and self.layer not in labels:
            raise ValueError(f"Expected layer={self.layer!r} in {role}, got {labels}; pass layer= with one of them.")
        measured = np.flatnonzero(array.notnull().any([dim for dim in array.dims if dim != "layer"]))
        chosen = self.layer if self.layer is not None else labels[int(measured[-1]) if len(measured) else -1]
        self.notes.append(f"{role}: layer {chosen!r}" + (", the deepest" if self.layer is None else ""))
        return {"layer": chosen}

    def _as_share(self, array: xr.DataArray, role: str) -> xr.DataArray:
        """Convert percent to shares, with a note and a warning."""
        finite = array.where(np.isfinite(array))
        least, most = float(finite.min()), float(finite.max())  # NaN if there is no value
        if least < 0 or most > 100:
            raise ValueError(
                f"Expected {role} in [0, 1] or [0, 100], got {least:g} to {most:g}; pass an accuracy, not a loss or an "
                "error in other units."
            )
        if not most > _LEAST_PERCENT:
            return array
        chance = {"chance": array.attrs["chance"] / 100} if "chance" in array.attrs else {}
        also = f"; its chance, {array.attrs['chance']:g}, is divided too" if chance else ""
        note = f"{role} has a maximum of {most:g} and is read as percent: its values are divided by 100{also}"
        warn_user(
            f"Expected {role} in [0, 1], got a maximum of {most:g}; pass shares, or accept that the values are read as "
            f"percent and divided by 100{also}."
        )
        self.notes.append(note)
        return (array / 100).assign_attrs(array.attrs | chance)


def _of_the_same_split(curves: xr.Dataset, wanted: str) -> list[str]:
    """Return variables whose split has another usual name, as ``val_loss`` for ``test_loss``."""
    split, _, measure = wanted.partition("_")
    return [name for other in sorted(SPLITS.get(split, ())) if (name := f"{other}_{measure}") in curves]


def _as_numbers(array: xr.DataArray, role: str) -> xr.DataArray:
    """Return the curve of a role as float64, after a check of its dimensions and its type."""
    if "step" not in array.dims or set(array.dims) - {"run", "step"}:
        raise ValueError(
            f"Expected dimensions (step) or (run, step) for {role}, got {array.dims}; select one value of the others "
            "first, for example with a function as the role."
        )
    if array.dtype.kind not in "fiubO":  # an object may be a number, or None
        raise ValueError(f"Expected numbers for {role}, got {array.dtype}; convert the values first.")
    return array.astype(float).assign_attrs(array.attrs)
