"""Curves as people have them, a Dataset, a DataFrame or arrays, as one Dataset over ``step``, run by run."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy.sparse import issparse

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
    _check_steps(dataset["step"].values.astype(float), axis)
    return dataset


def _check_steps(steps: np.ndarray, axis: str) -> None:
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
    """Whether rows are runs and columns steps: an array, or a DataFrame without the axis."""
    if isinstance(curves, pd.DataFrame):
        named = {str(name) for name in [*curves.columns, *curves.index.names]}
        return axis not in named
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
    return xr.Dataset({name: (("run", "step"), values)}, {"step": ("step", steps, {"axis": "step"})})


def _from_frame(frame: pd.DataFrame, axis: str) -> xr.Dataset:
    frame = frame.reset_index([name for name in frame.index.names if name in (axis, "run")])
    if axis not in frame.columns:
        raise ValueError(
            f"expected {axis!r} in the curves, got {list(map(str, frame.columns))}; rename yours to {axis!r}, or pass "
            "its name as axis="
        )
    kept = [name for name in frame.columns if name in (axis, "run") or pd.api.types.is_numeric_dtype(frame[name])]
    frame = frame[kept]
    if "run" not in frame.columns:
        return _from_mapping({str(name): frame[name].to_numpy(dtype=float) for name in frame.columns}, axis)
    twice = frame.duplicated(["run", axis])
    if twice.any():
        row = frame[twice].iloc[0]
        raise ValueError(
            f"expected one row for each run and {axis}, got several, first for run {row['run']} and {axis} "
            f"{row[axis]}; keep one"
        )
    return frame.set_index(["run", axis]).to_xarray().sortby(axis)


def _from_mapping(curves: Mapping[Any, Any], axis: str) -> xr.Dataset:
    arrays = {name: np.asarray(values) for name, values in curves.items()}
    if axis not in arrays:
        raise ValueError(
            f"expected the key {axis!r}, got {list(map(str, arrays))}; rename yours to {axis!r}, or pass its name as "
            "axis="
        )
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim not in (1, 2) or array.shape[-1:] != arrays[axis].shape for array in arrays.values()):
        raise ValueError(f"expected arrays as long as {axis}, or (run, {axis}), got the shapes {lengths}")
    steps = arrays.pop(axis)
    return xr.Dataset({k: (("run", axis)[-a.ndim :], a) for k, a in arrays.items()}, {axis: steps})


def hint(curves: xr.Dataset, wanted: str) -> str:
    """Why a variable may be missing, or which names are near."""
    names = [str(name) for name in curves.data_vars]
    near = get_close_matches(wanted, names, n=3, cutoff=0.5)
    if wanted.endswith("_accuracy") and f"{wanted.split('_')[0]}_loss" in names:
        return "there is a loss: targets that are no class labels have no accuracy"
    if "all_loss" in names:
        return "the data was one split, 'all'; attach with {'train': ..., 'test': ...}"
    if near:
        return f"near names: {', '.join(near)}"
    return f"there are: {', '.join(names[:6]) or 'none'}{', ...' if len(names) > 6 else ''}"
