"""Read a DataFrame of curves as a Dataset."""

from numbers import Real
from typing import Any

import pandas as pd
import xarray as xr

from probe.readers.names import AXES


def from_frame(frame: pd.DataFrame, axis: str) -> xr.Dataset:
    """Return a DataFrame with a column or an index level ``axis`` as a Dataset over (axis), or (run, axis).

    Columns that are not numeric are dropped and named in the attribute ``reading``.

    Raises
    ------
    ValueError
        For columns with several levels or equal names, without the axis, or rows that would be lost.
    """
    frame = frame.reset_index([name for name in frame.index.names if name in (axis, "run")])
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError(
            f"Expected columns with one name each, got {frame.columns.nlevels} levels; join the levels, or select one."
        )
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    if repeated := sorted({*frame.columns[frame.columns.duplicated()]}):
        raise ValueError(f"Expected columns of different names, got {', '.join(repeated)} repeatedly; rename them.")
    if axis not in frame.columns:
        raise ValueError(missing_axis(axis, list(frame.columns), frame.index))
    kept = {
        name: column
        for name in frame.columns
        if (column := frame[name] if name in (axis, "run") else _numbers(frame[name])) is not None
    }
    dropped = [name for name in frame.columns if name not in kept]
    reading = {"reading": f"dropped columns that are not numeric: {', '.join(dropped)}"} if dropped else {}
    frame = pd.DataFrame(kept)
    if "run" not in frame.columns:
        return _over_axis(frame, axis).assign_attrs(reading)
    _check_rows(frame, axis)
    return frame.set_index(["run", axis]).to_xarray().sortby(axis).assign_attrs(reading)


def missing_axis(axis: str, names: list[Any], index: pd.Index | None = None) -> str:
    """Return the message for curves without the axis."""
    names = [str(name) for name in names if name not in (None, "None")]
    usual = [name for name in names if name.lower() in AXES]
    advice = (
        f"rename the axis to {axis!r}, or pass its name as axis={usual[0]!r}"
        if usual
        else (f"rename the axis to {axis!r}, or pass its name as axis=")
    )
    if not usual and index is not None and index.names == [None] and not isinstance(index, pd.RangeIndex):
        advice = f"if the index holds the {axis}s, name it with rename_axis({axis!r}); else {advice}"
    return f"Expected {axis!r} in the curves, got {names}; {advice}."


def _numbers(column: pd.Series) -> pd.Series | None:
    """Return a column as float64, None if it is text, dates or complex. Objects may be numbers, or missing."""
    if pd.api.types.is_complex_dtype(column):
        return None
    if pd.api.types.is_numeric_dtype(column):  # includes bool and the nullable types
        return column.astype(float)
    if column.dtype == object and all(value is None or value is pd.NA or isinstance(value, Real) for value in column):
        return pd.to_numeric(column).astype(float)
    return None


def _over_axis(frame: pd.DataFrame, axis: str) -> xr.Dataset:
    """Return the curves of one run."""
    curves = {str(name): (axis, frame[name].to_numpy()) for name in frame.columns if name != axis}
    return xr.Dataset(curves, {axis: frame[axis].to_numpy()})


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
