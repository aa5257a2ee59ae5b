"""Read logs of other libraries as series, without torch, TensorFlow or any package of a logger.

Every reader records what it guessed, ignored or found damaged in the attribute ``reading`` of the series.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import xarray as xr

from probe.readers.discovery import FoundLogs, RunFiles, find_logs
from probe.readers.frames import table_of
from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.names import ROLES
from probe.readers.reader import Reader, ReadOptions
from probe.readers.runs import joined, read_runs, series_of
from probe.readers.streams import copied, is_stream


def read(
    path: str | os.PathLike[str] | pd.DataFrame,
    *,
    format: str | None = None,
    axis: str | None = None,
    run: str | Sequence[str] | None = None,
    split: str | None = None,
    strict: bool = True,
    **roles: str,
) -> xr.Dataset:
    r"""Read a log, or a folder of logs, as a series.

    Parameters
    ----------
    path : path or DataFrame
        A file, a folder, or a table in memory. Every run in a folder becomes a label of the dimension ``run``, named
        after its folder or file.
    format : str, optional
        A key of ``READERS``. None recognises the format of each file by its content. Runs in a folder can have
        different formats. A run that two loggers wrote is read once.
    axis : str, optional
        The column of steps. None takes the first of the usual names (step, global_step, ..., epoch). ``"row"`` numbers
        the rows.
    run : str or sequence of str, optional
        Columns of a table that divide the rows among runs, such as ``"seed"`` or ``["width", "seed"]``. None finds them
        by their values. ``"block"`` makes a run of each block in which the steps start again, ``"none"`` one run.
    split : str, optional
        Column of a table that divides the rows among splits, such as ``"phase"`` with the words train and val. None
        finds it by its words. ``"none"`` takes no column.
    strict : bool
        True: raise an error if two names fit one role, or no role is recognised. False: record it in ``reading``.
    **roles : str
        Logged names of ``train_accuracy``, ``train_loss``, ``test_accuracy``, ``test_loss``. Roles that are not given
        are recognised by the usual spellings (:func:`probe.readers.role_of`).

    Returns
    -------
    xarray.Dataset
        float64 (step), or (run, step). Curves have the names of their roles. Other curves keep their logged names, with
        underscores for slashes. The attribute ``logged_as`` of a variable is its name in the log. The attribute
        ``reading`` of the Dataset lists what was guessed, ignored and damaged.

    Raises
    ------
    FileNotFoundError
        If there is no log at the path.
    OSError
        If there is a pipe or a device at the path.
    ValueError
        If a name is not in the log (near names are listed), names are unclear, or a file cannot be read.
    TypeError
        If a keyword is not a role.

    Warns
    -----
    probe.errors.ProbeWarning
        If a file is damaged or cut off. The rest of the file is returned. In a folder, a run that cannot be read is
        left out with a warning. The attribute ``reading`` has the reason.

    See Also
    --------
    guess_roles : Recognise the roles of logged names.
    probe.load : Load a recording of a probe.
    probe.PhaseDetector : Find phases in the curves.

    Examples
    --------
    >>> from pathlib import Path
    >>> from probe import read
    >>> _ = Path("log.csv").write_text("epoch,loss,val_acc\n0,2.5,0.1\n1,1.5,0.4\n2,0.5,0.9\n")
    >>> series = read("log.csv")
    >>> series["test_accuracy"].values.tolist()
    [0.1, 0.4, 0.9]
    >>> series["test_accuracy"].attrs["logged_as"]
    'val_acc'
    """
    if unknown := set(roles) - {*ROLES}:
        raise TypeError(
            f"Expected roles among {', '.join(ROLES)}, got {', '.join(sorted(unknown))}; rename or remove them"
        )
    if not isinstance(path, pd.DataFrame) and is_stream(stream := Path(path)):
        with copied(stream) as file:
            return read(file, format=format, axis=axis, run=run, split=split, strict=strict, **roles)
    options = ReadOptions(axis, (run,) if isinstance(run, str) else tuple(run or ()), split)
    found, source = (_in_memory(path), "the DataFrame") if isinstance(path, pd.DataFrame) else _on_disk(path, format)
    notes = list(found.notes)
    runs = read_runs(found, options, notes)
    series = series_of(runs, roles, notes, source=source, strict=strict)
    whole = joined(series, notes)
    notes += _common_notes(series)
    return whole.assign_attrs(reading="\n".join(notes)) if notes else whole


def _on_disk(path: str | os.PathLike[str], format: str | None) -> tuple[FoundLogs, str]:
    path = Path(path).expanduser()
    return find_logs(path, format), path.name


def _in_memory(frame: pd.DataFrame) -> FoundLogs:
    def logs(_: Sequence[Path], options: ReadOptions) -> Mapping[str, Log]:
        return table_logs(table_of(frame), options, "the DataFrame")

    return FoundLogs([RunFiles(Reader("DataFrame", "", lambda _: False, logs), Path(), [])], [])


def _common_notes(series: Mapping[str, xr.Dataset]) -> list[str]:
    """Return the notes of all runs, with the labels of the runs unless all runs have the note."""
    runs_of: dict[str, list[str]] = {}
    for label, one in series.items():
        for note in one.attrs.get("reading", "").splitlines():
            runs_of.setdefault(note, []).append(label)
    return [
        note if len(runs) == len(series) else f"run {', '.join(runs[:3])}{', ...' if len(runs) > 3 else ''}: {note}"
        for note, runs in runs_of.items()
    ]
