"""Read curves, given as a Dataset, a DataFrame, a mapping of arrays, a table or a log, as one Dataset over ``step``."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from probe.phases.markers.marker import check_steps
from probe.readers.reading import read

Curves: TypeAlias = xr.Dataset | pd.DataFrame | Mapping[str, ArrayLike]

_LEAST = 4  # observations: a rise and a fall between two ends


def as_dataset(curves: Curves, axis: str = "step") -> xr.Dataset:
    """Return curves of any form as a Dataset over ``step``; `axis` is the name of this dimension in the input.

    A DataFrame with a column ``run`` has one row per run and step; steps that a run lacks become missing values.
    """
    if isinstance(curves, pd.DataFrame):
        dataset = _from_frame(curves, axis)
    elif isinstance(curves, xr.Dataset):
        dataset = curves
    elif isinstance(curves, Mapping):
        dataset = _from_mapping(curves, axis)
    else:
        raise TypeError(
            f"Expected a Dataset, a DataFrame or a mapping of arrays, got {type(curves).__name__}; convert the curves."
        )
    if axis not in dataset.coords or dataset[axis].dims != (axis,):
        raise ValueError(_missing_axis(axis, list(dataset.variables)))
    if axis != "step":
        dataset = dataset.drop_vars("step", errors="ignore").rename({axis: "step"})
    dataset = dataset.assign_coords(step=dataset["step"].assign_attrs(axis=axis))
    _check_axis(dataset["step"].values, axis)
    if not dataset.sizes.get("run", 1):
        raise ValueError("Expected at least one run, got none; check the selection of runs.")
    return dataset


def from_path(path: str | os.PathLike[str], axis: str, roles: Mapping[str, Any]) -> xr.Dataset:
    """Read curves from a log or a folder of logs (:func:`probe.readers.read`); roles have their names in the log."""
    given: dict[str, Any] = {role: name for role, name in roles.items() if isinstance(name, str) and name != role}
    curves = read(path, axis=None if axis == "step" else axis, **given)
    return curves if axis == "step" else curves.rename(step=axis)


def named(curves: xr.Dataset, role: Any) -> Any:
    """Return a role as it is, or the variable that had this name in the log."""
    if callable(role) or role in curves:
        return role
    return next((name for name, array in curves.data_vars.items() if array.attrs.get("logged_as") == role), role)


def _missing_axis(axis: str, names: list[Any]) -> str:
    """Return the message for curves without the axis."""
    return (
        f"Expected {axis!r} in the curves, got {list(map(str, names))}; rename the axis to {axis!r}, or pass its name "
        "as axis=."
    )


def _check_axis(steps: np.ndarray, axis: str) -> None:
    if steps.dtype.kind not in "fiu":
        raise ValueError(f"Expected numbers as {axis}s, got {steps.dtype}; convert them, as with pandas.to_numeric.")
    if len(steps) < _LEAST:
        raise ValueError(
            f"Expected at least {_LEAST} observations, got {len(steps)}; observe more often. If a probe observed "
            "nothing, pass the optimizer to attach, or call observe(step)."
        )
    check_steps(steps, axis)


def is_table(curves: object, axis: str) -> bool:
    """Return whether rows are runs: true for an array, and for a DataFrame with columns but without the axis."""
    if isinstance(curves, pd.DataFrame):
        names = {str(name) for name in [*curves.columns, *curves.index.names]}
        return axis not in names and len(curves.columns) > 0
    return issparse(curves) or not isinstance(curves, (xr.Dataset, Mapping))  # some sparse matrices are mappings


def table_steps(curves: object, n: int) -> np.ndarray:
    """Return the steps of the columns of a table: their names if these are increasing numbers, else 0, 1, ..."""
    if isinstance(curves, pd.DataFrame):
        names = pd.to_numeric(pd.Series(list(map(str, curves.columns))), errors="coerce").to_numpy(dtype=float)
        if np.isfinite(names).all() and (names >= 0).all() and (np.diff(names) > 0).all():
            return names
    return np.arange(float(n))


def from_table(values: np.ndarray, steps: np.ndarray, name: str) -> xr.Dataset:
    """Return a Dataset with one run for each row."""
    note = f"a table: each row is a run, its columns are {name} at steps {steps[0]:g} to {steps[-1]:g}"
    coords = {"step": ("step", steps, {"axis": "step"})}
    return xr.Dataset({name: (("run", "step"), values)}, coords, {"reading": note})


def _from_frame(frame: pd.DataFrame, axis: str) -> xr.Dataset:
    frame = frame.reset_index([name for name in frame.index.names if name in (axis, "run")])
    if axis not in frame.columns:
        raise ValueError(_missing_axis(axis, list(frame.columns)))
    kept = [name for name in frame.columns if name in (axis, "run") or pd.api.types.is_numeric_dtype(frame[name])]
    dropped = [str(name) for name in frame.columns if name not in kept]
    reading = {"reading": f"dropped columns that are not numeric: {', '.join(dropped)}"} if dropped else {}
    frame = frame[kept].astype({name: float for name in kept if name not in (axis, "run")})
    if "run" not in frame.columns:
        return _from_mapping({str(name): frame[name].to_numpy() for name in frame.columns}, axis).assign_attrs(reading)
    _check_rows(frame, axis)
    return frame.set_index(["run", axis]).to_xarray().sortby(axis).assign_attrs(reading)


def _check_rows(frame: pd.DataFrame, axis: str) -> None:
    """Raise for rows that xarray would drop: without run or step, or repeated."""
    if missing := int(frame[["run", axis]].isna().any(axis=1).sum()):
        raise ValueError(
            f"Expected run and {axis} in every row, got {missing} rows without; fill in these values, or drop the rows."
        )
    repeated = frame.duplicated(["run", axis])
    if repeated.any():
        row = frame[repeated].iloc[0]
        raise ValueError(
            f"Expected one row for each run and {axis}, got several, first for run {row['run']} and {axis} "
            f"{row[axis]}; keep one of them."
        )


def _from_mapping(curves: Mapping[Any, Any], axis: str) -> xr.Dataset:
    arrays = {name: _array(name, values) for name, values in curves.items()}
    if axis not in arrays:
        raise ValueError(_missing_axis(axis, list(arrays)))
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim not in (1, 2) or array.shape[-1:] != arrays[axis].shape for array in arrays.values()):
        raise ValueError(
            f"Expected arrays as long as {axis}, or (run, {axis}), got the shapes {lengths}; pass one value per {axis}."
        )
    if len(n_runs := {len(array) for array in arrays.values() if array.ndim == 2}) > 1:
        raise ValueError(
            f"Expected as many runs in all arrays, got {sorted(n_runs)}, in the shapes {lengths}; pass the same runs."
        )
    steps = arrays.pop(axis)
    return xr.Dataset({k: (("run", axis)[-a.ndim :], a) for k, a in arrays.items()}, {axis: steps})


def _array(name: Any, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"Expected {name} as one array, got runs of different lengths; pad them with NaN, or pass a DataFrame with "
            "a column run."
        ) from error


def hint(curves: xr.Dataset, wanted: str) -> str:
    """Explain why a variable is missing, or list similar names."""
    names = [str(name) for name in curves.data_vars]
    near = get_close_matches(wanted, names, n=3, cutoff=0.5)
    loss = f"{wanted.split('_')[0]}_loss"
    if wanted.endswith("_accuracy") and loss in names and "logged_as" not in curves[loss].attrs:
        return "there is a loss, and only targets that are class labels have an accuracy"
    if "all_loss" in names:
        return "the data had one split, 'all'; attach with {'train': ..., 'test': ...}"
    if near:
        return f"near names: {', '.join(near)}"
    return f"the curves have {', '.join(names[:6]) or 'none'}{', ...' if len(names) > 6 else ''}"
