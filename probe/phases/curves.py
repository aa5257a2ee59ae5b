"""Curves as people have them, a Dataset, a DataFrame or arrays, as one Dataset over ``step``, run by run."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from probe.readers import read

Curves: TypeAlias = xr.Dataset | pd.DataFrame | Mapping[str, ArrayLike]

_LEAST = 4  # observations: the fewest that can rise and fall between two ends


def as_dataset(curves: Curves, axis: str = "step") -> xr.Dataset:
    """Curves of any form as a Dataset over ``step``, which is what `axis` is called from here on.

    A DataFrame with a column ``run`` has one row for each run and step; steps that a run lacks are missing values.
    Errors say what is wrong with the curves.
    """
    if isinstance(curves, pd.DataFrame):
        dataset = _from_frame(curves, axis)
    elif isinstance(curves, xr.Dataset):
        dataset = curves
    elif isinstance(curves, Mapping):
        dataset = _from_mapping(curves, axis)
    else:
        raise TypeError(f"expected a Dataset, a DataFrame or a mapping of arrays, got {type(curves).__name__}")
    if axis not in dataset.coords or dataset[axis].dims != (axis,):
        raise ValueError(
            f"expected {axis!r} in the curves, got {list(map(str, dataset.variables))}; rename yours to {axis!r}, or "
            "pass its name as axis="
        )
    if axis != "step":
        dataset = dataset.drop_vars("step", errors="ignore").rename({axis: "step"})
    dataset = dataset.assign_coords(step=dataset["step"].assign_attrs(axis=axis))
    _check_steps(dataset["step"].values, axis)
    if not dataset.sizes.get("run", 1):
        raise ValueError("expected at least one run, got none; is the selection of runs empty?")
    return dataset


def from_path(path: str | os.PathLike[str], axis: str, roles: Mapping[str, Any]) -> xr.Dataset:
    """Curves of a log or a folder of logs, see :func:`probe.readers.read`; names of roles are those in the log."""
    given: dict[str, Any] = {role: name for role, name in roles.items() if isinstance(name, str) and name != role}
    curves = read(path, axis=None if axis == "step" else axis, **given)
    return curves if axis == "step" else curves.rename(step=axis)


def named(curves: xr.Dataset, role: Any) -> Any:
    """A role as it is, or the variable that was called so in the log it was read from."""
    if callable(role) or role in curves:
        return role
    return next((name for name, array in curves.data_vars.items() if array.attrs.get("logged_as") == role), role)


def _check_steps(steps: np.ndarray, axis: str) -> None:
    if steps.dtype.kind not in "fiu":
        raise ValueError(f"expected numbers as {axis}s, got {steps.dtype}; convert them, as with pandas.to_numeric")
    if len(steps) < _LEAST:
        raise ValueError(
            f"expected at least {_LEAST} observations, got {len(steps)}; observe more often, or if nothing was "
            "observed give attach the optimizer, or call observe(step)"
        )
    if not np.isfinite(steps).all() or (steps < 0).any() or (np.diff(steps) <= 0).any():
        raise ValueError(
            f"expected finite, strictly increasing {axis}s from 0 on, got unsorted, repeated, negative or "
            f"non-finite ones; sort by {axis} and keep one row a {axis}"
        )


def is_table(curves: object, axis: str) -> bool:
    """Whether rows are runs and columns steps: an array, or a DataFrame with columns, but without the axis."""
    if isinstance(curves, pd.DataFrame):
        named = {str(name) for name in [*curves.columns, *curves.index.names]}
        return axis not in named and len(curves.columns) > 0
    return issparse(curves) or not isinstance(curves, (xr.Dataset, Mapping))  # some sparse matrices are mappings


def table_steps(curves: object, n: int) -> np.ndarray:
    """Steps of a table's columns: their names if these are rising numbers, else 0, 1, ..."""
    if isinstance(curves, pd.DataFrame):
        names = pd.to_numeric(pd.Series(list(map(str, curves.columns))), errors="coerce").to_numpy(dtype=float)
        if np.isfinite(names).all() and (names >= 0).all() and (np.diff(names) > 0).all():
            return names
    return np.arange(float(n))


def from_table(values: np.ndarray, steps: np.ndarray, name: str) -> xr.Dataset:
    """One curve for each row."""
    said = f"a table: each row is a run, its columns are {name} at steps {steps[0]:g} to {steps[-1]:g}"
    coords = {"step": ("step", steps, {"axis": "step"})}
    return xr.Dataset({name: (("run", "step"), values)}, coords, {"reading": said})


def _from_frame(frame: pd.DataFrame, axis: str) -> xr.Dataset:
    frame = frame.reset_index([name for name in frame.index.names if name in (axis, "run")])
    if axis not in frame.columns:
        raise ValueError(
            f"expected {axis!r} in the curves, got {list(map(str, frame.columns))}; rename yours to {axis!r}, or pass "
            "its name as axis="
        )
    kept = [name for name in frame.columns if name in (axis, "run") or pd.api.types.is_numeric_dtype(frame[name])]
    left_out = [str(name) for name in frame.columns if name not in kept]
    reading = {"reading": f"left out, for they are no numbers: {', '.join(left_out)}"} if left_out else {}
    frame = frame[kept].astype({name: float for name in kept if name not in (axis, "run")})
    if "run" not in frame.columns:
        return _from_mapping({str(name): frame[name].to_numpy() for name in frame.columns}, axis).assign_attrs(reading)
    _check_rows(frame, axis)
    return frame.set_index(["run", axis]).to_xarray().sortby(axis).assign_attrs(reading)


def _check_rows(frame: pd.DataFrame, axis: str) -> None:
    """A row without run or step would be lost, and so would all but one of several for the same."""
    if missing := int(frame[["run", axis]].isna().any(axis=1).sum()):
        raise ValueError(f"expected run and {axis} in every row, got {missing} without; fill them in, or drop them")
    twice = frame.duplicated(["run", axis])
    if twice.any():
        row = frame[twice].iloc[0]
        raise ValueError(
            f"expected one row for each run and {axis}, got several, first for run {row['run']} and {axis} "
            f"{row[axis]}; keep one"
        )


def _from_mapping(curves: Mapping[Any, Any], axis: str) -> xr.Dataset:
    arrays = {name: _array(name, values) for name, values in curves.items()}
    if axis not in arrays:
        raise ValueError(
            f"expected the key {axis!r}, got {list(map(str, arrays))}; rename yours to {axis!r}, or pass its name as "
            "axis="
        )
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim not in (1, 2) or array.shape[-1:] != arrays[axis].shape for array in arrays.values()):
        raise ValueError(f"expected arrays as long as {axis}, or (run, {axis}), got the shapes {lengths}")
    if len(n_runs := {len(array) for array in arrays.values() if array.ndim == 2}) > 1:
        raise ValueError(f"expected as many runs in all arrays, got {sorted(n_runs)}, in the shapes {lengths}")
    steps = arrays.pop(axis)
    return xr.Dataset({k: (("run", axis)[-a.ndim :], a) for k, a in arrays.items()}, {axis: steps})


def _array(name: Any, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"expected {name} as one array, got runs of different lengths; pad them with NaN, or give a DataFrame with "
            "a column run"
        ) from error


def hint(curves: xr.Dataset, wanted: str) -> str:
    """Why a variable may be missing, or which names are near."""
    names = [str(name) for name in curves.data_vars]
    near = get_close_matches(wanted, names, n=3, cutoff=0.5)
    loss = f"{wanted.split('_')[0]}_loss"
    if wanted.endswith("_accuracy") and loss in names and "logged_as" not in curves[loss].attrs:
        return "there is a loss: targets that are no class labels have no accuracy"
    if "all_loss" in names:
        return "the data was one split, 'all'; attach with {'train': ..., 'test': ...}"
    if near:
        return f"near names: {', '.join(near)}"
    return f"there are: {', '.join(names[:6]) or 'none'}{', ...' if len(names) > 6 else ''}"
