"""Read logs of other libraries as series, without torch, TensorFlow or any package of a logger.

Every reader records what it guessed, ignored or found damaged in the attribute ``reading`` of the series.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from probe.errors import warn_user
from probe.readers.discovery import FoundLogs, find_logs, run_labels
from probe.readers.log import Log, to_series
from probe.readers.names import ROLES
from probe.series import concat


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    axis: str | None = None,
    strict: bool = True,
    **roles: str,
) -> xr.Dataset:
    r"""Read a log, or a folder of logs, as a series.

    Parameters
    ----------
    path : path
        A file or a folder. Every run in a folder becomes a label of the dimension ``run``, named after its folder or
        file.
    format : str, optional
        A key of ``READERS``. None recognises the format by the names of the files, and records ignored files of other
        formats.
    axis : str, optional
        The column of steps. None takes the first of the usual names (step, global_step, ..., epoch). ``"row"`` numbers
        the rows.
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
    ValueError
        If a name is not in the log (near names are listed), names are unclear, or a file cannot be read.
    TypeError
        If a keyword is not a role.

    Warns
    -----
    probe.errors.ProbeWarning
        If a file is damaged or cut off. The rest of the file is returned.

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
    path = Path(path).expanduser()
    if unknown := set(roles) - {*ROLES}:
        raise TypeError(
            f"Expected roles among {', '.join(ROLES)}, got {', '.join(sorted(unknown))}; rename or remove them"
        )
    found = find_logs(path, format)
    logs = _logs_by_label(found, axis)
    for note in dict.fromkeys(note for log in logs.values() if isinstance(log, Log) for note in log.damage):
        warn_user(f"Expected complete files, got a damaged one; {note}")
    series = {
        label: _as_series(log, label, roles, source=path.name, format=found.reader.name, strict=strict)
        for label, log in logs.items()
    }
    notes = found.notes + _common_notes(series)
    joined = next(iter(series.values())) if len(series) == 1 else concat(list(series.values()), list(series))
    return joined.assign_attrs(reading="\n".join(notes)) if notes else joined


def _logs_by_label(found: FoundLogs, axis: str | None) -> dict[str, Log | xr.Dataset]:
    """Return all runs by label: that of the path, and that which a file with several runs gives. Drop empty runs."""
    logs = {
        "/".join(part for part in (label, inner) if part): log
        for label, files in zip(run_labels(list(found.runs)), found.runs.values(), strict=True)
        for inner, log in found.reader.read(files, axis).items()
    }
    empty = [label for label, log in logs.items() if isinstance(log, Log) and not log.points and len(logs) > 1]
    if empty:
        found.notes.append(f"runs without points were ignored: {', '.join(empty)}")
    return {label: log for label, log in logs.items() if label not in empty}


def _as_series(
    log: Log | xr.Dataset, label: str, roles: Mapping[str, str], *, source: str, format: str, strict: bool
) -> xr.Dataset:
    if isinstance(log, xr.Dataset):  # a recording
        return log
    source = f"{source} (run {label})" if label else source
    return to_series(log, roles, source=source, format=format, strict=strict)


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
