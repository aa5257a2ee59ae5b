"""Series as tables: wide, with one row for each step, or long, with one row for each value; and CSV files of both."""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probe.recording.files import atomic_write
from probe.recording.paths import user_path
from probe.series import validate

# Columns that every long table has, in this order. Settings of the runs stand between ``run`` and ``step``, and further
# dimensions between ``split`` and ``value``.
LONG_COLUMNS = ("run", "step", "variable", "layer", "split", "value")


def to_frame(series: xr.Dataset, *, long: bool = False) -> pd.DataFrame:
    """Return a series as a table; see :meth:`probe.accessor.SeriesAccessor.to_pandas`."""
    series = _checked(series)
    return pd.concat(_long_parts(series), ignore_index=True) if long else _wide(series)


def write_csv(series: xr.Dataset, path: str | os.PathLike[str], *, long: bool = False) -> Path:
    """Write a series as CSV atomically, and return the path. An existing file is replaced.

    Numbers are written with all their digits. The column of steps has the name that it had in the log. In a long table,
    flags are written as integers, and other numbers with a decimal point or an exponent.
    """
    path, series = user_path(path), _checked(series)
    axis = str(series["step"].attrs.get("axis", "step"))
    header = {"step": axis if axis != "row" else "step"}
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        if not long:
            _wide(series).reset_index().rename(columns=header).to_csv(file, index=False, lineterminator="\n")
            return path
        for i, part in enumerate(_long_parts(series)):
            texts = part.assign(value=[repr(value) for value in part["value"].tolist()])
            texts.rename(columns=header).to_csv(file, index=False, header=i == 0, lineterminator="\n")
    return path


def _checked(series: xr.Dataset) -> xr.Dataset:
    """Return the series; a run that was selected of several is one run again."""
    single = "run" in series.coords and "run" not in series.dims
    return validate(series.expand_dims("run") if single else series)


def _settings(series: xr.Dataset) -> list[str]:
    """Return the coordinates that describe whole runs, such as the seed."""
    return [str(name) for name, one in series.coords.items() if name not in series.dims and one.dims in ((), ("run",))]


def _is_measured(array: xr.DataArray) -> np.ndarray:
    """Return which values are measured: not NaN, and for flags not -1."""
    return np.asarray(array.values >= 0 if array.dtype == np.int8 else ~np.isnan(array.values.astype(float)))


def _wide(series: xr.Dataset) -> pd.DataFrame:
    """Return one row for each run and step, and one column for each curve, such as ``information_x[train, 0]``."""
    rows = [dim for dim in ("run", "step") if dim in series.dims]
    template = xr.DataArray(np.zeros([series.sizes[dim] for dim in rows]), dims=rows)
    curves: dict[str, np.ndarray] = {}
    measured = np.zeros(template.size, bool)
    for name, array in series.reset_coords(drop=True).data_vars.items():
        own = [str(dim) for dim in array.dims if dim not in rows]
        full = array.drop_vars(array.coords).broadcast_like(template).transpose(*rows, *own)
        values = full.values.reshape(template.size, -1)
        measured |= _is_measured(full).reshape(template.size, -1).any(axis=1)
        labels = product(*(series[dim].values for dim in own))
        texts = [f"[{', '.join(map(str, label))}]" if own else "" for label in labels]
        curves |= {f"{name}{text}": values[:, i] for i, text in enumerate(texts)}
    index = _index(series, rows)
    frame = pd.DataFrame(curves, index=index)
    return frame[measured] if "run" in rows else frame  # runs that are joined have each other's steps


def _index(series: xr.Dataset, rows: list[str]) -> pd.Index:
    """Return run, settings of the runs, and step, for each row."""
    n_steps, n_runs = series.sizes["step"], series.sizes.get("run", 1)
    names = [*rows[:-1], *_settings(series)]
    levels = [np.repeat(np.broadcast_to(series[name].values, n_runs), n_steps) for name in names]
    steps = np.tile(series["step"].values, n_runs)
    return (
        pd.MultiIndex.from_arrays([*levels, steps], names=[*names, "step"]) if names else pd.Index(steps, name="step")
    )


def _long_parts(series: xr.Dataset) -> Iterator[pd.DataFrame]:
    """Yield the long table of each variable, curve by curve, without values that are not measured."""
    settings = _settings(series)
    others = [str(dim) for dim in series.dims if dim not in LONG_COLUMNS]
    order = ["run", *settings, "step", "variable", "layer", "split", *others, "value"]
    for name, array in series.data_vars.items():
        array = array.transpose("layer", "split", ..., "run", "step", missing_dims="ignore")
        places = np.nonzero(np.atleast_1d(_is_measured(array)))
        columns: dict[str, Any] = dict.fromkeys(order, "")
        columns |= {"variable": str(name), "value": array.values[places] if array.dims else array.values[None][places]}
        columns |= {str(dim): series[dim].values[at] for dim, at in zip(array.dims, places, strict=False)}
        for setting in settings:
            of_run = "run" in array.dims and series[setting].dims
            columns[setting] = (
                series[setting].values[places[array.dims.index("run")]] if of_run else _only(series, setting)
            )
        yield pd.DataFrame(columns, columns=order, index=range(len(places[0])))


def _only(series: xr.Dataset, setting: str) -> Any:
    """Return a setting of the only run; "" if the variable is the same for several runs."""
    return series[setting].item() if series[setting].size == 1 else ""
