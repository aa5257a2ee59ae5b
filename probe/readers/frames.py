"""DataFrames as tables."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
import pandas as pd

from probe.readers.log import Points
from probe.readers.table import Table, Words


def table_of(frame: pd.DataFrame, numbers: Mapping[str, pd.Series] | None = None) -> Table:
    """Return the numbers and the text of a DataFrame, with the levels of its index that have names as columns."""
    if numbers is None:
        frame = frame.reset_index([name for name in frame.index.names if name is not None])
        frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
        numbers = {name: column for name in frame if (column := numbers_in(frame[name])) is not None}
    columns, words = dict[str, Points](), dict[str, Words]()
    for name in frame:
        if name in numbers:
            values = numbers[name].to_numpy(dtype=float)
            rows = np.flatnonzero(~np.isnan(values))
            columns[name] = rows, values[rows]
        elif isinstance(frame[name].dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(frame[name]):
            codes, labels = pd.factorize(frame[name])
            rows = np.flatnonzero(codes >= 0)
            words[name] = Words(rows, codes[rows], [str(label) for label in labels])
    return Table(columns, len(frame), words=words)


def numbers_in(column: pd.Series) -> pd.Series | None:
    """Return a column as float64, None if it is text, dates or complex. Objects may be numbers, or missing."""
    if pd.api.types.is_complex_dtype(column):
        return None
    if pd.api.types.is_numeric_dtype(column):  # includes bool and the nullable types
        return column.astype(float)
    if column.dtype == object and all(value is None or value is pd.NA or isinstance(value, Real) for value in column):
        return pd.to_numeric(column).astype(float)
    return None
