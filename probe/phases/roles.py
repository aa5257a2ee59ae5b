"""Select the curve of each role: by name or function, for one layer and one split, with accuracies as shares."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.phases.accuracies import as_shares
from probe.phases.curves import hint, named, near_variables, no_curve
from probe.phases.recorded import DEFAULTS as RECORDED, distance_curve, growth_curve, unusable, variable_of
from probe.readers.names import ROLES, check_clear, guess_roles, role_of

Role = str | Callable[[xr.Dataset], xr.DataArray] | None

_LARGEST = 1e150  # squares of larger values are infinite

DEFAULTS = {**{role: role for role in ROLES}, "information": "information_x", **RECORDED}


class Roles:
    """Curves by role, each (step) or (run, step), or the reason why there is none, and notes on assumptions.

    Growth may have the dimension ``direction``, and distances of kernels have ``step_ref`` and ``batch`` (last).

    Values are read only when they are needed, so that curves may lie on disk.

    Parameters
    ----------
    curves : xarray.Dataset
        Result of :func:`probe.phases.curves.as_dataset`.
    wanted : mapping of str to Role
        For each role, the name of a variable, its name in a log, a function of the Dataset, or None for a role that is
        not used. A default name that the Dataset lacks is replaced by another usual name.
    layer, split
        See :class:`probe.PhaseDetector`.

    Attributes
    ----------
    names : dict of str to str
        By role, the variable; roles without one are left out.
    found : dict
        By role, a curve, or a string that states why there is none.
    notes : list of str
        Assumptions and changes of the values.

    Raises
    ------
    ValueError
        If a name is not a variable, several variables fit one role, or no role has a curve.

    Warns
    -----
    probe.errors.ProbeWarning
        As :func:`probe.phases.accuracies.as_shares`.
    """

    def __init__(self, curves: xr.Dataset, wanted: Mapping[str, Role], *, layer: Hashable | None, split: str) -> None:
        self.layer, self.split = layer, split
        self.notes: list[str] = []
        self.names = self._names(curves, wanted)
        self.found: dict[str, xr.DataArray | str] = {
            role: self._find(curves, role, wanted[role]) for role in wanted if wanted[role] is not None
        }
        self.found |= {role: f"{role} is not used" for role in wanted if wanted[role] is None}
        if all(isinstance(curve, str) for curve in self.found.values()):
            raise ValueError(no_curve(curves, unusable(self.found)))
        arrays = {role: curve for role, curve in self.found.items() if isinstance(curve, xr.DataArray)}
        logged = {role: str(curves[name].attrs.get("logged_as", name)) for role, name in self.names.items()}
        self.found |= as_shares(arrays, logged, self.notes)
        self.found = {
            role: self.found[role] if role in RECORDED else self._without_infinite(self.found[role], role)
            for role in wanted
        }

    def _names(self, curves: xr.Dataset, wanted: Mapping[str, Role]) -> dict[str, str]:
        """Return the variable of each role: the given one, or else the only one with a usual name."""
        given = {role: name for role, name in wanted.items() if isinstance(name, str)}
        names = {role: found for role, name in given.items() if (found := _variable(curves, name)) is not None}
        for role, name in given.items():
            if role not in names and name != DEFAULTS.get(role):
                raise ValueError(
                    f"Expected a variable of the curves as {role}, got {name!r}; {near_variables(curves, name)}"
                )
        if all(role in names or role not in given for role in ROLES):
            return names
        logged = {  # the reader names curves by their roles
            name: str(array.attrs.get("logged_as", name)) if name in ROLES else name
            for name, array in ((str(key), array) for key, array in curves.data_vars.items())
        }
        # The choices of the reader are made again here, so that a name that it left out is not chosen for a free role.
        taken = {role: logged[name] for role, name in names.items() if role in ROLES and logged[name] == name}
        taken |= {role: role for role in ROLES if role not in given}  # a function, or not used
        lengths = {name: _length(curves[key]) for key, name in logged.items() if _is_curve(name, curves[key])}
        chosen, unclear = guess_roles(lengths | dict.fromkeys(taken.values(), 4), taken)
        check_clear([(role, fit) for role, fit in unclear if role in given and role not in names], "the curves")
        variables = {name: key for key, name in logged.items()}
        free = {role: variables[name] for role, name in chosen.items() if role not in names and role in given}
        guessed = {role: name for role, name in free.items() if name not in names.values()}
        if guessed:
            self.notes.append("in the curves, " + ", ".join(f"{role} is {name!r}" for role, name in guessed.items()))
        return names | guessed

    def of_runs(self, block: slice) -> dict[str, xr.DataArray | str]:
        """Return the curves of some runs, by position; a curve without runs belongs to each of them."""
        return {
            role: curve.isel(run=block) if isinstance(curve, xr.DataArray) and "run" in curve.dims else curve
            for role, curve in self.found.items()
        }

    def _find(self, curves: xr.Dataset, role: str, wanted: Role) -> xr.DataArray | str:
        if callable(wanted):
            array = wanted(curves)
        elif role in self.names:
            array = curves[self.names[role]]
        elif role in RECORDED:
            name, reason = variable_of(curves, role)
            if not name:
                return f"no variable for {role}; {reason}"
            array = curves[name]
            if not name.startswith(("chaos", "tangent_kernel")):
                self.notes.append(f"{role} is {name!r}")
        else:
            return f"no variable for {role}; {hint(curves, role, self.names.values())}"
        if role == "growth":
            return growth_curve(curves, array, self.notes)
        if role == "kernel_distances":
            return distance_curve(curves, array, self.split, self.notes)
        chosen = {**self._split_of(array, role), **self._layer_of(array, role)}
        saturated = curves.get("saturated") if self.names.get(role) == "information_x" else None
        array = _as_numbers(array.sel(chosen, drop=True), role)
        if saturated is not None:
            array = self._without_saturated(array, saturated.sel(chosen, drop=True) == 1)
        return array

    def _without_infinite(self, array: xr.DataArray | str, role: str) -> xr.DataArray | str:
        if isinstance(array, str):
            return array
        values = array.variable.data
        finite = np.abs(values) <= _LARGEST  # false for NaN
        missing = array.size - int(finite.sum())
        infinite = missing - int(np.isnan(values).sum()) if missing else 0
        kind = "infinite" if np.isinf(values[~finite & ~np.isnan(values)]).all() else f"infinite or above {_LARGEST:g}"
        if missing and "run" not in array.dims:
            self.notes.append(f"{role}: {missing} of {array.size} observations are missing or {kind}, and skipped")
        elif infinite:
            self.notes.append(f"{role}: {infinite} of {array.size} observations are {kind}, and skipped")
        return array.copy(data=np.where(finite, values, np.nan)) if infinite else array

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


def _variable(curves: xr.Dataset, name: str) -> str | None:
    """Return the variable with this name, or with this name in the log."""
    name = named(curves, name)
    return name if name in curves.data_vars else None


def _is_curve(name: str, array: xr.DataArray) -> bool:
    """Return whether a variable has a usual name, and the form of a curve."""
    return role_of(name) is not None and "step" in array.dims and not set(array.dims) - {"run", "step"}


def _length(array: xr.DataArray) -> int:
    """Return the number of steps at which any run has a value."""
    return int(array.notnull().any([dim for dim in array.dims if dim != "step"]).sum())


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
