"""The column of a table that counts the steps, also if it starts again with each epoch."""

from dataclasses import dataclass, field

import numpy as np

from probe.readers.layout.labels import COUNTERS, EPOCHS, Labels, plain
from probe.readers.names import ROW_NUMBERS, guess_axis
from probe.readers.table import Table, steps_of

_INNER = COUNTERS - EPOCHS


@dataclass
class Axis:
    """Steps of a table.

    Attributes
    ----------
    name : str
    steps : array of shape (n_rows,)
        NaN in rows without a step.
    used : set of str
        Columns that are no curves.
    notes : list of str
    """

    name: str
    steps: np.ndarray
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def find_axis(table: Table, given: str | None, split: Labels | None) -> Axis:
    """Return the steps of a table.

    A counter that starts again with each epoch becomes one count over all epochs, unless the user gave another axis.
    """
    if given == "row" and given not in table.columns:
        return Axis("row", np.arange(float(table.n_rows)), set(), [ROW_NUMBERS])
    name = guess_axis(table.columns, given)
    steps, notes = steps_of(table, name), list[str]()
    if without := table.n_rows - len(table.columns[name][0]):
        notes = [f"{without} of {table.n_rows} rows have no {name!r} and were ignored"]
    epoch, inner = _counters(table, name, given)
    if epoch is None or inner is None:
        return Axis(name, steps, {name}, notes)
    counted = _counted(np.floor(steps_of(table, epoch)), steps_of(table, inner), split)
    if counted is None:
        return Axis(name, steps, {name}, notes)
    joined, length, first = counted
    count = f"{length:g} x ({epoch} - {first:g}) + {inner}"
    note = f"{inner!r} starts again with each {epoch!r} and was made one count, {count}"
    return Axis(inner, joined, {inner}, [*notes, f"{note}; --axis {epoch} takes the epochs"])


def _counters(table: Table, name: str, given: str | None) -> tuple[str | None, str | None]:
    """Return the columns that count epochs, and steps in them, if the axis is the latter, or was not given."""
    epoch = next((key for key in table.columns if plain(key) in EPOCHS), None)
    if plain(name) in _INNER:
        return epoch, name
    inner = next((key for key in table.columns if plain(key) in _INNER), None)
    return (epoch, inner) if given is None and name == epoch else (None, None)


def _counted(epochs: np.ndarray, steps: np.ndarray, split: Labels | None) -> tuple[np.ndarray, float, float] | None:
    """Return steps counted over all epochs, the steps of an epoch, and the first epoch.

    None unless the steps start again with each epoch, and only there.
    """
    rows = np.flatnonzero(np.isfinite(epochs) & np.isfinite(steps))
    if split is not None:
        rows = rows[np.argsort(split.codes[rows], kind="stable")]
    same = np.ones(max(len(rows) - 1, 0), bool) if split is None else np.diff(split.codes[rows]) == 0
    later, change = np.diff(epochs[rows])[same], np.diff(steps[rows])[same]
    if not (later > 0).any() or (change[later > 0] <= 0).mean() < 0.9:
        return None
    if (back := change < 0).any() and (later[back] != 0).mean() < 0.9:
        return None
    spacing = change[(change > 0) & (later == 0)]
    least, most = steps[rows].min(), steps[rows].max()
    length = float(most - least + np.median(spacing)) if len(spacing) else float(max(most, 1))
    first = 0.0 if (epochs[rows] == 0).any() else 1.0
    return (epochs - first) * length + steps, length, first
