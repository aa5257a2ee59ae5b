"""Counts in printed lines: several names of one count of steps, counts inside epochs, evaluations that run."""

import numpy as np

from probe.readers.names import role_of
from probe.readers.table import Table

COUNT, TOTAL, TEST = "#count", "#total", "#test"  # columns for "[ 10/500]" inside an epoch
BATCHES = " (batches)"  # suffix of what was printed while an evaluation ran
COUNTERS = ("step", "global_step", "iteration", "iter", "it")


def join_counters(table: Table) -> None:
    """Make one column of steps of several that never occur in the same row."""
    found = [name for name in COUNTERS if name in table.columns]
    rows = np.concatenate([table.columns[name][0] for name in found]) if len(found) > 1 else np.arange(0)
    if len(rows) and len(np.unique(rows)) == len(rows):
        steps = np.concatenate([table.columns.pop(name)[1] for name in found])
        order = np.argsort(rows)
        table.columns = {found[0]: (rows[order], steps[order]), **table.columns}
        table.notes.append(f"{' and '.join(map(repr, found))} were read as one count of steps")


def join_counts(table: Table, axis: str | None) -> None:
    """Replace counts inside epochs, as [ 10/500], and the epochs, by one count of iterations over all epochs."""
    count, total, test = (table.columns.pop(name, None) for name in (COUNT, TOTAL, TEST))
    if axis is not None or count is None or total is None or {*COUNTERS} & table.columns.keys():
        return
    n = float(np.median(total[1]))
    of_training = total[1] == n
    rows, done = total[0][of_training], count[1][of_training]
    if "epoch" not in table.columns or len(np.unique(done)) == 1:
        if "epoch" not in table.columns:
            table.columns["iteration"] = (rows, done)
        return
    epochs = np.full(table.n_rows, np.nan)
    epochs[table.columns["epoch"][0]] = table.columns["epoch"][1]
    iterations = (epochs - np.nanmin(epochs) + 1) * n  # the end of the epoch
    iterations[rows] += done - n
    if test is not None:
        iterations[test[0]] = (epochs[test[0]] - np.nanmin(epochs) + 1) * n
    known = np.flatnonzero(np.isfinite(iterations))
    del table.columns["epoch"]
    table.columns = {"iteration": (known, iterations[known]), **table.columns}
    table.notes.append(
        f"the counts inside epochs became one count, {n:g} in each epoch, and evaluations belong to the end of their "
        "epoch; axis='epoch' (--axis epoch) takes the epochs"
    )


def drop_batches(table: Table) -> None:
    """Keep what was printed while evaluations ran only if no result was printed at their end."""
    results = {role_of(name) for name in table.columns if not name.endswith(BATCHES)}
    dropped = []
    for name in [name for name in table.columns if name.endswith(BATCHES)]:
        column, base = table.columns.pop(name), name.removesuffix(BATCHES)
        unit = table.units.pop(name, None)
        if base in table.columns or role_of(base) in results - {None}:
            dropped.append(base)
            continue
        table.columns[base] = column
        table.units |= {base: unit} if unit else {}
    if dropped:
        table.notes.append(f"values printed while an evaluation ran were ignored: {', '.join(dropped)}")
