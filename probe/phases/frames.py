"""Read a DataFrame of curves as a Dataset."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probe.readers.frames import numbers_in, table_of
from probe.readers.layout.layout import find_layout
from probe.readers.layout.logs import divided, wide
from probe.readers.log import Log, text_of
from probe.readers.names import AXES
from probe.readers.reader import ReadOptions
from probe.series import MAX_STEP, concat


def from_frame(frame: pd.DataFrame, axis: str) -> xr.Dataset:
    """Return a DataFrame with a column or an index level ``axis`` as a Dataset over (axis), or (run, axis).

    Columns may name the run or the split of a row, as in a log (:func:`probe.readers.read`). Other columns that are not
    numeric are dropped and named in the attribute ``reading``.

    Raises
    ------
    ValueError
        For columns with several levels or equal names, without the axis, or rows that would be lost.
    """
    frame = frame.reset_index([name for name in frame.index.names if name is not None and name not in frame.columns])
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError(
            f"Expected columns with one name each, got {frame.columns.nlevels} levels; join the levels, or select one."
        )
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    if repeated := sorted({*frame.columns[frame.columns.duplicated()]}):
        raise ValueError(f"Expected columns of different names, got {', '.join(repeated)} repeatedly; rename them.")
    if axis not in frame.columns:
        raise ValueError(missing_axis(axis, list(frame.columns), frame.index))
    _check_rows(frame, axis)
    numbers = {name: column for name in frame if (column := numbers_in(frame[name])) is not None}
    if not len(frame) or axis not in numbers or frame[axis].dtype == bool or numbers[axis].isna().any():
        return xr.Dataset(coords={axis: frame[axis].to_numpy()})  # the detector states what is wrong with the steps
    table = wide(table_of(frame, numbers))
    one = ("run",) if "run" in frame and frame["run"].nunique() == 1 else ()
    try:
        layout = find_layout(table, ReadOptions(axis, run=one), "the DataFrame")
    except ValueError as error:
        raise ValueError(f"{error}; probe.read(frame, ...) takes these options") from error
    logs, steps = divided(table, layout), frame[axis].to_numpy()
    one_run = layout.runs is None and layout.split is None and len(table.columns) == len(numbers)
    if one_run and np.array_equal(layout.axis.steps, steps.astype(float)):
        curves = {k: (axis, v.to_numpy()) for k, v in numbers.items() if k not in layout.used}
        dataset = xr.Dataset(curves, {axis: steps}).assign_coords(logs[""].coords)
    else:
        dataset = _joined(logs, axis)
        if layout.runs is not None and "run" in numbers:  # labels that are numbers, as in the column
            values = {text_of(value): value for value in frame["run"].unique().tolist()}
            dataset = dataset.assign_coords(run=[values.get(label, label) for label in logs])
    dropped = [name for name in frame if name not in numbers and name not in layout.used and name in frame]
    notes = [*table.notes, *layout.notes]
    notes += [f"dropped columns that are not numeric: {', '.join(dropped)}"] if dropped else []
    return dataset.assign_attrs({"reading": "\n".join(notes)} if notes else {})


def _joined(logs: Mapping[str, Log], axis: str) -> xr.Dataset:
    """Return the curves of all runs over the union of their steps, with the settings of the runs as coordinates."""
    runs = [_of_log(log, axis, label) for label, log in logs.items()]
    if [*logs] == [""]:
        return runs[0]
    joined = concat([one.rename({axis: "step"}) for one in runs], [*logs]).rename(step=axis)
    joined.attrs = {}
    return joined


def _of_log(log: Log, axis: str, label: str) -> xr.Dataset:
    """Return the curves of one run. A step with several values of a curve is an error."""
    curves = {}
    for name, (steps, values) in log.points.items():
        order = np.argsort(steps, kind="stable")
        steps = steps[order]
        if len(again := steps[1:][np.diff(steps) == 0]):
            raise ValueError(
                f"Expected one row for each run and {axis}, got several, first for run {label or 0} and {axis} "
                f"{again[0]:g}; keep one of them."
            )
        whole = steps.astype(np.int64) if (steps % 1 == 0).all() and (np.abs(steps) < MAX_STEP).all() else steps
        curves[name.replace("/", "_")] = xr.DataArray(values[order], {axis: whole}, (axis,), attrs={"logged_as": name})
    dataset = xr.Dataset(curves) if curves else xr.Dataset(coords={axis: np.empty(0)})
    return dataset.assign_coords({name: value for name, value in log.coords.items() if name not in ("run", axis)})


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


def _check_rows(frame: pd.DataFrame, axis: str) -> None:
    """Raise for rows without run or step."""
    if "run" in frame and (missing := int(frame[["run", axis]].isna().any(axis=1).sum())):
        raise ValueError(
            f"Expected run and {axis} in every row, got {missing} rows without; fill in these values, or drop the rows."
        )
