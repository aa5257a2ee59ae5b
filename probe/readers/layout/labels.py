"""Columns of a table with few different values, and what their names mean."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probe.readers.names import AXES, near_names, role_of
from probe.readers.spelling import without_unit
from probe.readers.table import Table

NO_COLUMN, BLOCKS = "none", "block"  # values of options that are no columns
EPOCHS = {"epoch", "epochs", "_epoch", "ep", "epoch_num", "train/epoch", "time/epoch"}
COUNTERS = {*AXES, "batch", "batch_idx", "batch_index", "minibatch", "i"}
RUN_NAMES = {
    *("run", "run_id", "run_name", "runid", "seed", "random_seed", "trial", "trial_id", "fold", "replicate", "repeat"),
    *("experiment", "exp", "exp_name", "experiment_name", "experiment_id", "model", "name", "version", "rep"),
}
ALWAYS_RUNS = {"run", "run_id", "run_name", "runid"}
SPLIT_NAMES = {"phase", "mode", "split", "subset", "set", "stage", "partition", "part", "loader", "state"}
_MOST = 10_000  # different values


class Labels(NamedTuple):
    """A column with few different values: the code of each row, -1 without value, and the value of each code."""

    codes: np.ndarray
    values: list[float | str]


def plain(name: str) -> str:
    """Return a name in the spelling of the lists of names."""
    return without_unit(name.strip()).lower().replace(" ", "_").replace("-", "_")


def is_measure(name: str) -> bool:
    """Return whether a name is that of a curve, and not of a setting."""
    words = plain(name).replace("/", "_").split("_")
    return role_of(name) is not None or any(word.startswith(("loss", "acc", "err", "ppl", "perplex")) for word in words)


def labels_of(table: Table, name: str) -> Labels | None:
    """Return a column with few different values; None for other columns."""
    codes = np.full(table.n_rows, -1)
    if name in table.words:
        rows, own, words = table.words[name]
        codes[rows] = own
        return Labels(codes, [*words])
    rows, values = table.columns[name]
    sample = values[:100_000]
    if len(sample) > 10 and len(np.unique(sample)) > len(sample) / 2:
        return None
    different, own = np.unique(values, return_inverse=True)
    if np.isnan(different).any() or len(different) > _MOST:
        return None
    codes[rows] = own
    return Labels(codes, different.tolist())


def columns_of(table: Table) -> list[str]:
    """Return the names of all columns."""
    return [*table.columns, *table.words]


def check_column(table: Table, name: str, option: str) -> None:
    """Raise ValueError if the table lacks a column that the user named."""
    if name not in (names := columns_of(table)):
        raise ValueError(f"Expected a column of the table as {option}, got {name!r}; {near_names(name, names)}")


def same_rows(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two columns divide the rows alike."""
    return len(np.unique(joined_codes([one, other]))) == len(np.unique(one)) == len(np.unique(other))


def joined_codes(codes: Sequence[np.ndarray]) -> np.ndarray:
    """Return one code for each combination of codes."""
    joined = codes[0]
    for one in codes[1:]:
        joined = np.unique((joined + 1) * (one.max() + 2) + one + 1, return_inverse=True)[1]
    return joined
