"""Long tables that probe writes: one row for each value, with run, step, variable, layer, split and value."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probe.errors import warn_user
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.text import TextFile
from probe.recording.tables import LONG_COLUMNS
from probe.series import SCHEMA, merged_labels, validate

_LEAST_LIMIT, _SPARSENESS = 2**24, 1000  # values of an array, and the same for each row


def matches(candidate: Candidate) -> bool:
    """Return whether the first line has the columns of such a table, whatever the steps are called."""
    names = candidate.head.partition("\n")[0].split(",")
    return names[0] == "run" and names[-1] == "value" and {*LONG_COLUMNS} - {"step"} <= {*names}


def read(files: Sequence[Path], options: ReadOptions | None = None) -> dict[str, xr.Dataset]:
    """Return the series of one table, with its dimensions and flags."""
    (options or ReadOptions()).check_no_columns("a long table of probe")
    with TextFile(files[0]) as text:
        try:
            table = pd.read_csv(text, dtype=str, keep_default_na=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise _unexpected(files[0], str(error)) from error
        notes = [*text.notes, *text.damage, *text.cut_off()]
    for note in [*text.damage, *text.cut_off()]:
        warn_user(f"Expected complete files, got a damaged one; {note}")
    try:
        series = _series(table)
    except ValueError as error:
        raise _unexpected(files[0], str(error)) from error
    return {"": series.assign_attrs(schema=SCHEMA, reading="\n".join(notes))}


def _unexpected(path: Path, found: str) -> ValueError:
    return ValueError(f"Expected a long table of probe in {path.name}, got {found}; convert the log again")


def _series(table: pd.DataFrame) -> xr.Dataset:
    names = list(table.columns)
    if missing := [name for name in LONG_COLUMNS if name not in names and name != "step"]:
        raise ValueError(f"no column {missing[0]!r}")
    place = names.index("variable")
    axis, settings = names[place - 1], names[1 : place - 1]
    dims = ["run", "step", "split", "layer", *names[place + 3 : -1]]
    table = table.rename(columns={axis: "step"})
    labels = {dim: found for dim in dims if (found := _labels(table, dim, dims))}
    if "step" not in labels:
        raise ValueError("no steps")
    arrays = {str(name): _array(rows, labels) for name, rows in table.groupby("variable", sort=False)}
    series = validate(xr.Dataset(arrays, labels))
    series["step"].attrs = {"units": "1", "long_name": axis, "axis": axis}
    firsts = table[table["run"] != ""].drop_duplicates("run") if "run" in labels else table[:1]
    for name in settings:
        values = _numbers_or_text(firsts[name])
        series = series.assign_coords({name: ("run", values) if "run" in labels else values[0]})
    return series


def _labels(table: pd.DataFrame, dim: str, dims: Sequence[str]) -> list[Any]:
    """Return the labels of a dimension: steps in order, the others in the order that all curves have."""
    table = table[table[dim] != ""]
    if dim == "step":
        steps = np.sort(table[dim].unique().astype(float))
        return list(steps.astype(np.int64) if (steps % 1 == 0).all() else steps)
    curve = ["variable", *(other for other in dims if other not in (dim, "run", "step"))]
    orders = dict.fromkeys(tuple(labels) for labels in table.groupby(curve, sort=False)[dim].unique())
    merged = pd.Series(next(iter(orders)) if len(orders) == 1 else merged_labels(list(orders)), dtype=str)
    return list(merged if dim in ("split", "layer") else _numbers_or_text(merged))


def _numbers_or_text(column: pd.Series) -> list[Any]:
    """Return text as numbers if all of it is numbers."""
    numbers = pd.to_numeric(column, errors="coerce")
    return list(column if numbers.isna().any() else numbers.to_numpy())


def _array(rows: pd.DataFrame, labels: Mapping[str, Sequence[Any]]) -> tuple[list[str], np.ndarray]:
    """Return dimensions and values of one variable. It is a flag if all of its values are written as 0 or 1."""
    dims = [dim for dim in labels if (rows[dim] != "").all()]
    shape = [len(labels[dim]) for dim in dims]
    if np.prod(shape, dtype=float) > max(_LEAST_LIMIT, _SPARSENESS * len(rows)):
        raise ValueError(f"{len(rows)} values for {' x '.join(map(str, shape))} places")
    places = tuple(_places(rows[dim], labels[dim]) for dim in dims)
    flag = bool(rows["value"].isin(["0", "1"]).all())
    values = np.full(shape, -1, np.int8) if flag else np.full(shape, np.nan)
    values[places] = rows["value"].astype(float)
    if len(rows) > len(rows[dims].drop_duplicates()):
        raise ValueError(f"several values of {rows['variable'].iloc[0]} at one place")
    return dims, values


def _places(column: pd.Series, labels: Sequence[Any]) -> np.ndarray:
    as_labels = column if isinstance(labels[0], str) else column.astype(float)
    return pd.Index(labels).get_indexer(pd.Index(as_labels))


READER = Reader("long", "*.csv of probe convert --long", matches, read)
