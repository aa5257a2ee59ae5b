"""Read curves, given as a Dataset, a DataFrame, a mapping of arrays, a table, a log or several runs, as one Dataset.

The Dataset has the dimension ``step``. :mod:`probe.phases.frames` reads DataFrames.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import issparse

from probe.errors import warn_user
from probe.phases.frames import from_frame, missing_axis
from probe.readers.names import like_accuracies, role_of
from probe.readers.reading import read

Curves: TypeAlias = xr.Dataset | pd.DataFrame | Mapping[Any, Any] | Sequence[Any]

_PLURALS = {"steps", "epochs", "iterations", "updates", "rounds"}
_LEAST = 4  # observations: a rise and a fall between two ends


def as_dataset(curves: Curves, axis: str = "step") -> xr.Dataset:
    """Return curves of any form as a Dataset over ``step``; `axis` is the name of this dimension in the input.

    A DataFrame with a column ``run`` has one row per run and step; steps that a run lacks become missing values. A
    list, or a mapping by name, of DataFrames, Datasets or mappings has one element per run, each with its own steps.
    """
    dataset = _dataset(curves, axis)
    if axis not in dataset.coords or dataset[axis].dims != (axis,):
        raise ValueError(missing_axis(axis, list(dataset.variables)))
    if axis != "step":
        dataset = dataset.drop_vars("step", errors="ignore").rename({axis: "step"})
    axis = steps_name(dataset) if axis == "step" else axis
    dataset = dataset.assign_coords(step=dataset["step"].assign_attrs(axis=axis))
    _check_axis(dataset["step"].values, axis)
    if not dataset.sizes.get("run", 1):
        raise ValueError("Expected at least one run, got none; check the selection of runs.")
    return dataset


def steps_name(series: xr.Dataset) -> str:
    """Return the name of the steps in the log, as a word for one of them: epoch for Epoch and for epochs."""
    name = str(series["step"].attrs.get("axis", "step")).lower()
    return name.removesuffix("s") if name in _PLURALS else name


def _dataset(curves: Any, axis: str) -> xr.Dataset:
    """Return curves as a Dataset over ``axis``, which is not checked."""
    if isinstance(curves, xr.Dataset):
        return curves
    if isinstance(curves, pd.DataFrame):
        return from_frame(curves, axis)
    if isinstance(curves, np.ndarray) and curves.dtype.names:
        return _from_mapping({name: curves[name] for name in curves.dtype.names}, axis)
    if isinstance(curves, (list, tuple)) and curves and all(_is_row(one) for one in curves):
        nested = any(isinstance(value, Mapping) for row in curves for value in row.values())
        return from_frame(pd.json_normalize(list(curves), sep="/") if nested else pd.DataFrame(curves), axis)
    if isinstance(curves, (list, tuple)) and curves and all(_is_run(one) for one in curves):
        return _joined(list(curves), list(range(len(curves))), axis)
    if isinstance(curves, Mapping) and curves and all(_is_run(one) for one in curves.values()):
        return _joined(list(curves.values()), list(curves), axis)
    if isinstance(curves, Mapping):
        return _from_mapping(curves, axis)
    raise TypeError(
        f"Expected a Dataset, a DataFrame, a mapping of arrays, or a list of those, got {type(curves).__name__}; "
        "convert the curves, for example with to_frame('train_loss') or to_dataset(name='train_loss')."
    )


def _is_run(one: Any) -> bool:
    """Return whether the curves of one run may have this form."""
    return isinstance(one, (pd.DataFrame, Mapping))  # a Dataset is a mapping


def _is_row(one: Any) -> bool:
    """Return whether a mapping holds the values of one step."""
    return (
        type(one) is not xr.Dataset and isinstance(one, Mapping) and all(np.ndim(value) == 0 for value in one.values())
    )


def _joined(runs: list[Any], names: list[Any], axis: str) -> xr.Dataset:
    """Return the curves of several runs over the union of their steps; NaN where a run has no value."""
    datasets = [as_dataset(run, axis).rename(step=axis) if axis != "step" else as_dataset(run) for run in runs]
    if several := [str(name) for name, one in zip(names, datasets, strict=True) if "run" in one.dims]:
        raise ValueError(
            f"Expected one run in each element, got several in {', '.join(several)}; pass the runs one by one."
        )
    joined = xr.concat(
        [one.drop_vars("run", errors="ignore") for one in datasets],
        pd.Index(names, name="run"),
        join="outer",
        data_vars="all",
        coords="minimal",
        compat="override",
        combine_attrs="drop_conflicts",
    )
    readings = dict.fromkeys(line for one in datasets for line in one.attrs.get("reading", "").splitlines())
    return joined.assign_attrs(reading="\n".join(readings)) if readings else joined


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


def _check_axis(steps: np.ndarray, axis: str) -> None:
    if not len(steps):
        raise ValueError(f"Expected at least {_LEAST} observations, got 0; check how the curves were selected.")
    if steps.dtype.kind not in "fiu":
        raise ValueError(
            f"Expected numbers as {axis}s, got {steps.dtype}, such as {steps[0]}; convert them, as with "
            "pandas.to_numeric, or dates to seconds since the first one."
        )
    if len(steps) < _LEAST:
        raise ValueError(
            f"Expected at least {_LEAST} observations, got {len(steps)}; observe more often. If a probe observed "
            "nothing, pass the optimizer to attach, or call observe(step)."
        )
    if fault := _fault(steps.astype(float)):
        raise ValueError(
            f"Expected finite, strictly increasing {axis}s from 0 on, got {fault}; sort by {axis} and keep one row per "
            f"{axis}. Several runs need a column run."
        )


def _fault(steps: np.ndarray) -> str:
    """Return what is wrong with the steps, or an empty string."""
    increments = np.diff(steps)
    if not increments.any():
        return f"{steps[0]:g} in all rows"
    counts = {"non-finite": ~np.isfinite(steps), "negative": steps < 0}
    counts |= {"unsorted": increments < 0, "repeated": increments == 0}
    return ", ".join(f"{wrong.sum()} {name}" for name, wrong in counts.items() if wrong.any())


def is_table(curves: object, axis: str) -> bool:
    """Return whether rows are runs: true for an array, and for a DataFrame with columns but without the axis.

    Raises
    ------
    TypeError
        For a single curve (Series or DataArray), and for objects that are no curves.
    ValueError
        For a DataFrame without the axis that has named curves or text.
    """
    if isinstance(curves, (pd.Series, xr.DataArray)):
        name = "to_frame('train_loss')" if isinstance(curves, pd.Series) else "to_dataset(name='train_loss')"
        raise TypeError(f"Expected curves with names, got one {type(curves).__name__}; pass the result of {name}.")
    if isinstance(curves, pd.DataFrame):
        names = [str(name) for name in [*curves.columns, *curves.index.names]]
        if axis in names or isinstance(curves.columns, pd.MultiIndex) or not len(curves.columns):
            return False
        if any(role_of(name) or name == "information_x" for name in names):
            raise ValueError(missing_axis(axis, names, curves.index))
        if text := [str(name) for name, dtype in curves.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]:
            raise ValueError(
                f"Expected {axis!r} among the columns, or numbers alone, got text in {_listed(text)}; rename the axis "
                f"to {axis!r}, or pass its name as axis=."
            )
        return True
    if isinstance(curves, (list, tuple)):
        forms = {_is_run(one) for one in curves}
        if len(forms) != 1:
            raise TypeError(
                f"Expected a list of curves, of rows or of numbers, got {'a mixture' if forms else 'an empty list'}; "
                "pass one form."
            )
        return not forms.pop()
    if isinstance(curves, np.ndarray) and curves.dtype.names:
        return False
    if not (hasattr(curves, "__array__") or hasattr(curves, "__dataframe__") or issparse(curves) or _is_run(curves)):
        raise TypeError(
            f"Expected a path, a Dataset, a DataFrame, a mapping, a list or an array, got {type(curves).__name__}; "
            "convert the curves."
        )
    return issparse(curves) or not isinstance(curves, (xr.Dataset, Mapping))  # some sparse matrices are mappings


def table_steps(curves: object, n: int) -> np.ndarray:
    """Return the steps of the columns of a table: their names if these are increasing numbers, else 0, 1, ...

    Warns
    -----
    probe.errors.ProbeWarning
        If a DataFrame names its columns otherwise, since it may be curves without the axis.
    """
    if isinstance(curves, pd.DataFrame):
        names = pd.to_numeric(pd.Series(list(map(str, curves.columns))), errors="coerce").to_numpy(dtype=float)
        if np.isfinite(names).all() and (names >= 0).all() and (np.diff(names) > 0).all():
            return names
        warn_user(
            f"Expected the steps as names of the columns of a table, got {_listed(list(map(str, curves.columns)), 6)}; "
            "each row is read as the train loss of one run. If the columns are curves, pass the name of their axis as "
            "axis=, else pass to_numpy()."
        )
    return np.arange(float(n))


def from_table(values: np.ndarray, steps: np.ndarray, name: str) -> xr.Dataset:
    """Return a Dataset with one run for each row."""
    note = f"a table: each row is a run, its columns are {name} at steps {steps[0]:g} to {steps[-1]:g}"
    coords = {"step": ("step", steps, {"axis": "step"})}
    return xr.Dataset({name: (("run", "step"), values)}, coords, {"reading": note})


def _from_mapping(curves: Mapping[Any, Any], axis: str) -> xr.Dataset:
    arrays = {str(name): _array(name, values) for name, values in curves.items()}
    if axis not in arrays:
        raise ValueError(missing_axis(axis, list(arrays)))
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


def hint(curves: xr.Dataset, role: str, taken: Collection[str] = ()) -> str:
    """Explain why there is no variable for a role, and what to pass; ``taken`` are the variables of other roles."""
    names = [str(name) for name in curves.data_vars]
    loss = f"{role.split('_')[0]}_loss"
    if role == "information":
        return "pass information= (--information) with the name of yours; a MutualInfoProbe records it"
    if "all_loss" in names:
        return "the data had one split, 'all'; attach with {'train': ..., 'test': ...}"
    if role.endswith("_accuracy") and loss in names and "provenance" in curves.attrs and _is_recorded(curves[loss]):
        return "there is a loss, and only targets that are class labels have an accuracy"
    similar = like_accuracies(names) if role.endswith("_accuracy") else [name for name in names if "loss" in name]
    similar = [name for name in similar if name not in taken]
    return f"pass {role}= with the name of yours{f', such as {similar[0]!r}' if similar else ''}"


def _is_recorded(array: xr.DataArray) -> bool:
    return "logged_as" not in array.attrs


def near_variables(curves: xr.Dataset, wanted: str) -> str:
    """Return a part of a message that lists near names, and all variables."""
    names = [str(array.attrs.get("logged_as", name)) for name, array in curves.data_vars.items()]
    near = get_close_matches(wanted, names, n=3, cutoff=0.5)
    return (f"near names: {', '.join(near)}; " if near else "") + f"there are: {_listed(names)}"


def no_curve(curves: xr.Dataset, unusable: Mapping[str, str]) -> str:
    """Return the message for curves of which none has a role; by role, why a recorded one cannot be used."""
    names = [str(name) for name in curves.data_vars]
    reading = "; ".join(line for line in curves.attrs.get("reading", "").splitlines() if line.startswith("dropped"))
    got = f"got {_listed(names)}{f' ({reading})' if reading else ''}"
    names_of_yours = "train_loss=, test_loss=, train_accuracy= or test_accuracy= with the names of yours."
    if not unusable:
        return f"Expected a loss or an accuracy by its name, {got}; pass {names_of_yours}"
    undefined = "; ".join(f"{role.replace('_', ' ')} undefined: {reason}" for role, reason in unusable.items())
    return f"Expected a usable curve, {got} ({undefined}); correct this, or pass {names_of_yours}"


def _listed(names: list[str], most: int = 12) -> str:
    return (", ".join(names[:most]) or "no curves") + (f" and {len(names) - most} more" if len(names) > most else "")
